//! Anthropic's messages.

use super::{Events, tokens};
use crate::asked::Asked;
use crate::reply::{Said, Stop};
use serde_json::{Value, json};

pub(super) fn whole(said: &Said, asked: &Asked) -> Value {
    let (tokens_in, tokens_out) = tokens(said, asked);
    let mut message = opening(asked, tokens_in, tokens_out);
    if !said.text.is_empty() {
        message["content"] = json!([{ "type": "text", "text": said.text }]);
    }
    message["stop_reason"] = json!(stop_reason(said.stop));
    message
}

pub(super) fn events(said: &Said, asked: &Asked) -> Events {
    let (tokens_in, tokens_out) = tokens(said, asked);
    let start = json!({ "type": "message_start", "message": opening(asked, tokens_in, 1) });
    let block = json!({
        "type": "content_block_start",
        "index": 0,
        "content_block": { "type": "text", "text": "" },
    });
    let ping = json!({ "type": "ping" });
    let piece = |text: &str| {
        event(&json!({
            "type": "content_block_delta",
            "index": 0,
            "delta": { "type": "text_delta", "text": text },
        }))
    };
    let end = json!({
        "type": "message_delta",
        "delta": { "stop_reason": stop_reason(said.stop), "stop_sequence": null },
        "usage": { "output_tokens": tokens_out },
    });
    let stop = json!({ "type": "message_stop" });
    let failure = json!({ "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" } });
    let mut head = event(&start);
    let mut tail = String::new();
    // A model that says nothing opens no block.
    if !said.text.is_empty() {
        head += &event(&block);
        tail += &event(&json!({ "type": "content_block_stop", "index": 0 }));
    }
    head += &event(&ping);
    tail += &event(&end);
    tail += &event(&stop);
    Events {
        head,
        pieces: said.pieces().into_iter().map(piece).collect(),
        tail,
        failure: event(&failure),
    }
}

pub(super) fn error(status: u16, message: Option<&str>, asked: &Asked) -> Value {
    let (kind, usual) = match status {
        400 => ("invalid_request_error", "Invalid request.".to_owned()),
        401 => {
            let key = asked.key().unwrap_or_default();
            ("authentication_error", format!("invalid x-api-key: {key}"))
        }
        403 => ("permission_error", "Your key may not use this model.".to_owned()),
        404 => ("not_found_error", format!("model: {}", asked.model())),
        413 => ("request_too_large", "Request exceeds the maximum size".to_owned()),
        429 => ("rate_limit_error", "This request would exceed your rate limit.".to_owned()),
        529 => ("overloaded_error", "Overloaded".to_owned()),
        _ => ("api_error", "Internal server error".to_owned()),
    };
    json!({
        "type": "error",
        "error": { "type": kind, "message": message.unwrap_or(&usual) },
        "request_id": format!("req_{:08}", asked.number),
    })
}

/// A message before anything is said.
fn opening(asked: &Asked, tokens_in: u64, tokens_out: u64) -> Value {
    json!({
        "id": format!("msg_{:08}", asked.number),
        "type": "message",
        "role": "assistant",
        "model": asked.model(),
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
        "usage": {
            "input_tokens": tokens_in,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": tokens_out,
            "service_tier": "standard",
        },
    })
}

fn stop_reason(stop: Stop) -> &'static str {
    match stop {
        Stop::Natural => "end_turn",
        Stop::Length => "max_tokens",
        Stop::Refusal | Stop::Filter => "refusal",
    }
}

fn event(event: &Value) -> String {
    format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default())
}
