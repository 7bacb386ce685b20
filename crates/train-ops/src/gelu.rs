//! The Gaussian error linear unit in its tanh form.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use crate::profile::Profiled;
use crate::storage::{read, tensor, values, zeros};
use crate::threads::in_shares;
use crate::vector::{tanh, vectorized};

const NAME: &str = "gelu";

/// √(2/π) and the cubic coefficient of Hendrycks and Gimpel (arXiv 1606.08415), as in GPT-2.
const SLOPE: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;

/// `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`, value by value.
///
/// # Errors
///
/// When the tensor is not `f32` on the CPU.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Profiled(Gelu))
}

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values::<f32>(NAME, x, xl)?;
        let mut y = zeros(x.len());
        in_shares((&mut *y, x), usize::MAX, x.len() / 4, |(y, x)| {
            vectorized(
                #[inline(always)]
                || {
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = 0.5 * x * (1.0 + tanh(SLOPE * (x + CUBIC * x * x * x)));
                    }
                },
            );
        });
        Ok((CpuStorage::F32(y), xl.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dy = dy.contiguous()?;
        let (x_values, dy) = (read(NAME, x)?, read(NAME, &dy)?);
        let (x_values, dy) = (&*x_values, &*dy);
        let mut dx = zeros(x_values.len());
        in_shares((&mut *dx, x_values, dy), usize::MAX, dy.len() / 4, |(dx, x, dy)| {
            vectorized(
                #[inline(always)]
                || {
                    for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
                        let t = tanh(SLOPE * (x + CUBIC * x * x * x));
                        let slope = SLOPE * (1.0 + 3.0 * CUBIC * x * x);
                        *dx = dy * 0.5 * (1.0 + t + x * (1.0 - t * t) * slope);
                    }
                },
            );
        });
        Ok(Some(tensor(dx, x.shape())?))
    }
}
