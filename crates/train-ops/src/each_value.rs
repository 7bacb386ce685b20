//! Functions of each value alone.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use crate::profile::Profiled;
use crate::storage::{read, tensor, values, zeros};
use crate::threads::in_shares;
use crate::vector::{tanh, vectorized};

/// `max(x, 0)²`, value by value (So et al., arXiv 2109.08668).
///
/// # Errors
///
/// When the tensor is not `f32` on the CPU.
pub fn relu_squared(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Profiled(EachValue {
        name: "relu_squared",
        // So written, a NaN passes.
        forward: |x: f32| if x < 0.0 { 0.0 } else { x * x },
        slope: |x: f32, _y: f32| if x < 0.0 { 0.0 } else { 2.0 * x },
    }))
}

/// `cap · tanh(x / cap)`, value by value: about `x` where `x` is small, never beyond `cap`.
///
/// # Errors
///
/// When `cap` is not a positive number or the tensor is not `f32` on the CPU.
pub fn softcap(x: &Tensor, cap: f64) -> Result<Tensor> {
    const NAME: &str = "softcap";
    let cap = cap as f32;
    if !(cap.is_normal() && cap > 0.0) {
        bail!("{NAME}: cap {cap} is not a positive number");
    }
    let inverse = 1.0 / cap;
    x.contiguous()?.apply_op1(Profiled(EachValue {
        name: NAME,
        forward: move |x: f32| cap * tanh(x * inverse),
        slope: move |_x: f32, y: f32| 1.0 - (y * inverse) * (y * inverse),
    }))
}

struct EachValue<F, S> {
    name: &'static str,
    forward: F,
    /// The derivative, from argument and result.
    slope: S,
}

impl<F, S> CustomOp1 for EachValue<F, S>
where
    F: Fn(f32) -> f32 + Send + Sync,
    S: Fn(f32, f32) -> f32 + Send + Sync,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values::<f32>(self.name, x, xl)?;
        let mut y = zeros(x.len());
        in_shares((&mut *y, x), usize::MAX, x.len() / 8, |(y, x)| {
            vectorized(
                #[inline(always)]
                || {
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = (self.forward)(x);
                    }
                },
            );
        });
        Ok((CpuStorage::F32(y), xl.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dy = dy.contiguous()?;
        let (x_values, y, dy) = (read(self.name, x)?, read(self.name, y)?, read(self.name, &dy)?);
        let (x_values, y, dy) = (&*x_values, &*y, &*dy);
        let mut dx = zeros(x_values.len());
        let work = (&mut *dx, x_values, y, dy);
        in_shares(work, usize::MAX, dy.len() / 8, |(dx, x, y, dy)| {
            vectorized(
                #[inline(always)]
                || {
                    for (((dx, &x), &y), &dy) in dx.iter_mut().zip(x).zip(y).zip(dy) {
                        *dx = dy * (self.slope)(x, y);
                    }
                },
            );
        });
        Ok(Some(tensor(dx, x.shape())?))
    }
}
