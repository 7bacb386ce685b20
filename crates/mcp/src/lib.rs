//! A Model Context Protocol server through which any agent takes part in a run.
//!
//! Clients read the task, look changes over, submit them and read what was measured. Behind the
//! server is an ordinary run with a mutator of its own ([`MUTATOR`]): what a client submits is an
//! iteration like any other, with the same rules, budget, measurement, verification and store.
//!
//! - [`configure`] makes a run file that waits for clients.
//! - [`Desk`] is what run and clients share; it is the mutator.
//! - [`Server`] is one client's connection; [`serve_stdio`] serves one over the standard
//!   streams, [`serve_http`] many on a port of this machine.
//!
//! This is the only crate that knows the protocol, and the only one of the host that is
//! asynchronous, on one thread. It prints nothing; [`serve_stdio`] alone writes to standard output,
//! and nothing but messages of the protocol.

mod access;
mod configure;
mod desk;
mod inputs;
mod network;
mod pages;
mod serve;
mod server;
mod text;
mod tools;

pub use access::{Access, AccessError};
pub use configure::{Quotas, Unfit, configure, file_for, fits, quotas};
pub use desk::{Desk, MUTATOR};
pub use network::{PATH, listen, serve_http};
pub use serve::{ServeError, serve_stdio};
pub use server::Server;
