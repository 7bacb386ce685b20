//! OpenAI's chat completions.

use super::{Events, tokens};
use crate::asked::Asked;
use crate::reply::{Said, Stop};
use serde_json::{Value, json};

pub(super) fn whole(said: &Said, asked: &Asked) -> Value {
    let refused = said.stop == Stop::Refusal;
    let message = json!({
        "role": "assistant",
        "content": if refused { Value::Null } else { json!(said.text) },
        "refusal": if refused { json!(said.text) } else { Value::Null },
        "annotations": [],
    });
    json!({
        "id": format!("chatcmpl-{:08}", asked.number),
        "object": "chat.completion",
        "created": created(asked),
        "model": asked.model(),
        "choices": [{
            "index": 0,
            "message": message,
            "logprobs": null,
            "finish_reason": finish_reason(said.stop),
        }],
        "usage": usage(said, asked),
        "service_tier": "default",
        "system_fingerprint": "fp_scripted",
    })
}

pub(super) fn events(said: &Said, asked: &Asked) -> Events {
    let wants_usage = asked.body["stream_options"]["include_usage"] == true;
    let chunk = |choices: Value, usage: Option<Value>| {
        let mut chunk = json!({
            "id": format!("chatcmpl-{:08}", asked.number),
            "object": "chat.completion.chunk",
            "created": created(asked),
            "model": asked.model(),
            "service_tier": "default",
            "system_fingerprint": "fp_scripted",
            "choices": choices,
        });
        if wants_usage {
            chunk["usage"] = usage.unwrap_or(Value::Null);
        }
        data(&chunk)
    };
    let choice = |delta: Value, finish_reason: Value| json!([{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason }]);
    let field = if said.stop == Stop::Refusal { "refusal" } else { "content" };
    let opening = json!({ "role": "assistant", "content": "", "refusal": null });
    let mut tail = chunk(choice(json!({}), json!(finish_reason(said.stop))), None);
    if wants_usage {
        tail += &chunk(json!([]), Some(usage(said, asked)));
    }
    tail += "data: [DONE]\n\n";
    let piece = |text: &str| chunk(choice(json!({ field: text }), Value::Null), None);
    let failure = json!({ "error": {
        "message": "The server is currently overloaded with other requests.",
        "type": "server_error", "param": null, "code": null,
    } });
    Events {
        head: chunk(choice(opening, Value::Null), None),
        pieces: said.pieces().into_iter().map(piece).collect(),
        tail,
        failure: data(&failure),
    }
}

pub(super) fn error(
    status: u16,
    message: Option<&str>,
    code: Option<&str>,
    asked: &Asked,
) -> Value {
    let (kind, usual_code, usual_message) = match status {
        400 => ("invalid_request_error", None, "Invalid request.".to_owned()),
        401 => {
            let key = asked.key().unwrap_or_default();
            let message = format!(
                "Incorrect API key provided: {key}. You can find your API key in your account."
            );
            ("invalid_request_error", Some("invalid_api_key"), message)
        }
        403 => ("invalid_request_error", None, "You may not use this model.".to_owned()),
        404 => {
            let message = format!("The model `{}` does not exist.", asked.model());
            ("invalid_request_error", Some("model_not_found"), message)
        }
        429 => {
            let message = "Rate limit reached for requests. Please try again later.".to_owned();
            ("requests", Some("rate_limit_exceeded"), message)
        }
        503 => ("server_error", None, "The server is overloaded or not ready yet.".to_owned()),
        _ => {
            let message = "The server had an error while processing your request.".to_owned();
            ("server_error", None, message)
        }
    };
    json!({ "error": {
        "message": message.unwrap_or(&usual_message),
        "type": kind,
        "param": null,
        "code": code.or(usual_code),
    } })
}

fn usage(said: &Said, asked: &Asked) -> Value {
    let (tokens_in, tokens_out) = tokens(said, asked);
    json!({
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
        "prompt_tokens_details": { "cached_tokens": 0, "audio_tokens": 0 },
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}

fn finish_reason(stop: Stop) -> &'static str {
    match stop {
        Stop::Natural | Stop::Refusal => "stop",
        Stop::Length => "length",
        Stop::Filter => "content_filter",
    }
}

/// Unix seconds, made up: replies do not depend on a clock.
fn created(asked: &Asked) -> u64 {
    1_760_000_000 + asked.number as u64
}

fn data(event: &Value) -> String {
    format!("data: {event}\n\n")
}
