//! Microseconds of every operation, forward and with its backward pass, at the sizes of the reference
//! program of track `cpu`: `cargo run --release -p forerunner-train-ops --example costs`, on two
//! threads with `-- 2`.
#![expect(clippy::print_stdout, reason = "the figures are the point of this program")]
#![expect(unsafe_code, reason = "the allocator is set by a foreign call")]

use std::time::{Duration, Instant};

use candle_core::{Device, Result, Tensor, Var};
use forerunner_train_ops as ops;

/// Rows of a batch (8 sequences of 64 positions), channels, vocabulary.
const ROWS: usize = 512;
const CHANNELS: usize = 64;
const VOCABULARY: usize = 256;

const RUNS: usize = 300;

fn main() -> Result<()> {
    // As in the harness: fresh pages for every large buffer would hide everything else.
    // SAFETY: `mallopt` takes two numbers and locks the allocator itself.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
    let threads = std::env::args().nth(1).map_or(1, |count| count.parse().expect("a number"));
    ops::use_threads(threads)?;
    let noise = |shape: &[usize]| Var::from_tensor(&Tensor::randn(0f32, 1.0, shape, &Device::Cpu)?);
    let x = noise(&[8, ROWS / 8, CHANNELS])?;
    let wide = noise(&[8, ROWS / 8, 4 * CHANNELS])?;
    let qkv = noise(&[8, ROWS / 8, 3 * CHANNELS])?;
    let (vector, table) = (noise(&[CHANNELS])?, noise(&[VOCABULARY, CHANNELS])?);
    let logits = noise(&[8, ROWS / 8, VOCABULARY])?;
    let ids: Vec<u32> = (0..ROWS as u32).map(|i| i * i % VOCABULARY as u32).collect();
    let ids = Tensor::from_vec(ids, (8, ROWS / 8), &Device::Cpu)?;

    for outputs in [64, 192, 256] {
        let (weight, bias) = (noise(&[outputs, CHANNELS])?, noise(&[outputs])?);
        time(&format!("linear 64 -> {outputs}"), || ops::linear(&x, &weight, &bias))?;
    }
    let (weight, bias) = (noise(&[CHANNELS, 4 * CHANNELS])?, noise(&[CHANNELS])?);
    time("linear 256 -> 64", || ops::linear(&wide, &weight, &bias))?;
    time("causal_attention, 4 heads", || ops::causal_attention(&qkv, 4))?;
    time("windowed_attention, 16", || ops::windowed_attention(&qkv, 4, 16))?;
    time("rotary, 4 heads", || ops::rotary(&qkv, 4, 1e4))?;
    time("qk_norm, 4 heads", || ops::qk_norm(&qkv, 4, 1.0))?;
    time("layer_norm", || ops::layer_norm(&x, &vector, &vector, 1e-5))?;
    time("rms_norm", || ops::rms_norm(&x, &vector, 1e-5))?;
    time("rms_norm_plain", || ops::rms_norm_plain(&x, 1e-5))?;
    time("gelu, 256 wide", || ops::gelu(&wide))?;
    time("relu_squared, 256 wide", || ops::relu_squared(&wide))?;
    time("swiglu, 256 wide", || ops::swiglu(&wide))?;
    time("softcap, 256 wide", || ops::softcap(&wide, 15.0))?;
    time("embedding", || ops::embedding(&table, &ids))?;
    time("cross_entropy", || ops::cross_entropy(&logits, &ids))?;
    time("head_loss", || ops::head_loss(&x, &table, &ids))?;
    time("candle's own addition", || x.as_tensor() + x.as_tensor())?;
    for (rows, columns, parts) in [(64, 64, 1), (192, 64, 3), (256, 64, 1), (64, 256, 1)] {
        optimizers(&noise(&[rows, columns])?, parts)?;
    }
    Ok(())
}

/// Times a step of every optimizer on one matrix.
fn optimizers(parameter: &Var, parts: usize) -> Result<()> {
    let gradient = parameter.as_tensor().copy()?;
    let one = Tensor::new(1f32, &Device::Cpu)?;
    let (mut moments, mut momentum) =
        (ops::Moments::zeros_like(parameter), ops::Momentum::zeros_like(parameter));
    let (learning_rate, weight_decay) = (1e-3, 0.1);
    let (beta1, beta2, epsilon, step) = (0.9, 0.95, 1e-8, 10);
    let adamw = ops::AdamW { learning_rate, beta1, beta2, epsilon, weight_decay, step };
    let lion = ops::Lion { learning_rate, beta1, beta2, weight_decay };
    let both = ops::Caution { update: true, decay: true };
    let muon = ops::Muon {
        learning_rate,
        momentum: 0.95,
        nesterov: true,
        weight_decay,
        iterations: 5,
        parts,
        polynomial: ops::Polynomial::Quintic,
    };
    let time_step = |name: &str, step: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        let (mut runs, before) = (Vec::new(), ops::flops());
        for _ in 0..RUNS {
            let begin = Instant::now();
            step()?;
            runs.push(begin.elapsed());
        }
        let mflop = (ops::flops() - before) as f64 / RUNS as f64 * 1e-6;
        let name = format!("{name}, {:?} in {parts}", parameter.dims());
        println!("{name:38} {:8.1} µs   {mflop:5.1} MFLOP", median(runs));
        Ok(())
    };
    let (p, g) = (parameter, &gradient);
    time_step("adamw", &mut || ops::adamw(p, g, &one, &mut moments, &adamw))?;
    let cautious = &mut || ops::cautious_adamw(p, g, &one, &mut moments, &adamw, both);
    time_step("cautious_adamw", cautious)?;
    time_step("lion", &mut || ops::lion(p, g, &one, &mut momentum, &lion))?;
    time_step("muon", &mut || ops::muon(p, g, &one, &mut momentum, &muon))
}

/// Prints the median of many runs; the backward pass starts from a gradient of ones.
fn time(name: &str, operation: impl Fn() -> Result<Tensor>) -> Result<()> {
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let begin = Instant::now();
        let y = operation()?;
        forward.push(begin.elapsed());
        let begin = Instant::now();
        y.backward()?;
        backward.push(begin.elapsed());
    }
    let (forward, backward) = (median(forward), median(backward));
    println!("{name:28} forward {forward:7.1} µs   backward {backward:7.1} µs");
    Ok(())
}

/// In microseconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6
}
