//! `cargo quickstart`: from a clone to a search in one command.

use crate::{command, console::say, install, workspace};
use anyhow::Result;
use clap::Args;
use std::process::{Command, ExitCode};

/// Install into target/forerunner and run the preset `quickstart`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo quickstart
  cargo quickstart -- --set budget.seconds=60
  cargo quickstart -- --out runs/mine --quiet")]
pub(crate) struct Quickstart {
    /// Passed to `forerunner run quickstart`.
    #[arg(last = true, value_name = "ARGS")]
    arguments: Vec<String>,
}

impl Quickstart {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let prefix = workspace::prefix();
        let binary = prefix.join("bin/forerunner");
        if !binary.exists() {
            say(
                "building Forerunner in release mode (the first time: about ten minutes on two cores)",
            );
        }
        install::install(&prefix, false)?;
        let mut run = Command::new(&binary);
        run.args(["run", "quickstart"]).args(&self.arguments);
        // As one would type it in the checkout; a prefix of the environment would take precedence.
        run.env_remove("FORERUNNER_PREFIX");
        say(format_args!("running target/forerunner/bin/{}", command::shown(&run)));
        Ok(command::exit_code(command::status(&mut run)?))
    }
}
