//! The server, spoken to byte by byte.

use crate::client::{CHAT, Client, MESSAGES, Response, question};
use forerunner_scripted_model::{Reply, Script, Server, Stop, Wire};
use serde_json::{Value, json};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

fn one(reply: Reply, path: &str, stream: bool) -> Response {
    let server = Server::scripted(vec![reply]).expect("a server");
    Client::new(&server).ask(path, &question(stream))
}

#[test]
fn chat_completions_are_whole() {
    let response = one(Reply::text("Hello.").usage(7, 2), CHAT, false);
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    let body = response.json();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["model"], "small");
    assert_eq!(body["choices"][0]["message"]["role"], "assistant");
    assert_eq!(body["choices"][0]["message"]["content"], "Hello.");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(body["usage"]["prompt_tokens"], 7);
    assert_eq!(body["usage"]["completion_tokens"], 2);
    assert_eq!(body["usage"]["total_tokens"], 9);
}

#[test]
fn messages_are_whole() {
    let body = one(Reply::text("Hello.").usage(7, 2), MESSAGES, false).json();
    assert_eq!(body["type"], "message");
    assert_eq!(body["content"], json!([{ "type": "text", "text": "Hello." }]));
    assert_eq!(body["stop_reason"], "end_turn");
    assert_eq!(body["usage"]["input_tokens"], 7);
    assert_eq!(body["usage"]["output_tokens"], 2);
}

#[test]
fn tokens_are_counted_when_they_are_not_given() {
    // The prompt has 14 bytes, the reply 6.
    let body = one(Reply::text("Hello."), MESSAGES, false).json();
    assert_eq!(
        (&body["usage"]["input_tokens"], &body["usage"]["output_tokens"]),
        (&json!(4), &json!(2))
    );
}

#[test]
fn chat_completions_are_streamed() {
    let server =
        Server::scripted(vec![Reply::text("grüße, world").pieces_of(4)]).expect("a server");
    let mut client = Client::new(&server);
    let mut asked = question(true);
    asked["stream_options"] = json!({ "include_usage": true });
    let response = client.ask(CHAT, &asked);
    assert!(response.complete);
    assert!(
        response.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"))
    );
    assert_eq!(response.events().last(), Some(&"[DONE]"));
    let events = response.json_events();
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let pieces: Vec<&str> = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
        .filter(|piece| !piece.is_empty())
        .collect();
    assert_eq!(pieces.concat(), "grüße, world");
    assert!(pieces.len() >= 3, "{pieces:?}");
    let [.., end, usage] = &events[..] else { panic!("{events:?}") };
    assert_eq!(end["choices"][0]["finish_reason"], "stop");
    assert_eq!((&usage["choices"], &usage["usage"]["completion_tokens"]), (&json!([]), &json!(4)));

    // Without the wish for it there is no usage; the connection serves on.
    let response = client.ask(CHAT, &question(true));
    assert!(response.json_events().iter().all(|event| event.get("usage").is_none()));
    assert_eq!(server.connections(), 1);
}

#[test]
fn messages_are_streamed() {
    let response = one(Reply::cut("one two three").pieces_of(5).usage(30, 4), MESSAGES, true);
    let names: Vec<&str> =
        response.body.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    let expected = "message_start content_block_start ping content_block_delta content_block_delta \
                    content_block_delta content_block_stop message_delta message_stop";
    assert_eq!(names.join(" "), expected);
    let events = response.json_events();
    for (event, name) in events.iter().zip(names) {
        assert_eq!(event["type"], name);
    }
    assert_eq!(events[0]["message"]["usage"]["input_tokens"], 30);
    let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(text, "one two three");
    assert_eq!(events[7]["delta"]["stop_reason"], "max_tokens");
    assert_eq!(events[7]["usage"]["output_tokens"], 4);
}

#[test]
fn reasons_for_stopping_have_the_providers_names() {
    for (stop, chat, messages) in [
        (Stop::Natural, "stop", "end_turn"),
        (Stop::Length, "length", "max_tokens"),
        (Stop::Filter, "content_filter", "refusal"),
        (Stop::Refusal, "stop", "refusal"),
    ] {
        let reply = Reply::text("No.").stop(stop);
        let body = one(reply.clone(), CHAT, false).json();
        assert_eq!(body["choices"][0]["finish_reason"], chat);
        let said = if stop == Stop::Refusal { "refusal" } else { "content" };
        assert_eq!(body["choices"][0]["message"][said], "No.");
        assert_eq!(one(reply, MESSAGES, false).json()["stop_reason"], messages);
    }
    let streamed = one(Reply::refusal("No."), CHAT, true).json_events();
    assert!(streamed.iter().any(|event| event["choices"][0]["delta"]["refusal"] == "No."));
}

#[test]
fn errors_have_the_providers_forms() {
    for (status, chat_kind, messages_kind) in [
        (400, "invalid_request_error", "invalid_request_error"),
        (401, "invalid_request_error", "authentication_error"),
        (404, "invalid_request_error", "not_found_error"),
        (429, "requests", "rate_limit_error"),
        (500, "server_error", "api_error"),
        (529, "server_error", "overloaded_error"),
    ] {
        let response = one(Reply::status(status).retry_after(1.5), CHAT, true);
        assert_eq!((response.status, response.header("retry-after")), (status, Some("1.5")));
        let error = &response.json()["error"];
        assert_eq!(error["type"], chat_kind);
        assert!(error["message"].is_string() && error.get("code").is_some(), "{error}");

        let body = one(Reply::error(status, "because"), MESSAGES, false).json();
        assert_eq!(
            (&body["type"], &body["error"]["type"]),
            (&json!("error"), &json!(messages_kind))
        );
        assert_eq!(body["error"]["message"], "because");
    }
    let code = one(Reply::status(429).code("insufficient_quota"), CHAT, false).json();
    assert_eq!(code["error"]["code"], "insufficient_quota");
}

#[test]
fn a_wrong_key_is_repeated_in_the_error() {
    let server = Server::guarded("right", |_| Reply::text("Come in.")).expect("a server");
    for (path, headers, expected) in [
        (CHAT, "Authorization: Bearer right\r\n", 200),
        (MESSAGES, "x-api-key: right\r\n", 200),
        (CHAT, "Authorization: Bearer sk-wrong\r\n", 401),
        (MESSAGES, "x-api-key: sk-wrong\r\n", 401),
        (CHAT, "", 401),
    ] {
        let mut client = Client::new(&server);
        client.post(path, headers, &question(false).to_string());
        let response = client.response().expect("there is a response");
        assert_eq!(response.status, expected, "{headers}");
        assert_eq!(response.body.contains("sk-wrong"), headers.contains("sk-wrong"));
    }
}

#[test]
fn what_is_broken_is_broken_as_described() {
    let text = "a text of some length, so that there is a middle";
    let broken = |reply: Reply, stream: bool| one(reply, CHAT, stream);
    assert!(serde_json::from_str::<Value>(&broken(Reply::malformed(), false).body).is_err());
    assert!(broken(Reply::strange(), false).json()["choices"].is_null());
    assert_eq!(broken(Reply::empty(), false).json()["choices"][0]["message"]["content"], "");
    assert_eq!(one(Reply::empty(), MESSAGES, false).json()["content"], json!([]));

    let truncated = broken(Reply::truncated(text), false);
    assert!(truncated.complete && serde_json::from_str::<Value>(&truncated.body).is_err());
    let truncated = broken(Reply::truncated(text), true);
    let last = truncated.events().last().copied().unwrap_or_default().to_owned();
    assert!(truncated.complete && serde_json::from_str::<Value>(&last).is_err(), "{last}");

    assert!(!broken(Reply::half(), false).complete);
    let dropped = broken(Reply::dropped(text, 2).pieces_of(3), true);
    assert!(!dropped.complete);
    // The opening and two pieces.
    assert_eq!(dropped.json_events().len(), 3);

    let failing = one(Reply::failing(text, 1).pieces_of(3), MESSAGES, true);
    assert!(failing.complete);
    assert_eq!(failing.json_events().last().expect("events")["error"]["type"], "overloaded_error");
    assert_eq!(one(Reply::failing(text, 1), MESSAGES, false).status, 529);
    assert_eq!(one(Reply::failing(text, 0), CHAT, true).status, 529);

    let huge = broken(Reply::huge(5_000_000), false).json();
    let content = huge["choices"][0]["message"]["content"].as_str().expect("a text").len();
    assert_eq!(content, 5_000_000);

    let server = Server::scripted(vec![Reply::closed()]).expect("a server");
    let mut client = Client::new(&server);
    client.post(CHAT, "", &question(false).to_string());
    assert!(client.response().is_none());
}

#[test]
fn a_server_that_stops_lets_go_of_those_who_hang() {
    for reply in [
        Reply::hang(),
        Reply::stalled("never to end", 1),
        Reply::slow(Duration::from_secs(3600), Reply::text("late")),
        Reply::text("one two three").pieces_of(4).pace(Duration::from_secs(3600)),
    ] {
        let server = Server::scripted(vec![reply]).expect("a server");
        let mut client = Client::new(&server);
        client.post(CHAT, "", &question(true).to_string());
        while server.count() == 0 {
            std::thread::yield_now();
        }
        drop(server);
        assert!(client.response().is_none_or(|response| !response.complete));
        assert!(client.closed());
    }
}

#[test]
fn a_client_that_hangs_up_frees_the_server() {
    let server = Server::scripted(vec![Reply::hang(), Reply::text("next")]).expect("a server");
    let mut client = Client::new(&server);
    client.post(CHAT, "", &question(false).to_string());
    while server.count() == 0 {
        std::thread::yield_now();
    }
    drop(client);
    let response = Client::new(&server).ask(CHAT, &question(false));
    assert_eq!(response.json()["choices"][0]["message"]["content"], "next");
}

#[test]
fn replies_are_computed_from_requests_which_are_logged() {
    let server = Server::start(|asked| {
        assert!(!asked.model().is_empty(), "a question names a model");
        Reply::text(format!("{} said {}", asked.system(), asked.last_user()))
    })
    .expect("a server");
    let mut client = Client::new(&server);
    let chat = json!({ "model": "a", "messages": [
        { "role": "system", "content": "Chorus" },
        { "role": "user", "content": "first" },
        { "role": "assistant", "content": "yes" },
        { "role": "user", "content": [{ "type": "text", "text": "second" }] },
    ] });
    let body = client.ask("chat/completions?x=y", &chat).json();
    assert_eq!(body["choices"][0]["message"]["content"], "Chorus said second");
    let messages = json!({ "model": "b", "stream": true,
        "system": [{ "type": "text", "text": "Choir" }],
        "messages": [{ "role": "user", "content": "third" }] });
    client.post(MESSAGES, "X-Test: yes\r\n", &messages.to_string());
    assert!(client.response().expect("there is a response").body.contains("Choir said third"));
    // A script that panics is an error for the client, not a silence.
    assert_eq!(client.ask(CHAT, &json!({})).status, 500);

    let asked = server.asked();
    assert_eq!(asked.iter().map(|asked| asked.number).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(
        (asked[0].wire(), asked[0].path.as_str()),
        (Wire::ChatCompletions, "/v1/chat/completions")
    );
    assert_eq!((asked[1].wire(), asked[1].model()), (Wire::Messages, "b"));
    assert_eq!((asked[0].stream, asked[1].stream), (false, true));
    assert_eq!(asked[1].header("x-test"), Some("yes"));
    assert!(asked[0].at <= asked[1].at);
    assert_eq!(server.connections(), 1, "the connection is kept");

    server.keep_last(1);
    client.ask(CHAT, &chat);
    let numbers: Vec<usize> = server.asked().iter().map(|asked| asked.number).collect();
    assert_eq!((numbers, server.count()), (vec![3], 4));
}

#[test]
fn bodies_come_in_any_form() {
    let server =
        Server::start(|asked| Reply::text(asked.last_user().len().to_string())).expect("a server");
    let content = |response: &Response| {
        response.json()["choices"][0]["message"]["content"].as_str().map(str::to_owned)
    };
    let mut large = question(false);
    large["messages"][0]["content"] = json!("x".repeat(8_000_000));
    let mut client = Client::new(&server);
    assert_eq!(content(&client.ask(CHAT, &large)).as_deref(), Some("8000000"));

    let body = question(false).to_string();
    let (first, second) = body.split_at(10);
    client.send(
        format!(
            "POST /v1/{CHAT} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
             {:x}\r\n{first}\r\n{:X}\r\n{second}\r\n0\r\n\r\n",
            first.len(),
            second.len()
        )
        .as_bytes(),
    );
    assert_eq!(content(&client.response().expect("a response")).as_deref(), Some("14"));

    let length = body.len();
    client.send(
        format!(
            "POST /v1/{CHAT} HTTP/1.1\r\nExpect: 100-continue\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n"
        )
        .as_bytes(),
    );
    assert_eq!(client.go_ahead(), 100);
    client.send(body.as_bytes());
    assert_eq!(content(&client.response().expect("a response")).as_deref(), Some("14"));
    assert!(client.closed());
}

#[test]
fn what_is_no_question_is_refused() {
    let server = Server::scripted(vec![Reply::text("yes")]).expect("a server");
    let mut client = Client::new(&server);
    client.post(CHAT, "", "{not json");
    assert_eq!(client.response().map(|response| response.status), Some(400));
    client.post("elsewhere", "", "{}");
    assert_eq!(client.response().map(|response| response.status), Some(404));
    client.send(b"GET /v1/models HTTP/1.1\r\n\r\n");
    assert_eq!(client.response().expect("a response").json()["object"], "list");
    assert_eq!(server.count(), 1, "only questions count");
}

#[test]
fn many_are_served_at_once() {
    // Nobody is answered before all have asked.
    let all_here = Arc::new(Barrier::new(16));
    let barrier = Arc::clone(&all_here);
    let server = Server::start(move |_| {
        barrier.wait();
        Reply::text("together")
    })
    .expect("a server");
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| Client::new(&server).ask(MESSAGES, &question(false)).status);
        }
    });
    assert_eq!((server.count(), server.most_at_once()), (16, 16));
}

#[test]
fn delays_are_kept() {
    let server = Server::scripted(vec![Reply::text("late").after(Duration::from_millis(80))])
        .expect("a server");
    let started = Instant::now();
    Client::new(&server).ask(CHAT, &question(false));
    assert!(started.elapsed() >= Duration::from_millis(80));
}

#[test]
fn scripts_answer_by_rule() {
    let script = Script::parse(
        r#"[
            {"when": {"number": [0, 1]}, "status": 429, "headers": {"retry-after": "2"}},
            {"when": {"user": "twice"}, "reply": ["one", "two {{number}}"], "usage": [5, 6], "times": 3},
            {"when": {"system": "critic", "model": "small"}, "fault": "cut", "reply": "no"}
        ]"#,
    )
    .expect("a script");
    let server = Server::start(move |asked| script.answer(asked)).expect("a server");
    let mut client = Client::new(&server);
    let mut ask = |system: &str, user: &str| {
        client.ask(
            MESSAGES,
            &json!({ "model": "small", "system": system, "messages": [{ "role": "user", "content": user }] }),
        )
    };
    assert_eq!(ask("", "").header("retry-after"), Some("2"));
    assert_eq!(ask("", "twice").status, 429);
    let texts: Vec<Value> =
        (0..3).map(|_| ask("", "say it twice").json()["content"][0]["text"].clone()).collect();
    assert_eq!(texts, ["one", "two 3", "two 4"]);
    assert_eq!(ask("", "say it twice").status, 404);
    assert_eq!(ask("the critic", "").json()["stop_reason"], "max_tokens");
}

#[test]
fn embeddings_are_vectors_of_words() {
    let server = Server::start(|asked| match asked.last_user().as_str() {
        "given" => Reply::text("[0.5, -0.5]").usage(3, 0),
        "error" => Reply::status(429),
        _ => Reply::text("does not matter"),
    });
    let server = server.expect("a server");
    let mut client = Client::new(&server);
    let mut ask = |input: Value, stream: bool| {
        client.ask("embeddings", &json!({ "model": "toy", "input": input, "stream": stream }))
    };
    let body = ask(json!(["larger batches", "Batches, larger!", "fewer layers"]), false).json();
    assert_eq!((&body["object"], &body["model"]), (&json!("list"), &json!("toy")));
    let data = body["data"].as_array().expect("a list");
    assert_eq!((data.len(), &data[1]["index"]), (3, &json!(1)));
    assert_eq!(data[0]["embedding"], data[1]["embedding"]);
    assert_ne!(data[0]["embedding"], data[2]["embedding"]);
    // 14, 16 and 12 bytes.
    assert_eq!(body["usage"], json!({ "prompt_tokens": 11, "total_tokens": 11 }));
    let body = ask(json!("given"), true).json();
    assert_eq!(body["data"][0]["embedding"], json!([0.5, -0.5]));
    assert_eq!(body["usage"]["total_tokens"], 3);
    assert_eq!(ask(json!("error"), false).status, 429);
    assert_eq!(server.asked()[0].wire(), Wire::Embeddings);
}
