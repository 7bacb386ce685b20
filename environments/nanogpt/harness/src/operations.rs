//! The fused operations of `forerunner-train-ops` on a program's tensors and tokens.

use forerunner_train_ops as ops;
pub use ops::AdamW;

use crate::{Error, Result, Tensor, Tokens, Var};

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

/// Softmax attention in which each position sees itself and earlier ones: `qkv` is `[B, T, 3C]`,
/// queries, keys and values side by side; the result is `[B, T, C]`.
///
/// # Errors
///
/// When the channels do not split evenly.
pub fn causal_attention(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    Ok(Tensor(ops::causal_attention(&qkv.0, heads)?))
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

/// Running means of a parameter's gradient and of its square, for [`adamw`].
pub struct Moments(ops::Moments);

impl Moments {
    /// Zero moments for a parameter.
    pub fn zeros_like(parameter: &Tensor) -> Self {
        Self(ops::Moments::zeros_like(&parameter.0))
    }
}

/// One AdamW step on `parameter`, in place; `scale` is a scalar factor on the gradient.
///
/// # Errors
///
/// When the shapes do not fit.
pub fn adamw(
    parameter: &Var,
    gradient: &Tensor,
    scale: &Tensor,
    moments: &mut Moments,
    settings: &AdamW,
) -> Result<()> {
    Ok(ops::adamw(&parameter.inner, &gradient.0, &scale.0, &mut moments.0, settings)?)
}

/// Whether an error comes must not depend on the tokens themselves, or it would tell about them.
fn check_bound(rows: usize, tokens: &Tokens) -> Result<()> {
    let bound = tokens.bound();
    if rows < bound {
        return Err(Error::program(format!("{rows} rows are too few for tokens below {bound}")));
    }
    Ok(())
}
