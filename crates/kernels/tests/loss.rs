//! Cross-entropy against its definition in f64.
#![cfg(any(feature = "emulator", feature = "cuda"))]

mod support;

use forerunner_kernels::{
    LossSizes, Machine, Type, cross_entropy_backward, cross_entropy_backward_in_place,
    cross_entropy_forward, mean_loss,
};
use support::{assert_close, machines, noise, rounded};

/// Loss, `ln Σ exp` and `softmax - target` of a row.
fn reference(row: &[f32], target: usize) -> (f64, f64, Vec<f64>) {
    let row: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
    let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = top + row.iter().map(|x| (x - top).exp()).sum::<f64>().ln();
    let mut gradient: Vec<f64> = row.iter().map(|x| (x - log_sum).exp()).collect();
    gradient[target] -= 1.0;
    (log_sum - row[target], log_sum, gradient)
}

/// Rows `row_stride` apart, with NaN between them.
fn padded(logits: &[f32], sizes: LossSizes) -> Vec<f32> {
    let gap = vec![f32::NAN; sizes.row_stride - sizes.vocab];
    logits.chunks_exact(sizes.vocab).flat_map(|row| [row, &gap].concat()).collect()
}

/// The rows without what is between them, of which all must be NaN still.
fn unpadded(values: &[f32], sizes: LossSizes) -> Vec<f32> {
    let rows = values.chunks_exact(sizes.row_stride);
    assert!(rows.clone().all(|row| row[sizes.vocab..].iter().all(|x| x.is_nan())), "{sizes:?}");
    rows.flat_map(|row| row[..sizes.vocab].to_vec()).collect()
}

struct Results {
    losses: Vec<f32>,
    log_sums: Vec<f32>,
    gradient: Vec<f32>,
}

fn run(
    machine: &Machine,
    type_: Type,
    sizes: LossSizes,
    logits: &[f32],
    targets: &[u32],
    scale: f32,
) -> Results {
    let mut logits = machine.upload_f32(type_, &padded(logits, sizes)).unwrap();
    let targets = machine.upload_u32(targets).unwrap();
    let scale = machine.upload_f32(Type::F32, &[scale]).unwrap();
    let mut losses = machine.scratch(Type::F32, sizes.rows).unwrap();
    let mut log_sums = machine.scratch(Type::F32, sizes.rows).unwrap();
    cross_entropy_forward(
        machine,
        sizes,
        &logits.view(),
        &targets.view(),
        &mut losses.view_mut(),
        &mut log_sums.view_mut(),
    )
    .unwrap();
    let gaps = vec![f32::NAN; logits.len()];
    let mut dlogits = machine.upload_f32(type_, &gaps).unwrap();
    cross_entropy_backward(
        machine,
        sizes,
        &logits.view(),
        &targets.view(),
        &log_sums.view(),
        &scale.view(),
        &mut dlogits.view_mut(),
    )
    .unwrap();
    cross_entropy_backward_in_place(
        machine,
        sizes,
        &targets.view(),
        &log_sums.view(),
        &scale.view(),
        &mut logits.view_mut(),
    )
    .unwrap();
    let gradient = machine.download(&dlogits.view()).unwrap();
    let in_place = machine.download(&logits.view()).unwrap();
    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let gradient = unpadded(&gradient, sizes);
    assert_eq!(bits(&unpadded(&in_place, sizes)), bits(&gradient), "in place, {sizes:?}");
    Results {
        losses: machine.download(&losses.view()).unwrap(),
        log_sums: machine.download(&log_sums.view()).unwrap(),
        gradient,
    }
}

#[test]
fn losses_and_gradients_follow_the_definition() {
    // A single word has loss and gradient zero: the measure is what they would be if they were one.
    let with_one = |values: Vec<f64>| values.into_iter().chain([1.0]).collect::<Vec<_>>();
    // Sums are f32. The hardware's exponential is good to 2e-7, beside a rounding of its argument;
    // gradients of bf16 are rounded by up to 2⁻⁹ of each, about 1.1e-3 by norm.
    for machine in machines() {
        for (rows, vocab, row_stride) in [
            (1, 1, 1),
            (13, 7, 7),
            (5, 7, 8),
            (3, 501, 501),
            (3, 501, 512),
            (2, 4096, 4096),
            (3, 50_257, 50_257),
            (2, 50_257, 50_304),
        ] {
            let sizes = LossSizes { rows, vocab, row_stride };
            let logits: Vec<f32> = noise(rows * vocab, 1).iter().map(|x| 6.0 * x).collect();
            let targets: Vec<u32> = (0..rows).map(|row| (row * 7919 % vocab) as u32).collect();
            for (type_, bound) in [(Type::F32, 3e-6), (Type::Bf16, 2e-3)] {
                let logits: Vec<f32> = match type_ {
                    Type::Bf16 => logits.iter().map(|&x| rounded(x)).collect(),
                    _ => logits.clone(),
                };
                let got = run(&machine, type_, sizes, &logits, &targets, 0.25);
                let wanted: Vec<_> = logits
                    .chunks_exact(vocab)
                    .zip(&targets)
                    .map(|(row, &target)| reference(row, target as usize))
                    .collect();
                let losses = with_one(wanted.iter().map(|(loss, _, _)| *loss).collect());
                let log_sums: Vec<f64> = wanted.iter().map(|(_, log_sum, _)| *log_sum).collect();
                let gradient = wanted.iter().flat_map(|(_, _, row)| row.iter().map(|x| 0.25 * x));
                let gradient = with_one(gradient.collect());
                let [got_losses, got_gradient] =
                    [got.losses, got.gradient].map(|values| [values, vec![1.0]].concat());
                assert_close("losses", &got_losses, &losses, 1e-6);
                assert_close("log sums", &got.log_sums, &log_sums, 1e-6);
                assert_close("gradient", &got_gradient, &gradient, bound);
            }
        }
    }
}

#[test]
fn extreme_logits_keep_their_precision() {
    let (rows, vocab) = (4, 37);
    let sizes = LossSizes { rows, vocab, row_stride: 40 };
    let mut logits = vec![0.0; rows * vocab];
    // One word far above, one far below, all equally high, and words that cannot be.
    logits[5] = 80.0;
    logits[vocab + 5] = -80.0;
    logits[2 * vocab..3 * vocab].fill(80.0);
    logits[3 * vocab..3 * vocab + 30].fill(f32::NEG_INFINITY);
    for machine in machines() {
        for targets in [[5, 5, 5, 36], [6, 6, 36, 30]] {
            for (type_, bound) in [(Type::F32, 1e-5), (Type::Bf16, 2e-3)] {
                let got = run(&machine, type_, sizes, &logits, &targets, 1.0);
                for (row, &target) in targets.iter().enumerate() {
                    let range = row * vocab..(row + 1) * vocab;
                    let (loss, _, gradient) = reference(&logits[range.clone()], target as usize);
                    assert!(
                        (f64::from(got.losses[row]) - loss).abs() <= 2e-5,
                        "row {row}: {} where {loss} was expected",
                        got.losses[row]
                    );
                    // A gradient that vanishes is held to the same measure as one that is about one.
                    let gradient: Vec<f64> = gradient.iter().copied().chain([1.0]).collect();
                    let got: Vec<f32> = got.gradient[range].iter().copied().chain([1.0]).collect();
                    assert_close("gradient", &got, &gradient, bound);
                }
            }
        }
    }
}

#[test]
fn what_has_no_loss_is_not_a_number() {
    const INF: f32 = f32::INFINITY;
    let (rows, vocab) = (6, 1001);
    let sizes = LossSizes { rows, vocab, row_stride: vocab };
    for machine in machines() {
        for type_ in [Type::F32, Type::Bf16] {
            let mut logits = noise(rows * vocab, 4);
            logits[300] = f32::NAN;
            logits[vocab + 1000] = INF;
            logits[2 * vocab..3 * vocab].fill(-INF);
            logits[3 * vocab + 8] = -INF;
            let targets = [2, 3, 4, 8, 1001, 5];
            let got = run(&machine, type_, sizes, &logits, &targets, 1.0);
            for row in [0, 1, 2, 4] {
                assert!(got.losses[row].is_nan(), "row {row}: {}", got.losses[row]);
                let gradient = &got.gradient[row * vocab..(row + 1) * vocab];
                assert!(gradient.iter().any(|x| x.is_nan()), "row {row}");
            }
            // The target cannot be: an infinite loss, whose gradient is finite.
            assert_eq!(got.losses[3], INF);
            let gradient = &got.gradient[3 * vocab..4 * vocab];
            assert_eq!(gradient[8], -1.0);
            assert!(gradient.iter().all(|x| x.is_finite()));
            assert!(got.losses[5].is_finite());
            assert!(got.gradient[5 * vocab..].iter().all(|x| x.is_finite()));
        }
    }
}

#[test]
fn means_are_those_of_the_losses() {
    for machine in machines() {
        for count in [1, 255, 2048, 2049, 10_007] {
            let mut losses: Vec<f32> = noise(count, 2).iter().map(|x| 3.0 + x).collect();
            let mut mean = machine.scratch(Type::F32, 1).unwrap();
            let mut run = |losses: &[f32]| {
                let losses = machine.upload_f32(Type::F32, losses).unwrap();
                mean_loss(&machine, &losses.view(), &mut mean.view_mut()).unwrap();
                machine.download(&mean.view()).unwrap()[0]
            };
            let want = losses.iter().map(|&x| f64::from(x)).sum::<f64>() / count as f64;
            assert_close("mean", &[run(&losses)], &[want], 1e-6);
            losses[count / 2] = f32::NAN;
            assert!(run(&losses).is_nan());
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    for machine in machines() {
        let logits = machine.zeros(Type::F32, 16).unwrap();
        let targets = machine.upload_u32(&[0, 1]).unwrap();
        let mut losses = machine.zeros(Type::F32, 2).unwrap();
        let mut log_sums = machine.zeros(Type::F32, 2).unwrap();
        let mut run = |rows, vocab, row_stride| {
            let sizes = LossSizes { rows, vocab, row_stride };
            let (losses, log_sums) = (&mut losses.view_mut(), &mut log_sums.view_mut());
            let (logits, targets) = (logits.view(), targets.view());
            cross_entropy_forward(&machine, sizes, &logits, &targets, losses, log_sums)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(run(2, 8, 7), "cross_entropy_forward: rows of 8 logits, 7 values apart");
        assert_eq!(
            run(2, 5, 6),
            "cross_entropy_forward: `logits` has 16 values of F32 where 12 of F32 were expected"
        );
        assert_eq!(
            run(4, 3, 4),
            "cross_entropy_forward: `targets` has 2 values of U32 where 4 of U32 were expected"
        );
    }
}
