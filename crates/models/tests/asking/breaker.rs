//! A provider that is down is left alone: requests are counted.

use super::*;
use forerunner_scripted_model::Reply;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn many_calls_at_a_dead_server_make_no_storm() {
    let server = Server::scripted(vec![Reply::status(503)]).expect("a server");
    let mut config = config(&server);
    config.attempts = 3;
    config.concurrency = 4;
    config.pace.circuit_failures = 2;
    let models = models(config);
    let host = host();
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..60)
            .map(|ordinal| {
                let (models, host) = (&models, &host);
                scope.spawn(move || models.ask(&question(ordinal), host).expect("an answer"))
            })
            .collect();
        calls.into_iter().map(|call| call.join().expect("no panic")).collect()
    });
    let requests = server.asked().len();
    // Two failed calls open it; three more may be on their way, with at most three requests each.
    assert!((6..=15).contains(&requests), "{requests}");
    let attempts: u32 = answers.iter().map(|answer| answer.attempts).sum();
    assert_eq!(attempts as usize, requests);
    let count = |word: &str| answers.iter().filter(|answer| kind(answer) == word).count();
    assert_eq!(count("unavailable") + count("circuit_open"), 60);
    assert!(count("circuit_open") >= 55, "{}", count("circuit_open"));
    assert!(models.is_down("m"));
    // No call is lost, and none is kept twice.
    assert_eq!(host.calls().len(), 60);
    let later = models.ask(&question(99), &host).expect("an answer");
    assert_eq!((kind(&later), later.attempts), ("circuit_open", 0));
    assert_eq!(server.asked().len(), requests);
}

#[test]
fn one_call_looks_whether_it_is_back() {
    static BACK: AtomicBool = AtomicBool::new(false);
    let server = Server::start(|_| match BACK.load(Ordering::Relaxed) {
        true => Reply::text("Back."),
        false => Reply::status(500),
    });
    let server = server.expect("a server");
    let mut config = config(&server);
    config.attempts = 3;
    config.pace.circuit_failures = 1;
    config.pace.circuit_pause = 0.0;
    let models = models(config);
    let host = host();
    let ask = |ordinal| models.ask(&question(ordinal), &host).expect("an answer");
    assert_eq!(ask(0).attempts, 3);
    // The pause is over at once; the call that looks sends one request only.
    let probe = ask(1);
    assert_eq!((kind(&probe), probe.attempts), ("unavailable", 1));
    assert_eq!(server.asked().len(), 4);
    BACK.store(true, Ordering::Relaxed);
    assert_eq!(kind(&ask(2)), "reply");
    assert!(!models.is_down("m"));
    assert_eq!(kind(&ask(3)), "reply");
    assert_eq!(server.asked().len(), 6);
}

#[test]
fn quota_that_is_used_up_opens_it_at_once() {
    let broke = Reply::error(429, "You exceeded your quota").code("insufficient_quota");
    let server = Server::scripted(vec![broke]).expect("a server");
    let mut config = config(&server);
    config.pace.circuit_failures = 5;
    let models = models(config);
    let host = host();
    let kinds: Vec<String> = (0..3)
        .map(|ordinal| kind(&models.ask(&question(ordinal), &host).expect("an answer")).to_owned())
        .collect();
    assert_eq!(kinds, ["rate_limited", "circuit_open", "circuit_open"]);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn answers_that_are_no_use_do_not_open_it() {
    let server = Server::scripted(vec![Reply::status(400)]).expect("a server");
    let mut config = config(&server);
    config.pace.circuit_failures = 1;
    let models = models(config);
    for ordinal in 0..4 {
        let answer = models.ask(&question(ordinal), &host()).expect("an answer");
        assert_eq!(kind(&answer), "invalid_request");
    }
    assert_eq!(server.asked().len(), 4);
    assert!(!models.is_down("m"));
}
