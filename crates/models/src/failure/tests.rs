//! Every failure has its kind, and what follows from it.

use super::*;
use serde_json::json;

#[test]
fn every_status_has_its_consequence() {
    let check = |status, body: &str, kind, again, sign| {
        let failure = Failure::of_status(status, None, body);
        assert_eq!(
            (failure.kind, failure.again, failure.sign),
            (kind, again, sign),
            "{status} {body}"
        );
        failure.message
    };
    use {Again::*, Kind::*, Sign::*};
    for status in [409, 500, 502, 503, 504, 520, 529] {
        check(status, "", Unavailable, Yes, Down);
    }
    check(501, "", Unavailable, Never, Down);
    check(408, "", Timeout, Once, Down);
    check(429, "", RateLimited, Yes, Down);
    for status in [400, 404, 405, 413, 422, 302] {
        check(status, "", InvalidRequest, Never, Alive);
    }
    for status in [401, 403] {
        check(status, "", Unauthorized, Never, Down);
    }
    check(
        400,
        r#"{"error":{"message":"API key not valid. Please pass a valid one."}}"#,
        Unauthorized,
        Never,
        Down,
    );
    let unverified = r#"{"error":{"message":"Your organization must be verified to stream this model.","param":"stream"}}"#;
    let message = check(400, unverified, InvalidRequest, Never, Alive);
    assert!(message.ends_with("model.\nhint: set stream = false"), "{message}");
    let upstream = r#"{"error":{"message":"bad upstream"}}"#;
    assert!(!check(400, upstream, InvalidRequest, Never, Alive).contains("hint"));
    check(402, "", RateLimited, Never, Closed);
    let quota = r#"{"error":{"message":"You exceeded your quota","code":"insufficient_quota"}}"#;
    assert_eq!(check(429, quota, RateLimited, Never, Closed), "HTTP 429: You exceeded your quota");
    let balance = r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low"}}"#;
    check(400, balance, RateLimited, Never, Closed);
    check(400, r#"{"error":{"code":"content_filter","message":"no"}}"#, Refused, Never, Alive);
    let busy = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    assert_eq!(check(529, busy, Unavailable, Yes, Down), "HTTP 529: Overloaded");
    assert_eq!(
        check(500, "<html>oops</html>", Unavailable, Yes, Down),
        "HTTP 500: <html>oops</html>"
    );
}

#[test]
fn errors_within_streams_are_told_apart() {
    let kind = |body: Value| Failure::of_event(&body).kind;
    let anthropic = |word: &str| json!({"type": "error", "error": {"type": word, "message": "x"}});
    assert_eq!(kind(anthropic("overloaded_error")), Kind::Unavailable);
    assert_eq!(kind(anthropic("api_error")), Kind::Unavailable);
    assert_eq!(kind(anthropic("rate_limit_error")), Kind::RateLimited);
    assert_eq!(kind(anthropic("authentication_error")), Kind::Unauthorized);
    assert_eq!(kind(anthropic("invalid_request_error")), Kind::InvalidRequest);
    assert_eq!(kind(json!({"message": "x", "type": "server_error"})), Kind::Unavailable);
    assert_eq!(kind(json!({"message": "x", "code": 429})), Kind::RateLimited);
    assert_eq!(kind(json!({"message": "x", "code": "content_filter"})), Kind::Refused);
    assert_eq!(kind(json!("strange")), Kind::Unavailable);
}

#[test]
fn retry_after_is_read_in_all_its_forms() {
    let read = |name: &'static str, value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().expect("a header"));
        retry_after(&headers).map(|wait| wait.as_secs_f64())
    };
    assert_eq!(read("retry-after", "7"), Some(7.0));
    assert_eq!(read("retry-after", "0.5"), Some(0.5));
    assert_eq!(read("retry-after-ms", "250"), Some(0.25));
    assert_eq!(read("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT"), Some(0.0));
    assert!(read("retry-after", "Wed, 21 Oct 2099 07:28:00 GMT").is_some_and(|wait| wait > 1e9));
    for nonsense in ["soon", "-3", "NaN", "inf", "1e400", ""] {
        assert_eq!(read("retry-after", nonsense), None, "{nonsense}");
    }
}
