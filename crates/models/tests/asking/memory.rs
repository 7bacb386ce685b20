//! What the host knows is not asked again, and what models are told apart by.

use super::*;
use forerunner_core::{Call, Cost, Error, Result};
use forerunner_scripted_model::Reply;
use std::{path::PathBuf, sync::Mutex};

#[test]
fn a_recalled_answer_makes_no_request() {
    let server = Server::scripted(vec![Reply::text("First.").usage(10, 5), Reply::status(400)]);
    let server = server.expect("a server");
    let host = host();
    let first = models(config(&server));
    let reply = first.ask(&question(0), &host).expect("an answer");
    let failure = first.ask(&question(1), &host).expect("an answer");
    assert_eq!((kind(&reply), kind(&failure)), ("reply", "invalid_request"));
    assert_eq!(server.asked().len(), 2);
    // Elsewhere, in more of a hurry, and without a network: the same calls.
    let mut config = config(&server);
    drop(server);
    config.base_url = Some("http://127.0.0.1:9/v1".to_owned());
    config.timeout_seconds = 1.0;
    config.attempts = 1;
    let second = models(config);
    assert_eq!(second.ask(&question(0), &host), Ok(reply));
    assert_eq!(second.ask(&question(1), &host), Ok(failure));
    assert_eq!(host.calls().len(), 2);
    // Counted each time.
    assert_eq!(host.spent(), Cost { tokens_in: 20, tokens_out: 10, dollars: 0.0 });
}

/// Replays nothing, remembers nothing.
struct Failing {
    on_recall: bool,
    spent: Mutex<Cost>,
}

impl Host for Failing {
    fn record(&self, _: &str, _: u64, _: f64) {}
    fn progress(&self, _: f64, _: &str) {}
    fn store(&self, name: &str, _: &[u8]) -> Result<PathBuf> {
        Ok(PathBuf::from(name))
    }
    fn cache_dir(&self) -> PathBuf {
        PathBuf::from(".")
    }
    fn cancelled(&self) -> bool {
        false
    }
    fn recall(&self, _: &Call) -> Result<Option<Answer>> {
        if self.on_recall { Err(Error::failed("the recording lacks the call")) } else { Ok(None) }
    }
    fn remember(&self, _: &Call, _: &Answer) -> Result<()> {
        Err(Error::failed("the disk is full"))
    }
    fn spend(&self, cost: &Cost) {
        *self.spent.lock().expect("no panic") += *cost;
    }
}

#[test]
fn a_replay_asks_nobody_and_a_host_that_forgets_is_an_error() {
    let server = Server::scripted(vec![Reply::text("Done.")]).expect("a server");
    let models = models(config(&server));
    let host = Failing { on_recall: true, spent: Mutex::default() };
    let error = models.ask(&question(0), &host).expect_err("a miss");
    assert_eq!(error.to_string(), "the recording lacks the call");
    assert!(server.asked().is_empty());
    let host = Failing { on_recall: false, spent: Mutex::default() };
    let error = models.ask(&question(0), &host).expect_err("a full disk");
    assert_eq!(error.to_string(), "the disk is full");
}

#[test]
fn calls_hold_what_answers_depend_on() {
    let server = Server::scripted(vec![Reply::text("Done.")]).expect("a server");
    let call = |change: fn(&mut ModelConfig)| {
        let mut config = config(&server);
        change(&mut config);
        models(config).call(&question(0)).expect("configured")
    };
    let plain = call(|_| ());
    assert_eq!(plain.model, "m");
    assert_eq!(plain.parameters["model"], "scripted-1");
    let different: [fn(&mut ModelConfig); 7] = [
        |config| config.model = "scripted-2".to_owned(),
        |config| config.provider = Some("anthropic".to_owned()),
        |config| config.temperature = Some(0.25),
        |config| config.top_p = Some(0.5),
        |config| config.max_tokens = Some(10),
        |config| config.reasoning_effort = Some("high".to_owned()),
        |config| config.extra_body = [("top_k".to_owned(), 5.into())].into_iter().collect(),
    ];
    for change in different {
        assert_ne!(call(change).key(), plain.key());
    }
    let same: [fn(&mut ModelConfig); 4] = [
        |config| config.base_url = Some("https://elsewhere.example/v1".to_owned()),
        |config| config.stream = false,
        |config| config.attempts = 1,
        |config| config.key_file = Some("/nowhere/key".into()),
    ];
    let extra = |text: &str| {
        let mut config = config(&server);
        config.extra_body = serde_json::from_str(text).expect("an object");
        models(config).call(&question(0)).expect("configured").key()
    };
    assert_eq!(
        extra(r#"{"a": {"x": 1, "y": 2}, "b": 3}"#),
        extra(r#"{"b": 3, "a": {"y": 2, "x": 1}}"#)
    );
    for change in same {
        assert_eq!(call(change), plain);
    }
}

#[test]
fn models_are_told_apart_by_name() {
    let server = Server::scripted(vec![Reply::text("Done.")]).expect("a server");
    let error = Models::new(vec![config(&server), config(&server)]).expect_err("twice");
    assert!(error.to_string().contains("two models are called `m`"), "{error}");
    let mut other = config(&server);
    other.name = "other".to_owned();
    other.price = serde_json::from_str(r#"{"input": 0, "output": 0}"#).ok();
    let models = Models::new(vec![config(&server), other]).expect("good configurations");
    assert_eq!(models.names().collect::<Vec<_>>(), ["m", "other"]);
    assert_eq!(models.unpriced(), ["m"]);
    assert_eq!(models.price("other").map(|price| price.input), Some(0.0));
    assert!(models.is_down("nobody"));
    let unknown = Question { model: "nobody", ..question(0) };
    let error = models.ask(&unknown, &host()).expect_err("not configured");
    assert!(error.to_string().contains("known: m, other"), "{error}");
}

#[test]
fn listed_prices_hold_at_the_providers_own_address_only() {
    let price = |text: &str| {
        let config = serde_json::from_str(text).expect("a configuration");
        models(config).price("m").map(|price| price.input)
    };
    assert!(price(r#"{"name": "m", "provider": "openai", "model": "gpt-4o"}"#).is_some());
    assert_eq!(
        price(r#"{"name": "m", "model": "gpt-4o", "base_url": "http://localhost:1/v1"}"#),
        None
    );
    let own = r#"{"name": "m", "provider": "openai", "model": "gpt-4o", "price": {"input": 7, "output": 8}}"#;
    assert_eq!(price(own), Some(7.0));
}
