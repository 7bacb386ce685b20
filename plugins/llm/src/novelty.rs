//! Whether an idea was there before: a local measure on words, whose cost does not grow with the
//! number of ideas.
//!
//! An idea is the set of its words, without those that every idea has, each cut to its stem. Words of
//! the summary count twice, numbers three times. Two ideas are as similar as their sets: the share of common words among all of either (Jaccard).
//! Candidates come from an inverted index, by the rarest words of the idea alone: two ideas of
//! similarity `t` or more share one of the rarest `n - ceil(t n) + 1` of its `n` words.
//!
//! Reasons are alike for much that is not: so two ideas are the same only if their summaries name the
//! same things as well ([`Summary`]).

mod summary;

use std::collections::{BTreeMap, HashMap, VecDeque};
use summary::Summary;

/// Similarity from which on two ideas with summaries that say the same are the same by default. Ideas in
/// somewhat other words come to at least 0.6 on the pairs in the test; in wholly other words they are missed.
pub const SIMILARITY: f64 = 0.6;

/// Most words of an idea that count: the first.
const MAX_WORDS: usize = 64;
/// Ideas looked at for each word: the latest.
const MAX_CANDIDATES: usize = 48;
/// A word of the summary counts as so many words.
const SUMMARY: u32 = 2;
/// So does a number: another learning rate is another idea.
const NUMBER: u32 = 3;
/// Characters of a stem: `optimizer` and `optimization` are one word.
const STEM: usize = 6;

/// Words that say nothing about an idea, as stems.
const COMMON: [&str; 64] = [
    "a", "add", "all", "also", "an", "and", "apply", "are", "as", "at", "be", "becaus", "by",
    "can", "change", "each", "every", "faster", "for", "from", "has", "have", "help", "here",
    "improv", "in", "instea", "into", "introd", "is", "it", "its", "less", "let", "make", "more",
    "of", "on", "one", "only", "or", "other", "per", "progra", "reduce", "replac", "should", "so",
    "swap", "switch", "than", "that", "the", "their", "them", "then", "thi", "to", "use", "using",
    "which", "while", "will", "with",
];

/// The words of an idea.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Words {
    /// All of them, as numbers in increasing order.
    all: Vec<u32>,
    summary: Summary,
}

impl Words {
    /// The words of a summary and of what stands behind it.
    pub(crate) fn of(summary: &str, mechanism: &str) -> Self {
        let mut stems: Vec<u32> = Vec::new();
        for (text, weight) in [(summary, SUMMARY), (mechanism, 1)] {
            for word in words(text) {
                let stem = stem(word);
                let hash = fnv(&stem);
                if COMMON.binary_search(&stem.as_str()).is_ok() || stems.contains(&hash) {
                    continue;
                }
                if stems.len() >= MAX_WORDS {
                    break;
                }
                let weight = if is_number(&stem) { NUMBER } else { weight };
                stems.extend((0..weight).map(|copy| hash.wrapping_add(copy)));
            }
        }
        stems.sort_unstable();
        Self { all: stems, summary: Summary::of(summary) }
    }

    /// Whether both summaries may mean the same.
    pub(crate) fn may_mean(&self, other: &Self) -> bool {
        self.summary.may_mean(&other.summary)
    }

    /// The share of common words among all of either, in `0.0..=1.0`.
    pub(crate) fn similarity(&self, other: &Self) -> f64 {
        let (mut a, mut b) = (self.all.as_slice(), other.all.as_slice());
        let mut common = 0_usize;
        while let ([x, rest_a @ ..], [y, rest_b @ ..]) = (a, b) {
            common += usize::from(x == y);
            if x <= y {
                a = rest_a;
            }
            if y <= x {
                b = rest_b;
            }
        }
        let all = self.all.len() + other.all.len() - common;
        if all == 0 { 0.0 } else { common as f64 / all as f64 }
    }
}

/// The words of a text, numbers with their decimals.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '.'))
        .map(|word| word.trim_matches('.'))
        .filter(|word| !word.is_empty())
}

fn stem(word: &str) -> String {
    let word = word.to_lowercase();
    if is_number(&word) {
        return word;
    }
    let plural = word.len() > 3 && !word.ends_with("ss");
    let word = word.strip_suffix('s').filter(|_| plural).unwrap_or(&word);
    word.chars().take(STEM).collect()
}

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
}

/// FNV-1a, 32 bits.
fn fnv(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Ideas by number, oldest first, and where each word occurs.
#[derive(Debug, Default)]
pub(crate) struct Index {
    ideas: BTreeMap<u64, Words>,
    /// Numbers of ideas, increasing.
    occurs: HashMap<u32, VecDeque<u64>>,
}

impl Index {
    /// Adds an idea; numbers increase.
    pub(crate) fn add(&mut self, number: u64, words: Words) {
        for word in &words.all {
            self.occurs.entry(*word).or_default().push_back(number);
        }
        self.ideas.insert(number, words);
    }

    /// Forgets an idea; only the oldest may be forgotten.
    pub(crate) fn forget(&mut self, number: u64) {
        let Some(words) = self.ideas.remove(&number) else { return };
        for word in words.all {
            if let Some(numbers) = self.occurs.get_mut(&word) {
                while numbers.front().is_some_and(|first| *first <= number) {
                    numbers.pop_front();
                }
                if numbers.is_empty() {
                    self.occurs.remove(&word);
                }
            }
        }
    }

    /// The most similar idea with a number below `before` that `counts`, if its similarity is at least
    /// `least` and the summaries may mean the same; the latest of several. What came later makes no
    /// difference.
    pub(crate) fn nearest(
        &self,
        words: &Words,
        least: f64,
        before: u64,
        counts: impl Fn(u64) -> bool,
    ) -> Option<(f64, u64)> {
        let n = words.all.len();
        let needed = ((least * n as f64).ceil() as usize).clamp(1, n.max(1));
        // How often each word occurred before, rarest first.
        let mut rare: Vec<(usize, u32)> = words
            .all
            .iter()
            .filter_map(|word| {
                let count = self.occurs.get(word)?.partition_point(|number| *number < before);
                Some((count, *word))
            })
            .collect();
        // Words that never occurred are the rarest of all, and lead nowhere.
        let unknown = n - rare.len();
        rare.sort_unstable();
        let looked_at = (n + 1).saturating_sub(needed).saturating_sub(unknown);
        let mut candidates: Vec<u64> = rare
            .iter()
            .take(looked_at)
            .flat_map(|(count, word)| {
                let numbers = &self.occurs[word];
                numbers.range(count.saturating_sub(MAX_CANDIDATES)..*count).copied()
            })
            .collect();
        candidates.sort_unstable();
        candidates.dedup();
        candidates
            .into_iter()
            .filter(|number| counts(*number))
            .filter_map(|number| {
                let other = self.ideas.get(&number).filter(|other| words.may_mean(other))?;
                Some((words.similarity(other), number))
            })
            .filter(|(similarity, _)| *similarity >= least)
            .max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))
    }

    /// Whether the summary of this idea has the numbers and directions of that of `words`.
    pub(crate) fn agrees(&self, number: u64, words: &Words) -> bool {
        self.ideas.get(&number).is_some_and(|other| other.summary.agrees(&words.summary))
    }

    /// How many ideas there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.ideas.len()
    }
}

#[cfg(test)]
mod tests;
