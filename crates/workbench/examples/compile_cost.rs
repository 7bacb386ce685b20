//! What compiling costs on this machine, in CPU seconds of this process and its children.
//!
//! ```sh
//! cargo build --release -p forerunner-nanogpt-harness --message-format=json >messages.json
//! cargo run --release -p forerunner-workbench --example compile_cost -- \
//!     messages.json environments/nanogpt/programs/gpt2.rs
//! ```
#![expect(clippy::print_stdout, reason = "an example prints its result")]

use forerunner_core::Program;
use forerunner_workbench::{Compiler, Harness, Rules};
use std::{error::Error, fs, io::BufReader, time::Instant};

/// How often each thing is done; every program differs from the others by a comment.
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    forerunner_sandbox::init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [messages, source] = &arguments[..] else {
        return Err("usage: compile_cost MESSAGES.json PROGRAM.rs".into());
    };
    let dir = tempfile::tempdir()?;
    let messages = BufReader::new(fs::File::open(messages)?);
    let harness = Harness::install(messages, "harness", &dir.path().join("harness"))?;
    let source = fs::read_to_string(source)?;
    let program = |idx: usize, extra: &str| {
        Program::single("main.rs", format!("{source}\n// {idx}\n{extra}\n"))
    };
    let cache = dir.path().join("cache");
    let compiler = Compiler::new(harness.clone(), &cache, false)?;

    measure("open the compiler", |_| Compiler::new(harness.clone(), &cache, false).is_ok());
    measure("source rules", |idx| {
        !Rules::default().check(&program(idx, "static X: u8 = 0;")).is_empty()
    });
    let wrong = "fn wrong() -> u32 { \"text\" }";
    measure("type error, check", |idx| compiler.check(&program(idx, wrong)).is_err());
    measure("type error, build", |idx| compiler.build(&program(100 + idx, wrong)).is_err());
    measure("good program, check", |idx| compiler.check(&program(200 + idx, "")).is_ok());
    measure("good program, build", |idx| {
        compiler.build(&program(300 + idx, "")).is_ok_and(|b| !b.cached)
    });
    measure("good program, cached", |idx| {
        compiler.build(&program(300 + idx, "")).is_ok_and(|b| b.cached)
    });
    let built = compiler.build(&program(300, ""))?;
    println!("sandbox: {}; binary: {} bytes", built.layers, fs::metadata(built.binary)?.len());
    Ok(())
}

fn measure(what: &str, work: impl Fn(usize) -> bool) {
    let mut costs: Vec<(f64, f64)> = (0..ROUNDS)
        .map(|idx| {
            let (cpu, wall) = (cpu_seconds(), Instant::now());
            assert!(work(idx), "{what} did not go as expected");
            (cpu_seconds() - cpu, wall.elapsed().as_secs_f64())
        })
        .collect();
    costs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (cpu, wall) = costs[ROUNDS / 2];
    println!("{what:22} {cpu:6.3} CPU s {wall:6.3} s");
}

/// CPU time of this process and of the children it has waited for; 0 where it cannot be read.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name in brackets: fields 14 to 17 are utime, stime, cutime, cstime in 1/100 s.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(4).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
