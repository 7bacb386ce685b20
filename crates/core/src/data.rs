//! Data sets: what an environment is measured on, made from the user's material.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where the material of a data set comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DataSource {
    /// The sources of the dependencies that a Cargo manifest locks.
    LockedDependencies {
        /// Path of the `Cargo.toml`.
        manifest: PathBuf,
    },
    /// Text files, or folders of them, as bytes.
    Text {
        /// Files and folders, in order.
        paths: Vec<PathBuf>,
    },
    /// Token shards that exist already.
    Shards {
        /// Shards to train on, in order.
        train: Vec<PathBuf>,
        /// Shards to hold out, in order.
        val: Vec<PathBuf>,
    },
}

/// A request for a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataRequest {
    /// The material.
    pub source: DataSource,
    /// Name of the data set, for example `rust-deps`.
    pub name: String,
    /// The folder to make, which must not exist or be an older data set of the same name.
    pub out: PathBuf,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataReport {
    /// Identity of the whole data set.
    pub fingerprint: String,
    /// What is in it, one line each, for people.
    pub lines: Vec<String>,
}
