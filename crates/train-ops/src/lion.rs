//! One step of Lion on one tensor.

use candle_core::{Result, Tensor, Var};

use crate::profile::step;
use crate::threads::in_shares;
use crate::update::{Momentum, update};
use crate::vector::vectorized;

/// The settings of one Lion step (Chen et al., arXiv 2302.06675).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lion {
    /// Learning rate of this step: how far every component moves.
    pub learning_rate: f64,
    /// Share of the momentum in the mean whose sign is the update.
    pub beta1: f64,
    /// Decay of the momentum.
    pub beta2: f64,
    /// Share of the parameter taken away, per unit of learning rate.
    pub weight_decay: f64,
}

/// Takes one Lion step on `parameter`, in place: the update is the sign of
/// `β₁ m + (1 - β₁) g`, and then `m = β₂ m + (1 - β₂) g`. `scale` is a scalar factor on the
/// gradient.
///
/// # Errors
///
/// When gradient, momentum and parameter differ in size, or a tensor is not `f32` on the CPU.
pub fn lion(
    parameter: &Var,
    gradient: &Tensor,
    scale: &Tensor,
    momentum: &mut Momentum,
    settings: &Lion,
) -> Result<()> {
    let momentum = &mut momentum.values;
    let _running = step("lion", 5 * momentum.len());
    update("lion", parameter, gradient, scale, momentum.len(), |parameter, gradient, scale| {
        let Lion { learning_rate, beta1, beta2, weight_decay } = *settings;
        let (rate, keep) = (learning_rate as f32, (1.0 - learning_rate * weight_decay) as f32);
        let (beta1, beta2) = (beta1 as f32, beta2 as f32);
        let work = (parameter, gradient, &mut **momentum);
        in_shares(work, usize::MAX, gradient.len() / 4, |(parameter, gradient, momentum)| {
            vectorized(
                #[inline(always)]
                || {
                    for ((p, &g), m) in parameter.iter_mut().zip(gradient).zip(momentum) {
                        let g = g * scale;
                        let mean = beta1 * *m + (1.0 - beta1) * g;
                        *m = beta2 * *m + (1.0 - beta2) * g;
                        *p = *p * keep - rate * sign(mean);
                    }
                },
            );
        });
    })
}

/// 1, -1, or the number itself where it is zero or not a number.
#[inline(always)]
fn sign(x: f32) -> f32 {
    if x > 0.0 {
        1.0
    } else if x < 0.0 {
        -1.0
    } else {
        x
    }
}
