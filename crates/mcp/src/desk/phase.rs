//! How far a run is, and how it ended.

use forerunner_runtime::event::{EndReason, Summary};
use std::sync::Arc;

/// How far the run is.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    /// The search did not begin yet.
    Starting(Start),
    Searching,
    /// The budget is used up; finalists are measured again.
    Confirming,
    /// Nothing more happens.
    Over(Arc<End>),
}

impl Default for Phase {
    fn default() -> Self {
        Self::Starting(Start::Reference)
    }
}

/// What a run waits for before it begins to search.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start {
    /// The environment is loaded and the reference measured, or read back with all the rest.
    Reference,
    /// Another process works on the run.
    Others,
}

impl Start {
    /// The same in words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Reference => "the reference program is being measured",
            Self::Others => "an earlier session of this run finishes what was submitted to it",
        }
    }
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
    /// US dollars that mutators may spend.
    pub(crate) dollars: Option<f64>,
    /// Tokens that mutators may send and receive.
    pub(crate) tokens: Option<u64>,
    /// Wall seconds gone.
    pub(crate) gone: f64,
}
