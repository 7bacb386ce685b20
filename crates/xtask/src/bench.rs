//! `cargo xtask bench`: what the framework itself costs, and how fast it trains.

mod meter;
mod models;
mod overhead;
mod slot;
mod training;
mod verification;

use crate::workspace;
use anyhow::Result;
use clap::{Args, Subcommand};
use std::{path::PathBuf, process::ExitCode};

/// Measure the framework itself, and training beside PyTorch.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// CPU time, memory and output per iteration, and the time to the first result.
    Overhead(overhead::Overhead),
    /// CPU time and prompt bytes per iteration with models, and calls at once.
    Models(models::Models),
    /// How busy one measuring slot is with slow proposals.
    Slot(slot::Slot),
    /// A training step beside the same step in PyTorch.
    Training(training::Training),
    /// What verifying adds to an evaluation of the speedrun.
    Verification(verification::Verification),
}

impl Bench {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        match &self.command {
            Command::Overhead(arguments) => arguments.run()?,
            Command::Models(arguments) => arguments.run()?,
            Command::Slot(arguments) => arguments.run()?,
            Command::Training(arguments) => arguments.run()?,
            Command::Verification(arguments) => arguments.run()?,
        }
        // A bench reports; goals that are missed are in the table, not in the exit code, because
        // another machine's times are not a fault of the code.
        Ok(ExitCode::SUCCESS)
    }
}

/// What every bench can be told.
#[derive(Debug, Args)]
struct Common {
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// The installation to measure (default: target/forerunner).
    #[arg(long, value_name = "DIR")]
    prefix: Option<PathBuf>,
}

impl Common {
    fn prefix(&self) -> Result<PathBuf> {
        match &self.prefix {
            Some(prefix) => Ok(std::path::absolute(prefix)?),
            None => Ok(workspace::prefix()),
        }
    }
}

/// The machine while it measured, for judging what came out.
#[derive(Debug, serde::Serialize)]
struct Machine {
    cores: usize,
    /// Processes that wanted to run, averaged over the last minute.
    load: f64,
}

impl Machine {
    fn now() -> Self {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split_whitespace().next().and_then(|first| first.parse().ok());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { cores, load: load.unwrap_or(0.0) }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} cores, load {:.1}", self.cores, self.load)
    }
}

/// A goal and whether it was met.
#[derive(Debug, serde::Serialize)]
struct Goal {
    goal: &'static str,
    measured: String,
    met: bool,
}

impl Goal {
    fn row(&self) -> [String; 3] {
        let answer = if self.met { "met" } else { "missed" };
        [self.goal.to_owned(), self.measured.clone(), answer.to_owned()]
    }
}
