//! Linear layers: `y = x wᵀ + b`.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor, bail};

use crate::product::{Old, Product, View, product};
use crate::profile::Profiled;
use crate::storage::{read, tensor, values, zeros};
use crate::threads::in_shares;
use crate::vector::{add, vectorized};

const NAME: &str = "linear";

/// `x wᵀ + b`.
///
/// # Shapes
///
/// `x` is `[…, in]`, `weight` is `[out, in]`, `bias` is `[out]`; the result is `[…, out]`.
///
/// # Errors
///
/// When shapes do not fit or a tensor is not `f32` on the CPU.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    check(x, weight)?;
    if bias.dims() != [weight.dim(0)?] {
        bail!("{NAME}: bias {:?} does not fit weight {:?}", bias.shape(), weight.shape());
    }
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, Profiled(Linear))
}

/// `x wᵀ`, without a bias; with an embedding table as weight this is a tied head.
///
/// # Shapes
///
/// `x` is `[…, in]`, `weight` is `[out, in]`; the result is `[…, out]`.
///
/// # Errors
///
/// When shapes do not fit or a tensor is not `f32` on the CPU.
pub fn linear_no_bias(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    check(x, weight)?;
    x.contiguous()?.apply_op2(&weight.contiguous()?, Profiled(Linear))
}

fn check(x: &Tensor, weight: &Tensor) -> Result<()> {
    let (_, inputs) = weight.dims2()?;
    if x.rank() == 0 || x.dim(D::Minus1)? != inputs {
        bail!("{NAME}: x {:?} does not fit weight {:?}", x.shape(), weight.shape());
    }
    Ok(())
}

struct Linear;

impl Linear {
    fn forward(
        &self,
        (x, xl): (&CpuStorage, &Layout),
        (weight, wl): (&CpuStorage, &Layout),
        bias: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (values::<f32>(NAME, x, xl)?, values::<f32>(NAME, weight, wl)?);
        let (outputs, inputs) = wl.shape().dims2()?;
        let rows = x.len() / inputs;
        let (mut y, old) = match bias {
            Some((bias, bl)) => (values::<f32>(NAME, bias, bl)?.repeat(rows), Old::Add),
            None => (zeros(rows * outputs), Old::Replace),
        };
        let x = View::new(x, rows, inputs);
        let weight = View::new(weight, outputs, inputs);
        product(&mut y, outputs, old, x, weight.transposed(), 1.0);
        let mut shape = xl.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = outputs;
        }
        Ok((CpuStorage::F32(y), shape.into()))
    }

    /// Gradients of `x` and of the weight, and of a bias of which there is such a zero gradient.
    fn backward(
        &self,
        x: &Tensor,
        weight: &Tensor,
        dy: &[f32],
        db: &mut [f32],
    ) -> Result<(Tensor, Tensor)> {
        let (outputs, inputs) = weight.dims2()?;
        let (x_values, weight_values) = (read(NAME, x)?, read(NAME, weight)?);
        let rows = x_values.len() / inputs;
        let (mut dx, mut dw) = (zeros(rows * inputs), zeros(outputs * inputs));
        let dy_view = View::new(dy, rows, outputs);
        let of_x = Product {
            to: &mut dx,
            row_stride: inputs,
            old: Old::Replace,
            a: dy_view,
            b: View::new(&weight_values, outputs, inputs),
            scale: 1.0,
        };
        let of_weight = Product {
            to: &mut dw,
            row_stride: inputs,
            old: Old::Replace,
            a: dy_view.transposed(),
            b: View::new(&x_values, rows, inputs),
            scale: 1.0,
        };
        let (most, cost) =
            (of_x.most_shares().max(of_weight.most_shares()), of_x.cost() + of_weight.cost());
        let channels = 0..db.len();
        in_shares(
            (of_x, of_weight, db, channels),
            most,
            cost,
            |(of_x, of_weight, db, channels)| {
                of_x.run();
                of_weight.run();
                if !db.is_empty() {
                    vectorized(
                        #[inline(always)]
                        || dy.chunks_exact(outputs).for_each(|row| add(db, &row[channels.clone()])),
                    );
                }
            },
        );
        Ok((tensor(dx, x.shape())?, tensor(dw, weight.shape())?))
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        weight: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward((x, xl), (weight, wl), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let (dx, dw) = self.backward(x, weight, &read(NAME, &dy)?, &mut [])?;
        Ok((Some(dx), Some(dw)))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        weight: &CpuStorage,
        wl: &Layout,
        bias: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward((x, xl), (weight, wl), Some((bias, bl)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let mut db = zeros(bias.elem_count());
        let (dx, dw) = self.backward(x, weight, &read(NAME, &dy)?, &mut db)?;
        Ok((Some(dx), Some(dw), Some(tensor(db, bias.shape())?)))
    }
}
