//! Classifier and loss in one, for vocabularies whose logits should never be stored.

use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor, bail};

use crate::cross_entropy::{checked_targets, scaled};
use crate::product::{Old, View, cost_of_flops, product};
use crate::profile::Profiled;
use crate::storage::{Kept, tensor, values, zeros};
use crate::threads::{Rows, in_shares};
use crate::vector::{add, exp, max, sum, vectorized};

const NAME: &str = "head_loss";

/// Logits that exist at one time, in values (32 MiB). Twice as many gain a few per cent, half as
/// many cost ten: the weight's gradient is read and written once for all rows of a chunk.
const CHUNK: usize = 8 << 20;

/// Words whose logits are formed and used together, while they are in the L2 cache.
const TILE: usize = 512;

/// Parts of the vocabulary that may be worked on side by side.
const PARTS: usize = 8;

/// Mean cross-entropy of the logits `hidden weightᵀ`, in nats, without storing all logits.
///
/// The same as [`crate::cross_entropy`] of [`crate::linear_no_bias`], in less memory and time:
/// both gradients are formed in the forward pass, chunk by chunk. Use it in training only.
///
/// # Shapes
///
/// `hidden` is `[…, C]`, `weight` is `[V, C]`, `targets` is `[…]` of type `u32`; the result is a
/// scalar.
///
/// # Errors
///
/// When shapes do not fit, a target is `V` or more, or a tensor is not on the CPU.
pub fn head_loss(hidden: &Tensor, weight: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let (_, channels) = weight.dims2()?;
    let rows = targets.elem_count();
    let fits = hidden.dim(D::Minus1)? == channels && hidden.elem_count() == rows * channels;
    if !fits || rows == 0 || channels == 0 {
        let (hidden, weight, targets) = (hidden.shape(), weight.shape(), targets.shape());
        bail!("{NAME}: hidden {hidden:?}, weight {weight:?}, targets {targets:?} do not fit");
    }
    let operation = HeadLoss { gradients: Kept::new() };
    let (weight, targets) = (weight.contiguous()?, targets.contiguous()?);
    hidden.contiguous()?.apply_op3(&weight, &targets, Profiled(operation))
}

struct HeadLoss {
    /// Gradients of the hidden states and of the weight.
    gradients: Kept<(Vec<f32>, Vec<f32>)>,
}

impl CustomOp3 for HeadLoss {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        hidden: &CpuStorage,
        hl: &Layout,
        weight: &CpuStorage,
        wl: &Layout,
        targets: &CpuStorage,
        tl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let hidden = values::<f32>(NAME, hidden, hl)?;
        let weight = values::<f32>(NAME, weight, wl)?;
        let (vocabulary, channels) = wl.shape().dims2()?;
        let targets = checked_targets(NAME, targets, tl, vocabulary)?;
        let chunk_rows = (CHUNK / vocabulary).max(32).min(targets.len());
        let (mut dhidden, mut dweight) = (zeros(hidden.len()), zeros(weight.len()));
        let mut total = 0.0;
        {
            let share = 1.0 / targets.len() as f32;
            let mut head = Head::new(weight, &mut dweight, channels, share);
            let hidden = hidden.chunks(chunk_rows * channels);
            let dhidden = dhidden.chunks_mut(chunk_rows * channels);
            for ((hidden, dhidden), targets) in hidden.zip(dhidden).zip(targets.chunks(chunk_rows))
            {
                total += head.losses(hidden, targets);
                head.gradients(hidden, targets, dhidden);
            }
        }
        self.gradients.put((dhidden, dweight));
        Ok((CpuStorage::F32(vec![(total / targets.len() as f64) as f32]), ().into()))
    }

    fn bwd(
        &self,
        hidden: &Tensor,
        weight: &Tensor,
        _targets: &Tensor,
        _loss: &Tensor,
        dloss: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dhidden, dweight) = self.gradients.take(NAME)?;
        let dhidden = tensor(scaled(dhidden, dloss)?, hidden.shape())?;
        let dweight = tensor(scaled(dweight, dloss)?, weight.shape())?;
        Ok((Some(dhidden), Some(dweight), None))
    }
}

/// The classifier, cut by words into parts that work side by side on some rows of hidden states.
///
/// The cuts do not depend on the number of threads, so neither do the results.
struct Head<'a> {
    parts: Vec<Part<'a>>,
    channels: usize,
    /// Share of one row in the mean.
    share: f32,
}

/// Words that follow each other, in tiles.
///
/// A tile keeps of each logit its exponential below the row's largest logit in that tile. What
/// makes a gradient of it is one factor for each tile and row, which is known once all tiles have
/// been seen; it then goes to the small matrices that the tiles are multiplied with, and no tile is
/// written a second time.
struct Part<'a> {
    first_word: usize,
    weight: &'a [f32],
    dweight: &'a mut [f32],
    /// Tile by tile, each with its rows one after the other.
    exponentials: Vec<f32>,
    /// For each tile and row, in the same order.
    peaks: Vec<Peak>,
    /// Rows whose target is here, each with its logit.
    targets: Vec<(usize, f32)>,
    /// This part's share in the gradient of the hidden states.
    dhidden: Vec<f32>,
}

/// What is known of one row in one tile.
#[derive(Clone, Copy)]
struct Peak {
    /// Largest logit.
    top: f32,
    /// Sum of the exponentials of logits less `top`.
    sum: f32,
    /// From exponentials to gradients of the mean loss; known when all tiles are.
    scale: f32,
}

impl<'a> Head<'a> {
    fn new(weight: &'a [f32], dweight: &'a mut [f32], channels: usize, share: f32) -> Self {
        let words = (weight.len() / channels).div_ceil(PARTS).next_multiple_of(TILE);
        let weights = weight.chunks(words * channels).zip(dweight.chunks_mut(words * channels));
        let part = |(idx, (weight, dweight))| Part {
            first_word: idx * words,
            weight,
            dweight,
            exponentials: Vec::new(),
            peaks: Vec::new(),
            targets: Vec::new(),
            dhidden: Vec::new(),
        };
        Self { parts: weights.enumerate().map(part).collect(), channels, share }
    }

    /// Calls `body` on all parts, side by side.
    fn each_part(&mut self, rows: usize, body: impl Fn(&mut Part<'_>) + Sync) {
        let weights: usize = self.parts.iter().map(|part| part.weight.len()).sum();
        let cost = cost_of_flops(2 * rows * weights);
        let most = self.parts.len();
        in_shares(Rows::new(&mut *self.parts, 1), most, cost, |parts| {
            parts.values.iter_mut().for_each(&body);
        });
    }

    /// Forms the exponentials, and answers the sum of the rows' losses in nats.
    fn losses(&mut self, hidden: &[f32], targets: &[u32]) -> f64 {
        let (channels, share, rows) = (self.channels, self.share, targets.len());
        self.each_part(rows, |part| part.exponentiate(hidden, targets, channels));
        let mut target_logits = zeros(rows);
        for (row, logit) in self.parts.iter().flat_map(|part| &part.targets) {
            target_logits[*row] = *logit;
        }
        let mut loss = 0.0;
        for (row, target_logit) in target_logits.into_iter().enumerate() {
            let parts = &self.parts;
            let peaks = || parts.iter().flat_map(|part| part.peaks[row..].iter().step_by(rows));
            let top = peaks().fold(f32::NEG_INFINITY, |top, peak| top.max(peak.top));
            let total: f32 = peaks().map(|peak| peak.sum * exp(peak.top - top)).sum();
            for part in &mut self.parts {
                for peak in part.peaks[row..].iter_mut().step_by(rows) {
                    peak.scale = share * exp(peak.top - top) / total;
                }
            }
            // A maximum may overlook a NaN, but the sum carries it.
            loss += f64::from(top + total.ln() - target_logit);
        }
        loss
    }

    /// Forms the gradient of the hidden states, after [`Self::losses`] of the same rows, and adds to
    /// that of the weight.
    fn gradients(&mut self, hidden: &[f32], targets: &[u32], dhidden: &mut [f32]) {
        let (channels, share) = (self.channels, self.share);
        self.each_part(targets.len(), |part| part.gradients(hidden, targets, channels, share));
        for part in &self.parts {
            add(dhidden, &part.dhidden);
        }
    }
}

impl Part<'_> {
    fn exponentiate(&mut self, hidden: &[f32], targets: &[u32], channels: usize) {
        let Self { first_word, weight, exponentials, peaks, targets: found, .. } = self;
        let rows = targets.len();
        exponentials.resize(rows * weight.len() / channels, 0.0);
        peaks.clear();
        found.clear();
        let tiles = exponentials.chunks_mut(rows * TILE).zip(weight.chunks(TILE * channels));
        for (first_word, (tile, weight)) in (*first_word..).step_by(TILE).zip(tiles) {
            let words = weight.len() / channels;
            let given = View::new(hidden, rows, channels);
            let weight = View::new(weight, words, channels);
            product(tile, words, Old::Replace, given, weight.transposed(), 1.0);
            for (row, target) in targets.iter().enumerate() {
                let word = (*target as usize).wrapping_sub(first_word);
                if word < words {
                    found.push((row, tile[row * words + word]));
                }
            }
            vectorized(
                #[inline(always)]
                || peaks.extend(tile.chunks_exact_mut(words).map(exponentiate)),
            );
        }
    }

    fn gradients(&mut self, hidden: &[f32], targets: &[u32], channels: usize, share: f32) {
        let rows = targets.len();
        self.dhidden.clear();
        self.dhidden.resize(hidden.len(), 0.0);
        let (mut given, mut scaled) = (zeros(hidden.len()), zeros(hidden.len()));
        let tiles = self.exponentials.chunks(rows * TILE).zip(self.peaks.chunks_exact(rows));
        let weights =
            self.weight.chunks(TILE * channels).zip(self.dweight.chunks_mut(TILE * channels));
        for ((tile, peaks), (weight, dweight)) in tiles.zip(weights) {
            let words = weight.len() / channels;
            let tile = View::new(tile, rows, words);
            let weight = View::new(weight, words, channels);
            product(&mut given, channels, Old::Replace, tile, weight, 1.0);
            vectorized(
                #[inline(always)]
                || {
                    let scales = || peaks.iter().map(|peak| peak.scale);
                    add_scaled_rows(&mut self.dhidden, &given, channels, scales());
                    scaled.fill(0.0);
                    add_scaled_rows(&mut scaled, hidden, channels, scales());
                },
            );
            let scaled = View::new(&scaled, rows, channels);
            product(dweight, channels, Old::Add, tile.transposed(), scaled, 1.0);
        }
        // The targets' own share: their probability should have been one.
        for (row, _) in &self.targets {
            let of_row = row * channels..(row + 1) * channels;
            let word = targets[*row] as usize - self.first_word;
            let of_word = word * channels..(word + 1) * channels;
            let weight = &self.weight[of_word.clone()];
            add_scaled_rows(&mut self.dhidden[of_row.clone()], weight, channels, [-share]);
            add_scaled_rows(&mut self.dweight[of_word], &hidden[of_row], channels, [-share]);
        }
    }
}

/// Replaces logits by their exponentials below the largest.
#[inline(always)]
fn exponentiate(logits: &mut [f32]) -> Peak {
    // A tile without any finite logit adds nothing to its row.
    let top = max(logits).max(f32::MIN);
    for logit in logits.iter_mut() {
        *logit = exp(*logit - top);
    }
    Peak { top, sum: sum(logits, |v| v), scale: 0.0 }
}

/// Adds the rows of `from`, each times its scale, to those of `to`.
#[inline(always)]
fn add_scaled_rows(
    to: &mut [f32],
    from: &[f32],
    channels: usize,
    scales: impl IntoIterator<Item = f32>,
) {
    let rows = to.chunks_exact_mut(channels).zip(from.chunks_exact(channels));
    for ((to, from), scale) in rows.zip(scales) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to += scale * from);
    }
}
