//! Normalisation by the root mean square, with and without a gain.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, D, Layout, Result, Shape, Tensor, bail};

use crate::profile::Profiled;
use crate::storage::{Kept, read, tensor, values, zeros};
use crate::threads::{Rows, in_shares};
use crate::vector::{sum, sum2, vectorized};

const NAME: &str = "rms_norm";

/// Divides by the root mean square over the last dimension and applies a gain for each channel
/// (Zhang and Sennrich, arXiv 1910.07467); `epsilon` is added to the mean square.
///
/// # Shapes
///
/// `x` is `[…, C]`, `gain` is `[C]`; the result has the shape of `x`.
///
/// # Errors
///
/// When shapes do not fit or a tensor is not `f32` on the CPU.
pub fn rms_norm(x: &Tensor, gain: &Tensor, epsilon: f32) -> Result<Tensor> {
    let channels = channels(x)?;
    if gain.dims() != [channels] {
        bail!("{NAME}: gain {:?} does not fit x {:?}", gain.shape(), x.shape());
    }
    let operation = Profiled(RmsNorm { epsilon, scales: Kept::new() });
    x.contiguous()?.apply_op2(&gain.contiguous()?, operation)
}

/// [`rms_norm`] without a gain.
///
/// # Errors
///
/// When the last dimension is empty or the tensor is not `f32` on the CPU.
pub fn rms_norm_plain(x: &Tensor, epsilon: f32) -> Result<Tensor> {
    channels(x)?;
    x.contiguous()?.apply_op1(Profiled(RmsNorm { epsilon, scales: Kept::new() }))
}

fn channels(x: &Tensor) -> Result<usize> {
    let channels = x.dim(D::Minus1)?;
    if channels == 0 {
        bail!("{NAME}: the last dimension of x {:?} is empty", x.shape());
    }
    Ok(channels)
}

struct RmsNorm {
    epsilon: f32,
    /// The reciprocal root mean square of each row.
    scales: Kept<Vec<f32>>,
}

impl RmsNorm {
    fn forward(&self, x: &[f32], channels: usize, gain: Option<&[f32]>) -> Vec<f32> {
        let mut y = zeros(x.len());
        let mut scales = zeros(x.len() / channels);
        let n_rows = scales.len();
        let work =
            (Rows::new(&mut *y, channels), Rows::new(x, channels), Rows::new(&mut *scales, 1));
        in_shares(work, n_rows, x.len() / 8, |(y, x, scales)| {
            vectorized(
                #[inline(always)]
                || {
                    let rows =
                        y.values.chunks_exact_mut(channels).zip(x.values.chunks_exact(channels));
                    for ((y, x), scale) in rows.zip(scales.values) {
                        let mean_square = sum(x, |v| v * v) / channels as f32;
                        *scale = 1.0 / (mean_square + self.epsilon).sqrt();
                        let scale = *scale;
                        match gain {
                            Some(gain) => {
                                for ((y, &x), &gain) in y.iter_mut().zip(x).zip(gain) {
                                    *y = x * scale * gain;
                                }
                            }
                            None => y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * scale),
                        }
                    }
                },
            );
        });
        self.scales.put(scales);
        y
    }

    /// Gradients of `x` and, where there is one, of the gain.
    fn backward(
        &self,
        x: &Tensor,
        gain: Option<&[f32]>,
        dy: &Tensor,
    ) -> Result<(Tensor, Vec<f32>)> {
        let scales = self.scales.take(NAME)?;
        let channels = x.dim(D::Minus1)?;
        let dy = dy.contiguous()?;
        let (x_values, dy) = (read(NAME, x)?, read(NAME, &dy)?);
        let (x_values, dy) = (&*x_values, &*dy);
        let mut dx = zeros(x_values.len());
        let mut dgain = zeros(gain.map_or(0, <[f32]>::len));
        let n_rows = scales.len();
        // A share has rows of dx and channels of dgain, which is a sum over all rows.
        let work = (
            (Rows::new(&mut *dx, channels), Rows::new(x_values, channels)),
            (Rows::new(dy, channels), Rows::new(&*scales, 1)),
            (&mut *dgain, 0..channels),
        );
        let cost = x_values.len() / 4;
        in_shares(work, n_rows, cost, |((dx, x), (own_dy, own_scales), (dgain, own))| {
            vectorized(
                #[inline(always)]
                || {
                    if gain.is_some() {
                        let all = x_values.chunks_exact(channels).zip(dy.chunks_exact(channels));
                        for ((x, dy), &scale) in all.zip(&scales) {
                            let values = x[own.clone()].iter().zip(&dy[own.clone()]);
                            for (dgain, (&x, &dy)) in dgain.iter_mut().zip(values) {
                                *dgain += dy * x * scale;
                            }
                        }
                    }
                    let inputs =
                        x.values.chunks_exact(channels).zip(own_dy.values.chunks_exact(channels));
                    let outputs = dx.values.chunks_exact_mut(channels).zip(own_scales.values);
                    for ((x, dy), (dx, &scale)) in inputs.zip(outputs) {
                        match gain {
                            Some(gain) => {
                                for ((dx, &dy), &gain) in dx.iter_mut().zip(dy).zip(gain) {
                                    *dx = dy * gain;
                                }
                            }
                            None => dx.copy_from_slice(dy),
                        }
                        // Remove from dx what stretching the row would undo.
                        let tilt = sum2(dx, x, |d, x| d * x) * scale * scale / channels as f32;
                        for (dx, &x) in dx.iter_mut().zip(x) {
                            *dx = (*dx - x * tilt) * scale;
                        }
                    }
                },
            );
        });
        Ok((tensor(dx, x.shape())?, dgain))
    }
}

impl CustomOp1 for RmsNorm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout) -> Result<(CpuStorage, Shape)> {
        let channels = xl.dims().last().copied().unwrap_or(1);
        let y = self.forward(values::<f32>(NAME, x, xl)?, channels, None);
        Ok((CpuStorage::F32(y), xl.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.backward(x, None, dy)?.0))
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        gain: &CpuStorage,
        gl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let gain = values::<f32>(NAME, gain, gl)?;
        let y = self.forward(values::<f32>(NAME, x, xl)?, gain.len(), Some(gain));
        Ok((CpuStorage::F32(y), xl.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gain: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gain_values = read(NAME, gain)?;
        let (dx, dgain) = self.backward(x, Some(&gain_values), dy)?;
        Ok((Some(dx), Some(tensor(dgain, gain.shape())?)))
    }
}
