//! Objectives and how two programs compare under them.

use serde::{Deserialize, Serialize};
use std::{cmp::Ordering, collections::BTreeMap};

/// Named measurements of one evaluation. Every value is finite.
pub type Metrics = BTreeMap<String, f64>;

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Smaller is better.
    Minimize,
    /// Larger is better.
    Maximize,
}

/// One quantity to improve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// Name of the metric, as in [`crate::Evaluation::metrics`].
    pub metric: String,
    /// Which way is better.
    pub direction: Direction,
    /// Unit for people, for example `s` or `nats/byte`. Empty for a pure number.
    #[serde(default)]
    pub unit: String,
    /// The value at which a program gets the metric of the objective before this one, for example
    /// the loss at which "seconds to target" begins to exist. A search that knows it can tell how
    /// much room there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<f64>,
}

impl Objective {
    /// A quantity to make small.
    pub fn minimize(metric: impl Into<String>, unit: impl Into<String>) -> Self {
        Self {
            metric: metric.into(),
            direction: Direction::Minimize,
            unit: unit.into(),
            target: None,
        }
    }

    /// A quantity to make large.
    pub fn maximize(metric: impl Into<String>, unit: impl Into<String>) -> Self {
        Self {
            metric: metric.into(),
            direction: Direction::Maximize,
            unit: unit.into(),
            target: None,
        }
    }

    /// The same with a target.
    #[must_use]
    pub fn with_target(mut self, target: f64) -> Self {
        self.target = Some(target);
        self
    }

    /// `Less` when `a` is better than `b` on this quantity alone.
    pub fn compare_values(&self, a: f64, b: f64) -> Ordering {
        match self.direction {
            Direction::Minimize => a.total_cmp(&b),
            Direction::Maximize => b.total_cmp(&a),
        }
    }
}

/// Objectives in order of importance.
///
/// A program that has a metric beats one that lacks it; when both have it, the better value wins;
/// when neither has it, the next objective decides. "Reaching the target beats not reaching it;
/// among those that reach it, faster is better; among the rest, lower loss" is therefore
/// `[seconds_to_target, loss]`, with `seconds_to_target` present only when the target is reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Objectives(pub Vec<Objective>);

impl Objectives {
    /// `Less` when `a` is the better set of metrics. Values that are not finite count as missing.
    pub fn compare(&self, a: &Metrics, b: &Metrics) -> Ordering {
        let finite = |m: &Metrics, name: &str| m.get(name).copied().filter(|v| v.is_finite());
        for objective in &self.0 {
            let order = match (finite(a, &objective.metric), finite(b, &objective.metric)) {
                (Some(a), Some(b)) => objective.compare_values(a, b),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => continue,
            };
            return order;
        }
        Ordering::Equal
    }

    /// The relative gain of a child over its parent in the most important objective that the parent
    /// has: 0.1 is a tenth better, negative is worse. A child that gains a more important metric,
    /// such as the time to a target that its parent misses, is compared in the first one that both
    /// have. `None` when they have none in common, or the parent's value is zero.
    pub fn gain(&self, parent: &Metrics, child: &Metrics) -> Option<f64> {
        let finite = |m: &Metrics, name: &str| m.get(name).copied().filter(|v| v.is_finite());
        self.0.iter().find_map(|objective| {
            let parent = finite(parent, &objective.metric)?;
            let child = finite(child, &objective.metric)?;
            let better = match objective.direction {
                Direction::Minimize => parent - child,
                Direction::Maximize => child - parent,
            };
            (parent != 0.0).then(|| better / parent.abs())
        })
    }

    /// The most important objective that `metrics` has, with its value.
    pub fn leading<'a>(&'a self, metrics: &Metrics) -> Option<(&'a Objective, f64)> {
        self.0.iter().find_map(|o| {
            metrics.get(&o.metric).filter(|value| value.is_finite()).map(|value| (o, *value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(a: &[(&str, f64)], b: &[(&str, f64)], expected: Ordering) {
        let objectives =
            Objectives(vec![Objective::minimize("seconds", "s"), Objective::minimize("loss", "")]);
        let metrics = |m: &[(&str, f64)]| m.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        assert_eq!(objectives.compare(&metrics(a), &metrics(b)), expected);
        assert_eq!(objectives.compare(&metrics(b), &metrics(a)), expected.reverse());
    }

    #[test]
    fn gains_are_relative_to_the_parent() {
        let objectives =
            Objectives(vec![Objective::minimize("seconds", "s"), Objective::maximize("score", "")]);
        let metrics = |m: &[(&str, f64)]| m.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        let gain = |a: &[(&str, f64)], b: &[(&str, f64)]| objectives.gain(&metrics(a), &metrics(b));
        assert_eq!(gain(&[("seconds", 20.0)], &[("seconds", 15.0)]), Some(0.25));
        assert_eq!(gain(&[("score", -2.0)], &[("score", -1.0), ("seconds", 3.0)]), Some(0.5));
        assert_eq!(gain(&[("seconds", 20.0)], &[("score", 1.0)]), None);
        assert_eq!(gain(&[("seconds", 0.0)], &[("seconds", 1.0)]), None);
        assert_eq!(gain(&[("seconds", 1.0)], &[("seconds", f64::NAN)]), None);
    }

    #[test]
    fn reaching_the_target_comes_first_then_time_then_loss() {
        check(&[("seconds", 9.0), ("loss", 2.0)], &[("loss", 1.0)], Ordering::Less);
        check(&[("seconds", 8.0), ("loss", 2.0)], &[("seconds", 9.0)], Ordering::Less);
        check(&[("loss", 1.0)], &[("loss", 2.0)], Ordering::Less);
        check(&[("seconds", 1.0)], &[("seconds", 1.0), ("loss", 2.0)], Ordering::Equal);
        check(&[], &[], Ordering::Equal);
    }

    #[test]
    fn a_value_that_is_not_finite_counts_as_missing() {
        check(&[("seconds", f64::NAN), ("loss", 0.1)], &[("seconds", 5.0)], Ordering::Greater);
        check(&[("loss", f64::NEG_INFINITY)], &[("loss", 3.0)], Ordering::Greater);
    }
}
