//! Limits on calls in flight and per minute, and cancellation.

use super::*;
use forerunner_core::Error;
use forerunner_scripted_model::Reply;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

#[test]
fn never_more_in_flight_than_allowed() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let server = {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        Server::start(move |_| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(10));
            now.fetch_sub(1, Ordering::SeqCst);
            Reply::text("Done.")
        })
    };
    let server = server.expect("a server");
    let mut config = config(&server);
    config.concurrency = 3;
    let models = models(config);
    let host = host();
    std::thread::scope(|scope| {
        for ordinal in 0..24 {
            let (models, host) = (&models, &host);
            scope.spawn(move || {
                assert_eq!(
                    kind(&models.ask(&question(ordinal), host).expect("an answer")),
                    "reply"
                );
            });
        }
    });
    assert_eq!(server.asked().len(), 24);
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[test]
fn no_more_requests_within_a_minute_than_allowed() {
    let server = Server::scripted(vec![Reply::text("Done.")]).expect("a server");
    let mut config = config(&server);
    config.requests_per_minute = Some(3);
    config.pace.minute = 0.3;
    let models = models(config);
    let host = host();
    let start = Instant::now();
    for ordinal in 0..8 {
        let answer = models.ask(&question(ordinal), &host).expect("an answer");
        // Waiting is no attempt.
        assert_eq!((kind(&answer), answer.attempts), ("reply", 1));
    }
    assert_eq!(server.asked().len(), 8);
    // The seventh comes two such minutes after the first, at the earliest.
    assert!(start.elapsed() >= Duration::from_millis(600));
}

/// Seconds that the requests below take, where nothing cancels them.
const LONG: f64 = 60.0;

/// Cancels while `models` is busy with a question, and waits for its end.
fn cancelled_while(models: &Models, busy: impl Fn() -> bool) -> RecordingHost {
    let host = host();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| models.ask(&question(0), &host));
        while !busy() {
            std::thread::sleep(Duration::from_millis(1));
        }
        host.cancel();
        let cancelled = Instant::now();
        assert_eq!(asking.join().expect("no panic"), Err(Error::Cancelled));
        // Not the request's own end, but ours.
        let took = cancelled.elapsed().as_secs_f64();
        assert!(took < LONG / 4.0, "{took} s");
    });
    // Not an answer, so nothing to remember.
    assert!(host.calls().is_empty());
    host
}

#[test]
fn cancelled_in_mid_request() {
    for (provider, stream) in MODES {
        for reply in [
            Reply::hang(),
            Reply::stalled("Some text that never comes to an end, sadly. ".repeat(9), 2),
        ] {
            let server = Server::scripted(vec![reply]).expect("a server");
            let mut config = config(&server);
            config.provider = Some(provider.to_owned());
            config.stream = stream;
            config.timeout_seconds = LONG;
            config.idle_timeout_seconds = LONG;
            let host = cancelled_while(&models(config), || !server.asked().is_empty());
            assert_eq!(server.asked().len(), 1);
            // Its input is charged for, whatever came of it.
            assert!(host.spent().tokens_in > 0, "{provider} {stream}");
        }
    }
}

#[test]
fn cancelled_while_pausing() {
    let server = Server::scripted(vec![Reply::status(503).retry_after(LONG)]).expect("a server");
    let mut config = config(&server);
    config.pace.retry_after_cap = LONG;
    cancelled_while(&models(config), || !server.asked().is_empty());
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn cancelled_while_waiting_for_a_turn() {
    // For the minute to pass.
    let server = Server::scripted(vec![Reply::text("Done.")]).expect("a server");
    let mut limited = config(&server);
    limited.requests_per_minute = Some(1);
    limited.pace.minute = LONG;
    let limited = models(limited);
    assert_eq!(kind(&limited.ask(&question(1), &host()).expect("an answer")), "reply");
    cancelled_while(&limited, || true);
    assert_eq!(server.asked().len(), 1);

    // For another call to end.
    let server = Server::scripted(vec![Reply::hang()]).expect("a server");
    let mut narrow = config(&server);
    narrow.concurrency = 1;
    narrow.timeout_seconds = LONG;
    narrow.idle_timeout_seconds = LONG;
    let narrow = models(narrow);
    let first = host();
    std::thread::scope(|scope| {
        let hanging = scope.spawn(|| narrow.ask(&question(1), &first));
        while server.asked().is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        cancelled_while(&narrow, || true);
        first.cancel();
        assert_eq!(hanging.join().expect("no panic"), Err(Error::Cancelled));
    });
    assert_eq!(server.asked().len(), 1);
    // The place is free again: what follows gets its turn, and its own outcome.
    drop(server);
    let answer = narrow.ask(&question(2), &host()).expect("an answer");
    assert_eq!(kind(&answer), "network");
}

#[test]
fn what_a_cancelled_call_cost_is_counted() {
    let long = "Some text that comes in pieces and never ends. ".repeat(9);
    let server = Server::scripted(vec![Reply::stalled(long, 4)]).expect("a server");
    let mut config = config(&server);
    config.provider = Some("anthropic".to_owned());
    let models = models(config);
    // Nobody outside can tell when the pieces have been read: more time each time.
    let spent = (1..=8).map(|round| {
        let host = host();
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| models.ask(&question(0), &host));
            while server.asked().len() < round {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(10 << round));
            host.cancel();
            assert_eq!(asking.join().expect("no panic"), Err(Error::Cancelled));
        });
        assert!(host.calls().is_empty());
        host.spent().tokens_out
    });
    // Four pieces of about 48 bytes.
    assert!(spent.into_iter().any(|tokens| tokens >= 40));
}
