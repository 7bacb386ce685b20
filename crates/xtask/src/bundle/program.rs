//! The program of the bench: the reference program of the track `gpt2-124m` with other constants, and
//! two changes that make it comparable.

use crate::speedrun::with_constant;
use anyhow::{Context, Result, anyhow, bail};
use forerunner_core::{Change, Program};
use forerunner_workbench::apply;

const REFERENCE: &str = include_str!("../../../../environments/nanogpt/programs/gpt2.rs");
const PATCH: &str = include_str!("../../../../environments/nanogpt/programs/gpt2-124m.patch");
/// What makes one captured step of the program's: without accumulation, since a step is all of it.
const CAPTURED: &str = include_str!("../../../../environments/nanogpt/bench-gpu/captured.patch");

/// Sizes of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// GPT-2 124M, for a GPU.
    Full,
    /// What a CPU trains in a moment.
    Toy,
}

/// Steps that are trained with the full size.
pub(crate) const STEPS: usize = 200;
/// Sequences of a step, none of them put off to a later part.
pub(crate) const BATCH: usize = 32;
/// Positions of a sequence.
pub(crate) const LENGTH: usize = 1024;

/// Steps whose sections bear another name, so that loading kernels is no part of the split; as many as
/// `gpu_bench` and `bench_torch.py` leave out.
const WARM_UP: usize = 20;

/// The learning rate rises longer than on the track, where 700 of 19,560 steps would be 7 of 200: curves
/// that are compared should not begin with a jolt.
const FULL: &[(&str, &str)] =
    &[("STEPS", "200"), ("BATCH", "32"), ("PART", "32"), ("WARMUP", "0.2")];

const TOY: &[(&str, &str)] = &[
    ("STEPS", "80"),
    ("BATCH", "12"),
    ("PART", "12"),
    ("LENGTH", "64"),
    ("WIDTH", "32"),
    ("LAYERS", "2"),
    ("HEADS", "2"),
    ("VOCAB_MULTIPLE", "96"),
    ("LEARNING_RATE", "5e-3"),
    ("WARMUP", "0.2"),
];

/// Token values and positions that the toy is trained for.
pub(crate) const TOY_VOCAB: usize = 256;
pub(crate) const TOY_CONTEXT: usize = 64;

/// Where training begins in the reference program.
const BEGIN: &str = "fn train(model: &Gpt, params: &Params, run: &mut Training) -> Result<()> {\n";

/// Comes next.
const ROUND: &str = "    // The bench: parameters become what a checkpoint of them holds, numbers of 8 bits (Veltkamp's
    // splitting, Dekker 1971), so that others can start from the very same.
    for parameter in params {
        let x = &*parameter.var;
        let scaled = (x * 65_537.0)?;
        parameter.var.set(&(&scaled - (&scaled - x)?)?)?;
    }
";

/// The program's text.
pub(crate) fn text(size: Size) -> Result<String> {
    let mut text = rounded(&sized(size)?)?;
    for section in ["forward", "backward", "optimizer"] {
        text = warmed_up(&text, section)?;
    }
    Ok(text)
}

/// The text of the same program with steps that are captured: the same losses, to the last bit.
pub(crate) fn captured(size: Size) -> Result<String> {
    warmed_up(&rounded(&patched(&sized(size)?, CAPTURED, "captured.patch")?)?, "step")
}

/// The reference with the constants of a size.
fn sized(size: Size) -> Result<String> {
    let mut text = patched(REFERENCE, PATCH, "gpt2-124m.patch")?;
    let constants = match size {
        Size::Full => FULL,
        Size::Toy => TOY,
    };
    for (name, value) in constants {
        text = with_constant(&text, name, value)?;
    }
    Ok(text)
}

/// The text with parameters that are rounded before the first step.
fn rounded(text: &str) -> Result<String> {
    replaced(text, BEGIN, &format!("{BEGIN}{ROUND}"))
}

/// What a patch makes of the text.
fn patched(text: &str, patch: &str, name: &str) -> Result<String> {
    let plain = Program::single("main.rs", text);
    let changed = apply(&plain, &Change::Patch(patch.to_owned())).map_err(|findings| {
        let why: Vec<_> = findings.into_iter().map(|finding| finding.message).collect();
        anyhow!("{name} does not fit: {}", why.join("; "))
    })?;
    changed.files.get("main.rs").cloned().context("the program is one file")
}

/// The text with another name for the first steps of a section.
fn warmed_up(text: &str, section: &str) -> Result<String> {
    let early = format!(
        "section(if step_idx < {WARM_UP} {{ \"warm-up: {section}\" }} else {{ \"{section}\" }}, "
    );
    replaced(text, &format!("section(\"{section}\", "), &early)
}

/// The text with one place exchanged.
fn replaced(text: &str, from: &str, to: &str) -> Result<String> {
    let found = text.matches(from).count();
    if found != 1 {
        bail!("the reference program of `gpt2-124m` has `{}` {found} times, not once", from.trim());
    }
    Ok(text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_becomes_the_program_of_the_bench() {
        let of = |text: &str, name: &str| -> String {
            let line = text.lines().find(|line| line.starts_with(&format!("const {name}: ")));
            line.unwrap().split_once(" = ").unwrap().1.trim_end_matches(';').to_owned()
        };
        let full = text(Size::Full).unwrap();
        assert_eq!(of(&full, "STEPS").parse(), Ok(STEPS));
        assert_eq!(of(&full, "BATCH").parse(), Ok(BATCH));
        assert_eq!(of(&full, "PART"), of(&full, "BATCH"));
        assert_eq!(of(&full, "LENGTH").parse(), Ok(LENGTH));
        assert_eq!((&*of(&full, "LAYERS"), &*of(&full, "WIDTH")), ("12", "768"));
        let toy = text(Size::Toy).unwrap();
        assert_eq!(of(&toy, "LENGTH").parse(), Ok(TOY_CONTEXT));
        for text in [full, toy] {
            assert!(text.contains(ROUND));
            assert_eq!(text.matches("\"warm-up: ").count(), 3);
        }
        let captured = captured(Size::Full).unwrap();
        assert!(captured.contains(ROUND) && captured.contains("\"warm-up: step\""));
    }

    /// The script reads settings out of the program, and its own model is written by hand: a constant
    /// that it does not know would be one that it does not follow.
    #[test]
    fn the_script_knows_every_constant() {
        let script = include_str!("../../../../environments/nanogpt/bench-gpu/bench_torch.py");
        // Initial weights come from a file; what is recorded changes nothing.
        let unused = ["INIT_STD", "RECORD_EVERY"];
        let text = text(Size::Full).unwrap();
        let constants =
            text.lines().filter_map(|line| line.strip_prefix("const ")?.split_once(": "));
        let mut n_known = 0;
        for (name, _) in constants.filter(|(name, _)| *name != "_" && !unused.contains(name)) {
            assert!(script.contains(&format!("c[\"{name}\"]")), "{name}");
            n_known += 1;
        }
        assert!(n_known > 10, "{n_known}");
    }
}
