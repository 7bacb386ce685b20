//! What an agent prints: capped, and without what must not be shown.

use crate::Config;
use crate::text::{clean, line};
use std::collections::VecDeque;
use std::env;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

/// Shorter values are no secrets, and would be found everywhere.
const SHORTEST_SECRET: usize = 8;

/// Values that must not be shown.
#[derive(Debug, Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// The values of the variables that the agent is granted.
    pub(crate) fn of(config: &Config) -> Self {
        Self::new(config.env.iter().filter_map(|name| env::var(name).ok()))
    }

    fn new(values: impl Iterator<Item = String>) -> Self {
        // In a text that was cleaned, a secret is clean as well.
        let forms = values.flat_map(|value| [clean(&value), clean(value.trim())]);
        let mut forms: Vec<String> = forms.filter(|value| value.len() >= SHORTEST_SECRET).collect();
        // The longest first: one may be a part of another.
        forms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        forms.dedup();
        Self(forms)
    }

    /// The text without them, and without what must not be shown. Cleaned first, so that nothing
    /// that is taken out of a text later makes a secret whole.
    pub(crate) fn hide(&self, text: &str) -> String {
        self.0.iter().fold(clean(text), |text, secret| text.replace(secret, "[secret]"))
    }

    /// Whether the text has one, also when what is not shown interrupts it.
    pub(crate) fn are_in(&self, text: &str) -> bool {
        let clean = clean(text);
        self.0.iter().any(|secret| text.contains(secret) || clean.contains(secret))
    }

    /// The text before a cut, without the beginning of a secret that the cut went through.
    fn hide_before_cut(&self, text: &str) -> String {
        let mut text = self.hide(text);
        // What is left of a character that was cut itself.
        text.truncate(text.trim_end_matches('\u{fffd}').len());
        let begun = |secret: &String| {
            let ends = secret.char_indices().map(|(at, _)| at).rev();
            ends.into_iter().find(|end| text.ends_with(&secret[..*end])).unwrap_or(0)
        };
        let begun = self.0.iter().map(begun).max().unwrap_or(0);
        text.truncate(text.len() - begun);
        text
    }

    /// The text after a cut, without the end of a secret that the cut went through.
    fn hide_after_cut(&self, text: &str) -> String {
        let text = self.hide(text);
        let text = text.trim_start_matches('\u{fffd}');
        let ended = |secret: &String| {
            let mut starts = secret.char_indices().map(|(at, _)| at).skip(1);
            starts.find(|at| text.starts_with(&secret[*at..])).map_or(0, |at| secret.len() - at)
        };
        let ended = self.0.iter().map(ended).max().unwrap_or(0);
        text[ended..].to_owned()
    }
}

/// What is kept of a text: all of it, or its ends.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    head: String,
    /// Where something is left out: what is said there, and what comes after.
    rest: Option<(String, String)>,
}

impl Kept {
    /// A text that may be only the beginning of one.
    pub(crate) fn beginning(text: String, is_cut: bool) -> Self {
        Self { head: text, rest: is_cut.then(Default::default) }
    }

    /// As it came.
    pub(crate) fn text(&self) -> String {
        let (gap, tail) = self.rest.as_ref().map_or(("", ""), |(gap, tail)| (gap, tail));
        format!("{}{gap}{tail}", self.head)
    }

    /// As it may be shown.
    pub(crate) fn shown(&self, secrets: &Secrets) -> String {
        match &self.rest {
            None => secrets.hide(&self.head),
            Some((gap, tail)) => format!(
                "{}{gap}{}",
                secrets.hide_before_cut(&self.head),
                secrets.hide_after_cut(tail)
            ),
        }
    }
}

/// The beginning and the end of a stream; what is between them is dropped.
#[derive(Default)]
struct Ends {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    cap: usize,
    dropped: u64,
}

impl Ends {
    fn take(&mut self, bytes: &[u8]) {
        let room = bytes.len().min(self.cap - self.head.len());
        let (first, rest) = bytes.split_at(room);
        self.head.extend(first);
        self.tail.extend(rest);
        let surplus = self.tail.len().saturating_sub(self.cap);
        self.tail.drain(..surplus);
        self.dropped += surplus as u64;
    }

    fn kept(self) -> Kept {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let tail = Vec::from(self.tail);
        if self.dropped == 0 {
            return Kept { head: text(&[self.head, tail].concat()), rest: None };
        }
        let gap = format!("\n[{} bytes left out]\n", self.dropped);
        Kept { head: text(&self.head), rest: Some((gap, text(&tail))) }
    }
}

/// Reads a stream in a thread of its own.
pub(crate) struct Reader {
    ends: Arc<Mutex<Ends>>,
    done: mpsc::Receiver<()>,
}

impl Reader {
    /// Begins to read; at most `cap` bytes are kept.
    pub(crate) fn start(mut stream: impl Read + Send + 'static, cap: usize) -> Self {
        let ends = Arc::new(Mutex::new(Ends { cap: cap / 2, ..Ends::default() }));
        let (end, done) = mpsc::channel();
        let shared = Arc::clone(&ends);
        // Not joined: whoever took the other end of the stream elsewhere could keep us for ever.
        thread::spawn(move || {
            let mut chunk = [0; 1 << 16];
            // An error ends the stream as far as we are concerned.
            while let Ok(length @ 1..) = stream.read(&mut chunk) {
                locked(&shared).take(&chunk[..length]);
            }
            _ = end.send(());
        });
        Self { ends, done }
    }

    /// What came until the end of the stream; when that is not there within `limit`, what came so
    /// far.
    pub(crate) fn finish(self, limit: Duration) -> Kept {
        _ = self.done.recv_timeout(limit);
        let mut ends = locked(&self.ends);
        // Nothing more is kept of a stream that goes on.
        std::mem::take(&mut *ends).kept()
    }
}

fn locked(ends: &Mutex<Ends>) -> MutexGuard<'_, Ends> {
    // Nothing in there panics halfway.
    ends.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The last line of a text that says something, made fit to be shown.
pub(crate) fn last_words(text: &str) -> Option<String> {
    text.lines().rev().map(|words| line(words, 200)).find(|words| !words.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn read(stream: impl Read + Send + 'static, cap: usize) -> Kept {
        Reader::start(stream, cap).finish(PATIENCE)
    }

    fn secrets() -> Secrets {
        Secrets::new(["sk-12345678".to_owned()].into_iter())
    }

    #[test]
    fn floods_leave_their_ends() {
        let text = read(std::io::repeat(b'x').take(1_000_000).chain(&b"end"[..]), 1000).text();
        assert!(text.starts_with("xxx") && text.ends_with("xend"), "{text}");
        assert!(text.contains("[999003 bytes left out]"), "{text}");
        assert_eq!(read(&b"short"[..], 1000).text(), "short");
        let whole = read(&b"key sk-12345678"[..], 20);
        assert_eq!(whole.shown(&secrets()), "key [secret]", "nothing was left out");
    }

    #[test]
    fn a_stream_that_does_not_end_keeps_nobody() {
        let (stream, mut writer) = std::io::pipe().expect("a pipe");
        std::io::Write::write_all(&mut writer, b"said").expect("written");
        let kept = Reader::start(stream, 1000).finish(Duration::from_secs(1));
        assert_eq!(kept.text(), "said");
        drop(writer);
    }

    #[test]
    fn a_cut_through_a_secret_leaves_nothing_of_it() {
        for length in 0..40 {
            // The secret slides over the cut after the tenth byte, and over the one before the last ten.
            let stream = format!("{}sk-12345678{}", "x".repeat(length), "y".repeat(40 - length));
            let kept = read(std::io::Cursor::new(stream), 20);
            let shown = kept.shown(&secrets());
            let letters = shown.replace("[secret]", "").replace("bytes left out", "");
            assert!(!letters.contains(['s', 'k', '-', '5', '6', '8']), "{shown}");
        }
        let beginning = |is_cut| Kept::beginning("a sk-1\u{1b}234".to_owned(), is_cut);
        assert_eq!(beginning(true).shown(&secrets()), "a ");
        assert_eq!(beginning(false).shown(&secrets()), "a sk-1234");
    }

    #[test]
    fn last_words_are_the_last_that_say_something() {
        assert_eq!(last_words("first\n\u{1b}[31mlast\n \n\u{7}\n").as_deref(), Some("[31mlast"));
        assert_eq!(last_words("\n"), None);
    }

    #[test]
    fn secrets_are_hidden() {
        let secrets = secrets();
        assert_eq!(secrets.hide("key sk-12345678!"), "key [secret]!");
        assert_eq!(secrets.hide("sk-\u{1b}1234\u{202e}5678"), "[secret]", "clean, it is whole");
        assert!(secrets.are_in("xsk-12345678") && !secrets.are_in("sk-1234"));
        assert!(secrets.are_in("sk-1234\u{200b}5678"));
        let lines = Secrets::new(["first\r\nsecond\n".to_owned()].into_iter());
        assert_eq!(lines.hide("a first\nsecond b"), "a [secret] b");
    }
}
