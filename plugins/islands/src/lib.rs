//! Selector `islands`: several small populations, one elite archive, ring migration.
//!
//! Every island is a MAP-Elites grid: one program per cell, cells spanned by the environment's
//! own [features](forerunner_sdk::EnvironmentSpec::features) and by the size of the source. The
//! best programs of all islands stand in one elite archive. A parent is drawn from the child's
//! island or from that archive; [`Config`] says how often and how greedily.
//!
//! # Invariants
//!
//! - Memory is bounded by `islands × capacity + elites`, however many programs were inserted.
//! - [`select`](forerunner_sdk::Selector::select) changes nothing. All state comes from
//!   `insert`, so a resumed run that inserts the same programs again has the same population.
//! - Failed and rejected programs are counted and never become parents.
//! - Programs are compared through the environment's
//!   [`Objectives`](forerunner_sdk::Objectives) and nothing else.
//!
//! # Noise
//!
//! When the same program is measured again, its better result stays. That is optimistic in a
//! noisy environment; what is claimed about a program is decided by confirmation on fresh seeds,
//! not here.

mod config;
mod grid;
mod island;
mod population;
mod ranking;
mod selector;

pub use config::Config;
pub use selector::{Counts, Islands};

forerunner_sdk::export_plugin! { selector "islands" => Islands::new }
