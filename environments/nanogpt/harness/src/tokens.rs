//! Tokens as a program sees them: something to look up and to predict, not numbers.

use std::fmt;

use candle_core::Device;

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
        let ids = candle_core::Tensor::from_vec(ids, (sequences, length), &Device::Cpu)?;
        Ok(Self { ids, sequences, length, bound })
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
        let zeros = (self.sequences, distance);
        let zeros = candle_core::Tensor::zeros(zeros, candle_core::DType::U32, &Device::Cpu)?;
        let kept = self.ids.narrow(1, 0, self.length - distance)?;
        Ok(Self { ids: candle_core::Tensor::cat(&[&zeros, &kept], 1)?, ..self.clone() })
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
