//! What a plugin may ask of the host while it works.

use crate::Result;
use std::path::PathBuf;

/// The host's side of a call into a plugin.
pub trait Host: Send + Sync {
    /// Adds a point to the curve `series`. Arrives in the evaluation's telemetry.
    fn record(&self, series: &str, step: u64, value: f64);

    /// Tells people how far the work is: `fraction` in `0.0..=1.0`.
    fn progress(&self, fraction: f64, message: &str);

    /// Keeps `bytes` with the evaluation under `name` and answers where.
    ///
    /// # Errors
    /// When the bytes cannot be written, for example on a full disk.
    fn store(&self, name: &str, bytes: &[u8]) -> Result<PathBuf>;

    /// A folder that outlives this call and is shared by all calls of one run: the place for
    /// results that depend on content alone, such as compiled programs.
    fn cache_dir(&self) -> PathBuf;

    /// Whether the result is no longer wanted. Long work asks at least once a second and then
    /// answers [`crate::Error::Cancelled`].
    fn cancelled(&self) -> bool;
}

/// A host that records nothing and never cancels: for doc tests and one-off calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHost;

impl Host for NoHost {
    fn record(&self, _series: &str, _step: u64, _value: f64) {}
    fn progress(&self, _fraction: f64, _message: &str) {}
    fn store(&self, name: &str, _bytes: &[u8]) -> Result<PathBuf> {
        Ok(PathBuf::from(name))
    }
    fn cache_dir(&self) -> PathBuf {
        PathBuf::from(".")
    }
    fn cancelled(&self) -> bool {
        false
    }
}
