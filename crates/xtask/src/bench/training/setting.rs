//! What is trained: sizes, training settings, and the program text that has them.

use crate::speedrun::with_constant;
use anyhow::{Context, Result, anyhow};
use forerunner_core::{Change, Program};
use forerunner_workbench::{Compiler, apply};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// One model and how it is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) vocabulary: usize,
    pub(super) width: usize,
    pub(super) batch: usize,
    pub(super) length: usize,
    pub(super) steps: usize,
    /// Steps that are not timed.
    pub(super) skipped: usize,
    /// Factor on PyTorch's speed that is wanted.
    pub(super) goal: Option<f64>,
}

/// The settings, cheapest first.
pub(super) const SETTINGS: [Setting; 4] = [
    Setting {
        name: "bytes",
        vocabulary: 256,
        width: 64,
        batch: 8,
        length: 64,
        steps: 301,
        skipped: 20,
        goal: Some(1.0),
    },
    // What the reference of the track `fineweb-small` is.
    Setting {
        name: "fineweb-small",
        vocabulary: 50_257,
        width: 32,
        batch: 2,
        length: 128,
        steps: 61,
        skipped: 5,
        goal: Some(1.4),
    },
    Setting {
        name: "words",
        vocabulary: 50_257,
        width: 64,
        batch: 8,
        length: 128,
        steps: 19,
        skipped: 3,
        goal: Some(1.4),
    },
    Setting {
        name: "words-wide",
        vocabulary: 50_257,
        width: 128,
        batch: 8,
        length: 128,
        steps: 14,
        skipped: 3,
        goal: None,
    },
];

/// The reference program of the track `cpu`, and what that of `fineweb-small` changes in it.
const REFERENCE: &str = include_str!("../../../../../environments/nanogpt/programs/gpt2.rs");
const PATCH: &str =
    include_str!("../../../../../environments/nanogpt/programs/fineweb-small.patch");

/// The largest vocabulary whose logits are stored whole, as the reference does.
const STORED_LOGITS: usize = 4096;

// What all settings share. Both sides start with a loss close to ln V, hence the small deviation.
pub(super) const LAYERS: usize = 2;
pub(super) const HEADS: usize = 4;
const INIT_STD: f64 = 0.02;
const LEARNING_RATE: f64 = 5e-3;
const WARMUP: f64 = 0.05;
const FINAL_RATE: f64 = 0.1;
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.95;
const EPSILON: f64 = 1e-8;
const WEIGHT_DECAY: f64 = 0.1;
const CLIP: f64 = 1.0;

impl Setting {
    /// Tokens of one step: a sequence has one more than it has positions.
    pub(super) fn step_tokens(&self) -> usize {
        self.batch * (self.length + 1)
    }

    /// The reference program of the speedrun with this setting's constants. Where the vocabulary is
    /// large it is the one of `fineweb-small`, which never stores all logits.
    pub(super) fn program(&self) -> Result<Program> {
        let mut program = Program::single("main.rs", REFERENCE);
        if self.vocabulary > STORED_LOGITS {
            let patch = Change::Patch(PATCH.to_owned());
            program = apply(&program, &patch).map_err(|findings| {
                let why: Vec<_> = findings.into_iter().map(|finding| finding.message).collect();
                anyhow!("the patch of `fineweb-small` does not fit: {}", why.join("; "))
            })?;
        }
        let text = program.files.get_mut("main.rs").context("the program is one file")?;
        for (name, value) in [
            ("STEPS", self.steps.to_string()),
            ("BATCH", self.batch.to_string()),
            ("LENGTH", self.length.to_string()),
            ("WIDTH", self.width.to_string()),
            ("LAYERS", LAYERS.to_string()),
            ("HEADS", HEADS.to_string()),
            ("MLP_RATIO", "4".to_owned()),
            ("INIT_STD", format!("{INIT_STD:?}")),
            ("LEARNING_RATE", format!("{LEARNING_RATE:?}")),
            ("WARMUP", format!("{WARMUP:?}")),
            ("FINAL_RATE", format!("{FINAL_RATE:?}")),
            ("BETA1", format!("{BETA1:?}")),
            ("BETA2", format!("{BETA2:?}")),
            ("EPSILON", format!("{EPSILON:?}")),
            ("WEIGHT_DECAY", format!("{WEIGHT_DECAY:?}")),
            ("CLIP", format!("{CLIP:?}")),
        ] {
            *text = with_constant(text, name, &value)?;
        }
        Ok(program)
    }

    /// The same for the script.
    pub(super) fn script_arguments(&self, tokens: &Path, threads: usize) -> Value {
        json!({
            "vocabulary": self.vocabulary, "width": self.width, "length": self.length,
            "layers": LAYERS, "heads": HEADS, "batch": self.batch, "steps": self.steps,
            "init_std": INIT_STD, "learning_rate": LEARNING_RATE, "warmup": WARMUP,
            "final_rate": FINAL_RATE, "beta1": BETA1, "beta2": BETA2, "epsilon": EPSILON,
            "weight_decay": WEIGHT_DECAY, "clip": CLIP, "tokens": tokens, "threads": threads,
        })
    }
}

/// Compiles a program and answers where its binary is.
pub(super) fn build(compiler: &Compiler, program: &Program) -> Result<PathBuf> {
    let built = compiler.build(program).map_err(|error| match error.into_findings() {
        Ok((_, findings)) => {
            let why: Vec<_> = findings.into_iter().map(|finding| finding.message).collect();
            anyhow!(
                "the program does not compile against the installed harness\n{}",
                why.join("\n")
            )
        }
        Err(error) => error.into(),
    });
    Ok(built.context("cannot build the program that is measured")?.binary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_written_into_the_reference() {
        for setting in SETTINGS {
            let program = setting.program().unwrap();
            let text = &program.files["main.rs"];
            assert!(text.contains(&format!("const WIDTH: usize = {};", setting.width)));
            assert!(text.contains("const INIT_STD: f64 = 0.02;"));
            assert_eq!(text.contains("head_loss("), setting.vocabulary > STORED_LOGITS);
            assert_eq!(text.contains("cross_entropy("), setting.vocabulary <= STORED_LOGITS);
        }
    }

    #[test]
    fn the_script_knows_every_setting_that_is_sent() {
        let script = include_str!("gpt2.py");
        let arguments = SETTINGS[0].script_arguments(Path::new("tokens"), 1);
        for name in arguments.as_object().unwrap().keys() {
            assert!(script.contains(&format!("s[\"{name}\"]")), "{name}");
        }
    }
}
