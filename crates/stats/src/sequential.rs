//! A test that may be looked at after every run.

use statrs::function::erf::erfc;
use std::f64::consts::{LN_2, PI, SQRT_2};

/// Evidence that a program's mean loss is below a target, valid at every look.
///
/// With `x_i = target - loss_i` and `S = Σ x_i`, the half-normal mixture of likelihood ratios is
///
/// ```text
/// E_n = 2 sqrt(σ²/(σ²+nτ²)) exp(τ²S²/(2σ²(σ²+nτ²))) Φ(τS/(σ sqrt(σ²+nτ²)))
/// ```
///
/// Under "the mean is not below the target" the chance that `E_n` *ever* reaches `1/α` is at most
/// `α` (Ville's inequality; Ramdas, Grünwald, Vovk and Shafer 2023, arXiv 2210.01948). An ordinary
/// t-test that is looked at after every run errs several times as often as it says.
///
/// σ must not be understated: by 20 % too small, the error triples. Use a pooled standard
/// deviation times 1.25, or [`crate::sd_upper_limit`]. τ is the size of improvement that the test
/// is most sensitive to; τ = σ is a good default.
///
/// ```
/// use forerunner_stats::EProcess;
///
/// let mut evidence = EProcess::new(3.28, 0.0016, 0.0016);
/// for loss in [3.2752, 3.2761, 3.2755, 3.2749] {
///     evidence.push(loss);
/// }
/// assert!(evidence.accepts(0.01));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct EProcess {
    target: f64,
    sigma: f64,
    tau: f64,
    n: u64,
    sum: f64,
    ln_peak: f64,
}

impl EProcess {
    /// Starts without evidence. `sigma` is (an upper bound of) the standard deviation of one
    /// loss, `tau` the scale of the improvements hoped for, both in the unit of the loss.
    ///
    /// # Panics
    /// When the target is not finite, or a scale is not finite and positive.
    pub fn new(target: f64, sigma: f64, tau: f64) -> Self {
        assert!(target.is_finite(), "the target must be finite, not {target}");
        for (name, scale) in [("sigma", sigma), ("tau", tau)] {
            assert!(scale.is_finite() && scale > 0.0, "{name} must be positive, not {scale}");
        }
        Self { target, sigma, tau, n: 0, sum: 0.0, ln_peak: 0.0 }
    }

    /// Takes in the next fresh run, in the order of the runs. A run that failed is an infinite
    /// loss (so is NaN): it stays in the denominator and ends all hope.
    pub fn push(&mut self, loss: f64) {
        let gain = if loss.is_finite() { self.target - loss } else { f64::NEG_INFINITY };
        self.n += 1;
        self.sum += gain;
        self.ln_peak = self.ln_peak.max(self.ln_value());
    }

    /// How many runs were taken in.
    pub fn n(&self) -> u64 {
        self.n
    }

    /// `ln E_n` after the last run; `-∞` once a run has failed.
    pub fn ln_value(&self) -> f64 {
        let spread = self.sigma.powi(2) + self.n as f64 * self.tau.powi(2);
        let z = self.tau * self.sum / (self.sigma * spread.sqrt());
        LN_2 + 0.5 * (self.sigma.powi(2) / spread).ln() + ln_scaled_normal_cdf(z)
    }

    /// `E_n` after the last run; infinite when it does not fit into an `f64`.
    pub fn value(&self) -> f64 {
        self.ln_value().exp()
    }

    /// Whether the evidence has reached `1/alpha` at any look so far.
    pub fn accepts(&self, alpha: f64) -> bool {
        self.ln_peak >= -alpha.ln()
    }
}

/// `ln(exp(z²/2) Φ(z))`, without the overflow and the underflow of its factors.
fn ln_scaled_normal_cdf(z: f64) -> f64 {
    if z < -25.0 {
        // Mills' ratio, Abramowitz and Stegun 26.2.12; the next term is below 1e-7.
        let inverse_square = 1.0 / (z * z);
        let series = 1.0 - inverse_square + 3.0 * inverse_square.powi(2);
        series.ln() - (-z).ln() - 0.5 * (2.0 * PI).ln()
    } else {
        0.5 * z * z + (0.5 * erfc(-z / SQRT_2)).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::Normals;
    use proptest::prelude::*;

    /// Runs until the claim is accepted at α = 0.01 or 60 runs are used up, with σ = τ = 1
    /// assumed. `d` is how far the true mean is below the target, `sd` the true spread.
    fn runs_needed(normals: &mut Normals, d: f64, sd: f64) -> Option<u64> {
        let mut evidence = EProcess::new(0.0, 1.0, 1.0);
        (1..=60).find(|_| {
            evidence.push(sd * normals.next() - d);
            evidence.accepts(0.01)
        })
    }

    /// Share of accepted claims among `trials`, in per cent.
    fn accepted(seed: u64, d: f64, sd: f64, trials: usize) -> f64 {
        let mut normals = Normals::new(seed);
        let accepted = (0..trials).filter(|_| runs_needed(&mut normals, d, sd).is_some()).count();
        100.0 * accepted as f64 / trials as f64
    }

    fn median_runs(d: f64) -> u64 {
        let mut normals = Normals::new(3);
        let mut runs: Vec<u64> =
            (0..2001).map(|_| runs_needed(&mut normals, d, 1.0).unwrap_or(u64::MAX)).collect();
        runs.sort_unstable();
        runs[1000]
    }

    #[test]
    fn false_accepts_stay_far_below_alpha_though_every_run_is_looked_at() {
        let at_the_boundary = accepted(1, 0.0, 1.0, 10_000);
        assert!((0.1..=0.5).contains(&at_the_boundary), "{at_the_boundary} %");
        let inside_the_null = accepted(2, -0.25, 1.0, 10_000);
        assert!(inside_the_null <= 0.1, "{inside_the_null} %");
    }

    #[test]
    fn an_understated_sigma_breaks_the_promise() {
        // True spread 1.25 where 1.0 was assumed: σ is understated by a fifth.
        let broken = accepted(4, 0.0, 1.25, 10_000);
        assert!((1.5..=4.0).contains(&broken), "{broken} %");
    }

    #[test]
    fn real_improvements_need_few_runs() {
        assert!((10..=12).contains(&median_runs(1.0)), "{}", median_runs(1.0));
        assert!((5..=6).contains(&median_runs(1.5)), "{}", median_runs(1.5));
        assert!((3..=4).contains(&median_runs(2.0)), "{}", median_runs(2.0));
    }

    #[test]
    fn the_value_is_the_formula() {
        let mut evidence = EProcess::new(1.0, 0.5, 0.25);
        for loss in [0.5, 0.75, 1.25] {
            evidence.push(loss);
        }
        // The likelihood ratio against a mean of 0, integrated over a half-normal prior.
        let (sum, n, tau, sigma) = (0.5, 3.0, 0.25_f64, 0.5_f64);
        let steps = 200_000;
        let width = 10.0 * tau / f64::from(steps);
        let mixture: f64 = (0..steps)
            .map(|step| {
                let mean = (f64::from(step) + 0.5) * width;
                let prior = 2.0 / (tau * (2.0 * PI).sqrt()) * (-0.5 * (mean / tau).powi(2)).exp();
                let ratio = ((sum * mean - 0.5 * n * mean * mean) / (sigma * sigma)).exp();
                prior * ratio * width
            })
            .sum();
        assert!((evidence.value() - mixture).abs() < 1e-7, "{} {mixture}", evidence.value());
    }

    #[test]
    fn a_failed_run_ends_all_hope_but_undoes_no_acceptance() {
        let mut evidence = EProcess::new(0.0, 1.0, 1.0);
        evidence.push(f64::NAN);
        for _ in 0..50 {
            evidence.push(-9.0);
        }
        assert!(!evidence.accepts(0.5));
        assert_eq!(evidence.value(), 0.0);
        assert_eq!(evidence.n(), 51);

        let mut evidence = EProcess::new(0.0, 1.0, 1.0);
        (0..5).for_each(|_| evidence.push(-9.0));
        evidence.push(f64::INFINITY);
        assert!(evidence.accepts(0.01));
    }

    #[test]
    fn the_two_branches_of_the_tail_meet() {
        let gap = ln_scaled_normal_cdf(-25.0 - 1e-9) - ln_scaled_normal_cdf(-25.0 + 1e-9);
        assert!(gap.abs() < 1e-6, "{gap}");
    }

    proptest! {
        #[test]
        fn the_unit_of_the_loss_does_not_matter(
            losses in prop::collection::vec(-1.0..1.0, 1..30), unit in 0.001..1000.0,
        ) {
            let mut one = EProcess::new(0.25, 0.5, 0.5);
            let mut two = EProcess::new(0.25 * unit, 0.5 * unit, 0.5 * unit);
            for loss in losses {
                one.push(loss);
                two.push(loss * unit);
                prop_assert!((one.ln_value() - two.ln_value()).abs() < 1e-6);
            }
        }

        #[test]
        fn a_lower_loss_is_never_weaker_evidence(sum in -1e4..1e4_f64, step in 0.0..1e3_f64) {
            let after = |loss: f64| {
                let mut evidence = EProcess::new(0.0, 1.0, 1.0);
                evidence.push(loss);
                evidence.ln_value()
            };
            prop_assert!(after(sum - step) >= after(sum) - 1e-6);
        }
    }
}
