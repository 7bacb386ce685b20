//! Cost and quality of programs on one scale.

use forerunner_sdk::{Metrics, Objectives};
use serde::Deserialize;

/// How much of what a parent has to spare, or lacks, a child's budget takes into account: its
/// measured quality is partly luck.
const TRUSTED_SLACK: f64 = 0.8;

/// The same for the gain that is expected: reaching the target late beats missing it.
const TRUSTED_GAIN: f64 = 0.7;

/// A child's budget stays between these multiples of its parent's.
const FACTORS: (f64, f64) = (0.3, 1.5);

/// How cost and quality are traded: `[budget]` in `library.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// A numeric constant of the program that the cost is proportional to.
    pub constant: String,
    /// The quality metric, minimised.
    pub metric: String,
    /// The cost metric, minimised.
    pub cost: String,
    /// By how much the quality metric falls when the cost is multiplied by e.
    pub exchange: f64,
}

impl Budget {
    /// The logarithm of what quality 0 would cost: differences between programs are the
    /// logarithms of the ratios of their costs at equal quality.
    pub fn level(&self, metrics: &Metrics) -> Option<f64> {
        let cost = metrics.get(&self.cost).filter(|cost| **cost > 0.0)?;
        let level = cost.ln() + metrics.get(&self.metric)? / self.exchange;
        level.is_finite().then_some(level)
    }

    /// The logarithm of how much less a program could cost and still reach the target; negative
    /// when it misses it.
    pub fn slack(&self, objectives: &Objectives, metrics: &Metrics) -> Option<f64> {
        let target = objectives.0.iter().find(|o| o.metric == self.metric)?.target?;
        Some((target - metrics.get(&self.metric)?) / self.exchange)
    }

    /// What to multiply a child's constant by so that it just reaches the target: `slack` is its
    /// parent's, `fewer` the logarithm of how many times less of the constant it may need.
    pub fn factor(slack: f64, fewer: f64) -> f64 {
        (-TRUSTED_SLACK * slack - TRUSTED_GAIN * fewer).exp().clamp(FACTORS.0, FACTORS.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forerunner_sdk::Objective;

    fn budget() -> Budget {
        let [constant, metric, cost] = ["STEPS", "loss", "seconds"].map(str::to_owned);
        Budget { constant, metric, cost, exchange: 0.25 }
    }

    fn metrics(seconds: f64, loss: f64) -> Metrics {
        [("seconds", seconds), ("loss", loss)].map(|(k, v)| (k.to_owned(), v)).into()
    }

    #[test]
    fn a_lower_loss_is_worth_time() {
        let level = |seconds, loss| budget().level(&metrics(seconds, loss)).expect("both known");
        // 0.025 of loss is a tenth of an e-fold of time.
        assert!((level(10.0, 1.525) - level(10.0 * 0.1_f64.exp(), 1.5)).abs() < 1e-12);
        assert!((level(20.0, 1.5) - level(10.0, 1.5) - 2_f64.ln()).abs() < 1e-12);
        assert_eq!(budget().level(&metrics(0.0, 1.5)), None);
        assert_eq!(budget().level(&Metrics::new()), None);
    }

    #[test]
    fn the_budget_follows_slack_and_gain() {
        let loss = Objective::minimize("loss", "");
        let aimed = Objectives(vec![loss.clone().with_target(1.5)]);
        let slack = budget().slack(&aimed, &metrics(9.0, 1.55)).expect("known");
        assert!((slack + 0.2).abs() < 1e-12, "missed by a fifth of an e-fold");
        assert_eq!(budget().slack(&Objectives(vec![loss]), &metrics(9.0, 1.5)), None);
        assert!((Budget::factor(slack, 0.0) - 0.16_f64.exp()).abs() < 1e-12);
        assert!((Budget::factor(0.1, 0.4) - (-0.36_f64).exp()).abs() < 1e-12);
        assert_eq!((Budget::factor(5.0, 0.0), Budget::factor(-5.0, 0.0)), (0.3, 1.5));
    }
}
