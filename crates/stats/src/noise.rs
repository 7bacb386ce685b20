//! Whether runs in a changed setting do as well as before, judged by the noise of a seed.

use crate::quantile::{assert_open_unit, t_quantile};

/// Relative differences below this are rounding, not a loss.
const ROUNDING: f64 = 1e-9;
/// The power at which [`NoiseTest::detectable`] is stated.
const POWER: f64 = 0.9;

/// A one-sided test of "no worse than before" over pairs that share a seed.
///
/// The statistic is the mean of `after - before`. Its noise is *not* taken from the differences:
/// whoever is under test could hide a loss by making the changed runs erratic. It is taken from
/// unchanged runs of the same program: with the pooled standard deviation `s` of one such run on
/// `ν` degrees of freedom, the mean of `n` differences has a standard error of at most
/// `s sqrt(2/n)` (less where the two runs of a pair share their luck), and the loss is called
/// beyond noise when
///
/// ```text
/// mean(after - before) > t(1-α, ν) s sqrt(2/n)
/// ```
///
/// - **False alarms**: a program that does as well as before is called worse with probability at
///   most `α` when runs are normal; exactly `α` when the pairs share nothing.
/// - **Power**: [`NoiseTest::detectable`] is the loss that is called so with a probability of about
///   0.9 (0.85 with three pairs, since the noise itself is then known on four degrees of freedom
///   only). In units of the standard deviation of one run, with as many pairs as further unchanged
///   runs and α = 0.01, it is 4.3 with 3 pairs, 2.7 with 5, 1.7 with 10 and 1.2 with 20.
///
/// A test that raises no alarm proves nothing about smaller losses than that.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NoiseTest {
    /// Mean of `after - before`; positive is worse.
    pub excess: f64,
    /// The largest excess that counts as noise.
    pub threshold: f64,
    /// The excess that would be noticed with a probability of about 0.9.
    pub detectable: f64,
    /// Pooled standard deviation of one unchanged run.
    pub noise: f64,
    /// Its degrees of freedom.
    pub degrees: usize,
    /// How many pairs.
    pub n: usize,
    /// Probability of a false alarm, at most.
    pub alpha: f64,
}

impl NoiseTest {
    /// Compares `after` with `before`, seed by seed; smaller is better. Give logarithms where
    /// ratios matter. `others` are further samples of unchanged runs of the same program, each
    /// around a mean of its own.
    ///
    /// `None` when the lengths differ, there are no pairs, a value is not finite, or no sample
    /// has two runs, so that nothing is known of the noise.
    ///
    /// # Panics
    /// When `alpha` is not inside `(0, 1)`.
    ///
    /// ```
    /// use forerunner_stats::NoiseTest;
    ///
    /// let (before, earlier) = ([3.01, 2.98, 3.02], [3.00, 3.03, 2.99]);
    /// let honest = NoiseTest::of(&before, &[3.00, 3.02, 2.99], &[&earlier], 0.01);
    /// assert!(honest.expect("three pairs").is_within_noise());
    /// let knowing = NoiseTest::of(&before, &[3.40, 3.10, 3.90], &[&earlier], 0.01);
    /// assert!(!knowing.expect("three pairs").is_within_noise());
    /// ```
    pub fn of(before: &[f64], after: &[f64], others: &[&[f64]], alpha: f64) -> Option<Self> {
        assert_open_unit(alpha, "alpha");
        let finite = |values: &[f64]| values.iter().all(|value| value.is_finite());
        let n = before.len();
        if n == 0
            || after.len() != n
            || !finite(before)
            || !finite(after)
            || !others.iter().all(|sample| finite(sample))
        {
            return None;
        }
        let samples = || std::iter::once(before).chain(others.iter().copied());
        let degrees: usize = samples().map(|sample| sample.len().saturating_sub(1)).sum();
        if degrees == 0 {
            return None;
        }
        let noise = (samples().map(squares).sum::<f64>() / degrees as f64).sqrt();
        let error = noise * (2.0 / n as f64).sqrt();
        let largest = samples().flatten().chain(after).fold(1.0_f64, |most, v| most.max(v.abs()));
        let rounding = ROUNDING * largest;
        let at = |probability: f64| t_quantile(probability, degrees as f64);
        let excess = before.iter().zip(after).map(|(before, after)| after - before).sum::<f64>();
        let one = Self {
            excess: excess / n as f64,
            threshold: at(1.0 - alpha) * error + rounding,
            detectable: (at(1.0 - alpha) + at(POWER)) * error + rounding,
            noise,
            degrees,
            n,
            alpha,
        };
        [one.excess, one.threshold, one.detectable].iter().all(|v| v.is_finite()).then_some(one)
    }

    /// Whether the excess is no larger than noise explains.
    pub fn is_within_noise(&self) -> bool {
        self.excess <= self.threshold
    }
}

/// Sum of squared deviations from the sample's own mean.
fn squares(sample: &[f64]) -> f64 {
    let mean = sample.iter().sum::<f64>() / sample.len().max(1) as f64;
    sample.iter().map(|value| (value - mean).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::Normals;
    use proptest::prelude::*;

    const TRIALS: usize = 4000;

    /// Share of alarms, in per cent, over `n` pairs with a noise of 1: `loss` is what the change
    /// costs, `shared` the correlation of the two runs of a pair, `spread` the deviation of a
    /// changed run.
    fn alarms(n: usize, loss: f64, shared: f64, spread: f64) -> f64 {
        let mut normals = Normals::new(11);
        let (common, own) = (shared.sqrt(), (1.0 - shared).sqrt());
        let alarms = (0..TRIALS)
            .filter(|_| {
                let luck: Vec<f64> = (0..n).map(|_| common * normals.next()).collect();
                let before: Vec<f64> =
                    luck.iter().map(|luck| luck + own * normals.next()).collect();
                let after: Vec<f64> =
                    luck.iter().map(|luck| loss + spread * (luck + own * normals.next())).collect();
                let earlier: Vec<f64> = (0..n).map(|_| 5.0 + normals.next()).collect();
                let test = NoiseTest::of(&before, &after, &[&earlier], 0.01).expect("numbers");
                !test.is_within_noise()
            })
            .count();
        100.0 * alarms as f64 / TRIALS as f64
    }

    /// What [`NoiseTest::detectable`] is when the noise is exactly 1.
    fn detectable(n: usize) -> f64 {
        let degrees = (2 * (n - 1)) as f64;
        (t_quantile(0.99, degrees) + t_quantile(POWER, degrees)) * (2.0 / n as f64).sqrt()
    }

    #[test]
    fn honest_programs_raise_the_alarm_as_rarely_as_promised() {
        for n in [3, 5, 10] {
            let rate = alarms(n, 0.0, 0.0, 1.0);
            // Four standard errors of the share are 0.63 %.
            assert!((0.37..=1.63).contains(&rate), "{rate} % with {n} pairs");
            let paired = alarms(n, 0.0, 0.7, 1.0);
            assert!(paired <= 0.5, "pairs that share their luck: {paired} % with {n}");
        }
    }

    #[test]
    fn the_power_is_what_is_stated() {
        for (n, least) in [(3, 83.0), (5, 86.0), (10, 87.0), (20, 88.0)] {
            let power = alarms(n, detectable(n), 0.0, 1.0);
            assert!((least..=93.0).contains(&power), "{power} % with {n} pairs");
        }
        let in_deviations = [3, 5, 10, 20].map(|n| (10.0 * detectable(n)).round() / 10.0);
        assert_eq!(in_deviations, [4.3, 2.7, 1.7, 1.2], "the table in the documentation");
    }

    #[test]
    fn erratic_runs_hide_no_loss() {
        // With the noise of the differences themselves, a spread of 10 would hide a loss of 20.
        let power = alarms(3, 20.0, 0.0, 10.0);
        assert!(power > 95.0, "{power} %");
    }

    #[test]
    fn without_any_noise_every_loss_counts_and_rounding_does_not() {
        let same = [0.5, 0.5, 0.5];
        let check = |after: f64, expected: bool| {
            let test = NoiseTest::of(&same, &[after; 3], &[], 0.01).expect("numbers");
            assert_eq!(test.is_within_noise(), expected, "{test:?}");
        };
        check(0.5, true);
        check(0.5 + 1e-12, true);
        check(0.4, true);
        check(0.501, false);
    }

    #[test]
    fn what_cannot_be_tested_is_none() {
        assert_eq!(NoiseTest::of(&[], &[], &[&[1.0, 2.0]], 0.01), None);
        assert_eq!(NoiseTest::of(&[1.0], &[1.0, 2.0], &[&[1.0, 2.0]], 0.01), None);
        assert_eq!(NoiseTest::of(&[1.0], &[f64::NAN], &[&[1.0, 2.0]], 0.01), None);
        assert_eq!(NoiseTest::of(&[1.0], &[1.0], &[&[2.0]], 0.01), None, "no noise is known");
        assert!(NoiseTest::of(&[1.0], &[1.0], &[&[1.0, 2.0]], 0.01).is_some());
    }

    proptest! {
        #[test]
        fn a_larger_loss_is_never_more_innocent(
            before in prop::collection::vec(-10.0..10.0_f64, 2..10), loss in 0.0..5.0, more in 0.0..5.0,
        ) {
            let test = |loss: f64| {
                let after: Vec<f64> = before.iter().map(|value| value + loss).collect();
                NoiseTest::of(&before, &after, &[], 0.01).expect("numbers").is_within_noise()
            };
            prop_assert!(test(loss) || !test(loss + more));
        }
    }
}
