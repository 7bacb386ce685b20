//! The mutator with stand-ins for agents: shell scripts that do what agents do, and what they
//! should not.

mod containment;
mod proposals;
mod runs;
mod stage;
