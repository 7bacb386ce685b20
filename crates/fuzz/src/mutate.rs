//! Makes inputs: takes one that is known to be interesting and breaks it a little.
//!
//! Bytes are flipped, set to numbers at which things change, removed, repeated and moved; pieces of
//! other inputs and words of the target's dictionary are put in; for text, whole lines are moved.
//! What answers in a way not seen before joins the inputs to start from, which finds the way into
//! a reader step by step without measuring coverage.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use std::collections::HashSet;

/// Most inputs to start from; a target with endlessly many answers must not fill the memory.
const MAX_POOL: usize = 2048;

/// Most changes made to one input at once.
const MAX_CHANGES: u64 = 8;

/// Numbers at which lengths and counts go wrong.
const NUMBERS: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// A source of inputs.
pub(crate) struct Mutator {
    rng: ChaCha8Rng,
    pool: Vec<Vec<u8>>,
    dictionary: &'static [&'static str],
    longest: usize,
    answers: HashSet<String>,
    /// How many inputs of the corpus have been handed out unchanged.
    n_plain: usize,
    n_corpus: usize,
}

impl Mutator {
    /// Starts from a corpus, of which every input is also handed out as it is.
    pub(crate) fn new(
        seed: u64,
        corpus: Vec<Vec<u8>>,
        dictionary: &'static [&'static str],
        longest: usize,
    ) -> Self {
        let n_corpus = corpus.len();
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Self {
            rng,
            pool: corpus,
            dictionary,
            longest,
            answers: HashSet::new(),
            n_plain: 0,
            n_corpus,
        }
    }

    /// The next input.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        if self.n_plain < self.n_corpus {
            self.n_plain += 1;
            return self.pool[self.n_plain - 1].clone();
        }
        let mut input = self.any().to_vec();
        for _ in 0..=self.below(MAX_CHANGES) {
            self.change(&mut input);
        }
        input.truncate(self.longest);
        input
    }

    /// Takes note of what a target answered to `input`.
    pub(crate) fn learn(&mut self, input: Vec<u8>, answer: &str) {
        if self.answers.len() < MAX_POOL && self.answers.insert(kind(answer)) {
            self.pool.push(input);
        }
    }

    /// Kinds of answers so far.
    pub(crate) fn n_answers(&self) -> usize {
        self.answers.len()
    }

    /// Below `bound`, or 0. Not perfectly even, which does not matter here.
    fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.rng.next_u64() % bound }
    }

    fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    fn any(&mut self) -> &[u8] {
        let index = self.index(self.pool.len());
        self.pool.get(index).map_or(&[], Vec::as_slice)
    }

    /// A short piece of `length` bytes, more often very short.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.index(length);
        let longest = 1 << self.below(10);
        let end = (start + 1 + self.index(longest)).min(length);
        start..end
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.index(input.len() + 1);
        match self.below(12) {
            0 if !input.is_empty() => {
                let at = at.min(input.len() - 1);
                input[at] ^= 1 << self.below(8);
            }
            1 if !input.is_empty() => {
                let at = at.min(input.len() - 1);
                input[at] = self.below(256) as u8;
            }
            2 => self.put_number(input, at),
            3 if !input.is_empty() => drop(input.drain(self.range(input.len()))),
            4 if !input.is_empty() => {
                let piece = input[self.range(input.len())].to_vec();
                let n_copies = 1 + self.below(8);
                for _ in 0..n_copies {
                    input.splice(at..at, piece.iter().copied());
                }
            }
            5 => {
                let other = self.any().to_vec();
                let piece = other[self.range(other.len())].to_vec();
                input.splice(at..at, piece);
            }
            6 => {
                // The beginning of one and the end of another.
                let other = self.any().to_vec();
                let from = self.index(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            7 | 8 if !self.dictionary.is_empty() => {
                let word = self.dictionary[self.index(self.dictionary.len())];
                input.splice(at..at, word.bytes());
            }
            9 => {
                let byte = b" \n\t\0/\"'{}[]()<>=:;,.#*-0a"[self.index(25)];
                input.insert(at, byte);
            }
            10 => self.move_line(input),
            // Deep nesting is what recursion does not like.
            _ => {
                let n_times = 1 << self.below(11);
                let opening = b"([{<*&-!"[self.index(8)];
                input.splice(at..at, std::iter::repeat_n(opening, n_times));
            }
        }
    }

    /// Writes a number over what is there, in either order of bytes, or as digits between it.
    fn put_number(&mut self, input: &mut Vec<u8>, at: usize) {
        let number = NUMBERS[self.index(NUMBERS.len())].wrapping_add(self.below(3)).wrapping_sub(1);
        let width = 1 << self.below(4);
        let mut bytes = number.to_le_bytes()[..width].to_vec();
        match self.below(3) {
            0 => bytes.reverse(),
            1 => bytes = number.to_string().into_bytes(),
            _ => {}
        }
        let end = (at + bytes.len()).min(input.len());
        input.splice(at..end, bytes);
    }

    fn move_line(&mut self, input: &mut Vec<u8>) {
        let mut lines: Vec<Vec<u8>> =
            input.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
        let line = lines.remove(self.index(lines.len()));
        let at = self.index(lines.len() + 1);
        match self.below(3) {
            0 => {}
            1 => lines.insert(at, line),
            _ => lines.splice(at..at, [line.clone(), line]).for_each(drop),
        }
        *input = lines.join(&b'\n');
    }
}

/// An answer without numbers and without what it quotes; after quotation marks and bars, which are
/// not always paired, anything of the input may follow.
fn kind(answer: &str) -> String {
    let beginning = |part: &str| -> String {
        let outside: String = part.split('`').step_by(2).collect();
        let plain = outside.split(['"', '\'', '|']).next().unwrap_or_default();
        plain.chars().filter(|letter| !letter.is_ascii_digit()).take(MAX_KIND).collect()
    };
    answer.split(" & ").map(beginning).collect::<Vec<_>>().join(" & ")
}

/// Of what is longer, the end is rarely news.
const MAX_KIND: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    fn mutator(seed: u64) -> Mutator {
        Mutator::new(seed, vec![b"one\ntwo".to_vec(), Vec::new()], &["word"], 64)
    }

    #[test]
    fn a_seed_decides_every_input() {
        let inputs = |seed| {
            let mut mutator = mutator(seed);
            (0..200).map(|_| mutator.next()).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        assert_eq!(inputs(1)[..2], [b"one\ntwo".to_vec(), Vec::new()]);
        assert!(inputs(3).iter().all(|input| input.len() <= 64));
        let with_word = |input: &Vec<u8>| input.windows(4).any(|window| window == b"word");
        assert!(inputs(3).iter().any(with_word));
    }

    #[test]
    fn new_answers_are_built_upon() {
        let mut mutator = mutator(1);
        mutator.learn(b"x".to_vec(), "line 3 is wrong");
        mutator.learn(b"y".to_vec(), "line 12 is wrong");
        mutator.learn(b"v".to_vec(), "unknown `a` here");
        mutator.learn(b"w".to_vec(), "unknown `b` here");
        mutator.learn(b"z".to_vec(), "it is right");
        assert_eq!(mutator.n_answers(), 3);
        assert_eq!(mutator.pool[2..], [b"x".to_vec(), b"v".to_vec(), b"z".to_vec()]);
    }
}
