//! Mean cross-entropy of logits, in nats.

use candle_core::{CpuStorage, CustomOp2, D, Layout, Result, Shape, Tensor, bail};

use crate::profile::Profiled;
use crate::storage::{Kept, tensor, values, zeros};
use crate::threads::{Rows, in_shares};
use crate::vector::{exp, max, sum, vectorized};

const NAME: &str = "cross_entropy";

/// Mean over all rows of `-ln softmax(logits)[target]`, in nats.
///
/// # Shapes
///
/// `logits` is `[…, V]`, `targets` is `[…]` of type `u32`; the result is a scalar. The gradient is
/// formed in the forward pass and takes as much memory as the logits.
///
/// # Errors
///
/// When shapes do not fit, a target is `V` or more, or a tensor is not on the CPU.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let vocabulary = logits.dim(D::Minus1)?;
    if logits.elem_count() != targets.elem_count() * vocabulary || targets.elem_count() == 0 {
        let (logits, targets) = (logits.shape(), targets.shape());
        bail!("{NAME}: logits {logits:?} do not fit targets {targets:?}");
    }
    let operation = CrossEntropy { gradient: Kept::new() };
    logits.contiguous()?.apply_op2(&targets.contiguous()?, Profiled(operation))
}

/// Replaces a row of logits by `weight` times the gradient of its loss, which is returned.
#[inline(always)]
pub(crate) fn loss_and_gradient(row: &mut [f32], target: usize, weight: f32) -> f32 {
    let top = max(row);
    let target_logit = row[target];
    for value in row.iter_mut() {
        *value = exp(*value - top);
    }
    let total = sum(row, |v| v);
    let share = weight / total;
    for value in row.iter_mut() {
        *value *= share;
    }
    row[target] -= weight;
    // `max` may overlook a NaN, but the sum carries it.
    top + total.ln() - target_logit
}

/// The targets as indices below `vocabulary`.
pub(crate) fn checked_targets<'a>(
    operation: &str,
    storage: &'a CpuStorage,
    layout: &Layout,
    vocabulary: usize,
) -> Result<&'a [u32]> {
    let targets = values::<u32>(operation, storage, layout)?;
    if let Some(target) = targets.iter().find(|&&target| target as usize >= vocabulary) {
        bail!("{operation}: target {target} is not below the vocabulary size {vocabulary}");
    }
    Ok(targets)
}

struct CrossEntropy {
    gradient: Kept<Vec<f32>>,
}

impl CustomOp2 for CrossEntropy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        logits: &CpuStorage,
        ll: &Layout,
        targets: &CpuStorage,
        tl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let logits = values::<f32>(NAME, logits, ll)?;
        let vocabulary = logits.len() / tl.shape().elem_count();
        let targets = checked_targets(NAME, targets, tl, vocabulary)?;
        let mut gradient = logits.to_vec();
        let weight = 1.0 / targets.len() as f32;
        let mut losses = zeros(targets.len());
        let work = (
            Rows::new(&mut *gradient, vocabulary),
            Rows::new(targets, 1),
            Rows::new(&mut *losses, 1),
        );
        in_shares(work, targets.len(), logits.len() / 2, |(gradient, targets, losses)| {
            vectorized(
                #[inline(always)]
                || {
                    let rows = gradient.values.chunks_exact_mut(vocabulary).zip(targets.values);
                    for ((row, &target), loss) in rows.zip(losses.values) {
                        *loss = loss_and_gradient(row, target as usize, weight);
                    }
                },
            );
        });
        let total: f64 = losses.into_iter().map(f64::from).sum();
        let loss = (total / targets.len() as f64) as f32;
        self.gradient.put(gradient);
        Ok((CpuStorage::F32(vec![loss]), ().into()))
    }

    fn bwd(
        &self,
        logits: &Tensor,
        _targets: &Tensor,
        _loss: &Tensor,
        dloss: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = scaled(self.gradient.take(NAME)?, dloss)?;
        Ok((Some(tensor(gradient, logits.shape())?), None))
    }
}

/// The gradient of a mean loss times the gradient that arrives at the loss, which is mostly one.
pub(crate) fn scaled(mut gradient: Vec<f32>, dloss: &Tensor) -> Result<Vec<f32>> {
    let dloss = dloss.to_scalar::<f32>()?;
    if dloss != 1.0 {
        vectorized(
            #[inline(always)]
            || gradient.iter_mut().for_each(|value| *value *= dloss),
        );
    }
    Ok(gradient)
}
