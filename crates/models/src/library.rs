//! What the errors of the libraries below mean.

use crate::{
    failure::{Failure, Kind},
    seen::refusal_in,
};

/// What an error of the library means. Its own texts hold prompts and bodies, so none is handed on.
pub(crate) fn of_library(error: &genai::Error) -> Failure {
    use genai::{Error as E, webc::Error as W};
    match error {
        E::HttpError { status, body, headers, .. } => {
            Failure::of_status(status.as_u16(), Some(headers), body)
        }
        E::WebModelCall { webc_error, .. } | E::WebAdapterCall { webc_error, .. } => {
            match webc_error {
                W::ResponseFailedStatus { status, body, headers } => {
                    Failure::of_status(status.as_u16(), Some(headers), body)
                }
                W::ResponseFailedNotJson { .. } => {
                    Failure::new(Kind::Malformed, "the response is not JSON")
                }
                W::ResponseFailedInvalidJson { cause, .. } => Failure::new(
                    Kind::Malformed,
                    format!("the response is not valid JSON: {cause}"),
                ),
                W::Reqwest(error) => of_http(error),
                W::JsonValueExt(_) => malformed(),
            }
        }
        E::WebStream { error, .. } => {
            if let Some(error) = error.downcast_ref::<genai::Error>() {
                of_library(error)
            } else if let Some(error) = error.downcast_ref::<reqwest::Error>() {
                of_http(error)
            } else {
                // Not valid UTF-8.
                malformed()
            }
        }
        E::ChatResponse { body, .. } => Failure::of_event(body),
        E::StreamParse { serde_error, .. } => Failure::new(
            Kind::Malformed,
            format!("a piece of the stream is not valid JSON: {serde_error}"),
        ),
        E::ChatResponseGeneration { cause, response_body, .. } => match refusal_in(response_body) {
            Some(reason) => refused(reason.to_owned()),
            None if response_body.get("error").is_some() => Failure::of_event(response_body),
            None => Failure::new(Kind::Malformed, format!("the response holds no reply: {cause}")),
        },
        E::NoChatResponse { .. }
        | E::InvalidJsonResponseElement { .. }
        | E::JsonValueExt(_)
        | E::SerdeJson(_) => malformed(),
        // Everything else comes up before anything is sent.
        _ => Failure::new(Kind::InvalidRequest, "this provider cannot be asked such a question"),
    }
}

pub(crate) fn broken_off() -> Failure {
    Failure::new(Kind::Network, "the stream ended before the reply did")
}

fn malformed() -> Failure {
    Failure::new(Kind::Malformed, "the response is not of the expected form")
}

fn of_http(error: &reqwest::Error) -> Failure {
    // The innermost cause says most, and unlike the outermost it never holds an address.
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let cause = if std::ptr::addr_eq(cause, error) { String::new() } else { format!(": {cause}") };
    if error.is_timeout() {
        Failure::new(Kind::Timeout, format!("timed out{cause}"))
    } else if error.is_connect() {
        Failure::new(Kind::Network, format!("cannot connect{cause}")).free()
    } else if error.is_builder() {
        Failure::new(Kind::InvalidRequest, format!("this request cannot be sent{cause}"))
    } else {
        Failure::new(Kind::Network, format!("the connection broke off{cause}"))
    }
}

/// The model does not want to, in its own words.
pub(crate) fn refused(said: String) -> Failure {
    Failure::new(Kind::Refused, said)
}
