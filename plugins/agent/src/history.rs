//! What became of the agent's own ideas.

use crate::text::line;
use forerunner_sdk::{Interval, Metrics, Objectives, Outcome, Verdict};
use std::collections::VecDeque;
use std::fmt::Write as _;

/// Ideas that are kept in mind.
const KEPT: usize = 200;
/// Ideas that are told.
const TOLD: usize = 30;

/// The latest ideas, oldest first.
#[derive(Debug, Default)]
pub(crate) struct History {
    tried: VecDeque<Tried>,
}

#[derive(Debug)]
struct Tried {
    summary: String,
    expected: Option<Interval>,
    verdict: Verdict,
    reason: String,
    parent: Metrics,
    child: Metrics,
}

impl History {
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        if self.tried.len() == KEPT {
            self.tried.pop_front();
        }
        let reason =
            outcome.evaluation.findings.first().map(|finding| {
                format!("{}: {}", line(&finding.rule, 60), line(&finding.message, 200))
            });
        self.tried.push_back(Tried {
            summary: line(&outcome.idea.summary, 200),
            expected: outcome.idea.expected_gain,
            verdict: outcome.evaluation.verdict,
            reason: reason.unwrap_or_default(),
            parent: outcome.parent_evaluation.metrics.clone(),
            child: outcome.evaluation.metrics.clone(),
        });
    }

    /// In words, latest first; empty when there is nothing to tell.
    pub(crate) fn told(&self, objectives: &Objectives) -> String {
        let mut text = String::new();
        for tried in self.tried.iter().rev().take(TOLD) {
            let expected = tried.expected.map(|interval| format!("expected {}", gains(interval)));
            let came = match tried.verdict {
                Verdict::Accepted => match objectives.gain(&tried.parent, &tried.child) {
                    Some(gain) => format!("measured {}", percent(gain)),
                    None => "measured, but not comparable".to_owned(),
                },
                Verdict::Rejected => format!("not believed ({})", tried.reason),
                Verdict::Unverified => "could not be verified".to_owned(),
                Verdict::Failed(cause) => format!("failed: {} ({})", cause.as_str(), tried.reason),
            };
            let parts: Vec<String> = expected.into_iter().chain([came]).collect();
            _ = writeln!(text, "- {}: {}", tried.summary, parts.join(", "));
        }
        text
    }
}

/// An interval of relative gains, for people.
pub(crate) fn gains(interval: Interval) -> String {
    format!("{} to {}", percent(interval.low), percent(interval.high))
}

/// A relative gain, for people.
pub(crate) fn percent(gain: f64) -> String {
    format!("{:+.1} %", 100.0 * gain)
}
