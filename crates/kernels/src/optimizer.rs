//! Steps of AdamW and Lion on any number of tensors at once.

use crate::launch::args;
use crate::step_tables::{Description, Entry, check_common};
use crate::{Buffer, Machine, Result, Schedule, StepTables, Type, View, ViewMut};

const ADAMW: &str = "adamw";
const LION: &str = "lion";
/// Bits of the word beside AdamW's numbers.
const CAUTIOUS_UPDATE: u32 = 1;
const CAUTIOUS_DECAY: u32 = 2;

/// The settings of one AdamW step (Loshchilov and Hutter, arXiv 1711.05101).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWSettings {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Share of the parameter taken away, per unit of learning rate.
    pub weight_decay: f64,
    /// Number of this step, counted from 1, for the correction of the moments' bias.
    pub step: usize,
    /// Components of the update whose sign disagrees with the gradient's are left out, and the
    /// others grow by `size / (kept + 1)` (Liang et al., arXiv 2411.16085). Costs a second pass.
    pub cautious_update: bool,
    /// Weights decay only where the update, which is subtracted, has the parameter's sign (Chen et
    /// al. 2025, cautious weight decay); where the update was left out, they do not.
    pub cautious_decay: bool,
}

/// One tensor of [`adamw`]. All parts have the same number of values.
#[derive(Debug)]
pub struct AdamWTensor<'a> {
    /// The parameter, f32.
    pub parameter: ViewMut<'a>,
    /// Its gradient, f32 or bf16.
    pub gradient: View<'a>,
    /// Running mean of the gradient, f32; zeros before the first step.
    pub first: ViewMut<'a>,
    /// Running mean of the gradient's square, f32; zeros before the first step.
    pub second: ViewMut<'a>,
    /// Where the new parameter goes, rounded to bf16.
    pub shadow: Option<ViewMut<'a>>,
    /// The numbers of this step.
    pub settings: AdamWSettings,
}

/// The settings of one Lion step (Chen et al., arXiv 2302.06675).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LionSettings {
    /// Learning rate of this step: how far every component moves.
    pub learning_rate: f64,
    /// Share of the momentum in the mean whose sign is the update.
    pub beta1: f64,
    /// Decay of the momentum.
    pub beta2: f64,
    /// Share of the parameter taken away, per unit of learning rate.
    pub weight_decay: f64,
}

/// One tensor of [`lion`]. All parts have the same number of values.
#[derive(Debug)]
pub struct LionTensor<'a> {
    /// The parameter, f32.
    pub parameter: ViewMut<'a>,
    /// Its gradient, f32 or bf16.
    pub gradient: View<'a>,
    /// Running mean of the gradient, f32; zeros before the first step.
    pub momentum: ViewMut<'a>,
    /// Where the new parameter goes, rounded to bf16.
    pub shadow: Option<ViewMut<'a>>,
    /// The numbers of this step.
    pub settings: LionSettings,
}

/// One AdamW step on every tensor, in place.
///
/// `scale` is one f32, a factor on every gradient: below one when gradients are clipped. With a
/// `schedule`, rates and the step's number are those that lie on the device, and settings that do not
/// change make a step that can be captured. `sums`,
/// where it is there, gets three f32 for each tensor: the sums of the squares of the gradient before
/// `scale`, of the update, and of the values before it.
///
/// # Errors
///
/// When sizes or types do not fit.
pub fn adamw(
    machine: &Machine,
    tables: &mut StepTables,
    tensors: &mut [AdamWTensor<'_>],
    scale: &View<'_>,
    schedule: Option<&Schedule<'_>>,
    sums: Option<&mut ViewMut<'_>>,
) -> Result<()> {
    check_common(ADAMW, tensors.len(), scale, sums.as_deref())?;
    let description = describe_adamw(tensors, schedule.is_some())?;
    let table = tables.write(machine, 0, &description, schedule.map(|one| (one, true)))?;
    let shares = table.shares(machine, sums.is_some())?;
    let is_cautious = tensors.iter().any(|tensor| tensor.settings.cautious_update);
    let kept = is_cautious.then(|| machine.zeros(Type::U32, tensors.len())).transpose()?;
    let (kept_view, shares_view) =
        (kept.as_ref().map(Buffer::view), shares.as_ref().map(Buffer::view));
    let (kept_view, shares_view) = (kept_view.as_ref(), shares_view.as_ref());
    // SAFETY: the table's addresses are those of views that were checked to be as long as it says,
    // and that the caller lends for this call; there is a count for each tensor and a share for each
    // block; only cautious tensors read counts.
    #[expect(unsafe_code, reason = "launches")]
    unsafe {
        if is_cautious {
            let args = args![
                &table.entries,
                &table.first_blocks,
                table.n_entries,
                &table.settings(),
                scale,
                kept_view,
            ];
            machine.launch(&table.launch("adamw_remember"), args)?;
        }
        let args = args![
            &table.entries,
            &table.first_blocks,
            table.n_entries,
            &table.settings(),
            scale,
            kept_view,
            shares_view,
        ];
        machine.launch(&table.launch("adamw_step"), args)?;
    }
    table.sum(machine, shares.as_ref(), sums)
}

/// One Lion step on every tensor, in place: the update is the sign of `β₁ m + (1 - β₁) g`, and then
/// `m = β₂ m + (1 - β₂) g`. `scale`, `schedule` and `sums` are as for [`adamw`].
///
/// # Errors
///
/// When sizes or types do not fit.
pub fn lion(
    machine: &Machine,
    tables: &mut StepTables,
    tensors: &mut [LionTensor<'_>],
    scale: &View<'_>,
    schedule: Option<&Schedule<'_>>,
    sums: Option<&mut ViewMut<'_>>,
) -> Result<()> {
    check_common(LION, tensors.len(), scale, sums.as_deref())?;
    let description = describe_lion(tensors, schedule.is_some())?;
    let table = tables.write(machine, 0, &description, schedule.map(|one| (one, false)))?;
    let shares = table.shares(machine, sums.is_some())?;
    let shares_view = shares.as_ref().map(Buffer::view);
    // SAFETY: the table's addresses are those of views that were checked to be as long as it says,
    // and that the caller lends for this call; there is a share for each block.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        let args = args![
            &table.entries,
            &table.first_blocks,
            table.n_entries,
            &table.settings(),
            scale,
            shares_view.as_ref(),
        ];
        machine.launch(&table.launch("lion_step"), args)?;
    }
    table.sum(machine, shares.as_ref(), sums)
}

fn describe_adamw(tensors: &[AdamWTensor<'_>], is_scheduled: bool) -> Result<Description> {
    let mut description = Description::default();
    for (row, tensor) in tensors.iter().enumerate() {
        let entry = Entry {
            parameter: tensor.parameter.as_view(),
            gradient: tensor.gradient,
            first: tensor.first.as_view(),
            second: Some(tensor.second.as_view()),
            shadow: tensor.shadow.as_ref().map(ViewMut::as_view),
            offset: 0,
        };
        entry.check(ADAMW, &format!("tensor {row}"))?;
        description.push(&entry, tensor.settings.words(is_scheduled));
        description.end_tensor(1, row);
    }
    Ok(description)
}

fn describe_lion(tensors: &[LionTensor<'_>], is_scheduled: bool) -> Result<Description> {
    let mut description = Description::default();
    for (row, tensor) in tensors.iter().enumerate() {
        let entry = Entry {
            parameter: tensor.parameter.as_view(),
            gradient: tensor.gradient,
            first: tensor.momentum.as_view(),
            second: None,
            shadow: tensor.shadow.as_ref().map(ViewMut::as_view),
            offset: 0,
        };
        entry.check(LION, &format!("tensor {row}"))?;
        description.push(&entry, tensor.settings.words(is_scheduled));
        description.end_tensor(1, row);
    }
    Ok(description)
}

impl AdamWSettings {
    /// As `optimizer::AdamW` in `cuda/optimizer.cuh`.
    fn words(&self, is_scheduled: bool) -> [u32; 8] {
        let Self { learning_rate, beta1, beta2, epsilon, weight_decay, step, .. } = *self;
        // The corrections of both moments move into the rate and into epsilon's place:
        // rate · (m / c1) / (√(v / c2) + ε), with c = 1 - betaᵗ.
        let step = i32::try_from(step).unwrap_or(i32::MAX);
        // A schedule works the corrections out, from the decays and what single precision loses of them.
        let lost = |beta: f64| beta - f64::from(beta as f32);
        let corrections = match is_scheduled {
            true => [lost(beta1), lost(beta2)],
            false => [beta1, beta2].map(|beta| 1.0 / (1.0 - beta.powi(step))),
        };
        let [rate, keep, beta1, beta2, correct1, correct2, epsilon] = [
            learning_rate,
            kept_share(learning_rate * weight_decay, is_scheduled),
            beta1,
            beta2,
            corrections[0],
            corrections[1],
            epsilon,
        ]
        .map(bits);
        let caution = u32::from(self.cautious_update) * CAUTIOUS_UPDATE
            + u32::from(self.cautious_decay) * CAUTIOUS_DECAY;
        [rate, keep, beta1, beta2, correct1, correct2, epsilon, caution]
    }
}

impl LionSettings {
    /// As `optimizer::Lion` in `cuda/optimizer.cuh`.
    fn words(&self, is_scheduled: bool) -> [u32; 8] {
        let Self { learning_rate, beta1, beta2, weight_decay } = *self;
        let keep = kept_share(learning_rate * weight_decay, is_scheduled);
        [learning_rate, keep, beta1, beta2, 0.0, 0.0, 0.0, 0.0].map(bits)
    }
}

/// What a step that takes the share `decay` away leaves of a parameter; a schedule works that out from
/// the share.
pub(crate) fn kept_share(decay: f64, is_scheduled: bool) -> f64 {
    if is_scheduled { decay } else { 1.0 - decay }
}

/// A number of a step, rounded to single precision.
pub(crate) fn bits(value: f64) -> u32 {
    (value as f32).to_bits()
}
