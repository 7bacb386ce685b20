//! Feeds broken input to everything that reads what is not trusted; `cargo xtask fuzz` starts it.
//!
//! ```text
//! main ── supervise.rs   one target at a time: starts children, notices their ends, saves inputs
//!           └── child.rs     in the sandbox: mutates, runs, mutates, runs, …   (mutate.rs)
//!         minimise.rs    shortens an input that ends a child
//!         targets/       what is run, and which properties must hold
//! ```
//!
//! A child is a process of its own with limits, so that an abort, an overflown stack, an endless
//! loop and a memory explosion are caught like a panic. Why our own loop: docs/decisions/0008.

mod child;
mod minimise;
mod mutate;
mod supervise;
mod targets;

use anyhow::{Context, Result, bail};
use clap::Parser;
use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};
use targets::Target;

/// Every allocation is counted, so that a target can be held to a bound.
#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, usize::MAX);

const EXAMPLES: &str = "\
Examples:
  cargo xtask fuzz --seconds 60
  cargo xtask fuzz --target rules --seconds 600 --seed 7
  cargo xtask fuzz --target rules --input target/fuzz/rules-0123456789abcdef.bin

Inputs that crash a target are kept in target/fuzz. Exit code 1 when there are any.";

/// Feed broken input to everything that reads what is not trusted.
#[derive(Debug, Parser)]
#[command(name = "fuzz", bin_name = "cargo xtask fuzz", after_help = EXAMPLES)]
struct Arguments {
    /// For all targets together.
    #[arg(long, default_value_t = 60.0, value_name = "SECONDS")]
    seconds: f64,
    /// Only this one; may be given several times. `list` names all.
    #[arg(long = "target", value_name = "NAME")]
    targets: Vec<String>,
    /// Decides every input.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run a single target once, on this file.
    #[arg(long, value_name = "FILE", requires = "targets")]
    input: Option<PathBuf>,
    /// Show what each target makes of the inputs it starts from.
    #[arg(long)]
    corpus: bool,
    /// Where crashing inputs go.
    #[arg(long, default_value = "target/fuzz", value_name = "FOLDER")]
    out: PathBuf,
}

fn main() -> ExitCode {
    // First: this binary is also the sandbox's init and the child.
    forerunner_sandbox::init();
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|first| first == child::ARGUMENT) {
        return child::main(&arguments[2..]);
    }
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            say(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.targets.iter().any(|name| name == "list") {
        for target in targets::all() {
            print(format_args!("{:16} {}", target.name, target.about))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = chosen(&arguments.targets)?;
    if let Some(path) = &arguments.input {
        return repeat(chosen[0], path);
    }
    if arguments.corpus {
        return corpus(&chosen);
    }
    let seconds = arguments.seconds / chosen.len() as f64;
    let mut summary = format!(
        "{:16} {:>12} {:>12} {:>8} {:>8}\n",
        "target", "inputs", "per second", "answers", "crashes"
    );
    let mut n_crashes = 0;
    for target in chosen {
        let plan = supervise::Plan { target, seconds, seed: arguments.seed, out: &arguments.out };
        let outcome = plan.run()?;
        n_crashes += outcome.crashes.len();
        clear_progress();
        say(format_args!(
            "{}: {} inputs, {} crashes",
            target.name,
            outcome.inputs,
            outcome.crashes.len()
        ));
        summary += &format!(
            "{:16} {:>12} {:>12.0} {:>8} {:>8}\n",
            target.name,
            outcome.inputs,
            outcome.inputs as f64 / outcome.seconds.max(1e-3),
            outcome.answers,
            outcome.crashes.len()
        );
        for crash in &outcome.crashes {
            print(format_args!(
                "{}: {}\n  {} bytes: {}\n  repeat: cargo xtask fuzz --target {} --input {}",
                target.name,
                crash.message,
                crash.bytes,
                crash.path.display(),
                target.name,
                crash.path.display()
            ))?;
        }
    }
    print(summary.trim_end())?;
    Ok(if n_crashes == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn chosen(names: &[String]) -> Result<Vec<&'static Target>> {
    if names.is_empty() {
        return Ok(targets::all().iter().collect());
    }
    let find = |name: &String| match targets::find(name) {
        Some(target) => Ok(target),
        None => {
            let known: Vec<_> = targets::all().iter().map(|target| target.name).collect();
            bail!("no target `{name}` (known: {})", known.join(", "))
        }
    };
    names.iter().map(find).collect()
}

/// Runs every corpus once.
fn corpus(chosen: &[&'static Target]) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for target in chosen {
        let finished = supervise::Place::new()?.start(target, supervise::Job::Corpus)?.wait()?;
        for line in String::from_utf8_lossy(&finished.stdout).lines() {
            print(format_args!("{}: {line}", target.name))?;
        }
        if let Some(message) = supervise::ended(finished) {
            print(format_args!("{}: {message}", target.name))?;
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Runs a target once on a file and says what came of it.
fn repeat(target: &'static Target, path: &std::path::Path) -> Result<ExitCode> {
    let input =
        std::fs::read(path).with_context(|| format!("cannot read the input {}", path.display()))?;
    let attempt = minimise::attempt(target, &input)?;
    say(attempt.stderr.trim_end());
    match attempt.crash {
        None => print(format_args!("{}: no crash; it answers: {}", target.name, attempt.answer))?,
        Some(message) => {
            print(format_args!("{}: {message}", target.name))?;
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows how far a target is, in a line that the next one overwrites; only on a terminal.
pub(crate) fn show_progress(line: impl std::fmt::Display) {
    let mut stderr = io::stderr();
    if stderr.is_terminal() {
        drop(write!(stderr, "\r{line}\x1b[K"));
    }
}

fn clear_progress() {
    show_progress("");
}

/// Writes progress to standard error.
pub(crate) fn say(message: impl std::fmt::Display) {
    // Nothing can be done about a closed standard error.
    drop(writeln!(io::stderr(), "{message}"));
}

/// Writes a result to standard output.
fn print(result: impl std::fmt::Display) -> io::Result<()> {
    writeln!(io::stdout(), "{result}")
}
