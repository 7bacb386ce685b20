//! What a program's claimed loss is asked, and what it answers.

use crate::Error;

/// Random logits and targets for a loss that is claimed to be cross-entropy.
///
/// On the wire, and without its answer in an artifact: `rows` and `vocab` as little-endian `u32`,
/// then `rows * vocab` logits as `f32`, row by row, then `rows` targets as `u32`.
#[derive(Clone, Debug, PartialEq)]
pub struct LossCase {
    /// Number of predictions.
    pub rows: u32,
    /// Number of token values.
    pub vocab: u32,
    /// `rows * vocab` values, row by row.
    pub logits: Vec<f32>,
    /// The true token of each row, below `vocab`.
    pub targets: Vec<u32>,
}

impl LossCase {
    /// The case as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = [self.rows.to_le_bytes(), self.vocab.to_le_bytes()].concat();
        bytes.extend(self.logits.iter().flat_map(|value| value.to_le_bytes()));
        bytes.extend(self.targets.iter().flat_map(|target| target.to_le_bytes()));
        bytes
    }

    /// Reads a case from bytes.
    ///
    /// # Errors
    ///
    /// When the length is not what the first two numbers ask for.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let malformed = |reason: &str| Error::malformed("loss case", reason);
        let (words, []) = bytes.as_chunks::<4>() else {
            return Err(malformed("its length is not a multiple of four"));
        };
        let [rows, vocab, words @ ..] = words else {
            return Err(malformed("it ends before two numbers"));
        };
        let (rows, vocab) = (u32::from_le_bytes(*rows), u32::from_le_bytes(*vocab));
        let n_logits = u64::from(rows) * u64::from(vocab);
        if words.len() as u64 != n_logits + u64::from(rows) {
            return Err(malformed("its length is not that of its rows"));
        }
        let (logits, targets) = words.split_at(n_logits as usize);
        Ok(Self {
            rows,
            vocab,
            logits: logits.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
            targets: targets.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect(),
        })
    }
}

/// What a claimed loss makes of a [`LossCase`].
///
/// On the wire: the value as little-endian `f32`, then the gradient likewise.
#[derive(Clone, Debug, PartialEq)]
pub struct LossAnswer {
    /// The loss.
    pub value: f32,
    /// Its gradient with respect to the logits, row by row.
    pub gradient: Vec<f32>,
}

impl LossAnswer {
    /// The answer as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let values = std::iter::once(&self.value).chain(&self.gradient);
        values.flat_map(|value| value.to_le_bytes()).collect()
    }

    /// Reads an answer from bytes. Numbers may be anything.
    ///
    /// # Errors
    ///
    /// When there is not a whole number of values, or none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let (values, rest) = bytes.as_chunks::<4>();
        let (value, gradient) = match (values, rest) {
            ([value, gradient @ ..], []) => (value, gradient),
            _ => return Err(Error::malformed("loss", "not a whole number of values, or none")),
        };
        Ok(Self {
            value: f32::from_le_bytes(*value),
            gradient: gradient.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_and_answers_survive_their_bytes() {
        let logits = vec![1.5, -2.0, 0.0, f32::MAX, f32::MIN_POSITIVE, -0.0];
        let case = LossCase { rows: 2, vocab: 3, logits, targets: vec![2, 0] };
        assert_eq!(LossCase::decode(&case.encode()).unwrap(), case);
        let answer = LossAnswer { value: 2.5, gradient: vec![0.0, f32::INFINITY] };
        assert_eq!(LossAnswer::decode(&answer.encode()).unwrap(), answer);
    }

    #[test]
    fn torn_bytes_are_errors() {
        let case = LossCase { rows: 2, vocab: 1, logits: vec![1.0, 2.0], targets: vec![0, 0] };
        let bytes = case.encode();
        for length in 0..bytes.len() {
            assert!(LossCase::decode(&bytes[..length]).is_err(), "{length} bytes");
        }
        let huge = [u32::MAX.to_le_bytes(), u32::MAX.to_le_bytes()].concat();
        assert!(LossCase::decode(&huge).is_err());
        assert!(LossAnswer::decode(&[]).is_err() && LossAnswer::decode(&[1; 5]).is_err());
    }
}
