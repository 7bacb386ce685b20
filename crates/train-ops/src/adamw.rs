//! One step of AdamW on one tensor, plain or cautious.

use candle_core::{Result, Tensor, Var};

use crate::profile::step;
use crate::storage::zeros;
use crate::threads::in_shares;
use crate::update::update;
use crate::vector::{sum2, vectorized};

/// Running means of a parameter's gradient and of its square.
#[derive(Clone, Debug)]
pub struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Moments {
    /// Zero moments for a parameter.
    pub fn zeros_like(parameter: &Tensor) -> Self {
        let count = parameter.elem_count();
        Self { first: zeros(count), second: zeros(count) }
    }
}

/// The settings of one AdamW step (Loshchilov and Hutter, arXiv 1711.05101).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
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
}

/// Where a cautious step holds back; with both off it is a plain one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caution {
    /// Components of the update whose sign disagrees with the gradient's are left out, and the
    /// others grow by `size / (kept + 1)` (Liang et al., arXiv 2411.16085).
    pub update: bool,
    /// Weights decay only where the update, which is subtracted, has the parameter's sign, so that
    /// decay and update pull the same way (Chen et al. 2025, cautious weight decay). A component
    /// that was left out pulls nowhere, and its weight does not decay.
    pub decay: bool,
}

/// Takes one AdamW step on `parameter`, in place; `scale` is a scalar factor on the gradient, below
/// one when it is clipped.
///
/// # Errors
///
/// When gradient, moments and parameter differ in size, or a tensor is not `f32` on the CPU.
pub fn adamw(
    parameter: &Var,
    gradient: &Tensor,
    scale: &Tensor,
    moments: &mut Moments,
    settings: &AdamW,
) -> Result<()> {
    let Moments { first, second } = moments;
    // The parameter and both moments are read and written.
    let _running = step("adamw", 7 * first.len());
    update("adamw", parameter, gradient, scale, first.len(), |parameter, gradient, scale| {
        let step = Step::new(settings, scale);
        let work = (parameter, gradient, &mut **first, &mut **second);
        in_shares(work, usize::MAX, gradient.len() / 2, |(parameter, gradient, first, second)| {
            vectorized(
                #[inline(always)]
                || {
                    let state = first.iter_mut().zip(second);
                    for ((p, &g), (m, v)) in parameter.iter_mut().zip(gradient).zip(state) {
                        step.remember(g, m, v);
                        *p = *p * step.keep - step.change(*m, *v);
                    }
                },
            );
        });
    })
}

/// [`adamw`] that holds back where update, gradient and parameter disagree.
///
/// # Errors
///
/// When gradient, moments and parameter differ in size, or a tensor is not `f32` on the CPU.
pub fn cautious_adamw(
    parameter: &Var,
    gradient: &Tensor,
    scale: &Tensor,
    moments: &mut Moments,
    settings: &AdamW,
    caution: Caution,
) -> Result<()> {
    let Moments { first, second } = moments;
    let name = "cautious_adamw";
    let _running = step(name, 7 * first.len());
    update(name, parameter, gradient, scale, first.len(), |parameter, gradient, scale| {
        let step = Step::new(settings, scale);
        vectorized(
            #[inline(always)]
            || {
                let state = first.iter_mut().zip(second.iter_mut());
                for (&g, (m, v)) in gradient.iter().zip(state) {
                    step.remember(g, m, v);
                }
                let kept =
                    sum2(first, gradient, |m, g| if agree(m, g * scale) { 1.0 } else { 0.0 });
                // Factors on the change, and what stays of a weight, with agreement and without.
                let share = gradient.len() as f32 / (kept + 1.0);
                let factors = if caution.update { (share, 0.0) } else { (1.0, 1.0) };
                let stays = (step.keep, if caution.decay { 1.0 } else { step.keep });
                let state = first.iter().zip(second.iter());
                for ((p, &g), (&m, &v)) in parameter.iter_mut().zip(gradient).zip(state) {
                    let factor = if agree(m, g * scale) { factors.0 } else { factors.1 };
                    let change = step.change(m, v) * factor;
                    *p = *p * if agree(change, *p) { stays.0 } else { stays.1 } - change;
                }
            },
        );
    })
}

/// Whether both are positive or both negative.
#[inline(always)]
fn agree(a: f32, b: f32) -> bool {
    ((a > 0.0) & (b > 0.0)) | ((a < 0.0) & (b < 0.0))
}

/// The numbers of one step, the same for every component.
#[derive(Clone, Copy)]
struct Step {
    rate: f32,
    keep: f32,
    beta1: f32,
    beta2: f32,
    correct1: f32,
    correct2: f32,
    epsilon: f32,
    scale: f32,
}

impl Step {
    fn new(settings: &AdamW, scale: f32) -> Self {
        let AdamW { learning_rate, beta1, beta2, epsilon, weight_decay, step } = *settings;
        // The corrections of both moments move into the rate and into epsilon's place:
        // rate · (m / c1) / (√(v / c2) + ε), with c = 1 - betaᵗ.
        let step = i32::try_from(step).unwrap_or(i32::MAX);
        Self {
            rate: learning_rate as f32,
            keep: (1.0 - learning_rate * weight_decay) as f32,
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            correct1: (1.0 / (1.0 - beta1.powi(step))) as f32,
            correct2: (1.0 / (1.0 - beta2.powi(step))) as f32,
            epsilon: epsilon as f32,
            scale,
        }
    }

    /// Takes a gradient into the moments.
    #[inline(always)]
    fn remember(self, g: f32, m: &mut f32, v: &mut f32) {
        let g = g * self.scale;
        *m = self.beta1 * *m + (1.0 - self.beta1) * g;
        *v = self.beta2 * *v + (1.0 - self.beta2) * g * g;
    }

    /// What is taken from the parameter, but for its decay.
    #[inline(always)]
    fn change(self, m: f32, v: f32) -> f32 {
        self.rate * (m * self.correct1) / ((v * self.correct2).sqrt() + self.epsilon)
    }
}
