//! Whether PyTorch's model is the program's, and the captured program does the same: all train from the
//! same weights on the same tokens, on the CPU in f32, and have the same losses but for rounding.

use super::{
    SCRIPTS, build,
    program::{self, Size, TOY_CONTEXT, TOY_VOCAB},
};
use crate::{command, console::say, install::HARNESS_PACKAGE, workspace};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// Most that losses of one step may differ in the first steps, in nats: sums of f32 in another order.
const MOST_FIRST: f64 = 1e-5;
/// The same over all steps, in which differences grow as training goes on.
const MOST: f64 = 1e-4;
/// Steps that count as the first.
const FIRST: usize = 10;

/// What both print, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Figures {
    losses: Vec<f64>,
    parameters: u64,
}

pub(super) fn run(python: Option<&Path>) -> Result<()> {
    let scratch = workspace::root().join("target/pytorch/bin/python");
    let python = python.unwrap_or(&scratch);
    ensure!(
        python.exists(),
        "there is no {}\nhint: `cargo xtask bench training --install`, or name one with --python",
        python.display()
    );
    let folder = workspace::root().join("target/bundle/check");
    fs::create_dir_all(&folder)?;
    let text = program::text(Size::Toy)?;
    let source = folder.join("toy.rs");
    fs::write(&source, &text)?;
    let toy = build::nanogpt(&text, &folder, None)?;
    let supervisor =
        build::cargo(&["build", "--package", HARNESS_PACKAGE, "--example", "gpu_bench"], None)?;
    let weights = folder.join("toy.safetensors");
    let (vocab, context) = (TOY_VOCAB.to_string(), TOY_CONTEXT.to_string());
    let shared = |command: &mut Command| {
        command.args(["--device", "cpu", "--vocab", &vocab, "--context", &context]);
        command.arg("--weights").arg(&weights);
    };
    let by_harness = |program: &Path| {
        let mut command = Command::new(supervisor.program("gpu_bench")?);
        shared(command.arg("--program").arg(program));
        figures(&mut command)
    };
    let ours = by_harness(&toy)?;
    let (from, to) = (ours.losses.first(), ours.losses.last());
    let (from, to) = from.zip(to).context("no loss was recorded")?;
    say(format_args!("{} parameters, losses from {from:.4} to {to:.4}", ours.parameters));

    let captured = build::nanogpt(&program::captured(Size::Toy)?, &folder, None)?;
    compare("with captured steps", &ours, &by_harness(&captured)?)
        .context("hint: captured.patch has to follow the reference")?;
    let mut theirs = Command::new(python);
    theirs.args(["-W", "ignore"]).arg(workspace::root().join(SCRIPTS).join("bench_torch.py"));
    shared(theirs.args(["--precision", "f32", "--program"]).arg(&source));
    compare("in PyTorch", &ours, &figures(&mut theirs)?)
        .context("hint: bench_torch.py has to follow environments/nanogpt/programs/gpt2.rs")?;
    say("all train the same model");
    Ok(())
}

/// An error unless others came to the same losses.
fn compare(what: &str, ours: &Figures, theirs: &Figures) -> Result<()> {
    ensure!(
        ours.parameters == theirs.parameters && ours.losses.len() == theirs.losses.len(),
        "{} parameters and {} steps, {} and {} {what}",
        ours.parameters,
        ours.losses.len(),
        theirs.parameters,
        theirs.losses.len()
    );
    let apart: Vec<f64> =
        ours.losses.iter().zip(&theirs.losses).map(|(a, b)| (a - b).abs()).collect();
    let most = |steps: &[f64]| steps.iter().copied().fold(0.0, f64::max);
    let (first, all) = (most(&apart[..FIRST.min(apart.len())]), most(&apart));
    say(format_args!("{what}: at most {first:.1e} apart in {FIRST} steps, {all:.1e} in all"));
    // A comparison with what is not a number would hold.
    if !(first <= MOST_FIRST && all <= MOST && apart.iter().all(|apart| apart.is_finite())) {
        bail!("the models differ: at most {MOST_FIRST:.0e} and {MOST:.0e} are rounding");
    }
    Ok(())
}

fn figures(command: &mut Command) -> Result<Figures> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {}", command::shown(command)))?;
    if !output.status.success() {
        bail!("{} failed ({})", command::shown(command), output.status);
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{} printed no figures", command::shown(command)))
}
