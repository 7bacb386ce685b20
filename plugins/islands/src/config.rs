//! What can be configured, and which values make sense.

use forerunner_sdk::{Error, Result};
use serde::{Deserialize, Serialize};

/// Configuration of the selector `islands`.
///
/// ```
/// let config: forerunner_islands::Config = serde_json::from_str(r#"{"islands": 2}"#).unwrap();
/// assert_eq!((config.islands, config.elites), (2, 20));
/// assert!(serde_json::from_str::<forerunner_islands::Config>(r#"{"isle": 2}"#).is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How many islands evolve side by side. Short searches (below about 50 evaluations) lose
    /// nothing with one or two: the elite archive is shared anyway.
    pub islands: u32,
    /// How many of the best programs of all islands the elite archive keeps.
    pub elites: usize,
    /// How many inspirations come with each parent, at most.
    pub inspirations: usize,
    /// Share of parents drawn uniformly from the child's island.
    pub exploration: f64,
    /// Share of parents drawn from the elite archive. What `exploration` and `exploitation`
    /// leave is drawn from the child's island by rank.
    pub exploitation: f64,
    /// How greedy a draw by rank is: member `floor(n · u^pressure)` of `n`, best first, for a
    /// uniform `u`. At 1 all are equal; at 3 the best of twenty is drawn 37 % of the time.
    pub pressure: f64,
    /// Migration takes place after every so many inserted programs, failed ones included; 0
    /// switches it off. Counted in programs because insertions are all that a resumed run
    /// repeats; the default is five generations of ten.
    pub migration_every: u64,
    /// Share of each island, best first and at least one program, that is copied to the next
    /// island of the ring.
    pub migration_share: f64,
    /// How many bins the size of the source has, equal in the logarithm, from a quarter of the
    /// reference's size to four times that size.
    pub size_bins: u32,
    /// How many programs an island keeps at most, whatever the number of cells; the worst goes.
    pub capacity: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            islands: 4,
            elites: 20,
            inspirations: 4,
            exploration: 0.2,
            exploitation: 0.5,
            pressure: 3.0,
            migration_every: 50,
            migration_share: 0.1,
            size_bins: 16,
            capacity: 500,
        }
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
        in_range("islands", f64::from(self.islands), 1.0, 1000.0)?;
        in_range("elites", self.elites as f64, 1.0, 10_000.0)?;
        in_range("inspirations", self.inspirations as f64, 0.0, 100.0)?;
        in_range("exploration", self.exploration, 0.0, 1.0)?;
        in_range("exploitation", self.exploitation, 0.0, 1.0)?;
        in_range("exploration + exploitation", self.exploration + self.exploitation, 0.0, 1.0)?;
        in_range("pressure", self.pressure, 1.0, 100.0)?;
        in_range("migration_share", self.migration_share, 0.0, 1.0)?;
        in_range("size_bins", f64::from(self.size_bins), 1.0, 1000.0)?;
        in_range("capacity", self.capacity as f64, 1.0, 1e6)?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: &str) {
        let config: Config = serde_json::from_str(json).expect("well-formed");
        assert_eq!(config.validated().expect_err("out of range").to_string(), expected);
    }

    #[test]
    fn values_out_of_range_are_named() {
        check(r#"{"islands": 0}"#, "bad configuration: `islands`: 0 is not within 1 and 1000");
        check(
            r#"{"exploration": 0.7, "exploitation": 0.5}"#,
            "bad configuration: `exploration + exploitation`: 1.2 is not within 0 and 1",
        );
        check(r#"{"pressure": 0.5}"#, "bad configuration: `pressure`: 0.5 is not within 1 and 100");
        assert!(Config::default().validated().is_ok());
    }
}
