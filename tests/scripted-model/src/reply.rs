//! What the server does about a request.

use std::time::Duration;

/// An answer, or a fault in place of one.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Waited before the first byte.
    pub(crate) delay: Duration,
    /// Sent besides the usual ones.
    pub(crate) headers: Vec<(String, String)>,
    /// What is sent.
    pub(crate) content: Content,
}

/// What is sent.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// What a model says.
    Said(Said),
    /// An error in the provider's form.
    Error { status: u16, message: Option<String>, code: Option<String> },
    /// Bytes as they are.
    Raw { status: u16, content_type: String, body: Vec<u8> },
    /// Nothing, until the client gives up.
    Hang,
    /// Nothing: the connection is closed.
    Closed,
}

/// What a model says.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) text: String,
    /// Tokens of prompt and reply; counted at four bytes each when `None`.
    pub(crate) usage: Option<(u64, u64)>,
    pub(crate) stop: Stop,
    pub(crate) end: End,
    /// Waited between two pieces of a stream.
    pub(crate) pace: Duration,
    /// Bytes of text in one piece of a stream, about.
    pub(crate) piece: usize,
}

/// Why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It had said everything: `stop`, `end_turn`.
    Natural,
    /// It reached the limit on its length: `length`, `max_tokens`.
    Length,
    /// It refused: the message's `refusal` field, or the stop reason `refusal`.
    Refusal,
    /// A filter stopped it: `content_filter`, `refusal`.
    Filter,
}

/// How the sending ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// As it should.
    Whole,
    /// The connection closes after so many pieces; half-way when nothing is streamed.
    Dropped(usize),
    /// The connection stays open and silent after so many pieces; half-way when nothing is
    /// streamed.
    Stalled(usize),
    /// An error event after so many pieces; an error in place of the reply when nothing is
    /// streamed.
    Failed(usize),
    /// A correct HTTP message whose JSON ends in the middle.
    Truncated,
}

impl Reply {
    /// The model says `text`.
    pub fn text(text: impl Into<String>) -> Self {
        let said = Said {
            text: text.into(),
            usage: None,
            stop: Stop::Natural,
            end: End::Whole,
            pace: Duration::ZERO,
            piece: 48,
        };
        Self::of(Content::Said(said))
    }

    /// The model says `text` and stops at the limit on its length.
    pub fn cut(text: impl Into<String>) -> Self {
        Self::text(text).stop(Stop::Length)
    }

    /// The model refuses in these words.
    pub fn refusal(text: impl Into<String>) -> Self {
        Self::text(text).stop(Stop::Refusal)
    }

    /// The model says nothing.
    pub fn empty() -> Self {
        Self::text("")
    }

    /// The model says `bytes` bytes of text.
    pub fn huge(bytes: usize) -> Self {
        let line = "All work and no play makes a long reply. ";
        let mut text = line.repeat(bytes.div_ceil(line.len()));
        text.truncate(bytes);
        let mut reply = Self::text(text);
        reply.said(|said| said.piece = 4096);
        reply
    }

    /// An error with this HTTP status, in the provider's form and words. A 401 repeats the key
    /// that came with the request, as careless servers do.
    pub fn status(status: u16) -> Self {
        Self::of(Content::Error { status, message: None, code: None })
    }

    /// An error with this HTTP status in the provider's form.
    pub fn error(status: u16, message: impl Into<String>) -> Self {
        Self::of(Content::Error { status, message: Some(message.into()), code: None })
    }

    /// Any bytes, as a gateway before the provider might send them.
    pub fn raw(status: u16, content_type: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        let (content_type, body) = (content_type.into(), body.into());
        Self::of(Content::Raw { status, content_type, body })
    }

    /// Status 200 and a body that claims to be JSON and is none.
    pub fn malformed() -> Self {
        Self::raw(200, "application/json", "<html><body>Bad gateway</body></html>")
    }

    /// Status 200, JSON, but nothing that the format knows.
    pub fn strange() -> Self {
        Self::raw(200, "application/json", r#"{"object":"list","data":[]}"#)
    }

    /// `text`, in a correct HTTP message whose JSON ends in the middle.
    pub fn truncated(text: impl Into<String>) -> Self {
        Self::text(text).ending(End::Truncated)
    }

    /// `text`, of which a stream sends this many pieces before the connection closes; when
    /// nothing is streamed, it closes half-way through the body.
    pub fn dropped(text: impl Into<String>, pieces: usize) -> Self {
        Self::text(text).ending(End::Dropped(pieces))
    }

    /// `text`, of which a stream sends this many pieces before nothing more comes; when nothing is
    /// streamed, half of the body comes.
    pub fn stalled(text: impl Into<String>, pieces: usize) -> Self {
        Self::text(text).ending(End::Stalled(pieces))
    }

    /// `text`, of which a stream sends this many pieces before an error event (overloaded); when
    /// nothing is streamed, the error comes in place of the reply.
    pub fn failing(text: impl Into<String>, pieces: usize) -> Self {
        Self::text(text).ending(End::Failed(pieces))
    }

    /// Half of a response: its length is announced, and the connection closes half-way.
    pub fn half() -> Self {
        Self::dropped("Half of this will arrive.", 0)
    }

    /// No response; the connection stays open until the client or the server goes.
    pub fn hang() -> Self {
        Self::of(Content::Hang)
    }

    /// No response; the connection is closed.
    pub fn closed() -> Self {
        Self::of(Content::Closed)
    }

    /// `reply`, so much later.
    pub fn slow(delay: Duration, reply: Self) -> Self {
        reply.after(delay)
    }

    /// The same, so much later; delays add up.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay += delay;
        self
    }

    /// The same, with this header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The same, with a `Retry-After` of so many seconds.
    #[must_use]
    pub fn retry_after(self, seconds: f64) -> Self {
        self.header("retry-after", seconds.to_string())
    }

    /// The same, with these token counts. No effect on what is not said by a model.
    #[must_use]
    pub fn usage(mut self, tokens_in: u64, tokens_out: u64) -> Self {
        self.said(|said| said.usage = Some((tokens_in, tokens_out)));
        self
    }

    /// The same, with this reason for stopping. No effect on what is not said by a model.
    #[must_use]
    pub fn stop(mut self, stop: Stop) -> Self {
        self.said(|said| said.stop = stop);
        self
    }

    /// The same, waiting so long before every piece of a stream. No effect on what is not said by
    /// a model.
    #[must_use]
    pub fn pace(mut self, pace: Duration) -> Self {
        self.said(|said| said.pace = pace);
        self
    }

    /// The same, in pieces of about so many bytes when it is streamed.
    #[must_use]
    pub fn pieces_of(mut self, bytes: usize) -> Self {
        self.said(|said| said.piece = bytes.max(1));
        self
    }

    /// The same, with this `code` in an error of OpenAI's form. No effect on anything else.
    #[must_use]
    pub fn code(mut self, word: impl Into<String>) -> Self {
        if let Content::Error { code, .. } = &mut self.content {
            *code = Some(word.into());
        }
        self
    }

    fn of(content: Content) -> Self {
        Self { delay: Duration::ZERO, headers: Vec::new(), content }
    }

    fn ending(mut self, end: End) -> Self {
        self.said(|said| said.end = end);
        self
    }

    fn said(&mut self, change: impl FnOnce(&mut Said)) {
        if let Content::Said(said) = &mut self.content {
            change(said);
        }
    }
}

impl Said {
    /// The text in pieces, as a stream sends it.
    pub(crate) fn pieces(&self) -> Vec<&str> {
        let mut pieces = Vec::with_capacity(self.text.len() / self.piece + 1);
        let mut rest = self.text.as_str();
        while !rest.is_empty() {
            let mut end = self.piece.min(rest.len());
            while !rest.is_char_boundary(end) {
                end += 1;
            }
            let (piece, after) = rest.split_at(end);
            pieces.push(piece);
            rest = after;
        }
        pieces
    }

    /// Tokens of reply, counted when they were not given.
    pub(crate) fn tokens_out(&self) -> u64 {
        self.usage.map_or(self.text.len().div_ceil(4) as u64, |(_, tokens)| tokens)
    }
}
