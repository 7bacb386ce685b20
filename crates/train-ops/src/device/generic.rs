//! What has no kernel of its own, by candle.

use candle_core::{DType, Result, Tensor, Var, bail};
use forerunner_kernels as kernels;

use super::memory::{dense, empty, view, view_mut, wrapped};
use super::tape::{Gradient, step1};
use super::{Traced, place};

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
    function: impl Fn(&[Tensor]) -> Result<Tensor> + Send + 'static,
) -> Result<Traced> {
    let values: Vec<Tensor> = inputs.iter().map(|input| input.value().clone()).collect();
    let traced: Vec<bool> = inputs.iter().map(|input| input.is_traced()).collect();
    let result = function(&values)?.detach();
    let backward = move |gradient: &Gradient| {
        let copy =
            |(value, traced): (&Tensor, &bool)| traced.then(|| Var::from_tensor(value)).transpose();
        let copies: Vec<Option<Var>> =
            values.iter().zip(&traced).map(copy).collect::<Result<_>>()?;
        let again: Vec<Tensor> = values
            .iter()
            .zip(&copies)
            .map(|(value, copy)| copy.as_ref().map_or(value, Var::as_tensor).clone())
            .collect();
        // Candle starts from ones, so the product's gradient is the one that arrived.
        let product = (function(&again)? * gradient.tensor())?;
        let store = product.backward()?;
        let found = |copy: &Option<Var>| {
            let gradient = store.get(copy.as_ref()?.as_tensor())?;
            Some(Gradient::new(gradient.clone()))
        };
        Ok(copies.iter().map(found).collect())
    };
    Ok(step1(inputs, result, backward))
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
    let sum = if dtypes == [DType::BF16; 2] {
        let place = place()?;
        let (a, b) = (dense(a.value())?, dense(b.value())?);
        let sum = empty(&place, a.shape(), DType::BF16)?;
        kernels::add_to(&place.machine, &mut view_mut(&sum)?, &view(&a)?, &view(&b)?)
            .map_err(wrapped)?;
        sum
    } else if dtypes[0] == dtypes[1] {
        (a.value() + b.value())?
    } else {
        (a.value().to_dtype(DType::F32)? + b.value().to_dtype(DType::F32)?)?
    };
    let wanted = [a, b].map(Traced::is_traced);
    Ok(step1(&[a, b], sum, move |gradient| {
        let of = |(dtype, wanted): (DType, bool)| {
            if !wanted {
                return Ok(None);
            }
            Ok(Some(Gradient::shared(gradient.tensor().to_dtype(dtype)?)))
        };
        dtypes.into_iter().zip(wanted).map(of).collect()
    }))
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
    kernels::sum_of_squares(&place.machine, &views, &mut view_mut(&total)?).map_err(wrapped)?;
    Ok(Traced::constant(&total))
}
