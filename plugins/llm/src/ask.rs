//! Whoever answers questions: models, or a stand-in for them in tests.

use crate::config::ModelEntry;
use forerunner_models::{ModelConfig, Models, Question};
use forerunner_sdk::{Answer, Answered, Cost, Error, Host, Message, Result};

/// A question to a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query<'a> {
    /// Who is asked.
    pub model: &'a str,
    /// What for: `template`, `idea`, `critique`, `implementation` or `repair`.
    pub purpose: &'a str,
    /// The conversation so far, oldest first.
    pub messages: &'a [Message],
    /// The seed of the proposal.
    pub seed: u64,
    /// Which call of the proposal it is, from 0.
    pub ordinal: u32,
}

/// Answers questions.
pub trait Ask: Send + Sync {
    /// Asks, and waits for the answer. Recalls and remembers it, and counts what it cost, with the
    /// host.
    ///
    /// # Errors
    /// When the run is stopping, a replay lacks the call, or the host cannot remember it. That a
    /// model does not answer is an [`Answer`].
    fn ask(&self, query: &Query<'_>, host: &dyn Host) -> Result<Answer>;

    /// Asks for the vector of a text, and waits for the answer: a list of numbers in JSON. Recalls,
    /// remembers and counts as [`Ask::ask`] does. By default there are no vectors.
    ///
    /// # Errors
    /// As for [`Ask::ask`].
    fn embed(
        &self,
        model: &str,
        text: &str,
        seed: u64,
        ordinal: u32,
        host: &dyn Host,
    ) -> Result<Answer> {
        let _ = (text, seed, ordinal, host);
        let kind = "invalid_request".to_owned();
        let outcome = Answered::Failed { kind, message: format!("`{model}` makes no vectors") };
        Ok(Answer { outcome, cost: Cost::default(), seconds: 0.0, attempts: 0 })
    }

    /// Whether the model is known to cost something: more than nothing.
    fn has_price(&self, model: &str) -> bool;
}

impl Ask for Models {
    fn ask(&self, query: &Query<'_>, host: &dyn Host) -> Result<Answer> {
        let question = Question {
            model: query.model,
            purpose: query.purpose,
            messages: query.messages.to_vec(),
            seed: query.seed,
            ordinal: query.ordinal,
            max_tokens: None,
        };
        Self::ask(self, &question, host)
    }

    fn embed(
        &self,
        model: &str,
        text: &str,
        seed: u64,
        ordinal: u32,
        host: &dyn Host,
    ) -> Result<Answer> {
        Self::embed(self, model, text, seed, ordinal, host)
    }

    fn has_price(&self, model: &str) -> bool {
        self.price(model).is_some_and(|price| price.input > 0.0 || price.output > 0.0)
    }
}

/// The models that a configuration names.
///
/// # Errors
/// When a field is unknown, missing or wrong; the error names model and field.
pub(crate) fn connect(entries: &[ModelEntry]) -> Result<Models> {
    let read = |entry: &ModelEntry| {
        serde_json::from_value::<ModelConfig>(entry.settings.clone())
            .map_err(|error| Error::config("models", format!("`{}`: {error}", entry.name)))
    };
    Models::new(entries.iter().map(read).collect::<Result<_>>()?)
}
