//! A hub on this machine: a real HTTP server that speaks as much of the hub's protocol as a download
//! needs, redirect to another server for the bytes included, and misbehaves on request.

use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, VecDeque},
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

/// What goes wrong with one request for a file's bytes, or for its description.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// This status instead of a description.
    Status(u16),
    /// The connection closes after so many bytes of what was asked for.
    CutAfter(usize),
    /// One byte is another.
    Spoilt,
    /// The whole file, whatever part was asked for.
    IgnoresRange,
    /// Nothing at all, for longer than anybody waits.
    Silence,
    /// A byte every few milliseconds.
    Trickle,
    /// A page of HTML, as networks that want a login give it.
    LoginPage,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    faults: VecDeque<Fault>,
    /// Path and first byte of every request.
    requests: Vec<(String, usize)>,
    /// Whether files are described by a hash.
    unhashed: bool,
}

/// The server; it ends with the test's process.
#[derive(Clone)]
pub(crate) struct Hub {
    pub(crate) endpoint: String,
    state: Arc<Mutex<State>>,
}

/// The commit that the server claims to serve.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A shard with these tokens.
pub(crate) fn shard(tokens: impl IntoIterator<Item = u16>) -> Vec<u8> {
    let tokens: Vec<u8> = tokens.into_iter().flat_map(u16::to_le_bytes).collect();
    let numbers = [20_240_520, 1, i32::try_from(tokens.len() / 2).expect("a small shard")];
    let mut bytes: Vec<u8> = numbers.map(i32::to_le_bytes).concat();
    bytes.resize(1024, 0);
    bytes.extend(tokens);
    bytes
}

/// SHA-256 in hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Hub {
    /// A hub with a held-out shard and three to train on.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let hub = Self { endpoint, state: Arc::default() };
        hub.publish("fineweb_val_000000.bin", shard((0..9_000).map(|n| n % 50_257)));
        for number in 1..=3_u16 {
            let tokens = (0..40_000_u16).map(move |n| n.wrapping_mul(number) % 50_257);
            hub.publish(&format!("fineweb_train_{number:06}.bin"), shard(tokens));
        }
        let server = hub.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                // A client that has gone is none of the server's business.
                std::thread::spawn(move || drop(server.converse(stream)));
            }
        });
        hub
    }

    pub(crate) fn publish(&self, file: &str, bytes: Vec<u8>) {
        self.state.lock().unwrap().files.insert(file.to_owned(), bytes);
    }

    pub(crate) fn content(&self, file: &str) -> Vec<u8> {
        self.state.lock().unwrap().files[file].clone()
    }

    /// What goes wrong next, in order; each fault is used up by the first request that it fits.
    pub(crate) fn misbehave(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().unwrap().faults.extend(faults);
    }

    /// Describes files without a hash, as the hub does with small ones.
    pub(crate) fn without_hashes(&self) {
        self.state.lock().unwrap().unhashed = true;
    }

    /// First bytes of all requests for this file's bytes, the looks at its length left out.
    pub(crate) fn downloads(&self, file: &str) -> Vec<usize> {
        let state = self.state.lock().unwrap();
        let of_file = |(path, _): &&(String, usize)| path.ends_with(file);
        state.requests.iter().filter(of_file).map(|(_, start)| *start).collect()
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.lock().unwrap().requests.len()
    }

    fn converse(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut out = stream;
        loop {
            let (mut path, mut range) = (String::new(), None);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                let lower = line.to_ascii_lowercase();
                if let Some(rest) = line.strip_prefix("GET ") {
                    path = rest.split(' ').next().unwrap_or_default().to_owned();
                } else if let Some(bytes) = lower.strip_prefix("range: bytes=") {
                    range = Some(bytes.trim().to_owned());
                } else if line == "\r\n" {
                    break;
                }
            }
            if !self.answer(&path, range.as_deref(), &mut out)? {
                return Ok(());
            }
        }
    }

    /// Answers a request; `false` when the connection is to be closed.
    fn answer(
        &self,
        path: &str,
        range: Option<&str>,
        out: &mut TcpStream,
    ) -> std::io::Result<bool> {
        let (start, end) = range.and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
        let start: usize = start.parse().unwrap_or_default();
        let is_look = (start, end) == (0, "0");
        let file = path.rsplit('/').next().unwrap_or_default().to_owned();
        let mut state = self.state.lock().unwrap();
        if let Some(described) = path.strip_prefix("/datasets/kjj0/fineweb10B-gpt2/resolve/main/") {
            let fault = match state.faults.front() {
                Some(Fault::Status(_) | Fault::LoginPage) => state.faults.pop_front(),
                _ => None,
            };
            if let Some(Fault::Status(code)) = fault {
                let head = format!("HTTP/1.1 {code} No\r\ncontent-length: 0\r\n\r\n");
                return out.write_all(head.as_bytes()).map(|()| true);
            }
            if fault.is_some() {
                let page = "<html>who are you?</html>";
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{page}", page.len());
                return out.write_all(head.as_bytes()).map(|()| true);
            }
            let Some(bytes) = state.files.get(described) else {
                return out
                    .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
                    .map(|()| true);
            };
            let hash = sha256(bytes);
            let tag = if state.unhashed { &hash[..40] } else { &hash };
            let head = format!(
                "HTTP/1.1 302 Found\r\nlocation: {}/bytes/{described}\r\nx-repo-commit: {COMMIT}\r\n\
                 x-linked-etag: \"{tag}\"\r\nx-linked-size: {}\r\ncontent-length: 0\r\n\r\n",
                self.endpoint,
                bytes.len()
            );
            return out.write_all(head.as_bytes()).map(|()| true);
        }
        let mut bytes = state.files.get(&file).cloned().unwrap_or_default();
        let fault = match state.faults.front() {
            Some(Fault::Status(_) | Fault::LoginPage) => None,
            _ if is_look => None,
            _ => state.faults.pop_front(),
        };
        if !is_look {
            state.requests.push((path.to_owned(), start));
        }
        drop(state);
        let total = bytes.len();
        if matches!(fault, Some(Fault::Spoilt)) {
            bytes[total / 2] ^= 1;
        }
        if start >= total {
            return out
                .write_all(b"HTTP/1.1 416 Range Not Satisfiable\r\ncontent-length: 0\r\n\r\n")
                .map(|()| true);
        }
        let end = end.parse().map_or(total, |last: usize| last + 1);
        let (head, part) = if matches!(fault, Some(Fault::IgnoresRange)) || range.is_none() {
            (format!("HTTP/1.1 200 OK\r\ncontent-length: {total}\r\n\r\n"), &bytes[..])
        } else {
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\ncontent-length: {}\r\n\
                 content-range: bytes {start}-{}/{total}\r\n\r\n",
                end - start,
                end - 1
            );
            (head, &bytes[start..end])
        };
        out.write_all(head.as_bytes())?;
        match fault {
            Some(Fault::CutAfter(n)) => out.write_all(&part[..n.min(part.len())]).map(|()| false),
            Some(Fault::Silence) => {
                std::thread::sleep(Duration::from_secs(20));
                Ok(false)
            }
            Some(Fault::Trickle) => {
                for byte in part.chunks(1) {
                    out.write_all(byte)?;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(true)
            }
            _ => out.write_all(part).map(|()| true),
        }
    }
}
