//! The squared norm of a tensor, which gradient clipping needs.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use crate::profile::Profiled;
use crate::storage::values;
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

struct SumOfSquares;

impl CustomOp1 for SumOfSquares {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values::<f32>(NAME, x, xl)?;
        let total: f64 = vectorized(
            #[inline(always)]
            || x.chunks(4096).map(|part| f64::from(sum(part, |v| v * v))).sum(),
        );
        Ok((CpuStorage::F32(vec![total as f32]), ().into()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(x.broadcast_mul(&(dy * 2.0)?)?))
    }
}
