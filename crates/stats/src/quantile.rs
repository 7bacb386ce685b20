//! Quantiles of the normal, Student and chi-squared distributions.

use statrs::distribution::{ChiSquared, ContinuousCDF, Normal, StudentsT};

/// The value that a standard normal variable stays below with probability `p`.
///
/// # Panics
/// When `p` is not inside `(0, 1)`.
pub fn normal_quantile(p: f64) -> f64 {
    assert_open_unit(p, "probability");
    Normal::standard().inverse_cdf(p)
}

/// The value that a Student variable of `degrees` degrees of freedom stays below with
/// probability `p`. Fractional degrees are meaningful (Welch).
///
/// # Panics
/// When `p` is not inside `(0, 1)` or `degrees` is not positive.
pub fn t_quantile(p: f64, degrees: f64) -> f64 {
    assert_open_unit(p, "probability");
    if (p - 0.5).abs() < f64::EPSILON {
        return 0.0;
    }
    // With many degrees of freedom `statrs` 0.19 loses digits (1.84 instead of 1.96 at 9e6), and
    // the expansion around the normal is exact to 1e-9 (Abramowitz and Stegun 26.7.5).
    if degrees > 1000.0 {
        let z = normal_quantile(p);
        let terms = [
            (z.powi(3) + z) / 4.0,
            (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0,
            (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0,
        ];
        return z + (terms[0] + (terms[1] + terms[2] / degrees) / degrees) / degrees;
    }
    let student = StudentsT::new(0.0, 1.0, degrees).expect("degrees of freedom are positive");
    student.inverse_cdf(p)
}

/// An upper confidence limit of a standard deviation that was estimated as `sd` with `degrees`
/// degrees of freedom: `sd * sqrt(degrees / χ²)` at the lower quantile of χ². What
/// [`crate::EProcess`] wants as its σ when few seeds are known.
///
/// # Panics
/// When `confidence` is not inside `(0, 1)` or `degrees` is 0.
pub fn sd_upper_limit(sd: f64, degrees: usize, confidence: f64) -> f64 {
    assert_open_unit(confidence, "confidence");
    let degrees = degrees as f64;
    let chi_squared = ChiSquared::new(degrees).expect("degrees of freedom are positive");
    sd * (degrees / chi_squared.inverse_cdf(1.0 - confidence)).sqrt()
}

/// Panics unless `value` is strictly between 0 and 1.
pub(crate) fn assert_open_unit(value: f64, name: &str) {
    assert!(value > 0.0 && value < 1.0, "{name} must be between 0 and 1, not {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(value: f64, expected: f64, tolerance: f64) {
        assert!((value - expected).abs() <= tolerance, "{value} is not {expected}");
    }

    #[test]
    fn student_quantiles_agree_with_the_printed_table() {
        // NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2, and R's `qt`.
        for (p, degrees, expected) in [
            (0.975, 1.0, 12.706_204_736),
            (0.975, 2.0, 4.302_652_730),
            (0.975, 4.0, 2.776_445_105),
            (0.975, 9.0, 2.262_157_163),
            (0.975, 30.0, 2.042_272_456),
            (0.975, 120.0, 1.979_930_405),
            (0.99, 9.0, 2.821_437_925),
            (0.999, 5.0, 5.893_429_531),
            (0.95, 10.0, 1.812_461_123),
        ] {
            close(t_quantile(p, degrees), expected, 1e-6);
            close(t_quantile(1.0 - p, degrees), -expected, 1e-6);
        }
        close(t_quantile(0.5, 3.0), 0.0, 0.0);
    }

    #[test]
    fn many_degrees_of_freedom_are_normal() {
        close(normal_quantile(0.975), 1.959_963_985, 1e-8);
        close(t_quantile(0.975, 9e6), normal_quantile(0.975), 1e-6);
        for p in [0.501, 0.6, 0.9, 0.975, 0.99999] {
            close(t_quantile(p, 1000.0), t_quantile(p, 1000.0 + 1e-9), 1e-8);
        }
    }

    #[test]
    fn the_limit_of_a_standard_deviation_uses_the_lower_quantile() {
        // χ² of 10 degrees is below 3.940 with probability 0.05.
        close(sd_upper_limit(1.0, 10, 0.95), (10.0_f64 / 3.940_299).sqrt(), 1e-5);
    }
}
