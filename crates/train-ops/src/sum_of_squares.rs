//! The squared norm of a tensor, which gradient clipping needs.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use crate::profile::Profiled;
use crate::storage::{values, zeros};
use crate::threads::{Cut, Rows, in_shares};
use crate::vector::{sum, vectorized};

const NAME: &str = "sum_of_squares";

/// Sum of the squares of all values.
///
/// # Shapes
///
/// Any shape; the result is a scalar.
///
/// # Errors
///
/// When the tensor is not `f32` on the CPU.
pub fn sum_of_squares(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Profiled(SumOfSquares))
}

/// Values that are added up as `f32`.
const PART: usize = 4096;

/// Values that are cut into whole parts; the last part may be a short one.
struct Parts<'a>(&'a [f32]);

impl Cut for Parts<'_> {
    fn cut(self, n_shares: usize) -> (Self, Self) {
        let first = self.0.len().div_ceil(PART) / n_shares * PART;
        let (first, rest) = self.0.split_at(first.min(self.0.len()));
        (Self(first), Self(rest))
    }
}

struct SumOfSquares;

impl CustomOp1 for SumOfSquares {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values::<f32>(NAME, x, xl)?;
        let mut sums = zeros(x.len().div_ceil(PART));
        let work = (Parts(x), Rows::new(&mut *sums, 1));
        in_shares(work, x.len() / PART, x.len() / 16, |(Parts(x), sums)| {
            vectorized(
                #[inline(always)]
                || {
                    for (part, to) in x.chunks(PART).zip(sums.values) {
                        *to = sum(part, |v| v * v);
                    }
                },
            );
        });
        let total: f64 = sums.into_iter().map(f64::from).sum();
        Ok((CpuStorage::F32(vec![total as f32]), ().into()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(x.broadcast_mul(&(dy * 2.0)?)?))
    }
}
