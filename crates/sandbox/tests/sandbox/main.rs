//! The sandbox from outside: hosts of their own start real processes in it.
#![expect(clippy::print_stderr, reason = "tests that cannot be run are skipped aloud")]

mod hosted;

mod gpu;
mod honest;
mod limits;
mod refusals;
mod table;
