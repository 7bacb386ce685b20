//! The training stream: sequences at positions that depend on the seed alone, and the ledger of
//! what was served. Fixed, do not modify: programs cannot reach past it.

mod ahead;

use crate::text::Text;
use ahead::Ahead;
use forerunner_core::Seed;
use forerunner_nanogpt_protocol::BatchRequest;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use serde::{Deserialize, Serialize};
use std::thread::Scope;

/// GPT-2's end-of-text. In the FineWeb shards it stands before each document, and nowhere else.
pub(crate) const END_OF_TEXT: u16 = 50_256;

/// Where the sequences of the training stream begin.
///
/// Sequences are drawn with replacement, one random number for each, from the tokens of all shards
/// one after the other: every shard comes up in proportion to its length, and how the tokens are
/// divided into shards makes no difference. One that reaches the end of a shard goes on in the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alignment {
    /// At any token from which there are enough to the end, each as likely as every other.
    #[default]
    Windows,
    /// At the first token of a document, which is the end-of-text (50256) that stands before its
    /// words: the first one at or after the position that [`Alignment::Windows`] would have begun
    /// at. Where there is none from which a sequence fits, it is the first document of all.
    ///
    /// A document that is shorter than the sequence is followed by the next one, its end-of-text
    /// between them, and attention reaches across unless the program sees to it; what a document has
    /// beyond the sequence's length is not part of it. A document is as likely as the one before it
    /// is long, whatever its own length; in shuffled text that is chance.
    Documents,
}

impl Alignment {
    /// Whether this is [`Alignment::Windows`], the default.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub(crate) fn is_windows(&self) -> bool {
        *self == Self::Windows
    }
}

/// Serves sequences and counts them.
pub(crate) struct Stream<'a> {
    draw: Draw<'a>,
    cursor: Cursor,
    batches: u64,
    tokens: u64,
    ahead: Option<Ahead>,
}

/// What was served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// Number of requests answered.
    pub(crate) batches: u64,
    /// Number of positions that predict a token, over all sequences.
    pub(crate) tokens: u64,
    /// A hash of where all sequences began and how long they were, in order: equal for equal seeds
    /// and equal requests.
    pub(crate) order: u64,
}

impl<'a> Stream<'a> {
    /// The stream of `seed`. Equal seeds and equal requests give equal sequences, whatever
    /// program asks: paired comparisons rest on it.
    pub(crate) fn new(text: Text<'a>, seed: u64) -> Self {
        let seed = Seed(seed).derive("nanogpt/stream", 0).0;
        let draw = Draw { text, alignment: Alignment::Windows };
        let cursor = Cursor { random: ChaCha8Rng::seed_from_u64(seed), order: 0 };
        Self { draw, cursor, batches: 0, tokens: 0, ahead: None }
    }

    /// The same with sequences that begin elsewhere. Before [`Stream::reading_ahead`].
    pub(crate) fn aligned(mut self, alignment: Alignment) -> Self {
        self.draw.alignment = alignment;
        self
    }

    /// The same, but that from the second request on a thread of `scope` gathers what the next one
    /// will ask for if it is like the last. Sequences, their order and the ledger stay what they are.
    pub(crate) fn reading_ahead<'scope>(mut self, scope: &'scope Scope<'scope, '_>) -> Self
    where
        'a: 'scope,
    {
        self.ahead = Some(Ahead::start(self.draw, scope));
        self
    }

    /// What was served so far.
    pub(crate) fn ledger(&self) -> Ledger {
        Ledger { batches: self.batches, tokens: self.tokens, order: self.cursor.order }
    }

    /// The answer to `request`, or `None` when a sequence would be longer than the data, or no
    /// document is followed by enough of it.
    pub(crate) fn serve(&mut self, request: BatchRequest) -> Option<Vec<u16>> {
        let gathered = self.ahead.as_mut().and_then(|ahead| ahead.take(request));
        let (tokens, cursor) = match gathered {
            Some(gathered) => gathered,
            None => self.draw.batch(request, self.cursor.clone())?,
        };
        self.cursor = cursor;
        self.batches += 1;
        self.tokens += u64::from(request.batch) * u64::from(request.length);
        if let Some(ahead) = &mut self.ahead {
            ahead.gather(request, self.cursor.clone());
        }
        Some(tokens)
    }
}

/// How far a stream is: everything that the next batch depends on but the request.
#[derive(Clone)]
struct Cursor {
    random: ChaCha8Rng,
    order: u64,
}

/// Draws batches, wherever it is called.
#[derive(Clone, Copy)]
struct Draw<'a> {
    text: Text<'a>,
    alignment: Alignment,
}

impl Draw<'_> {
    /// The batch at `cursor`, and where the cursor is after it.
    fn batch(&self, request: BatchRequest, mut cursor: Cursor) -> Option<(Vec<u16>, Cursor)> {
        let span = request.length as usize + 1;
        let n_starts = (self.text.len() + 1).checked_sub(span).filter(|n| *n > 0)?;
        let mut tokens = Vec::with_capacity(request.batch as usize * span);
        for _ in 0..request.batch {
            let drawn = below(&mut cursor.random, n_starts);
            let start = match self.alignment {
                Alignment::Windows => drawn,
                Alignment::Documents => self
                    .text
                    .find(drawn..n_starts, END_OF_TEXT)
                    .or_else(|| self.text.find(0..drawn, END_OF_TEXT))?,
            };
            cursor.order = mixed(mixed(cursor.order, start as u64), span as u64);
            tokens.extend(self.text.tokens(start..start + span));
        }
        Some((tokens, cursor))
    }
}

/// One more number in a running hash: a step of SplitMix64 (Steele, Lea and Flood, 2014).
fn mixed(hash: u64, number: u64) -> u64 {
    let mut bits = (hash ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A number in `0..n`, by multiplication (its bias is below n / 2^64).
pub(crate) fn below(random: &mut impl Rng, n: usize) -> usize {
    ((u128::from(random.next_u64()) * n as u128) >> 64) as usize
}

#[cfg(test)]
mod tests;
