//! Layer normalisation with gain and bias.

use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor, bail};

use crate::profile::Profiled;
use crate::storage::{Kept, read, tensor, values, zeros};
use crate::threads::{Rows, in_shares};
use crate::vector::{sum, sum2, vectorized};

const NAME: &str = "layer_norm";

/// Subtracts the mean over the last dimension, divides by the standard deviation, and applies a
/// gain and a bias for each channel.
///
/// # Shapes
///
/// `x` is `[…, C]`, `gain` and `bias` are `[C]`; the result has the shape of `x`.
///
/// # Errors
///
/// When shapes do not fit or a tensor is not `f32` on the CPU.
pub fn layer_norm(x: &Tensor, gain: &Tensor, bias: &Tensor, epsilon: f32) -> Result<Tensor> {
    let channels = x.dim(D::Minus1)?;
    if gain.dims() != [channels] || bias.dims() != [channels] {
        let (gain, bias) = (gain.shape(), bias.shape());
        bail!("{NAME}: gain {gain:?} and bias {bias:?} do not fit x {:?}", x.shape());
    }
    let operation = LayerNorm { epsilon, rows: Kept::new() };
    x.contiguous()?.apply_op3(&gain.contiguous()?, &bias.contiguous()?, Profiled(operation))
}

struct LayerNorm {
    epsilon: f32,
    /// Mean and reciprocal standard deviation of each row.
    rows: Kept<Vec<(f32, f32)>>,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        gain: &CpuStorage,
        gl: &Layout,
        bias: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = values::<f32>(NAME, x, xl)?;
        let (gain, bias) = (values::<f32>(NAME, gain, gl)?, values::<f32>(NAME, bias, bl)?);
        let channels = gain.len();
        let mut y = zeros(x.len());
        let mut rows = vec![(0.0, 0.0); x.len() / channels];
        let n_rows = rows.len();
        let work = (Rows::new(&mut *y, channels), Rows::new(x, channels), Rows::new(&mut *rows, 1));
        in_shares(work, n_rows, x.len() / 4, |(y, x, rows)| {
            vectorized(
                #[inline(always)]
                || {
                    let values =
                        y.values.chunks_exact_mut(channels).zip(x.values.chunks_exact(channels));
                    for ((y, x), row) in values.zip(rows.values) {
                        let mean = sum(x, |v| v) / channels as f32;
                        let variance = sum(x, |v| (v - mean) * (v - mean)) / channels as f32;
                        let scale = 1.0 / (variance + self.epsilon).sqrt();
                        for (((y, &x), &gain), &bias) in y.iter_mut().zip(x).zip(gain).zip(bias) {
                            *y = (x - mean) * scale * gain + bias;
                        }
                        *row = (mean, scale);
                    }
                },
            );
        });
        self.rows.put(rows);
        Ok((CpuStorage::F32(y), xl.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gain: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let rows = self.rows.take(NAME)?;
        let dy = dy.contiguous()?;
        let (x_values, dy) = (read(NAME, x)?, read(NAME, &dy)?);
        let gain_values = read(NAME, gain)?;
        let (x_values, dy, gain_values) = (&*x_values, &*dy, &*gain_values);
        let channels = gain_values.len();
        let (mut dx, mut dgain, mut dbias) =
            (zeros(x_values.len()), zeros(channels), zeros(channels));
        let n_rows = rows.len();
        // A share has rows of dx and channels of the other two, which are sums over all rows.
        let work = (
            (Rows::new(&mut *dx, channels), Rows::new(x_values, channels)),
            (Rows::new(dy, channels), Rows::new(&*rows, 1)),
            (&mut *dgain, &mut *dbias, 0..channels),
        );
        let cost = x_values.len() / 2;
        in_shares(work, n_rows, cost, |((dx, x), (own_dy, own_rows), (dgain, dbias, own))| {
            vectorized(
                #[inline(always)]
                || {
                    let all = x_values.chunks_exact(channels).zip(dy.chunks_exact(channels));
                    for ((x, dy), &(mean, scale)) in all.zip(&rows) {
                        let sums = dgain.iter_mut().zip(dbias.iter_mut());
                        let values = x[own.clone()].iter().zip(&dy[own.clone()]);
                        for ((dgain, dbias), (&x, &dy)) in sums.zip(values) {
                            *dgain += dy * (x - mean) * scale;
                            *dbias += dy;
                        }
                    }
                    let inputs =
                        x.values.chunks_exact(channels).zip(own_dy.values.chunks_exact(channels));
                    let outputs = dx.values.chunks_exact_mut(channels).zip(own_rows.values);
                    for ((x, dy), (dx, &(mean, scale))) in inputs.zip(outputs) {
                        for ((dx, &dy), &gain) in dx.iter_mut().zip(dy).zip(gain_values) {
                            *dx = dy * gain;
                        }
                        // Remove from dx what shifting and scaling the row would undo.
                        let shift = sum(dx, |v| v) / channels as f32;
                        let tilt =
                            sum2(dx, x, |d, x| d * (x - mean)) * scale * scale / channels as f32;
                        for (dx, &x) in dx.iter_mut().zip(x) {
                            *dx = (*dx - shift - (x - mean) * tilt) * scale;
                        }
                    }
                },
            );
        });
        let (dgain, dbias) = (tensor(dgain, gain.shape())?, tensor(dbias, bias.shape())?);
        Ok((Some(tensor(dx, x.shape())?), Some(dgain), Some(dbias)))
    }
}
