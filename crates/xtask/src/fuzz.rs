//! `cargo xtask fuzz`: feeds broken input to everything that reads what is not trusted.

use crate::command::{self, cargo};
use anyhow::Result;
use clap::Args;
use std::process::ExitCode;

/// Feed broken input to everything that reads what is not trusted.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask fuzz --seconds 60
  cargo xtask fuzz --target list                   what there is
  cargo xtask fuzz --target rules --seconds 600 --seed 7
  cargo xtask fuzz --target rules --input target/fuzz/rules-0123456789abcdef.bin

Inputs that crash a target are kept in target/fuzz, shortened. Exit code 1 when there are any.")]
pub(crate) struct Fuzz {
    /// For all targets together.
    #[arg(long, default_value_t = 60.0, value_name = "SECONDS")]
    seconds: f64,
    /// Only this target; may be given several times.
    #[arg(long = "target", value_name = "NAME")]
    targets: Vec<String>,
    /// Decides every input.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run a single target once, on this file.
    #[arg(long, value_name = "FILE", requires = "targets")]
    input: Option<String>,
    /// Faster, but without checks for overflow and without debug assertions.
    #[arg(long)]
    release: bool,
}

impl Fuzz {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let mut fuzz = cargo(["run", "--quiet", "-p", "forerunner-fuzz"]);
        if self.release {
            fuzz.arg("--release");
        }
        fuzz.args(["--", "--seconds", &self.seconds.to_string()]);
        fuzz.args(["--seed", &self.seed.to_string()]);
        fuzz.args(self.targets.iter().flat_map(|name| ["--target", name]));
        fuzz.args(self.input.iter().flat_map(|path| ["--input", path]));
        Ok(command::exit_code(command::status(&mut fuzz)?))
    }
}
