//! What a summary names: things, numbers, and whether there is to be more or less.

use super::{COMMON, is_number, stem, words};
use std::collections::BTreeSet;

/// Words of a summary that count: the first.
const MOST: usize = 64;
/// Of the things that either summary names, those that both must name.
const SHARE: f64 = 0.7;

/// Words that say where or how, as stems.
const MINOR: [&str; 14] = [
    "after", "before", "by", "during", "first", "just", "new", "over", "same", "simply", "throug",
    "under", "up", "within",
];
/// Words for more, as stems.
const MORE: [&str; 17] = [
    "add", "adding", "allow", "enable", "enlarg", "grow", "growin", "higher", "increa", "insert",
    "larger", "longer", "more", "raise", "raised", "raisin", "with",
];
/// Words for less, as stems.
const LESS: [&str; 26] = [
    "cut", "cuttin", "decrea", "disabl", "drop", "droppe", "droppi", "elimin", "fewer", "less",
    "lower", "lowere", "loweri", "omit", "prune", "reduce", "reduci", "reduct", "remova", "remove",
    "removi", "shorte", "shrink", "smalle", "strip", "withou",
];

/// What a summary names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Summary {
    /// Stems of things.
    things: BTreeSet<String>,
    /// In their order: from 1 to 2 is not from 2 to 1.
    numbers: Vec<String>,
    more: bool,
    less: bool,
}

impl Summary {
    pub(super) fn of(text: &str) -> Self {
        let (mut things, mut numbers) = (BTreeSet::new(), Vec::new());
        let (mut more, mut less) = signs(text);
        for word in words(text).take(MOST) {
            let stem = stem(word);
            let is_in = |list: &[&str]| list.binary_search(&stem.as_str()).is_ok();
            more |= is_in(&MORE);
            less |= is_in(&LESS);
            if is_number(&stem) {
                numbers.push(stem);
            } else if ![&COMMON[..], &MINOR, &MORE, &LESS].into_iter().any(is_in) {
                things.insert(stem);
            }
        }
        Self { things, numbers, more, less }
    }

    /// Whether both may mean the same: the same numbers, no opposite directions, and things of which
    /// one may name more than the other, but not each something that the other does not.
    pub(super) fn may_mean(&self, other: &Self) -> bool {
        if !self.agrees(other) {
            return false;
        }
        let (a, b) = (&self.things, &other.things);
        let (few, many) = if a.len() <= b.len() { (a, b) } else { (b, a) };
        few.is_subset(many) && few.len() as f64 >= SHARE * many.len() as f64
    }

    /// Whether both name the same numbers, and no opposite directions.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        let says = |it: &Self| it.more || it.less;
        let opposite =
            says(self) && says(other) && (self.more, self.less) != (other.more, other.less);
        !opposite && self.numbers == other.numbers
    }
}

/// Whether a number has a sign for more, and one for less.
fn signs(text: &str) -> (bool, bool) {
    let (mut more, mut less) = (false, false);
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let is_sign = !before.is_alphanumeric() && chars.peek().is_some_and(char::is_ascii_digit);
        more |= is_sign && char == '+';
        less |= is_sign && matches!(char, '-' | '\u{2212}');
        before = char;
    }
    (more, less)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_and_hold_stems() {
        for list in [&MINOR[..], &MORE, &LESS] {
            assert!(list.is_sorted(), "{list:?}");
            assert!(list.iter().all(|word| stem(word) == *word), "{list:?}");
        }
    }

    #[test]
    fn summaries_in_other_words_may_mean_the_same_and_opposites_never_do() {
        let check = |a: &str, b: &str, expected: bool| {
            let (first, second) = (Summary::of(a), Summary::of(b));
            assert_eq!(first.may_mean(&second), expected, "{a} / {b}: {first:?} {second:?}");
            assert_eq!(second.may_mean(&first), expected, "{b} / {a}");
        };
        check("Raise the learning rate to 0.2", "Increasing the learning rate to 0.2", true);
        check("Raise the learning rate to 0.2", "Learning rate 0.2", true);
        check("Raise the learning rate to 0.2", "Lower the learning rate to 0.2", false);
        check("Learning rate +20 %", "Learning rate -20 %", false);
        check("Learning rate \u{2212}20 %", "Lower the learning rate by 20 %", true);
        check("Steps 10-20", "Steps 10 to 20", true);
        check("STEPS from 10 to 20", "STEPS from 20 to 10", false);
        check("Add bias to the MLP input", "Remove bias of the MLP input", false);
        check("Double the width of the MLP", "Halve the width of the MLP", false);
        check("", "", true);
    }
}
