//! The optimizer steps of `forerunner-train-ops` on a program's variables.
//!
//! Each changes one parameter in place. `scale` is a scalar factor on the gradient, a tensor because
//! a program cannot read the norm that clipping depends on.

use forerunner_train_ops as ops;
pub use ops::{AdamW, Caution, Lion, Muon, Polynomial};

use crate::norms::looked_at;
use crate::{Result, Tensor, Var};

/// Running means of a parameter's gradient and of its square, for [`adamw`].
pub struct Moments(ops::Moments);

impl Moments {
    /// Zero moments for a parameter.
    pub fn zeros_like(parameter: &Tensor) -> Self {
        Self(ops::Moments::zeros_like(&parameter.0))
    }
}

/// One AdamW step on `parameter`, in place; `scale` is a scalar factor on the gradient.
///
/// # Errors
///
/// When the shapes do not fit.
pub fn adamw(
    parameter: &Var,
    gradient: &Tensor,
    scale: &Tensor,
    moments: &mut Moments,
    settings: &AdamW,
) -> Result<()> {
    looked_at(parameter, gradient, settings.learning_rate, || {
        Ok(ops::adamw(&parameter.inner, &gradient.0, &scale.0, &mut moments.0, settings)?)
    })
}

/// [`adamw`] that holds back where update, gradient and parameter disagree; see [`Caution`].
///
/// # Errors
///
/// When the shapes do not fit.
pub fn cautious_adamw(
    parameter: &Var,
    gradient: &Tensor,
    scale: &Tensor,
    moments: &mut Moments,
    settings: &AdamW,
    caution: Caution,
) -> Result<()> {
    looked_at(parameter, gradient, settings.learning_rate, || {
        let (parameter, moments) = (&parameter.inner, &mut moments.0);
        Ok(ops::cautious_adamw(parameter, &gradient.0, &scale.0, moments, settings, caution)?)
    })
}

/// Running mean of a parameter's gradient, for [`muon`] and [`lion`].
pub struct Momentum(ops::Momentum);

impl Momentum {
    /// Zero momentum for a parameter.
    pub fn zeros_like(parameter: &Tensor) -> Self {
        Self(ops::Momentum::zeros_like(&parameter.0))
    }
}

/// One Muon step on `parameter`, a matrix `[out, in]`, in place: the momentum, made orthogonal.
///
/// # Errors
///
/// When the shapes do not fit, or the rows do not split into the parts.
pub fn muon(
    parameter: &Var,
    gradient: &Tensor,
    scale: &Tensor,
    momentum: &mut Momentum,
    settings: &Muon,
) -> Result<()> {
    looked_at(parameter, gradient, settings.learning_rate, || {
        Ok(ops::muon(&parameter.inner, &gradient.0, &scale.0, &mut momentum.0, settings)?)
    })
}

/// One Lion step on `parameter`, in place: the sign of the momentum.
///
/// # Errors
///
/// When the shapes do not fit.
pub fn lion(
    parameter: &Var,
    gradient: &Tensor,
    scale: &Tensor,
    momentum: &mut Momentum,
    settings: &Lion,
) -> Result<()> {
    looked_at(parameter, gradient, settings.learning_rate, || {
        Ok(ops::lion(&parameter.inner, &gradient.0, &scale.0, &mut momentum.0, settings)?)
    })
}
