//! Optimizers against their formulas in plain `f64` loops.

use candle_core::{Device, Tensor, Var};
use forerunner_train_ops as ops;

use crate::check::noise;

pub(crate) fn values(tensor: &Tensor) -> Vec<f64> {
    let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    values.into_iter().map(f64::from).collect()
}

/// Takes 20 steps with `step` and with `reference` on the same gradients, halved by the scale; both
/// are told the number of the step. Compares the parameters after each.
pub(crate) fn follow(
    shape: &[usize],
    tolerance: f64,
    mut step: impl FnMut(&Var, &Tensor, &Tensor, usize) -> candle_core::Result<()>,
    mut reference: impl FnMut(&mut [f64], &[f64], usize),
) {
    let parameter = noise(shape, 1);
    let half = Tensor::new(0.5f32, &Device::Cpu).unwrap();
    let mut expected = values(&parameter);
    for step_number in 1..=20 {
        let gradient = noise(shape, 100 + step_number as u64);
        step(&parameter, &gradient, &half, step_number).unwrap();
        let gradient: Vec<f64> = values(&gradient).into_iter().map(|g| 0.5 * g).collect();
        reference(&mut expected, &gradient, step_number);
        for (at, (got, expected)) in values(&parameter).into_iter().zip(&expected).enumerate() {
            let off = (got - expected).abs();
            assert!(off < tolerance, "step {step_number} at {at}: {got}, not {expected}");
        }
    }
}

fn adamw_settings(step: usize) -> ops::AdamW {
    let (beta1, beta2) = (0.8, 0.9);
    ops::AdamW { learning_rate: 0.03, beta1, beta2, epsilon: 1e-3, weight_decay: 0.2, step }
}

/// Plain AdamW with the settings above: returns the updates before learning rate and decay.
fn adamw_updates(m: &mut [f64], v: &mut [f64], gradient: &[f64], step: usize) -> Vec<f64> {
    let step = step as i32;
    let moments = m.iter_mut().zip(v);
    let one = |((m, v), g): ((&mut f64, &mut f64), &f64)| {
        *m = 0.8 * *m + 0.2 * g;
        *v = 0.9 * *v + 0.1 * g * g;
        let (m, v) = (*m / (1.0 - 0.8f64.powi(step)), *v / (1.0 - 0.9f64.powi(step)));
        m / (v.sqrt() + 1e-3)
    };
    moments.zip(gradient).map(one).collect()
}

#[test]
fn adamw() {
    let mut moments = ops::Moments::zeros_like(&noise(&[5, 7], 1));
    let (mut m, mut v) = (vec![0.0; 35], vec![0.0; 35]);
    follow(
        &[5, 7],
        1e-5,
        |p, g, scale, step| ops::adamw(p, g, scale, &mut moments, &adamw_settings(step)),
        |p, g, step| {
            for (p, update) in p.iter_mut().zip(adamw_updates(&mut m, &mut v, g, step)) {
                *p -= 0.03 * (update + 0.2 * *p);
            }
        },
    );
}

#[test]
fn cautious_adamw() {
    for (update, decay) in [(false, false), (false, true), (true, false), (true, true)] {
        let caution = ops::Caution { update, decay };
        let mut moments = ops::Moments::zeros_like(&noise(&[5, 7], 1));
        let (mut m, mut v) = (vec![0.0; 35], vec![0.0; 35]);
        let (mut left_out, mut undecayed) = (0, 0);
        follow(
            &[5, 7],
            1e-5,
            |p, g, scale, step| {
                ops::cautious_adamw(p, g, scale, &mut moments, &adamw_settings(step), caution)
            },
            |p, g, step| {
                let mut updates = adamw_updates(&mut m, &mut v, g, step);
                if update {
                    let kept = updates.iter().zip(g).filter(|(u, g)| *u * *g > 0.0).count();
                    left_out += 35 - kept;
                    for (u, g) in updates.iter_mut().zip(g) {
                        *u *= if *u * g > 0.0 { 35.0 / (kept as f64 + 1.0) } else { 0.0 };
                    }
                }
                for (p, u) in p.iter_mut().zip(updates) {
                    let decays = !decay || u * *p > 0.0;
                    undecayed += usize::from(!decays);
                    *p -= 0.03 * (u + if decays { 0.2 * *p } else { 0.0 });
                }
            },
        );
        assert_eq!((left_out > 0, undecayed > 0), (update, decay), "nothing to be cautious about");
    }
}

#[test]
fn lion() {
    let settings = ops::Lion { learning_rate: 0.03, beta1: 0.8, beta2: 0.95, weight_decay: 0.2 };
    let mut momentum = ops::Momentum::zeros_like(&noise(&[5, 7], 1));
    let mut m = [0.0; 35];
    follow(
        &[5, 7],
        1e-5,
        |p, g, scale, _| ops::lion(p, g, scale, &mut momentum, &settings),
        |p, g, _| {
            for ((p, g), m) in p.iter_mut().zip(g).zip(&mut m) {
                *p -= 0.03 * ((0.8 * *m + 0.2 * g).signum() + 0.2 * *p);
                *m = 0.95 * *m + 0.05 * g;
            }
        },
    );
}

#[test]
fn lion_leaves_alone_what_has_no_gradient_and_passes_on_what_is_not_a_number() {
    let settings = ops::Lion { learning_rate: 0.5, beta1: 0.8, beta2: 0.95, weight_decay: 0.0 };
    let parameter = Var::new(&[1f32, 1.0], &Device::Cpu).unwrap();
    let gradient = Tensor::new(&[0f32, f32::NAN], &Device::Cpu).unwrap();
    let mut momentum = ops::Momentum::zeros_like(&parameter);
    let one = Tensor::new(1f32, &Device::Cpu).unwrap();
    ops::lion(&parameter, &gradient, &one, &mut momentum, &settings).unwrap();
    let got = values(&parameter);
    assert!(got[0] == 1.0 && got[1].is_nan(), "{got:?}");
}
