//! CPU microseconds of every operation, forward and with its backward pass, at the sizes of the
//! reference program of track `cpu`: `cargo run --release -p forerunner-train-ops --example costs`.
#![expect(clippy::print_stdout, reason = "the figures are the point of this program")]
#![expect(unsafe_code, reason = "the allocator is set by a foreign call")]

use std::time::Instant;

use candle_core::{Device, Result, Tensor, Var};
use forerunner_train_ops as ops;

/// Rows of a batch (8 sequences of 64 positions), channels, vocabulary.
const ROWS: usize = 512;
const CHANNELS: usize = 64;
const VOCABULARY: usize = 256;

fn main() -> Result<()> {
    // As in the harness: fresh pages for every large buffer would hide everything else.
    // SAFETY: `mallopt` takes two numbers and locks the allocator itself.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
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
    time("layer_norm", || ops::layer_norm(&x, &vector, &vector, 1e-5))?;
    time("gelu, 256 wide", || ops::gelu(&wide))?;
    time("embedding", || ops::embedding(&table, &ids))?;
    time("cross_entropy", || ops::cross_entropy(&logits, &ids))?;
    time("head_loss", || ops::head_loss(&x, &table, &ids))?;
    time("candle's own addition", || x.as_tensor() + x.as_tensor())
}

/// Prints the median of many runs; the backward pass starts from a gradient of ones.
fn time(name: &str, operation: impl Fn() -> Result<Tensor>) -> Result<()> {
    let mut runs = Vec::new();
    for _ in 0..300 {
        let begin = Instant::now();
        let y = operation()?;
        let forward = begin.elapsed();
        y.backward()?;
        runs.push((forward, begin.elapsed() - forward));
    }
    let median = |part: fn(&(std::time::Duration, std::time::Duration)) -> std::time::Duration| {
        let mut times: Vec<_> = runs.iter().map(part).collect();
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1e6
    };
    println!("{name:28} forward {:7.1} µs   backward {:7.1} µs", median(|r| r.0), median(|r| r.1));
    Ok(())
}
