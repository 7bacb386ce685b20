//! What an environment hands to verification hooks, besides metrics and telemetry.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// What an environment saw itself while it measured. Nothing in it comes from a program's words.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// What was tried in order to find cheating, and what came of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<Probe>,
    /// What the program was given and what was asked of it, counted by the environment: for
    /// example `tokens`, `batches`, `scored_tokens`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ledger: BTreeMap<String, u64>,
    /// Files kept with [`crate::Host::store`], by name. Filled in by the host.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub artifacts: BTreeMap<String, PathBuf>,
    /// Hash of everything the program produced. In a reproducible environment a second
    /// evaluation of the same request has the same one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

impl Evidence {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One kind of test that an environment made on a program.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Its name, as in the finding that it raises without the `verify/`: for example `causality`.
    pub name: String,
    /// How often it was made.
    pub trials: u64,
    /// How often the program failed it.
    pub failures: u64,
    /// Figures of this kind of probe, for example the residual probability of an audit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub numbers: BTreeMap<String, f64>,
}

impl Probe {
    /// A probe that was made `trials` times and failed `failures` times.
    pub fn new(name: impl Into<String>, trials: u64, failures: u64) -> Self {
        Self { name: name.into(), trials, failures, numbers: BTreeMap::new() }
    }

    /// The same with one more figure.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: f64) -> Self {
        self.numbers.insert(name.into(), value);
        self
    }
}
