//! Tensors as a program sees them: differentiable operations, and no way to read values out.
//!
//! Why values cannot be read: at the budget of a small track, counting n-grams beats training a
//! network within a second, whatever the cap on carried parameters (docs/calibration-cpu-track.md
//! has the figures). So what a program learns from tokens passes through differentiable operations
//! only. A loss is shown to people by [`crate::Training::record`] and, coarsely, to the program by
//! [`crate::Training::recent_loss`].

use std::borrow::Borrow;
use std::cell::Cell;
use std::fmt;
use std::ops::{Add, Div, Mul, Sub};

#[cfg(feature = "device")]
use candle_core::DType;
use candle_core::{Device, Shape};

#[cfg(feature = "device")]
use forerunner_train_ops::{self as ops, device::Traced};

use crate::{Error, Gradients, Result};

/// Numbers in a rectangular shape; a clone shares them. On the CPU all are `f32`; on a GPU parameters,
/// their gradients and sums over many values are, and what flows between operations is `bf16`.
///
/// Arithmetic broadcasts: shapes are aligned at their last dimensions, and a dimension of size 1
/// is repeated. Every operation is differentiable.
#[derive(Clone)]
pub struct Tensor(Values);

/// On the CPU candle remembers how a tensor was made; on a device our own reverse pass does.
#[derive(Clone)]
enum Values {
    Plain(candle_core::Tensor),
    #[cfg(feature = "device")]
    Traced(Traced),
}

impl fmt::Debug for Tensor {
    /// Shows the shape only; values stay inside.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor{:?}", self.dims())
    }
}

impl Tensor {
    /// A result of the CPU's operations.
    pub(crate) fn plain(values: candle_core::Tensor) -> Self {
        Self(Values::Plain(values))
    }

    /// A result of a device's operations.
    #[cfg(feature = "device")]
    pub(crate) fn traced(values: Traced) -> Self {
        Self(Values::Traced(values))
    }

    /// The same values elsewhere, without a history.
    pub(crate) fn copy(&self) -> Result<Self> {
        #[cfg(feature = "device")]
        if let Values::Traced(traced) = &self.0 {
            return Ok(Self::traced(Traced::constant(&ops::device::copy_of(traced.value())?)));
        }
        Ok(Self::plain(self.values().detach().force_contiguous()?))
    }

    /// The values; without a history where a device made them.
    pub(crate) fn values(&self) -> &candle_core::Tensor {
        match &self.0 {
            Values::Plain(values) => values,
            #[cfg(feature = "device")]
            Values::Traced(traced) => traced.value(),
        }
    }

    /// The values with their history on a device.
    ///
    /// # Errors
    ///
    /// When the tensor was made before a device was chosen.
    #[cfg(feature = "device")]
    pub(crate) fn trace(&self) -> Result<&Traced> {
        match &self.0 {
            Values::Traced(traced) => Ok(traced),
            Values::Plain(_) => Err(Error::program("a tensor of the CPU among those of a device")),
        }
    }

    /// A differentiable function of this tensor.
    fn map(&self, function: impl Function1) -> Result<Self> {
        match &self.0 {
            Values::Plain(values) => Ok(Self::plain(function(values)?)),
            #[cfg(feature = "device")]
            Values::Traced(traced) => {
                Ok(Self::traced(ops::device::generic(&[traced], move |x| function(&x[0]))?))
            }
        }
    }

    /// A differentiable function of this tensor that adds many values up: in `f32` everywhere.
    fn reduce(&self, function: impl Function1) -> Result<Self> {
        match &self.0 {
            Values::Plain(values) => Ok(Self::plain(function(values)?)),
            #[cfg(feature = "device")]
            Values::Traced(_) => self.map(move |x| function(&x.to_dtype(DType::F32)?)),
        }
    }

    /// A differentiable function of two tensors.
    fn map2(&self, other: &Self, function: impl Function2) -> Result<Self> {
        #[cfg(feature = "device")]
        if let (Values::Traced(a), Values::Traced(b)) = (&self.0, &other.0) {
            // Single precision wins where precisions differ.
            let widened = move |x: &[candle_core::Tensor]| {
                if x[0].dtype() == x[1].dtype() {
                    return function(&x[0], &x[1]);
                }
                function(&x[0].to_dtype(DType::F32)?, &x[1].to_dtype(DType::F32)?)
            };
            return Ok(Self::traced(ops::device::generic(&[a, b], widened)?));
        }
        Ok(Self::plain(function(self.values(), other.values())?))
    }
}

/// What candle makes of one tensor.
trait Function1:
    Fn(&candle_core::Tensor) -> candle_core::Result<candle_core::Tensor> + Send + Sync + 'static
{
}

impl<F> Function1 for F where
    F: Fn(&candle_core::Tensor) -> candle_core::Result<candle_core::Tensor> + Send + Sync + 'static
{
}

/// What candle makes of two tensors.
trait Function2:
    Fn(&candle_core::Tensor, &candle_core::Tensor) -> candle_core::Result<candle_core::Tensor>
    + Send
    + Sync
    + 'static
{
}

impl<F> Function2 for F where
    F: Fn(&candle_core::Tensor, &candle_core::Tensor) -> candle_core::Result<candle_core::Tensor>
        + Send
        + Sync
        + 'static
{
}

/// Most values that a shape may stand for. Two of them multiplied still fit a `usize`, and so does
/// what any operation makes of two tensors.
const MOST_VALUES: usize = 1 << 31;

/// A shape whose values can be counted. Below us their number wraps at 2⁶⁴, and a tensor of 2⁶⁴ + 16
/// values would be one of 16 that reaches far beyond them.
pub(crate) fn countable(shape: impl Into<Shape>) -> Result<Shape> {
    let shape = shape.into();
    let count = shape.dims().iter().try_fold(1_usize, |count, &size| count.checked_mul(size));
    match count {
        Some(count) if count <= MOST_VALUES => Ok(shape),
        _ => Err(Error::program(format!(
            "the shape {:?} has more than {MOST_VALUES} values",
            shape.dims()
        ))),
    }
}

/// # Making
impl Tensor {
    /// A tensor of the given values, row by row.
    ///
    /// # Errors
    ///
    /// When shape and number of values disagree.
    pub fn from_vec(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Self> {
        let values = candle_core::Tensor::from_vec(values, countable(shape)?, &Device::Cpu)?;
        #[cfg(feature = "device")]
        if let Some(device) = crate::device::current() {
            ops::device::refuse_while_capturing("Tensor::from_vec")?;
            return Ok(Self::traced(Traced::constant(&values.to_device(&device)?)));
        }
        Ok(Self::plain(values))
    }

    /// A tensor that holds one value everywhere.
    ///
    /// # Errors
    ///
    /// When the tensor cannot be allocated.
    pub fn full(value: f64, shape: impl Into<Shape>) -> Result<Self> {
        let shape = countable(shape)?;
        #[cfg(feature = "device")]
        if crate::device::current().is_some() {
            return Ok(Self::traced(Traced::constant(&ops::device::full(shape, value)?)));
        }
        Ok(Self::plain(candle_core::Tensor::full(value as f32, shape, &Device::Cpu)?))
    }

    /// A tensor of zeros.
    ///
    /// # Errors
    ///
    /// When the tensor cannot be allocated.
    pub fn zeros(shape: impl Into<Shape>) -> Result<Self> {
        Self::full(0.0, shape)
    }

    /// A tensor of ones.
    ///
    /// # Errors
    ///
    /// When the tensor cannot be allocated.
    pub fn ones(shape: impl Into<Shape>) -> Result<Self> {
        Self::full(1.0, shape)
    }

    /// Tensors one after the other along a dimension in which alone they may differ.
    ///
    /// # Errors
    ///
    /// When their other dimensions differ.
    pub fn cat(tensors: &[Self], dim: usize) -> Result<Self> {
        #[cfg(feature = "device")]
        if crate::device::current().is_some() {
            let traced: Vec<&Traced> = tensors.iter().map(Self::trace).collect::<Result<_>>()?;
            let joined = move |x: &[candle_core::Tensor]| {
                let same = x.iter().all(|one| one.dtype() == x[0].dtype());
                let dtype = if same { x[0].dtype() } else { DType::F32 };
                let x: candle_core::Result<Vec<_>> =
                    x.iter().map(|one| one.to_dtype(dtype)).collect();
                let x = x?;
                candle_core::Tensor::cat(&x, dim)
            };
            return Ok(Self::traced(ops::device::generic(&traced, joined)?));
        }
        let inner: Vec<&candle_core::Tensor> = tensors.iter().map(Self::values).collect();
        Ok(Self::plain(candle_core::Tensor::cat(&inner, dim)?))
    }
}

/// # Shape
impl Tensor {
    /// Size of every dimension.
    pub fn dims(&self) -> &[usize] {
        self.values().dims()
    }

    /// Size of a dimension.
    ///
    /// # Errors
    ///
    /// When there are fewer dimensions.
    pub fn dim(&self, dim: usize) -> Result<usize> {
        Ok(self.values().dim(dim)?)
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.values().rank()
    }

    /// Number of values.
    pub fn count(&self) -> usize {
        self.values().elem_count()
    }

    /// The same values in another shape.
    ///
    /// # Errors
    ///
    /// When the number of values differs.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = countable(shape)?;
        self.map(move |x| x.reshape(&shape))
    }

    /// Two dimensions exchanged.
    ///
    /// # Errors
    ///
    /// When there are fewer dimensions.
    pub fn transpose(&self, dim1: usize, dim2: usize) -> Result<Self> {
        self.map(move |x| x.transpose(dim1, dim2))
    }

    /// Positions `start..start + length` of a dimension.
    ///
    /// # Errors
    ///
    /// When they reach beyond it.
    pub fn narrow(&self, dim: usize, start: usize, length: usize) -> Result<Self> {
        self.map(move |x| x.narrow(dim, start, length))
    }

    /// Repeated to a larger shape, as arithmetic does.
    ///
    /// # Errors
    ///
    /// When the shapes do not fit.
    pub fn broadcast_as(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = countable(shape)?;
        self.map(move |x| x.broadcast_as(&shape))
    }

    /// The same values without their history: gradients do not pass.
    pub fn detach(&self) -> Self {
        match &self.0 {
            Values::Plain(values) => Self::plain(values.detach()),
            #[cfg(feature = "device")]
            Values::Traced(traced) => Self::traced(traced.detach()),
        }
    }
}

/// Functions of each value alone.
macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident => $candle:ident;)+) => {
        /// # Functions of each value
        impl Tensor {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                ///
                /// When the tensor cannot be allocated.
                pub fn $name(&self) -> Result<Self> {
                    self.map(candle_core::Tensor::$candle)
                }
            )+
        }
    };
}

unary! {
    /// The negative.
    neg => neg;
    /// The absolute value.
    abs => abs;
    /// `e^x`.
    exp => exp;
    /// The natural logarithm.
    ln => log;
    /// The square.
    sqr => sqr;
    /// The square root.
    sqrt => sqrt;
    /// `1 / x`.
    recip => recip;
    /// The sine.
    sin => sin;
    /// The cosine.
    cos => cos;
    /// The hyperbolic tangent.
    tanh => tanh;
    /// `max(x, 0)`.
    relu => relu;
    /// `x / (1 + e^-x)`.
    silu => silu;
}

/// # Products, sums and comparisons
impl Tensor {
    /// The matrix product over the last two dimensions; leading ones broadcast.
    ///
    /// # Errors
    ///
    /// When the shapes do not fit.
    pub fn matmul(&self, other: &Self) -> Result<Self> {
        self.map2(other, |a, b| a.contiguous()?.broadcast_matmul(&b.contiguous()?))
    }

    /// `x^exponent`.
    ///
    /// # Errors
    ///
    /// When the tensor cannot be allocated.
    pub fn powf(&self, exponent: f64) -> Result<Self> {
        #[cfg(feature = "device")]
        ops::device::note_numbers("powf", [exponent.to_bits()]);
        self.map(move |x| x.powf(exponent))
    }

    /// The larger of each two values, with broadcasting.
    ///
    /// # Errors
    ///
    /// When the shapes do not fit.
    pub fn maximum(&self, other: &Self) -> Result<Self> {
        self.map2(other, candle_core::Tensor::broadcast_maximum)
    }

    /// The smaller of each two values, with broadcasting.
    ///
    /// # Errors
    ///
    /// When the shapes do not fit.
    pub fn minimum(&self, other: &Self) -> Result<Self> {
        self.map2(other, candle_core::Tensor::broadcast_minimum)
    }

    /// Sum of all values, a scalar.
    ///
    /// # Errors
    ///
    /// When the tensor cannot be allocated.
    pub fn sum_all(&self) -> Result<Self> {
        self.reduce(candle_core::Tensor::sum_all)
    }

    /// Mean of all values, a scalar.
    ///
    /// # Errors
    ///
    /// When the tensor cannot be allocated.
    pub fn mean_all(&self) -> Result<Self> {
        self.reduce(candle_core::Tensor::mean_all)
    }

    /// Sum over a dimension, which is kept with size 1.
    ///
    /// # Errors
    ///
    /// When there are fewer dimensions.
    pub fn sum(&self, dim: usize) -> Result<Self> {
        self.reduce(move |x| x.sum_keepdim(dim))
    }

    /// Mean over a dimension, which is kept with size 1.
    ///
    /// # Errors
    ///
    /// When there are fewer dimensions.
    pub fn mean(&self, dim: usize) -> Result<Self> {
        self.reduce(move |x| x.mean_keepdim(dim))
    }

    /// Largest value over a dimension, which is kept with size 1.
    ///
    /// # Errors
    ///
    /// When there are fewer dimensions.
    pub fn max(&self, dim: usize) -> Result<Self> {
        self.reduce(move |x| x.max_keepdim(dim))
    }

    /// Shares over a dimension: `e^x / Σ e^x`.
    ///
    /// # Errors
    ///
    /// When there are fewer dimensions.
    pub fn softmax(&self, dim: usize) -> Result<Self> {
        #[cfg(feature = "device")]
        ops::device::note_numbers("softmax", [dim as u64]);
        self.reduce(move |x| {
            let shares = x.broadcast_sub(&x.max_keepdim(dim)?.detach())?.exp()?;
            shares.broadcast_div(&shares.sum_keepdim(dim)?)
        })
    }

    /// Gradients of this scalar with respect to every variable it depends on.
    ///
    /// # Errors
    ///
    /// When an operation cannot be differentiated, or ran backward before.
    pub fn backward(&self) -> Result<Gradients> {
        N_BACKWARD.set(N_BACKWARD.get() + 1);
        Ok(match &self.0 {
            Values::Plain(values) => Gradients::plain(values.backward()?),
            #[cfg(feature = "device")]
            Values::Traced(traced) => Gradients::traced(traced.backward()?),
        })
    }
}

thread_local! {
    static N_BACKWARD: Cell<u64> = const { Cell::new(0) };
}

/// How often gradients were computed on this thread.
pub(crate) fn n_backward() -> u64 {
    N_BACKWARD.get()
}

/// Says how often gradients were computed, where that was not by calls.
#[cfg(feature = "device")]
pub(crate) fn set_backward(n: u64) {
    N_BACKWARD.set(n);
}

/// Operators on tensors and on a tensor and a number.
macro_rules! operator {
    ($trait:ident, $function:ident, $broadcast:ident) => {
        impl<B: Borrow<Tensor>> $trait<B> for &Tensor {
            type Output = Result<Tensor>;

            fn $function(self, other: B) -> Result<Tensor> {
                let other = other.borrow();
                #[cfg(feature = "device")]
                if let Some(sum) = sum_on_device(stringify!($function), self, other)? {
                    return Ok(sum);
                }
                self.map2(other, |a, b| {
                    if a.shape() == b.shape() { $trait::$function(a, b) } else { a.$broadcast(b) }
                })
            }
        }

        impl<B: Borrow<Tensor>> $trait<B> for Tensor {
            type Output = Result<Tensor>;

            fn $function(self, other: B) -> Result<Tensor> {
                $trait::$function(&self, other)
            }
        }

        impl $trait<f64> for &Tensor {
            type Output = Result<Tensor>;

            fn $function(self, other: f64) -> Result<Tensor> {
                #[cfg(feature = "device")]
                if let Values::Traced(x) = &self.0 {
                    let (factor, offset) = line(stringify!($function), other);
                    return Ok(Tensor::traced(ops::device::affine(x, factor, offset)?));
                }
                self.map(move |x| $trait::$function(x, other))
            }
        }

        impl $trait<f64> for Tensor {
            type Output = Result<Tensor>;

            fn $function(self, other: f64) -> Result<Tensor> {
                $trait::$function(&self, other)
            }
        }
    };
}

/// The sum of tensors of one shape: what residual streams are made of, whose gradient is passed on as
/// it is.
#[cfg(feature = "device")]
fn sum_on_device(operator: &str, a: &Tensor, b: &Tensor) -> Result<Option<Tensor>> {
    match (&a.0, &b.0) {
        (Values::Traced(a), Values::Traced(b))
            if operator == "add" && a.value().dims() == b.value().dims() =>
        {
            Ok(Some(Tensor::traced(ops::device::add(a, b)?)))
        }
        _ => Ok(None),
    }
}

/// Factor and offset that an operator with a number stands for.
#[cfg(feature = "device")]
fn line(operator: &str, number: f64) -> (f64, f64) {
    match operator {
        "add" => (1.0, number),
        "sub" => (1.0, -number),
        "mul" => (number, 0.0),
        "div" => (1.0 / number, 0.0),
        other => unreachable!("{other} is no operator"),
    }
}

operator!(Add, add, broadcast_add);
operator!(Sub, sub, broadcast_sub);
operator!(Mul, mul, broadcast_mul);
operator!(Div, div, broadcast_div);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_shape_reaches_beyond_its_values() {
        let wrapped = ((1_usize << 60) + 1, 16);
        let values = Tensor::ones(16).unwrap();
        for result in [
            Tensor::from_vec(vec![1.0; 16], wrapped),
            Tensor::zeros(wrapped),
            Tensor::ones((1_usize << 63, 2)),
            Tensor::full(1.0, usize::MAX),
            values.reshape(wrapped),
            values.broadcast_as(wrapped),
        ] {
            let error = result.unwrap_err().to_string();
            assert!(error.contains("has more than 2147483648 values"), "{error}");
        }
        assert_eq!(values.reshape((4, 4)).unwrap().dims(), [4, 4]);
        assert_eq!(Tensor::zeros((0, 16)).unwrap().count(), 0);
    }
}
