//! What proposals get to know of the past.

use forerunner_sdk::{Cause, Cost, Verdict};

/// An idea as a prompt shows it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(crate) struct Tried {
    pub(crate) iteration: u64,
    /// Whether it was tried on the program to change.
    pub(crate) here: bool,
    pub(crate) summary: String,
    pub(crate) expected: String,
    pub(crate) outcome: String,
}

/// What a proposal goes by; later outcomes do not change it.
#[derive(Debug)]
pub(crate) struct Known {
    /// Outcomes from this number on came too late for this proposal.
    pub(crate) before: u64,
    /// The most telling ideas: tried on the same parent, best, latest.
    pub(crate) tried: Vec<Tried>,
    /// How many ideas are remembered.
    pub(crate) total: usize,
    /// Whether two-stage prompting has begun before.
    pub(crate) ideas_first: bool,
}

/// What a proposal of a model gained, and what it cost.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Credit {
    pub(crate) model: String,
    /// At least 0.
    pub(crate) gain: f64,
    pub(crate) cost: Cost,
}

/// An idea or a change that was there before.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Repeat {
    pub(crate) iteration: u64,
    pub(crate) summary: String,
    pub(crate) outcome: String,
}

/// Whether the idea had its chance: what did not run to its end may be tried again, because that may
/// have been the change's fault alone.
pub(super) fn was_measured(verdict: Verdict) -> bool {
    !matches!(
        verdict,
        Verdict::Failed(
            Cause::Patch
                | Cause::Rule
                | Cause::Compile
                | Cause::Crash
                | Cause::Timeout
                | Cause::Memory
                | Cause::Protocol
                | Cause::Worker
                | Cause::Mutator
                | Cause::Other
        )
    )
}
