//! Causal self-attention on packed queries, keys and values.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use crate::heads::head_width;
use crate::product::{Old, View, product};
use crate::profile::Profiled;
use crate::storage::{Kept, read, tensor, values, zeros};
use crate::threads::{Rows, in_shares};
use crate::vector::{exp, max, sum, sum2, vectorized};

/// Query positions handled together; keys that none of them sees are skipped.
const BLOCK: usize = 32;

/// Softmax attention in which each position sees itself and earlier ones.
///
/// Channels of `qkv` hold all queries, then all keys, then all values; a head owns `C / heads`
/// neighbouring channels in each third. Scores are divided by the root of a head's width.
///
/// # Shapes
///
/// `qkv` is `[B, T, 3C]`; the result is `[B, T, C]`. The probabilities, `[B, heads, T, T]`, are
/// kept for the backward pass.
///
/// # Errors
///
/// When `3C` is no multiple of `3 heads`, or the tensor is not `f32` on the CPU.
pub fn causal_attention(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    attention("causal_attention", qkv, heads, usize::MAX)
}

/// [`causal_attention`] in which each position sees itself and the `window - 1` before it.
///
/// # Errors
///
/// When `window` is zero, `3C` is no multiple of `3 heads`, or the tensor is not `f32` on the CPU.
pub fn windowed_attention(qkv: &Tensor, heads: usize, window: usize) -> Result<Tensor> {
    const NAME: &str = "windowed_attention";
    if window == 0 {
        bail!("{NAME}: in a window of 0 a position does not even see itself");
    }
    attention(NAME, qkv, heads, window)
}

fn attention(name: &'static str, qkv: &Tensor, heads: usize, window: usize) -> Result<Tensor> {
    head_width(name, qkv, heads)?;
    let operation = Attention { name, heads, window, probabilities: Kept::new() };
    qkv.contiguous()?.apply_op1(Profiled(operation))
}

struct Attention {
    name: &'static str,
    heads: usize,
    window: usize,
    probabilities: Kept<Vec<f32>>,
}

/// Sizes of one call.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    length: usize,
    heads: usize,
    width: usize,
    head_width: usize,
    window: usize,
    scale: f32,
}

impl Sizes {
    fn new(shape: &Shape, heads: usize, window: usize) -> Result<Self> {
        let (batch, length, packed) = shape.dims3()?;
        let width = packed / 3;
        let head_width = width / heads;
        let scale = 1.0 / (head_width as f32).sqrt();
        Ok(Self { batch, length, heads, width, head_width, window, scale })
    }

    /// Where each (sequence, head) begins in `qkv` and in the result.
    fn offsets(self) -> impl Iterator<Item = (usize, usize)> {
        let Self { batch, length, heads, width, head_width, .. } = self;
        (0..batch * heads).map(move |pair| {
            let (sequence, head) = (pair / heads, pair % heads);
            let packed = sequence * length * 3 * width + head * head_width;
            (packed, sequence * length * width + head * head_width)
        })
    }

    /// Blocks of query positions: first position, number of positions, and the keys that any of
    /// them sees.
    fn blocks(self) -> impl Iterator<Item = (usize, usize, Range<usize>)> {
        (0..self.length).step_by(BLOCK).map(move |first| {
            let count = BLOCK.min(self.length - first);
            (first, count, self.seen(first).start..first + count)
        })
    }

    /// The keys that a position sees.
    fn seen(self, position: usize) -> Range<usize> {
        (position + 1).saturating_sub(self.window)..position + 1
    }

    /// Fills results and probabilities of some sequences, which are all that the arguments have.
    fn forward(self, qkv: &[f32], y: &mut [f32], probabilities: &mut [f32]) {
        let Self { length, width, scale, .. } = self;
        let pairs = probabilities.chunks_exact_mut((length * length).max(1));
        for (p, (packed, plain)) in pairs.zip(self.offsets()) {
            let (qkv, y) = (&qkv[packed..], &mut y[plain..]);
            for (first, count, seen) in self.blocks() {
                let block = &mut p[first * length..(first + count) * length];
                let queries = self.part(qkv, 0, (first, count));
                let keys = self.part(qkv, 1, (seen.start, seen.len())).transposed();
                product(&mut block[seen.start..], length, Old::Replace, queries, keys, scale);
                softmax_rows(block, self, first, &seen);
                let block = View::strided(&block[seen.start..], count, seen.len(), length);
                let values = self.part(qkv, 2, (seen.start, seen.len()));
                product(&mut y[first * width..], width, Old::Replace, block, values, 1.0);
            }
        }
    }

    /// Fills the gradients of some sequences, from their `qkv`, results and gradients of results.
    fn backward(
        self,
        (qkv, y, dy): (&[f32], &[f32], &[f32]),
        probabilities: &[f32],
        dqkv: &mut [f32],
    ) {
        let Self { length, width, head_width, scale, .. } = self;
        let mut ds = zeros(BLOCK * length);
        let pairs = probabilities.chunks_exact((length * length).max(1));
        for (p, (packed, plain)) in pairs.zip(self.offsets()) {
            let (qkv, dqkv) = (&qkv[packed..], &mut dqkv[packed..]);
            let (y, dy) = (&y[plain..], &dy[plain..]);
            for (first, count, seen) in self.blocks() {
                let keys = (seen.start, seen.len());
                let p_block = &p[first * length + seen.start..(first + count) * length];
                let dy_block = View::strided(&dy[first * width..], count, head_width, width);
                let values = self.part(qkv, 2, keys).transposed();
                product(&mut ds, length, Old::Replace, dy_block, values, 1.0);
                vectorized(
                    #[inline(always)]
                    || {
                        let rows = ds.chunks_exact_mut(length).zip(p_block.chunks(length));
                        for (row_idx, (ds, p)) in rows.enumerate() {
                            let at = (first + row_idx) * width;
                            let (dy, y) = (&dy[at..at + head_width], &y[at..at + head_width]);
                            let dot = sum2(dy, y, |a, b| a * b);
                            for (ds, &p) in ds[..seen.len()].iter_mut().zip(p) {
                                *ds = p * (*ds - dot) * scale;
                            }
                        }
                    },
                );
                let ds_block = View::strided(&ds, count, seen.len(), length);
                let p_block = View::strided(p_block, count, seen.len(), length);
                let (queries, keys) = (self.part(qkv, 0, (first, count)), self.part(qkv, 1, keys));
                let stride = 3 * width;
                let past = seen.start * stride;
                let (dq, dk, dv) = (first * stride, past + width, past + 2 * width);
                product(&mut dqkv[dq..], stride, Old::Replace, ds_block, keys, 1.0);
                product(&mut dqkv[dk..], stride, Old::Add, ds_block.transposed(), queries, 1.0);
                product(&mut dqkv[dv..], stride, Old::Add, p_block.transposed(), dy_block, 1.0);
            }
        }
    }

    /// A head's queries, keys or values (`third` 0, 1, 2) from position `first` on.
    fn part<'a>(self, qkv: &'a [f32], third: usize, (first, count): (usize, usize)) -> View<'a> {
        let stride = 3 * self.width;
        let start = first * stride + third * self.width;
        View::strided(&qkv[start..], count, self.head_width, stride)
    }
}

/// Turns scores into probabilities; rows of the block begin at position `first`, and hold scores for
/// `keys` at the keys' own places.
fn softmax_rows(block: &mut [f32], sizes: Sizes, first: usize, keys: &Range<usize>) {
    vectorized(
        #[inline(always)]
        || {
            for (row_idx, row) in block.chunks_exact_mut(sizes.length).enumerate() {
                let seen = sizes.seen(first + row_idx);
                let (visible, future) = row[keys.clone()].split_at_mut(seen.end - keys.start);
                let (past, live) = visible.split_at_mut(seen.start - keys.start);
                let top = max(live);
                for value in live.iter_mut() {
                    *value = exp(*value - top);
                }
                let share = 1.0 / sum(live, |v| v);
                for value in live.iter_mut() {
                    *value *= share;
                }
                past.fill(0.0);
                future.fill(0.0);
            }
        },
    );
}

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let qkv = values::<f32>(self.name, qkv, layout)?;
        let sizes = Sizes::new(layout.shape(), self.heads, self.window)?;
        let Sizes { batch, length, heads, width, .. } = sizes;
        let mut y = zeros(batch * length * width);
        let mut probabilities = zeros(batch * heads * length * length);
        let cost = probabilities.len();
        let work = (
            Rows::new(qkv, length * 3 * width),
            Rows::new(&mut *y, length * width),
            Rows::new(&mut *probabilities, heads * length * length),
        );
        in_shares(work, batch, cost, |(qkv, y, probabilities)| {
            sizes.forward(qkv.values, y.values, probabilities.values);
        });
        self.probabilities.put(probabilities);
        Ok((CpuStorage::F32(y), (batch, length, width).into()))
    }

    fn bwd(&self, qkv: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let probabilities = self.probabilities.take(self.name)?;
        let sizes = Sizes::new(qkv.shape(), self.heads, self.window)?;
        let Sizes { batch, length, heads, width, .. } = sizes;
        let dy = dy.contiguous()?;
        let (dy, y) = (read(self.name, &dy)?, read(self.name, y)?);
        let qkv_values = read(self.name, qkv)?;
        let mut dqkv = zeros(qkv_values.len());
        let work = (
            Rows::new(&*qkv_values, length * 3 * width),
            Rows::new(&*y, length * width),
            Rows::new(&*dy, length * width),
            Rows::new(&*probabilities, heads * length * length),
            Rows::new(&mut *dqkv, length * 3 * width),
        );
        in_shares(work, batch, 2 * probabilities.len(), |(qkv, y, dy, p, dqkv)| {
            sizes.backward((qkv.values, y.values, dy.values), p.values, dqkv.values);
        });
        Ok(Some(tensor(dqkv, qkv.shape())?))
    }
}
