//! Everything measured besides the objective.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One curve: (step, value) in increasing step order.
pub type Series = Vec<(u64, f64)>;

/// One row of a section profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// What the time was spent on, for example `backward`.
    pub name: String,
    /// How often it was entered.
    pub calls: u64,
    /// Total seconds.
    pub seconds: f64,
}

/// Curves, profile and facts of one evaluation. Shown to people and mutators, never scored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Telemetry {
    /// Curves by name, for example `train_loss`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub series: BTreeMap<String, Series>,
    /// Where the time went, largest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sections: Vec<Section>,
    /// Single numbers by name with the unit in the name, for example `tokens_per_second`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub numbers: BTreeMap<String, f64>,
    /// Facts in words, for example the active sandbox layers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
}
