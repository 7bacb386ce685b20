//! Runs a compiled NanoGPT program as a supervisor does, but without a sandbox: the program is our
//! own, and a limit on CPU time would make its clock coarse.

use super::core::{Cores, Guarded};
use crate::processes;
use anyhow::{Context, Result, bail};
use forerunner_nanogpt_protocol::{
    Collect, Device, FromProgram, FromSupervisor, Limits, Start, Summary, VERSION,
};
use std::{
    io::{BufReader, BufWriter},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

/// What a training run came to.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// Seconds of the process when it asked for each batch, and when it had finished: CPU seconds of
    /// one thread, wall seconds of several.
    pub(super) stamps: Vec<f64>,
    /// Training loss of each step.
    pub(super) losses: Vec<f64>,
    /// Floating-point operations in matrix products, of the whole run.
    pub(super) flops: f64,
    /// Most bytes that the process ever had resident.
    pub(super) peak_memory: u64,
}

/// Most bytes in a message of the program; a snapshot is the longest.
const MESSAGE_BYTES: u64 = 1 << 30;

/// Trains on `tokens`, which are served from the front, with as many threads as cores.
pub(super) fn train(
    binary: &Path,
    cores: &Cores,
    (vocabulary, context): (usize, usize),
    mut tokens: &[u16],
) -> Result<Run> {
    let mut command = Command::new(binary);
    command.arg("train").env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
    command.env("FORERUNNER_THREADS", cores.threads().to_string());
    let mut child = Guarded(cores.spawn(&mut command)?);
    let mut input = BufWriter::new(child.0.stdin.take().context("no pipe to the program")?);
    let mut output = BufReader::new(child.0.stdout.take().context("no pipe from the program")?);
    let pid = child.pid();
    let started = Instant::now();
    let seconds = || {
        if cores.threads() > 1 {
            return Ok(started.elapsed().as_secs_f64());
        }
        let time = processes::cpu_time(pid).context("the program's CPU clock cannot be read")?;
        anyhow::Ok(time.as_secs_f64())
    };
    let mut run = Run::default();
    FromSupervisor::Start(Start {
        version: VERSION,
        track: "bench".to_owned(),
        seed: 1,
        vocab: vocabulary,
        context,
        max_parameters: usize::MAX,
        limits: Limits { cpu_seconds: 1e6, memory_bytes: u64::MAX, batch_tokens: u64::MAX },
        collect: Collect::All,
        device: Device::Cpu,
        custom_kernels: false,
    })
    .write(&mut input)?;
    loop {
        let message = FromProgram::read(&mut output, MESSAGE_BYTES);
        match message.context("the program ended before its training did")? {
            FromProgram::Batch(request) => {
                run.stamps.push(seconds()?);
                let Some((batch, rest)) = tokens.split_at_checked(request.tokens() as usize) else {
                    bail!("the program asks for more tokens than its setting says");
                };
                tokens = rest;
                FromSupervisor::Tokens(batch.to_vec()).write(&mut input)?;
            }
            FromProgram::Record(record) if record.series == "train_loss" => {
                run.losses.push(record.value);
            }
            FromProgram::Summary(Summary { flops, .. }) => {
                run.stamps.push(seconds()?);
                run.flops = flops;
                run.peak_memory = processes::peak_memory(pid).unwrap_or_default();
            }
            FromProgram::Snapshot(_) => break,
            _ => {}
        }
    }
    FromSupervisor::Stop.write(&mut input)?;
    let status = child.0.wait()?;
    if !status.success() {
        bail!("the program ended with {status}");
    }
    Ok(run)
}

/// Highest rate of matrix products, in operations per second of such a clock, of a run of `product.rs`: between
/// two batches lies a round.
pub(super) fn product_peak(run: &Run) -> f64 {
    let rounds = run.stamps.windows(2).map(|pair| pair[1] - pair[0]);
    let n_rounds = rounds.len() as f64;
    let best = rounds.fold(f64::INFINITY, f64::min);
    run.flops / n_rounds / best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_round_is_the_peak() {
        let run = Run { stamps: vec![1.0, 3.0, 4.0, 6.0], flops: 30.0, ..Run::default() };
        assert_eq!(product_peak(&run), 10.0);
    }
}
