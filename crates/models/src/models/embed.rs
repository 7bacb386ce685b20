//! Vectors of texts, from models that make such.

use super::{Models, Question, Wanted};
use forerunner_core::{Answer, Call, Host, Message, Result, Role};

/// What such calls are for.
const PURPOSE: &str = "embedding";
/// What the vector depends on besides the text.
const PARAMETERS: [&str; 2] = ["provider", "model"];

impl Models {
    /// Asks a model for the vector of a text and hands the answer to the host, with everything that
    /// [`Models::ask`] does about keys, limits, failures and costs. The reply's text is the vector, a
    /// JSON list of numbers with five significant digits; its length is the model's.
    ///
    /// Providers without embeddings are answered for with a failure of kind `invalid_request`.
    /// Sampling, `stream` and `extra_body` have no effect.
    ///
    /// # Errors
    /// As for [`Models::ask`].
    pub fn embed(
        &self,
        model: &str,
        text: &str,
        seed: u64,
        ordinal: u32,
        host: &dyn Host,
    ) -> Result<Answer> {
        let messages = vec![Message { role: Role::User, text: text.to_owned() }];
        let question =
            Question { model, purpose: PURPOSE, messages, seed, ordinal, max_tokens: None };
        let mut call: Call = self.call(&question)?;
        call.parameters.retain(|name, _| PARAMETERS.contains(&name.as_str()));
        self.answer(&call, &question, Wanted::Vector, host)
    }
}
