//! What went wrong with a request, and what follows: whether to ask again, when, and what it says
//! about the provider.

use crate::circuit::Sign;
use reqwest::header::HeaderMap;
use serde_json::Value;
use std::time::Duration;

/// The kinds of [`forerunner_core::Answered::Failed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Refused,
    Unauthorized,
    RateLimited,
    Unavailable,
    Timeout,
    Network,
    Malformed,
    Empty,
    TooLong,
    CircuitOpen,
    InvalidRequest,
}

impl Kind {
    /// The stable word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unauthorized => "unauthorized",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Network => "network",
            Self::Malformed => "malformed",
            Self::Empty => "empty",
            Self::TooLong => "too_long",
            Self::CircuitOpen => "circuit_open",
            Self::InvalidRequest => "invalid_request",
        }
    }
}

/// One failed request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    /// In the provider's words, uncleaned: to be cleaned before it goes anywhere.
    pub(crate) message: String,
    /// How many more requests may be worth it.
    pub(crate) again: Again,
    /// How long the provider asks us to wait.
    pub(crate) after: Option<Duration>,
    /// What it shows about the provider.
    pub(crate) sign: Sign,
    /// Whether the provider may charge for the request, though it says nothing about it.
    pub(crate) charged: bool,
}

/// Whether asking again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    Never,
    Once,
    Yes,
}

impl Failure {
    /// A failure with what usually follows from its kind.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        let (again, sign) = match kind {
            Kind::RateLimited | Kind::Unavailable | Kind::Network | Kind::Malformed => {
                (Again::Yes, Sign::Down)
            }
            // It takes long each time, and each may be charged for.
            Kind::Timeout => (Again::Once, Sign::Down),
            Kind::Empty => (Again::Once, Sign::Alive),
            Kind::Unauthorized => (Again::Never, Sign::Down),
            Kind::Refused | Kind::TooLong | Kind::InvalidRequest | Kind::CircuitOpen => {
                (Again::Never, Sign::Alive)
            }
        };
        let charged = matches!(kind, Kind::Timeout | Kind::Network | Kind::Malformed | Kind::Empty);
        Self { kind, message: message.into(), again, after: None, sign, charged }
    }

    /// Nothing was sent, or it was turned away.
    pub(crate) fn free(self) -> Self {
        Self { charged: false, ..self }
    }

    fn never(self) -> Self {
        Self { again: Again::Never, ..self }
    }

    /// The provider wants money first.
    fn quota(message: impl Into<String>) -> Self {
        Self { sign: Sign::Closed, ..Self::new(Kind::RateLimited, message).never() }
    }

    /// What an HTTP status other than success means.
    pub(crate) fn of_status(status: u16, headers: Option<&HeaderMap>, body: &str) -> Self {
        let body = beginning(body);
        let json: Value = serde_json::from_str(body).unwrap_or(Value::Null);
        let words = words(&json);
        let said = said(&json).unwrap_or_else(|| body.to_owned());
        let message = match said.trim() {
            "" => format!("HTTP {status}"),
            said => format!("HTTP {status}: {said}"),
        };
        let mut failure = match status {
            402 => Self::quota(message),
            _ if out_of_money(&words, &said) => Self::quota(message),
            400 | 422 if filtered(&words) => Self::new(Kind::Refused, message),
            // Gemini's words for it, with status 400.
            _ if said.contains("API key not valid") => Self::new(Kind::Unauthorized, message),
            401 | 403 => Self::new(Kind::Unauthorized, message),
            408 => Self::new(Kind::Timeout, message),
            429 => Self::new(Kind::RateLimited, message),
            409 | 500 | 502..=504 | 506..=599 => Self::new(Kind::Unavailable, message),
            501 | 505 => Self::new(Kind::Unavailable, message).never(),
            300..=399 => Self::new(
                Kind::InvalidRequest,
                format!(
                    "{message} (redirects are not followed: a key could end up anywhere)\nhint: put the final address into `base_url`"
                ),
            ),
            400 if names_stream(&said) => {
                Self::new(Kind::InvalidRequest, format!("{message}\nhint: set stream = false"))
            }
            _ => Self::new(Kind::InvalidRequest, message),
        };
        failure.after = headers.and_then(retry_after);
        failure.free()
    }

    /// What an error within a stream that began well means.
    pub(crate) fn of_event(body: &Value) -> Self {
        let words = words(body);
        let said = said(body).unwrap_or_else(|| body.to_string());
        let message = format!("error within the stream: {said}");
        let code = body.get("code").or_else(|| body.pointer("/error/code")).and_then(Value::as_u64);
        if let Some(status) =
            code.and_then(|code| u16::try_from(code).ok()).filter(|code| *code >= 400)
        {
            return Self { message, ..Self::of_status(status, None, &body.to_string()) };
        }
        let any = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
        if out_of_money(&words, &said) {
            Self::quota(message)
        } else if filtered(&words) {
            Self::new(Kind::Refused, message)
        } else if any(&["rate_limit", "resource_exhausted"]) {
            Self::new(Kind::RateLimited, message)
        } else if any(&["authentication", "permission", "invalid_api_key"]) {
            Self::new(Kind::Unauthorized, message)
        } else if any(&["invalid_request", "not_found", "request_too_large", "context_length"]) {
            Self::new(Kind::InvalidRequest, message)
        } else {
            Self::new(Kind::Unavailable, message)
        }
    }
}

/// As much of a body as can matter for a message.
fn beginning(body: &str) -> &str {
    &body[..body.floor_char_boundary(64 << 10)]
}

/// The words by which a provider names an error, in lower case.
fn words(body: &Value) -> String {
    let paths = ["/type", "/code", "/status", "/error/type", "/error/code", "/error/status"];
    let words: Vec<_> = paths.iter().filter_map(|path| body.pointer(path)?.as_str()).collect();
    words.join(" ").to_lowercase()
}

/// What a provider says to people.
fn said(body: &Value) -> Option<String> {
    // Some send a list with one error.
    let body = body.get(0).unwrap_or(body);
    let paths = ["/error/message", "/message", "/error", "/detail"];
    let said = paths.iter().find_map(|path| body.pointer(path)?.as_str())?;
    Some(said.to_owned())
}

/// Whether the provider objects to streaming.
fn names_stream(said: &str) -> bool {
    let mut words = said.split(|c: char| !c.is_ascii_alphanumeric());
    words.any(|word| matches!(word.to_ascii_lowercase().as_str(), "stream" | "streaming"))
}

fn out_of_money(words: &str, said: &str) -> bool {
    words.contains("insufficient_quota")
        || words.contains("billing")
        || said.contains("credit balance is too low")
        || said.contains("Insufficient Balance")
}

fn filtered(words: &str) -> bool {
    ["content_filter", "content_policy", "data_inspection_failed"]
        .iter()
        .any(|part| words.contains(part))
}

/// How long a provider asks us to wait, from `retry-after-ms` or `retry-after` (seconds or a date).
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number =
        |text: &str| text.parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0);
    if let Some(milliseconds) = text("retry-after-ms").and_then(number) {
        return Duration::try_from_secs_f64(milliseconds / 1e3).ok();
    }
    let after = text("retry-after")?;
    if let Some(value) = number(after) {
        return Duration::try_from_secs_f64(value).ok();
    }
    let date = jiff::fmt::rfc2822::parse(after).ok()?.timestamp();
    let left = date.duration_since(jiff::Timestamp::now());
    Some(Duration::try_from(left).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests;
