//! What every optimizer step has in common: a parameter changed in place.

use std::cell::Cell;

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, Var, bail};

use crate::storage::{values, zeros};

/// The state of an optimizer that remembers one number for each of a parameter's.
#[derive(Clone, Debug)]
pub struct Momentum {
    pub(crate) values: Vec<f32>,
    /// Memory that the next step uses again; holds nothing between steps.
    pub(crate) scratch: Vec<f32>,
}

impl Momentum {
    /// Zero momentum for a parameter.
    pub fn zeros_like(parameter: &Tensor) -> Self {
        Self { values: zeros(parameter.elem_count()), scratch: Vec::new() }
    }
}

/// Hands `step` the values of the parameter, of its gradient, and the factor on the gradient;
/// `state_size` is the number of values that the optimizer remembers.
pub(crate) fn update(
    name: &'static str,
    parameter: &Var,
    gradient: &Tensor,
    scale: &Tensor,
    state_size: usize,
    step: impl FnOnce(&mut [f32], &[f32], f32),
) -> Result<()> {
    if gradient.shape() != parameter.shape() || state_size != parameter.elem_count() {
        let (parameter, gradient) = (parameter.shape(), gradient.shape());
        bail!("{name}: gradient {gradient:?} or moments do not fit parameter {parameter:?}");
    }
    let scale = scale.to_scalar::<f32>()?;
    let update = Update { name, scale, step: Cell::new(Some(step)) };
    parameter.as_tensor().inplace_op2(&gradient.contiguous()?, &update)
}

struct Update<F> {
    name: &'static str,
    scale: f32,
    /// Taken by the one call that candle makes.
    step: Cell<Option<F>>,
}

impl<F: FnOnce(&mut [f32], &[f32], f32)> InplaceOp2 for Update<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        parameter: &mut CpuStorage,
        pl: &Layout,
        gradient: &CpuStorage,
        gl: &Layout,
    ) -> Result<()> {
        let gradient = values::<f32>(self.name, gradient, gl)?;
        let (Some((start, end)), CpuStorage::F32(parameter)) = (pl.contiguous_offsets(), parameter)
        else {
            bail!("{}: a parameter is contiguous and `f32`", self.name);
        };
        if let Some(step) = self.step.take() {
            step(&mut parameter[start..end], gradient, self.scale);
        }
        Ok(())
    }
}
