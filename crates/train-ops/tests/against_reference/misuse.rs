//! What does not fit is an error that names the operation and both shapes.

use candle_core::{Device, Result, Tensor};
use forerunner_train_ops as ops;

use crate::check::{ids, noise};

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
    check(ops::rms_norm(&x, &x, 1e-5), "gain [2, 3] does not fit x [2, 3]");
    check(ops::rms_norm_plain(&noise(&[2, 0], 1), 1e-5), "the last dimension of x [2, 0] is empty");
    check(ops::swiglu(&x), "the last dimension of x [2, 3] has no halves");
    for cap in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        check(ops::softcap(&x, cap), "is not a positive number");
    }
    let qkv = noise(&[1, 2, 18], 1);
    check(ops::windowed_attention(&qkv, 2, 0), "in a window of 0");
    check(ops::windowed_attention(&x, 1, 1), "unexpected rank");
    for heads in [0, 4, 7, usize::MAX] {
        check(ops::windowed_attention(&qkv, heads, 1), "18 channels do not split");
        check(ops::qk_norm(&qkv, heads, 1.0), "18 channels do not split");
        check(ops::rotary(&qkv, heads, 1e4), "18 channels do not split");
    }
    check(ops::rotary(&qkv, 2, 1e4), "the 3 channels of a head have no halves");
    check(ops::rotary(&qkv, 3, 0.0), "base 0 is not a positive number");
    let loss = ops::cross_entropy(&x, &ids(&[2], 3)).unwrap();
    loss.backward().unwrap();
    assert!(loss.backward().unwrap_err().to_string().contains("backward ran twice"));
}

#[test]
fn optimizers_refuse_what_does_not_fit() {
    let (square, cube) = (noise(&[4, 4], 1), noise(&[2, 2, 2], 1));
    let one = Tensor::new(1f32, &Device::Cpu).unwrap();
    let check = |result: Result<()>, expected: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let mut momentum = ops::Momentum::zeros_like(&square);
    let mut moments = ops::Moments::zeros_like(&square);
    let adamw = ops::AdamW {
        learning_rate: 0.1,
        beta1: 0.9,
        beta2: 0.9,
        epsilon: 1e-8,
        weight_decay: 0.0,
        step: 1,
    };
    let lion = ops::Lion { learning_rate: 0.1, beta1: 0.9, beta2: 0.9, weight_decay: 0.0 };
    let muon = ops::Muon {
        learning_rate: 0.1,
        momentum: 0.9,
        nesterov: true,
        weight_decay: 0.0,
        iterations: 5,
        parts: 1,
        polynomial: ops::Polynomial::Quintic,
    };
    check(ops::adamw(&square, &cube, &one, &mut moments, &adamw), "adamw: gradient [2, 2, 2]");
    check(
        ops::cautious_adamw(&cube, &cube, &one, &mut moments, &adamw, ops::Caution::default()),
        "do not fit parameter [2, 2, 2]",
    );
    check(ops::lion(&cube, &cube, &one, &mut momentum, &lion), "do not fit parameter [2, 2, 2]");
    check(ops::muon(&cube, &cube, &one, &mut momentum, &muon), "[2, 2, 2] is not a matrix");
    check(ops::muon(&square, &cube, &one, &mut momentum, &muon), "gradient [2, 2, 2]");
    let wide = noise(&[4, 5], 1);
    check(ops::muon(&wide, &wide, &one, &mut momentum, &muon), "do not fit parameter [4, 5]");
    for parts in [0, 3] {
        let muon = ops::Muon { parts, ..muon };
        let expected = format!("4 rows do not split into {parts} parts");
        check(ops::muon(&square, &square, &one, &mut momentum, &muon), &expected);
    }
    let muon = ops::Muon { iterations: 0, ..muon };
    check(ops::muon(&square, &square, &one, &mut momentum, &muon), "in 0 iterations");
}
