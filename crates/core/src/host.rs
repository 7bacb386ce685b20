//! What a plugin may ask of the host while it works.

use crate::{Answer, Call, Check, Cost, Error, Program, Result};
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

    /// For mutators: looks a program over as the environment will before it is measured, and uses
    /// up nothing. A mutator may so find mistakes before it proposes.
    ///
    /// # Errors
    /// When the check could not be done, and in hosts that offer none.
    fn check(&self, program: &Program) -> Result<Check> {
        let _ = program;
        Err(Error::failed("this host checks no programs"))
    }

    /// For mutators: what came of this very call when it was made before, in this run or in the
    /// one that is replayed. Ask before calling anybody outside.
    ///
    /// # Errors
    /// In a replay, when the recording lacks the call; the proposal then fails with this error.
    fn recall(&self, call: &Call) -> Result<Option<Answer>> {
        let _ = call;
        Ok(None)
    }

    /// For mutators: keeps what came of a call, before anything is made of it.
    ///
    /// # Errors
    /// When it cannot be written, for example on a full disk.
    fn remember(&self, call: &Call, answer: &Answer) -> Result<()> {
        let _ = (call, answer);
        Ok(())
    }

    /// For mutators: counts what was spent for this proposal, at once and also when the proposal
    /// fails; besides [`crate::Proposal::cost`]. Recalled answers count as well.
    fn spend(&self, cost: &Cost) {
        let _ = cost;
    }
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
