//! Operations on packed queries, keys and values.

use candle_core::{DType, Device, Result, Tensor, bail};
use forerunner_kernels::{self as kernels, AttentionSizes, QkSizes, RotarySizes};

use super::memory::{cast, dense, empty, view, view_mut, wrapped};
use super::tape::{Gradient, step1};
use super::{Place, Traced, place};
use crate::heads::head_width;

/// Softmax attention in which each position sees itself and earlier ones; see
/// [`crate::causal_attention`]. Probabilities are formed again on the way back, not kept.
///
/// # Errors
///
/// When the channels do not split into heads.
pub fn causal_attention(qkv: &Traced, heads: usize) -> Result<Traced> {
    attention("causal_attention", qkv, heads, usize::MAX)
}

/// [`causal_attention`] in which each position sees itself and the `window - 1` before it.
///
/// # Errors
///
/// When `window` is zero or the channels do not split into heads.
pub fn windowed_attention(qkv: &Traced, heads: usize, window: usize) -> Result<Traced> {
    const NAME: &str = "windowed_attention";
    if window == 0 {
        bail!("{NAME}: in a window of 0 a position does not even see itself");
    }
    attention(NAME, qkv, heads, window)
}

fn attention(name: &'static str, qkv: &Traced, heads: usize, window: usize) -> Result<Traced> {
    let head_width = head_width(name, qkv.value(), heads)?;
    let place = place()?;
    let values = qkv.in_bf16()?;
    let (batch, length, packed) = values.dims3()?;
    let sizes = AttentionSizes { batch, length, heads, head_width, window };
    let y = empty(&place, (batch, length, packed / 3), DType::BF16)?;
    let log_sums = empty(&place, (batch, heads, length), DType::F32)?;
    kernels::attention_forward(
        &place.machine,
        sizes,
        &view(&values)?,
        &mut view_mut(&y)?,
        &mut view_mut(&log_sums)?,
    )
    .map_err(wrapped)?;
    // Two products forward, five on the way back, over the keys that positions see.
    let seen_keys: usize = (1..=length).map(|position| position.min(window)).sum();
    let product = 2 * batch * heads * head_width * seen_keys;
    place.machine.count_flops(2 * product as u64);
    let (seen, dtype) = (y.clone(), qkv.value().dtype());
    Ok(step1(&[qkv], y, move |dy| {
        place.machine.count_flops(5 * product as u64);
        let dy = in_bf16(dy)?;
        let dqkv = empty(&place, values.shape(), DType::BF16)?;
        kernels::attention_backward(
            &place.machine,
            sizes,
            &view(&values)?,
            &view(&seen)?,
            &view(&log_sums)?,
            &view(&dy)?,
            &mut view_mut(&dqkv)?,
        )
        .map_err(wrapped)?;
        found(&dqkv, dtype)
    }))
}

/// Queries and keys of fixed length; see [`crate::qk_norm`].
///
/// # Errors
///
/// When the channels do not split into heads.
pub fn qk_norm(qkv: &Traced, heads: usize, scale: f64) -> Result<Traced> {
    let head_width = head_width("qk_norm", qkv.value(), heads)?;
    let place = place()?;
    let values = qkv.in_bf16()?;
    let (batch, length, _) = values.dims3()?;
    let sizes = QkSizes { rows: batch * length, heads, head_width };
    let y = empty(&place, values.shape(), DType::BF16)?;
    let scales = empty(&place, (batch * length, 2 * heads), DType::F32)?;
    let scale = scale as f32;
    kernels::qk_norm_forward(
        &place.machine,
        sizes,
        scale,
        &view(&values)?,
        &mut view_mut(&y)?,
        &mut view_mut(&scales)?,
    )
    .map_err(wrapped)?;
    let dtype = qkv.value().dtype();
    Ok(step1(&[qkv], y, move |dy| {
        let dy = in_bf16(dy)?;
        let dqkv = empty(&place, values.shape(), DType::BF16)?;
        kernels::qk_norm_backward(
            &place.machine,
            sizes,
            scale,
            &view(&values)?,
            &view(&scales)?,
            &view(&dy)?,
            &mut view_mut(&dqkv)?,
        )
        .map_err(wrapped)?;
        found(&dqkv, dtype)
    }))
}

/// Rotary position codes; see [`crate::rotary`].
///
/// # Errors
///
/// When the channels do not split into heads of even width, or `base` is not a positive number.
pub fn rotary(qkv: &Traced, heads: usize, base: f64) -> Result<Traced> {
    const NAME: &str = "rotary";
    let head_width = head_width(NAME, qkv.value(), heads)?;
    if !head_width.is_multiple_of(2) {
        bail!("{NAME}: the {head_width} channels of a head have no halves");
    }
    if !(base.is_normal() && base > 0.0) {
        bail!("{NAME}: base {base} is not a positive number");
    }
    let place = place()?;
    let values = qkv.in_bf16()?;
    let (batch, length, _) = values.dims3()?;
    let sizes = RotarySizes { batch, length, heads, head_width };
    let table = rotary_table(&place, length, head_width, base)?;
    let y = turned(&place, sizes, &table, &values, false)?;
    let dtype = qkv.value().dtype();
    Ok(step1(&[qkv], y, move |dy| {
        found(&turned(&place, sizes, &table, &in_bf16(dy)?, true)?, dtype)
    }))
}

fn turned(
    place: &Place,
    sizes: RotarySizes,
    table: &Tensor,
    x: &Tensor,
    back: bool,
) -> Result<Tensor> {
    let y = empty(place, x.shape(), DType::BF16)?;
    let (table, x) = (view(table)?, view(x)?);
    kernels::rotary(&place.machine, sizes, &table, back, &x, &mut view_mut(&y)?)
        .map_err(wrapped)?;
    Ok(y)
}

/// Angles of all positions, made once for each shape and device.
fn rotary_table(place: &Place, length: usize, head_width: usize, base: f64) -> Result<Tensor> {
    thread_local! {
        static TABLES: std::cell::RefCell<Vec<(usize, usize, u64, Tensor)>> =
            const { std::cell::RefCell::new(Vec::new()) };
    }
    let known = TABLES.with_borrow(|tables| {
        let key = (length, head_width, base.to_bits());
        let mut all = tables.iter();
        let fits = |(l, w, b, table): &&(usize, usize, u64, Tensor)| {
            (*l, *w, *b) == key && table.device().same_device(&place.device)
        };
        all.find(fits).map(|(.., table)| table.clone())
    });
    if let Some(table) = known {
        return Ok(table);
    }
    let values = kernels::rotary_table(length, head_width, base);
    let table = Tensor::from_vec(values, (length, head_width), &Device::Cpu)?;
    let table = table.to_device(&place.device)?;
    let entry = (length, head_width, base.to_bits(), table.clone());
    TABLES.with_borrow_mut(|tables| tables.push(entry));
    Ok(table)
}

fn in_bf16(gradient: &Gradient) -> Result<Tensor> {
    dense(&cast(gradient.tensor(), DType::BF16)?)
}

/// The one gradient, in the type of the input.
fn found(dqkv: &Tensor, dtype: DType) -> Result<Vec<Option<Gradient>>> {
    Ok(vec![Some(Gradient::new(cast(dqkv, dtype)?))])
}
