//! How far a run is, and how it ended.

use forerunner_runtime::event::{EndReason, Summary};
use std::sync::Arc;

/// How far the run is.
#[derive(Debug, Clone, Default)]
pub(crate) enum Phase {
    /// The environment is loaded and the reference measured.
    #[default]
    Starting,
    Searching,
    /// The budget is used up; finalists are measured again.
    Confirming,
    /// Nothing more happens.
    Over(Arc<End>),
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct End {
    /// The result, unless there is none.
    pub(crate) summary: Option<Summary>,
    /// Why there is no result.
    pub(crate) error: Option<String>,
    /// Whether it never came to searching.
    pub(crate) at_start: bool,
}

impl End {
    /// Whether the budget is used up, as opposed to a run that was stopped or failed.
    pub(crate) fn is_complete(&self) -> bool {
        self.summary.as_ref().is_some_and(|summary| summary.reason != EndReason::Interrupted)
    }
}

/// What a budget allows, and what is known to be used.
#[derive(Debug, Clone, Default)]
pub(crate) struct Budget {
    /// Children in all.
    pub(crate) evaluations: Option<u64>,
    /// Wall seconds of this session.
    pub(crate) seconds: Option<f64>,
    /// Wall seconds gone.
    pub(crate) gone: f64,
}
