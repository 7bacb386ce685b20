//! Where a constant may go, and the coordinates in which equal steps matter equally.

use crate::source::round_significant;

/// Decimal digits that are worth writing.
const DIGITS: usize = 3;

/// The whole of a linear range in coordinates: as wide as a factor of 50 on the log scale.
const LINEAR_WIDTH: f64 = 4.0;

/// A rate's or size's derived range reaches this factor, either way.
const EVIDENT_FACTOR: f64 = 16.0;

/// Where a constant may go.
///
/// Coordinates are natural logarithms (`Log`), log-odds (`Logit`) or the position in the range
/// scaled to a comparable width (`Linear`), so that a step of 0.7 is a doubling or feels like
/// one. A choice has no coordinates; its options are unordered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Domain {
    /// Numbers of one sign whose ratios matter; the sign is that of `low`.
    Log { low: f64, high: f64 },
    /// Shares strictly between 0 and 1.
    Logit { low: f64, high: f64 },
    /// Numbers whose differences matter.
    Linear { low: f64, high: f64 },
    /// One of these texts.
    Choice(Vec<String>),
}

impl Domain {
    /// The derived range of a number nobody annotated; `None` when it has no scale, like 0.
    pub(crate) fn around(value: f64, integer: bool) -> Option<Self> {
        let size = value.abs();
        if size == 0.0 || !(1e-30..1e30).contains(&size) {
            return None;
        }
        if integer {
            let (low, high) = ((size / EVIDENT_FACTOR).ceil(), size * EVIDENT_FACTOR);
            let sign = value.signum();
            return Some(Self::Log { low: sign * low, high: sign * high });
        }
        if value > 0.0 && value < 1.0 {
            let odds = value / (1.0 - value);
            let share = |odds: f64| odds / (1.0 + odds);
            let (low, high) = (share(odds / EVIDENT_FACTOR), share(odds * EVIDENT_FACTOR));
            return (high < 1.0).then_some(Self::Logit { low, high });
        }
        Some(Self::Log { low: value / EVIDENT_FACTOR, high: value * EVIDENT_FACTOR })
    }

    /// The domain widened so that it holds `value`; `None` when its coordinates cannot.
    pub(crate) fn including(self, value: f64) -> Option<Self> {
        match self {
            Self::Log { low, high } => (value * low.signum() > 0.0)
                .then_some(Self::Log { low: low.min(value), high: high.max(value) }),
            Self::Logit { low, high } => (value > 0.0 && value < 1.0)
                .then_some(Self::Logit { low: low.min(value), high: high.max(value) }),
            Self::Linear { low, high } => {
                Some(Self::Linear { low: low.min(value), high: high.max(value) })
            }
            Self::Choice(_) => None,
        }
    }

    /// Both ends, the smaller one first.
    pub(crate) fn range(&self) -> (f64, f64) {
        match self {
            Self::Log { low, high } | Self::Logit { low, high } | Self::Linear { low, high } => {
                (low.min(*high), low.max(*high))
            }
            Self::Choice(_) => (0.0, 0.0),
        }
    }

    /// The coordinate of `value`, which is drawn into the range first.
    pub(crate) fn coordinate(&self, value: f64) -> f64 {
        let (lowest, highest) = self.range();
        let value = value.clamp(lowest, highest);
        match self {
            Self::Log { .. } => value.abs().ln(),
            Self::Logit { .. } => (value / (1.0 - value)).ln(),
            Self::Linear { .. } => (value - lowest) / (highest - lowest) * LINEAR_WIDTH,
            Self::Choice(_) => 0.0,
        }
    }

    /// The value at a coordinate, within the range, rounded to what is worth writing.
    pub(crate) fn value(&self, coordinate: f64, integer: bool) -> f64 {
        let (lowest, highest) = self.range();
        let raw = match self {
            Self::Log { low, .. } => low.signum() * coordinate.exp(),
            Self::Logit { .. } => 1.0 / (1.0 + (-coordinate).exp()),
            Self::Linear { .. } => lowest + coordinate / LINEAR_WIDTH * (highest - lowest),
            Self::Choice(_) => 0.0,
        };
        let raw = raw.clamp(lowest, highest);
        if integer {
            return raw.round().clamp(lowest.ceil(), highest.floor());
        }
        let rounded = match self {
            // What matters near 1 is the distance from 1.
            Self::Logit { .. } if raw > 0.5 => {
                let complement = round_significant(1.0 - raw, DIGITS - 1);
                // Printed and read again, so that no tail of binary digits is left.
                round_significant(1.0 - complement, 12)
            }
            Self::Linear { .. } => {
                let unit = round_significant((highest - lowest) / 1000.0, 1);
                round_significant((raw / unit).round() * unit, 12)
            }
            _ => round_significant(raw, DIGITS),
        };
        rounded.clamp(lowest, highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_rounded_to_what_is_worth_writing() {
        let check = |domain: Domain, value: f64, step: f64, expected: f64| {
            let coordinate = domain.coordinate(value) + step;
            assert_eq!(domain.value(coordinate, false), expected, "{domain:?}");
        };
        check(Domain::Log { low: 1e-4, high: 1.0 }, 3e-3, 0.3123, 4.1e-3);
        check(Domain::Log { low: 1e-4, high: 1.0 }, 0.5, 9.0, 1.0);
        check(Domain::Logit { low: 0.5, high: 0.9999 }, 0.99, 0.7, 0.995);
        check(Domain::Linear { low: -1.0, high: 1.0 }, 0.0, 0.5, 0.25);
        check(Domain::Log { low: -0.1, high: -10.0 }, -2.0, 0.7, -4.03);
    }

    #[test]
    fn evident_ranges_follow_the_number() {
        assert_eq!(Domain::around(0.0, false), None);
        assert_eq!(Domain::around(3.0, true), Some(Domain::Log { low: 1.0, high: 48.0 }));
        assert_eq!(Domain::around(-2.0, true), Some(Domain::Log { low: -1.0, high: -32.0 }));
        assert_eq!(Domain::around(2.0, false), Some(Domain::Log { low: 0.125, high: 32.0 }));
        let Some(Domain::Logit { low, high }) = Domain::around(0.9, false) else {
            panic!("a share has log-odds")
        };
        assert!((low - 0.36).abs() < 1e-12 && high > 0.993 && high < 1.0, "{low} {high}");
    }

    proptest! {
        #[test]
        fn coordinates_and_values_agree(value in 1e-6_f64..0.999_999, step in -9.0_f64..9.0) {
            for domain in [
                Domain::around(value, false).expect("has a scale"),
                Domain::Log { low: 1e-7, high: 10.0 },
                Domain::Linear { low: -3.0, high: 3.0 },
            ] {
                let (low, high) = domain.range();
                let moved = domain.value(domain.coordinate(value) + step, false);
                prop_assert!((low..=high).contains(&moved));
                // Rounding is stable: what was written is read back as it is.
                let again = domain.value(domain.coordinate(moved), false);
                prop_assert!((again - moved).abs() <= 1e-9 * moved.abs().max(1e-9));
            }
        }
    }
}
