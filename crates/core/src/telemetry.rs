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
    /// Bytes of arguments and results of the operations in it; 0 where they are not counted.
    #[serde(default)]
    pub bytes: u64,
    /// Floating-point operations in the matrix products in it; 0 where they are not counted.
    #[serde(default)]
    pub flops: u64,
}

/// What one pass of one operation cost in all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Which operation and pass, for example `linear.backward`.
    pub name: String,
    /// How often it ran.
    pub calls: u64,
    /// Total seconds.
    pub seconds: f64,
    /// Bytes of its arguments and results: an estimate of what it read and wrote.
    #[serde(default)]
    pub bytes: u64,
    /// Floating-point operations in its matrix products; 0 where it has none.
    #[serde(default)]
    pub flops: u64,
}

/// Name of the number that tells the highest rate of matrix products seen on the core, in
/// floating-point operations per second. Of several cores it is the sum.
pub const PEAK_FLOPS: &str = "gemm_peak_flops_per_second";

/// Name of the number that tells how often the program asked for memory in a step of training.
pub const ALLOCATIONS_PER_STEP: &str = "allocations_per_step";

/// Name of the series of seconds that a token took, one point for each phase of the run, at its
/// last step.
pub const SECONDS_PER_TOKEN: &str = "seconds_per_token";

/// Name of the series of tokens in a step, one point for each phase of the run, at its last step.
pub const TOKENS_PER_STEP: &str = "tokens_per_step";

/// Curves, profile and facts of one evaluation. Shown to people and mutators, never scored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Telemetry {
    /// Curves by name, for example `train_loss`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub series: BTreeMap<String, Series>,
    /// Where the time went, largest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sections: Vec<Section>,
    /// What the operations cost that were counted one by one, largest first. They run within the
    /// sections; what is left of these is time between operations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<Operation>,
    /// Single numbers by name with the unit in the name, for example `tokens_per_second`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub numbers: BTreeMap<String, f64>,
    /// Facts in words, for example the active sandbox layers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
}

impl Telemetry {
    /// Seconds of the whole: all sections, or the operations where they took longer.
    pub fn seconds(&self) -> f64 {
        let sections: f64 = self.sections.iter().map(|section| section.seconds).sum();
        sections.max(self.operation_seconds())
    }

    /// Seconds of all operations.
    pub fn operation_seconds(&self) -> f64 {
        self.operations.iter().map(|operation| operation.seconds).sum()
    }

    /// Highest rate of matrix products seen on the core, in floating-point operations per second.
    pub fn peak_flops(&self) -> Option<f64> {
        self.numbers.get(PEAK_FLOPS).copied().filter(|peak| peak.is_finite() && *peak > 0.0)
    }
}

impl Section {
    /// A section in which nothing was spent yet.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), calls: 0, seconds: 0.0, bytes: 0, flops: 0 }
    }

    /// Floating-point operations per second of its matrix products; `None` where it has none.
    pub fn flops_per_second(&self) -> Option<f64> {
        (self.flops > 0 && self.seconds > 0.0).then(|| self.flops as f64 / self.seconds)
    }
}

impl Operation {
    /// Floating-point operations per second of its matrix products; `None` where it has none.
    pub fn flops_per_second(&self) -> Option<f64> {
        (self.flops > 0 && self.seconds > 0.0).then(|| self.flops as f64 / self.seconds)
    }
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
