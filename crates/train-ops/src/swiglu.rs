//! A gated activation: one half of the channels opens the other.

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};

use crate::profile::Profiled;
use crate::storage::{read, tensor, values, zeros};
use crate::vector::{exp, vectorized};

const NAME: &str = "swiglu";

/// `silu(a) · b` of the halves `a` and `b` of the last dimension, with `silu(a) = a / (1 + e⁻ᵃ)`
/// (Shazeer, arXiv 2002.05202).
///
/// # Shapes
///
/// `x` is `[…, 2H]`; the result is `[…, H]`.
///
/// # Errors
///
/// When the last dimension has no halves or the tensor is not `f32` on the CPU.
pub fn swiglu(x: &Tensor) -> Result<Tensor> {
    let channels = x.dim(D::Minus1)?;
    if channels == 0 || !channels.is_multiple_of(2) {
        bail!("{NAME}: the last dimension of x {:?} has no halves", x.shape());
    }
    x.contiguous()?.apply_op1(Profiled(Swiglu))
}

struct Swiglu;

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

impl CustomOp1 for Swiglu {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values::<f32>(NAME, x, xl)?;
        let mut shape = xl.dims().to_vec();
        let half = shape.last().map_or(0, |channels| channels / 2);
        if let Some(last) = shape.last_mut() {
            *last = half;
        }
        let mut y = zeros(x.len() / 2);
        vectorized(
            #[inline(always)]
            || {
                for (y, x) in y.chunks_exact_mut(half).zip(x.chunks_exact(2 * half)) {
                    let (gate, value) = x.split_at(half);
                    for ((y, &a), &b) in y.iter_mut().zip(gate).zip(value) {
                        *y = a * sigmoid(a) * b;
                    }
                }
            },
        );
        Ok((CpuStorage::F32(y), shape.into()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let half = x.dim(D::Minus1)? / 2;
        let dy = dy.contiguous()?;
        let (x_values, dy) = (read(NAME, x)?, read(NAME, &dy)?);
        let (x_values, dy) = (&*x_values, &*dy);
        let mut dx = zeros(x_values.len());
        vectorized(
            #[inline(always)]
            || {
                let rows = x_values.chunks_exact(2 * half).zip(dy.chunks_exact(half));
                for (dx, (x, dy)) in dx.chunks_exact_mut(2 * half).zip(rows) {
                    let (gate, value) = x.split_at(half);
                    let (dgate, dvalue) = dx.split_at_mut(half);
                    // One result at a time, or the compiler would not vectorise.
                    for (open, &a) in dgate.iter_mut().zip(gate) {
                        *open = sigmoid(a);
                    }
                    for (((db, &open), &a), &dy) in dvalue.iter_mut().zip(&*dgate).zip(gate).zip(dy)
                    {
                        *db = dy * a * open;
                    }
                    for (((da, &a), &b), &dy) in dgate.iter_mut().zip(gate).zip(value).zip(dy) {
                        let open = *da;
                        *da = dy * b * open * (1.0 + a * (1.0 - open));
                    }
                }
            },
        );
        Ok(Some(tensor(dx, x.shape())?))
    }
}
