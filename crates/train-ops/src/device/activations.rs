//! Activations.

use candle_core::{D, DType, Result, Tensor, bail};
use forerunner_kernels::{self as kernels, Activation};

use super::memory::{cast, dense, empty, view, view_mut, wrapped};
use super::tape::{Gradient, step1};
use super::{Traced, place};

/// The Gaussian error linear unit in its tanh form; see [`crate::gelu`].
///
/// # Errors
///
/// When the device has no memory left.
pub fn gelu(x: &Traced) -> Result<Traced> {
    each(x, Activation::Gelu)
}

/// `max(x, 0)²`; see [`crate::relu_squared`].
///
/// # Errors
///
/// When the device has no memory left.
pub fn relu_squared(x: &Traced) -> Result<Traced> {
    each(x, Activation::ReluSquared)
}

/// `cap · tanh(x / cap)`; see [`crate::softcap`].
///
/// # Errors
///
/// When `cap` is not a positive number.
pub fn softcap(x: &Traced, cap: f64) -> Result<Traced> {
    if !(cap.is_finite() && cap > 0.0) {
        bail!("softcap: {cap} is not a positive number");
    }
    each(x, Activation::Softcap(cap as f32))
}

fn each(x: &Traced, activation: Activation) -> Result<Traced> {
    let place = place()?;
    let values = x.in_bf16()?;
    let y = empty(&place, values.shape(), DType::BF16)?;
    kernels::activation_forward(&place.machine, activation, &view(&values)?, &mut view_mut(&y)?)
        .map_err(wrapped)?;
    let dtype = x.value().dtype();
    Ok(step1(&[x], y, move |dy| {
        let dy = dense(&cast(dy.tensor(), DType::BF16)?)?;
        let dx = empty(&place, values.shape(), DType::BF16)?;
        let (x, dy, mut to) = (view(&values)?, view(&dy)?, view_mut(&dx)?);
        kernels::activation_backward(&place.machine, activation, &x, &dy, &mut to)
            .map_err(wrapped)?;
        found(&dx, dtype)
    }))
}

/// `silu(a) · b` of the halves of the last dimension; see [`crate::swiglu`].
///
/// # Errors
///
/// When the last dimension has no halves.
pub fn swiglu(x: &Traced) -> Result<Traced> {
    let channels = x.value().dim(D::Minus1)?;
    if channels == 0 || !channels.is_multiple_of(2) {
        bail!("swiglu: the last dimension of x {:?} has no halves", x.value().shape());
    }
    let place = place()?;
    let values = x.in_bf16()?;
    let sizes = (values.elem_count() / channels, channels / 2);
    let mut shape = values.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = channels / 2;
    }
    let y = empty(&place, shape, DType::BF16)?;
    kernels::swiglu_forward(&place.machine, sizes, &view(&values)?, &mut view_mut(&y)?)
        .map_err(wrapped)?;
    let dtype = x.value().dtype();
    Ok(step1(&[x], y, move |dy| {
        let dy = dense(&cast(dy.tensor(), DType::BF16)?)?;
        let dx = empty(&place, values.shape(), DType::BF16)?;
        let (x, dy, mut to) = (view(&values)?, view(&dy)?, view_mut(&dx)?);
        kernels::swiglu_backward(&place.machine, sizes, &x, &dy, &mut to).map_err(wrapped)?;
        found(&dx, dtype)
    }))
}

/// The one gradient, in the type of the input.
fn found(dx: &Tensor, dtype: DType) -> Result<Vec<Option<Gradient>>> {
    Ok(vec![Some(Gradient::new(cast(dx, dtype)?))])
}
