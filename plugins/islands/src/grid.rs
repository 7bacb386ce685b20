//! The feature grid: which cell a program belongs to.

use forerunner_sdk::{Error, Feature, Metrics, Result};

/// Sizes are told apart up to this factor from the reference's size, either way.
const SIZE_FACTOR: f64 = 4.0;

/// The cells of one island, spanned by the environment's features and the size of the source.
#[derive(Debug, Clone)]
pub(crate) struct Grid {
    features: Vec<Feature>,
    /// Name, unlike any metric's, of the feature that is the size of the source.
    size: Feature,
    n_cells: u64,
}

impl Grid {
    /// The grid for an environment's `features` and a reference of `reference_bytes` bytes.
    pub(crate) fn new(
        features: &[Feature],
        size_bins: u32,
        reference_bytes: usize,
    ) -> Result<Self> {
        let mut n_cells = u64::from(size_bins);
        for feature in features {
            let name = format!("features.{}", feature.metric);
            let usable = feature.low.is_finite()
                && feature.high.is_finite()
                && feature.low < feature.high
                && feature.bins > 0
                && (!feature.log || feature.low > 0.0);
            if !usable {
                return Err(Error::config(
                    &name,
                    "needs low < high, at least one bin, and low > 0 when `log`",
                ));
            }
            n_cells = n_cells
                .checked_mul(u64::from(feature.bins))
                .ok_or_else(|| Error::config(&name, "too many cells in all; use fewer bins"))?;
        }
        let reference = reference_bytes.max(1) as f64;
        let size = Feature {
            metric: String::new(),
            low: reference / SIZE_FACTOR,
            high: reference * SIZE_FACTOR,
            bins: size_bins,
            log: true,
        };
        Ok(Self { features: features.to_vec(), size, n_cells })
    }

    /// How many cells there are.
    pub(crate) fn n_cells(&self) -> u64 {
        self.n_cells
    }

    /// The cell of a program. A metric that is missing shares the first bin.
    pub(crate) fn cell(&self, metrics: &Metrics, bytes: u64) -> u64 {
        let first = u64::from(bin(&self.size, Some(bytes as f64)));
        self.features.iter().fold(first, |cell, feature| {
            let value = metrics.get(&feature.metric).copied();
            cell * u64::from(feature.bins) + u64::from(bin(feature, value))
        })
    }
}

fn bin(feature: &Feature, value: Option<f64>) -> u32 {
    let Some(value) = value.filter(|value| value.is_finite()) else { return 0 };
    let scale = |x: f64| if feature.log { x.max(f64::MIN_POSITIVE).ln() } else { x };
    let (low, high) = (scale(feature.low), scale(feature.high));
    let share = (scale(value) - low) / (high - low);
    // The cast saturates: everything below the range is 0.
    ((share * f64::from(feature.bins)) as u32).min(feature.bins - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(low: f64, high: f64, bins: u32, log: bool) -> Feature {
        Feature { metric: "m".into(), low, high, bins, log }
    }

    #[test]
    fn bins_cover_the_range_and_its_outside() {
        let check = |value: f64, log: bool, expected: u32| {
            assert_eq!(bin(&feature(1.0, 100.0, 2, log), Some(value)), expected, "{value}");
        };
        check(-5.0, false, 0);
        check(49.0, false, 0);
        check(52.0, false, 1);
        check(1e9, false, 1);
        check(0.0, true, 0);
        check(9.0, true, 0);
        check(11.0, true, 1);
        check(f64::NAN, true, 0);
        assert_eq!(bin(&feature(1.0, 2.0, 3, false), None), 0);
    }

    #[test]
    fn cells_tell_size_and_features_apart() {
        let grid = Grid::new(&[feature(0.0, 1.0, 10, false)], 4, 1000).expect("sound");
        assert_eq!(grid.n_cells(), 40);
        let metrics = |value| Metrics::from([("m".to_owned(), value)]);
        let cell = grid.cell(&metrics(0.55), 1000);
        assert_eq!(cell, grid.cell(&metrics(0.58), 1001));
        assert_ne!(cell, grid.cell(&metrics(0.65), 1000));
        assert_ne!(cell, grid.cell(&metrics(0.55), 3000));
        assert!(grid.cell(&metrics(9.0), u64::MAX) < 40);
    }

    #[test]
    fn senseless_features_are_refused() {
        for bad in [
            feature(1.0, 1.0, 2, false),
            feature(0.0, 1.0, 2, true),
            feature(0.0, 1.0, 0, false),
            feature(f64::NAN, 1.0, 2, false),
        ] {
            let error = Grid::new(&[bad], 4, 1000).expect_err("senseless");
            assert!(error.to_string().contains("`features.m`"), "{error}");
        }
        let many = vec![feature(0.0, 1.0, u32::MAX, false); 3];
        assert!(Grid::new(&many, 4, 1000).is_err());
    }
}
