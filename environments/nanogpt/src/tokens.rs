//! The tokens of one part of a data set: one token file, or several that are read as one.

use crate::{Shard, shard};
use sha2::{Digest, Sha256};
use std::ops::Range;

/// Token files in order, each mapped into memory where it lies. A position counts through all of
/// them, so that where one file ends and the next begins makes no difference to a reader.
#[derive(Debug)]
pub struct Tokens {
    shards: Vec<Shard>,
    /// For each file, the number of tokens up to its end.
    ends: Vec<usize>,
}

impl From<Shard> for Tokens {
    fn from(shard: Shard) -> Self {
        Self::new(vec![shard])
    }
}

impl Tokens {
    /// The tokens of these files, one after the other.
    pub fn new(shards: Vec<Shard>) -> Self {
        let mut end = 0;
        let ends = shards.iter().map(|shard| {
            end += shard.len();
            end
        });
        let ends = ends.collect();
        Self { shards, ends }
    }

    /// The files.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// Number of tokens in all files.
    pub fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or_default()
    }

    /// Whether there are no files: a shard without tokens does not open.
    pub fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    /// The tokens at the given positions, from as many files as they lie in.
    ///
    /// # Panics
    /// When `range` reaches beyond [`Tokens::len`].
    pub fn tokens(&self, range: Range<usize>) -> impl Iterator<Item = u16> {
        let len = self.len();
        assert!(range.start <= range.end && range.end <= len, "{range:?} of {len} tokens");
        let first = self.ends.partition_point(|&end| end <= range.start);
        let files = self.shards[first..].iter().zip(&self.ends[first..]);
        files
            .map(move |(shard, &end)| {
                let begin = end - shard.len();
                let within =
                    range.start.max(begin) - begin..range.end.min(end).saturating_sub(begin);
                (shard, within)
            })
            .take_while(|(_, within)| within.start < within.end)
            .flat_map(|(shard, within)| shard.tokens(within))
    }

    /// The position of the first `token` within `range`.
    ///
    /// # Panics
    /// As [`Tokens::tokens`].
    pub fn find(&self, range: Range<usize>, token: u16) -> Option<usize> {
        let start = range.start;
        self.tokens(range).position(|other| other == token).map(|index| start + index)
    }

    /// Whether this is one file that is as we would write it: then [`Tokens::sha256`] is that of the
    /// file.
    pub(crate) fn is_canonical(&self) -> bool {
        matches!(&self.shards[..], [only] if *only.header() == shard::header(only.len() as u64))
    }

    /// SHA-256 of the one token file that would hold all these tokens, in hex: the same for the same
    /// tokens, however they are divided into files. Of more than `i32::MAX` tokens no file can
    /// exist; their number then goes on in the fourth number of its header.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(shard::header(self.len() as u64));
        self.shards.iter().for_each(|shard| hash.update(shard.token_bytes()));
        shard::hex(&hash.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ShardWriter;
    use std::path::Path;

    fn written(path: &Path, tokens: Range<u16>) -> Shard {
        let mut writer = ShardWriter::create(path).unwrap();
        writer.push(tokens).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn several_files_read_as_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, range| written(&dir.path().join(name), range);
        let whole = Tokens::from(file("whole", 0..1000));
        let parts = Tokens::new(vec![
            file("a", 0..10),
            file("b", 10..11),
            file("c", 11..999),
            file("d", 999..1000),
        ]);
        assert_eq!(parts.len(), 1000);
        assert_eq!(parts.shards().len(), 4);
        for start in [0, 1, 9, 10, 11, 500, 998, 999, 1000] {
            for end in [start, start + 1, start + 2, start + 12, 1000] {
                let range = start..end.min(1000);
                let expected: Vec<u16> = whole.tokens(range.clone()).collect();
                assert_eq!(parts.tokens(range.clone()).collect::<Vec<_>>(), expected, "{range:?}");
                assert_eq!(expected.len(), range.len());
            }
        }
        assert_eq!(parts.find(0..1000, 10), Some(10));
        assert_eq!(parts.find(11..1000, 10), None);
        assert_eq!(parts.find(5..999, 998), Some(998));
    }

    #[test]
    fn the_hash_is_that_of_the_tokens_and_not_of_the_division() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, range| written(&dir.path().join(name), range);
        let whole = file("whole", 0..1000);
        let hash = whole.sha256();
        assert_eq!(Tokens::from(whole).sha256(), hash);
        let halves = || vec![file("a", 0..400), file("b", 400..1000)];
        assert_eq!(Tokens::new(halves()).sha256(), hash);
        let mut swapped = halves();
        swapped.reverse();
        assert_ne!(Tokens::new(swapped).sha256(), hash);
    }

    #[test]
    #[expect(clippy::reversed_empty_ranges, reason = "what is refused")]
    fn no_range_reaches_beyond_the_tokens() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::from(written(&dir.path().join("x"), 0..10));
        for range in [0..11, 11..11, 5..4] {
            let read = || tokens.tokens(range.clone()).count();
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
            assert!(panicked.is_err(), "{range:?}");
        }
    }
}
