//! Names of the curves that are drawn of a GPU, and their shape.
//!
//! Their steps are not steps of training but **milliseconds since the clock started**, which the names
//! end on: `gpu_watts_by_ms`.

use forerunner_core::{Series, thinned};

/// Clock of the multiprocessors in megahertz.
pub(super) const SM_MHZ: &str = "gpu_sm_mhz_by_ms";
/// Clock of the memory in megahertz.
pub(super) const MEMORY_MHZ: &str = "gpu_memory_mhz_by_ms";
/// Power in watts.
pub(super) const WATTS: &str = "gpu_watts_by_ms";
/// Temperature in degrees Celsius.
pub(super) const CELSIUS: &str = "gpu_celsius_by_ms";
/// Share of time with a kernel running, in percent.
pub(super) const BUSY_PERCENT: &str = "gpu_busy_percent_by_ms";
/// Memory in use in bytes.
pub(super) const MEMORY_BYTES: &str = "gpu_memory_bytes_by_ms";

/// Points that are passed on of each.
const POINTS: usize = 512;

/// A curve as telemetry wants it: each step once and in order, not too many.
pub(super) fn ordered_and_thinned(points: impl Iterator<Item = (u64, f64)>) -> Series {
    let mut series = Series::new();
    for (step, value) in points {
        if series.last().is_none_or(|(last, _)| *last < step) && value.is_finite() {
            series.push((step, value));
        }
    }
    thinned(&series, POINTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_unique_and_bounded() {
        let few = [(0, 1.0), (0, 2.0), (5, f64::NAN), (5, 3.0), (4, 1.0)];
        assert_eq!(ordered_and_thinned(few.into_iter()), [(0, 1.0), (5, 3.0)]);
        assert_eq!(ordered_and_thinned((0..9999).map(|step| (step, 0.0))).len(), POINTS);
    }
}
