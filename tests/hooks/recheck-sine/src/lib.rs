//! The hook `recheck-sine`: computes the score of a construction afresh, from the construction alone.
//!
//! An environment asks for a polynomial c1·x + c3·x³ + c5·x⁵ that is close to the sine on [0, π/2],
//! and keeps its coefficients as the artifact `sine.toml`. Whether it is close can be computed by
//! anyone, so nobody needs to trust the program that found it, or even the environment's own code:
//! this hook replaces the metric `error` by what it computed.

#[cfg(target_arch = "wasm32")]
mod component;

use std::f64::consts::FRAC_PI_2;

/// Name of the artifact.
pub const ARTIFACT: &str = "sine.toml";
/// Name of the metric.
pub const METRIC: &str = "error";
/// Intervals between the points that are looked at. The error of a polynomial with coefficients of
/// ordinary size changes by less than 1e-5 of its largest value from one point to the next.
const INTERVALS: u32 = 100_000;

/// The three coefficients in a text with one `name = number` in each line.
///
/// # Errors
/// When there are not exactly three numbers, or one of them is not finite.
pub fn coefficients(text: &str) -> Result<[f64; 3], String> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let number = |line: &str| line.split_once('=')?.1.trim().parse::<f64>().ok();
    let numbers: Option<Vec<f64>> = lines.map(number).collect();
    let numbers = numbers.filter(|numbers| numbers.iter().all(|number| number.is_finite()));
    numbers
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or_else(|| "give exactly three lines `name = number`, all finite".to_owned())
}

/// Largest distance from the sine on [0, π/2].
pub fn largest_error([c1, c3, c5]: [f64; 3]) -> f64 {
    let distance = |index: u32| {
        let x = FRAC_PI_2 * f64::from(index) / f64::from(INTERVALS);
        (x * (c1 + x * x * (c3 + x * x * c5)) - x.sin()).abs()
    };
    (0..=INTERVALS).map(distance).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coefficients_are_three_finite_numbers() {
        assert_eq!(coefficients("c1 = 1.0\n\nc3=-0.5\nc5 = 2e-3\n"), Ok([1.0, -0.5, 2e-3]));
        for text in ["", "c1 = 1", "1\n2\n3", "a = 1\nb = 2\nc = x", "a=1\nb=2\nc=3\nd=4"] {
            assert!(coefficients(text).is_err(), "{text}");
        }
        for bad in ["NaN", "inf", "-inf", "1e999"] {
            assert!(coefficients(&format!("a = 1\nb = 2\nc = {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn errors_are_those_of_the_literature() {
        let check = |coefficients, expected: f64, precision: f64| {
            let error = largest_error(coefficients);
            assert!((error - expected).abs() < precision, "{error}");
        };
        // The Taylor polynomial is worst at π/2.
        let end = FRAC_PI_2 - FRAC_PI_2.powi(3) / 6.0 + FRAC_PI_2.powi(5) / 120.0 - 1.0;
        check([1.0, -1.0 / 6.0, 1.0 / 120.0], end, 1e-12);
        // The chord is exact at both ends; in between, where the cosine is 2/π, it is not.
        let middle = (2.0 / std::f64::consts::PI).acos();
        check([1.0 / FRAC_PI_2, 0.0, 0.0], middle.sin() - middle / FRAC_PI_2, 1e-9);
        check([0.0; 3], 1.0, 1e-12);
    }
}
