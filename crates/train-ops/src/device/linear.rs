//! Linear layers.

use candle_core::{D, DType, Result, Tensor, bail};
use forerunner_kernels::{
    Activation, Epilogue, Gemm, Operand, activation_backward, column_sums, gemm,
};

use super::memory::{cast, dense, empty, view, view_mut, wrapped};
use super::tape::{Gradient, step, step1};
use super::{Place, Traced, place};

const NAME: &str = "linear";

/// `x wᵀ + b`; see [`crate::linear`].
///
/// # Errors
///
/// When shapes do not fit.
pub fn linear(x: &Traced, weight: &Traced, bias: &Traced) -> Result<Traced> {
    layer(x, weight, Some(bias), false)
}

/// GELU, in the tanh form, of [`linear`]: the product writes both.
///
/// # Errors
///
/// When shapes do not fit.
pub fn linear_gelu(x: &Traced, weight: &Traced, bias: &Traced) -> Result<Traced> {
    layer(x, weight, Some(bias), true)
}

/// `x wᵀ`; see [`crate::linear_no_bias`].
///
/// # Errors
///
/// When shapes do not fit.
pub fn linear_no_bias(x: &Traced, weight: &Traced) -> Result<Traced> {
    layer(x, weight, None, false)
}

fn layer(x: &Traced, weight: &Traced, bias: Option<&Traced>, with_gelu: bool) -> Result<Traced> {
    let (outputs, inputs) = weight.value().dims2()?;
    if x.value().rank() == 0 || x.value().dim(D::Minus1)? != inputs {
        bail!("{NAME}: x {:?} does not fit weight {:?}", x.value().shape(), weight.value().shape());
    }
    if let Some(bias) = bias
        && bias.value().dims() != [outputs]
    {
        let (bias, weight) = (bias.value().shape(), weight.value().shape());
        bail!("{NAME}: bias {bias:?} does not fit weight {weight:?}");
    }
    let place = place()?;
    let (values, weights) = (x.in_bf16()?, weight.in_bf16()?);
    let rows = values.elem_count() / inputs.max(1);
    let mut shape = x.value().dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    let y = empty(&place, &*shape, DType::BF16)?;
    let biases = bias.map(Traced::in_bf16).transpose()?;
    let before = with_gelu.then(|| empty(&place, &*shape, DType::BF16)).transpose()?;
    let product = Gemm {
        epilogue: match (&biases, &before) {
            (Some(bias), Some(before)) => Epilogue::BiasGelu(view(bias)?, view_mut(before)?),
            (Some(bias), None) => Epilogue::Bias(view(bias)?),
            (None, _) => Epilogue::None,
        },
        ..Gemm::new(
            (rows, outputs, inputs),
            Operand::plain(view(&values)?),
            Operand::transposed(view(&weights)?),
            view_mut(&y)?,
        )
    };
    gemm(&place.machine, product).map_err(wrapped)?;
    // A product of whole eights can take the gradient of its input's GELU along.
    let activated = x.gelu_of().filter(|_| inputs.is_multiple_of(8));
    let activated_from = activated.map(|before| before.value().clone());
    let mut needed = vec![activated.unwrap_or(x), weight];
    needed.extend(bias);
    let wanted: Vec<Option<DType>> =
        needed.iter().map(|input| input.is_traced().then(|| input.value().dtype())).collect();
    let back = move |dy: &Tensor| {
        let sizes = (rows, outputs, inputs);
        let mut found = Vec::with_capacity(wanted.len());
        found.push(match wanted[0] {
            Some(dtype) => {
                let dx = empty(&place, values.shape(), DType::BF16)?;
                of_input(&place, sizes, dy, &weights, activated_from.as_ref(), &dx)?;
                Some(Gradient::new(cast(&dx, dtype)?))
            }
            None => None,
        });
        found.push(match wanted[1] {
            Some(dtype) => Some(of_weight(&place, sizes, dy, &values, dtype)?),
            None => None,
        });
        if let Some(wanted) = wanted.get(2) {
            found.push(match wanted {
                Some(dtype) => Some(of_bias(&place, sizes, dy, *dtype)?),
                None => None,
            });
        }
        Ok(found)
    };
    let Some(before) = before else {
        return Ok(step1(&needed, y, move |gradient| back(&in_bf16(gradient)?)));
    };
    let n_inputs = needed.len();
    let kept = before.clone();
    let both = step(&needed, vec![y, before], move |gradients| {
        let mut gradients = gradients.into_iter();
        let (of_y, of_before) = (gradients.next().flatten(), gradients.next().flatten());
        let through = match of_y {
            Some(of_y) => Some(through_gelu(&in_bf16(&of_y)?, &kept)?),
            None => None,
        };
        let arrived = match (through, of_before) {
            (Some(through), Some(of_before)) => through.add(of_before)?,
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return Ok(vec![None; n_inputs]),
        };
        back(&in_bf16(&arrived)?)
    });
    match <[Traced; 2]>::try_from(both) {
        Ok([y, before]) => Ok(y.known_as_gelu_of(before)),
        Err(_) => bail!("a step with two results has two"),
    }
}

fn in_bf16(gradient: &Gradient) -> Result<Tensor> {
    dense(&cast(gradient.tensor(), DType::BF16)?)
}

/// The gradient of what GELU was taken of.
fn through_gelu(dy: &Tensor, before: &Tensor) -> Result<Gradient> {
    let place = place()?;
    let dx = empty(&place, dy.shape(), DType::BF16)?;
    let (x, dy, mut to) = (view(before)?, view(dy)?, view_mut(&dx)?);
    activation_backward(&place.machine, Activation::Gelu, &x, &dy, &mut to).map_err(wrapped)?;
    Ok(Gradient::new(dx))
}

type Sizes = (usize, usize, usize);

/// `dx = dy w`, or, where `x` is the GELU of something, that something's gradient.
fn of_input(
    place: &Place,
    (rows, outputs, inputs): Sizes,
    dy: &Tensor,
    weights: &Tensor,
    activated_from: Option<&Tensor>,
    dx: &Tensor,
) -> Result<()> {
    let (dy, weights) = (Operand::plain(view(dy)?), Operand::plain(view(weights)?));
    let product = Gemm {
        epilogue: match activated_from {
            Some(before) => Epilogue::GeluGradient(view(before)?),
            None => Epilogue::None,
        },
        ..Gemm::new((rows, inputs, outputs), dy, weights, view_mut(dx)?)
    };
    gemm(&place.machine, product).map_err(wrapped)
}

/// `dw = dyᵀ x`, in f32.
fn of_weight(
    place: &Place,
    (rows, outputs, inputs): Sizes,
    dy: &Tensor,
    values: &Tensor,
    dtype: DType,
) -> Result<Gradient> {
    let dw = empty(place, (outputs, inputs), DType::F32)?;
    let (dy, values) = (Operand::transposed(view(dy)?), Operand::plain(view(values)?));
    let product = Gemm::new((outputs, inputs, rows), dy, values, view_mut(&dw)?);
    gemm(&place.machine, product).map_err(wrapped)?;
    Ok(Gradient::new(cast(&dw, dtype)?))
}

/// `db`: the sum of `dy` over rows.
fn of_bias(
    place: &Place,
    (rows, outputs, _): Sizes,
    dy: &Tensor,
    dtype: DType,
) -> Result<Gradient> {
    let db = empty(place, outputs, DType::F32)?;
    column_sums(&place.machine, (rows, outputs), &view(dy)?, &mut view_mut(&db)?, false)
        .map_err(wrapped)?;
    Ok(Gradient::new(cast(&db, dtype)?))
}
