//! Where tokens come in: embeddings and losses.

use candle_core::{D, DType, Result, Tensor, bail};
use forerunner_kernels::{self as kernels, HeadSizes, LossSizes};

use super::generic::scaled;
use super::memory::{cast, dense, empty, view, view_mut, wrapped};
use super::tape::{Gradient, step1};
use super::{Place, Traced, place};

/// Rows of a table; see [`crate::embedding`]. Every token, `u32`, is below the number of rows: the
/// caller has seen to that.
///
/// # Errors
///
/// When the table is no matrix.
pub fn embedding(table: &Traced, tokens: &Tensor) -> Result<Traced> {
    let place = place()?;
    let (rows, channels) = table.value().dims2()?;
    let tokens = dense(tokens)?;
    let values = table.in_bf16()?;
    let mut shape = tokens.dims().to_vec();
    shape.push(channels);
    let y = empty(&place, shape, DType::BF16)?;
    let sizes = (rows, channels);
    kernels::embedding_forward(
        &place.machine,
        sizes,
        &view(&values)?,
        &view(&tokens)?,
        &mut view_mut(&y)?,
    )
    .map_err(wrapped)?;
    let dtype = table.value().dtype();
    Ok(step1(&[table], y, move |dy| {
        let dy = dense(&cast(dy.tensor(), DType::BF16)?)?;
        let dtable = empty(&place, sizes, DType::F32)?;
        let (tokens, dy, mut to) = (view(&tokens)?, view(&dy)?, view_mut(&dtable)?);
        kernels::embedding_backward(&place.machine, sizes, &tokens, &dy, &mut to, false)
            .map_err(wrapped)?;
        Ok(vec![Some(Gradient::new(cast(&dtable, dtype)?))])
    }))
}

/// The mean loss of logits in nats; see [`crate::cross_entropy`]. Targets, `u32`, are below the
/// number of logits: the caller has seen to that.
///
/// # Errors
///
/// When the shapes do not fit.
pub fn cross_entropy(logits: &Traced, targets: &Tensor) -> Result<Traced> {
    let place = place()?;
    let Losses { values, targets, sizes, losses, log_sums } = losses(&place, logits, targets)?;
    let loss = empty(&place, (), DType::F32)?;
    kernels::sum(&place.machine, &view(&losses)?, &mut view_mut(&loss)?, 1.0 / sizes.rows as f32)
        .map_err(wrapped)?;
    let dtype = logits.value().dtype();
    Ok(step1(&[logits], loss, move |gradient| {
        let mean = (1.0 / sizes.rows as f64, 0.0);
        let scale = scaled(&place, &cast(gradient.tensor(), DType::F32)?, mean)?;
        let dlogits = empty(&place, values.shape(), DType::BF16)?;
        kernels::cross_entropy_backward(
            &place.machine,
            sizes,
            &view(&values)?,
            &view(&targets)?,
            &view(&log_sums)?,
            &view(&scale)?,
            &mut view_mut(&dlogits)?,
        )
        .map_err(wrapped)?;
        Ok(vec![Some(Gradient::new(cast(&dlogits, dtype)?))])
    }))
}

/// The loss of each row of logits in nats, `f32`, in the order of the targets; without gradients.
///
/// # Errors
///
/// When the shapes do not fit.
pub fn token_losses(logits: &Traced, targets: &Tensor) -> Result<Tensor> {
    Ok(losses(&place()?, logits, targets)?.losses)
}

/// The loss of each row, and what the way back needs.
struct Losses {
    values: Tensor,
    targets: Tensor,
    sizes: LossSizes,
    losses: Tensor,
    log_sums: Tensor,
}

fn losses(place: &Place, logits: &Traced, targets: &Tensor) -> Result<Losses> {
    let vocab = logits.value().dim(D::Minus1)?;
    let rows = targets.elem_count();
    if rows == 0 || logits.value().elem_count() != rows * vocab {
        let (logits, targets) = (logits.value().shape(), targets.shape());
        bail!("cross_entropy: logits {logits:?} do not fit targets {targets:?}");
    }
    let (values, targets) = (logits.in_bf16()?, dense(targets)?);
    let sizes = LossSizes { rows, vocab, row_stride: vocab };
    let losses = empty(place, rows, DType::F32)?;
    let log_sums = empty(place, rows, DType::F32)?;
    kernels::cross_entropy_forward(
        &place.machine,
        sizes,
        &view(&values)?,
        &view(&targets)?,
        &mut view_mut(&losses)?,
        &mut view_mut(&log_sums)?,
    )
    .map_err(wrapped)?;
    Ok(Losses { values, targets, sizes, losses, log_sums })
}

/// The mean loss of a classifier without its logits; see [`crate::head_loss`].
///
/// # Errors
///
/// When the shapes do not fit.
pub fn head_loss(hidden: &Traced, weight: &Traced, targets: &Tensor) -> Result<Traced> {
    capped_head_loss(hidden, weight, targets, None)
}

/// [`head_loss`] of the logits `cap · tanh(z / cap)`.
///
/// # Errors
///
/// When the shapes do not fit, or `cap` is not a positive number.
pub fn softcapped_head_loss(
    hidden: &Traced,
    weight: &Traced,
    targets: &Tensor,
    cap: f64,
) -> Result<Traced> {
    capped_head_loss(hidden, weight, targets, Some(cap))
}

fn capped_head_loss(
    hidden: &Traced,
    weight: &Traced,
    targets: &Tensor,
    cap: Option<f64>,
) -> Result<Traced> {
    const NAME: &str = "head_loss";
    let (vocab, channels) = weight.value().dims2()?;
    let rows = targets.elem_count();
    if rows == 0 || hidden.value().elem_count() != rows * channels {
        let (hidden, targets) = (hidden.value().shape(), targets.shape());
        bail!("{NAME}: hidden states {hidden:?} do not fit targets {targets:?}");
    }
    if let Some(cap) = cap
        && !(cap.is_finite() && cap > 0.0)
    {
        bail!("{NAME}: a cap of {cap} is not a positive number");
    }
    let place = place()?;
    let (values, weights) = (hidden.in_bf16()?, weight.in_bf16()?);
    let targets = dense(targets)?;
    let softcap = cap.map(|cap| cap as f32);
    let sizes = HeadSizes { softcap, ..HeadSizes::new(rows, channels, vocab) };
    let loss = empty(&place, (), DType::F32)?;
    let dhidden = empty(&place, values.shape(), DType::BF16)?;
    let dweight = empty(&place, (vocab, channels), DType::F32)?;
    kernels::head_loss(
        &place.machine,
        &sizes,
        &view(&values)?,
        &view(&weights)?,
        &view(&targets)?,
        &mut view_mut(&loss)?,
        &mut view_mut(&dhidden)?,
        &mut view_mut(&dweight)?,
    )
    .map_err(wrapped)?;
    let dtypes = (hidden.value().dtype(), weight.value().dtype());
    Ok(step1(&[hidden, weight], loss, move |gradient| {
        if !gradient.is_one() {
            let factor = cast(gradient.tensor(), DType::F32)?;
            for of in [&dhidden, &dweight] {
                kernels::scale_by(&place.machine, &mut view_mut(of)?, &view(&factor)?)
                    .map_err(wrapped)?;
            }
        }
        let (dhidden, dweight) = (cast(&dhidden, dtypes.0)?, cast(&dweight, dtypes.1)?);
        Ok(vec![Some(Gradient::new(dhidden)), Some(Gradient::new(dweight))])
    }))
}
