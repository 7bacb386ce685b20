//! Rates with their intervals.

use crate::quantile::{assert_open_unit, normal_quantile};

/// A rate with its two-sided interval, all in `0.0..=1.0`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Proportion {
    /// Successes divided by trials.
    pub rate: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// How many trials.
    pub n: u64,
    /// Confidence of the interval.
    pub confidence: f64,
}

/// The rate of `successes` among `trials` with the score interval of Wilson (1927), which stays
/// inside `[0, 1]` and is honest near its ends. `None` without trials or with more successes than
/// trials.
///
/// # Panics
/// When `confidence` is not inside `(0, 1)`.
pub fn wilson(successes: u64, trials: u64, confidence: f64) -> Option<Proportion> {
    assert_open_unit(confidence, "confidence");
    if trials == 0 || successes > trials {
        return None;
    }
    let (n, rate) = (trials as f64, successes as f64 / trials as f64);
    let z = normal_quantile(0.5 + confidence / 2.0);
    let shrink = 1.0 + z * z / n;
    let centre = (rate + z * z / (2.0 * n)) / shrink;
    let half_width = z / shrink * (rate * (1.0 - rate) / n + z * z / (4.0 * n * n)).sqrt();
    // Rounding must not push an end past the rate itself.
    let low = (centre - half_width).clamp(0.0, rate);
    let high = (centre + half_width).clamp(rate, 1.0);
    Some(Proportion { rate, low, high, n: trials, confidence })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(successes: u64, trials: u64, low: f64, high: f64) {
        let rate = wilson(successes, trials, 0.95).expect("trials");
        assert!((rate.low - low).abs() < 5e-5, "{rate:?}");
        assert!((rate.high - high).abs() < 5e-5, "{rate:?}");
    }

    #[test]
    fn intervals_agree_with_the_literature() {
        // Newcombe (1998), Statistics in Medicine 17, table I, method 3.
        check(81, 263, 0.2553, 0.3662);
        check(15, 148, 0.0624, 0.1605);
        check(0, 20, 0.0000, 0.1611);
        check(1, 29, 0.0061, 0.1718);
    }

    #[test]
    fn without_trials_there_is_no_rate() {
        assert_eq!(wilson(0, 0, 0.95), None);
        assert_eq!(wilson(3, 2, 0.95), None);
    }

    proptest! {
        #[test]
        fn the_interval_holds_the_rate(trials in 1_u64..1000, share in 0.0..=1.0_f64) {
            let successes = (share * trials as f64) as u64;
            let rate = wilson(successes, trials, 0.9).expect("trials");
            prop_assert!(0.0 <= rate.low && rate.low <= rate.rate);
            prop_assert!(rate.rate <= rate.high && rate.high <= 1.0);
            let mirrored = wilson(trials - successes, trials, 0.9).expect("trials");
            prop_assert!((rate.low - (1.0 - mirrored.high)).abs() < 1e-12);
        }
    }
}
