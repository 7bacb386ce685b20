//! What collecting costs per operation takes from a training step: the same steps with and without
//! it, one after the other: `cargo run --release -p forerunner-train-ops --example profiling`.
//!
//! The model has the sizes of the reference program of track `cpu`.
#![expect(clippy::print_stdout, reason = "the figures are the point of this program")]
#![expect(unsafe_code, reason = "the allocator is set by a foreign call")]

use std::time::Instant;

use candle_core::{Device, Result, Tensor, Var};
use forerunner_train_ops as ops;

/// Sequences, positions, channels, vocabulary, blocks, heads.
const SIZES: (usize, usize, usize, usize, usize, usize) = (8, 64, 64, 256, 2, 4);

/// Pairs of steps that are compared, after some to warm up.
const PAIRS: usize = 2000;
const WARM_UP: usize = 50;

/// A matrix and a vector: a linear layer, or in a norm the gain and the bias.
type Pair = (Var, Var);

struct Model {
    table: Var,
    norms: Vec<Pair>,
    layers: Vec<Pair>,
    moments: Vec<ops::Moments>,
}

impl Model {
    fn new() -> Result<Self> {
        let (_, _, width, vocabulary, blocks, _) = SIZES;
        let noise = |shape: &[usize], deviation: f32| {
            Var::from_tensor(&Tensor::randn(0f32, deviation, shape, &Device::Cpu)?)
        };
        let layer = |outputs: usize, inputs: usize| -> Result<Pair> {
            Ok((noise(&[outputs, inputs], 0.1)?, noise(&[outputs], 0.1)?))
        };
        let norm = || -> Result<Pair> { Ok((noise(&[width], 1.0)?, noise(&[width], 0.1)?)) };
        let mut layers = Vec::new();
        for _ in 0..blocks {
            let shapes =
                [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width)];
            for (outputs, inputs) in shapes {
                layers.push(layer(outputs, inputs)?);
            }
        }
        let norms = (0..=2 * blocks).map(|_| norm()).collect::<Result<_>>()?;
        let mut model =
            Self { table: noise(&[vocabulary, width], 0.1)?, norms, layers, moments: Vec::new() };
        model.moments = model.parameters().iter().map(|p| ops::Moments::zeros_like(p)).collect();
        Ok(model)
    }

    fn parameters(&self) -> Vec<Var> {
        let pairs = self.norms.iter().chain(&self.layers);
        let rest = pairs.flat_map(|(weight, bias)| [weight.clone(), bias.clone()]);
        [self.table.clone()].into_iter().chain(rest).collect()
    }

    fn loss(&self, inputs: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let (.., heads) = SIZES;
        let norm = |x: &Tensor, (gain, bias): &Pair| ops::layer_norm(x, gain, bias, 1e-5);
        let linear = |x: &Tensor, (weight, bias): &Pair| ops::linear(x, weight, bias);
        let mut x = ops::embedding(&self.table, inputs)?;
        for (layers, norms) in self.layers.chunks_exact(4).zip(self.norms.chunks_exact(2)) {
            let qkv = linear(&norm(&x, &norms[0])?, &layers[0])?;
            x = (&x + linear(&ops::causal_attention(&qkv, heads)?, &layers[1])?)?;
            let hidden = ops::gelu(&linear(&norm(&x, &norms[1])?, &layers[2])?)?;
            x = (&x + linear(&hidden, &layers[3])?)?;
        }
        let x = norm(&x, &self.norms[self.norms.len() - 1])?;
        ops::cross_entropy(&ops::linear_no_bias(&x, &self.table)?, targets)
    }

    /// One step of training; microseconds.
    fn step(&mut self, inputs: &Tensor, targets: &Tensor, step: usize) -> Result<f64> {
        let begin = Instant::now();
        let gradients = self.loss(inputs, targets)?.backward()?;
        let scale = Tensor::new(1f32, &Device::Cpu)?;
        let (learning_rate, beta1, beta2, epsilon, weight_decay) = (1e-4, 0.9, 0.95, 1e-8, 0.1);
        let settings = ops::AdamW { learning_rate, beta1, beta2, epsilon, weight_decay, step };
        for (parameter, moments) in self.parameters().iter().zip(&mut self.moments) {
            let Some(gradient) = gradients.get(parameter) else { continue };
            ops::sum_of_squares(gradient)?;
            ops::adamw(parameter, gradient, &scale, moments, &settings)?;
        }
        Ok(begin.elapsed().as_secs_f64() * 1e6)
    }
}

fn main() -> Result<()> {
    // As in the harness: fresh pages for every large buffer would hide everything else.
    // SAFETY: `mallopt` takes two numbers and locks the allocator itself.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
    let (batch, length, _, vocabulary, ..) = SIZES;
    let ids = |factor: usize| {
        let ids = (0..batch * length).map(|i| (i * i * factor % vocabulary) as u32);
        Tensor::from_vec(ids.collect::<Vec<_>>(), (batch, length), &Device::Cpu)
    };
    let (inputs, targets) = (ids(1)?, ids(3)?);
    let mut model = Model::new()?;
    let (mut with, mut without, mut differences) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..WARM_UP + PAIRS {
        let mut times = [0.0; 2];
        // Each goes first in turn.
        for turn in [pair % 2, 1 - pair % 2] {
            ops::profile::collect(turn == 1);
            times[turn] = model.step(&inputs, &targets, pair + 1)?;
        }
        if pair >= WARM_UP {
            without.push(times[0]);
            with.push(times[1]);
            differences.push(times[1] - times[0]);
        }
    }
    let n_calls: u64 = ops::profile::costs().iter().map(|cost| cost.calls).sum();
    let n_calls = n_calls as f64 / (WARM_UP + PAIRS) as f64;
    let (without, with, difference) = (median(without), median(with), median(differences));
    println!("a step without collecting {without:8.1} µs, with it {with:8.1} µs (medians)");
    println!(
        "paired difference {difference:+.1} µs = {:+.2} % of a step, {n_calls:.0} calls in it",
        100.0 * difference / without
    );
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
