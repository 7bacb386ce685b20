//! The optimizer steps of `forerunner-train-ops` on a program's variables.
//!
//! Each changes parameters in place. `scale` is a scalar factor on the gradient, a tensor because
//! a program cannot read the norm that clipping depends on. Those that end in `_all` change many
//! parameters at once: on a GPU with one kernel, or, for Muon, with one product for all matrices of
//! a shape.

use forerunner_train_ops as ops;
pub use ops::{AdamW, Caution, Lion, Muon, Polynomial};

use crate::norms::looked_at;
use crate::{Result, Tensor, Var};

/// Running means of a parameter's gradient and of its square, for [`adamw`].
pub struct Moments(State<ops::Moments>);

/// Running mean of a parameter's gradient, for [`muon`] and [`lion`].
pub struct Momentum(State<ops::Momentum>);

/// What an optimizer remembers of a parameter.
enum State<H> {
    Host(H),
    #[cfg(feature = "device")]
    Device(ops::device::OptimizerState),
}

impl Moments {
    /// Zero moments for a parameter.
    pub fn zeros_like(parameter: &Tensor) -> Self {
        #[cfg(feature = "device")]
        if crate::device::current().is_some() {
            return Self(State::Device(ops::device::OptimizerState::new(2)));
        }
        Self(State::Host(ops::Moments::zeros_like(parameter.values())))
    }
}

impl Momentum {
    /// Zero momentum for a parameter.
    pub fn zeros_like(parameter: &Tensor) -> Self {
        #[cfg(feature = "device")]
        if crate::device::current().is_some() {
            return Self(State::Device(ops::device::OptimizerState::new(1)));
        }
        Self(State::Host(ops::Momentum::zeros_like(parameter.values())))
    }
}

/// Scalar tensors that a step depends on. A factor on the gradients alone turns into them by itself:
/// `adamw_all(&mut steps, &factor)`.
#[derive(Clone, Copy, Debug)]
pub struct Scalars<'a> {
    /// Factor on the gradients.
    pub gradient: &'a Tensor,
    /// Factor on the learning rates, and the number of the step, counted from 1, which then counts in
    /// the place of [`AdamW::step`]. [`crate::Captured`] work needs both as tensors.
    pub schedule: Option<(&'a Tensor, &'a Tensor)>,
}

impl<'a> From<&'a Tensor> for Scalars<'a> {
    fn from(gradient: &'a Tensor) -> Self {
        Self { gradient, schedule: None }
    }
}

impl Scalars<'_> {
    /// Factor on the learning rates, and the number of the step where it counts.
    fn on_the_host(&self) -> Result<(f64, Option<usize>)> {
        let Some((rate, step)) = self.schedule else { return Ok((1.0, None)) };
        Ok((number(rate)?, Some(number(step)?.round() as usize)))
    }

    /// Factor on the learning rates; where nobody looks, nobody waits for it.
    #[cfg(feature = "device")]
    fn rate(&self) -> Result<f64> {
        match self.schedule {
            Some((rate, _)) if crate::norms::looking() => number(rate),
            _ => Ok(1.0),
        }
    }
}

/// The value of a scalar.
fn number(scalar: &Tensor) -> Result<f64> {
    let value = scalar.values().reshape(())?.to_dtype(candle_core::DType::F32)?;
    Ok(f64::from(value.to_scalar::<f32>()?))
}

/// One AdamW step on `parameter`, in place; `scale` is a scalar factor on the gradient.
///
/// # Errors
///
/// When the shapes do not fit.
pub fn adamw<'s>(
    parameter: &Var,
    gradient: &Tensor,
    scalars: impl Into<Scalars<'s>>,
    moments: &mut Moments,
    settings: &AdamW,
) -> Result<()> {
    cautious_adamw(parameter, gradient, scalars, moments, settings, Caution::default())
}

/// [`adamw`] that holds back where update, gradient and parameter disagree; see [`Caution`].
///
/// # Errors
///
/// When the shapes do not fit.
pub fn cautious_adamw<'s>(
    parameter: &Var,
    gradient: &Tensor,
    scalars: impl Into<Scalars<'s>>,
    moments: &mut Moments,
    settings: &AdamW,
    caution: Caution,
) -> Result<()> {
    adamw_all(
        &mut [AdamWStep { parameter, gradient, moments, settings: *settings, caution }],
        scalars,
    )
}

/// What [`adamw_all`] does with one parameter.
pub struct AdamWStep<'a> {
    /// The parameter, changed in place.
    pub parameter: &'a Var,
    /// Its gradient.
    pub gradient: &'a Tensor,
    /// What is remembered of its gradients.
    pub moments: &'a mut Moments,
    /// The settings of this step.
    pub settings: AdamW,
    /// Where to hold back; [`Caution::default`] nowhere.
    pub caution: Caution,
}

/// [`cautious_adamw`] of many parameters.
///
/// # Errors
///
/// When the shapes do not fit.
pub fn adamw_all<'s>(steps: &mut [AdamWStep<'_>], scalars: impl Into<Scalars<'s>>) -> Result<()> {
    let scalars = scalars.into();
    #[cfg(feature = "device")]
    if crate::device::current().is_some() {
        return on_device::adamw(steps, scalars);
    }
    let (rate, step) = scalars.on_the_host()?;
    for AdamWStep { parameter, gradient, moments, settings, caution } in steps {
        let learning_rate = rate * settings.learning_rate;
        let settings = &AdamW { learning_rate, step: step.unwrap_or(settings.step), ..*settings };
        looked_at(parameter, gradient, learning_rate, || {
            let (var, gradient) = (&parameter.inner, gradient.values());
            let scale = scalars.gradient.values();
            let moments = host(&mut moments.0)?;
            if *caution == Caution::default() {
                return Ok(ops::adamw(var, gradient, scale, moments, settings)?);
            }
            Ok(ops::cautious_adamw(var, gradient, scale, moments, settings, *caution)?)
        })?;
    }
    Ok(())
}

/// One Muon step on `parameter`, a matrix `[out, in]`, in place: the momentum, made orthogonal.
///
/// # Errors
///
/// When the shapes do not fit, or the rows do not split into the parts.
pub fn muon<'s>(
    parameter: &Var,
    gradient: &Tensor,
    scalars: impl Into<Scalars<'s>>,
    momentum: &mut Momentum,
    settings: &Muon,
) -> Result<()> {
    muon_all(&mut [MuonStep { parameter, gradient, momentum, settings: *settings }], scalars)
}

/// What [`muon_all`] does with one parameter.
pub struct MuonStep<'a> {
    /// The parameter, a matrix `[out, in]`, changed in place.
    pub parameter: &'a Var,
    /// Its gradient.
    pub gradient: &'a Tensor,
    /// What is remembered of its gradients.
    pub momentum: &'a mut Momentum,
    /// The settings of this step.
    pub settings: Muon,
}

/// [`muon`] of many parameters.
///
/// # Errors
///
/// When the shapes do not fit, or the rows do not split into the parts.
pub fn muon_all<'s>(steps: &mut [MuonStep<'_>], scalars: impl Into<Scalars<'s>>) -> Result<()> {
    let scalars = scalars.into();
    #[cfg(feature = "device")]
    if crate::device::current().is_some() {
        return on_device::muon(steps, scalars);
    }
    let (rate, _) = scalars.on_the_host()?;
    for MuonStep { parameter, gradient, momentum, settings } in steps {
        let settings = &Muon { learning_rate: rate * settings.learning_rate, ..*settings };
        looked_at(parameter, gradient, settings.learning_rate, || {
            let (gradient, scale) = (gradient.values(), scalars.gradient.values());
            Ok(ops::muon(&parameter.inner, gradient, scale, host(&mut momentum.0)?, settings)?)
        })?;
    }
    Ok(())
}

/// One Lion step on `parameter`, in place: the sign of the momentum.
///
/// # Errors
///
/// When the shapes do not fit.
pub fn lion<'s>(
    parameter: &Var,
    gradient: &Tensor,
    scalars: impl Into<Scalars<'s>>,
    momentum: &mut Momentum,
    settings: &Lion,
) -> Result<()> {
    let scalars = scalars.into();
    #[cfg(feature = "device")]
    if crate::device::current().is_some() {
        return on_device::lion(parameter, gradient, scalars, momentum, settings);
    }
    let (rate, _) = scalars.on_the_host()?;
    let settings = Lion { learning_rate: rate * settings.learning_rate, ..*settings };
    looked_at(parameter, gradient, settings.learning_rate, || {
        let (gradient, scale) = (gradient.values(), scalars.gradient.values());
        Ok(ops::lion(&parameter.inner, gradient, scale, host(&mut momentum.0)?, &settings)?)
    })
}

/// The state of a parameter on the CPU.
fn host<H>(state: &mut State<H>) -> Result<&mut H> {
    match state {
        State::Host(state) => Ok(state),
        #[cfg(feature = "device")]
        State::Device(_) => Err(crate::Error::program("an optimizer's state lies on a device")),
    }
}

#[cfg(feature = "device")]
mod on_device {
    //! Steps of many parameters in one launch.

    use forerunner_train_ops::device::{self as ops, OptimizerState, Step};

    use super::{AdamWStep, Lion, Momentum, MuonStep, Scalars, State};
    use crate::norms::{looking, saw};
    use crate::{Error, Result, Tensor, Var};

    pub(super) fn adamw(steps: &mut [AdamWStep<'_>], scalars: Scalars<'_>) -> Result<()> {
        let mut all = Vec::with_capacity(steps.len());
        for AdamWStep { parameter, gradient, moments, settings, caution } in &mut *steps {
            let state = state(&mut moments.0)?;
            let (parameter, gradient) = (parameter.trace()?, gradient.values());
            all.push(Step { parameter, gradient, state, settings: (*settings, *caution) });
        }
        let seen = ops::adamw(&mut all, of(&scalars), looking())?;
        let rate = scalars.rate()?;
        for (step, squares) in steps.iter().zip(seen) {
            saw(step.parameter, rate * step.settings.learning_rate, squares);
        }
        Ok(())
    }

    pub(super) fn muon(steps: &mut [MuonStep<'_>], scalars: Scalars<'_>) -> Result<()> {
        let mut all = Vec::with_capacity(steps.len());
        for MuonStep { parameter, gradient, momentum, settings } in &mut *steps {
            let state = state(&mut momentum.0)?;
            let (parameter, gradient) = (parameter.trace()?, gradient.values());
            all.push(Step { parameter, gradient, state, settings: *settings });
        }
        let seen = ops::muon(&mut all, of(&scalars), looking())?;
        let rate = scalars.rate()?;
        for (step, squares) in steps.iter().zip(seen) {
            saw(step.parameter, rate * step.settings.learning_rate, squares);
        }
        Ok(())
    }

    pub(super) fn lion(
        parameter: &Var,
        gradient: &Tensor,
        scalars: Scalars<'_>,
        momentum: &mut Momentum,
        settings: &Lion,
    ) -> Result<()> {
        let (state, gradient) = (state(&mut momentum.0)?, gradient.values());
        let step = Step { parameter: parameter.trace()?, gradient, state, settings: *settings };
        for squares in ops::lion(&mut [step], of(&scalars), looking())? {
            saw(parameter, scalars.rate()? * settings.learning_rate, squares);
        }
        Ok(())
    }

    fn of<'a>(scalars: &Scalars<'a>) -> ops::Scalars<'a> {
        let values = |(rate, step): (&'a Tensor, &'a Tensor)| (rate.values(), step.values());
        ops::Scalars { gradient: scalars.gradient.values(), schedule: scalars.schedule.map(values) }
    }

    fn state<H>(state: &mut State<H>) -> Result<&mut OptimizerState> {
        match state {
            State::Device(state) => Ok(state),
            State::Host(_) => Err(Error::program("an optimizer's state lies on the CPU")),
        }
    }
}
