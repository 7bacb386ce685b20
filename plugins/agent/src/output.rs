//! What an agent prints: capped, and without what must not be shown.

use crate::Config;
use crate::text::block;
use std::collections::VecDeque;
use std::env;
use std::io::Read;

/// Shorter values are no secrets, and would be found everywhere.
const SHORTEST_SECRET: usize = 8;

/// Values that must not be shown.
#[derive(Debug, Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// The values of the variables that the agent is granted.
    pub(crate) fn of(config: &Config) -> Self {
        let values = config.env.iter().filter_map(|name| env::var(name).ok());
        Self(values.filter(|value| value.len() >= SHORTEST_SECRET).collect())
    }

    /// The text without them.
    pub(crate) fn hide(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "[secret]"))
    }

    /// Whether the text has one.
    pub(crate) fn are_in(&self, text: &str) -> bool {
        self.0.iter().any(|secret| text.contains(secret))
    }
}

/// The beginning and the end of a stream; what is between them is dropped.
pub(crate) struct Ends {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    cap: usize,
    dropped: u64,
}

impl Ends {
    /// Reads a stream to its end and keeps at most `cap` bytes of it.
    pub(crate) fn read(mut stream: impl Read, cap: usize) -> String {
        let mut ends = Self { head: Vec::new(), tail: VecDeque::new(), cap: cap / 2, dropped: 0 };
        let mut chunk = [0; 1 << 16];
        // An error ends the stream as far as we are concerned.
        while let Ok(length @ 1..) = stream.read(&mut chunk) {
            ends.take(&chunk[..length]);
        }
        ends.text()
    }

    fn take(&mut self, bytes: &[u8]) {
        let room = bytes.len().min(self.cap - self.head.len());
        let (first, rest) = bytes.split_at(room);
        self.head.extend(first);
        self.tail.extend(rest);
        let surplus = self.tail.len().saturating_sub(self.cap);
        self.tail.drain(..surplus);
        self.dropped += surplus as u64;
    }

    fn text(self) -> String {
        let mut bytes = self.head;
        if self.dropped > 0 {
            bytes.extend(format!("\n[{} bytes left out]\n", self.dropped).into_bytes());
        }
        bytes.extend(self.tail);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The last line of a text that says something, made fit to be shown.
pub(crate) fn last_words(text: &str) -> Option<String> {
    let words =
        text.lines().rev().map(|line| block(line.trim(), 200)).find(|line| !line.is_empty());
    words.filter(|line| !line.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floods_leave_their_ends() {
        let text = Ends::read(std::io::repeat(b'x').take(1_000_000).chain(&b"end"[..]), 1000);
        assert!(text.starts_with("xxx") && text.ends_with("xend"), "{text}");
        assert!(text.contains("[999003 bytes left out]"), "{text}");
        assert_eq!(Ends::read(&b"short"[..], 1000), "short");
    }

    #[test]
    fn last_words_are_the_last_that_say_something() {
        assert_eq!(last_words("first\n\u{1b}[31mlast\n \n\u{7}\n").as_deref(), Some("[31mlast"));
        assert_eq!(last_words("\n"), None);
    }

    #[test]
    fn secrets_are_hidden() {
        let secrets = Secrets(vec!["sk-12345678".to_owned()]);
        assert_eq!(secrets.hide("key sk-12345678!"), "key [secret]!");
        assert!(secrets.are_in("xsk-12345678") && !secrets.are_in("sk-1234"));
    }
}
