//! How a model is described in a run file.

use crate::{prices::Price, provider::Provider};
use forerunner_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};

/// One model that can be asked: who provides it, what is asked for, and within which limits.
///
/// Keys never stand here: `key_env` names a variable of the environment, `key_file` a file.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config: forerunner_models::ModelConfig = serde_json::from_str(
///     r#"{"name": "local", "model": "qwen3-coder", "base_url": "http://localhost:8000/v1"}"#,
/// )?;
/// forerunner_models::Models::new(vec![config])?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// What the run calls it; answers and statistics go by this name.
    pub name: String,
    /// Whose format it speaks: `openai`, `anthropic`, `gemini`, `ollama`, ... (an unknown name is
    /// answered with the list). With a `base_url` alone, `openai`: what vLLM, llama.cpp and most
    /// local servers speak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The provider's name for the model.
    pub model: String,
    /// Where it is, for example `http://localhost:8000/v1`; by default the provider's own address.
    /// May hold no user name, password, query or fragment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// The variable of the environment that holds the key; by default the provider's usual one
    /// (`OPENAI_API_KEY`, `ANTHROPIC_API_KEY`, ...).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_env: Option<String>,
    /// The file that holds the key and nothing else; it may be readable by its owner only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Sampling temperature; by default the provider's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Nucleus sampling, above 0 and at most 1; by default the provider's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// The most tokens of a reply, unless the question asks for another number; by default the
    /// provider's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`, or a number of tokens, as far as
    /// the provider knows them; by default the provider's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
    /// Whether the question's seed is sent too, as 31 bits, to providers that take one.
    #[serde(default)]
    pub send_seed: bool,
    /// Further fields of the request, as the provider calls them. Stored with every call: no place
    /// for secrets.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub extra_body: serde_json::Map<String, serde_json::Value>,
    /// Whether replies are streamed. Only then are hanging providers noticed early and huge replies
    /// cut short.
    #[serde(default = "yes")]
    pub stream: bool,
    /// The most seconds that one request may take, from connecting to its last byte.
    #[serde(default = "timeout")]
    pub timeout_seconds: f64,
    /// The most seconds between two pieces of a streamed reply, and before the first.
    #[serde(default = "idle_timeout")]
    pub idle_timeout_seconds: f64,
    /// The most bytes of a reply's text.
    #[serde(default = "max_reply_bytes")]
    pub max_reply_bytes: usize,
    /// The most requests that are sent for one call, at least 1.
    #[serde(default = "attempts")]
    pub attempts: u32,
    /// The most requests in flight at once, at least 1.
    #[serde(default = "concurrency")]
    pub concurrency: usize,
    /// The most requests within any minute; unlimited by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// The most tokens, sent and received, within any minute; unlimited by default. Prompts are
    /// estimated before they are sent and corrected by what the provider counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// What it costs; by default what the price table says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// How long it pauses after failures.
    #[serde(default)]
    pub pace: Pace,
}

fn yes() -> bool {
    true
}
fn timeout() -> f64 {
    600.0
}
fn idle_timeout() -> f64 {
    120.0
}
fn max_reply_bytes() -> usize {
    1 << 20
}
fn attempts() -> u32 {
    4
}
fn concurrency() -> usize {
    8
}

/// Pauses after failures, in seconds. The defaults suit real providers; tests make them short.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pace {
    /// The longest pause before the second request of a call; it doubles with each further one. The
    /// pause itself is drawn evenly from zero to that.
    pub backoff: f64,
    /// Where the doubling ends.
    pub backoff_cap: f64,
    /// The longest pause that a provider may ask for (`Retry-After`); longer ones are cut to this.
    pub retry_after_cap: f64,
    /// How many failed calls in a row open the circuit; 0 switches it off.
    pub circuit_failures: u32,
    /// How long the circuit stays open at first; doubles each time the probing call fails.
    pub circuit_pause: f64,
    /// Where that doubling ends.
    pub circuit_pause_cap: f64,
    /// The length of the window in which requests and tokens "per minute" are counted.
    pub minute: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            backoff: 1.0,
            backoff_cap: 30.0,
            retry_after_cap: 60.0,
            circuit_failures: 5,
            circuit_pause: 10.0,
            circuit_pause_cap: 300.0,
            minute: 60.0,
        }
    }
}

impl ModelConfig {
    /// A model with everything else at its default.
    pub fn new(name: &str, model: &str) -> Self {
        Self {
            name: name.to_owned(),
            provider: None,
            model: model.to_owned(),
            base_url: None,
            key_env: None,
            key_file: None,
            temperature: None,
            top_p: None,
            max_tokens: None,
            reasoning_effort: None,
            send_seed: false,
            extra_body: serde_json::Map::new(),
            stream: true,
            timeout_seconds: timeout(),
            idle_timeout_seconds: idle_timeout(),
            max_reply_bytes: max_reply_bytes(),
            attempts: attempts(),
            concurrency: concurrency(),
            requests_per_minute: None,
            tokens_per_minute: None,
            price: None,
            pace: Pace::default(),
        }
    }

    /// Looks every field over.
    pub(crate) fn validate(&self) -> Result<()> {
        let bad =
            |field: &str, why: String| Err(Error::config(&format!("{}.{field}", self.name), why));
        if self.name.is_empty() {
            return Err(Error::config("name", "a model needs a name"));
        }
        if self.model.is_empty() {
            return bad("model", "the provider's name for the model is missing".to_owned());
        }
        if self.attempts == 0 {
            return bad("attempts", "at least 1 request is needed to get a reply".to_owned());
        }
        if self.concurrency == 0 {
            return bad("concurrency", "at least 1".to_owned());
        }
        if self.max_reply_bytes == 0 {
            return bad("max_reply_bytes", "at least 1".to_owned());
        }
        if self.requests_per_minute == Some(0) {
            return bad("requests_per_minute", "at least 1, or leave it out".to_owned());
        }
        if self.tokens_per_minute == Some(0) {
            return bad("tokens_per_minute", "at least 1, or leave it out".to_owned());
        }
        if self.key_env.is_some() && self.key_file.is_some() {
            return bad("key_file", "name either `key_env` or `key_file`".to_owned());
        }
        if self.temperature.is_some_and(|value| !(0.0..=10.0).contains(&value)) {
            return bad("temperature", "a number from 0 to 10".to_owned());
        }
        if self.top_p.is_some_and(|value| !(value > 0.0 && value <= 1.0)) {
            return bad("top_p", "a number above 0, at most 1".to_owned());
        }
        let positive = [
            ("timeout_seconds", self.timeout_seconds),
            ("idle_timeout_seconds", self.idle_timeout_seconds),
            ("pace.minute", self.pace.minute),
        ];
        if let Some((field, _)) =
            positive.iter().find(|(_, value)| !in_range(*value) || *value == 0.0)
        {
            return bad(field, format!("a number of seconds above 0, at most {LONGEST}"));
        }
        let pauses = [
            ("pace.backoff", self.pace.backoff),
            ("pace.backoff_cap", self.pace.backoff_cap),
            ("pace.retry_after_cap", self.pace.retry_after_cap),
            ("pace.circuit_pause", self.pace.circuit_pause),
            ("pace.circuit_pause_cap", self.pace.circuit_pause_cap),
        ];
        if let Some((field, _)) = pauses.iter().find(|(_, value)| !in_range(*value)) {
            return bad(field, format!("a number of seconds from 0 to {LONGEST}"));
        }
        if let Some(price) = self.price
            && ![price.input, price.output].iter().all(|value| value.is_finite() && *value >= 0.0)
        {
            return bad("price", "dollars per million tokens, not negative".to_owned());
        }
        Provider::of(self).map(drop)
    }
}

/// A week: the longest time, in seconds, that a configuration may name.
const LONGEST: f64 = 604_800.0;

fn in_range(seconds: f64) -> bool {
    (0.0..=LONGEST).contains(&seconds)
}

/// Seconds of a validated configuration as a duration.
pub(crate) fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &str) -> Result<ModelConfig, String> {
        let text = format!(
            r#"{{"name": "m", "model": "x", "base_url": "http://localhost:1/v1"{fields}}}"#
        );
        let config: ModelConfig = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        config.validate().map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let config = read("").expect("enough");
        let mut expected = ModelConfig::new("m", "x");
        expected.base_url = Some("http://localhost:1/v1".to_owned());
        assert_eq!(config, expected);
        let again: ModelConfig =
            serde_json::from_value(serde_json::to_value(&config).expect("written")).expect("read");
        assert_eq!(again, config);
        let price = read(r#", "price": {"input": 1.0, "output": 2.0}"#).expect("a price").price;
        assert_eq!(price, Some(Price { input: 1.0, output: 2.0, cached: None }));
        assert_eq!(read(r#", "pace": {"backoff": 0}"#).expect("a pace").pace.backoff_cap, 30.0);
    }

    #[test]
    fn mistakes_name_model_and_field() {
        let check = |fields: &str, name: &str| {
            let error = read(&format!(", {fields}")).expect_err(fields);
            assert!(error.contains(&format!("`m.{name}`")), "{fields}: {error}");
        };
        check(r#""attempts": 0"#, "attempts");
        check(r#""concurrency": 0"#, "concurrency");
        check(r#""max_reply_bytes": 0"#, "max_reply_bytes");
        check(r#""requests_per_minute": 0"#, "requests_per_minute");
        check(r#""tokens_per_minute": 0"#, "tokens_per_minute");
        check(r#""timeout_seconds": 0"#, "timeout_seconds");
        check(r#""timeout_seconds": 1e300"#, "timeout_seconds");
        check(r#""idle_timeout_seconds": -1"#, "idle_timeout_seconds");
        check(r#""pace": {"backoff": -1}"#, "pace.backoff");
        check(r#""pace": {"minute": 0}"#, "pace.minute");
        check(r#""temperature": -0.1"#, "temperature");
        check(r#""top_p": 0"#, "top_p");
        check(r#""price": {"input": -1, "output": 1}"#, "price");
        check(r#""key_env": "A", "key_file": "b""#, "key_file");
        check(r#""reasoning_effort": "enormous""#, "reasoning_effort");
        assert!(read(r#", "api_key": "sk-1""#).expect_err("no place for keys").contains("api_key"));
    }
}
