//! Layers, norms, activations and look-ups.

use candle_core::{D, Device, Tensor, Var};
use forerunner_train_ops as ops;

use crate::check::{check, ids, noise, plain_linear};

#[test]
fn linear() {
    for (rows, inputs, outputs) in [(1, 1, 1), (6, 5, 7), (96, 64, 33)] {
        let arguments =
            [noise(&[2, rows, inputs], 1), noise(&[outputs, inputs], 2), noise(&[outputs], 3)];
        check(
            &arguments,
            |a| ops::linear(&a[0], &a[1], &a[2]),
            |a| plain_linear(&a[0], &a[1])?.broadcast_add(&a[2]),
        );
        check(
            &arguments[..2],
            |a| ops::linear_no_bias(&a[0], &a[1]),
            |a| plain_linear(&a[0], &a[1]),
        );
    }
}

#[test]
fn layer_norm() {
    for (rows, channels) in [(1, 2), (5, 17), (32, 64)] {
        let arguments =
            [noise(&[2, rows, channels], 1), noise(&[channels], 2), noise(&[channels], 3)];
        check(
            &arguments,
            |a| ops::layer_norm(&a[0], &a[1], &a[2], 0.1),
            |a| {
                let x = a[0].broadcast_sub(&a[0].mean_keepdim(D::Minus1)?)?;
                let variance = x.sqr()?.mean_keepdim(D::Minus1)?;
                let x = x.broadcast_div(&(variance + 0.1)?.sqrt()?)?;
                x.broadcast_mul(&a[1])?.broadcast_add(&a[2])
            },
        );
    }
}

#[test]
fn rms_norm() {
    for (rows, channels) in [(1, 2), (5, 17), (32, 64)] {
        let arguments = [noise(&[2, rows, channels], 1), noise(&[channels], 2)];
        let plain = |x: &Tensor| {
            let root = (x.sqr()?.mean_keepdim(D::Minus1)? + 0.1)?.sqrt()?;
            x.broadcast_div(&root)
        };
        check(
            &arguments,
            |a| ops::rms_norm(&a[0], &a[1], 0.1),
            |a| plain(&a[0])?.broadcast_mul(&a[1]),
        );
        check(&arguments[..1], |a| ops::rms_norm_plain(&a[0], 0.1), |a| plain(&a[0]));
    }
}

/// Values between -4 and 4.
fn wide(shape: &[usize]) -> Var {
    Var::from_tensor(&(noise(shape, 1).as_tensor() * 4.0).unwrap()).unwrap()
}

#[test]
fn gelu() {
    check(&[wide(&[3, 37])], |a| ops::gelu(&a[0]), |a| a[0].gelu());
}

#[test]
fn relu_squared() {
    check(&[wide(&[3, 37])], |a| ops::relu_squared(&a[0]), |a| a[0].relu()?.sqr());
    let x = Tensor::new(&[f32::NAN, -0.0], &Device::Cpu).unwrap();
    let y: Vec<f32> = ops::relu_squared(&x).unwrap().to_vec1().unwrap();
    assert!(y[0].is_nan() && y[1] == 0.0, "{y:?}");
}

#[test]
fn softcap() {
    for cap in [0.5, 3.0, 30.0] {
        check(
            &[wide(&[3, 37])],
            |a| ops::softcap(&a[0], cap),
            |a| (a[0].clone() / cap)?.tanh()? * cap,
        );
    }
}

#[test]
fn swiglu() {
    for half in [1, 7, 64] {
        check(
            &[wide(&[2, 5, 2 * half])],
            |a| ops::swiglu(&a[0]),
            |a| a[0].narrow(2, 0, half)?.silu()? * a[0].narrow(2, half, half)?,
        );
    }
}

#[test]
fn embedding() {
    let wanted = ids(&[3, 5], 11);
    check(
        &[noise(&[11, 6], 1)],
        |a| ops::embedding(&a[0], &wanted),
        |a| a[0].index_select(&wanted.flatten_all()?, 0)?.reshape((3, 5, 6)),
    );
}

#[test]
fn arguments_need_not_be_contiguous() {
    let (x, weight) = (noise(&[6, 5], 1), noise(&[6, 4], 2));
    check(
        &[x, weight],
        |a| ops::linear_no_bias(&a[0].t()?, &a[1].t()?),
        |a| plain_linear(&a[0].t()?, &a[1].t()?.contiguous()?),
    );
}
