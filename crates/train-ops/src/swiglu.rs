//! A gated activation: one half of the channels opens the other.

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};

use crate::profile::Profiled;
use crate::storage::{read, tensor, values, zeros};
use crate::threads::{Rows, in_shares};
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

/// The gradient of a row, from the row and the gradient of its result.
#[inline(always)]
fn pull_back(dx: &mut [f32], x: &[f32], dy: &[f32]) {
    let (gate, value) = x.split_at(dy.len());
    let (dgate, dvalue) = dx.split_at_mut(dy.len());
    // One result at a time, or the compiler would not vectorise.
    for (open, &a) in dgate.iter_mut().zip(gate) {
        *open = sigmoid(a);
    }
    for (((db, &open), &a), &dy) in dvalue.iter_mut().zip(&*dgate).zip(gate).zip(dy) {
        *db = dy * a * open;
    }
    for (((da, &a), &b), &dy) in dgate.iter_mut().zip(gate).zip(value).zip(dy) {
        let open = *da;
        *da = dy * b * open * (1.0 + a * (1.0 - open));
    }
}

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
        let work = (Rows::new(&mut *y, half), Rows::new(x, 2 * half));
        in_shares(work, x.len() / (2 * half), x.len() / 8, |(y, x)| {
            vectorized(
                #[inline(always)]
                || {
                    let rows = x.values.chunks_exact(2 * half);
                    for (y, x) in y.values.chunks_exact_mut(half).zip(rows) {
                        let (gate, value) = x.split_at(half);
                        for ((y, &a), &b) in y.iter_mut().zip(gate).zip(value) {
                            *y = a * sigmoid(a) * b;
                        }
                    }
                },
            );
        });
        Ok((CpuStorage::F32(y), shape.into()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let half = x.dim(D::Minus1)? / 2;
        let dy = dy.contiguous()?;
        let (x_values, dy) = (read(NAME, x)?, read(NAME, &dy)?);
        let (x_values, dy) = (&*x_values, &*dy);
        let mut dx = zeros(x_values.len());
        let wide = 2 * half;
        let work = (Rows::new(&mut *dx, wide), Rows::new(x_values, wide), Rows::new(dy, half));
        in_shares(work, dy.len() / half, x_values.len() / 4, |(dx, x, dy)| {
            vectorized(
                #[inline(always)]
                || {
                    let rows = x.values.chunks_exact(wide).zip(dy.values.chunks_exact(half));
                    for (dx, (x, dy)) in dx.values.chunks_exact_mut(wide).zip(rows) {
                        pull_back(dx, x, dy);
                    }
                },
            );
        });
        Ok(Some(tensor(dx, x.shape())?))
    }
}
