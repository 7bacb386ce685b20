//! The host: loads plugins, runs searches, keeps the store.
//!
//! Events are the single output of a run; nothing here prints. Entry points: [`engine::run`] for
//! a search, [`single`] for one evaluation, [`verification`] for the hooks that judge both, [`worker::serve`] for the process that measures,
//! [`store::Store`] and [`lineage`] for reading a run back.

pub mod config;
pub mod engine;
pub mod event;
pub mod executor;
pub mod frame;
pub mod lineage;
pub mod registry;
pub mod single;
pub mod store;
pub mod verification;
pub mod worker;
