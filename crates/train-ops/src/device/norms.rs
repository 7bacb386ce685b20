//! Normalisations.

use candle_core::{D, DType, Result, Tensor, bail};
use forerunner_kernels as kernels;

use super::memory::{cast, dense, empty, view, view_mut, wrapped};
use super::tape::{Gradient, step, step1};
use super::{Place, Traced, place};

/// Normalisation over the last dimension, then a gain and a bias; see [`crate::layer_norm`].
///
/// # Errors
///
/// When the shapes do not fit.
pub fn layer_norm(x: &Traced, gain: &Traced, bias: &Traced, epsilon: f32) -> Result<Traced> {
    const NAME: &str = "layer_norm";
    let norm = Norm::new(NAME, x, Some(gain), Some(bias), epsilon)?;
    let (y, kept) = norm.forward(x.in_bf16()?, None)?;
    let wanted = [x, gain, bias].map(Traced::is_traced);
    Ok(step1(&[x, gain, bias], y, move |dy| {
        let (dx, dgain, dbias) = norm.backward(kept, dy.tensor(), None)?;
        Ok(only(wanted, [Some(dx), dgain, dbias]))
    }))
}

/// The sum of a stream and what is added to it, and its [`layer_norm`], in one pass.
///
/// # Errors
///
/// When the shapes do not fit.
pub fn residual_layer_norm(
    stream: &Traced,
    added: &Traced,
    gain: &Traced,
    bias: &Traced,
    epsilon: f32,
) -> Result<(Traced, Traced)> {
    let norm = Norm::new("residual_layer_norm", stream, Some(gain), Some(bias), epsilon)?;
    residual(norm, &[stream, added, gain, bias])
}

/// Division by the root mean square, then a gain; see [`crate::rms_norm`].
///
/// # Errors
///
/// When the shapes do not fit.
pub fn rms_norm(x: &Traced, gain: &Traced, epsilon: f32) -> Result<Traced> {
    let norm = Norm::new("rms_norm", x, Some(gain), None, epsilon)?;
    let (y, kept) = norm.forward(x.in_bf16()?, None)?;
    let wanted = [x, gain].map(Traced::is_traced);
    Ok(step1(&[x, gain], y, move |dy| {
        let (dx, dgain, _) = norm.backward(kept, dy.tensor(), None)?;
        Ok(only(wanted, [Some(dx), dgain]))
    }))
}

/// [`rms_norm`] without a gain; see [`crate::rms_norm_plain`].
///
/// # Errors
///
/// When the last dimension is empty.
pub fn rms_norm_plain(x: &Traced, epsilon: f32) -> Result<Traced> {
    let norm = Norm::new("rms_norm_plain", x, None, None, epsilon)?;
    let (y, kept) = norm.forward(x.in_bf16()?, None)?;
    Ok(step1(&[x], y, move |dy| {
        let (dx, _, _) = norm.backward(kept, dy.tensor(), None)?;
        Ok(vec![Some(dx)])
    }))
}

/// The sum of a stream and what is added to it, and its [`rms_norm_plain`], in one pass.
///
/// # Errors
///
/// When the shapes do not fit.
pub fn residual_rms_norm(
    stream: &Traced,
    added: &Traced,
    epsilon: f32,
) -> Result<(Traced, Traced)> {
    let norm = Norm::new("residual_rms_norm", stream, None, None, epsilon)?;
    residual(norm, &[stream, added])
}

/// A sum and its norm; inputs are the stream, what is added, and the norm's parameters.
fn residual(norm: Norm, inputs: &[&Traced]) -> Result<(Traced, Traced)> {
    let (stream, added) = (inputs[0], inputs[1]);
    if stream.value().dims() != added.value().dims() {
        let (stream, added) = (stream.value().shape(), added.value().shape());
        bail!("{}: {added:?} cannot be added to {stream:?}", norm.name);
    }
    let (y, kept) = norm.forward(stream.in_bf16()?, Some(&added.in_bf16()?))?;
    let sum = kept.x.clone();
    let (n_inputs, is_traced) = (inputs.len(), inputs.iter().map(|x| x.is_traced()));
    let wanted: Vec<bool> = is_traced.collect();
    let backward = move |mut gradients: Vec<Option<Gradient>>| {
        let (dy, dsum) = (gradients.pop().flatten(), gradients.pop().flatten());
        let Some(dy) = dy else {
            // The norm was not used: the sum's gradient is that of both summands.
            let mut found = vec![None; n_inputs];
            if let Some(dsum) = dsum {
                found[..2].fill(Some(Gradient::shared(dsum.tensor().clone())));
            }
            return Ok(found);
        };
        let dsum = dsum.map(|gradient| gradient.tensor().clone());
        let (dx, dgain, dbias) = norm.backward(kept, dy.tensor(), dsum.as_ref())?;
        let shared = Gradient::shared(dx.tensor().clone());
        let all = [Some(shared.clone()), Some(shared), dgain, dbias];
        let found = all.into_iter().zip(wanted);
        Ok(found.map(|(gradient, wanted)| gradient.filter(|_| wanted)).collect())
    };
    let mut both = step(inputs, vec![sum, y], backward).into_iter();
    match (both.next(), both.next()) {
        (Some(sum), Some(y)) => Ok((sum, y)),
        _ => bail!("a step with two results has two"),
    }
}

/// Gradients where somebody wants them.
fn only<const N: usize>(wanted: [bool; N], found: [Option<Gradient>; N]) -> Vec<Option<Gradient>> {
    found.into_iter().zip(wanted).map(|(found, wanted)| found.filter(|_| wanted)).collect()
}

/// One normalisation; with a bias it is LayerNorm, without one RMSNorm.
struct Norm {
    name: &'static str,
    place: Place,
    rows: usize,
    channels: usize,
    gain: Option<Tensor>,
    bias: Option<Tensor>,
    epsilon: f32,
}

/// What the way back needs.
struct Kept {
    x: Tensor,
    stats: Tensor,
}

impl Norm {
    fn new(
        name: &'static str,
        x: &Traced,
        gain: Option<&Traced>,
        bias: Option<&Traced>,
        epsilon: f32,
    ) -> Result<Self> {
        let x = x.value();
        let channels = x.dim(D::Minus1)?;
        let parameter = |parameter: Option<&Traced>| {
            let Some(parameter) = parameter.map(Traced::value) else { return Ok(None) };
            if parameter.dims() != [channels] {
                bail!(
                    "{name}: a gain or bias {:?} does not fit x {:?}",
                    parameter.shape(),
                    x.shape()
                );
            }
            dense(&cast(parameter, DType::F32)?).map(Some)
        };
        let (gain, bias) = (parameter(gain)?, parameter(bias)?);
        let rows = x.elem_count() / channels.max(1);
        Ok(Self { name, place: place()?, rows, channels, gain, bias, epsilon })
    }

    fn forward(&self, x: Tensor, added: Option<&Tensor>) -> Result<(Tensor, Kept)> {
        let Self { place, rows, channels, epsilon, .. } = self;
        let machine = &place.machine;
        let sizes = (*rows, *channels);
        let y = empty(place, x.shape(), DType::BF16)?;
        let sum = match added {
            Some(_) => Some(empty(place, x.shape(), DType::BF16)?),
            None => None,
        };
        let added = added.map(view).transpose()?;
        let mut written = sum.as_ref().map(view_mut).transpose()?;
        let residual = added.as_ref().zip(written.as_mut());
        let stats = match (&self.gain, &self.bias) {
            (Some(gain), Some(bias)) => {
                let stats = empty(place, (*rows, 2), DType::F32)?;
                kernels::layer_norm_forward(
                    machine,
                    sizes,
                    &view(&x)?,
                    residual,
                    &view(gain)?,
                    &view(bias)?,
                    *epsilon,
                    &mut view_mut(&y)?,
                    &mut view_mut(&stats)?,
                )
                .map_err(wrapped)?;
                stats
            }
            (gain, _) => {
                let scales = empty(place, *rows, DType::F32)?;
                let gain = gain.as_ref().map(view).transpose()?;
                kernels::rms_norm_forward(
                    machine,
                    sizes,
                    &view(&x)?,
                    residual,
                    gain.as_ref(),
                    *epsilon,
                    &mut view_mut(&y)?,
                    &mut view_mut(&scales)?,
                )
                .map_err(wrapped)?;
                scales
            }
        };
        Ok((y, Kept { x: sum.unwrap_or(x), stats }))
    }

    /// Gradients of what was normalised, of the gain and of the bias.
    fn backward(
        &self,
        kept: Kept,
        dy: &Tensor,
        dsum: Option<&Tensor>,
    ) -> Result<(Gradient, Option<Gradient>, Option<Gradient>)> {
        let Self { place, rows, channels, .. } = self;
        let machine = &place.machine;
        let sizes = (*rows, *channels);
        let dy = dense(&cast(dy, DType::BF16)?)?;
        let dsum = match dsum {
            Some(dsum) => Some(dense(&cast(dsum, DType::BF16)?)?),
            None => None,
        };
        let dsum = dsum.as_ref().map(view).transpose()?;
        let dx = empty(place, kept.x.shape(), DType::BF16)?;
        let of_parameter = || empty(place, *channels, DType::F32);
        let (dgain, dbias) = match (&self.gain, &self.bias) {
            (Some(gain), Some(_)) => {
                let (dgain, dbias) = (of_parameter()?, of_parameter()?);
                kernels::layer_norm_backward(
                    machine,
                    sizes,
                    &view(&kept.x)?,
                    &view(gain)?,
                    &view(&kept.stats)?,
                    &view(&dy)?,
                    dsum.as_ref(),
                    &mut view_mut(&dx)?,
                    &mut view_mut(&dgain)?,
                    &mut view_mut(&dbias)?,
                )
                .map_err(wrapped)?;
                (Some(dgain), Some(dbias))
            }
            (gain, _) => {
                let dgain = gain.as_ref().map(|_| of_parameter()).transpose()?;
                let gain = gain.as_ref().map(view).transpose()?;
                let mut written = dgain.as_ref().map(view_mut).transpose()?;
                kernels::rms_norm_backward(
                    machine,
                    sizes,
                    &view(&kept.x)?,
                    gain.as_ref(),
                    &view(&kept.stats)?,
                    &view(&dy)?,
                    dsum.as_ref(),
                    &mut view_mut(&dx)?,
                    written.as_mut(),
                )
                .map_err(wrapped)?;
                (dgain, None)
            }
        };
        Ok((Gradient::new(dx), dgain.map(Gradient::new), dbias.map(Gradient::new)))
    }
}
