//! Embeddings: the same care as for questions, and vectors as answers.

use super::*;
use forerunner_core::Error;
use forerunner_scripted_model::Reply;
use std::time::Duration;

fn embed(models: &Models, text: &str, ordinal: u32, host: &dyn Host) -> Answer {
    models.embed("m", text, 7, ordinal, host).expect("an answer")
}

fn vector(answer: &Answer) -> Vec<f32> {
    serde_json::from_str(text(answer)).expect("a list of numbers")
}

#[test]
fn vectors_come_from_the_provider_once() {
    let server = Server::start(|_| Reply::text("").usage(1000, 0)).expect("a server");
    let mut config = config(&server);
    config.temperature = Some(0.5);
    config.price = serde_json::from_str(r#"{"input": 2.0, "output": 0.0}"#).ok();
    let host = host();
    let first = models(config.clone());
    let near = embed(&first, "larger batches of tokens", 0, &host);
    let far = embed(&first, "fewer layers", 1, &host);
    assert_eq!((kind(&near), near.attempts), ("reply", 1));
    assert_eq!((near.cost.tokens_in, near.cost.tokens_out), (1000, 0));
    assert!((near.cost.dollars - 0.002).abs() < 1e-12, "{near:?}");
    assert_eq!((vector(&near).len(), vector(&far).len()), (256, 256));
    assert_ne!(text(&near), text(&far));
    let numbers = text(&near).trim_matches(['[', ']']).split(',');
    assert!(numbers.map(|number| number.len()).all(|length| length <= 7), "{near:?}");

    let asked = server.asked();
    assert_eq!(asked[0].path, "/v1/embeddings");
    assert_eq!(
        (asked[0].model(), asked[0].last_user().as_str()),
        ("scripted-1", "larger batches of tokens")
    );
    // A call like any other: recalled without a request, and counted again.
    let calls = host.calls();
    assert_eq!((calls[0].0.purpose.as_str(), calls[0].0.messages.len()), ("embedding", 1));
    assert_eq!(calls[0].0.parameters.keys().collect::<Vec<_>>(), ["model", "provider"]);
    drop(server);
    let again = models(config);
    assert_eq!(embed(&again, "larger batches of tokens", 0, &host), near);
    assert_eq!(host.calls().len(), 2);
    assert_eq!(host.spent().tokens_in, 3000);
}

#[test]
fn given_numbers_are_rounded() {
    let server = Server::start(|_| Reply::text("[0.123456, -0.5, 0]")).expect("a server");
    let answer = embed(&models(config(&server)), "text", 0, &host());
    assert_eq!(text(&answer), "[0.12346,-0.5,0.0]");
    // Nothing was estimated for numbers that came back.
    assert_eq!((answer.cost.tokens_in, answer.cost.tokens_out), (1, 0));
}

/// What comes of a server that always answers `reply`: the kind of answer and the number of
/// requests, of which four are allowed.
fn check(reply: Reply, expected: &str, requests: usize) {
    let context = format!("{reply:?}");
    let server = Server::scripted(vec![reply]).expect("a server");
    let mut config = config(&server);
    config.timeout_seconds = 0.5;
    let host = host();
    let answer = embed(&models(config), "text", 0, &host);
    assert_eq!(kind(&answer), expected, "{context}: {answer:?}");
    assert_eq!(server.asked().len(), requests, "{context}");
    assert_eq!(answer.attempts as usize, requests, "{context}");
    // Whatever came, the host has it.
    assert_eq!(host.calls()[0].1, answer, "{context}");
    assert_eq!(host.spent(), answer.cost, "{context}");
}

#[test]
fn failures_have_the_same_kinds_as_elsewhere() {
    check(Reply::status(401), "unauthorized", 1);
    check(Reply::status(404), "invalid_request", 1);
    check(Reply::status(429), "rate_limited", 4);
    check(Reply::status(500), "unavailable", 4);
    check(Reply::malformed(), "malformed", 4);
    check(Reply::strange(), "malformed", 4);
    check(Reply::truncated("x"), "malformed", 4);
    check(Reply::closed(), "network", 4);
    check(Reply::half(), "network", 4);
    check(Reply::text("[]"), "empty", 2);
    check(Reply::hang(), "timeout", 2);
    check(Reply::slow(Duration::from_millis(30), Reply::text("")), "reply", 1);
}

#[test]
fn a_failure_that_passes_is_asked_again() {
    let replies = vec![Reply::status(503), Reply::text("[1]")];
    let server = Server::scripted(replies).expect("a server");
    let answer = embed(&models(config(&server)), "text", 0, &host());
    assert_eq!((text(&answer), answer.attempts), ("[1.0]", 2));
}

#[test]
fn long_vectors_and_providers_without_any_are_failures() {
    let server = Server::start(|_| Reply::text("")).expect("a server");
    let mut short = config(&server);
    short.max_reply_bytes = 100;
    assert_eq!(kind(&embed(&models(short), "text", 0, &host())), "too_long");
    for provider in ["anthropic", "cohere"] {
        let mut without = config(&server);
        without.provider = Some(provider.to_owned());
        let answer = embed(&models(without), "text", 0, &host());
        assert_eq!(kind(&answer), "invalid_request", "{answer:?}");
    }
    assert_eq!(server.count(), 1);
    let error = models(config(&server)).embed("nobody", "text", 7, 0, &host());
    assert!(matches!(error, Err(Error::Config(_))), "{error:?}");
}

#[test]
fn the_key_goes_to_the_server_and_nowhere_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    std::fs::write(&path, "sk-embedding-0123456789").expect("written");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
    }
    let server = Server::start(|asked| match asked.number {
        0 => Reply::text(""),
        // Repeats the key.
        _ => Reply::status(401),
    });
    let server = server.expect("a server");
    let mut config = config(&server);
    config.key_file = Some(path);
    let models = models(config);
    let host = host();
    assert_eq!(kind(&embed(&models, "text", 0, &host)), "reply");
    assert_eq!(kind(&embed(&models, "text", 1, &host)), "unauthorized");
    assert!(server.asked().iter().all(|asked| asked.key() == Some("sk-embedding-0123456789")));
    let stored = format!("{:?}", host.calls());
    assert!(!stored.contains("0123456789"), "{stored}");
}
