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
    /// A hash of where all sequences began and how long they were, in order: equal for equal seeds
    /// and equal requests.
    pub(crate) order: u64,
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
            self.ledger.order = mixed(mixed(self.ledger.order, start as u64), span as u64);
            tokens.extend(self.text.tokens(start..start + span));
        }
        self.ledger.batches += 1;
        self.ledger.tokens += u64::from(request.batch) * u64::from(request.length);
        Some(tokens)
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
        let Ledger { batches, tokens, order } = stream.ledger();
        assert_eq!((batches, tokens), (200, 200 * 27));
        let mut again = Stream::new(text, 1);
        (0..199).for_each(|_| drop(again.serve(request)));
        assert_ne!(again.ledger().order, order);
        again.serve(request).unwrap();
        assert_eq!(again.ledger().order, order);
        assert!(stream.serve(BatchRequest { batch: 1, length: 999 }).is_some(), "all of it");
        assert!(stream.serve(BatchRequest { batch: 1, length: 1000 }).is_none());
        assert!(stream.serve(BatchRequest { batch: 1, length: u32::MAX }).is_none());
    }
}
