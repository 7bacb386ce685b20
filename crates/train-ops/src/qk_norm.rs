//! Queries and keys of fixed length.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use crate::heads::head_width;
use crate::profile::Profiled;
use crate::storage::{Kept, read, tensor, values, zeros};
use crate::threads::{Rows, in_shares};
use crate::vector::{short_sum2, vectorized};

const NAME: &str = "qk_norm";

/// Added to the mean square.
const EPSILON: f32 = 1e-6;

/// Divides every head's query and key by its root mean square and multiplies queries by `scale`;
/// values stay (Henry et al., arXiv 2010.04245).
///
/// # Shapes
///
/// `qkv` is `[B, T, 3C]`, packed as for [`crate::causal_attention`]; so is the result.
///
/// # Errors
///
/// When the channels do not split into heads or the tensor is not `f32` on the CPU.
pub fn qk_norm(qkv: &Tensor, heads: usize, scale: f64) -> Result<Tensor> {
    let head_width = head_width(NAME, qkv, heads)?;
    let operation = QkNorm { head_width, scale: scale as f32, scales: Kept::new() };
    qkv.contiguous()?.apply_op1(Profiled(operation))
}

struct QkNorm {
    head_width: usize,
    scale: f32,
    /// The reciprocal root mean square of every query and key, position by position.
    scales: Kept<Vec<f32>>,
}

impl CustomOp1 for QkNorm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut y = values::<f32>(NAME, qkv, layout)?.to_vec();
        let (_, _, packed) = layout.shape().dims3()?;
        let width = packed / 3;
        let heads = width / self.head_width;
        let mut scales = zeros(y.len() / packed * 2 * heads);
        let (n_rows, cost) = (y.len() / packed, y.len() / 8);
        let work = (Rows::new(&mut *y, packed), Rows::new(&mut *scales, 2 * heads));
        in_shares(work, n_rows, cost, |(y, scales)| {
            vectorized(
                #[inline(always)]
                || {
                    let scales = scales.values.chunks_exact_mut(2 * heads);
                    for (row, scales) in y.values.chunks_exact_mut(packed).zip(scales) {
                        let (queries, rest) = row.split_at_mut(width);
                        let (query_scales, key_scales) = scales.split_at_mut(heads);
                        normalize_heads(queries, self.head_width, self.scale, query_scales);
                        normalize_heads(&mut rest[..width], self.head_width, 1.0, key_scales);
                    }
                },
            );
        });
        self.scales.put(scales);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, qkv: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let scales = self.scales.take(NAME)?;
        let (_, _, packed) = qkv.dims3()?;
        let width = packed / 3;
        let heads = width / self.head_width;
        let dy = dy.contiguous()?;
        let x = read(NAME, qkv)?;
        let x = &*x;
        let mut dqkv = read(NAME, &dy)?.to_vec();
        let head_width = self.head_width;
        let work =
            (Rows::new(&mut *dqkv, packed), Rows::new(x, packed), Rows::new(&*scales, 2 * heads));
        in_shares(work, x.len() / packed, x.len() / 6, |(dqkv, x, scales)| {
            vectorized(
                #[inline(always)]
                || {
                    let rows =
                        dqkv.values.chunks_exact_mut(packed).zip(x.values.chunks_exact(packed));
                    for ((dx, x), scales) in rows.zip(scales.values.chunks_exact(2 * heads)) {
                        let (dqueries, drest) = dx.split_at_mut(width);
                        let (queries, rest) = x.split_at(width);
                        let (query_scales, key_scales) = scales.split_at(heads);
                        let (dkeys, keys) = (&mut drest[..width], &rest[..width]);
                        pull_back_heads(dqueries, queries, head_width, self.scale, query_scales);
                        pull_back_heads(dkeys, keys, head_width, 1.0, key_scales);
                    }
                },
            );
        });
        Ok(Some(tensor(dqkv, qkv.shape())?))
    }
}

/// Normalises a row of heads and writes their scales down. The usual widths have code of their own,
/// whose loops the compiler unrolls.
#[inline(always)]
fn normalize_heads(heads: &mut [f32], width: usize, factor: f32, scales: &mut [f32]) {
    match width {
        8 => normalize_arrays::<8>(heads, factor, scales),
        16 => normalize_arrays::<16>(heads, factor, scales),
        32 => normalize_arrays::<32>(heads, factor, scales),
        64 => normalize_arrays::<64>(heads, factor, scales),
        _ => {
            for (x, scale) in heads.chunks_exact_mut(width).zip(scales) {
                *scale = normalize(x, factor);
            }
        }
    }
}

#[inline(always)]
fn normalize_arrays<const D: usize>(heads: &mut [f32], factor: f32, scales: &mut [f32]) {
    for (x, scale) in heads.as_chunks_mut::<D>().0.iter_mut().zip(scales) {
        *scale = normalize(x, factor);
    }
}

/// Normalises a query or a key and returns its scale.
#[inline(always)]
fn normalize(x: &mut [f32], factor: f32) -> f32 {
    let mean_square = short_sum2(x, x, |a, b| a * b) / x.len() as f32;
    let scale = 1.0 / (mean_square + EPSILON).sqrt();
    x.iter_mut().for_each(|value| *value *= scale * factor);
    scale
}

/// Turns the gradients of a row of normalised heads into those of the heads.
#[inline(always)]
fn pull_back_heads(dheads: &mut [f32], heads: &[f32], width: usize, factor: f32, scales: &[f32]) {
    match width {
        8 => pull_back_arrays::<8>(dheads, heads, factor, scales),
        16 => pull_back_arrays::<16>(dheads, heads, factor, scales),
        32 => pull_back_arrays::<32>(dheads, heads, factor, scales),
        64 => pull_back_arrays::<64>(dheads, heads, factor, scales),
        _ => {
            let pairs = dheads.chunks_exact_mut(width).zip(heads.chunks_exact(width));
            for ((dx, x), &scale) in pairs.zip(scales) {
                pull_back(dx, x, factor, scale);
            }
        }
    }
}

#[inline(always)]
fn pull_back_arrays<const D: usize>(
    dheads: &mut [f32],
    heads: &[f32],
    factor: f32,
    scales: &[f32],
) {
    let pairs = dheads.as_chunks_mut::<D>().0.iter_mut().zip(heads.as_chunks::<D>().0);
    for ((dx, x), &scale) in pairs.zip(scales) {
        // In a copy, which cannot overlap `x`.
        let mut copy = *dx;
        pull_back(&mut copy, x, factor, scale);
        *dx = copy;
    }
}

#[inline(always)]
fn pull_back(dx: &mut [f32], x: &[f32], factor: f32, scale: f32) {
    // Remove from dx what stretching the vector would undo.
    let tilt = short_sum2(dx, x, |d, x| d * x) * scale * scale / x.len() as f32;
    for (dx, &x) in dx.iter_mut().zip(x) {
        *dx = (*dx - x * tilt) * (scale * factor);
    }
}
