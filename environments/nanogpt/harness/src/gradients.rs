//! Every operation that a program can name, against finite differences.

use crate::params::flat;
use crate::prelude::*;

/// Values between about 0.3 and 1.7, no two alike, away from the corners of `abs`, `relu`, `max`.
fn some(shape: &[usize], seed: usize) -> Var {
    let count: usize = shape.iter().product();
    let value = |i: usize| 0.3 + ((i * 7919 + seed * 104_729) % 1009) as f32 / 720.0;
    Var::new(&Tensor::from_vec((0..count).map(value).collect(), shape).unwrap()).unwrap()
}

/// Compares the gradients of a weighted sum of `operation` with its slopes, within 1 %.
fn check(name: &str, shapes: &[&[usize]], operation: impl Fn(&[Var]) -> Result<Tensor>) {
    let vars: Vec<Var> = shapes.iter().enumerate().map(|(i, shape)| some(shape, i + 1)).collect();
    let loss = || -> Result<Tensor> {
        let y = operation(&vars)?;
        let weights = some(y.dims(), 77);
        (y * &*weights)?.sum_all()
    };
    let gradients = loss().unwrap().backward().unwrap();
    for (idx, var) in vars.iter().enumerate() {
        let gradient = gradients.get(var).unwrap_or_else(|| panic!("{name}: no gradient {idx}"));
        let (gradient, values) = (flat(&gradient).unwrap(), flat(var).unwrap());
        for at in 0..values.len() {
            let shifted = |shift: f32| {
                let mut moved = values.clone();
                moved[at] += shift;
                var.set(&Tensor::from_vec(moved, var.dims()).unwrap()).unwrap();
                f64::from(flat(&loss().unwrap()).unwrap()[0])
            };
            let slope = (shifted(1e-2) - shifted(-1e-2)) / 2e-2;
            shifted(0.0);
            let off = (slope - f64::from(gradient[at])).abs();
            assert!(
                off < 5e-3 + 0.01 * slope.abs(),
                "{name}, argument {idx} at {at}: gradient {}, slope {slope}",
                gradient[at]
            );
        }
    }
}

#[test]
fn functions_of_each_value() {
    let check = |name, function: fn(&Tensor) -> Result<Tensor>| {
        check(name, &[&[2, 3]], |v| function(&v[0]));
        check(name, &[&[2, 3]], |v| function(&(v[0].neg()? + 3.0)?));
    };
    check("neg", Tensor::neg);
    check("abs", Tensor::abs);
    check("exp", Tensor::exp);
    check("ln", Tensor::ln);
    check("sqr", Tensor::sqr);
    check("sqrt", Tensor::sqrt);
    check("recip", Tensor::recip);
    check("sin", Tensor::sin);
    check("cos", Tensor::cos);
    check("tanh", Tensor::tanh);
    check("relu", Tensor::relu);
    check("silu", Tensor::silu);
    check("gelu", gelu);
    check("powf", |x| x.powf(1.7));
    check("plus a number", |x| x + 0.7);
    check("minus a number", |x| x - 0.7);
    check("times a number", |x| x * 0.7);
    check("by a number", |x| x / 0.7);
}

#[test]
fn operators_and_their_broadcasting() {
    for shapes in [[&[2usize, 3][..], &[2, 3]], [&[2, 3], &[3]], [&[2, 1], &[1, 3]]] {
        check("+", &shapes, |v| &*v[0] + &*v[1]);
        check("-", &shapes, |v| &*v[0] - &*v[1]);
        check("*", &shapes, |v| &*v[0] * &*v[1]);
        check("/", &shapes, |v| &*v[0] / &*v[1]);
        check("maximum", &shapes, |v| v[0].maximum(&v[1]));
        check("minimum", &shapes, |v| v[0].minimum(&v[1]));
    }
}

#[test]
fn products_sums_and_shapes() {
    check("matmul", &[&[2, 3], &[3, 4]], |v| v[0].matmul(&v[1]));
    check("matmul, batched", &[&[2, 2, 3], &[3, 2]], |v| v[0].matmul(&v[1]));
    check("sum_all", &[&[2, 3]], |v| v[0].sum_all());
    check("mean_all", &[&[2, 3]], |v| v[0].mean_all());
    check("sum", &[&[2, 3]], |v| v[0].sum(0));
    check("mean", &[&[2, 3]], |v| v[0].mean(1));
    check("max", &[&[2, 3]], |v| v[0].max(1));
    check("softmax", &[&[2, 3]], |v| v[0].softmax(1));
    check("reshape", &[&[2, 3]], |v| v[0].reshape((3, 2)));
    check("transpose", &[&[2, 3]], |v| v[0].transpose(0, 1));
    check("narrow", &[&[2, 3]], |v| v[0].narrow(1, 1, 2));
    check("broadcast_as", &[&[2, 1]], |v| v[0].broadcast_as((3, 2, 2)));
    check("cat", &[&[2, 3], &[1, 3]], |v| Tensor::cat(&[(*v[0]).clone(), (*v[1]).clone()], 0));
}

#[test]
fn fused_operations() {
    let tokens = Tokens::new(vec![0, 3, 1, 2, 3, 3], 2, 4).unwrap();
    check("embedding", &[&[4, 2]], |v| embedding(&v[0], &tokens));
    check("embedding, previous", &[&[4, 2]], |v| embedding(&v[0], &tokens.previous(2)?));
    check("embedding, positions", &[&[3, 2]], |v| embedding(&v[0], &tokens.positions()?));
    check("embedding, part", &[&[4, 2]], |v| embedding(&v[0], &tokens.sequences(1, 1)?));
    check("linear", &[&[2, 3, 2], &[4, 2], &[4]], |v| linear(&v[0], &v[1], &v[2]));
    check("linear_no_bias", &[&[2, 3, 2], &[4, 2]], |v| linear_no_bias(&v[0], &v[1]));
    check("layer_norm", &[&[2, 4], &[4], &[4]], |v| layer_norm(&v[0], &v[1], &v[2], 0.1));
    check("causal_attention", &[&[1, 3, 12]], |v| causal_attention(&v[0], 2));
    check("embedding, hashed", &[&[5, 2]], |v| embedding(&v[0], &tokens.hashed(2, 5)?));
    check("embedding, slice", &[&[4, 2]], |v| embedding(&v[0], &tokens.slice(1, 2)?));
    check("relu_squared", &[&[2, 3]], |v| relu_squared(&v[0]));
    check("relu_squared, both signs", &[&[2, 3]], |v| relu_squared(&(&*v[0] - 1.0)?));
    check("swiglu", &[&[2, 3, 6]], |v| swiglu(&v[0]));
    check("softcap", &[&[2, 3]], |v| softcap(&v[0], 1.3));
    check("rms_norm", &[&[2, 4], &[4]], |v| rms_norm(&v[0], &v[1], 0.1));
    check("rms_norm_plain", &[&[2, 4]], |v| rms_norm_plain(&v[0], 0.1));
    check("rotary", &[&[2, 3, 12]], |v| rotary(&v[0], 2, 100.0));
    check("qk_norm", &[&[2, 3, 12]], |v| qk_norm(&v[0], 2, 1.3));
    check("windowed_attention", &[&[1, 4, 12]], |v| windowed_attention(&v[0], 2, 2));
    check("cross_entropy, slice", &[&[2, 2, 4]], |v| cross_entropy(&v[0], &tokens.slice(1, 2)?));
    check("cross_entropy", &[&[2, 3, 4]], |v| cross_entropy(&v[0], &tokens));
    check("head_loss", &[&[2, 3, 2], &[4, 2]], |v| head_loss(&v[0], &v[1], &tokens));
    check("sum_of_squares", &[&[2, 3]], |v| sum_of_squares(&v[0]));
    check("linear_gelu", &[&[2, 3, 2], &[4, 2], &[4]], |v| linear_gelu(&v[0], &v[1], &v[2]));
    check("softcapped_head_loss", &[&[2, 3, 2], &[4, 2]], |v| {
        softcapped_head_loss(&v[0], &v[1], &tokens, 1.3)
    });
    let both = |(sum, normal): (Tensor, Tensor)| sum * normal;
    check("residual_layer_norm", &[&[2, 4], &[2, 4], &[4], &[4]], |v| {
        both(residual_layer_norm(&v[0], &v[1], &v[2], &v[3], 0.1)?)
    });
    check("residual_rms_norm", &[&[2, 4], &[2, 4]], |v| {
        both(residual_rms_norm(&v[0], &v[1], 0.1)?)
    });
}

/// Fails unless a scalar has a value and no gradient.
fn passes_none(name: &str, function: impl Fn(&Var) -> Result<Tensor>) {
    let var = some(&[2, 3], 1);
    let scalar = function(&var).unwrap();
    assert!(crate::params::flat(&scalar).unwrap()[0] > 0.0, "{name}");
    assert!(scalar.backward().unwrap().get(&var).is_none(), "{name}");
}

#[test]
fn what_is_made_of_gradients_passes_none() {
    passes_none("sum_of_squares_all", |var| {
        sum_of_squares_all(&[(**var).clone(), (**var).clone()])
    });
}

#[test]
fn a_detached_tensor_passes_no_gradient() {
    let var = some(&[2], 1);
    let gradients = var.detach().sum_all().unwrap().backward().unwrap();
    assert!(gradients.get(&var).is_none());
}

#[test]
fn every_exported_operation_is_checked() {
    let functions = include_str!("operations.rs").lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("pub fn ")?.split_once('(')?;
        Some(name)
    });
    let names: Vec<&str> = functions.collect();
    assert!(names.contains(&"linear") && names.contains(&"swiglu"), "{names:?}");
    for name in names {
        let calls = ["check", "passes_none"].map(|check| format!("{check}(\"{name}\","));
        let checked = calls.iter().any(|call| include_str!("gradients.rs").contains(call));
        assert!(checked, "`{name}` is not checked");
    }
}
