//! What the run loop knows of a hook: a name, a digest, and an opinion on a measurement.

use forerunner_core::{Finding, Metrics, Permission};
use std::collections::BTreeSet;

pub(super) use forerunner_verify::Subject;

/// Somebody who judges measurements.
pub(super) trait Judge: Send + Sync {
    fn name(&self) -> &str;
    fn version(&self) -> &str;
    /// Of the component, in hexadecimal digits.
    fn digest(&self) -> &str;
    /// What it needs to look at and do.
    fn wants(&self) -> &BTreeSet<Permission>;
    /// Its opinion; an error names hook, version and cause.
    fn judge(
        &self,
        subject: &Subject<'_>,
        permitted: &BTreeSet<Permission>,
    ) -> Result<Ruling, String>;
}

/// What a hook concludes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opinion {
    Accept,
    Reject,
    Undecided,
}

impl Opinion {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accepted",
            Self::Reject => "rejected",
            Self::Undecided => "undecided",
        }
    }
}

/// What a hook says of a measurement.
pub(super) struct Ruling {
    pub(super) opinion: Opinion,
    pub(super) findings: Vec<Finding>,
    /// Metrics that it computed from evidence.
    pub(super) metrics: Metrics,
    /// Wall time that it took.
    pub(super) seconds: f64,
    pub(super) fuel: u64,
}
