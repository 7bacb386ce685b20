//! The host: loads plugins, runs searches, keeps the store. Emits events; prints nothing.

pub mod config;
pub mod event;
pub mod executor;
pub mod frame;
pub mod registry;
pub mod store;
pub mod worker;
