//! A part of the data as programs meet it: as it is, or in disguise.
//!
//! In disguise every token id is renamed by one secret permutation, in training and in evaluation
//! alike. A program that learns does as well as before; one that brought knowledge about the data
//! with it, in constants or in trained values, does not.

use crate::{Tokens, stream::below};
use forerunner_core::Seed;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use std::ops::Range;

/// Other names for all token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Disguise(Vec<u16>);

impl Disguise {
    /// The permutation of `vocab` ids that belongs to a secret number.
    pub(crate) fn new(secret: u64, vocab: usize) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(Seed(secret).derive("nanogpt/disguise", 0).0);
        let mut names: Vec<u16> = (0..vocab).map(|id| id as u16).collect();
        for last in (1..vocab).rev() {
            names.swap(last, below(&mut random, last + 1));
        }
        Self(names)
    }

    /// The name of a token.
    pub(crate) fn of(&self, token: u16) -> u16 {
        self.0[token as usize]
    }
}

/// Tokens of one part of the data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text<'a> {
    tokens: &'a Tokens,
    disguise: Option<&'a Disguise>,
}

impl<'a> Text<'a> {
    /// These tokens, renamed when there is a disguise.
    pub(crate) fn new(tokens: &'a Tokens, disguise: Option<&'a Disguise>) -> Self {
        Self { tokens, disguise }
    }

    /// Number of tokens.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The tokens at the given positions.
    ///
    /// # Panics
    /// When `range` reaches beyond [`Text::len`].
    pub(crate) fn tokens(&self, range: Range<usize>) -> impl Iterator<Item = u16> {
        let disguise = self.disguise;
        self.tokens.tokens(range).map(move |token| disguise.map_or(token, |names| names.of(token)))
    }

    /// The position of the first `token` within `range`, by its own name, disguise or not.
    ///
    /// # Panics
    /// As [`Text::tokens`].
    pub(crate) fn find(&self, range: Range<usize>, token: u16) -> Option<usize> {
        self.tokens.find(range, token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ShardWriter;

    #[test]
    fn a_disguise_renames_every_token_and_loses_none() {
        let names = Disguise::new(5, 256);
        assert_eq!(names, Disguise::new(5, 256));
        assert_ne!(names, Disguise::new(6, 256));
        let mut all: Vec<u16> = (0..256).map(|token| names.of(token)).collect();
        assert!((0..256).filter(|&token| names.of(token) == token).count() < 10);
        all.sort_unstable();
        assert!(all.into_iter().eq(0..256));
        let dir = tempfile::tempdir().unwrap();
        let mut writer = ShardWriter::create(&dir.path().join("x")).unwrap();
        writer.push([3, 1, 3, 7]).unwrap();
        let shard = Tokens::from(writer.finish().unwrap());
        let text = Text::new(&shard, Some(&names));
        assert_eq!(
            text.tokens(0..4).collect::<Vec<_>>(),
            [3, 1, 3, 7].map(|token| names.of(token))
        );
        assert_eq!((text.find(0..4, 7), text.find(1..4, 3)), (Some(3), Some(2)));
        assert!(Text::new(&shard, None).tokens(1..3).eq([1, 3]));
    }
}
