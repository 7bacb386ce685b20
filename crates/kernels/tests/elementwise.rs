//! Functions of each value against plain arithmetic.
#![cfg(any(feature = "emulator", feature = "cuda"))]

mod support;

use forerunner_kernels::{Type, accumulate, add, add_to, affine, fill, round_to_bf16, widen};
use support::{assert_close, machines, noise, rounded};

#[test]
fn sums_are_those_of_the_values() {
    for machine in machines() {
        for len in [1, 7, 8, 1000, 4099] {
            let (a, b) = (noise(len, 1), noise(len, 2));
            for type_ in [Type::F32, Type::Bf16] {
                let mut to = machine.upload_f32(type_, &a).unwrap();
                let from = machine.upload_f32(type_, &b).unwrap();
                add(&machine, &mut to.view_mut(), &from.view()).unwrap();
                let round = |x: f32| if type_ == Type::Bf16 { rounded(x) } else { x };
                let want: Vec<f32> =
                    a.iter().zip(&b).map(|(&a, &b)| round(round(a) + round(b))).collect();
                assert_eq!(machine.download(&to.view()).unwrap(), want, "{len} of {type_:?}");
            }
        }
    }
}

#[test]
fn sums_may_go_elsewhere() {
    for machine in machines() {
        for len in [1, 8, 4099] {
            let (a, b) = (noise(len, 1), noise(len, 2));
            for type_ in [Type::F32, Type::Bf16] {
                let upload = |values: &[f32]| machine.upload_f32(type_, values).unwrap();
                let (first, second) = (upload(&a), upload(&b));
                let mut to = machine.scratch(type_, len).unwrap();
                add_to(&machine, &mut to.view_mut(), &first.view(), &second.view()).unwrap();
                let round = |x: f32| if type_ == Type::Bf16 { rounded(x) } else { x };
                let sum = |(&a, &b): (&f32, &f32)| round(round(a) + round(b));
                let want: Vec<f32> = a.iter().zip(&b).map(sum).collect();
                assert_eq!(machine.download(&to.view()).unwrap(), want, "{len} of {type_:?}");
            }
        }
    }
}

#[test]
fn scaled_values_are_added() {
    for machine in machines() {
        for len in [1, 4, 7, 8, 4099] {
            let (a, b) = (noise(len, 1), noise(len, 2));
            for type_ in [Type::F32, Type::Bf16] {
                let mut to = machine.upload_f32(Type::F32, &a).unwrap();
                let from = machine.upload_f32(type_, &b).unwrap();
                accumulate(&machine, &mut to.view_mut(), &from.view(), -0.3).unwrap();
                let round = |x: f32| if type_ == Type::Bf16 { rounded(x) } else { x };
                let sum = |(&a, &b): (&f32, &f32)| f64::from(a) - 0.3 * f64::from(round(b));
                let want: Vec<f64> = a.iter().zip(&b).map(sum).collect();
                let what = format!("{len} of {type_:?}");
                assert_close(&what, &machine.download(&to.view()).unwrap(), &want, 1e-6);
            }
        }
    }
}

#[test]
fn values_are_scaled_and_moved() {
    for machine in machines() {
        for len in [1, 4, 7, 8, 4099] {
            for (type_, tolerance) in [(Type::F32, 1e-6), (Type::Bf16, 4e-3)] {
                let values = noise(len, 1);
                let from = machine.upload_f32(type_, &values).unwrap();
                let mut to = machine.scratch(type_, len).unwrap();
                affine(&machine, &mut to.view_mut(), &from.view(), (0.7, -2.0)).unwrap();
                let want: Vec<f64> = values.iter().map(|&x| 0.7 * f64::from(x) - 2.0).collect();
                let what = format!("{len} of {type_:?}");
                assert_close(&what, &machine.download(&to.view()).unwrap(), &want, tolerance);
            }
        }
    }
}

#[test]
fn memory_is_filled_and_widened() {
    for machine in machines() {
        for len in [1, 4, 7, 8, 4099] {
            let mut to = machine.scratch(Type::F32, len).unwrap();
            fill(&machine, &mut to.view_mut(), 0.3).unwrap();
            assert_eq!(machine.download(&to.view()).unwrap(), vec![0.3; len], "{len}");
            let values = noise(len, 1);
            let from = machine.upload_f32(Type::Bf16, &values).unwrap();
            widen(&machine, &mut to.view_mut(), &from.view()).unwrap();
            let want: Vec<f32> = values.iter().map(|&x| rounded(x)).collect();
            assert_eq!(machine.download(&to.view()).unwrap(), want, "{len}");
        }
    }
}

#[test]
fn rounding_is_to_the_nearest() {
    for machine in machines() {
        let mut values = noise(1003, 3);
        values.extend([0.0, -0.0, 1e30, f32::INFINITY, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0]);
        let from = machine.upload_f32(Type::F32, &values).unwrap();
        let mut to = machine.scratch(Type::Bf16, values.len()).unwrap();
        round_to_bf16(&machine, &mut to.view_mut(), &from.view()).unwrap();
        let want: Vec<f32> = values.iter().map(|&value| rounded(value)).collect();
        assert_eq!(machine.download(&to.view()).unwrap(), want);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    for machine in machines() {
        let mut to = machine.zeros(Type::F32, 4).unwrap();
        let from = machine.zeros(Type::F32, 5).unwrap();
        let error = add(&machine, &mut to.view_mut(), &from.view()).unwrap_err().to_string();
        assert_eq!(error, "add: `from` has 5 values of F32 where 4 of F32 were expected");
    }
}
