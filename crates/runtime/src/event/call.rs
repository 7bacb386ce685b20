//! The event of a call to a model.

use forerunner_core::{Answer, Answered, Call, Cost};
use serde::{Deserialize, Serialize};

/// A mutator asked a model, or was given the answer that a recording holds. The words are in the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Called {
    /// The proposal that it was made for.
    pub iteration: u64,
    /// Its address, by which the store finds it.
    pub key: String,
    /// Who was asked.
    pub model: String,
    /// What for, for example `idea`.
    pub purpose: String,
    /// What it cost.
    #[serde(flatten)]
    pub cost: Cost,
    /// Wall seconds, waiting and retries included.
    pub seconds: f64,
    /// Requests that were sent.
    pub attempts: u32,
    /// Why there is no reply: the kind of failure and what it was, cut to a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Most characters of a failure's message in an event.
const MESSAGE: usize = 200;

impl Called {
    pub(crate) fn new(iteration: u64, call: &Call, answer: &Answer) -> Self {
        let failure = match &answer.outcome {
            Answered::Reply { .. } => None,
            Answered::Failed { kind, message } => {
                let line: String =
                    message.lines().next().unwrap_or_default().chars().take(MESSAGE).collect();
                Some(format!("{kind}: {line}"))
            }
        };
        Self {
            iteration,
            key: call.key(),
            model: call.model.clone(),
            purpose: call.purpose.clone(),
            cost: answer.cost,
            seconds: answer.seconds,
            attempts: answer.attempts,
            failure,
        }
    }
}
