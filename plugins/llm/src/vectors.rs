//! Directions of ideas: vectors from a model for embeddings, and which idea points the same way.
//!
//! Only whole numbers are kept and compared, so that the same vectors come to the same decision on
//! every machine. A new idea is compared with each of the latest; that takes under a millisecond, and
//! no more in a long run than in a short one.

use std::collections::VecDeque;

/// Earlier ideas that are looked at: the latest.
const LOOKED_AT: usize = 2_048;
/// Kept besides those, because others may come in while a proposal is made.
const SPARE: usize = 256;
/// Most numbers of a vector; longer ones are not used.
const LONGEST: usize = 8_192;
/// The largest number of a kept vector.
const LARGEST: f64 = 127.0;

/// A direction, in whole numbers of one byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vector(Vec<i8>);

impl Vector {
    /// Reads a model's answer: a list of numbers in JSON. `None` where it is none, is too long or
    /// points nowhere.
    pub(crate) fn read(answer: &str) -> Option<Self> {
        let numbers: Vec<f64> = serde_json::from_str(answer).ok()?;
        let largest = numbers.iter().fold(0.0, |most: f64, number| most.max(number.abs()));
        let is_usable = numbers.len() <= LONGEST && largest.is_finite() && largest > 0.0;
        let kept = |number: &f64| (number / largest * LARGEST).round() as i8;
        is_usable.then(|| Self(numbers.iter().map(kept).collect()))
    }

    /// As two hex digits for each number.
    pub(crate) fn write(&self) -> String {
        self.0.iter().map(|number| format!("{:02x}", number.cast_unsigned())).collect()
    }

    /// Reads what [`Vector::write`] wrote; `None` where that is something else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.is_empty() || digits.len() > 2 * LONGEST || !digits.len().is_multiple_of(2) {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let numbers = digits.chunks_exact(2).map(|pair| {
            let byte = u8::try_from(16 * digit(pair[0])? + digit(pair[1])?).ok()?;
            Some(byte.cast_signed())
        });
        numbers.collect::<Option<_>>().map(Self)
    }

    /// The cosine of the angle between both, in `-1.0..=1.0`; 0 for vectors of different lengths,
    /// which come from different models.
    pub(crate) fn cosine(&self, other: &Self) -> f64 {
        if self.0.len() != other.0.len() {
            return 0.0;
        }
        let dot = |a: &[i8], b: &[i8]| -> i32 {
            // At most 8,192 products of at most 128 * 128: far below the largest number.
            a.iter().zip(b).map(|(x, y)| i32::from(*x) * i32::from(*y)).sum()
        };
        let squares = f64::from(dot(&self.0, &self.0)) * f64::from(dot(&other.0, &other.0));
        if squares == 0.0 { 0.0 } else { f64::from(dot(&self.0, &other.0)) / squares.sqrt() }
    }
}

/// The vectors of the latest ideas, by number.
#[derive(Debug, Default)]
pub(crate) struct Vectors(VecDeque<(u64, String, Vector)>);

impl Vectors {
    /// Adds the vector that `model` has for an idea; numbers increase.
    pub(crate) fn add(&mut self, number: u64, model: &str, vector: Vector) {
        self.0.push_back((number, model.to_owned(), vector));
        if self.0.len() > LOOKED_AT + SPARE {
            self.0.pop_front();
        }
    }

    /// Forgets an idea, and all before it.
    pub(crate) fn forget(&mut self, number: u64) {
        while self.0.front().is_some_and(|(first, ..)| *first <= number) {
            self.0.pop_front();
        }
    }

    /// The nearest of the latest ideas with a number below `before` which `counts` and whose cosine
    /// is at least `least`; the latest of several. What came later makes no difference.
    pub(crate) fn nearest(
        &self,
        model: &str,
        vector: &Vector,
        least: f64,
        before: u64,
        counts: impl Fn(u64) -> bool,
    ) -> Option<u64> {
        let end = self.0.partition_point(|(number, ..)| *number < before);
        let latest = self.0.range(end.saturating_sub(LOOKED_AT)..end);
        latest
            .filter(|(number, theirs, _)| theirs == model && counts(*number))
            .map(|(number, _, other)| (vector.cosine(other), *number))
            .filter(|(cosine, _)| *cosine >= least)
            .max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))
            .map(|(_, number)| number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(answer: &str) -> Vector {
        Vector::read(answer).expect(answer)
    }

    #[test]
    fn only_the_direction_is_kept_and_survives_writing() {
        let kept = vector("[0.5, -1.0, 0, 0.25]");
        assert_eq!(kept.write(), "40810020");
        assert_eq!(kept, vector("[2, -4.0, 0, 1]"));
        assert_eq!(Vector::parse(&kept.write()), Some(kept));
        let long = format!("[{}1]", "1,".repeat(LONGEST));
        for answer in ["", "{}", "[]", "[0, 0]", "[null]", "[\"1\"]", "[1e999]", &long] {
            assert_eq!(Vector::read(answer), None, "{}", &answer[..answer.len().min(20)]);
        }
        for text in ["", "0", "0g", "+1", "ä0", &"00".repeat(LONGEST + 1)] {
            assert_eq!(Vector::parse(text), None);
        }
        assert!(Vector::read(&long.replacen("1,", "", 1)).is_some());
    }

    #[test]
    fn cosines_are_those_of_the_whole_vectors() {
        let mut state = 7_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((state >> 40) as f64 / 2_f64.powi(24)) - 0.5
        };
        for part in [0.0, 0.3, 0.6, 0.9, 1.0] {
            let a: Vec<f64> = (0..512).map(|_| random()).collect();
            let b: Vec<f64> = a.iter().map(|x| part * x + (1.0 - part) * random()).collect();
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
            let exact = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
            let [kept_a, kept_b] = [a, b].map(|numbers| vector(&format!("{numbers:?}")));
            assert!((kept_a.cosine(&kept_b) - exact).abs() < 0.003, "{part}: {exact}");
        }
        assert_eq!(vector("[1, 0]").cosine(&vector("[1, 0, 0]")), 0.0);
        assert_eq!(vector("[1, 0]").cosine(&vector("[-2, 0]")), -1.0);
        let zero = Vector::parse("0000").expect("two numbers");
        assert_eq!(zero.cosine(&zero), 0.0);
    }

    #[test]
    fn the_nearest_is_found_and_what_came_later_makes_no_difference() {
        let mut vectors = Vectors::default();
        for (number, answer) in [(0, "[1, 0]"), (2, "[1, 0.2]"), (5, "[1, 0]"), (6, "[0, 1]")] {
            vectors.add(number, "m", vector(answer));
        }
        let nearest = |model: &str, least, before| {
            vectors.nearest(model, &vector("[1, 0]"), least, before, |_| true)
        };
        assert_eq!(nearest("m", 0.9, 9), Some(5));
        assert_eq!(nearest("m", 0.9, 5), Some(0));
        assert_eq!(nearest("m", 0.9, 0), None);
        assert_eq!(nearest("other", 0.9, 9), None);
        let even = |number: u64| number == 2;
        assert_eq!(vectors.nearest("m", &vector("[1, 0]"), 0.9, 9, even), Some(2));
        assert_eq!(vectors.nearest("m", &vector("[1, 0]"), 0.99, 9, even), None);
        vectors.forget(5);
        assert_eq!(vectors.nearest("m", &vector("[1, 0]"), 0.9, 9, |_| true), None);
    }

    #[test]
    fn the_latest_are_kept() {
        let mut vectors = Vectors::default();
        let (old, new) = (vector("[1, 0]"), vector("[0, 1]"));
        vectors.add(0, "m", old.clone());
        for number in 1..=(LOOKED_AT as u64) {
            vectors.add(number, "m", new.clone());
        }
        let nearest = |vectors: &Vectors, before| vectors.nearest("m", &old, 0.9, before, |_| true);
        // Kept for proposals that began earlier, and no longer looked at by those that begin now.
        let all = LOOKED_AT as u64 + 1;
        assert_eq!((nearest(&vectors, all - 1), nearest(&vectors, all)), (Some(0), None));
        for number in all..all + SPARE as u64 {
            vectors.add(number, "m", new.clone());
        }
        assert_eq!(nearest(&vectors, all - 1), None);
        assert_eq!(vectors.0.len(), LOOKED_AT + SPARE);
    }
}
