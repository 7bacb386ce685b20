//! Sums against sums in double precision.
#![cfg(any(feature = "emulator", feature = "cuda"))]

mod support;

use forerunner_kernels::{StepTables, Type, column_sums, scale_by, sum, sum_of_squares};
use support::{assert_close, machines, noise, rounded, rounded_all};

/// Sums in single precision of numbers that cancel in part.
const F32: f64 = 1e-5;

#[test]
fn columns_add_up() {
    for machine in machines() {
        // Few and many rows, one and several blocks of columns, both paths, nothing at all.
        for (rows, columns) in
            [(1, 1), (5, 8), (33, 7), (100, 40), (700, 264), (65, 300), (1000, 16), (0, 8)]
        {
            let what = format!("[{rows}, {columns}]");
            let x = noise(rows * columns, 1);
            let on_x = machine.upload_f32(Type::Bf16, &x).unwrap();
            let mut want = vec![0.0; columns];
            for row in rounded_all(&x).chunks_exact(columns) {
                want.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
            let mut sums = machine.scratch(Type::F32, columns).unwrap();
            column_sums(&machine, (rows, columns), &on_x.view(), &mut sums.view_mut(), false)
                .unwrap();
            assert_close(&what, &machine.download(&sums.view()).unwrap(), &want, F32);
            let before = noise(columns, 2);
            let mut sums = machine.upload_f32(Type::F32, &before).unwrap();
            column_sums(&machine, (rows, columns), &on_x.view(), &mut sums.view_mut(), true)
                .unwrap();
            want.iter_mut().zip(&before).for_each(|(sum, &before)| *sum += f64::from(before));
            assert_close(&what, &machine.download(&sums.view()).unwrap(), &want, F32);
        }
        // Where rows start anywhere.
        let x = noise(1 + 3 * 16, 1);
        let on_x = machine.upload_f32(Type::Bf16, &x).unwrap();
        let mut sums = machine.scratch(Type::F32, 16).unwrap();
        let view = on_x.view().part(1..x.len());
        column_sums(&machine, (3, 16), &view, &mut sums.view_mut(), false).unwrap();
        let x = rounded_all(&x[1..]);
        let want: Vec<f64> = (0..16).map(|c| x[c] + x[16 + c] + x[32 + c]).collect();
        assert_close("unaligned", &machine.download(&sums.view()).unwrap(), &want, F32);
    }
}

#[test]
fn everything_adds_up() {
    for machine in machines() {
        for len in [0, 1, 5, 1000, 4096, 4097, 20_003] {
            for type_ in [Type::F32, Type::Bf16] {
                // Numbers that do not cancel, so that the bound is one of rounding.
                let x: Vec<f32> = noise(len, 1).iter().map(|x| x + 1.0).collect();
                let on_x = machine.upload_f32(type_, &x).unwrap();
                let mut total = machine.scratch(Type::F32, 1).unwrap();
                let mut run = |from: usize| {
                    let x = on_x.view().part(from..len);
                    sum(&machine, &x, &mut total.view_mut(), 0.25).unwrap();
                    machine.download(&total.view()).unwrap()
                };
                let want = |from: usize| {
                    let value =
                        |&x: &f32| f64::from(if type_ == Type::Bf16 { rounded(x) } else { x });
                    [0.25 * x[from..].iter().map(value).sum::<f64>()]
                };
                let what = format!("{len} of {type_:?}");
                assert_close(&what, &run(0), &want(0), 1e-6);
                let from = len.min(1);
                assert_close(&format!("{what}, unaligned"), &run(from), &want(from), 1e-6);
            }
        }
    }
}

#[test]
fn squares_of_many_tensors_add_up() {
    for machine in machines() {
        let lengths = [1, 0, 33_000, 7, 32_768, 70_001, 8];
        let tensors: Vec<(Type, Vec<f32>)> = (0u64..)
            .zip(lengths)
            .map(|(seed, len)| {
                let type_ = if seed.is_multiple_of(2) { Type::F32 } else { Type::Bf16 };
                let scale = 1.0 + seed as f32;
                (type_, noise(len, seed).iter().map(|x| scale * x).collect())
            })
            .collect();
        let buffers: Vec<_> = tensors
            .iter()
            .map(|(type_, values)| machine.upload_f32(*type_, values).unwrap())
            .collect();
        let mut views: Vec<_> = buffers.iter().map(|buffer| buffer.view()).collect();
        // One that starts anywhere.
        views.push(buffers[2].view().part(3..20_000));
        let squares = |values: &[f32], type_| -> f64 {
            let value = |&x: &f32| f64::from(if type_ == Type::Bf16 { rounded(x) } else { x });
            values.iter().map(|x| value(x).powi(2)).sum()
        };
        let want = tensors.iter().map(|(type_, values)| squares(values, *type_)).sum::<f64>()
            + squares(&tensors[2].1[3..20_000], Type::F32);
        let mut total = machine.scratch(Type::F32, 1).unwrap();
        let mut tables = StepTables::new();
        sum_of_squares(&machine, &mut tables, &views, &mut total.view_mut()).unwrap();
        assert_close("total", &machine.download(&total.view()).unwrap(), &[want], 1e-6);
        // The same again, from the table that is there.
        let mut again = machine.scratch(Type::F32, 1).unwrap();
        sum_of_squares(&machine, &mut tables, &views, &mut again.view_mut()).unwrap();
        let both = [&again, &total].map(|total| machine.download(&total.view()).unwrap());
        assert_eq!(both[0], both[1]);
        sum_of_squares(&machine, &mut tables, &[], &mut total.view_mut()).unwrap();
        assert_eq!(machine.download(&total.view()).unwrap(), [0.0], "of nothing");
    }
}

#[test]
fn everything_is_scaled() {
    for machine in machines() {
        for len in [1, 8, 1000, 4099] {
            for type_ in [Type::F32, Type::Bf16] {
                for factor in [0.3f32, 1.0] {
                    let values = noise(len, 1);
                    let mut x = machine.upload_f32(type_, &values).unwrap();
                    let by = machine.upload_f32(Type::F32, &[factor]).unwrap();
                    scale_by(&machine, &mut x.view_mut(), &by.view()).unwrap();
                    let round = |x: f32| if type_ == Type::Bf16 { rounded(x) } else { x };
                    let want: Vec<f32> = values.iter().map(|&x| round(round(x) * factor)).collect();
                    assert_eq!(machine.download(&x.view()).unwrap(), want, "{len} of {type_:?}");
                }
            }
        }
    }
}

#[cfg(feature = "emulator")]
#[test]
fn no_bit_depends_on_the_order_of_threads() {
    use forerunner_kernels::Machine;
    let run = |seed| {
        let machine = Machine::emulated(seed);
        let x = machine.upload_f32(Type::Bf16, &noise(500 * 264, 1)).unwrap();
        let mut sums = machine.scratch(Type::F32, 264).unwrap();
        let mut totals = machine.scratch(Type::F32, 2).unwrap();
        column_sums(&machine, (500, 264), &x.view(), &mut sums.view_mut(), false).unwrap();
        sum(&machine, &x.view(), &mut totals.view_mut().part(0..1), 1.0).unwrap();
        let (mut tables, mut totals_view) = (StepTables::new(), totals.view_mut());
        let to = &mut totals_view.part(1..2);
        sum_of_squares(&machine, &mut tables, &[x.view()], to).unwrap();
        let results = [sums, totals].map(|buffer| machine.download(&buffer.view()).unwrap());
        results.concat().iter().map(|value| value.to_bits()).collect::<Vec<u32>>()
    };
    let first = run(1);
    for seed in 2..6 {
        assert_eq!(run(seed), first, "seed {seed}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    for machine in machines() {
        let x = machine.zeros(Type::Bf16, 24).unwrap();
        let integers = machine.upload_u32(&[1, 2]).unwrap();
        let mut to = machine.zeros(Type::F32, 5).unwrap();
        let to = &mut to.view_mut();
        let refused = |result: Result<(), forerunner_kernels::Error>, message| {
            assert_eq!(result.unwrap_err().to_string(), message);
        };
        refused(
            column_sums(&machine, (4, 6), &x.view(), to, false),
            "column_sums: `sums` has 5 values of F32 where 6 of F32 were expected",
        );
        refused(
            column_sums(&machine, (5, 5), &x.view(), to, false),
            "column_sums: `x` has 24 values of Bf16 where 25 of Bf16 were expected",
        );
        refused(
            sum(&machine, &x.view(), to, 1.0),
            "sum: `total` has 5 values of F32 where 1 of F32 were expected",
        );
        refused(
            sum(&machine, &integers.view(), to, 1.0),
            "sum: integers where f32 or bf16 were expected",
        );
        refused(
            sum_of_squares(&machine, &mut StepTables::new(), &[integers.view()], to),
            "sum_of_squares: integers where f32 or bf16 were expected",
        );
        refused(
            scale_by(&machine, to, &x.view()),
            "scale_by: `factor` has 24 values of Bf16 where 1 of F32 were expected",
        );
    }
}
