//! The NanoGPT speedrun as a Forerunner environment: train a small GPT to a target loss as fast
//! as possible.
//!
//! A program is one Rust file written against the crate `harness`. It is compiled from source
//! alone, trains in a sandboxed process on tokens that this crate serves, and hands over a
//! snapshot of its parameters; a second, fresh process answers windows of held-out tokens with
//! logits, whose loss is computed here. The clock, the data, the order of the tokens and the
//! verdict never enter a process in which the program's code runs.
//!
//! | part | modules |
//! | --- | --- |
//! | data | [`prepare`], [`Dataset`], [`Tokens`], [`Shard`] |
//! | setting | [`Track`], [`Config`], [`Clock`] |
//! | one measurement | `measurement`: `handover`, `trainer`, `stream`, `clock`, `pace`, `kernel`, then `evaluator`, `scoring`, `score`, `text`; `outcome` |
//! | why it is believed | `verification`: `probe`, `audit`, `effort`, `knowledge` |
//! | processes | `device`, `gpu`, `process`, `blame`, `affinity`, `telemetry` |
//! | plugin | [`NanoGpt`], `spec` |

mod affinity;
mod audit;
mod blame;
mod claimed_loss;
mod clock;
mod config;
mod dataset;
mod device;
mod effort;
mod environment;
mod error;
mod evaluator;
mod gpu;
mod handover;
mod kernel;
mod knowledge;
mod manifest;
mod measurement;
mod metronome;
mod outcome;
mod pace;
pub mod prepare;
mod probe;
mod process;
mod rules;
mod score;
mod scoring;
#[cfg(test)]
mod scripted;
mod shard;
mod spec;
mod stopwatch;
mod stream;
mod telemetry;
mod text;
mod tokens;
mod track;
mod trainer;
mod verification;

pub use config::Config;
pub use dataset::Dataset;
pub use environment::NanoGpt;
pub use error::DataError;
pub use manifest::{FileEntry, Manifest, Part, TokenKind};
pub use shard::{Shard, ShardWriter};
pub use stream::Alignment;
pub use tokens::Tokens;
pub use track::{Clock, Harder, ROUNDING_NATS, TRACKS, Track};

forerunner_sdk::export_plugin! { environment "nanogpt" => NanoGpt::new }
