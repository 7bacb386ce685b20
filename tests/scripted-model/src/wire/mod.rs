//! Replies in the providers' formats.

mod chat_completions;
mod embeddings;
mod messages;

use crate::asked::{Asked, Wire};
use crate::reply::Said;
use serde_json::Value;

/// The events of a streamed reply, each as the bytes that are sent.
pub(crate) struct Events {
    /// Before any text.
    pub(crate) head: String,
    /// One for each piece of text.
    pub(crate) pieces: Vec<String>,
    /// After all text.
    pub(crate) tail: String,
    /// What is sent when the model fails on the way.
    pub(crate) failure: String,
}

/// The body of a reply that is not streamed.
pub(crate) fn whole(said: &Said, asked: &Asked) -> Value {
    match asked.wire() {
        Wire::ChatCompletions => chat_completions::whole(said, asked),
        Wire::Messages => messages::whole(said, asked),
        Wire::Embeddings => embeddings::whole(said, asked),
    }
}

/// The events of a reply that is streamed.
pub(crate) fn events(said: &Said, asked: &Asked) -> Events {
    match asked.wire() {
        // Vectors are not streamed: `connection` sends them whole, whatever was asked for.
        Wire::ChatCompletions | Wire::Embeddings => chat_completions::events(said, asked),
        Wire::Messages => messages::events(said, asked),
    }
}

/// The body of an error. `None` for `message` means: in the provider's usual words.
pub(crate) fn error(
    status: u16,
    message: Option<&str>,
    code: Option<&str>,
    asked: &Asked,
) -> Value {
    match asked.wire() {
        Wire::ChatCompletions | Wire::Embeddings => {
            chat_completions::error(status, message, code, asked)
        }
        Wire::Messages => messages::error(status, message, asked),
    }
}

/// Tokens of prompt and reply.
fn tokens(said: &Said, asked: &Asked) -> (u64, u64) {
    (said.usage.map_or_else(|| asked.tokens(), |(tokens, _)| tokens), said.tokens_out())
}
