//! What can be configured, and which values make sense.

use forerunner_sdk::{Error, Result};
use serde::{Deserialize, Serialize};

/// Configuration of the mutator `tuner`.
///
/// ```
/// let config: forerunner_tuner::Config = serde_json::from_str(r#"{"noise": 0.02}"#).unwrap();
/// assert_eq!((config.noise, config.step), (0.02, 0.35));
/// assert!(serde_json::from_str::<forerunner_tuner::Config>(r#"{"nose": 1}"#).is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Relative standard deviation of the leading objective between evaluations of identical
    /// work. Smaller gains count for nothing.
    pub noise: f64,
    /// The same for the lower objectives.
    pub noise_secondary: f64,
    /// First step of every constant, in natural logarithms: 0.35 multiplies or divides by 1.42.
    pub step: f64,
    /// How many children are imagined for each one that is proposed. The time a proposal takes
    /// is about proportional.
    pub candidates: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { noise: 0.01, noise_secondary: 0.003, step: 0.35, candidates: 48 }
    }
}

impl Config {
    /// Answers the configuration when it makes sense.
    ///
    /// # Errors
    /// When a value is out of range; the error names the field and the range.
    pub fn validated(self) -> Result<Self> {
        let in_range = |field: &str, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Error::config(field, format!("{value} is not within {low} and {high}")))
        };
        in_range("noise", self.noise, 1e-6, 1.0)?;
        in_range("noise_secondary", self.noise_secondary, 1e-6, 1.0)?;
        in_range("step", self.step, 0.01, 3.0)?;
        in_range("candidates", self.candidates as f64, 1.0, 10_000.0)?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_named() {
        let check = |json: &str, expected: &str| {
            let config: Config = serde_json::from_str(json).expect("well-formed");
            assert_eq!(config.validated().expect_err("out of range").to_string(), expected);
        };
        check(r#"{"noise": 0}"#, "bad configuration: `noise`: 0 is not within 0.000001 and 1");
        check(
            r#"{"candidates": 0}"#,
            "bad configuration: `candidates`: 0 is not within 1 and 10000",
        );
        assert!(Config::default().validated().is_ok());
    }
}
