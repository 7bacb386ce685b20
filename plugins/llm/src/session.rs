//! The questions of one proposal: who is asked, who stands in, and what it all cost.

use crate::{
    ask::{Ask, Query},
    text,
};
use forerunner_sdk::{Answered, Cost, Error, Host, Message, Role};

/// Kinds of failures for which another model is asked: this one cannot be had.
const UNAVAILABLE: [&str; 6] =
    ["circuit_open", "unavailable", "rate_limited", "timeout", "network", "unauthorized"];
/// Kinds of failures that amount to an answer that cannot be read.
const UNREADABLE: [&str; 2] = [EMPTY, "malformed"];
/// Nothing came, or only thoughts.
const EMPTY: &str = "empty";

/// What ends a proposal.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The host's reason, passed on as it is: cancelled, a replay's miss, a broken template.
    Host(Error),
    /// No usable proposal came of the answers.
    Lost(String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Host(error)
    }
}

/// What a model said.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) model: String,
    /// Empty where nothing readable came.
    pub(crate) text: String,
    /// What the client says of an empty answer; empty for others.
    pub(crate) nothing: String,
    /// Whether it was cut off at the limit on its length.
    pub(crate) cut: bool,
}

/// The calls of one proposal.
pub(crate) struct Session<'a> {
    pub(crate) ask: &'a dyn Ask,
    pub(crate) host: &'a dyn Host,
    pub(crate) seed: u64,
    /// All models, the chosen one first.
    pub(crate) order: Vec<String>,
    /// Models that could not be had.
    pub(crate) down: Vec<String>,
    /// Calls so far; numbers the next one.
    pub(crate) calls: u32,
    pub(crate) prompt_bytes: u64,
    pub(crate) spent: Cost,
    pub(crate) unavailable: Vec<String>,
}

impl Session<'_> {
    /// Asks the model that has the role, or else the chosen one; those after it where it cannot be
    /// had.
    pub(crate) fn ask(
        &mut self,
        role: Option<&str>,
        purpose: &str,
        messages: &[Message],
    ) -> Result<Said, Stop> {
        let others = self.order.iter().map(String::as_str).filter(|name| Some(*name) != role);
        let candidates: Vec<String> = role.into_iter().chain(others).map(str::to_owned).collect();
        let bytes: usize = messages.iter().map(|message| message.text.len()).sum();
        let (mut reasons, mut hint) = (Vec::new(), String::new());
        for model in candidates {
            if self.host.cancelled() {
                return Err(Error::Cancelled.into());
            }
            self.host.progress(0.0, &format!("asking {model} for {}", wanted(purpose)));
            let query =
                Query { model: &model, purpose, messages, seed: self.seed, ordinal: self.calls };
            let answer = self.ask.ask(&query, self.host)?;
            self.calls += 1;
            self.prompt_bytes += bytes as u64;
            self.spent += answer.cost;
            match answer.outcome {
                Answered::Reply { text, cut } => {
                    return Ok(Said { model, text, cut, nothing: String::new() });
                }
                Answered::Failed { kind, message } if UNREADABLE.contains(&kind.as_str()) => {
                    let nothing = if kind == EMPTY { message } else { String::new() };
                    return Ok(Said { model, text: String::new(), cut: false, nothing });
                }
                Answered::Failed { kind, message } => {
                    let passed_on = is_unavailable(&kind, &message);
                    let kind = text::line(&kind, 40);
                    let (message, advice) = text::message_and_hint(&message);
                    if !passed_on {
                        return Err(Stop::Lost(format!(
                            "model `{model}`, asked for {}: {kind}: {message}{advice}",
                            wanted(purpose)
                        )));
                    }
                    self.unavailable.push(format!("{model}: {kind}"));
                    reasons.push(format!("`{model}` ({kind}: {message})"));
                    if hint.is_empty() {
                        hint = advice;
                    }
                    self.down.push(model);
                }
            }
        }
        reasons.truncate(4);
        Err(Stop::Lost(format!("no model can be had: {}{hint}", reasons.join(", "))))
    }

    /// The model that is to be credited with the proposal: the chosen one, or if it could not be had,
    /// the one that stood in.
    pub(crate) fn chosen(&self) -> String {
        let up = self.order.iter().find(|model| !self.down.contains(model));
        up.or(self.order.first()).cloned().unwrap_or_default()
    }
}

/// Whether another model is to be asked: this one cannot be had, or there is none of its name.
fn is_unavailable(kind: &str, message: &str) -> bool {
    let gone = kind == "invalid_request" && message.starts_with("HTTP 404");
    gone || UNAVAILABLE.contains(&kind)
}

fn wanted(purpose: &str) -> &'static str {
    match purpose {
        "template" => "an idea and a change",
        "idea" => "an idea",
        "critique" => "an opinion on an idea",
        "implementation" => "a change",
        "repair" => "a repair",
        _ => "an answer",
    }
}

/// A message of ours.
pub(crate) fn user(text: impl Into<String>) -> Message {
    Message { role: Role::User, text: text.into() }
}

/// What a model said before.
pub(crate) fn assistant(text: &str) -> Message {
    /// Bytes of an answer that go back to who gave it.
    const MOST: usize = 128 << 10;
    Message { role: Role::Assistant, text: text::capped(text, MOST) }
}

/// What stands above a conversation.
pub(crate) fn system(text: &str) -> Message {
    Message { role: Role::System, text: text.to_owned() }
}
