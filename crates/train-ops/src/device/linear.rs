//! Linear layers.

use candle_core::{D, DType, Result, Tensor, bail};
use forerunner_kernels::{
    Activation, Epilogue, Gemm, Operand, activation_backward, column_sums, gemm,
};

use super::memory::{cast, dense, empty, view, view_mut, wrapped};
use super::tape::{Gradient, step1};
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
    let mut needed = vec![x, weight];
    needed.extend(bias);
    let wanted: Vec<Option<DType>> =
        needed.iter().map(|input| input.is_traced().then(|| input.value().dtype())).collect();
    let backward = move |gradient: &Gradient| {
        let mut dy = dense(&cast(gradient.tensor(), DType::BF16)?)?;
        if let Some(before) = &before {
            let to = empty(&place, dy.shape(), DType::BF16)?;
            let (x, dy_view, mut dx) = (view(before)?, view(&dy)?, view_mut(&to)?);
            activation_backward(&place.machine, Activation::Gelu, &x, &dy_view, &mut dx)
                .map_err(wrapped)?;
            dy = to;
        }
        let sizes = (rows, outputs, inputs);
        let mut found = Vec::with_capacity(wanted.len());
        found.push(match wanted[0] {
            Some(dtype) => Some(of_input(&place, sizes, &dy, &weights, values.dims(), dtype)?),
            None => None,
        });
        found.push(match wanted[1] {
            Some(dtype) => Some(of_weight(&place, sizes, &dy, &values, dtype)?),
            None => None,
        });
        if let Some(wanted) = wanted.get(2) {
            found.push(match wanted {
                Some(dtype) => Some(of_bias(&place, sizes, &dy, *dtype)?),
                None => None,
            });
        }
        Ok(found)
    };
    Ok(step1(&needed, y, backward))
}

type Sizes = (usize, usize, usize);

/// `dx = dy w`.
fn of_input(
    place: &Place,
    (rows, outputs, inputs): Sizes,
    dy: &Tensor,
    weights: &Tensor,
    shape: &[usize],
    dtype: DType,
) -> Result<Gradient> {
    let dx = empty(place, shape, DType::BF16)?;
    let (dy, weights) = (Operand::plain(view(dy)?), Operand::plain(view(weights)?));
    let product = Gemm::new((rows, inputs, outputs), dy, weights, view_mut(&dx)?);
    gemm(&place.machine, product).map_err(wrapped)?;
    Ok(Gradient::new(cast(&dx, dtype)?))
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
