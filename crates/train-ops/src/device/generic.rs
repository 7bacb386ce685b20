//! What has no kernel of its own, by candle.

use std::sync::Arc;

use candle_core::{DType, Result, Tensor, Var, bail};
use forerunner_kernels::{self as kernels, StepTables};

use super::graph::with_tables;
use super::memory::{all_by_candle, by_candle, cast, dense, empty, view, view_mut, wrapped};
use super::tape::{Gradient, step1};
use super::{Place, Traced, place};

/// Any differentiable function that candle can compute.
///
/// Forward it runs without a trace. Backward it runs once more on copies of the inputs, traced by
/// candle, and candle goes back: twice the work, and nothing kept but the inputs. For what a program
/// does now and then; the operations with kernels are far cheaper.
///
/// # Errors
///
/// When the function fails.
pub fn generic(
    inputs: &[&Traced],
    function: impl Fn(&[Tensor]) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Traced> {
    let values: Vec<Tensor> = inputs.iter().map(|input| input.value().clone()).collect();
    let traced: Vec<bool> = inputs.iter().map(|input| input.is_traced()).collect();
    let function = Arc::new(function);
    let forward = Arc::clone(&function);
    let result = by_candle(&refs(&values), move |values| Ok(forward(values)?.detach()))?;
    let backward = move |gradient: &Gradient| {
        let mut read = refs(&values);
        read.push(gradient.tensor());
        all_by_candle(&read, move |read| gradients_by_candle(&*function, &traced, read))?
            .into_iter()
            .map(|found| Ok(found.map(Gradient::new)))
            .collect()
    };
    Ok(step1(inputs, result, backward))
}

fn refs(tensors: &[Tensor]) -> Vec<&Tensor> {
    tensors.iter().collect()
}

/// Gradients with respect to those inputs that are traced; `read` are the inputs, and the gradient that
/// arrived.
fn gradients_by_candle(
    function: impl Fn(&[Tensor]) -> Result<Tensor>,
    traced: &[bool],
    read: &[Tensor],
) -> Result<Vec<Option<Tensor>>> {
    let Some((gradient, values)) = read.split_last() else { return Ok(Vec::new()) };
    let copy =
        |(value, traced): (&Tensor, &bool)| traced.then(|| Var::from_tensor(value)).transpose();
    let copies: Vec<Option<Var>> = values.iter().zip(traced).map(copy).collect::<Result<_>>()?;
    let again: Vec<Tensor> = values
        .iter()
        .zip(&copies)
        .map(|(value, copy)| copy.as_ref().map_or(value, Var::as_tensor).clone())
        .collect();
    // Candle starts from ones, so the product's gradient is the one that arrived.
    let store = (function(&again)? * gradient)?.backward()?;
    let found = |copy: &Option<Var>| store.get(copy.as_ref()?.as_tensor()).cloned();
    Ok(copies.iter().map(found).collect())
}

/// `factor · x + offset`.
///
/// # Errors
///
/// When the device has no memory left.
pub fn affine(x: &Traced, factor: f64, offset: f64) -> Result<Traced> {
    let dtype = x.value().dtype();
    if !matches!(dtype, DType::F32 | DType::BF16) {
        return generic(&[x], move |x| x[0].affine(factor, offset));
    }
    let y = scaled(&place()?, x.value(), (factor, offset))?;
    Ok(step1(&[x], y, move |gradient| {
        Ok(vec![Some(Gradient::new(scaled(&place()?, gradient.tensor(), (factor, 0.0))?))])
    }))
}

/// `factor · x + offset` of values without history.
pub(super) fn scaled(place: &Place, x: &Tensor, (factor, offset): (f64, f64)) -> Result<Tensor> {
    let x = dense(x)?;
    let y = empty(place, x.shape(), x.dtype())?;
    let numbers = (factor as f32, offset as f32);
    kernels::affine(&place.machine, &mut view_mut(&y)?, &view(&x)?, numbers).map_err(wrapped)?;
    Ok(y)
}

/// The sum of two tensors of one shape, whose gradient is passed on as it is. Where precisions differ
/// the sum is in f32.
///
/// # Errors
///
/// When the shapes differ.
pub fn add(a: &Traced, b: &Traced) -> Result<Traced> {
    if a.value().dims() != b.value().dims() {
        bail!("add: shapes {:?} and {:?} differ", a.value().shape(), b.value().shape());
    }
    let dtypes = [a, b].map(|x| x.value().dtype());
    let dtype = if dtypes[0] == dtypes[1] { dtypes[0] } else { DType::F32 };
    let sum = sum(&cast(a.value(), dtype)?, &cast(b.value(), dtype)?)?;
    let wanted = [a, b].map(Traced::is_traced);
    Ok(step1(&[a, b], sum, move |gradient| {
        let of = |(dtype, wanted): (DType, bool)| {
            if !wanted {
                return Ok(None);
            }
            Ok(Some(Gradient::shared(cast(gradient.tensor(), dtype)?)))
        };
        dtypes.into_iter().zip(wanted).map(of).collect()
    }))
}

/// The sum of two tensors of one shape and type, without history.
pub(super) fn sum(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !matches!(a.dtype(), DType::F32 | DType::BF16) {
        return by_candle(&[a, b], |x| &x[0] + &x[1]);
    }
    let place = place()?;
    let (a, b) = (dense(a)?, dense(b)?);
    let sum = empty(&place, a.shape(), a.dtype())?;
    kernels::add_to(&place.machine, &mut view_mut(&sum)?, &view(&a)?, &view(&b)?)
        .map_err(wrapped)?;
    Ok(sum)
}

/// Sum of the squares of all values; see [`crate::sum_of_squares`].
///
/// # Errors
///
/// When the device has no memory left.
pub fn sum_of_squares(x: &Traced) -> Result<Traced> {
    if x.is_traced() {
        return generic(&[x], |x| x[0].to_dtype(DType::F32)?.sqr()?.sum_all());
    }
    sum_of_squares_all(&[x])
}

/// Sum of the squares of all values of all tensors, without gradients: the square of a gradient's
/// norm, with one kernel.
///
/// # Errors
///
/// When the device has no memory left.
pub fn sum_of_squares_all(tensors: &[&Traced]) -> Result<Traced> {
    let place = place()?;
    let values: Vec<Tensor> = tensors.iter().map(|x| dense(x.value())).collect::<Result<_>>()?;
    let views: Vec<_> = values.iter().map(view).collect::<Result<_>>()?;
    let total = empty(&place, (), DType::F32)?;
    with_tables(|tables| {
        let mut others = StepTables::new();
        let tables = tables.unwrap_or(&mut others);
        kernels::sum_of_squares(&place.machine, tables, &views, &mut view_mut(&total)?)
            .map_err(wrapped)
    })?;
    Ok(Traced::constant(&total))
}
