//! Embeddings: one request for the vector of a text.

use super::{Line, Reply};
use crate::{
    failure::{Failure, Kind},
    library::of_library,
    seen::{Seen, counted},
};
use genai::{adapter::AdapterKind, embed::EmbedRequest};
use std::sync::Arc;

impl Line {
    /// Sends one request for the vector of `text`; notes in `seen` what the provider counted.
    pub(crate) async fn embed(self, text: String, seen: Arc<Seen>) -> Result<Reply, Failure> {
        if self.target.adapter_kind == AdapterKind::Cohere {
            // As of 2026-11 the library prints to the terminal what this provider warns of.
            let message = "embeddings of this provider cannot be asked for in its own format\nhint: use `provider = \"openai\"` \
                           with the `base_url` of its endpoint that speaks OpenAI's";
            return Err(Failure::new(Kind::InvalidRequest, message));
        }
        let request = EmbedRequest::new(text);
        let asked = self.client.exec_embed(self.target.clone(), request, None);
        let Ok(response) = tokio::time::timeout(self.timeout, asked).await else {
            let timeout = self.timeout.as_secs_f64();
            let message = format!("no vector within {timeout:.1} s (`timeout_seconds`)");
            return Err(Failure::new(Kind::Timeout, message));
        };
        let response = response.map_err(|error| match error {
            // The library's word for a body of another form, which it may quote.
            genai::Error::StreamParse { .. } => {
                Failure::new(Kind::Malformed, "the response holds no vector of the expected form")
            }
            error => of_library(&error),
        })?;
        seen.lock().tokens = counted(&response.usage);
        let vector = response.first_vector().map(Vec::as_slice).unwrap_or_default();
        if vector.is_empty() {
            return Err(Failure::new(Kind::Empty, "no vector came"));
        }
        let text = written(vector).ok_or_else(|| {
            Failure::new(Kind::Malformed, "the vector holds numbers that are too large")
        })?;
        if text.len() > self.max_reply_bytes {
            return Err(self.too_long());
        }
        Ok(Reply { text, cut: false })
    }
}

/// A list in JSON, of numbers with five significant digits; `None` where one is not finite.
fn written(vector: &[f32]) -> Option<String> {
    let round = |number: &f32| {
        let rounded: f32 = format!("{number:.4e}").parse().ok()?;
        rounded.is_finite().then_some(rounded + 0.0)
    };
    serde_json::to_string(&vector.iter().map(round).collect::<Option<Vec<f32>>>()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_short_lists() {
        let check = |vector: &[f32], expected: Option<&str>| {
            assert_eq!(written(vector).as_deref(), expected);
        };
        check(&[0.123_456_78, -1.0, 0.0], Some("[0.12346,-1.0,0.0]"));
        check(&[1.234_567e-9, 654_321.0, -0.0], Some("[1.2346e-9,654320.0,0.0]"));
        check(&[0.5, f32::NAN], None);
        check(&[f32::INFINITY], None);
    }
}
