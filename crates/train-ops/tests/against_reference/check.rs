//! The comparison, and arguments for it.

use candle_core::{D, Device, Result, Tensor, Var};

/// Values that look random and are the same everywhere.
pub(crate) fn noise(shape: &[usize], seed: u64) -> Var {
    let count: usize = shape.iter().product();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let values: Vec<f32> = (0..count)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect();
    Var::from_vec(values, shape, &Device::Cpu).unwrap()
}

pub(crate) fn ids(shape: &[usize], below: u32) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<u32> = (0..count as u32).map(|i| i * i * 7 % below).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

pub(crate) fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let difference = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
    difference.max(0).unwrap().to_scalar().unwrap()
}

/// A scalar that weighs every output differently, so that no gradient cancels.
pub(crate) fn weigh(y: &Tensor) -> Result<Tensor> {
    let weights = noise(y.dims(), 99);
    (y * weights.as_tensor())?.sum_all()
}

/// Compares `operation` with `reference` on the same arguments: outputs within 2e-5 of the largest, gradients
/// within 1e-4 of plain candle's and within 2 % (or 0.02) of finite differences.
pub(crate) fn check(
    arguments: &[Var],
    operation: impl Fn(&[Tensor]) -> Result<Tensor>,
    reference: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let tensors: Vec<Tensor> = arguments.iter().map(|var| var.as_tensor().clone()).collect();
    let (y, expected) = (operation(&tensors).unwrap(), reference(&tensors).unwrap());
    let size = expected.abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    let size: f32 = size.to_scalar().unwrap();
    assert!(largest_difference(&y, &expected) < 2e-5 * size.max(1.0), "outputs differ");

    let gradients = weigh(&y).unwrap().backward().unwrap();
    let expected = weigh(&expected).unwrap().backward().unwrap();
    for (idx, argument) in arguments.iter().enumerate() {
        let gradient = gradients.get(argument).expect("no gradient");
        let difference = largest_difference(gradient, expected.get(argument).unwrap());
        assert!(difference < 1e-4, "gradient of argument {idx} is off by {difference}");

        let values: Vec<f32> = argument.flatten_all().unwrap().to_vec1().unwrap();
        let gradient: Vec<f32> = gradient.flatten_all().unwrap().to_vec1().unwrap();
        let step = 1e-2;
        for at in (0..values.len()).step_by(values.len().div_ceil(7)) {
            let loss = |shift: f32| -> f32 {
                let mut moved = values.clone();
                moved[at] += shift;
                let mut tensors = tensors.clone();
                tensors[idx] = Tensor::from_vec(moved, argument.dims(), &Device::Cpu).unwrap();
                weigh(&operation(&tensors).unwrap()).unwrap().to_scalar().unwrap()
            };
            let slope = (loss(step) - loss(-step)) / (2.0 * step);
            let off = (slope - gradient[at]).abs();
            assert!(
                off < 0.02 + 0.02 * slope.abs(),
                "argument {idx} at {at}: gradient {} but slope {slope}",
                gradient[at]
            );
        }
    }
}

pub(crate) fn plain_linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    x.broadcast_matmul(&weight.t()?)
}

pub(crate) fn plain_softmax(x: &Tensor) -> Result<Tensor> {
    let x = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
    x.broadcast_div(&x.sum_keepdim(D::Minus1)?)
}
