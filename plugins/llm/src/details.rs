//! What is kept with an idea, and with a proposal that failed, to be found again in its outcome.

use forerunner_sdk::{Cost, Finding};
use serde::{Deserialize, Serialize};

/// What is kept in [`forerunner_sdk::Idea::details`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// Whether the idea came first, in a call of its own.
    pub ideas_first: bool,
    /// Form of the change that was asked for: `patch` or `program`.
    pub form: String,
    /// The model that was chosen for the proposal, whoever has roles; if it could not be had, the one
    /// that stood in. It is credited with what comes of the proposal.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub chosen: String,
    /// The model that wrote the change.
    pub implementation: String,
    /// Models that did not answer before one did, each as `name: kind`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unavailable: Vec<String>,
    /// What the critic said, in order; empty where there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub critic: Vec<Opinion>,
    /// The model that was the critic.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub critic_model: String,
    /// Answers that could not be read.
    pub unreadable: u32,
    /// Ideas and changes that were there before and were asked for again.
    pub duplicates: u32,
    /// What a model for embeddings makes of the idea.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding: Option<Embedding>,
    /// Why ideas of this proposal were compared by their words alone, though a model for embeddings
    /// is configured: kinds of failures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unembedded: Vec<String>,
    /// Calls, those for repairs included.
    pub calls: u32,
    /// Bytes of all questions.
    pub prompt_bytes: u64,
    /// What was left out of the question for length.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<Cut>,
    /// Templates that are not those that come with the plugin.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub templates: Vec<String>,
    /// Digest of parent and change, or the program's identity.
    pub change: String,
    /// What the calls cost so far.
    pub spent: Cost,
    /// Which repair it is; 0 for the proposal itself.
    #[serde(skip_serializing_if = "is_zero")]
    pub repair: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The direction of an idea.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Embedding {
    /// The model that it comes from.
    pub model: String,
    /// Whole numbers from -127 to 127, proportional to those of the model, as two hex digits each
    /// (two's complement).
    pub vector: String,
}

/// What the critic said of one idea.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opinion {
    /// `accept`, `veto`, `unreadable` or `no answer`; the last two let an idea pass.
    pub verdict: String,
    /// Why, in the critic's words; the idea's summary stands before those of a veto.
    pub reason: String,
}

/// What was left out of one section of a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The section.
    pub name: String,
    /// How many are shown...
    pub shown: usize,
    /// ...of how many.
    pub of: usize,
    /// ...of what: `lines`, `ideas`, `attempts`, `programs` or `sources`.
    pub unit: String,
}

impl Details {
    /// What is kept with an idea; `None` where it is not ours.
    pub(crate) fn read(value: &serde_json::Value) -> Option<Self> {
        value.get("prompt_bytes")?;
        serde_json::from_value(value.clone()).ok()
    }
}

/// What stands at the end of the error of a proposal that failed, since such a proposal has no idea
/// to keep anything with: who is to be credited with the failure, and what it cost.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tag {
    pub(crate) model: String,
    pub(crate) cost: Cost,
}

const TAG: &str = "[model ";

impl Tag {
    /// In words, for example `[model fast, tokens 1200 + 300, dollars 0.01]`.
    pub(crate) fn write(&self) -> String {
        let Self { model, cost: Cost { tokens_in, tokens_out, dollars } } = self;
        format!("{TAG}{model}, tokens {tokens_in} + {tokens_out}, dollars {dollars}]")
    }

    /// Reads it back from the findings of a failed proposal.
    pub(crate) fn find(findings: &[Finding]) -> Option<Self> {
        findings.iter().filter(|finding| finding.rule == "mutator/error").find_map(|finding| {
            let message = finding.message.trim_end().strip_suffix(']')?;
            let tag = &message[message.rfind(TAG)? + TAG.len()..];
            let (model, rest) = tag.split_once(", tokens ")?;
            let (tokens_in, rest) = rest.split_once(" + ")?;
            let (tokens_out, dollars) = rest.split_once(", dollars ")?;
            let cost = Cost {
                tokens_in: tokens_in.parse().ok()?,
                tokens_out: tokens_out.parse().ok()?,
                dollars: dollars.parse().ok().filter(|dollars: &f64| dollars.is_finite())?,
            };
            Some(Self { model: model.to_owned(), cost })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_behind_an_error_is_found_again() {
        let cost = Cost { tokens_in: 1200, tokens_out: 300, dollars: 0.1 + 0.2 };
        let tag = Tag { model: "fast-1.5".to_owned(), cost };
        let message =
            format!("mutator `llm`: no [model x, tokens 1 + 1, dollars 9] {}", tag.write());
        assert_eq!(Tag::find(&[Finding::error("mutator/error", &message)]), Some(tag));
        assert_eq!(Tag::find(&[Finding::error("compile/error", &message)]), None);
        assert_eq!(Tag::find(&[Finding::error("mutator/error", "[model x]")]), None);
    }

    #[test]
    fn details_of_others_are_not_ours() {
        let details = Details { calls: 3, ..Details::default() };
        let value = serde_json::to_value(&details).expect("plain data");
        assert_eq!(Details::read(&value), Some(details));
        assert_eq!(Details::read(&serde_json::Value::Null), None);
        assert_eq!(Details::read(&serde_json::json!({"operator": "single"})), None);
    }
}
