//! Matrix products against the definition.
#![cfg(any(feature = "emulator", feature = "cuda"))]

mod support;

use forerunner_kernels::{Epilogue, Gemm, Operand, Type, gemm};
use support::{assert_close, machines, noise, rounded_all};

/// Bound for sums in f32: tensor cores cut off what they cannot hold instead of rounding it.
const SINGLE: f64 = 4e-6;

/// `[batch, rows, columns]` transposed within the batch.
fn turned(values: &[f32], batch: usize, rows: usize, columns: usize) -> Vec<f32> {
    let at = |b: usize, i: usize, j: usize| values[(b * rows + i) * columns + j];
    (0..batch)
        .flat_map(|b| (0..columns).flat_map(move |j| (0..rows).map(move |i| (b, i, j))))
        .map(|(b, i, j)| at(b, i, j))
        .collect()
}

fn product(a: &[f64], b: &[f64], (batch, m, n, k): (usize, usize, usize, usize)) -> Vec<f64> {
    let mut result = Vec::new();
    for matrix in 0..batch {
        for i in 0..m {
            for j in 0..n {
                let at = |l| a[(matrix * m + i) * k + l] * b[(matrix * k + l) * n + j];
                result.push((0..k).map(at).sum());
            }
        }
    }
    result
}

#[test]
fn products_follow_the_definition() {
    for machine in machines() {
        for (batch, m, n, k) in [(1, 1, 1, 1), (1, 8, 16, 24), (3, 8, 24, 16), (1, 40, 48, 128)] {
            let (a, b) = (noise(batch * m * k, 1), noise(batch * k * n, 2));
            let want = product(&rounded_all(&a), &rounded_all(&b), (batch, m, n, k));
            for (a_turned, b_turned) in [(false, false), (true, false), (false, true), (true, true)]
            {
                let stored = |x: &[f32], rows, columns, turn| {
                    let x = if turn { turned(x, batch, rows, columns) } else { x.to_vec() };
                    machine.upload_f32(Type::Bf16, &x).unwrap()
                };
                let (a, b) = (stored(&a, m, k, a_turned), stored(&b, k, n, b_turned));
                let operand = |values, transposed| Operand { values, transposed, row_stride: None };
                for (type_, bound) in [(Type::F32, SINGLE), (Type::Bf16, 3e-3)] {
                    let mut to = machine.scratch(type_, batch * m * n).unwrap();
                    let (a, b) = (operand(a.view(), a_turned), operand(b.view(), b_turned));
                    let plain = Gemm { batch, ..Gemm::new((m, n, k), a, b, to.view_mut()) };
                    gemm(&machine, plain).unwrap();
                    assert_close("written", &machine.download(&to.view()).unwrap(), &want, bound);
                    let more = Gemm::new((m, n, k), a, b, to.view_mut());
                    let more = Gemm { batch, accumulate: true, scale: 0.5, ..more };
                    gemm(&machine, more).unwrap();
                    let want: Vec<f64> = want.iter().map(|x| 1.5 * x).collect();
                    assert_close(
                        "added",
                        &machine.download(&to.view()).unwrap(),
                        &want,
                        2.0 * bound,
                    );
                }
            }
        }
    }
}

#[test]
fn epilogues_finish_products() {
    let gelu = |x: f64| {
        let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
        0.5 * x * (1.0 + inner.tanh())
    };
    // The last two have no rows of whole eights.
    for (m, n, k) in [(16, 24, 32), (8, 12, 16), (3, 5, 7)] {
        epilogues_of(m, n, k, gelu);
    }
}

fn epilogues_of(m: usize, n: usize, k: usize, gelu: impl Fn(f64) -> f64) {
    for machine in machines() {
        let (a, b, bias) = (noise(m * k, 1), noise(k * n, 2), noise(n, 3));
        let plain = product(&rounded_all(&a), &rounded_all(&b), (1, m, n, k));
        let biased: Vec<f64> =
            plain.iter().zip(rounded_all(&bias).iter().cycle()).map(|(x, b)| x + b).collect();
        let upload = |values: &[f32]| machine.upload_f32(Type::Bf16, values).unwrap();
        let (a, b, bias) = (upload(&a), upload(&b), upload(&bias));
        let (mut to, mut kept) = (
            machine.scratch(Type::Bf16, m * n).unwrap(),
            machine.scratch(Type::Bf16, m * n).unwrap(),
        );
        let mut try_run = |epilogue: Epilogue<'_>| {
            let (a, b) = (Operand::plain(a.view()), Operand::plain(b.view()));
            let product = Gemm { epilogue, ..Gemm::new((m, n, k), a, b, to.view_mut()) };
            let before = machine.counts().launches;
            gemm(&machine, product)?;
            if n.is_multiple_of(8) {
                assert_eq!(machine.counts().launches - before, 1, "all in one step");
            }
            machine.download(&to.view())
        };
        let mut run = |epilogue: Epilogue<'_>| try_run(epilogue).unwrap();
        assert_close("bias", &run(Epilogue::Bias(bias.view())), &biased, 3e-3);
        let want: Vec<f64> = biased.iter().map(|&x| gelu(x)).collect();
        let gelu_bound = if n.is_multiple_of(8) { 3e-3 } else { 6e-3 };
        assert_close(
            "gelu",
            &run(Epilogue::BiasGelu(bias.view(), kept.view_mut())),
            &want,
            gelu_bound,
        );
        assert_close("kept", &machine.download(&kept.view()).unwrap(), &biased, 3e-3);
        if !n.is_multiple_of(8) {
            let error = try_run(Epilogue::GeluGradient(kept.view())).unwrap_err().to_string();
            assert!(error.contains("whole eights"), "{error}");
            continue;
        }
        let slope = |x: f64| (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5;
        let want: Vec<f64> = plain.iter().zip(&biased).map(|(p, &x)| p * slope(x)).collect();
        // The kept values were rounded, so slopes are a little off.
        assert_close("slope", &try_run(Epilogue::GeluGradient(kept.view())).unwrap(), &want, 6e-3);
    }
}

#[test]
fn rows_may_lie_apart() {
    let (m, n, k) = (8, 24, 16);
    let apart = |values: &[f32], columns: usize, stride: usize| -> Vec<f32> {
        let row = |row: &[f32]| [row, &vec![f32::NAN; stride - columns]].concat();
        values.chunks_exact(columns).flat_map(row).collect()
    };
    for machine in machines() {
        let (a, b) = (noise(m * k, 1), noise(k * n, 2));
        let want = product(&rounded_all(&a), &rounded_all(&b), (1, m, n, k));
        let upload = |values: &[f32]| machine.upload_f32(Type::Bf16, values).unwrap();
        let (a, b) = (upload(&apart(&a, k, 24)), upload(&apart(&b, n, 32)));
        let mut to = machine.upload_f32(Type::F32, &vec![7.0; m * 40]).unwrap();
        let strided =
            |values, row_stride| Operand { row_stride: Some(row_stride), ..Operand::plain(values) };
        let (a, b) = (strided(a.view(), 24), strided(b.view(), 32));
        let product = Gemm { to_stride: Some(40), ..Gemm::new((m, n, k), a, b, to.view_mut()) };
        gemm(&machine, product).unwrap();
        let rows = machine.download(&to.view()).unwrap();
        let got: Vec<f32> = rows.chunks_exact(40).flat_map(|row| row[..n].to_vec()).collect();
        assert_close("strided", &got, &want, SINGLE);
        assert!(rows.chunks_exact(40).all(|row| row[n..] == [7.0; 16]), "between the rows");
    }
}

#[test]
fn another_matrix_may_be_added() {
    let (batch, m, n, k) = (2, 16, 24, 8);
    for machine in machines() {
        let (a, b) = (noise(batch * m * k, 1), noise(batch * k * n, 2));
        let other = noise(batch * m * n, 3);
        let product = product(&rounded_all(&a), &rounded_all(&b), (batch, m, n, k));
        let upload = |type_, values: &[f32]| machine.upload_f32(type_, values).unwrap();
        let (a, b) = (upload(Type::Bf16, &a), upload(Type::Bf16, &b));
        for (type_, bound) in [(Type::F32, SINGLE), (Type::Bf16, 3e-3)] {
            let other_buffer = upload(type_, &other);
            let mut to = machine.scratch(type_, batch * m * n).unwrap();
            let (a, b) = (Operand::plain(a.view()), Operand::plain(b.view()));
            let plain = Gemm::new((m, n, k), a, b, to.view_mut());
            let plus = Some((-3.0, other_buffer.view()));
            gemm(&machine, Gemm { batch, scale: 2.0, plus, ..plain }).unwrap();
            let added = machine.download(&other_buffer.view()).unwrap();
            let want: Vec<f64> =
                product.iter().zip(&added).map(|(x, &y)| 2.0 * x - 3.0 * f64::from(y)).collect();
            assert_close("sum", &machine.download(&to.view()).unwrap(), &want, bound);
            let both =
                Gemm { batch, plus, accumulate: true, ..Gemm::new((m, n, k), a, b, to.view_mut()) };
            let error = gemm(&machine, both).unwrap_err().to_string();
            assert!(error.starts_with("gemm: a matrix is added neither"), "{error}");
        }
    }
}
