//! Every operation against plain candle, tensor by tensor: values, gradients, and the gradients
//! once more against finite differences of the operation itself.

use candle_core::{D, Device, Result, Tensor, Var};
use forerunner_train_ops as ops;

/// Values that look random and are the same everywhere.
fn noise(shape: &[usize], seed: u64) -> Var {
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

fn ids(shape: &[usize], below: u32) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<u32> = (0..count as u32).map(|i| i * i * 7 % below).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let difference = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
    difference.max(0).unwrap().to_scalar().unwrap()
}

/// A scalar that weighs every output differently, so that no gradient cancels.
fn weigh(y: &Tensor) -> Result<Tensor> {
    let weights = noise(y.dims(), 99);
    (y * weights.as_tensor())?.sum_all()
}

/// Compares `operation` with `reference` on the same arguments: outputs within 2e-5 of the largest, gradients
/// within 1e-4 of plain candle's and within 2 % (or 0.02) of finite differences.
fn check(
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

fn plain_linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    x.broadcast_matmul(&weight.t()?)
}

fn plain_softmax(x: &Tensor) -> Result<Tensor> {
    let x = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
    x.broadcast_div(&x.sum_keepdim(D::Minus1)?)
}

fn plain_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let logits = logits.reshape(((), logits.dim(D::Minus1)?))?;
    let targets = targets.flatten_all()?.unsqueeze(1)?;
    plain_softmax(&logits)?.log()?.gather(&targets, 1)?.mean_all()?.neg()
}

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
fn gelu() {
    let arguments = [Var::from_tensor(&(noise(&[3, 37], 1).as_tensor() * 4.0).unwrap()).unwrap()];
    check(&arguments, |a| ops::gelu(&a[0]), |a| a[0].gelu());
}

#[test]
fn causal_attention() {
    for (batch, length, heads, head_width) in [(1, 1, 1, 4), (2, 5, 2, 3), (2, 70, 4, 16)] {
        let width = heads * head_width;
        check(
            &[noise(&[batch, length, 3 * width], 1)],
            |a| ops::causal_attention(&a[0], heads),
            |a| {
                let qkv = a[0].reshape((batch, length, 3, heads, head_width))?;
                let qkv = qkv.permute((2, 0, 3, 1, 4))?.contiguous()?;
                let (q, k, v) = (qkv.get(0)?, qkv.get(1)?, qkv.get(2)?);
                let scores = (q.matmul(&k.t()?)? / (head_width as f64).sqrt())?;
                let future: Vec<f32> = (0..length * length)
                    .map(|at| if at % length > at / length { f32::NEG_INFINITY } else { 0.0 })
                    .collect();
                let mask = Tensor::from_vec(future, (length, length), &Device::Cpu)?;
                let y = plain_softmax(&scores.broadcast_add(&mask)?)?.matmul(&v)?;
                y.transpose(1, 2)?.reshape((batch, length, width))
            },
        );
    }
}

#[test]
fn cross_entropy() {
    for (rows, vocabulary) in [(1, 2), (7, 19), (40, 256)] {
        let targets = ids(&[2, rows], vocabulary as u32);
        check(
            &[noise(&[2, rows, vocabulary], 1)],
            |a| ops::cross_entropy(&a[0], &targets),
            |a| plain_cross_entropy(&a[0], &targets),
        );
    }
}

#[test]
fn head_loss() {
    // The last vocabulary is so large that the rows come in two chunks.
    for (rows, channels, vocabulary) in [(3, 5, 7), (20, 16, 256), (40, 2, 131_072)] {
        let targets = ids(&[2, rows], vocabulary as u32);
        check(
            &[noise(&[2, rows, channels], 1), noise(&[vocabulary, channels], 2)],
            |a| ops::head_loss(&a[0], &a[1], &targets),
            |a| plain_cross_entropy(&plain_linear(&a[0], &a[1])?, &targets),
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

#[test]
fn adamw_follows_the_formula() {
    let parameter = noise(&[5, 7], 1);
    let mut moments = ops::Moments::zeros_like(&parameter);
    let half = Tensor::new(0.5f32, &Device::Cpu).unwrap();
    let values = |t: &Tensor| -> Vec<f32> { t.flatten_all().unwrap().to_vec1().unwrap() };
    let mut expected: Vec<f64> = values(&parameter).into_iter().map(f64::from).collect();
    let (mut m, mut v) = (vec![0.0; 35], vec![0.0; 35]);
    for step in 1..=20 {
        let gradient = noise(&[5, 7], 100 + step as u64);
        let settings = ops::AdamW {
            learning_rate: 0.03,
            beta1: 0.8,
            beta2: 0.9,
            epsilon: 1e-3,
            weight_decay: 0.2,
            step,
        };
        ops::adamw(&parameter, &gradient, &half, &mut moments, &settings).unwrap();
        for (i, g) in values(&gradient).into_iter().map(|g| 0.5 * f64::from(g)).enumerate() {
            m[i] = 0.8 * m[i] + 0.2 * g;
            v[i] = 0.9 * v[i] + 0.1 * g * g;
            let (m, v): (f64, f64) =
                (m[i] / (1.0 - 0.8f64.powi(step as i32)), v[i] / (1.0 - 0.9f64.powi(step as i32)));
            expected[i] -= 0.03 * (m / (v.sqrt() + 1e-3) + 0.2 * expected[i]);
        }
    }
    for (got, expected) in values(&parameter).into_iter().zip(expected) {
        assert!((f64::from(got) - expected).abs() < 1e-5, "{got} is not {expected}");
    }
}

#[test]
fn sum_of_squares() {
    check(&[noise(&[9, 100], 4)], |a| ops::sum_of_squares(&a[0]), |a| a[0].sqr()?.sum_all());
}

#[test]
fn misuse_is_an_error_with_both_shapes() {
    let check = |result: Result<Tensor>, expected: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let (x, weight) = (noise(&[2, 3], 1), noise(&[4, 5], 2));
    check(ops::linear_no_bias(&x, &weight), "x [2, 3] does not fit weight [4, 5]");
    check(ops::linear(&x, &noise(&[4, 3], 1), &x), "bias [2, 3] does not fit weight [4, 3]");
    check(ops::layer_norm(&x, &x, &x, 1e-5), "do not fit x [2, 3]");
    check(ops::causal_attention(&noise(&[1, 2, 9], 1), 2), "9 channels do not split");
    check(ops::cross_entropy(&x, &ids(&[3], 3)), "logits [2, 3] do not fit targets [3]");
    check(ops::embedding(&weight, &Tensor::new(&[4u32], &Device::Cpu).unwrap()), "id 4");
    for target in [3, u32::MAX] {
        let targets = Tensor::new(&[0, target], &Device::Cpu).unwrap();
        check(ops::cross_entropy(&x, &targets), "is not below the vocabulary size 3");
        check(ops::head_loss(&x, &noise(&[3, 3], 1), &targets), "is not below");
    }
    let loss = ops::cross_entropy(&x, &ids(&[2], 3)).unwrap();
    loss.backward().unwrap();
    assert!(loss.backward().unwrap_err().to_string().contains("backward ran twice"));
}

#[test]
fn not_a_number_reaches_the_loss() {
    let logits = Tensor::new(&[[0f32, f32::NAN, 1.0]], &Device::Cpu).unwrap();
    let loss = ops::cross_entropy(&logits, &ids(&[1], 3)).unwrap();
    assert!(loss.to_scalar::<f32>().unwrap().is_nan());
}
