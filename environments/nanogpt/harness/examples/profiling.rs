//! What collecting telemetry costs: the reference program trains twice, side by side on the same
//! tokens, once with all that is collected and once with nothing.
//!
//! ```text
//! cargo run --release -p forerunner-nanogpt-harness --example profiling [-- --steps 2800]
//! ```
//!
//! The two take steps in turns, each first as often as the other, and the CPU time of each step is
//! compared with that of the other's: by medians, because a core that others use disturbs single
//! steps, and apart for the few steps in which norms are looked at. Allocations are counted in both, because an allocator cannot be
//! exchanged while a program runs; what that costs is measured by itself, on as many calls as a step
//! makes. Best seen with nothing else on the core (`taskset -c 1`).
#![expect(clippy::print_stdout, reason = "the figures are the point of this program")]
#![expect(
    unsafe_code,
    reason = "another process's CPU clock, and the allocator below the counting one"
)]

use std::alloc::{GlobalAlloc, Layout, System, alloc, dealloc};
use std::hint::black_box;
use std::io::{BufReader, BufWriter};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::{env, error};

use forerunner_nanogpt_protocol::{
    Allocations, BatchRequest, Collect, Device, FromProgram, FromSupervisor, Limits, Start,
    Summary, VERSION,
};

// Linked for its allocator.
use harness as _;

type Result<T> = std::result::Result<T, Box<dyn error::Error>>;

/// First steps that are left out: fresh memory, cold caches.
const WARM_UP: usize = 20;
/// Values of a token: bytes, as on the track.
const VOCAB: usize = 256;
/// Most that all of it may cost, as a share of the CPU time without it.
const MOST: f64 = 0.02;
/// Rounds in which the two allocators take turns, and calls of each in a round.
const ROUNDS: usize = 2000;
const CALLS: usize = 500;
/// Bytes of the blocks in the comparison: small ones, which are the cheapest to allocate and the
/// most frequent.
const BLOCK_BYTES: [usize; 4] = [16, 64, 160, 512];

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let mut most_steps = usize::MAX;
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or(format!("{name} needs a value"))?;
        match name.as_str() {
            "--steps" => most_steps = value.parse()?,
            _ => return Err(format!("unknown option `{name}` (known: --steps)").into()),
        }
    }
    let reference = reference()?;
    let mut with = Trainer::start(&reference, Collect::All)?;
    let mut without = Trainer::start(&reference, Collect::Nothing)?;
    // CPU seconds of each step without and with, by whether norms were looked at in it.
    let mut steps: [Vec<[f64; 2]>; 2] = [Vec::new(), Vec::new()];
    while with.summary.is_none() && with.n_steps < most_steps {
        let first = with.n_steps % 2;
        let mut spent = [0.0; 2];
        for which in [first, 1 - first] {
            spent[which] = [&mut without, &mut with][which].step()?;
        }
        if with.n_steps > WARM_UP {
            steps[usize::from(with.looked)].push(spent);
        }
    }
    let off = median(steps.iter().flatten().map(|step| step[0]).collect());
    let more = |steps: &[[f64; 2]]| {
        let differences: Vec<f64> = steps.iter().map(|step| step[1] - step[0]).collect();
        (median(differences.clone()), standard_error(differences))
    };
    let [(steady, error), (look, _)] = [more(&steps[0]), more(&steps[1])];
    let share_looked = steps[1].len() as f64 / steps.iter().map(Vec::len).sum::<usize>() as f64;
    let norms = share_looked * (look - steady).max(0.0);
    println!("a step with nothing collected: {:.3} ms of CPU time, median of {}", 1e3 * off, {
        steps.iter().map(Vec::len).sum::<usize>()
    });
    let percent = |seconds: f64| format!("{:+.2} %", 100.0 * seconds / off);
    println!(
        "operations, sections, curves: {:+.1} us a step = {} (± {:.2})",
        1e6 * steady,
        percent(steady),
        100.0 * error / off
    );
    println!(
        "norms of gradients and updates: {:+.0} us in each of {} steps = {}",
        1e6 * (look - steady),
        steps[1].len(),
        percent(norms)
    );
    let calls = match with.summary.as_ref().and_then(|summary| summary.allocations) {
        Some(Allocations { count, .. }) => count as f64 / with.n_steps as f64,
        None => return Err("let it train to the end to count its allocations".into()),
    };
    let (counted, plain) = allocations();
    let counting = calls * (counted - plain);
    println!(
        "counting allocations: {calls:.0} a step, {:.1} ns each with its release, {:.1} ns \
         uncounted = {}",
        1e9 * counted,
        1e9 * plain,
        percent(counting)
    );
    let all = steady + norms + counting;
    let verdict = if all <= MOST * off { "at most" } else { "MORE THAN" };
    println!("all of it: {}, {verdict} {:.0} %", percent(all), 100.0 * MOST);
    Ok(())
}

/// The reference program, built as an example beside this one.
fn reference() -> Result<PathBuf> {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "--example", "gpt2"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    let program = env::current_exe()?.with_file_name("gpt2");
    if built.success() { Ok(program) } else { Err("the reference program does not build".into()) }
}

/// A trainer that waits for tokens.
struct Trainer {
    child: Child,
    input: BufWriter<ChildStdin>,
    output: BufReader<ChildStdout>,
    request: BatchRequest,
    random: u64,
    n_steps: usize,
    /// Whether norms were looked at in the last step.
    looked: bool,
    summary: Option<Summary>,
}

impl Trainer {
    fn start(program: &PathBuf, collect: Collect) -> Result<Self> {
        let mut child = Command::new(program)
            .arg("train")
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut input = BufWriter::new(child.stdin.take().ok_or("no pipe")?);
        let output = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        FromSupervisor::Start(Start {
            version: VERSION,
            track: "cpu".into(),
            seed: 1,
            vocab: VOCAB,
            context: 64,
            max_parameters: 150_000,
            limits: Limits { cpu_seconds: 1e4, memory_bytes: 1 << 34, batch_tokens: 1 << 20 },
            collect,
            device: Device::Cpu,
            custom_kernels: false,
        })
        .write(&mut input)?;
        let request = BatchRequest { batch: 0, length: 0 };
        let (random, n_steps, looked, summary) = (1, 0, false, None);
        let mut trainer = Self { child, input, output, request, random, n_steps, looked, summary };
        trainer.wait()?;
        Ok(trainer)
    }

    /// Takes a step; CPU seconds that it took.
    fn step(&mut self) -> Result<f64> {
        let tokens = FromSupervisor::Tokens(self.tokens());
        let before = self.cpu_seconds()?;
        tokens.write(&mut self.input)?;
        self.n_steps += 1;
        self.wait()?;
        Ok(self.cpu_seconds()? - before)
    }

    /// Waits for the next request, or for the end.
    fn wait(&mut self) -> Result<()> {
        self.looked = false;
        loop {
            match FromProgram::read(&mut self.output, 1 << 24)? {
                FromProgram::Record(record) => {
                    self.looked |= record.series.starts_with("update_norm.");
                }
                FromProgram::Batch(request) => {
                    self.request = request;
                    return Ok(());
                }
                FromProgram::Summary(summary) => {
                    self.summary = Some(summary);
                    return Ok(());
                }
                _ => {}
            }
        }
    }

    /// Bytes with something to learn: each is likely to be near the one before it.
    fn tokens(&mut self) -> Vec<u16> {
        let mut token = 0;
        let mut next = || {
            // Xorshift (Marsaglia, 2003).
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            token = (token + (self.random % 4) as u16) % VOCAB as u16;
            token
        };
        (0..self.request.tokens()).map(|_| next()).collect()
    }

    fn cpu_seconds(&self) -> Result<f64> {
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
}

impl Drop for Trainer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Seconds that a block of memory costs, from asking for it to giving it back: of the allocator that
/// counts, and of the system's beneath it. Medians of rounds in turns.
fn allocations() -> (f64, f64) {
    let layouts =
        BLOCK_BYTES.map(|bytes| Layout::from_size_align(bytes, 16).unwrap_or(Layout::new::<u64>()));
    let round = |counted: bool| {
        let before = std::time::Instant::now();
        for call in 0..CALLS {
            let layout = layouts[call % layouts.len()];
            // SAFETY: the size is not zero; the block is given back to the allocator that it came
            // from, with the layout that it was asked for with, and used by nobody in between.
            unsafe {
                if counted {
                    dealloc(black_box(alloc(layout)), layout);
                } else {
                    System.dealloc(black_box(System.alloc(layout)), layout);
                }
            }
        }
        before.elapsed().as_secs_f64() / CALLS as f64
    };
    let rounds: Vec<(f64, f64)> = (0..ROUNDS).map(|_| (round(true), round(false))).collect();
    let (counted, plain) = rounds.into_iter().unzip();
    (median(counted), median(plain))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Of the median, for values that are spread normally but for outliers.
fn standard_error(values: Vec<f64>) -> f64 {
    let (n, middle) = (values.len() as f64, median(values.clone()));
    let spread = median(values.into_iter().map(|value| (value - middle).abs()).collect());
    1.253 * 1.483 * spread / n.sqrt()
}
