//! `cargo xtask sandbox-table`: what programs try in the sandbox, and what comes of it here.

use crate::{
    command::{self, cargo},
    console::print,
};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::{path::Path, process::ExitCode};

/// Try everything that the sandbox must block or bound, in every situation this machine offers.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask sandbox-table
  sudo -E cargo xtask sandbox-table                root becomes an ordinary user for some columns

Without root, the column of root is skipped, and says so.")]
pub(crate) struct SandboxTable;

/// The test that runs the table and its package.
const TEST: &str = "table::everything_is_blocked_or_bounded_in_every_situation";
const PACKAGE: &str = "forerunner-sandbox";

impl SandboxTable {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let folder = tempfile::tempdir()?;
        let table = folder.path().join("table.md");
        // The test starts this example, which choosing a test target would not build.
        command::run(&mut cargo(["build", "--quiet", "-p", PACKAGE, "--example", "hostile"]))?;
        let status = command::status(&mut test(&table))?;
        let Ok(text) = std::fs::read_to_string(&table) else {
            bail!("the test ended with {status} before its table was complete");
        };
        print(text).context("cannot print the table")?;
        Ok(command::exit_code(status))
    }
}

fn test(table: &Path) -> std::process::Command {
    let mut test = cargo(["test", "--quiet", "-p", PACKAGE, "--test", "sandbox", "--"]);
    test.args(["--exact", TEST]).env("FORERUNNER_SANDBOX_TABLE", table);
    // What the tests say goes where progress goes; the table alone is the result.
    test.stdout(std::process::Stdio::null());
    test
}
