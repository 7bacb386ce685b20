//! Means with their intervals: one sample, paired ratios, two samples.

use crate::quantile::{assert_open_unit, t_quantile};

/// An estimate with its two-sided interval.
///
/// Every field is finite, so that an estimate survives JSON. Where the data say nothing about one
/// end (a single observation), that end is [`f64::MAX`] or [`f64::MIN`], and
/// [`Estimate::is_bounded`] is false: test it before showing an interval to people.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Estimate {
    /// The estimated mean.
    pub mean: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Standard deviation of one observation; 0 for a single one.
    pub sd: f64,
    /// How many observations.
    pub n: usize,
    /// Confidence of the interval, for example 0.95.
    pub confidence: f64,
}

impl Estimate {
    /// The mean of `values` with Student's t interval (Student 1908). `None` when there are no
    /// values or one of them is not finite.
    ///
    /// A one-sided bound of confidence `c` is the end of a two-sided interval of confidence
    /// `2c - 1`: for the 95 % lower bound ask for 0.90 and read [`Estimate::low`].
    ///
    /// # Panics
    /// When `confidence` is not inside `(0, 1)`.
    pub fn of_mean(values: &[f64], confidence: f64) -> Option<Self> {
        assert_open_unit(confidence, "confidence");
        let moments = Moments::of(values)?;
        let half_width = (moments.n > 1).then(|| {
            let degrees = (moments.n - 1) as f64;
            t_quantile(0.5 + confidence / 2.0, degrees) * moments.standard_error()
        });
        Some(Self::around(moments.mean, half_width, moments.sd(), moments.n, confidence))
    }

    /// The mean of `ln(reference / candidate)` over pairs that share a seed: positive when the
    /// candidate is smaller, which is better for costs. Swap the arguments for a quantity to
    /// maximise. 0.01 is one per cent; the gains of successive records add.
    ///
    /// `None` when the lengths differ, there are no pairs, or a value is not positive and finite.
    ///
    /// # Panics
    /// When `confidence` is not inside `(0, 1)`.
    pub fn paired_log_ratio(reference: &[f64], candidate: &[f64], confidence: f64) -> Option<Self> {
        let positive = |values: &[f64]| values.iter().all(|v| v.is_finite() && *v > 0.0);
        if reference.len() != candidate.len() || !positive(reference) || !positive(candidate) {
            return None;
        }
        let ratios: Vec<f64> =
            reference.iter().zip(candidate).map(|(r, c)| r.ln() - c.ln()).collect();
        Self::of_mean(&ratios, confidence)
    }

    /// The difference of means `a - b` of two unpaired samples of unequal spread, with Welch's
    /// interval (Welch 1947). `sd` is that of the difference of one observation from each sample,
    /// `n` the size of the smaller sample. `None` when a sample is empty or not finite.
    ///
    /// # Panics
    /// When `confidence` is not inside `(0, 1)`.
    pub fn difference(a: &[f64], b: &[f64], confidence: f64) -> Option<Self> {
        assert_open_unit(confidence, "confidence");
        let (a, b) = (Moments::of(a)?, Moments::of(b)?);
        let (n, n_smallest) = (|m: &Moments| m.n as f64, a.n.min(b.n));
        let (share_a, share_b) = (a.variance / n(&a), b.variance / n(&b));
        let half_width = (n_smallest > 1).then(|| {
            let squared_error = share_a + share_b;
            if squared_error == 0.0 {
                return 0.0;
            }
            let degrees = squared_error.powi(2)
                / (share_a.powi(2) / (n(&a) - 1.0) + share_b.powi(2) / (n(&b) - 1.0));
            // Underflow of the squares would leave nothing to divide by.
            let degrees = if degrees.is_finite() { degrees } else { n(&a) + n(&b) - 2.0 };
            t_quantile(0.5 + confidence / 2.0, degrees) * squared_error.sqrt()
        });
        let sd = (a.variance + b.variance).sqrt();
        Some(Self::around(a.mean - b.mean, half_width, sd, n_smallest, confidence))
    }

    /// Whether both ends say something; false for a single observation.
    pub fn is_bounded(&self) -> bool {
        self.low > f64::MIN && self.high < f64::MAX
    }

    /// Whether the whole interval is above zero.
    pub fn is_positive(&self) -> bool {
        self.low > 0.0
    }

    /// Standard error of the mean, in the unit of the mean.
    pub fn standard_error(&self) -> f64 {
        self.sd / (self.n as f64).sqrt()
    }

    fn around(mean: f64, half_width: Option<f64>, sd: f64, n: usize, confidence: f64) -> Self {
        let finite = |value: f64| value.clamp(f64::MIN, f64::MAX);
        let half_width = half_width.unwrap_or(f64::INFINITY);
        Self {
            mean: finite(mean),
            low: finite(mean - half_width),
            high: finite(mean + half_width),
            sd: finite(sd),
            n,
            confidence,
        }
    }
}

struct Moments {
    n: usize,
    mean: f64,
    /// Unbiased; 0 for a single value.
    variance: f64,
}

impl Moments {
    fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() || !values.iter().all(|value| value.is_finite()) {
            return None;
        }
        let n = values.len();
        // Dividing first keeps the sum of huge values finite.
        let mean: f64 = values.iter().map(|value| value / n as f64).sum();
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Some(Self { n, mean, variance: squares / (n.max(2) - 1) as f64 })
    }

    fn sd(&self) -> f64 {
        self.variance.sqrt()
    }

    fn standard_error(&self) -> f64 {
        (self.variance / self.n as f64).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::Normals;
    use proptest::prelude::*;

    fn close(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-6, "{value} is not {expected}");
    }

    #[test]
    fn the_interval_of_a_mean_is_students() {
        // Student's sleep data, difference of the two drugs; R: t.test(extra ~ group, paired).
        let hours = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4];
        let estimate = Estimate::of_mean(&hours, 0.95).expect("ten hours");
        close(estimate.mean, 1.58);
        close(estimate.low, 0.700_114_2);
        close(estimate.high, 2.459_885_8);
        close(estimate.sd, 1.229_995_5);
        assert_eq!((estimate.n, estimate.is_positive()), (10, true));
    }

    #[test]
    fn welch_allows_unequal_spread() {
        // R: t.test(extra ~ group, data = sleep) prints (-3.3654832, 0.2054832) for 1 - 2.
        let one = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
        let two = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];
        let estimate = Estimate::difference(&one, &two, 0.95).expect("two samples");
        close(estimate.mean, -1.58);
        close(estimate.low, -3.365_483_2);
        close(estimate.high, 0.205_483_2);
        let same = Estimate::difference(&[1.0, 1.0], &[0.5, 0.5, 0.5], 0.95).expect("no spread");
        assert_eq!((same.low, same.mean, same.high), (0.5, 0.5, 0.5));
    }

    #[test]
    fn one_observation_says_nothing_about_the_ends_and_survives_json() {
        let estimate = Estimate::of_mean(&[3.0], 0.95).expect("one value");
        assert!(!estimate.is_bounded() && !estimate.is_positive());
        assert_eq!((estimate.mean, estimate.sd, estimate.n), (3.0, 0.0, 1));
        let text = serde_json::to_string(&estimate).expect("plain numbers");
        assert_eq!(serde_json::from_str::<Estimate>(&text).expect("own text"), estimate);
    }

    #[test]
    fn what_cannot_be_estimated_is_none() {
        assert_eq!(Estimate::of_mean(&[], 0.95), None);
        assert_eq!(Estimate::of_mean(&[1.0, f64::NAN], 0.95), None);
        assert_eq!(Estimate::paired_log_ratio(&[1.0], &[0.0], 0.95), None);
        assert_eq!(Estimate::paired_log_ratio(&[1.0, 2.0], &[1.0], 0.95), None);
        assert_eq!(Estimate::difference(&[1.0], &[], 0.95), None);
    }

    #[test]
    fn pairs_share_their_luck() {
        // The seeds differ by a factor of four, the programs by exactly a tenth.
        let reference = [1.0, 2.0, 4.0];
        let candidate = [0.9, 1.8, 3.6];
        let gain = Estimate::paired_log_ratio(&reference, &candidate, 0.99).expect("pairs");
        close(gain.mean, -(0.9_f64.ln()));
        close(gain.high - gain.low, 0.0);
    }

    #[test]
    fn intervals_cover_the_truth_as_often_as_they_say() {
        let mut normals = Normals::new(7);
        let mut covered = 0;
        for _ in 0..4000 {
            let values: Vec<f64> = (0..5).map(|_| 2.0 + normals.next()).collect();
            let estimate = Estimate::of_mean(&values, 0.9).expect("values");
            covered += usize::from(estimate.low <= 2.0 && 2.0 <= estimate.high);
        }
        // Four standard errors of the share are 1.9 %.
        assert!((3524..=3676).contains(&covered), "{covered} of 4000");
    }

    proptest! {
        #[test]
        fn estimates_are_finite_and_ordered(values in prop::collection::vec(-1e300..1e300, 1..20)) {
            let estimate = Estimate::of_mean(&values, 0.95).expect("finite values");
            for value in [estimate.mean, estimate.low, estimate.high, estimate.sd] {
                prop_assert!(value.is_finite());
            }
            prop_assert!(estimate.low <= estimate.mean && estimate.mean <= estimate.high);
        }

        #[test]
        fn shifting_the_values_shifts_the_interval(
            values in prop::collection::vec(-10.0..10.0, 2..20), shift in -100.0..100.0_f64,
        ) {
            let shifted: Vec<f64> = values.iter().map(|value| value + shift).collect();
            let one = Estimate::of_mean(&values, 0.95).expect("finite values");
            let two = Estimate::of_mean(&shifted, 0.95).expect("finite values");
            prop_assert!((one.low + shift - two.low).abs() < 1e-9);
            prop_assert!((one.high + shift - two.high).abs() < 1e-9);
        }

        #[test]
        fn swapping_the_samples_mirrors_the_difference(
            a in prop::collection::vec(-10.0..10.0, 2..20),
            b in prop::collection::vec(-10.0..10.0, 2..20),
        ) {
            let one = Estimate::difference(&a, &b, 0.95).expect("finite values");
            let two = Estimate::difference(&b, &a, 0.95).expect("finite values");
            prop_assert!((one.low + two.high).abs() < 1e-9);
            prop_assert_eq!(one.mean, -two.mean);
        }
    }
}
