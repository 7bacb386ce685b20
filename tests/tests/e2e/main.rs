//! End-to-end tests through the installed binary. One program, so that it is linked once; run a
//! part of it with `cargo test -p forerunner-tests -- faults::`.

mod agent;
mod calls;
mod commands;
mod elsewhere;
mod example;
mod faults;
mod fetch;
mod full_disk;
mod hook_commands;
mod hooks;
mod hostile;
mod ideas;
mod interrupts;
mod mcp;
mod models;
mod plugins;
mod reading;
mod recipes;
mod records;
mod report;
mod resume;
mod run_files;
mod runs;
mod screenshots;
mod speedrun;
