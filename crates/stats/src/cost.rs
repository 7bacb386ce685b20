//! What a run costs once its loss is made equal to the target.

/// How fast the incumbent turns budget into loss near the target: `β = -dL / d ln(budget)`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ExchangeRate {
    /// Loss per unit of the logarithm of the budget; positive.
    pub beta: f64,
    /// Its standard error.
    pub se: f64,
}

/// A cost at equal loss, in logarithms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EqualisedCost {
    /// `ln C + (loss - target) / β`.
    pub ln_cost: f64,
    /// Its standard error, with those of the loss and of β propagated to first order.
    pub se: f64,
}

impl EqualisedCost {
    /// The cost itself, in the unit that it came in.
    pub fn cost(&self) -> f64 {
        self.ln_cost.exp()
    }
}

impl ExchangeRate {
    /// Fits β by least squares of loss on `ln(budget)` over runs of the incumbent at budgets
    /// around the claim. `None` with fewer than three runs or two different budgets, with values
    /// that are not finite or budgets that are not positive, and when more budget does not help.
    pub fn fit(runs: &[(f64, f64)]) -> Option<Self> {
        let usable =
            |(budget, loss): &(f64, f64)| budget.is_finite() && *budget > 0.0 && loss.is_finite();
        if runs.len() < 3 || !runs.iter().all(usable) {
            return None;
        }
        let n = runs.len() as f64;
        let mean_x = runs.iter().map(|(budget, _)| budget.ln()).sum::<f64>() / n;
        let mean_y = runs.iter().map(|(_, loss)| loss).sum::<f64>() / n;
        let (mut xx, mut xy) = (0.0, 0.0);
        for (budget, loss) in runs {
            xx += (budget.ln() - mean_x).powi(2);
            xy += (budget.ln() - mean_x) * (loss - mean_y);
        }
        if xx < 1e-12 {
            return None;
        }
        let slope = xy / xx;
        let residual =
            |(budget, loss): &(f64, f64)| (loss - mean_y - slope * (budget.ln() - mean_x)).powi(2);
        let variance = runs.iter().map(residual).sum::<f64>() / (n - 2.0);
        (slope < 0.0).then(|| Self { beta: -slope, se: (variance / xx).sqrt() })
    }

    /// The cost that would have met the target exactly: `C exp((loss - target) / β)`. It takes
    /// away the trade between a lucky loss and a shorter run.
    ///
    /// `loss_se` is the standard error of the mean `loss`. Use it for small gaps only: within
    /// three standard deviations of one run's loss, the line is a fair picture of the curve;
    /// this function does not check it.
    ///
    /// # Panics
    /// When `cost` is not positive.
    pub fn equalise(&self, cost: f64, loss: f64, loss_se: f64, target: f64) -> EqualisedCost {
        assert!(cost > 0.0, "a cost must be positive, not {cost}");
        let gap = loss - target;
        let from_loss = loss_se / self.beta;
        let from_beta = gap * self.se / self.beta.powi(2);
        EqualisedCost { ln_cost: cost.ln() + gap / self.beta, se: from_loss.hypot(from_beta) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_straight_line_is_found_without_error() {
        let runs = [200.0, 240.0, 300.0].map(|steps: f64| (steps, 4.0 - 0.1 * steps.ln()));
        let rate = ExchangeRate::fit(&runs).expect("three runs");
        assert!((rate.beta - 0.1).abs() < 1e-12 && rate.se < 1e-9, "{rate:?}");
    }

    #[test]
    fn scatter_gives_the_slope_an_error() {
        // By hand: x = 0, 1, 2 in e-folds; y = 1.0, 0.5, 0.3; slope -0.35, residual SS 0.015.
        let e = std::f64::consts::E;
        let rate = ExchangeRate::fit(&[(1.0, 1.0), (e, 0.5), (e * e, 0.3)]).expect("three runs");
        assert!((rate.beta - 0.35).abs() < 1e-12);
        assert!((rate.se - (0.015_f64 / 2.0).sqrt()).abs() < 1e-12, "{}", rate.se);
    }

    #[test]
    fn runs_that_say_nothing_give_no_rate() {
        assert_eq!(ExchangeRate::fit(&[(1.0, 1.0), (2.0, 0.9)]), None);
        assert_eq!(ExchangeRate::fit(&[(2.0, 1.0), (2.0, 0.9), (2.0, 1.1)]), None);
        assert_eq!(ExchangeRate::fit(&[(1.0, 1.0), (2.0, 1.1), (4.0, 1.2)]), None);
        assert_eq!(ExchangeRate::fit(&[(0.0, 1.0), (2.0, 0.9), (4.0, 0.8)]), None);
        assert_eq!(ExchangeRate::fit(&[(1.0, f64::NAN), (2.0, 0.9), (4.0, 0.8)]), None);
    }

    #[test]
    fn a_loss_below_the_target_makes_the_run_cheaper() {
        let rate = ExchangeRate { beta: 0.2, se: 0.02 };
        let cost = rate.equalise(100.0, 3.278, 0.001, 3.28);
        assert!((cost.cost() - 100.0 * (-0.01_f64).exp()).abs() < 1e-9);
        // 0.001/0.2 and 0.002*0.02/0.04, in quadrature.
        assert!((cost.se - 0.005_f64.hypot(0.001)).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn trading_loss_for_length_along_the_line_changes_nothing(
            shorter in 0.9..1.1_f64, beta in 0.05..0.5_f64,
        ) {
            let rate = ExchangeRate { beta, se: 0.0 };
            let honest = rate.equalise(100.0, 3.28, 0.0, 3.28);
            let traded = rate.equalise(100.0 * shorter, 3.28 - beta * shorter.ln(), 0.0, 3.28);
            prop_assert!((honest.ln_cost - traded.ln_cost).abs() < 1e-9);
        }
    }
}
