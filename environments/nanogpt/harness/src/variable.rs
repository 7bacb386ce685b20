//! Variables, and gradients with respect to them.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use candle_core::{DType, Device};
#[cfg(feature = "device")]
use forerunner_train_ops::{self as ops, device::Traced};

use crate::{Result, Tensor};

/// A tensor that can be changed and that gradients are taken with respect to; a clone shares it.
#[derive(Clone)]
pub struct Var {
    pub(crate) inner: candle_core::Var,
    tensor: Tensor,
}

impl Var {
    /// A variable that starts as a copy of a tensor. It is not a parameter: only what
    /// [`crate::Params`] declares is carried to the evaluator.
    ///
    /// # Errors
    ///
    /// When the tensor cannot be copied.
    pub fn new(tensor: &Tensor) -> Result<Self> {
        #[cfg(feature = "device")]
        ops::device::refuse_while_capturing("Var::new")?;
        // Detached, because candle takes what is a variable already as it is, without a copy.
        let values = tensor.values().to_dtype(DType::F32)?.contiguous()?.detach();
        Ok(Self::from(candle_core::Var::from_tensor(&values)?))
    }

    /// Replaces the values.
    ///
    /// # Errors
    ///
    /// When the shapes differ.
    pub fn set(&self, values: &Tensor) -> Result<()> {
        #[cfg(feature = "device")]
        if let Ok(traced) = self.tensor.trace() {
            return Ok(traced.set(values.values())?);
        }
        Ok(self.inner.set(&values.values().to_dtype(DType::F32)?)?)
    }

    /// Sets every value to the same number.
    ///
    /// # Errors
    ///
    /// When the device fails.
    pub fn fill(&self, value: f64) -> Result<()> {
        #[cfg(feature = "device")]
        if let Ok(traced) = self.tensor.trace() {
            return Ok(traced.fill(value)?);
        }
        let values = candle_core::Tensor::full(value as f32, self.dims(), &Device::Cpu)?;
        Ok(self.inner.set(&values)?)
    }

    /// Adds `factor · values`, in place: to sum up gradients of the parts of a batch, say.
    ///
    /// # Errors
    ///
    /// When the shapes differ.
    pub fn accumulate(&self, values: &Tensor, factor: f64) -> Result<()> {
        #[cfg(feature = "device")]
        if let Ok(traced) = self.tensor.trace() {
            return Ok(traced.accumulate(values.values(), factor)?);
        }
        let values = (values.values().to_dtype(DType::F32)?.detach() * factor)?;
        Ok(self.inner.set(&(self.inner.as_detached_tensor() + values)?)?)
    }
}

impl From<candle_core::Var> for Var {
    fn from(inner: candle_core::Var) -> Self {
        #[cfg(feature = "device")]
        if crate::device::current().is_some() {
            let tensor = Tensor::traced(Traced::parameter(inner.as_tensor()));
            return Self { inner, tensor };
        }
        let tensor = Tensor::plain(inner.as_tensor().clone());
        Self { inner, tensor }
    }
}

impl Deref for Var {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.tensor
    }
}

impl Borrow<Tensor> for Var {
    fn borrow(&self) -> &Tensor {
        &self.tensor
    }
}

impl fmt::Debug for Var {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Var{:?}", self.dims())
    }
}

/// What [`Tensor::backward`] found.
pub struct Gradients(Found);

enum Found {
    Plain(candle_core::backprop::GradStore),
    #[cfg(feature = "device")]
    Traced(ops::device::Gradients),
}

impl Gradients {
    /// Those of the CPU's operations.
    pub(crate) fn plain(found: candle_core::backprop::GradStore) -> Self {
        Self(Found::Plain(found))
    }

    /// Those of a device's operations.
    #[cfg(feature = "device")]
    pub(crate) fn traced(found: ops::device::Gradients) -> Self {
        Self(Found::Traced(found))
    }

    /// The gradient with respect to a variable, or `None` when the scalar does not depend on it.
    pub fn get(&self, var: &Var) -> Option<Tensor> {
        match &self.0 {
            Found::Plain(found) => {
                found.get(&var.inner).map(|gradient| Tensor::plain(gradient.clone()))
            }
            #[cfg(feature = "device")]
            Found::Traced(found) => {
                let gradient = found.get(var.tensor.trace().ok()?)?;
                Some(Tensor::traced(Traced::constant(gradient)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::flat;

    #[test]
    fn a_variable_made_of_another_is_a_copy() {
        let first = Var::new(&Tensor::zeros(3).unwrap()).unwrap();
        let second = Var::new(&first).unwrap();
        second.set(&Tensor::ones(3).unwrap()).unwrap();
        assert_eq!(flat(&first).unwrap(), [0.0; 3]);
        assert_eq!(flat(&second).unwrap(), [1.0; 3]);
    }
}
