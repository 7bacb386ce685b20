//! Formats that the scripted server does not speak: canned responses of Gemini and Ollama, from a
//! server of a few lines.

use super::*;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener},
    sync::mpsc,
};

/// Answers every request with `body`, and tells what it was asked: the head and the body.
fn serve(body: &'static str) -> (String, mpsc::Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (tell, asked) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                    break;
                }
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a length");
                }
                head.push_str(&line);
            }
            let mut sent = vec![0; length];
            reader.read_exact(&mut sent).expect("a body");
            let kind =
                if body.starts_with("data:") { "text/event-stream" } else { "application/json" };
            let head_out =
                format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n");
            stream
                .write_all(head_out.as_bytes())
                .and_then(|()| stream.write_all(body.as_bytes()))
                .expect("sent");
            drop(stream.shutdown(Shutdown::Write));
            if tell.send((head, String::from_utf8_lossy(&sent).into_owned())).is_err() {
                return;
            }
        }
    });
    (format!("http://{address}/v1beta"), asked)
}

/// What comes of `body`, and the requests for it.
fn check(provider: &str, stream: bool, body: &'static str) -> (Answer, Vec<(String, String)>) {
    let (url, asked) = serve(body);
    let mut config = ModelConfig::new("m", "scripted-1");
    config.provider = Some(provider.to_owned());
    config.base_url = Some(url);
    config.stream = stream;
    config.attempts = 2;
    config.pace.backoff = 0.001;
    let answer = ask(&models(config), &host());
    (answer, asked.try_iter().collect())
}

#[test]
fn thoughts_are_paid_for_and_no_part_of_the_reply() {
    let openai = concat!(
        r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","reasoning_content":"Hm, hm."}}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":0,"delta":{"content":"Larger batches."}}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        "\n\n",
        r#"data: {"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":9,"completion_tokens_details":{"reasoning_tokens":6}}}"#,
        "\n\ndata: [DONE]\n\n",
    );
    let anthropic = concat!(
        "data: {}\nevent: ping\n\n",
        "event: message_start\n",
        r#"data: {"type":"message_start","message":{"usage":{"input_tokens":4,"cache_read_input_tokens":7,"output_tokens":1}}}"#,
        "\n\nevent: content_block_start\n",
        r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}"#,
        "\n\nevent: content_block_delta\n",
        r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm, hm."}}"#,
        "\n\nevent: content_block_stop\n",
        r#"data: {"type":"content_block_stop","index":0}"#,
        "\n\nevent: content_block_start\n",
        r#"data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
        "\n\nevent: content_block_delta\n",
        r#"data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Larger batches."}}"#,
        "\n\nevent: content_block_stop\n",
        r#"data: {"type":"content_block_stop","index":1}"#,
        "\n\nevent: message_delta\n",
        r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}"#,
        "\n\nevent: message_stop\n",
        r#"data: {"type":"message_stop"}"#,
        "\n\n",
    );
    for (provider, body) in [("openai", openai), ("anthropic", anthropic)] {
        let (answer, asked) = check(provider, true, body);
        assert_eq!((kind(&answer), text(&answer)), ("reply", "Larger batches."), "{answer:?}");
        assert_eq!((answer.cost.tokens_in, answer.cost.tokens_out), (11, 9), "{answer:?}");
        assert_eq!(asked.len(), 1);
    }
}

#[test]
fn gemini() {
    let (answer, asked) = check(
        "gemini",
        true,
        concat!(
            r#"data: {"candidates":[{"content":{"parts":[{"text":"Larger"}],"role":"model"}}],"usageMetadata":{"promptTokenCount":11}}"#,
            "\r\n\r\n",
            r#"data: {"candidates":[{"content":{"parts":[{"text":" batches."}],"role":"model"},"finishReason":"STOP"}],"#,
            r#""usageMetadata":{"promptTokenCount":11,"candidatesTokenCount":3,"thoughtsTokenCount":5,"totalTokenCount":19}}"#,
            "\r\n\r\n",
        ),
    );
    assert_eq!((kind(&answer), text(&answer)), ("reply", "Larger batches."), "{answer:?}");
    // Thoughts are paid for.
    assert_eq!((answer.cost.tokens_in, answer.cost.tokens_out), (11, 8));
    assert!(
        asked[0].0.starts_with("POST /v1beta/models/scripted-1:streamGenerateContent?alt=sse "),
        "{}",
        asked[0].0
    );
    assert!(asked[0].1.contains("What could be faster?"), "{}", asked[0].1);

    let half = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Larger\"}]}}]}\r\n\r\n";
    let (answer, asked) = check("gemini", true, half);
    assert_eq!((kind(&answer), asked.len()), ("network", 2), "{answer:?}");

    let (answer, asked) =
        check("gemini", true, "data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}\r\n\r\n");
    assert_eq!((kind(&answer), asked.len()), ("refused", 1), "{answer:?}");
    let (answer, asked) =
        check("gemini", false, "{\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}");
    assert_eq!((kind(&answer), asked.len()), ("refused", 1), "{answer:?}");

    let (answer, _) = check(
        "gemini",
        false,
        r#"{"candidates":[{"content":{"parts":[{"text":"As far as"}]},"finishReason":"MAX_TOKENS"}]}"#,
    );
    assert_eq!((kind(&answer), text(&answer)), ("cut", "As far as"), "{answer:?}");
}

#[test]
fn ollama() {
    let (answer, asked) = check(
        "ollama",
        true,
        concat!(
            r#"{"model":"scripted-1","message":{"role":"assistant","content":"Larger"},"done":false}"#,
            "\n",
            r#"{"model":"scripted-1","message":{"role":"assistant","content":" batches."},"done":false}"#,
            "\n",
            r#"{"model":"scripted-1","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","#,
            r#""prompt_eval_count":11,"eval_count":3}"#,
            "\n",
        ),
    );
    assert_eq!((kind(&answer), text(&answer)), ("reply", "Larger batches."), "{answer:?}");
    assert_eq!((answer.cost.tokens_in, answer.cost.tokens_out), (11, 3));
    assert!(asked[0].0.starts_with("POST /v1beta/api/chat "), "{}", asked[0].0);

    let half = "{\"message\":{\"role\":\"assistant\",\"content\":\"Larger\"},\"done\":false}\n";
    let (answer, asked) = check("ollama", true, half);
    assert_eq!((kind(&answer), asked.len()), ("network", 2), "{answer:?}");

    let (answer, _) = check(
        "ollama",
        false,
        r#"{"message":{"role":"assistant","content":"Larger batches."},"done":true,"done_reason":"stop"}"#,
    );
    assert_eq!(text(&answer), "Larger batches.", "{answer:?}");
    // Nothing was counted: estimated.
    assert!(answer.cost.tokens_in > 0 && answer.cost.tokens_out == 4, "{answer:?}");
}

#[test]
fn vectors_of_gemini_and_ollama() {
    let check = |provider: &str, body: &'static str, path: &str| {
        let (url, asked) = serve(body);
        let mut config = ModelConfig::new("m", "scripted-1");
        config.provider = Some(provider.to_owned());
        config.base_url = Some(url);
        config.attempts = 1;
        let answer = models(config).embed("m", "Larger batches.", 7, 0, &host());
        let answer = answer.expect("an answer");
        assert_eq!((kind(&answer), text(&answer)), ("reply", "[0.5,-0.25]"), "{answer:?}");
        let (head, sent) = asked.recv().expect("a request");
        assert!(head.starts_with(&format!("POST /v1beta/{path} ")), "{head}");
        assert!(sent.contains("Larger batches."), "{sent}");
        (answer.cost.tokens_in, answer.cost.tokens_out)
    };
    let gemini = r#"{"embedding":{"values":[0.5,-0.25]}}"#;
    // Nothing was counted: estimated.
    assert_eq!(check("gemini", gemini, "models/scripted-1:embedContent"), (8, 0));
    let ollama = r#"{"model":"scripted-1","embeddings":[[0.5,-0.25]],"prompt_eval_count":3}"#;
    assert_eq!(check("ollama", ollama, "api/embed"), (3, 0));
}
