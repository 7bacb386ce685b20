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

/// At most `most` points of a curve: all of a short one, else the first, the last and those
/// evenly spaced between. Which ones depends on the lengths alone.
///
/// ```
/// use forerunner_core::thinned;
/// let curve: Vec<(u64, f64)> = (0..100).map(|step| (step, 1.0)).collect();
/// let steps: Vec<u64> = thinned(&curve, 4).iter().map(|(step, _)| *step).collect();
/// assert_eq!(steps, [0, 33, 66, 99]);
/// assert_eq!(thinned(&curve, 100), curve);
/// ```
#[must_use]
pub fn thinned(series: &[(u64, f64)], most: usize) -> Series {
    match (series.len(), most) {
        (n, most) if n <= most => series.to_vec(),
        (_, 0) => Series::new(),
        (n, 1) => vec![series[n - 1]],
        (n, most) => (0..most).map(|idx| series[idx * (n - 1) / (most - 1)]).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thinned_curve_keeps_its_ends_and_its_order() {
        for n in 0..300 {
            let curve: Series = (0..n).map(|step| (step * 10, -(step as f64))).collect();
            for most in 0..70 {
                let thin = thinned(&curve, most);
                assert_eq!(thin.len(), curve.len().min(most), "{most} of {n}");
                assert!(thin.is_sorted_by(|(a, _), (b, _)| a < b), "{most} of {n}");
                assert!(thin.iter().all(|point| curve.contains(point)), "{most} of {n}");
                if most > 0 {
                    assert_eq!(thin.last(), curve.last(), "{most} of {n}");
                }
                if most > 1 {
                    assert_eq!(thin.first(), curve.first(), "{most} of {n}");
                }
            }
        }
    }
}
