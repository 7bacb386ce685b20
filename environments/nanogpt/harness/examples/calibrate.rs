//! Measures a compiled program as a supervisor would, but without a sandbox: for calibrating a
//! track, and for nothing else. The figures of docs/calibration-cpu-track.md come from here.
//!
//! ```text
//! calibrate PROGRAM DATA [--seeds 10] [--first 1] [--context 64] [--windows 1024]
//!           [--max-parameters 150000] [--vocab 256] [--metronome PROGRAM]
//! ```
//!
//! `DATA` is a folder with `train.bin`, `dev.bin`, `val.bin` and `vault.bin`, as `forerunner data
//! prepare` makes it. Prints one line per seed, then means and deviations. Pin it to one core
//! (`taskset -c 1`); the programs inherit that, as the clock demands.
#![expect(unsafe_code, reason = "another process's CPU clock is reached by foreign calls")]
#![expect(clippy::print_stdout, reason = "the figures are the point of this program")]

use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::{error, fs};

use forerunner_nanogpt_protocol::{
    BatchRequest, Collect, Device, FromProgram, FromSupervisor, Limits, Snapshot, Start, Summary,
    VERSION, Windows,
};

#[path = "calibrate/metronome.rs"]
mod metronome;

use metronome::Metronome;

type Result<T> = std::result::Result<T, Box<dyn error::Error>>;

/// Windows answered at a time.
const EVALUATION_BATCH: usize = 32;

struct Options {
    program: String,
    data: String,
    seeds: u64,
    first: u64,
    context: usize,
    windows: usize,
    max_parameters: usize,
    vocab: usize,
    track: String,
    metronome: Option<String>,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut need = |what| arguments.next().ok_or(format!("{what} is missing"));
    let mut options = Options {
        program: need("the program")?,
        data: need("the data folder")?,
        seeds: 10,
        first: 1,
        context: 64,
        windows: 1024,
        max_parameters: 150_000,
        vocab: 256,
        track: "cpu".into(),
        metronome: None,
    };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or(format!("{name} needs a value"))?;
        match name.as_str() {
            "--seeds" => options.seeds = value.parse()?,
            "--first" => options.first = value.parse()?,
            "--context" => options.context = value.parse()?,
            "--windows" => options.windows = value.parse()?,
            "--max-parameters" => options.max_parameters = value.parse()?,
            "--vocab" => options.vocab = value.parse()?,
            "--track" => options.track = value,
            "--metronome" => options.metronome = Some(value),
            _ => return Err(format!("unknown option `{name}`").into()),
        }
    }
    measure(&options)
}

fn measure(options: &Options) -> Result<()> {
    let train = read_tokens(&format!("{}/train.bin", options.data))?;
    let slices =
        ["dev", "val", "vault"].map(|name| read_tokens(&format!("{}/{name}.bin", options.data)));
    let slices = slices.into_iter().collect::<Result<Vec<_>>>()?;
    let mut rows = Vec::new();
    for seed in options.first..options.first + options.seeds {
        let run = train_once(options, &train, seed)?;
        let losses = slices
            .iter()
            .map(|slice| score(options, slice, &run.snapshot))
            .collect::<Result<Vec<_>>>()?;
        let sections: Vec<String> = run
            .summary
            .sections
            .iter()
            .map(|s| format!("{} {:.2} s", s.name, s.cpu_seconds))
            .collect();
        println!(
            "seed {seed:3}  dev {:.4}  val {:.4}  vault {:.4}  raw {:.3} s  charged {:.3} s  \
             {} beats of {:.3} ms  steps {}  tokens {}  parameters {}  {:.1} Gflop/s  [{}]",
            losses[0],
            losses[1],
            losses[2],
            run.raw,
            run.charged,
            run.beats,
            run.beat * 1e3,
            run.steps,
            run.tokens,
            run.snapshot.count(),
            run.summary.flops / run.raw / 1e9,
            sections.join(", "),
        );
        rows.push([losses[0], losses[1], losses[2], run.raw, run.charged]);
    }
    for (idx, name) in ["dev", "val", "vault", "raw", "charged"].iter().enumerate() {
        let (mean, deviation) = mean_and_deviation(rows.iter().map(|row| row[idx]));
        let percent = 100.0 * deviation / mean;
        println!("{name:8} mean {mean:.4}  sd {deviation:.4} ({percent:.2} %)  n {}", rows.len());
    }
    Ok(())
}

fn mean_and_deviation(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let n = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / n;
    (mean, (values.map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt())
}

/// A token file: 256 little-endian `i32` of header (magic, version, count), then `u16` tokens.
fn read_tokens(path: &str) -> Result<Vec<u16>> {
    let bytes = fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let (header, tokens) = bytes.split_at_checked(1024).ok_or("shorter than a header")?;
    if header[..4] != 20_240_520i32.to_le_bytes() {
        return Err(format!("{path}: not a token file").into());
    }
    Ok(tokens.as_chunks().0.iter().map(|&pair| u16::from_le_bytes(pair)).collect())
}

struct Run {
    snapshot: Snapshot,
    summary: Summary,
    /// CPU seconds as counted by the operating system.
    raw: f64,
    /// CPU seconds corrected by the metronome.
    charged: f64,
    /// Number of beats and their median in CPU seconds.
    beats: usize,
    beat: f64,
    steps: u64,
    tokens: u64,
}

struct Program {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl Program {
    fn start(options: &Options, program: &str, mode: &str, seed: u64) -> Result<Self> {
        let mut child = Command::new(program)
            .arg(mode)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (mut input, output) = (input.ok_or("no pipe")?, output.ok_or("no pipe")?);
        FromSupervisor::Start(Start {
            version: VERSION,
            track: options.track.clone(),
            seed,
            vocab: options.vocab,
            context: options.context,
            max_parameters: options.max_parameters,
            limits: Limits { cpu_seconds: 1e4, memory_bytes: 1 << 34, batch_tokens: 1 << 20 },
            // The metronome's steps must all cost the same; the trainer's cost 0.1 % less for it.
            collect: Collect::Steady,
            device: Device::Cpu,
            custom_kernels: false,
        })
        .write(&mut input)?;
        Ok(Self { child, input, output })
    }

    /// CPU seconds of the process so far.
    fn cpu(&self) -> Result<f64> {
        let mut clock: libc::clockid_t = 0;
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: both out-parameters are valid for writes; the child has not been waited for.
        let failed = unsafe {
            libc::clock_getcpuclockid(self.child.id() as libc::pid_t, &mut clock) != 0
                || libc::clock_gettime(clock, &mut now) != 0
        };
        if failed {
            return Err("the program's CPU clock cannot be read".into());
        }
        Ok(now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9)
    }

    fn stop(mut self) -> Result<()> {
        FromSupervisor::Stop.write(&mut self.input)?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the program ended: {status}").into()) }
    }
}

/// Sequences from random places of the training text.
struct Stream<'a> {
    tokens: &'a [u16],
    random: u64,
}

impl<'a> Stream<'a> {
    fn new(tokens: &'a [u16], seed: u64) -> Self {
        Self { tokens, random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    fn serve(&mut self, request: BatchRequest) -> FromSupervisor {
        let span = request.length as usize + 1;
        let mut answer = Vec::with_capacity(span * request.batch as usize);
        for _ in 0..request.batch {
            // Xorshift (Marsaglia, 2003): good enough for places in a text.
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let start = (self.random % (self.tokens.len() - span) as u64) as usize;
            answer.extend_from_slice(&self.tokens[start..start + span]);
        }
        FromSupervisor::Tokens(answer)
    }
}

fn train_once(options: &Options, train: &[u16], seed: u64) -> Result<Run> {
    let mut metronome = match &options.metronome {
        Some(program) => Some(Metronome::start(options, program, train)?),
        None => None,
    };
    let mut program = Program::start(options, &options.program, "train", seed)?;
    let mut stream = Stream::new(train, seed);
    let (mut steps, mut tokens, mut summary) = (0, 0, Summary::default());
    loop {
        match FromProgram::read(&mut program.output, 1 << 30)? {
            FromProgram::Batch(request) => {
                if let Some(metronome) = &mut metronome {
                    metronome.boundary(program.cpu()?)?;
                }
                stream.serve(request).write(&mut program.input)?;
                steps += 1;
                tokens += u64::from(request.batch) * u64::from(request.length);
            }
            FromProgram::Summary(counts) => summary = counts,
            FromProgram::Snapshot(snapshot) => {
                let raw = program.cpu()?;
                program.stop()?;
                let (charged, beats, beat) =
                    metronome.map_or(Ok((raw, 0, 0.0)), |metronome| metronome.finish(raw))?;
                return Ok(Run { snapshot, summary, raw, charged, beats, beat, steps, tokens });
            }
            _ => {}
        }
    }
}

/// Mean loss in nats over evenly spread windows.
fn score(options: &Options, tokens: &[u16], snapshot: &Snapshot) -> Result<f64> {
    let mut program = Program::start(options, &options.program, "evaluate", 0)?;
    FromSupervisor::Parameters(snapshot.clone()).write(&mut program.input)?;
    let (context, n_windows) = (options.context, options.windows);
    let stride = (tokens.len() - context - 1) / n_windows;
    let mut total = 0.0;
    for first in (0..n_windows).step_by(EVALUATION_BATCH) {
        let starts: Vec<usize> =
            (first..(first + EVALUATION_BATCH).min(n_windows)).map(|idx| idx * stride).collect();
        let windows = Windows {
            batch: starts.len() as u32,
            length: context as u32,
            tokens: starts.iter().flat_map(|&s| tokens[s..s + context].iter().copied()).collect(),
        };
        FromSupervisor::Windows(windows).write(&mut program.input)?;
        let FromProgram::Logits(logits) = FromProgram::read(&mut program.output, 1 << 30)? else {
            return Err("no logits came".into());
        };
        let targets = starts.iter().flat_map(|&s| &tokens[s + 1..s + 1 + context]);
        for (row, &target) in logits.chunks_exact(options.vocab).zip(targets) {
            let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|&logit| f64::from(logit - top).exp()).sum();
            total += f64::from(top) + sum.ln() - f64::from(row[usize::from(target)]);
        }
    }
    program.stop()?;
    Ok(total / (n_windows * context) as f64)
}
