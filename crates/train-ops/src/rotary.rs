//! Rotary position codes.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use crate::heads::head_width;
use crate::profile::Profiled;
use crate::storage::{read, tensor, values};
use crate::threads::{Rows, in_shares};
use crate::vector::vectorized;

const NAME: &str = "rotary";

/// Turns queries and keys by angles that grow with the position along `T`, so that their products
/// depend on distances only (Su et al., arXiv 2104.09864); values stay.
///
/// Channel `i` of a head is paired with channel `i + D/2`, `D` being the width of a head, and the
/// pair turned by `position · base^(-2i/D)`.
///
/// # Shapes
///
/// `qkv` is `[B, T, 3C]`, packed as for [`crate::causal_attention`]; so is the result.
///
/// # Errors
///
/// When the channels do not split into heads of even width, `base` is not a positive number, or the
/// tensor is not `f32` on the CPU.
pub fn rotary(qkv: &Tensor, heads: usize, base: f64) -> Result<Tensor> {
    let head_width = head_width(NAME, qkv, heads)?;
    if !head_width.is_multiple_of(2) {
        bail!("{NAME}: the {head_width} channels of a head have no halves");
    }
    if !(base.is_normal() && base > 0.0) {
        bail!("{NAME}: base {base} is not a positive number");
    }
    qkv.contiguous()?.apply_op1(Profiled(Rotary { head_width, base }))
}

struct Rotary {
    head_width: usize,
    base: f64,
}

impl Rotary {
    /// Turns what `qkv`, of the given shape, holds; by the opposite angles where `back` is set.
    fn turn(&self, qkv: &mut [f32], shape: &Shape, back: bool) -> Result<()> {
        let (_, length, packed) = shape.dims3()?;
        let half = self.head_width / 2;
        let table = self.table(length, back);
        let sequence = (length * packed).max(1);
        let (n_sequences, cost) = (qkv.len() / sequence, qkv.len() / 8);
        in_shares(Rows::new(qkv, sequence), n_sequences, cost, |qkv| {
            vectorized(
                #[inline(always)]
                || {
                    for sequence in qkv.values.chunks_exact_mut(sequence) {
                        let angles = table.chunks_exact(2 * half);
                        for (row, angles) in sequence.chunks_exact_mut(packed).zip(angles) {
                            let (cos, sin) = angles.split_at(half);
                            turn_heads(&mut row[..packed / 3 * 2], cos, sin);
                        }
                    }
                },
            );
        });
        Ok(())
    }

    /// Cosines, then sines, of every position's angles.
    fn table(&self, length: usize, back: bool) -> Vec<f32> {
        let half = self.head_width / 2;
        let steps: Vec<(f64, f64)> = (0..half)
            .map(|pair_idx| {
                let angle = self.base.powf(-(pair_idx as f64) / half as f64);
                (if back { -angle } else { angle }).sin_cos()
            })
            .collect();
        let mut now = vec![(0.0f64, 1.0f64); half];
        let mut table = Vec::with_capacity(length * 2 * half);
        for _ in 0..length {
            table.extend(now.iter().map(|&(_, cos)| cos as f32));
            table.extend(now.iter().map(|&(sin, _)| sin as f32));
            // One step further, by the addition theorems; errors stay far below those of `f32`.
            for ((sin, cos), (step_sin, step_cos)) in now.iter_mut().zip(&steps) {
                (*sin, *cos) =
                    (*sin * step_cos + *cos * step_sin, *cos * step_cos - *sin * step_sin);
            }
        }
        table
    }
}

/// Turns a position's heads, a row of queries and keys. The usual widths have code of their own,
/// whose loops the compiler unrolls.
#[inline(always)]
fn turn_heads(heads: &mut [f32], cos: &[f32], sin: &[f32]) {
    match cos.len() {
        4 => turn_halves::<4>(heads, cos, sin),
        8 => turn_halves::<8>(heads, cos, sin),
        16 => turn_halves::<16>(heads, cos, sin),
        32 => turn_halves::<32>(heads, cos, sin),
        half => {
            for head in heads.chunks_exact_mut(2 * half) {
                let (first, second) = head.split_at_mut(half);
                let pairs = first.iter_mut().zip(second);
                for ((x, y), (&cos, &sin)) in pairs.zip(cos.iter().zip(sin)) {
                    (*x, *y) = turned(*x, *y, cos, sin);
                }
            }
        }
    }
}

#[inline(always)]
fn turn_halves<const HALF: usize>(heads: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (Some(cos), Some(sin)) = (cos.first_chunk::<HALF>(), sin.first_chunk::<HALF>()) else {
        return;
    };
    let (halves, _) = heads.as_chunks_mut::<HALF>();
    let (heads, _) = halves.as_chunks_mut::<2>();
    for [first, second] in heads {
        for i in 0..HALF {
            (first[i], second[i]) = turned(first[i], second[i], cos[i], sin[i]);
        }
    }
}

#[inline(always)]
fn turned(x: f32, y: f32, cos: f32, sin: f32) -> (f32, f32) {
    (x * cos - y * sin, x * sin + y * cos)
}

impl CustomOp1 for Rotary {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut y = values::<f32>(NAME, qkv, layout)?.to_vec();
        self.turn(&mut y, layout.shape(), false)?;
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, qkv: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dy = dy.contiguous()?;
        let mut dqkv = read(NAME, &dy)?.to_vec();
        self.turn(&mut dqkv, qkv.shape(), true)?;
        Ok(Some(tensor(dqkv, qkv.shape())?))
    }
}
