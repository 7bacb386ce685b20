//! `cargo xtask check`: what a change must pass, cheapest first.

use crate::{
    command::{self, cargo, has_cargo_command, run},
    console::say,
    deny, hooks, install, invariants, redteam, test, tidy, workspace,
};
use anyhow::{Context, Result};
use clap::Args;
use std::time::Instant;

/// Run every check, cheapest first; stops at the first that fails.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask check
  cargo xtask check --fast")]
pub(crate) struct Check {
    /// Stop before what builds the documentation and runs the tests.
    #[arg(long)]
    fast: bool,
}

type Step = (&'static str, fn() -> Result<()>);

const FAST: &[Step] = &[
    ("fmt", format),
    ("tidy", tidy::run),
    ("deny", deny::run),
    ("invariants", invariants::run),
    ("clippy", clippy),
];

const SLOW: &[Step] = &[
    ("hooks", hooks::check),
    ("doc", documentation),
    ("test", tests),
    ("red team", redteam::check),
];

impl Check {
    pub(crate) fn run(&self) -> Result<()> {
        let slow = if self.fast { &[] } else { SLOW };
        for (name, step) in FAST.iter().chain(slow) {
            say(format_args!("check: {name}"));
            let started = Instant::now();
            step().with_context(|| format!("check `{name}` failed"))?;
            say(format_args!("check: {name} passed in {:.1} s", started.elapsed().as_secs_f64()));
        }
        Ok(())
    }
}

fn format() -> Result<()> {
    if !has_cargo_command("fmt") {
        say("skipped: rustfmt is not installed (`rustup component add rustfmt`)");
        return Ok(());
    }
    run(&mut cargo(["fmt", "--all", "--check"])).context("remedy: `cargo fmt --all`")
}

/// In release mode, so that build scripts (SQLite's C code above all) run once for the checks and
/// for the tests.
fn clippy() -> Result<()> {
    if !has_cargo_command("clippy") {
        say("skipped: clippy is not installed (`rustup component add clippy`)");
        return Ok(());
    }
    let options = ["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"];
    run(&mut cargo(options))
}

fn documentation() -> Result<()> {
    let mut doc = cargo(["doc", "--release", "--workspace", "--no-deps"]);
    run(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

fn tests() -> Result<()> {
    install::install(&workspace::prefix(), false)?;
    command::run(&mut test::tests(&[]))
}
