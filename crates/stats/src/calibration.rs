//! Whether those who make forecasts know what they are talking about.

use crate::{Estimate, Proportion, normal_quantile, wilson};
use statrs::distribution::{ContinuousCDF, Normal};

/// Largest number that is taken for a forecast: squares of it can still be added up.
const LARGEST: f64 = 1e100;

/// An interval in which something was expected, and what came.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Forecast {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// What was measured.
    pub measured: f64,
}

impl Forecast {
    /// Whether what came lies in the interval, ends included.
    pub fn hit(&self) -> bool {
        (self.low..=self.high).contains(&self.measured)
    }

    /// The middle of the interval.
    pub fn middle(&self) -> f64 {
        // The sum of two large ends need not be finite.
        self.low / 2.0 + self.high / 2.0
    }

    /// The probability of something positive, if the interval is the central part of a normal
    /// distribution that holds `probability` of it. An interval without width is a certainty.
    ///
    /// # Panics
    /// When `probability` is not inside `(0, 1)`.
    pub fn chance_of_gain(&self, probability: f64) -> f64 {
        let sd = (self.high / 2.0 - self.low / 2.0) / normal_quantile(0.5 + probability / 2.0);
        if sd > 0.0 {
            Normal::standard().cdf(self.middle() / sd)
        } else if self.middle() > 0.0 {
            1.0
        } else if self.middle() < 0.0 {
            0.0
        } else {
            0.5
        }
    }

    fn is_sound(&self) -> bool {
        // NaN is in no range.
        [self.low, self.high, self.measured]
            .iter()
            .all(|value| (-LARGEST..=LARGEST).contains(value))
            && self.low <= self.high
    }
}

/// What many forecasts amount to.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Calibration {
    /// Share of intervals that hold what was measured.
    pub coverage: Proportion,
    /// The share that should, by what the intervals were asked to mean.
    pub nominal: f64,
    /// Measurements below their interval: promises that were not kept.
    pub below: u64,
    /// Measurements above their interval.
    pub above: u64,
    /// Measured value minus the middle of the interval: negative means that too much was expected.
    pub error: Estimate,
    /// Correlation of the middles with what was measured (Pearson); `None` with fewer than three
    /// forecasts, or when one side never changes.
    pub correlation: Option<f64>,
    /// The same of their ranks (Spearman), which no outlier governs.
    pub rank_correlation: Option<f64>,
    /// Mean squared difference between the probability of a gain, as the interval implies it, and
    /// whether there was one (Brier 1950): 0 is a prophet, 0.25 a coin, 1 always wrong and certain.
    pub brier: f64,
    /// What the same score is for somebody who knows only how many gained.
    pub brier_of_base_rate: f64,
}

impl Calibration {
    /// Judges `forecasts` whose intervals were to hold the truth with probability `nominal`.
    /// Forecasts with values beyond 1e100 or ends in the wrong order are left out; `None` when
    /// nothing is left. `confidence` is that of the intervals in the answer.
    ///
    /// # Panics
    /// When `nominal` or `confidence` is not inside `(0, 1)`.
    pub fn of(forecasts: &[Forecast], nominal: f64, confidence: f64) -> Option<Self> {
        let sound: Vec<&Forecast> = forecasts.iter().filter(|one| one.is_sound()).collect();
        let n = sound.len() as u64;
        let count =
            |test: fn(&Forecast) -> bool| sound.iter().filter(|one| test(one)).count() as u64;
        let hits = count(Forecast::hit);
        let middles: Vec<f64> = sound.iter().map(|one| one.middle()).collect();
        let measured: Vec<f64> = sound.iter().map(|one| one.measured).collect();
        let errors: Vec<f64> = sound.iter().map(|one| one.measured - one.middle()).collect();
        let squared = |one: &&Forecast| {
            let gained = f64::from(u8::from(one.measured > 0.0));
            (one.chance_of_gain(nominal) - gained).powi(2)
        };
        let gained = count(|one| one.measured > 0.0) as f64 / n as f64;
        Some(Self {
            coverage: wilson(hits, n, confidence)?,
            nominal,
            below: count(|one| one.measured < one.low),
            above: count(|one| one.measured > one.high),
            error: Estimate::of_mean(&errors, confidence)?,
            correlation: correlation(&middles, &measured),
            rank_correlation: rank_correlation(&middles, &measured),
            brier: sound.iter().map(squared).sum::<f64>() / n as f64,
            brier_of_base_rate: gained * (1.0 - gained),
        })
    }
}

/// The linear correlation of two equally long lists (Pearson), in `-1.0..=1.0`. `None` with fewer
/// than three pairs, values that are not finite, or a list in which all values are equal.
pub fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() != b.len() || a.len() < 3 || !a.iter().chain(b).all(|value| value.is_finite()) {
        return None;
    }
    let n = a.len() as f64;
    let mean = |values: &[f64]| values.iter().map(|value| value / n).sum::<f64>();
    let (mean_a, mean_b) = (mean(a), mean(b));
    let mut sums = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - mean_a, b - mean_b);
        sums = (sums.0 + a * b, sums.1 + a * a, sums.2 + b * b);
    }
    // All values equal, up to what rounding of the mean leaves.
    let varies = |values: &[f64]| values.iter().any(|value| *value != values[0]);
    let scale = (sums.1 * sums.2).sqrt();
    (varies(a) && varies(b) && scale > 0.0 && scale.is_finite())
        .then(|| (sums.0 / scale).clamp(-1.0, 1.0))
}

/// The correlation of the ranks of two equally long lists (Spearman 1904); equal values share the
/// mean of their ranks. `None` as for [`correlation`].
pub fn rank_correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    if !a.iter().chain(b).all(|value| value.is_finite()) {
        return None;
    }
    correlation(&ranks(a), &ranks(b))
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let same = order[start..].iter().take_while(|one| values[**one] == values[order[start]]);
        let end = start + same.count();
        for one in &order[start..end] {
            ranks[*one] = (start + end - 1) as f64 / 2.0;
        }
        start = end;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::Normals;
    use proptest::prelude::*;

    fn forecast(low: f64, high: f64, measured: f64) -> Forecast {
        Forecast { low, high, measured }
    }

    #[test]
    fn hits_misses_and_errors_are_counted() {
        let forecasts = [
            forecast(0.0, 0.2, 0.1),
            forecast(0.0, 0.2, 0.2),
            forecast(0.1, 0.3, -0.2),
            forecast(0.1, 0.3, 0.5),
        ];
        let found = Calibration::of(&forecasts, 2.0 / 3.0, 0.95).expect("four");
        assert_eq!((found.coverage.rate, found.coverage.n), (0.5, 4));
        assert_eq!((found.below, found.above), (1, 1));
        // Errors 0, 0.1, -0.4, 0.3.
        assert!(found.error.mean.abs() < 1e-12, "{found:?}");
        assert!((found.brier_of_base_rate - 0.75 * 0.25).abs() < 1e-12);
        // Middles 0.1 0.1 0.2 0.2: ranks 0.5 0.5 2.5 2.5; measured ranks 1 2 0 3.
        assert_eq!(found.rank_correlation, Some(0.0));
        assert_eq!(Calibration::of(&[], 0.5, 0.95), None);
        let broken = [forecast(0.2, 0.1, 0.1), forecast(f64::NAN, 1.0, 0.0)];
        assert_eq!(Calibration::of(&broken, 0.5, 0.95), None);
    }

    #[test]
    fn the_chance_of_a_gain_follows_the_interval() {
        // The lower end of a central interval of 2/3 is passed with probability 5/6.
        let chance = |low, high| forecast(low, high, 0.0).chance_of_gain(2.0 / 3.0);
        assert!((chance(0.0, 0.4) - 5.0 / 6.0).abs() < 1e-9);
        assert!((chance(-0.4, 0.0) - 1.0 / 6.0).abs() < 1e-9);
        assert_eq!(chance(-0.1, 0.1), 0.5);
        assert_eq!((chance(0.1, 0.1), chance(-0.1, -0.1), chance(0.0, 0.0)), (1.0, 0.0, 0.5));
        let prophet = [forecast(0.1, 0.1, 0.1), forecast(-0.1, -0.1, -0.1)];
        let found = Calibration::of(&prophet, 2.0 / 3.0, 0.95).expect("two");
        assert_eq!((found.brier, found.brier_of_base_rate), (0.0, 0.25));
    }

    #[test]
    fn correlations_agree_with_worked_examples() {
        // Anscombe (1973), The American Statistician 27, data set I.
        let x = [10.0, 8.0, 13.0, 9.0, 11.0, 14.0, 6.0, 4.0, 12.0, 7.0, 5.0];
        let y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68];
        let found = correlation(&x, &y).expect("eleven pairs");
        assert!((found - 0.816_42).abs() < 1e-5, "{found}");
        // Without ties: 1 - 6 sum d² / (n (n² - 1)), here with differences -2, 1, 1, -1, 1.
        let found = rank_correlation(&[1.0, 2.0, 3.0, 4.0, 5.0], &[3.0, 1.0, 2.0, 6.0, 5.5]);
        let d2 = 4.0 + 1.0 + 1.0 + 1.0 + 1.0;
        assert!((found.expect("five") - (1.0 - 6.0 * d2 / 120.0)).abs() < 1e-12);
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [2.5, 0.0, 2.5, 1.0]);
        assert_eq!(correlation(&[0.1, 0.1, 0.1], &[1.0, 2.0, 3.0]), None);
        assert_eq!(correlation(&[0.1, 0.2], &[1.0, 2.0]), None);
        assert_eq!(rank_correlation(&[1.0, f64::NAN, 2.0], &[1.0, 2.0, 3.0]), None);
    }

    #[test]
    fn an_honest_forecaster_is_found_calibrated() {
        let mut source = Normals::new(7);
        let forecasts: Vec<Forecast> = (0..4000)
            .map(|_| {
                let middle = 0.05 * source.next();
                let sd = 0.02;
                // The interval that holds two thirds: 0.967 standard deviations to each side.
                let half = sd * crate::normal_quantile(5.0 / 6.0);
                forecast(middle - half, middle + half, middle + sd * source.next())
            })
            .collect();
        let found = Calibration::of(&forecasts, 2.0 / 3.0, 0.999).expect("many");
        assert!(found.coverage.low < 2.0 / 3.0 && 2.0 / 3.0 < found.coverage.high, "{found:?}");
        assert!(found.error.low < 0.0 && 0.0 < found.error.high, "{found:?}");
        // sqrt(0.05² / (0.05² + 0.02²)).
        assert!((found.correlation.expect("varies") - 0.928).abs() < 0.01, "{found:?}");
        assert!(found.brier < 0.6 * found.brier_of_base_rate, "{found:?}");
    }

    proptest! {
        #[test]
        fn whatever_comes_the_answer_is_finite(
            rows in prop::collection::vec((-1e300..1e300_f64, 0.0..1e300_f64, -1e300..1e300_f64), 1..20),
        ) {
            let forecasts: Vec<Forecast> = rows
                .iter()
                .map(|(low, width, measured)| forecast(*low, low + width, *measured))
                .collect();
            if let Some(found) = Calibration::of(&forecasts, 2.0 / 3.0, 0.95) {
                prop_assert!((0.0..=1.0).contains(&found.brier));
                for value in [found.correlation, found.rank_correlation].into_iter().flatten() {
                    prop_assert!((-1.0..=1.0).contains(&value));
                }
                prop_assert!(found.below + found.above <= found.coverage.n);
            }
        }

        #[test]
        fn ranks_do_not_care_for_scale(values in prop::collection::vec(-5.0..5.0_f64, 3..30)) {
            let cubes: Vec<f64> = values.iter().map(|value| value.powi(3)).collect();
            if let Some(found) = rank_correlation(&values, &cubes) {
                prop_assert!((found - 1.0).abs() < 1e-9);
            }
        }
    }
}
