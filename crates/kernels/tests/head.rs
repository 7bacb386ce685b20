//! Classifier and loss against the definition in f64.
#![cfg(any(feature = "emulator", feature = "cuda"))]

mod support;

use forerunner_kernels::{HeadSizes, Machine, Type, head_loss};
use support::{assert_close, machines, noise, rounded, rounded_all};

struct Inputs {
    hidden: Vec<f32>,
    weight: Vec<f32>,
    targets: Vec<u32>,
    /// What `dweight` holds before.
    old: Vec<f32>,
}

impl Inputs {
    fn new(sizes: &HeadSizes) -> Self {
        let &HeadSizes { rows, channels, vocab, .. } = sizes;
        // Logits are between -4 and 4, about.
        let size = 4.0 / (channels as f32).sqrt();
        Self {
            hidden: noise(rows * channels, 1).iter().map(|x| size * x).collect(),
            weight: noise(vocab * channels, 2).iter().map(|x| 3.0 * x).collect(),
            targets: (0..rows).map(|row| ((row * 7919 + 3) % vocab) as u32).collect(),
            old: noise(vocab * channels, 3).iter().map(|x| 0.1 * x).collect(),
        }
    }
}

struct Results<T> {
    loss: T,
    dhidden: Vec<T>,
    dweight: Vec<T>,
}

/// The definition; with logits as they are rounded on the way where `round_logits`.
fn reference(sizes: &HeadSizes, inputs: &Inputs, round_logits: bool) -> Results<f64> {
    let &HeadSizes { rows, channels, vocab, .. } = sizes;
    let (hidden, weight) = (rounded_all(&inputs.hidden), rounded_all(&inputs.weight));
    let mut dweight = vec![0.0; vocab * channels];
    if sizes.accumulate {
        dweight = inputs.old.iter().map(|&x| f64::from(x)).collect();
    }
    let (mut total, mut dhidden) = (0.0, vec![0.0; rows * channels]);
    for row in 0..rows {
        let hidden = &hidden[row * channels..(row + 1) * channels];
        let logits: Vec<(f64, f64)> = weight
            .chunks_exact(channels)
            .map(|word| {
                let logit: f64 = hidden.iter().zip(word).map(|(x, w)| x * w).sum();
                let logit = if round_logits { f64::from(rounded(logit as f32)) } else { logit };
                let Some(cap) = sizes.softcap else { return (logit, 1.0) };
                let (cap, tanh) = (f64::from(cap), (logit / f64::from(cap)).tanh());
                (cap * tanh, 1.0 - tanh * tanh)
            })
            .collect();
        let top = logits.iter().map(|(z, _)| *z).fold(f64::NEG_INFINITY, f64::max);
        let log_sum = top + logits.iter().map(|(z, _)| (z - top).exp()).sum::<f64>().ln();
        let target = inputs.targets[row] as usize;
        total += log_sum - logits[target].0;
        for (word, &(logit, slope)) in logits.iter().enumerate() {
            let wrong = (logit - log_sum).exp() - f64::from(u8::from(word == target));
            let gradient = f64::from(sizes.scale) / rows as f64 * wrong * slope;
            for channel in 0..channels {
                let at = word * channels + channel;
                dhidden[row * channels + channel] += gradient * weight[at];
                dweight[at] += gradient * hidden[channel];
            }
        }
    }
    Results { loss: total / rows as f64, dhidden, dweight }
}

fn run(machine: &Machine, sizes: &HeadSizes, inputs: &Inputs) -> Results<f32> {
    let hidden = machine.upload_f32(Type::Bf16, &inputs.hidden).unwrap();
    let weight = machine.upload_f32(Type::Bf16, &inputs.weight).unwrap();
    let targets = machine.upload_u32(&inputs.targets).unwrap();
    let mut loss = machine.scratch(Type::F32, 1).unwrap();
    let mut dhidden = machine.scratch(Type::Bf16, hidden.len()).unwrap();
    let mut dweight = match sizes.accumulate {
        true => machine.upload_f32(Type::F32, &inputs.old).unwrap(),
        false => machine.upload_f32(Type::F32, &vec![f32::NAN; weight.len()]).unwrap(),
    };
    head_loss(
        machine,
        sizes,
        &hidden.view(),
        &weight.view(),
        &targets.view(),
        &mut loss.view_mut(),
        &mut dhidden.view_mut(),
        &mut dweight.view_mut(),
    )
    .unwrap();
    Results {
        loss: machine.download(&loss.view()).unwrap()[0],
        dhidden: machine.download(&dhidden.view()).unwrap(),
        dweight: machine.download(&dweight.view()).unwrap(),
    }
}

/// Against logits rounded as they are, what is left is the rounding of their gradients, by up to 2⁻⁹ of
/// each (1.1e-3 by norm), and again that of `dhidden`. Against exact logits of up to 4, their own
/// rounding shifts each exponential by up to 4 · 2⁻⁹, evenly spread: 4.5e-3 by norm, less after sums.
fn check(machine: &Machine, sizes: &HeadSizes) -> Results<f32> {
    let inputs = Inputs::new(sizes);
    let got = run(machine, sizes, &inputs);
    for (round_logits, bound) in [(true, 3e-3), (false, 8e-3)] {
        let want = reference(sizes, &inputs, round_logits);
        // Losses are a few nats; on a device the capped ones carry its tanh's error, 2⁻¹¹.
        assert_close("loss", &[got.loss], &[want.loss], bound / 3.0);
        assert_close("dhidden", &got.dhidden, &want.dhidden, bound);
        assert_close("dweight", &got.dweight, &want.dweight, bound);
    }
    got
}

#[test]
fn gradients_follow_the_definition() {
    for machine in machines() {
        for (rows, channels, vocab) in
            [(1, 8, 2), (13, 24, 7), (37, 16, 501), (64, 64, 256), (3, 8, 50_257)]
        {
            check(&machine, &HeadSizes::new(rows, channels, vocab));
        }
    }
}

#[test]
fn rows_too_long_to_keep_are_read_again() {
    for machine in machines() {
        let sizes = HeadSizes::new(3, 8, 50_441);
        check(&machine, &sizes);
        check(&machine, &HeadSizes { softcap: Some(2.0), ..sizes });
    }
}

#[test]
fn caps_bend_logits_and_gradients() {
    for machine in machines() {
        for cap in [1.0, 15.0] {
            check(&machine, &HeadSizes { softcap: Some(cap), ..HeadSizes::new(29, 16, 203) });
        }
    }
}

#[test]
fn gradients_are_added_and_scaled_when_asked() {
    for machine in machines() {
        let sizes = HeadSizes { accumulate: true, ..HeadSizes::new(21, 16, 99) };
        check(&machine, &sizes);
        check(&machine, &HeadSizes { scale: 0.125, ..sizes });
    }
}

#[test]
fn chunks_do_not_show() {
    for machine in machines() {
        // One row more than a chunk, one less, exactly two, and three with a short one at the end.
        for rows in [129, 127, 256, 265] {
            let whole = HeadSizes::new(rows, 8, 33);
            let parts = HeadSizes { chunk_rows: Some(100), ..whole };
            assert!(parts.workspace_bytes() <= 128 * 64 * 2 + 4 * rows);
            let (whole, parts) =
                (run(&machine, &whole, &Inputs::new(&whole)), check(&machine, &parts));
            let exact = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
            if machine.name() == "emulator" {
                assert_eq!(whole.loss, parts.loss);
                assert_eq!(whole.dhidden, parts.dhidden);
            } else {
                // Products of other sizes may have other kernels of the library.
                assert_close("loss", &[parts.loss], &[f64::from(whole.loss)], 1e-4);
                assert_close("dhidden", &parts.dhidden, &exact(&whole.dhidden), 1e-3);
            }
            assert_close("dweight", &parts.dweight, &exact(&whole.dweight), 4e-6);
        }
    }
}

#[test]
fn schedules_do_not_show() {
    let sizes = HeadSizes { softcap: Some(10.0), ..HeadSizes::new(77, 24, 1031) };
    let inputs = Inputs::new(&sizes);
    for machine in machines() {
        // A device runs differently each time, the emulator by the number of the launch.
        let [first, second] = [run(&machine, &sizes, &inputs), run(&machine, &sizes, &inputs)];
        assert_eq!(first.loss, second.loss);
        assert_eq!(first.dhidden, second.dhidden);
        assert_eq!(first.dweight, second.dweight);
    }
}

#[test]
fn what_is_not_a_number_reaches_the_loss() {
    for machine in machines() {
        let sizes = HeadSizes::new(9, 8, 17);
        let mut inputs = Inputs::new(&sizes);
        inputs.hidden[20] = f32::NAN;
        let got = run(&machine, &sizes, &inputs);
        assert!(got.loss.is_nan());
        assert!(got.dhidden[16..24].iter().all(|x| x.is_nan()));
        assert!(got.dhidden[24..].iter().all(|x| x.is_finite()));
        assert!(got.dweight.iter().all(|x| x.is_nan()));
        // A target beyond the vocabulary is never read.
        let mut inputs = Inputs::new(&sizes);
        inputs.targets[3] = 17;
        assert!(run(&machine, &sizes, &inputs).loss.is_nan());
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    for machine in machines() {
        let refusal = |sizes: HeadSizes, hidden: usize| {
            let hidden = machine.zeros(Type::Bf16, hidden).unwrap();
            let weight = machine.zeros(Type::Bf16, 12).unwrap();
            let targets = machine.upload_u32(&[0, 1]).unwrap();
            let mut loss = machine.zeros(Type::F32, 1).unwrap();
            let mut dhidden = machine.zeros(Type::Bf16, 8).unwrap();
            let mut dweight = machine.zeros(Type::F32, 12).unwrap();
            head_loss(
                &machine,
                &sizes,
                &hidden.view(),
                &weight.view(),
                &targets.view(),
                &mut loss.view_mut(),
                &mut dhidden.view_mut(),
                &mut dweight.view_mut(),
            )
            .unwrap_err()
            .to_string()
        };
        let sizes = HeadSizes::new(2, 4, 3);
        assert_eq!(
            refusal(sizes, 9),
            "head_loss: `hidden` has 9 values of Bf16 where 8 of Bf16 were expected"
        );
        assert_eq!(
            refusal(HeadSizes { softcap: Some(0.0), ..sizes }, 8),
            "head_loss: the soft-cap is not above zero"
        );
        assert_eq!(
            refusal(HeadSizes { rows: 0, ..sizes }, 8),
            "head_loss: 0 rows of 4 channels have no loss on 3 words"
        );
    }
}
