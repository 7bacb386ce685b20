//! A client for tests: raw sockets, so that nothing between hides what was sent.

use forerunner_scripted_model::Server;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What came back.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// Whether the body was as long as announced, or ended with the last chunk.
    pub(crate) complete: bool,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("the body is JSON")
    }

    /// The data of all server-sent events, in order.
    pub(crate) fn events(&self) -> Vec<&str> {
        self.body.lines().filter_map(|line| line.strip_prefix("data: ")).collect()
    }

    pub(crate) fn json_events(&self) -> Vec<Value> {
        let events = self.events().into_iter().filter(|data| *data != "[DONE]");
        events.map(|data| serde_json::from_str(data).expect("an event is JSON")).collect()
    }
}

/// One connection.
pub(crate) struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn new(server: &Server) -> Self {
        let url = server.base_url();
        let address = url.strip_prefix("http://").and_then(|url| url.strip_suffix("/v1/"));
        let stream = TcpStream::connect(address.expect("a base URL")).expect("the server listens");
        // Long enough for any machine: only a test that fails waits for it.
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out can be set");
        Self { reader: BufReader::new(stream) }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).expect("the server reads");
    }

    pub(crate) fn post(&mut self, path: &str, headers: &str, body: &str) {
        let length = body.len();
        self.send(
            format!("POST /v1/{path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {length}\r\n\r\n{body}")
                .as_bytes(),
        );
    }

    /// The next response; `None` when the connection ends before its head does.
    pub(crate) fn response(&mut self) -> Option<Response> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").expect("a header");
            headers.push((name.to_owned(), value.to_owned()));
        }
        let mut response = Response { status, headers, body: String::new(), complete: true };
        if let Some(length) = response.header("content-length") {
            let length: u64 = length.parse().expect("a length");
            (&mut self.reader).take(length).read_to_string(&mut response.body).expect("text");
            response.complete = response.body.len() as u64 == length;
        } else {
            response.complete = self.chunks(&mut response.body);
        }
        Some(response)
    }

    /// Asks and takes the response.
    pub(crate) fn ask(&mut self, path: &str, body: &Value) -> Response {
        self.post(path, "", &body.to_string());
        self.response().expect("there is a response")
    }

    /// The status of a response that has nothing but a head.
    pub(crate) fn go_ahead(&mut self) -> u16 {
        let first = self.line().expect("a line");
        assert_eq!(self.line().as_deref(), Some(""));
        first.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status")
    }

    pub(crate) fn closed(&mut self) -> bool {
        self.reader.read(&mut [0]).is_ok_and(|bytes| bytes == 0)
    }

    fn chunks(&mut self, body: &mut String) -> bool {
        loop {
            let Some(size) = self.line() else { return false };
            let size = u64::from_str_radix(&size, 16).expect("a size");
            (&mut self.reader).take(size).read_to_string(body).expect("text");
            self.line();
            if size == 0 {
                return true;
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let bytes = self.reader.read_line(&mut line).expect("text");
        (bytes > 0).then(|| line.trim_end().to_owned())
    }
}

/// A question in both formats: the fields they share.
pub(crate) fn question(stream: bool) -> Value {
    json!({
        "model": "small",
        "max_tokens": 100,
        "messages": [{ "role": "user", "content": "Say something." }],
        "stream": stream,
    })
}

pub(crate) const CHAT: &str = "chat/completions";
pub(crate) const MESSAGES: &str = "messages";
