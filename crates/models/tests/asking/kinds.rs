//! Every kind of reply, in both formats, streamed and not: the right outcome, and the right number
//! of requests.

use super::*;
use forerunner_scripted_model::{Reply, Stop};
use std::time::Duration;

/// What comes of a server that always answers `reply`: the kind of answer and the number of
/// requests, of which four are allowed.
fn check(reply: &Reply, expected: &'static str, requests: usize) {
    check_with(reply, |_| (), |_| (expected, requests));
}

fn check_with(
    reply: &Reply,
    change: impl Fn(&mut ModelConfig),
    expected: impl Fn((&str, bool)) -> (&'static str, usize),
) {
    for (provider, stream) in MODES {
        let server = Server::scripted(vec![reply.clone()]).expect("a server");
        let mut config = config(&server);
        config.provider = Some(provider.to_owned());
        config.stream = stream;
        change(&mut config);
        let host = host();
        let answer = ask(&models(config), &host);
        let context = format!("{provider}, streamed: {stream}, {reply:?}: {answer:?}");
        let (kind_wanted, requests) = expected((provider, stream));
        assert_eq!(kind(&answer), kind_wanted, "{context}");
        assert_eq!(server.asked().len(), requests, "{context}");
        assert_eq!(answer.attempts as usize, requests, "{context}");
        assert!(server.asked().iter().all(|asked| asked.stream == stream), "{context}");
        // Whatever came, the host has it.
        assert_eq!(host.calls().len(), 1, "{context}");
        assert_eq!(host.calls()[0].1, answer, "{context}");
        assert_eq!(host.spent(), answer.cost, "{context}");
    }
}

#[test]
fn replies() {
    let said = "Use a larger batch.\n\u{1b}[31mRed.";
    for (provider, stream) in MODES {
        let server = Server::scripted(vec![Reply::text(said).usage(120, 34)]).expect("a server");
        let mut config = config(&server);
        config.provider = Some(provider.to_owned());
        config.stream = stream;
        config.temperature = Some(0.5);
        config.max_tokens = Some(99);
        config.price = serde_json::from_str(r#"{"input": 2.0, "output": 10.0}"#).ok();
        let answer = ask(&models(config), &host());
        // Stored as it came: it is data, and whoever shows it cleans it.
        assert_eq!(answer.outcome, Answered::Reply { text: said.to_owned(), cut: false });
        assert_eq!(
            (answer.cost.tokens_in, answer.cost.tokens_out),
            (120, 34),
            "{provider} {stream}"
        );
        assert!((answer.cost.dollars - 580e-6).abs() < 1e-12, "{answer:?}");
        let asked = server.asked();
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].model(), "scripted-1");
        assert_eq!(asked[0].system(), "You are brief.");
        assert_eq!(asked[0].last_user(), "What could be faster?");
        assert_eq!(asked[0].body["temperature"], 0.5);
        assert_eq!(asked[0].body["max_tokens"], 99);
    }
    check(&Reply::cut("As far as it"), "cut", 1);
    check(&Reply::slow(Duration::from_millis(30), Reply::text("Here.")), "reply", 1);
    check(&Reply::text("<think>Hm.</think>Yes."), "reply", 1);
}

#[test]
fn refusals_are_final() {
    check(&Reply::refusal("I cannot help with that."), "refused", 1);
    check(&Reply::text("Half of").stop(Stop::Filter), "refused", 1);
}

#[test]
fn nothing_said() {
    check(&Reply::empty(), "empty", 2);
    check(&Reply::text("  \n"), "empty", 2);
    check(&Reply::text("<think>Hm."), "empty", 2);
    // The same limit would cut it off again.
    check(&Reply::empty().stop(Stop::Length), "empty", 1);
    let server = Server::scripted(vec![Reply::empty().stop(Stop::Length)]).expect("a server");
    let answer = ask(&models(config(&server)), &host());
    assert!(text(&answer).contains("cut off"), "{answer:?}");
    assert!(
        text(&answer).ends_with("\nhint: raise max_tokens or lower reasoning_effort"),
        "{answer:?}"
    );
}

#[test]
fn huge_replies_end_at_the_limit() {
    let small = |config: &mut ModelConfig| config.max_reply_bytes = 100_000;
    check_with(&Reply::huge(100_000), small, |_| ("reply", 1));
    check_with(&Reply::huge(100_001), small, |_| ("too_long", 1));
    check_with(&Reply::huge(8 << 20), small, |_| ("too_long", 1));
}

#[test]
fn unreadable_replies_are_asked_for_again() {
    check(&Reply::malformed(), "malformed", 4);
    check(&Reply::truncated("What a pity that this"), "malformed", 4);
    check(&Reply::strange(), "malformed", 4);
}

#[test]
fn connections_that_break_off() {
    let long = "A reply of some length, so that it comes in several pieces. ".repeat(10);
    check(&Reply::dropped(&long, 3), "network", 4);
    check(&Reply::half(), "network", 4);
    check(&Reply::closed(), "network", 4);
    // An error in mid-stream; in place of the reply when nothing is streamed.
    check(&Reply::failing(&long, 3), "unavailable", 4);
}

#[test]
fn nobody_is_there() {
    let server = Server::scripted(vec![Reply::text("never")]).expect("a server");
    let config = config(&server);
    drop(server);
    let answer = ask(&models(config), &host());
    assert_eq!((kind(&answer), answer.attempts), ("network", 4), "{answer:?}");
    assert!(text(&answer).contains("cannot connect"), "{answer:?}");
}

#[test]
fn nobody_there_speaks_tls() {
    let server = Server::scripted(vec![Reply::text("never")]).expect("a server");
    let mut config = config(&server);
    config.base_url = Some(server.base_url().replace("http://", "https://"));
    match models(config).ask(&question(0), &host()) {
        Ok(answer) => assert_eq!((kind(&answer), answer.attempts), ("network", 4), "{answer:?}"),
        // A machine without certificates of authorities cannot ask anybody, and says so.
        Err(error) => assert!(error.to_string().contains("certificates"), "{error}"),
    }
    assert!(server.asked().is_empty());
}

#[test]
fn errors_of_the_provider() {
    for status in [500, 502, 503, 504, 529, 409] {
        check(&Reply::status(status), "unavailable", 4);
    }
    check(&Reply::status(408), "timeout", 2);
    check(&Reply::status(429), "rate_limited", 4);
    check(&Reply::status(429).retry_after(0.01), "rate_limited", 4);
    for status in [400, 404, 413, 422] {
        check(&Reply::status(status), "invalid_request", 1);
    }
    for status in [401, 403] {
        check(&Reply::status(status), "unauthorized", 1);
    }
    check(&Reply::status(402), "rate_limited", 1);
    let moved = Reply::raw(302, "text/plain", "").header("location", "http://127.0.0.1:9/v1/");
    check(&moved, "invalid_request", 1);
    check(&Reply::raw(200, "text/html", "<h1>Welcome</h1>"), "malformed", 4);
}

#[test]
fn quota_that_is_used_up_is_not_asked_for_again() {
    let server = Server::scripted(vec![
        Reply::error(429, "You exceeded your quota").code("insufficient_quota"),
    ]);
    let server = server.expect("a server");
    let answer = ask(&models(config(&server)), &host());
    assert_eq!((kind(&answer), server.asked().len()), ("rate_limited", 1), "{answer:?}");
}

#[test]
fn silence_ends_with_time() {
    // Each may be charged for: once more, and no more.
    let short = |config: &mut ModelConfig| config.timeout_seconds = 0.1;
    check_with(&Reply::hang(), short, |_| ("timeout", 2));
    let idle = |config: &mut ModelConfig| {
        config.idle_timeout_seconds = 0.1;
        // Whole replies know only one time limit.
        if !config.stream {
            config.timeout_seconds = 0.1;
        }
    };
    let long = "A reply of some length, so that it comes in several pieces. ".repeat(10);
    check_with(&Reply::stalled(&long, 2), idle, |_| ("timeout", 2));
    // Slow, but never silent for long.
    let patient = |config: &mut ModelConfig| config.idle_timeout_seconds = 10.0;
    check_with(&Reply::text(&long).pace(Duration::from_millis(5)), patient, |_| ("reply", 1));
}

#[test]
fn failures_that_pass_are_survived() {
    for (provider, stream) in MODES {
        let script = vec![
            Reply::status(529),
            Reply::status(429).retry_after(0.02),
            Reply::dropped("Half of this is lost, it seems, and half of it arrives here.", 1),
            Reply::text("Finally."),
        ];
        let server = Server::scripted(script).expect("a server");
        let mut config = config(&server);
        config.provider = Some(provider.to_owned());
        config.stream = stream;
        let answer = ask(&models(config), &host());
        assert_eq!((text(&answer), answer.attempts), ("Finally.", 4), "{answer:?}");
        assert_eq!(server.asked().len(), 4);
    }
}

#[test]
fn what_broke_off_is_paid_for() {
    let long = "A reply of some length, so that it comes in several pieces. ".repeat(10);
    for (provider, stream) in MODES {
        let script =
            vec![Reply::dropped(&long, 3).usage(1000, 200), Reply::text("Done.").usage(1000, 2)];
        let server = Server::scripted(script).expect("a server");
        let mut config = config(&server);
        config.provider = Some(provider.to_owned());
        config.stream = stream;
        let answer = ask(&models(config), &host());
        assert_eq!(text(&answer), "Done.");
        let tokens = (answer.cost.tokens_in, answer.cost.tokens_out);
        match (provider, stream) {
            // Counted at the beginning of the stream, with one token of the reply.
            ("anthropic", true) => assert_eq!(tokens.0, 2000, "{answer:?}"),
            _ => assert_eq!(tokens.0, 1000 + ESTIMATE, "{provider}: {answer:?}"),
        }
        // Three pieces of about 48 bytes came in, at four bytes a token.
        let least = if stream { 2 + 3 * 40 / 4 } else { 2 };
        assert!(tokens.1 >= least, "{provider}: {answer:?}");
    }
}

/// The estimate of what [`question`] sends.
const ESTIMATE: u64 = 18;

#[test]
fn what_brought_nothing_is_paid_for_where_it_may_be_charged() {
    let priced = |server: &Server, provider: &str, stream| {
        let mut config = config(server);
        config.provider = Some(provider.to_owned());
        config.stream = stream;
        config.timeout_seconds = 0.1;
        config.price = serde_json::from_str(r#"{"input": 2.0, "output": 10.0}"#).ok();
        config
    };
    // Sent, and maybe answered: the input counts for each request.
    let charged = [(Reply::hang(), 2), (Reply::closed(), 4), (Reply::empty(), 2)];
    // Turned away.
    let free = [(Reply::status(408), 2), (Reply::status(503), 4), (Reply::status(400), 1)];
    for (provider, stream) in MODES {
        for (reply, requests) in &charged {
            let reply = reply.clone().usage(0, 0);
            let server = Server::scripted(vec![reply.clone()]).expect("a server");
            let answer = ask(&models(priced(&server, provider, stream)), &host());
            assert_eq!(answer.attempts, *requests, "{answer:?}");
            let sent = u64::from(*requests) * ESTIMATE;
            assert_eq!(answer.cost.tokens_in, sent, "{provider} {stream} {reply:?}: {answer:?}");
            assert!(answer.cost.dollars >= sent as f64 * 2e-6 * 0.999, "{answer:?}");
        }
        for (reply, requests) in &free {
            let server = Server::scripted(vec![reply.clone()]).expect("a server");
            let answer = ask(&models(priced(&server, provider, stream)), &host());
            assert_eq!(answer.attempts, *requests, "{answer:?}");
            assert_eq!((answer.cost.tokens_in, answer.cost.dollars), (0, 0.0), "{answer:?}");
        }
    }
    let server = Server::scripted(vec![Reply::text("never")]).expect("a server");
    let config = priced(&server, "openai", true);
    drop(server);
    assert_eq!(ask(&models(config), &host()).cost.tokens_in, 0, "nothing was sent");
}

#[test]
fn a_count_of_nothing_is_no_count() {
    let said = "A reply of forty bytes, more or less so.";
    for (provider, stream) in MODES {
        let server = Server::scripted(vec![Reply::text(said).usage(0, 0)]).expect("a server");
        let mut config = config(&server);
        config.provider = Some(provider.to_owned());
        config.stream = stream;
        let answer = ask(&models(config), &host());
        let tokens = (answer.cost.tokens_in, answer.cost.tokens_out);
        assert_eq!(tokens, (ESTIMATE, 10), "{provider} {stream}");
    }
}

#[test]
fn retry_after_is_waited_for() {
    let wait = 0.3;
    let dated =
        jiff::fmt::rfc2822::to_string(&(jiff::Zoned::now() + jiff::SignedDuration::from_hours(1)));
    let dated = dated.expect("a date");
    let asks: [(&str, String, f64); 3] = [
        ("retry-after", wait.to_string(), wait),
        ("retry-after-ms", "300".to_owned(), wait),
        // An hour, cut to the cap.
        ("retry-after", dated, 0.4),
    ];
    for (name, value, least) in asks {
        let script = vec![Reply::status(503).header(name, value.clone()), Reply::text("Back.")];
        let server = Server::scripted(script).expect("a server");
        let mut config = config(&server);
        config.pace.retry_after_cap = 0.4;
        let answer = ask(&models(config), &host());
        assert_eq!(text(&answer), "Back.");
        let asked = server.asked();
        let gap = asked[1].at.duration_since(asked[0].at).as_secs_f64();
        // Never earlier than it was asked for.
        assert!(gap >= least * 0.99, "{name}: {value}: {gap}");
    }
}
