//! The fused operations of `forerunner-train-ops` on a program's tensors and tokens.

use forerunner_train_ops as ops;

use crate::{Error, Result, Tensor, Tokens};

/// `x wᵀ + b`: `x` is `[…, in]`, `weight` is `[out, in]`, `bias` is `[out]`.
///
/// # Errors
///
/// When the shapes do not fit.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    Ok(Tensor(ops::linear(&x.0, &weight.0, &bias.0)?))
}

/// `x wᵀ`: `x` is `[…, in]`, `weight` is `[out, in]`. With a token table as weight, a tied head.
///
/// # Errors
///
/// When the shapes do not fit.
pub fn linear_no_bias(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    Ok(Tensor(ops::linear_no_bias(&x.0, &weight.0)?))
}

/// Normalisation over the last dimension, then a gain and a bias: `x` is `[…, C]`, both `[C]`.
///
/// # Errors
///
/// When the shapes do not fit.
pub fn layer_norm(x: &Tensor, gain: &Tensor, bias: &Tensor, epsilon: f32) -> Result<Tensor> {
    Ok(Tensor(ops::layer_norm(&x.0, &gain.0, &bias.0, epsilon)?))
}

/// The Gaussian error linear unit in its tanh form, value by value.
///
/// # Errors
///
/// When the tensor cannot be allocated.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    Ok(Tensor(ops::gelu(&x.0)?))
}

/// Division by the root mean square over the last dimension, then a gain: `x` is `[…, C]`, `gain` is
/// `[C]` (Zhang and Sennrich 2019).
///
/// # Errors
///
/// When the shapes do not fit.
pub fn rms_norm(x: &Tensor, gain: &Tensor, epsilon: f32) -> Result<Tensor> {
    Ok(Tensor(ops::rms_norm(&x.0, &gain.0, epsilon)?))
}

/// [`rms_norm`] without a gain.
///
/// # Errors
///
/// When the last dimension is empty.
pub fn rms_norm_plain(x: &Tensor, epsilon: f32) -> Result<Tensor> {
    Ok(Tensor(ops::rms_norm_plain(&x.0, epsilon)?))
}

/// `max(x, 0)²`, value by value (So et al. 2021).
///
/// # Errors
///
/// When the tensor cannot be allocated.
pub fn relu_squared(x: &Tensor) -> Result<Tensor> {
    Ok(Tensor(ops::relu_squared(&x.0)?))
}

/// `silu(a) · b` of the halves `a` and `b` of the last dimension: `[…, 2H] -> […, H]` (Shazeer 2020).
///
/// # Errors
///
/// When the last dimension has no halves.
pub fn swiglu(x: &Tensor) -> Result<Tensor> {
    Ok(Tensor(ops::swiglu(&x.0)?))
}

/// `cap · tanh(x / cap)`, value by value, which never goes beyond `cap`.
///
/// # Errors
///
/// When `cap` is not a positive number.
pub fn softcap(x: &Tensor, cap: f64) -> Result<Tensor> {
    Ok(Tensor(ops::softcap(&x.0, cap)?))
}

/// Softmax attention in which each position sees itself and earlier ones: `qkv` is `[B, T, 3C]`,
/// queries, keys and values side by side; the result is `[B, T, C]`.
///
/// # Errors
///
/// When the channels do not split evenly.
pub fn causal_attention(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    Ok(Tensor(ops::causal_attention(&qkv.0, heads)?))
}

/// [`causal_attention`] in which each position sees itself and the `window - 1` before it.
///
/// # Errors
///
/// When the channels do not split evenly, or `window` is zero.
pub fn windowed_attention(qkv: &Tensor, heads: usize, window: usize) -> Result<Tensor> {
    Ok(Tensor(ops::windowed_attention(&qkv.0, heads, window)?))
}

/// Rotary position codes: turns the queries and keys of `qkv`, `[B, T, 3C]`, by angles that grow
/// with the position; values stay (Su et al. 2021). Of the `D` channels of a head, `i` and `i + D/2`
/// form a pair, which turns by `base^(-2i/D)` from one position to the next.
///
/// # Errors
///
/// When the channels do not split into heads of even width, or `base` is not a positive number.
pub fn rotary(qkv: &Tensor, heads: usize, base: f64) -> Result<Tensor> {
    Ok(Tensor(ops::rotary(&qkv.0, heads, base)?))
}

/// Divides every head's query and key in `qkv`, `[B, T, 3C]`, by its root mean square, and
/// multiplies queries by `scale`; values stay (Henry et al. 2020).
///
/// # Errors
///
/// When the channels do not split evenly.
pub fn qk_norm(qkv: &Tensor, heads: usize, scale: f64) -> Result<Tensor> {
    Ok(Tensor(ops::qk_norm(&qkv.0, heads, scale)?))
}

/// The rows of `table`, `[V, C]`, that the tokens name: `[B, T, C]`.
///
/// # Errors
///
/// When the table has fewer rows than the tokens' bound.
pub fn embedding(table: &Tensor, tokens: &Tokens) -> Result<Tensor> {
    check_bound(table.dim(0)?, tokens)?;
    Ok(Tensor(ops::embedding(&table.0, &tokens.ids)?))
}

/// Mean of `-ln softmax(logits)[target]` in nats: `logits` is `[B, T, V]`; a scalar.
///
/// # Errors
///
/// When the shapes do not fit, or `V` is less than the tokens' bound.
pub fn cross_entropy(logits: &Tensor, targets: &Tokens) -> Result<Tensor> {
    check_bound(logits.dim(logits.rank().saturating_sub(1))?, targets)?;
    Ok(Tensor(ops::cross_entropy(&logits.0, &targets.ids)?))
}

/// [`cross_entropy`] of `hidden weightᵀ` without storing all logits, for large vocabularies:
/// `hidden` is `[B, T, C]`, `weight` is `[V, C]`.
///
/// # Errors
///
/// When the shapes do not fit, or `V` is less than the tokens' bound.
pub fn head_loss(hidden: &Tensor, weight: &Tensor, targets: &Tokens) -> Result<Tensor> {
    check_bound(weight.dim(0)?, targets)?;
    Ok(Tensor(ops::head_loss(&hidden.0, &weight.0, &targets.ids)?))
}

/// Sum of the squares of all values, a scalar.
///
/// # Errors
///
/// When the tensor cannot be allocated.
pub fn sum_of_squares(x: &Tensor) -> Result<Tensor> {
    Ok(Tensor(ops::sum_of_squares(&x.0)?))
}

/// Whether an error comes must not depend on the tokens themselves, or it would tell about them.
fn check_bound(rows: usize, tokens: &Tokens) -> Result<()> {
    let bound = tokens.bound();
    if rows < bound {
        return Err(Error::program(format!("{rows} rows are too few for tokens below {bound}")));
    }
    Ok(())
}
