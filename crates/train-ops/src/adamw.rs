//! One step of AdamW on one tensor.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, Var, bail};

use crate::storage::{values, zeros};
use crate::vector::vectorized;

const NAME: &str = "adamw";

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
    if gradient.shape() != parameter.shape() || moments.first.len() != parameter.elem_count() {
        let (parameter, gradient) = (parameter.shape(), gradient.shape());
        bail!("{NAME}: gradient {gradient:?} or moments do not fit parameter {parameter:?}");
    }
    let scale = scale.to_scalar::<f32>()?;
    let update = Update { moments: Mutex::new(moments), settings, scale };
    parameter.as_tensor().inplace_op2(&gradient.contiguous()?, &update)
}

struct Update<'a> {
    moments: Mutex<&'a mut Moments>,
    settings: &'a AdamW,
    scale: f32,
}

impl InplaceOp2 for Update<'_> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        parameter: &mut CpuStorage,
        pl: &Layout,
        gradient: &CpuStorage,
        gl: &Layout,
    ) -> Result<()> {
        let gradient = values::<f32>(NAME, gradient, gl)?;
        let (Some((start, end)), CpuStorage::F32(parameter)) = (pl.contiguous_offsets(), parameter)
        else {
            bail!("{NAME}: a parameter is contiguous and `f32`");
        };
        let parameter = &mut parameter[start..end];
        let mut moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        let Moments { first, second } = &mut **moments;
        let AdamW { learning_rate, beta1, beta2, weight_decay, step, .. } = *self.settings;
        // The corrections of both moments move into the rate and into epsilon's place:
        // rate · (m / c1) / (√(v / c2) + ε), with c = 1 - betaᵗ.
        let step = i32::try_from(step).unwrap_or(i32::MAX);
        let correct1 = (1.0 / (1.0 - beta1.powi(step))) as f32;
        let correct2 = (1.0 / (1.0 - beta2.powi(step))) as f32;
        let (rate, keep) = (learning_rate as f32, (1.0 - learning_rate * weight_decay) as f32);
        let (beta1, beta2) = (beta1 as f32, beta2 as f32);
        let (epsilon, scale) = (self.settings.epsilon as f32, self.scale);
        vectorized(
            #[inline(always)]
            || {
                let state = first.iter_mut().zip(second.iter_mut());
                for ((p, &g), (m, v)) in parameter.iter_mut().zip(gradient).zip(state) {
                    let g = g * scale;
                    *m = beta1 * *m + (1.0 - beta1) * g;
                    *v = beta2 * *v + (1.0 - beta2) * g * g;
                    *p = *p * keep - rate * (*m * correct1) / ((*v * correct2).sqrt() + epsilon);
                }
            },
        );
        Ok(())
    }
}
