//! Tokens as a program sees them: something to look up and to predict, not numbers.

use std::fmt;

use candle_core::Device;
#[cfg(feature = "device")]
use forerunner_train_ops::device::{by_candle, note_numbers, refuse_while_capturing};

use crate::{Error, Result};

/// Tokens of a batch, `[B, T]`, each below a known bound.
///
/// Their values cannot be read; see [`crate::Tensor`] for the reason.
#[derive(Clone)]
pub struct Tokens {
    /// Of shape `[B, T]` and type `u32`.
    pub(crate) ids: candle_core::Tensor,
    sequences: usize,
    length: usize,
    bound: usize,
}

impl Tokens {
    /// Tokens of `sequences` rows; all ids must be below `bound`.
    pub(crate) fn new(ids: Vec<u32>, sequences: usize, bound: usize) -> Result<Self> {
        let length = ids.len().checked_div(sequences).unwrap_or(0);
        if let Some(id) = ids.iter().find(|&&id| id as usize >= bound) {
            return Err(Error::program(format!("token {id} is not below {bound}")));
        }
        let shape = (sequences, length);
        #[cfg(feature = "device")]
        if let Some(device) = crate::device::current() {
            let ids = crate::device::upload(&ids, shape, &device)?;
            return Ok(Self { ids, sequences, length, bound });
        }
        let ids = candle_core::Tensor::from_vec(ids, shape, &Device::Cpu)?;
        Ok(Self { ids, sequences, length, bound })
    }

    /// Other ids of the same shape, below the same bound.
    #[cfg(feature = "device")]
    pub(crate) fn with_ids(&self, ids: candle_core::Tensor) -> Self {
        Self { ids, ..self.clone() }
    }

    /// Number of sequences `B` and of positions `T`.
    pub fn dims(&self) -> (usize, usize) {
        (self.sequences, self.length)
    }

    /// Every token is below this; a table must have at least so many rows.
    pub fn bound(&self) -> usize {
        self.bound
    }

    /// The positions `0..T` of every sequence, for a table of positions.
    ///
    /// # Errors
    ///
    /// When they cannot be allocated.
    pub fn positions(&self) -> Result<Self> {
        #[cfg(feature = "device")]
        if crate::device::current().is_some() {
            let shape = (self.sequences, self.length);
            let ids = crate::device::positions(shape)?;
            return Ok(Self { ids, bound: self.length, ..self.clone() });
        }
        let ids = (0..self.sequences).flat_map(|_| 0..self.length as u32).collect();
        Self::new(ids, self.sequences, self.length)
    }

    /// At each position the token `distance` positions before it; 0 where there is none.
    ///
    /// # Errors
    ///
    /// When they cannot be allocated.
    pub fn previous(&self, distance: usize) -> Result<Self> {
        let distance = distance.min(self.length);
        #[cfg(feature = "device")]
        note_numbers("previous", [distance as u64]);
        let (shape, kept) = ((self.sequences, distance), self.length - distance);
        let shifted = move |ids: &candle_core::Tensor| {
            let zeros = candle_core::Tensor::zeros(shape, candle_core::DType::U32, ids.device())?;
            candle_core::Tensor::cat(&[&zeros, &ids.narrow(1, 0, kept)?], 1)
        };
        #[cfg(feature = "device")]
        let ids = by_candle(&[&self.ids], move |ids| shifted(&ids[0]))?;
        #[cfg(not(feature = "device"))]
        let ids = shifted(&self.ids)?;
        Ok(Self { ids, ..self.clone() })
    }

    /// At each position a bucket for the last `order` tokens, the one at the position included, for a
    /// table of `buckets` rows in place of one row for every combination. Positions before the start
    /// count as token 0.
    ///
    /// The hash is the same in every process. From the earliest of the tokens to the latest,
    /// `h = (h + token + 1) · 0x9e3779b97f4a7c15` and `h = h xor (h >> 32)`, in 64 bits and from
    /// `h = 0`; the bucket is `((h >> 32) · buckets) >> 32`. Combinations that share a bucket are not
    /// told apart.
    ///
    /// # Errors
    ///
    /// When `order` is not between 1 and 64, or `buckets` not between 1 and 2³¹.
    pub fn hashed(&self, order: usize, buckets: usize) -> Result<Self> {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        if !(1..=64).contains(&order) {
            return Err(Error::program(format!(
                "an order from 1 to 64 can be hashed, not {order}"
            )));
        }
        if !(1..=1 << 31).contains(&buckets) {
            return Err(Error::program(format!("buckets are from 1 to 2^31, not {buckets}")));
        }
        #[cfg(feature = "device")]
        refuse_while_capturing("Tokens::hashed")?;
        let mut hashed = Vec::with_capacity(self.sequences * self.length);
        for sequence in self.ids.to_vec2::<u32>()? {
            let padded = [vec![0; order - 1], sequence].concat();
            hashed.extend(padded.windows(order).map(|tokens| {
                let hash = tokens.iter().fold(0u64, |hash, &token| {
                    let hash = hash.wrapping_add(u64::from(token) + 1).wrapping_mul(FACTOR);
                    hash ^ (hash >> 32)
                });
                (((hash >> 32) * buckets as u64) >> 32) as u32
            }));
        }
        Self::new(hashed, self.sequences, buckets)
    }

    /// Positions `start..start + length` of every sequence.
    ///
    /// # Errors
    ///
    /// When there are fewer.
    pub fn slice(&self, start: usize, length: usize) -> Result<Self> {
        Ok(Self { ids: self.ids.narrow(1, start, length)?, length, ..self.clone() })
    }

    /// Sequences `start..start + count`, for batches that are worked off in parts.
    ///
    /// # Errors
    ///
    /// When there are fewer.
    pub fn sequences(&self, start: usize, count: usize) -> Result<Self> {
        Ok(Self { ids: self.ids.narrow(0, start, count)?, sequences: count, ..self.clone() })
    }
}

impl fmt::Debug for Tokens {
    /// Shows the shape only; values stay inside.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens[{}, {}]", self.sequences, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(tokens: &Tokens) -> Vec<Vec<u32>> {
        tokens.ids.to_vec2().unwrap()
    }

    /// The documented hash, written out.
    fn bucket(tokens: &[u64], buckets: u64) -> u32 {
        let mut hash = 0u64;
        for token in tokens {
            hash = hash.wrapping_add(*token).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            hash ^= hash >> 32;
        }
        u32::try_from(((hash >> 32) * buckets) >> 32).unwrap()
    }

    #[test]
    fn buckets_follow_the_documented_hash() {
        let tokens = Tokens::new(vec![3, 1, 4, 1, 5, 9], 2, 10).unwrap();
        let pairs = tokens.hashed(2, 1000).unwrap();
        assert_eq!((pairs.dims(), pairs.bound()), ((2, 3), 1000));
        let expected = [[[0, 3], [3, 1], [1, 4]], [[0, 1], [1, 5], [5, 9]]];
        assert_eq!(ids(&pairs), expected.map(|row| row.map(|pair| bucket(&pair, 1000)).to_vec()));
        // An order beyond the start of the sequence, and parts of a batch.
        let fours = tokens.hashed(4, 7).unwrap();
        assert_eq!(ids(&fours)[1][2], bucket(&[0, 1, 5, 9], 7));
        assert_eq!(ids(&tokens.sequences(1, 1).unwrap().hashed(4, 7).unwrap())[0], ids(&fours)[1]);
        assert_eq!(ids(&tokens.hashed(3, 1).unwrap()), [[0, 0, 0], [0, 0, 0]]);
        // These values are carried in trained tables; they must never change.
        assert_eq!(ids(&pairs), [[140, 532, 929], [904, 547, 956]]);
    }

    #[test]
    fn buckets_are_used_evenly() {
        // All pairs of 64 tokens into as many buckets: chance would leave 1/e of them empty, and
        // put about 7 into the fullest.
        let pairs = (0..64 * 64).flat_map(|pair| [pair / 64, pair % 64]).collect();
        let pairs = Tokens::new(pairs, 64 * 64, 64).unwrap().hashed(2, 64 * 64).unwrap();
        let mut counts = vec![0; 64 * 64];
        ids(&pairs).iter().for_each(|pair| counts[pair[1] as usize] += 1);
        let empty = counts.iter().filter(|&&count| count == 0).count();
        assert!(empty < 64 * 64 * 2 / 5, "{empty} buckets are empty");
        assert!(counts.iter().max() < Some(&12), "{:?} pairs in one bucket", counts.iter().max());
    }

    #[test]
    fn orders_and_buckets_out_of_range_are_errors() {
        let tokens = Tokens::new(vec![0, 1], 1, 2).unwrap();
        for (order, buckets) in [(0, 10), (65, 10), (2, 0), (2, usize::MAX)] {
            assert!(tokens.hashed(order, buckets).is_err(), "{order}, {buckets}");
        }
        assert_eq!(tokens.hashed(64, 1 << 31).unwrap().bound(), 1 << 31);
    }

    #[test]
    fn a_slice_is_whole_in_itself() {
        let tokens = Tokens::new((0..10).collect(), 2, 10).unwrap();
        let slice = tokens.slice(1, 3).unwrap();
        assert_eq!((slice.dims(), slice.bound()), ((2, 3), 10));
        assert_eq!(ids(&slice), [[1, 2, 3], [6, 7, 8]]);
        assert_eq!(ids(&slice.previous(1).unwrap()), [[0, 1, 2], [0, 6, 7]]);
        assert_eq!(ids(&slice.positions().unwrap()), [[0, 1, 2], [0, 1, 2]]);
        assert_eq!(ids(&slice.hashed(1, 5).unwrap()).concat().len(), 6);
        assert!(tokens.slice(3, 3).is_err());
    }
}
