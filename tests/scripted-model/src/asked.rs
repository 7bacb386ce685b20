//! What a client asked.

use serde_json::Value;
use std::time::Instant;

/// One request, as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Which request of this server it is, in order of arrival, from 0.
    pub number: usize,
    /// The path, without the query.
    pub path: String,
    /// Names in lower case, in the order of the request.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Value,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// When the request had been read.
    pub at: Instant,
}

/// How a client and a server talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// OpenAI's chat completions.
    ChatCompletions,
    /// Anthropic's messages.
    Messages,
    /// OpenAI's embeddings.
    Embeddings,
}

impl Wire {
    /// What `path` is served as; `None` when it is none of these.
    pub(crate) fn of(path: &str) -> Option<Self> {
        match path.trim_end_matches('/') {
            path if path.ends_with("/chat/completions") => Some(Self::ChatCompletions),
            path if path.ends_with("/messages") => Some(Self::Messages),
            path if path.ends_with("/embeddings") => Some(Self::Embeddings),
            _ => None,
        }
    }
}

impl Asked {
    /// The wire format of the request. Unknown paths count as chat completions.
    pub fn wire(&self) -> Wire {
        Wire::of(&self.path).unwrap_or(Wire::ChatCompletions)
    }

    /// The model that was asked for; empty when none was named.
    pub fn model(&self) -> &str {
        self.body["model"].as_str().unwrap_or_default()
    }

    /// All instructions above the conversation, joined by newlines.
    pub fn system(&self) -> String {
        let above = text_of(&self.body["system"]);
        let within = self.turns().filter(|(role, _)| matches!(*role, "system" | "developer"));
        let parts: Vec<String> = std::iter::once(above)
            .chain(within.map(|(_, content)| text_of(content)))
            .filter(|part| !part.is_empty())
            .collect();
        parts.join("\n")
    }

    /// The last thing the user said; empty when there is none. Of embeddings, the last input.
    pub fn last_user(&self) -> String {
        if let Some(input) = self.inputs().last() {
            return (*input).to_owned();
        }
        let last = self.turns().filter(|(role, _)| *role == "user").last();
        last.map(|(_, content)| text_of(content)).unwrap_or_default()
    }

    /// The value of the header `name` (any case).
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The key that came with the request, in either provider's header.
    pub fn key(&self) -> Option<&str> {
        let bearer = self.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        self.header("x-api-key").or(bearer)
    }

    /// Tokens of the prompt, at four bytes each.
    pub(crate) fn tokens(&self) -> u64 {
        let said: usize = self.turns().map(|(_, content)| text_of(content).len()).sum();
        let embedded: usize = self.inputs().iter().map(|input| input.len()).sum();
        (text_of(&self.body["system"]).len() + said + embedded).div_ceil(4) as u64
    }

    /// The texts that are to be embedded.
    pub(crate) fn inputs(&self) -> Vec<&str> {
        match &self.body["input"] {
            Value::String(text) => vec![text],
            Value::Array(texts) => texts.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// Role and content of every turn.
    fn turns(&self) -> impl Iterator<Item = (&str, &Value)> {
        let turns = self.body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        turns.iter().map(|turn| (turn["role"].as_str().unwrap_or_default(), &turn["content"]))
    }
}

/// The text of a content: a string, or a list of blocks of which some are text.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let texts: Vec<&str> =
                blocks.iter().filter_map(|block| block["text"].as_str()).collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}
