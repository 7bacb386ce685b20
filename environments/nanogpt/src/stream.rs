//! The training stream: sequences at positions that depend on the seed alone, and the ledger of
//! what was served. Fixed, do not modify: programs cannot reach past it.

use crate::text::Text;
use forerunner_core::Seed;
use forerunner_nanogpt_protocol::BatchRequest;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// Serves sequences and counts them.
pub(crate) struct Stream<'a> {
    text: Text<'a>,
    random: ChaCha8Rng,
    ledger: Ledger,
}

/// What was served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// Number of requests answered.
    pub(crate) batches: u64,
    /// Number of positions that predict a token, over all sequences.
    pub(crate) tokens: u64,
}

impl<'a> Stream<'a> {
    /// The stream of `seed`. Equal seeds and equal requests give equal sequences, whatever
    /// program asks: paired comparisons rest on it.
    pub(crate) fn new(text: Text<'a>, seed: u64) -> Self {
        let seed = Seed(seed).derive("nanogpt/stream", 0).0;
        Self { text, random: ChaCha8Rng::seed_from_u64(seed), ledger: Ledger::default() }
    }

    /// What was served so far.
    pub(crate) fn ledger(&self) -> Ledger {
        self.ledger
    }

    /// The answer to `request`, or `None` when a sequence would be longer than the data.
    pub(crate) fn serve(&mut self, request: BatchRequest) -> Option<Vec<u16>> {
        let span = request.length as usize + 1;
        let n_starts = (self.text.len() + 1).checked_sub(span).filter(|n| *n > 0)?;
        let mut tokens = Vec::with_capacity(request.batch as usize * span);
        for _ in 0..request.batch {
            let start = below(&mut self.random, n_starts);
            tokens.extend(self.text.tokens(start..start + span));
        }
        self.ledger.batches += 1;
        self.ledger.tokens += u64::from(request.batch) * u64::from(request.length);
        Some(tokens)
    }
}

/// A number in `0..n`, by multiplication (its bias is below n / 2^64).
pub(crate) fn below(random: &mut impl Rng, n: usize) -> usize {
    ((u128::from(random.next_u64()) * n as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ShardWriter;

    #[test]
    fn the_stream_depends_on_the_seed_and_the_requests_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = ShardWriter::create(&dir.path().join("x.bin")).unwrap();
        writer.push(0..1000).unwrap();
        let shard = writer.finish().unwrap();
        let request = BatchRequest { batch: 3, length: 9 };
        let text = Text::new(&shard, None);
        let first = |seed| Stream::new(text, seed).serve(request).unwrap();
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
        let mut stream = Stream::new(text, 1);
        let mut starts = std::collections::BTreeSet::new();
        for _ in 0..200 {
            for sequence in stream.serve(request).unwrap().chunks(10) {
                assert!(sequence.windows(2).all(|pair| pair[1] == pair[0] + 1));
                starts.insert(sequence[0]);
            }
        }
        assert!(starts.len() > 400 && *starts.last().unwrap() <= 990);
        assert_eq!(stream.ledger(), Ledger { batches: 200, tokens: 200 * 27 });
        assert!(stream.serve(BatchRequest { batch: 1, length: 999 }).is_some(), "all of it");
        assert!(stream.serve(BatchRequest { batch: 1, length: 1000 }).is_none());
        assert!(stream.serve(BatchRequest { batch: 1, length: u32::MAX }).is_none());
    }
}
