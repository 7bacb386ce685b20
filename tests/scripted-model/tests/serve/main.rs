//! The scripted model, spoken to over raw sockets.

mod binary;
mod client;
mod server;
