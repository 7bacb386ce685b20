//! Activations against their definitions in double precision.
#![cfg(any(feature = "emulator", feature = "cuda"))]

mod support;

use forerunner_kernels::{
    Activation, Type, activation_backward, activation_forward, swiglu_backward, swiglu_forward,
};
use support::{assert_close, machines, noise, rounded, rounded_all};

/// Results are rounded to bf16: at most 2⁻⁹ of each, about 1e-3 by norm.
const BF16: f64 = 3e-3;

fn value(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Gelu => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::ReluSquared => x.max(0.0).powi(2),
        Activation::Softcap(cap) => f64::from(cap) * (x / f64::from(cap)).tanh(),
    }
}

/// The derivative, by differences: errors of 1e-9 or so.
fn slope(f: impl Fn(f64) -> f64, x: f64) -> f64 {
    let step = 1e-5;
    (f(x + step) - f(x - step)) / (2.0 * step)
}

const ACTIVATIONS: [Activation; 3] =
    [Activation::Gelu, Activation::ReluSquared, Activation::Softcap(1.5)];

#[test]
fn values_and_gradients_follow_the_definition() {
    for machine in machines() {
        for len in [1, 7, 8, 1000, 4096, 4099, 9000] {
            let x: Vec<f32> = noise(len, 1).iter().map(|x| rounded(4.0 * x)).collect();
            let dy = noise(len, 2);
            let [on_x, on_dy] = [&x, &dy].map(|v| machine.upload_f32(Type::Bf16, v).unwrap());
            for activation in ACTIVATIONS {
                let f = |x| value(activation, x);
                let wide = x.iter().map(|&x| f64::from(x));
                let mut y = machine.scratch(Type::Bf16, len).unwrap();
                activation_forward(&machine, activation, &on_x.view(), &mut y.view_mut()).unwrap();
                let want: Vec<f64> = wide.clone().map(f).collect();
                let got = machine.download(&y.view()).unwrap();
                assert_close(&format!("{activation:?} of {len}"), &got, &want, BF16);
                let mut dx = machine.scratch(Type::Bf16, len).unwrap();
                let (x, dy_view, to) = (&on_x.view(), &on_dy.view(), &mut dx.view_mut());
                activation_backward(&machine, activation, x, dy_view, to).unwrap();
                let want: Vec<f64> =
                    wide.zip(rounded_all(&dy)).map(|(x, dy)| dy * slope(f, x)).collect();
                let got = machine.download(&dx.view()).unwrap();
                assert_close(&format!("slope of {activation:?} of {len}"), &got, &want, BF16);
            }
        }
    }
}

/// What a norm over many values would not see: each result, the small and the large ones too.
#[test]
fn every_value_is_as_near_as_bf16_allows() {
    let x: Vec<f32> = (-900..=900).map(|i| rounded(i as f32 / 100.0)).collect();
    for machine in machines() {
        let on_x = machine.upload_f32(Type::Bf16, &x).unwrap();
        let mut y = machine.scratch(Type::Bf16, x.len()).unwrap();
        for activation in ACTIVATIONS {
            activation_forward(&machine, activation, &on_x.view(), &mut y.view_mut()).unwrap();
            for (&x, got) in x.iter().zip(machine.download(&y.view()).unwrap()) {
                let want = value(activation, x.into());
                // Half a unit in the last place is 2⁻⁹; a device's hyperbolic tangent adds 2⁻¹¹. The
                // definition itself, in doubles, loses GELUs below 1e-16.
                let bound = want.abs() / 256.0 + 1e-14;
                assert!((f64::from(got) - want).abs() <= bound, "{activation:?}({x}): {got}");
            }
        }
    }
}

#[test]
fn what_is_no_number_or_beyond_all_passes() {
    let x = [f32::NAN, f32::INFINITY, 1e30, -1e30, 0.0];
    for machine in machines() {
        let on_x = machine.upload_f32(Type::Bf16, &x).unwrap();
        let mut y = machine.scratch(Type::Bf16, x.len()).unwrap();
        let mut run = |activation| {
            activation_forward(&machine, activation, &on_x.view(), &mut y.view_mut()).unwrap();
            machine.download(&y.view()).unwrap()
        };
        let large = rounded(1e30);
        let gelu = run(Activation::Gelu);
        assert!(gelu[0].is_nan());
        assert_eq!(gelu[1..], [f32::INFINITY, large, 0.0, 0.0]);
        let squares = run(Activation::ReluSquared);
        assert!(squares[0].is_nan());
        assert_eq!(squares[1..], [f32::INFINITY, f32::INFINITY, 0.0, 0.0]);
        let capped = run(Activation::Softcap(2.0));
        assert!(capped[0].is_nan());
        assert_eq!(capped[1..], [2.0, 2.0, -2.0, 0.0]);
    }
}

#[test]
fn gates_open_values() {
    let silu = |a: f64| a / (1.0 + (-a).exp());
    for machine in machines() {
        for (rows, half) in [(1, 1), (3, 7), (5, 8), (40, 24), (7, 300), (2, 1024)] {
            let what = |part: &str| format!("{part} of [{rows}, {half}]");
            let x: Vec<f32> = noise(2 * rows * half, 1).iter().map(|x| rounded(4.0 * x)).collect();
            let dy = noise(rows * half, 2);
            let [on_x, on_dy] = [&x, &dy].map(|v| machine.upload_f32(Type::Bf16, v).unwrap());
            let (mut y, mut dx) = (
                machine.scratch(Type::Bf16, rows * half).unwrap(),
                machine.scratch(Type::Bf16, 2 * rows * half).unwrap(),
            );
            swiglu_forward(&machine, (rows, half), &on_x.view(), &mut y.view_mut()).unwrap();
            let (x_view, dy_view) = (&on_x.view(), &on_dy.view());
            swiglu_backward(&machine, (rows, half), x_view, dy_view, &mut dx.view_mut()).unwrap();
            let (mut want_y, mut want_dx) = (Vec::new(), Vec::new());
            for (x, dy) in x.chunks_exact(2 * half).zip(rounded_all(&dy).chunks_exact(half)) {
                let (a, b) = x.split_at(half);
                let all =
                    || a.iter().zip(b).zip(dy).map(|((&a, &b), &dy)| (a.into(), b.into(), dy));
                want_y.extend(all().map(|(a, b, _): (f64, f64, f64)| silu(a) * b));
                want_dx.extend(all().map(|(a, b, dy): (f64, f64, f64)| dy * b * slope(silu, a)));
                want_dx.extend(all().map(|(a, _, dy): (f64, f64, f64)| dy * silu(a)));
            }
            assert_close(&what("y"), &machine.download(&y.view()).unwrap(), &want_y, BF16);
            assert_close(&what("dx"), &machine.download(&dx.view()).unwrap(), &want_dx, BF16);
        }
    }
}

/// Rows of halves that start anywhere take the plain path.
#[test]
fn gates_need_no_alignment() {
    for machine in machines() {
        let (rows, half) = (3, 16);
        let x = [vec![f32::NAN], noise(2 * rows * half, 1)].concat();
        let on_x = machine.upload_f32(Type::Bf16, &x).unwrap();
        let aligned = machine.upload_f32(Type::Bf16, &x[1..]).unwrap();
        let [mut y, mut want] = [(); 2].map(|()| machine.scratch(Type::Bf16, rows * half).unwrap());
        let view = on_x.view().part(1..x.len());
        swiglu_forward(&machine, (rows, half), &view, &mut y.view_mut()).unwrap();
        swiglu_forward(&machine, (rows, half), &aligned.view(), &mut want.view_mut()).unwrap();
        let [y, want] = [y, want].map(|buffer| machine.download(&buffer.view()).unwrap());
        assert_eq!(y, want);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    for machine in machines() {
        let x = machine.zeros(Type::Bf16, 16).unwrap();
        let mut y = machine.zeros(Type::Bf16, 16).unwrap();
        let mut refusal = |activation, from, to| {
            let (x, y) = (x.view().part(from..16), &mut y.view_mut());
            let error = activation_forward(&machine, activation, &x, &mut y.part(to..16));
            error.unwrap_err().to_string()
        };
        let too_few = "activation_forward: `y` has 16 values of Bf16 where 8 of Bf16 were expected";
        assert_eq!(refusal(Activation::Gelu, 8, 0), too_few);
        let misaligned = "activation_forward: memory does not start at a multiple of 16 bytes";
        assert_eq!(refusal(Activation::Gelu, 1, 1), misaligned);
        let cap = "activation_forward: cap -1 is not a positive number";
        assert_eq!(refusal(Activation::Softcap(-1.0), 0, 0), cap);
    }
}
