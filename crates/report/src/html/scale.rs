//! From values to places on a plot: ranges, logarithms, round ticks.

use crate::number::number;

/// Ratio of the ends from which on a range of positive values is shown in the logarithm.
const LOG_RATIO: f64 = 3.0;
/// Ticks aimed at.
const N_TICKS: f64 = 5.0;
/// Share of the range that stays free at each end.
const MARGIN: f64 = 0.04;

/// A range of values with its ticks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
    log: bool,
    /// Value and label, rising.
    pub(crate) ticks: Vec<(f64, String)>,
}

impl Scale {
    /// A scale with room for all values that are finite; `None` when none is. Logarithmic when
    /// `may_be_log` and the values are positive and far apart.
    pub(crate) fn over(values: impl IntoIterator<Item = f64>, may_be_log: bool) -> Option<Self> {
        let finite = values.into_iter().filter(|value| value.is_finite());
        let (min, max) = finite.fold(None, |range: Option<(f64, f64)>, value| {
            let (low, high) = range.unwrap_or((value, value));
            Some((low.min(value), high.max(value)))
        })?;
        let log = may_be_log && min > 0.0 && max / min >= LOG_RATIO && (max / min).is_finite();
        let (low, high) = if log {
            let margin = (max / min).powf(MARGIN);
            (min / margin, max * margin)
        } else if max > min {
            let margin = (max - min) * MARGIN;
            let low = min - margin;
            // A quantity that is never negative has no room below zero.
            (if min >= 0.0 { low.max(0.0) } else { low }, max + margin)
        } else {
            let half = if min == 0.0 { 1.0 } else { min.abs() * 0.1 };
            (min - half, max + half)
        };
        let (low, high) = (low.max(-f64::MAX / 4.0), high.min(f64::MAX / 4.0));
        let ticks = if log { log_ticks(low, high) } else { linear_ticks(low, high) };
        Some(Self { low, high, log, ticks })
    }

    /// Where a value is: 0 at the lower end, 1 at the upper one.
    pub(crate) fn share(&self, value: f64) -> f64 {
        let place = |value: f64| if self.log { value.max(f64::MIN_POSITIVE).ln() } else { value };
        let (low, high) = (place(self.low), place(self.high));
        let share = (place(value) - low) / (high - low);
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }

    pub(crate) fn is_log(&self) -> bool {
        self.log
    }
}

fn linear_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let least = (high - low) / N_TICKS;
    let power = least.log10().floor();
    let unit = 10_f64.powf(power);
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * unit >= least);
    let step = factor.unwrap_or(10.0) * unit;
    let (first, last) = ((low / step).ceil(), (high / step).floor());
    if !(step > 0.0 && last - first <= 4.0 * N_TICKS) {
        return Vec::new();
    }
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let label = |value: f64| {
        if value != 0.0 && !(1e-4..1e6).contains(&value.abs()) {
            short_exponent(value)
        } else if decimals == 0 {
            number(value)
        } else {
            format!("{value:.decimals$}")
        }
    };
    // Adding zero turns a negative zero into a positive one.
    let values = (0..=(last - first) as usize).map(|n| (first + n as f64) * step + 0.0);
    values.map(|value| (value, label(value))).collect()
}

fn log_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    const CHOICES: [&[f64]; 3] = [&[1.0], &[1.0, 2.0, 5.0], &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0]];
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let of = |choice: &[f64]| -> Vec<f64> {
        let all = powers.clone().flat_map(|power| choice.iter().map(move |m| times_ten(*m, power)));
        all.filter(|value| (low..=high).contains(value)).collect()
    };
    let Some(values) = CHOICES.iter().map(|choice| of(choice)).find(|ticks| ticks.len() >= 4)
    else {
        return linear_ticks(low, high);
    };
    let every = values.len().div_ceil(N_TICKS as usize + 2);
    let label = |value: f64| {
        if !(1e-4..1e6).contains(&value) {
            short_exponent(value)
        } else if value >= 1000.0 {
            number(value)
        } else {
            value.to_string()
        }
    };
    values.into_iter().step_by(every).map(|value| (value, label(value))).collect()
}

/// Divides where that is exact: `7.0 / 10.0` prints as `0.7`, `7.0 * 0.1` does not.
fn times_ten(value: f64, power: i32) -> f64 {
    let size = 10_f64.powi(power.abs());
    if power < 0 { value / size } else { value * size }
}

/// `2.5e12`.
fn short_exponent(value: f64) -> String {
    // Rounded first, so that the sum of rounding errors does not show.
    let rounded: f64 = format!("{value:.3e}").parse().unwrap_or(value);
    format!("{rounded:e}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(values: &[f64], may_be_log: bool) -> String {
        let scale = Scale::over(values.iter().copied(), may_be_log).expect("values");
        scale.ticks.into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(labels(&[0.0, 2800.0], true), "0 1000 2000");
        assert_eq!(labels(&[1.46, 1.79], true), "1.5 1.6 1.7 1.8");
        assert_eq!(labels(&[2.1, 21.4], true), "2 5 10 20");
        assert_eq!(labels(&[2.1, 21.4], false), "5 10 15 20");
        assert_eq!(labels(&[1e-9, 1.0], true), "1e-9 1e-7 1e-5 0.001 0.1");
        assert_eq!(labels(&[-3.0, 4.0], true), "-2 0 2 4");
        assert_eq!(labels(&[1e12, 2.9e12], true), "1e12 1.5e12 2e12 2.5e12");
        assert_eq!(labels(&[5.0], true), "4.6 4.8 5.0 5.2 5.4");
        assert_eq!(labels(&[0.0], true), "-1.0 -0.5 0.0 0.5 1.0");
        assert_eq!(Scale::over([f64::NAN], true), None);
    }

    #[test]
    fn shares_run_from_end_to_end() {
        let scale = Scale::over([10.0, 1000.0], true).expect("values");
        assert!(scale.is_log());
        assert!((scale.share(100.0) - 0.5).abs() < 1e-9);
        assert!(scale.share(10.0) > 0.0 && scale.share(1000.0) < 1.0);
        assert_eq!((scale.share(-1.0), scale.share(1e9)), (0.0, 1.0));
    }

    proptest! {
        #[test]
        fn any_values_have_a_scale(values in prop::collection::vec(any::<f64>(), 1..20)) {
            for may_be_log in [true, false] {
                let Some(scale) = Scale::over(values.iter().copied(), may_be_log) else {
                    prop_assert!(values.iter().all(|value| !value.is_finite()));
                    continue;
                };
                prop_assert!(scale.ticks.len() <= 21, "{scale:?}");
                for value in values.iter().filter(|value| value.is_finite()) {
                    prop_assert!((0.0..=1.0).contains(&scale.share(*value)));
                }
            }
        }
    }
}
