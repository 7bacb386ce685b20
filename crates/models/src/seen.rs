//! What comes in during a request: kept beside the reply, so that it is known also when the request
//! fails.

use crate::prices::Tokens;
use genai::chat::{ChatFrameSink, FrameCtx, RawFrameRef, Usage};
use serde_json::Value;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What came in so far, readable also when the request failed.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<Received>);

/// What came in.
#[derive(Debug, Default, Clone)]
pub(crate) struct Received {
    /// Bytes of text and of thoughts.
    pub(crate) bytes: usize,
    /// As the provider counted them.
    pub(crate) tokens: Option<Tokens>,
    /// Events of the stream.
    pub(crate) events: u32,
    /// What the provider gives as a refusal's text.
    pub(crate) refusal: String,
}

impl Seen {
    /// For noting more.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Received> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came in until now.
    pub(crate) fn so_far(&self) -> Received {
        self.lock().clone()
    }
}

/// Looks at what passes by in a stream for what the library does not hand on.
#[derive(Debug)]
pub(crate) struct Frames(pub(crate) Arc<Seen>);

impl ChatFrameSink for Frames {
    fn on_frame(&self, _: &FrameCtx, frame: RawFrameRef<'_>) {
        let holds = |name: &str, begin: char| {
            frame
                .data
                .split(name)
                .skip(1)
                .any(|rest| rest.trim_start_matches([':', ' ']).starts_with(begin))
        };
        if frame.data.is_empty() {
            return;
        }
        self.0.lock().events += 1;
        let usage = holds("\"usage\"", '{');
        let refusal = holds("\"refusal\"", '"');
        let blocked = frame.data.contains("\"blockReason\"");
        if !usage && !refusal && !blocked {
            return;
        }
        let Some(body) = frame.json() else { return };
        let mut seen = self.0.lock();
        // Enough to say why.
        if seen.refusal.len() < 4096 {
            seen.refusal.push_str(refusal_in(&body).unwrap_or_default());
        }
        // Kept for streams that break off: the provider may charge for these as well.
        for path in ["/usage", "/message/usage"] {
            let Some(usage) = body.pointer(path) else { continue };
            let number = |names: [&str; 2]| names.iter().find_map(|name| usage.get(name)?.as_u64());
            let tokens = seen.tokens.get_or_insert_default();
            if let Some(input) = number(["prompt_tokens", "input_tokens"]) {
                let more = number(["cache_read_input_tokens", ""]).unwrap_or(0);
                let written = number(["cache_creation_input_tokens", ""]).unwrap_or(0);
                tokens.input = input + more + written;
                tokens.cached = more;
            }
            if let Some(output) = number(["completion_tokens", "output_tokens"]) {
                tokens.output = output;
            }
        }
    }
}

/// What a provider gives as the text or the reason of a refusal, in places that the library does not
/// look at.
pub(crate) fn refusal_in(body: &Value) -> Option<&str> {
    let paths =
        ["/choices/0/delta/refusal", "/choices/0/message/refusal", "/promptFeedback/blockReason"];
    paths.iter().find_map(|path| body.pointer(path)?.as_str())
}

/// Whether a body without text has at least the form of a reply, of whatever provider.
pub(crate) fn looks_like_a_reply(body: &Value) -> bool {
    ["choices", "content", "candidates", "message", "output", "steps"]
        .iter()
        .any(|name| body.get(name).is_some())
}

/// What the provider counted, if it did.
pub(crate) fn counted(usage: &Usage) -> Option<Tokens> {
    let number = |value: Option<i32>| u64::try_from(value.unwrap_or(0)).unwrap_or(0);
    usage.prompt_tokens.or(usage.completion_tokens)?;
    let cached = usage.prompt_tokens_details.as_ref().and_then(|details| details.cached_tokens);
    let input = number(usage.prompt_tokens);
    Some(Tokens {
        input,
        cached: number(cached).min(input),
        output: number(usage.completion_tokens),
    })
}
