//! Calls to models and other outside parties: what a mutator asked, and what came back.
//!
//! A mutator that asks somebody outside hands every call to the host, before and after: the host
//! knows whether it was answered already (a run that was cut off, a run that is replayed), and keeps
//! what came back. See [`crate::Host::recall`] and [`crate::Host::remember`].

use crate::Cost;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Everything that an answer depends on, besides chance on the other side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Who is asked, by the name that it has in the run file.
    pub model: String,
    /// What for: `template`, `idea`, `critique`, `implementation`, `repair`, `agent`, ...
    pub purpose: String,
    /// What else was asked for, for example `temperature`. Never a key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// The conversation so far, oldest first.
    pub messages: Vec<Message>,
    /// The seed of the proposal: equal questions of two proposals are two calls.
    pub seed: u64,
    /// Which call of the proposal it is, from 0; repairs go on counting.
    pub ordinal: u32,
}

impl Call {
    /// The content address: 128 bits of a SHA-256, in hex.
    pub fn key(&self) -> String {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            // Lengths keep neighbours apart.
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(self.model.as_bytes());
        part(self.purpose.as_bytes());
        part(&self.seed.to_le_bytes());
        part(&self.ordinal.to_le_bytes());
        for (name, value) in &self.parameters {
            part(name.as_bytes());
            part(value.to_string().as_bytes());
        }
        for message in &self.messages {
            part(message.role.as_str().as_bytes());
            part(message.text.as_bytes());
        }
        hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub text: String,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions that stand above the conversation.
    System,
    /// We do.
    User,
    /// The model does.
    Assistant,
}

impl Role {
    /// The name in stores and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// What came of a call, all attempts together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// What came back.
    pub outcome: Answered,
    /// What it cost.
    #[serde(default)]
    pub cost: Cost,
    /// Wall seconds from the first attempt to the end of the last, waiting included.
    pub seconds: f64,
    /// Requests that were sent.
    pub attempts: u32,
}

/// What came back from a call. Texts are data from outside: never shown or quoted as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Answered {
    /// A text.
    Reply {
        /// As it came.
        text: String,
        /// Whether it was cut off at the limit on its length.
        #[serde(default)]
        cut: bool,
    },
    /// Nothing usable.
    Failed {
        /// A stable word: `refused`, `unauthorized`, `rate_limited`, `unavailable`, `timeout`,
        /// `network`, `malformed`, `empty`, `too_long`, `circuit_open`, `invalid_request`.
        kind: String,
        /// For people, without secrets.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_covers_everything_that_was_asked() {
        let user = |text: &str| Message { role: Role::User, text: text.to_owned() };
        let call = Call {
            model: "m".to_owned(),
            purpose: "idea".to_owned(),
            parameters: BTreeMap::from([("temperature".to_owned(), serde_json::json!(0.5))]),
            messages: vec![user("a"), user("bc")],
            seed: 7,
            ordinal: 0,
        };
        let others = [
            Call { model: "n".to_owned(), ..call.clone() },
            Call { purpose: "repair".to_owned(), ..call.clone() },
            Call { parameters: BTreeMap::new(), ..call.clone() },
            Call { messages: vec![user("ab"), user("c")], ..call.clone() },
            Call { seed: 8, ..call.clone() },
            Call { ordinal: 1, ..call.clone() },
        ];
        assert_eq!(call.key().len(), 32);
        assert_eq!(call.key(), call.clone().key());
        for other in others {
            assert_ne!(call.key(), other.key(), "{other:?}");
        }
    }
}
