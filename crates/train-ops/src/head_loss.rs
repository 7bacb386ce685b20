//! Classifier and loss in one, for vocabularies whose logits should never be stored.

use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor, bail};

use crate::cross_entropy::{checked_targets, loss_and_gradient, scaled};
use crate::product::{Old, View, product};
use crate::profile::Profiled;
use crate::storage::{Kept, tensor, values, zeros};
use crate::vector::vectorized;

const NAME: &str = "head_loss";

/// Logits that exist at one time, in values (16 MiB); somewhat arbitrary, a few L2 caches.
const CHUNK: usize = 4 << 20;

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
    if hidden.dim(D::Minus1)? != channels || hidden.elem_count() != rows * channels || rows == 0 {
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
        let mut logits = zeros(chunk_rows * vocabulary);
        let (mut dhidden, mut dweight) = (zeros(hidden.len()), zeros(weight.len()));
        let share = 1.0 / targets.len() as f32;
        let mut total = 0.0;
        let chunks = hidden.chunks(chunk_rows * channels).zip(targets.chunks(chunk_rows));
        for ((hidden, targets), dhidden) in chunks.zip(dhidden.chunks_mut(chunk_rows * channels)) {
            let rows = targets.len();
            let logits = &mut logits[..rows * vocabulary];
            let hidden = View::new(hidden, rows, channels);
            let weight = View::new(weight, vocabulary, channels);
            product(logits, vocabulary, Old::Replace, hidden, weight.transposed(), 1.0);
            total += vectorized(
                #[inline(always)]
                || {
                    let rows = logits.chunks_exact_mut(vocabulary).zip(targets);
                    rows.map(|(row, &target)| {
                        f64::from(loss_and_gradient(row, target as usize, share))
                    })
                    .sum::<f64>()
                },
            );
            let dlogits = View::new(logits, rows, vocabulary);
            product(dhidden, channels, Old::Replace, dlogits, weight, 1.0);
            product(&mut dweight, channels, Old::Add, dlogits.transposed(), hidden, 1.0);
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
