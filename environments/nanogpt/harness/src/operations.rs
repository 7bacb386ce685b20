//! The fused operations of `forerunner-train-ops` on a program's tensors and tokens.

use forerunner_train_ops as ops;

use crate::{Error, Result, Tensor, Tokens};

/// One operation on tensors, and what comes after them: on the device if one was chosen, else on the
/// CPU.
macro_rules! on {
    ($name:ident($($tensor:ident),+ $(; $($more:expr),+)?)) => {{
        #[cfg(feature = "device")]
        if crate::device::current().is_some() {
            let result = ops::device::$name($($tensor.trace()?),+ $(, $($more),+)?)?;
            return Ok(Tensor::traced(result));
        }
        Ok(Tensor::plain(ops::$name($($tensor.values()),+ $(, $($more),+)?)?))
    }};
}

/// `x wᵀ + b`: `x` is `[…, in]`, `weight` is `[out, in]`, `bias` is `[out]`.
///
/// # Errors
///
/// When the shapes do not fit.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    on!(linear(x, weight, bias))
}

/// `x wᵀ`: `x` is `[…, in]`, `weight` is `[out, in]`. With a token table as weight, a tied head.
///
/// # Errors
///
/// When the shapes do not fit.
pub fn linear_no_bias(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    on!(linear_no_bias(x, weight))
}

/// Normalisation over the last dimension, then a gain and a bias: `x` is `[…, C]`, both `[C]`.
///
/// # Errors
///
/// When the shapes do not fit.
pub fn layer_norm(x: &Tensor, gain: &Tensor, bias: &Tensor, epsilon: f32) -> Result<Tensor> {
    on!(layer_norm(x, gain, bias; epsilon))
}

/// The Gaussian error linear unit in its tanh form, value by value.
///
/// # Errors
///
/// When the tensor cannot be allocated.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    on!(gelu(x))
}

/// Division by the root mean square over the last dimension, then a gain: `x` is `[…, C]`, `gain` is
/// `[C]` (Zhang and Sennrich 2019).
///
/// # Errors
///
/// When the shapes do not fit.
pub fn rms_norm(x: &Tensor, gain: &Tensor, epsilon: f32) -> Result<Tensor> {
    on!(rms_norm(x, gain; epsilon))
}

/// [`rms_norm`] without a gain.
///
/// # Errors
///
/// When the last dimension is empty.
pub fn rms_norm_plain(x: &Tensor, epsilon: f32) -> Result<Tensor> {
    on!(rms_norm_plain(x; epsilon))
}

/// `max(x, 0)²`, value by value (So et al. 2021).
///
/// # Errors
///
/// When the tensor cannot be allocated.
pub fn relu_squared(x: &Tensor) -> Result<Tensor> {
    on!(relu_squared(x))
}

/// `silu(a) · b` of the halves `a` and `b` of the last dimension: `[…, 2H] -> […, H]` (Shazeer 2020).
///
/// # Errors
///
/// When the last dimension has no halves.
pub fn swiglu(x: &Tensor) -> Result<Tensor> {
    on!(swiglu(x))
}

/// `cap · tanh(x / cap)`, value by value, which never goes beyond `cap`.
///
/// # Errors
///
/// When `cap` is not a positive number.
pub fn softcap(x: &Tensor, cap: f64) -> Result<Tensor> {
    on!(softcap(x; cap))
}

/// Softmax attention in which each position sees itself and earlier ones: `qkv` is `[B, T, 3C]`,
/// queries, keys and values side by side; the result is `[B, T, C]`.
///
/// # Errors
///
/// When the channels do not split evenly.
pub fn causal_attention(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    on!(causal_attention(qkv; heads))
}

/// [`causal_attention`] in which each position sees itself and the `window - 1` before it.
///
/// # Errors
///
/// When the channels do not split evenly, or `window` is zero.
pub fn windowed_attention(qkv: &Tensor, heads: usize, window: usize) -> Result<Tensor> {
    on!(windowed_attention(qkv; heads, window))
}

/// Rotary position codes: turns the queries and keys of `qkv`, `[B, T, 3C]`, by angles that grow
/// with the position; values stay (Su et al. 2021). Of the `D` channels of a head, `i` and `i + D/2`
/// form a pair, which turns by `base^(-2i/D)` from one position to the next.
///
/// # Errors
///
/// When the channels do not split into heads of even width, or `base` is not a positive number.
pub fn rotary(qkv: &Tensor, heads: usize, base: f64) -> Result<Tensor> {
    on!(rotary(qkv; heads, base))
}

/// Divides every head's query and key in `qkv`, `[B, T, 3C]`, by its root mean square, and
/// multiplies queries by `scale`; values stay (Henry et al. 2020).
///
/// # Errors
///
/// When the channels do not split evenly.
pub fn qk_norm(qkv: &Tensor, heads: usize, scale: f64) -> Result<Tensor> {
    on!(qk_norm(qkv; heads, scale))
}

/// The rows of `table`, `[V, C]`, that the tokens name: `[B, T, C]`.
///
/// # Errors
///
/// When the table has fewer rows than the tokens' bound.
pub fn embedding(table: &Tensor, tokens: &Tokens) -> Result<Tensor> {
    check_bound(table.dim(0)?, tokens)?;
    on!(embedding(table; &tokens.ids))
}

/// Mean of `-ln softmax(logits)[target]` in nats: `logits` is `[B, T, V]`; a scalar.
///
/// # Errors
///
/// When the shapes do not fit, or `V` is less than the tokens' bound.
pub fn cross_entropy(logits: &Tensor, targets: &Tokens) -> Result<Tensor> {
    check_bound(logits.dim(logits.rank().saturating_sub(1))?, targets)?;
    on!(cross_entropy(logits; &targets.ids))
}

/// [`cross_entropy`] of `hidden weightᵀ` without storing all logits, for large vocabularies:
/// `hidden` is `[B, T, C]`, `weight` is `[V, C]`.
///
/// # Errors
///
/// When the shapes do not fit, or `V` is less than the tokens' bound.
pub fn head_loss(hidden: &Tensor, weight: &Tensor, targets: &Tokens) -> Result<Tensor> {
    check_bound(weight.dim(0)?, targets)?;
    on!(head_loss(hidden, weight; &targets.ids))
}

/// [`head_loss`] of the logits `cap · tanh(z / cap)`, which never go beyond `cap`.
///
/// # Errors
///
/// As for [`head_loss`], or when `cap` is not a positive number.
pub fn softcapped_head_loss(
    hidden: &Tensor,
    weight: &Tensor,
    targets: &Tokens,
    cap: f64,
) -> Result<Tensor> {
    check_bound(weight.dim(0)?, targets)?;
    #[cfg(feature = "device")]
    if crate::device::current().is_some() {
        let (hidden, weight) = (hidden.trace()?, weight.trace()?);
        let loss = ops::device::softcapped_head_loss(hidden, weight, &targets.ids, cap)?;
        return Ok(Tensor::traced(loss));
    }
    cross_entropy(&softcap(&linear_no_bias(hidden, weight)?, cap)?, targets)
}

/// The sum of a stream and what a layer adds to it, and the [`layer_norm`] of that sum: on a GPU in
/// one pass.
///
/// # Errors
///
/// When the shapes do not fit.
pub fn residual_layer_norm(
    stream: &Tensor,
    added: &Tensor,
    gain: &Tensor,
    bias: &Tensor,
    epsilon: f32,
) -> Result<(Tensor, Tensor)> {
    #[cfg(feature = "device")]
    if crate::device::current().is_some() {
        let (stream, added) = (stream.trace()?, added.trace()?);
        let (gain, bias) = (gain.trace()?, bias.trace()?);
        let (sum, y) = ops::device::residual_layer_norm(stream, added, gain, bias, epsilon)?;
        return Ok((Tensor::traced(sum), Tensor::traced(y)));
    }
    let sum = (stream + added)?;
    let y = layer_norm(&sum, gain, bias, epsilon)?;
    Ok((sum, y))
}

/// The sum of a stream and what a layer adds to it, and the [`rms_norm_plain`] of that sum: on a GPU
/// in one pass.
///
/// # Errors
///
/// When the shapes do not fit.
pub fn residual_rms_norm(
    stream: &Tensor,
    added: &Tensor,
    epsilon: f32,
) -> Result<(Tensor, Tensor)> {
    #[cfg(feature = "device")]
    if crate::device::current().is_some() {
        let (stream, added) = (stream.trace()?, added.trace()?);
        let (sum, y) = ops::device::residual_rms_norm(stream, added, epsilon)?;
        return Ok((Tensor::traced(sum), Tensor::traced(y)));
    }
    let sum = (stream + added)?;
    let y = rms_norm_plain(&sum, epsilon)?;
    Ok((sum, y))
}

/// [`gelu`] of [`linear`]: on a GPU the matrix product writes both.
///
/// # Errors
///
/// When the shapes do not fit.
pub fn linear_gelu(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "device")]
    if crate::device::current().is_some() {
        let (x, weight, bias) = (x.trace()?, weight.trace()?, bias.trace()?);
        return Ok(Tensor::traced(ops::device::linear_gelu(x, weight, bias)?));
    }
    gelu(&linear(x, weight, bias)?)
}

/// Sum of the squares of all values, a scalar.
///
/// # Errors
///
/// When the tensor cannot be allocated.
pub fn sum_of_squares(x: &Tensor) -> Result<Tensor> {
    on!(sum_of_squares(x))
}

/// [`sum_of_squares`] of all tensors together, without gradients: the square of the norm of all
/// gradients, which clipping needs. On a GPU one kernel.
///
/// # Errors
///
/// When a tensor cannot be allocated.
pub fn sum_of_squares_all(tensors: &[Tensor]) -> Result<Tensor> {
    #[cfg(feature = "device")]
    if crate::device::current().is_some() {
        let traced: Vec<_> = tensors.iter().map(Tensor::trace).collect::<Result<_>>()?;
        return Ok(Tensor::traced(ops::device::sum_of_squares_all(&traced)?));
    }
    let mut sum = Tensor::zeros(())?;
    for tensor in tensors {
        sum = (sum + sum_of_squares(&tensor.detach())?)?;
    }
    Ok(sum)
}

/// Whether an error comes must not depend on the tokens themselves, or it would tell about them.
fn check_bound(rows: usize, tokens: &Tokens) -> Result<()> {
    let bound = tokens.bound();
    if rows < bound {
        return Err(Error::program(format!("{rows} rows are too few for tokens below {bound}")));
    }
    Ok(())
}
