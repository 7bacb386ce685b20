//! One model, and what its calls share.

use crate::{
    ModelConfig, Price, Question,
    circuit::Circuit,
    config::seconds,
    failure::{Failure, Kind},
    gate::Gate,
    prices::{self, Tokens},
    provider::{Provider, effort_in_name},
    secret::Key,
    seen::Received,
    text,
    wire::{Line, Reply},
};
use forerunner_core::{Answered, Call, Error, Message, Result};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// One model: its configuration, and what its calls share.
pub(crate) struct Model {
    pub(crate) config: ModelConfig,
    pub(crate) provider: Provider,
    pub(crate) key: Key,
    pub(crate) price: Option<Price>,
    pub(crate) gate: Gate,
    pub(crate) circuit: Circuit,
    line: Mutex<Option<Line>>,
}

impl Model {
    pub(crate) fn new(config: ModelConfig) -> Result<Self> {
        let provider = Provider::of(&config)?;
        let key = Key::find(&config, &provider)?;
        let name = config.name.as_str();
        if let Key::Missing(what) = &key {
            tracing::warn!("{what}");
        }
        if let Some(ending) = effort_in_name(&config) {
            tracing::warn!(
                model = name,
                "`{ending}` at the end of the model's name is sent as its reasoning effort\nhint: set \
                 `reasoning_effort` to send the name as it is"
            );
        }
        // The list holds for the providers' own addresses only.
        let listed = || {
            prices::listed(provider.name, &config.model)
                .filter(|_| provider.base_url.is_none())
                .map(Price::from)
        };
        let price = config.price.or_else(listed);
        if price.is_none() {
            tracing::warn!(
                model = name,
                "no price is known: its answers count as free, and a budget in dollars does not hold for them\nhint: set \
                 `price = {{ input = ..., output = ... }}` in dollars per million tokens"
            );
        }
        let gate = Gate::new(&config);
        let circuit = Circuit::new(config.pace);
        Ok(Self { config, provider, key, price, gate, circuit, line: Mutex::default() })
    }

    pub(crate) fn line(&self) -> Result<Line> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = &*line {
            return Ok(line.clone());
        }
        Ok(line.insert(Line::new(&self.config, &self.provider, &self.key)?).clone())
    }

    /// Everything that the answer depends on. Addresses and limits are left out: a recording holds
    /// wherever and however fast the model was asked.
    pub(crate) fn call(&self, question: &Question<'_>) -> Call {
        let config = &self.config;
        let mut parameters: BTreeMap<String, Value> = BTreeMap::new();
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                parameters.insert(name.to_owned(), value);
            }
        };
        set("provider", Some(self.provider.name.into()));
        set("model", Some(config.model.as_str().into()));
        set("temperature", config.temperature.map(Value::from));
        set("top_p", config.top_p.map(Value::from));
        set("max_tokens", question.max_tokens.or(config.max_tokens).map(Value::from));
        set("reasoning_effort", config.reasoning_effort.as_deref().map(Value::from));
        set("send_seed", config.send_seed.then_some(true.into()));
        let mut extra_body = Value::Object(config.extra_body.clone());
        // The same call, however the file orders its fields.
        extra_body.sort_all_objects();
        set("extra_body", (!config.extra_body.is_empty()).then_some(extra_body));
        Call {
            model: config.name.clone(),
            purpose: question.purpose.to_owned(),
            parameters,
            messages: question.messages.clone(),
            seed: question.seed,
            ordinal: question.ordinal,
        }
    }

    pub(crate) fn failed(&self, failure: &Failure) -> Answered {
        let message = text::for_people(&failure.message, &self.key);
        Answered::Failed { kind: failure.kind.as_str().to_owned(), message }
    }

    pub(crate) fn circuit_open(&self) -> Answered {
        let message = format!(
            "`{}` failed too often in a row and is left alone for a while",
            self.config.name
        );
        self.failed(&Failure::new(Kind::CircuitOpen, message))
    }

    /// What a request took: as the provider counted, else estimated where it may be charged for.
    pub(crate) fn tokens(
        &self,
        result: &Result<Result<Reply, Failure>>,
        seen: &Received,
        estimate: u64,
    ) -> Tokens {
        let came = (seen.bytes as u64).div_ceil(4);
        // A count of nothing at all is none.
        let counted = seen.tokens.filter(|tokens| tokens.total() > 0);
        let replied = matches!(result, Ok(Ok(_)));
        let charged = match result {
            Ok(Ok(_)) => true,
            Ok(Err(failure)) => failure.charged,
            // It is under way when it is given up.
            Err(error) => *error == Error::Cancelled,
        };
        if !charged && counted.is_none() && came == 0 {
            return Tokens::default();
        }
        let mut tokens = counted.unwrap_or_default();
        if tokens.input == 0 {
            tokens.input = estimate;
        }
        // What is counted before the end of a stream is only its beginning.
        if !replied || tokens.output == 0 {
            tokens.output = tokens.output.max(came);
        }
        if counted != Some(tokens) {
            tracing::debug!(
                model = %self.config.name, input = tokens.input, output = tokens.output,
                "the provider did not count all tokens: estimated from bytes"
            );
        }
        tokens
    }

    /// The pause before the next request: drawn evenly below a bound that doubles.
    pub(crate) fn backoff(&self, attempts: u32, question: &Question<'_>) -> Duration {
        let pace = &self.config.pace;
        let bound = (pace.backoff * 2f64.powi(attempts.saturating_sub(1).min(60) as i32))
            .min(pace.backoff_cap);
        // Different calls draw differently; nothing but time depends on it.
        let mut x = question.seed ^ (u64::from(question.ordinal) << 32) ^ u64::from(attempts);
        x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let drawn = ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64;
        seconds(bound * drawn)
    }
}

/// About four bytes make a token.
pub(crate) fn estimated(messages: &[Message]) -> u64 {
    messages.iter().map(|message| (message.text.len() as u64).div_ceil(4) + 4).sum()
}
