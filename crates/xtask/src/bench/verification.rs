//! `cargo xtask bench verification`: what verifying adds to an evaluation of the track `cpu`.

use super::{Common, Goal, Machine};
use crate::{
    console::{print, say},
    table::Table,
};
use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

/// Share of an evaluation's CPU time that probes and hooks may add.
const MOST_SHARE: f64 = 0.10;
/// Milliseconds that a hook may take.
const MOST_HOOK_MS: f64 = 1.0;

/// Evaluate a program and say what verification cost of it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask install --prefix target/forerunner
  cargo xtask bench verification
  cargo xtask bench verification my_gpt.rs --seeds 5")]
pub(super) struct Verification {
    /// A program [default: the reference].
    program: Option<PathBuf>,
    /// Evaluations, each with another seed.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    #[command(flatten)]
    common: Common,
}

/// What `forerunner evaluate --json` prints, as far as it matters here.
#[derive(Deserialize)]
struct Report {
    verdict: String,
    telemetry: Telemetry,
    evidence: Evidence,
}

#[derive(Deserialize)]
struct Telemetry {
    numbers: BTreeMap<String, f64>,
    facts: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Evidence {
    probes: Vec<forerunner_core::Probe>,
}

/// CPU seconds of one evaluation.
#[derive(Debug, Serialize)]
struct Costs {
    training: f64,
    scoring: f64,
    probes: f64,
    hooks: f64,
    n_hooks: usize,
    /// Of what training and scoring take.
    share: f64,
    audited_positions: u64,
    residual_for_one_deviation: f64,
}

impl Costs {
    fn of(report: &Report) -> Result<Self> {
        ensure!(report.verdict == "accepted", "the program is {}", report.verdict);
        let number = |name: &str| {
            let value = report.telemetry.numbers.get(name).copied();
            value.with_context(|| format!("the evaluation has no `{name}`"))
        };
        let audit = report.evidence.probes.iter().find(|probe| probe.name == "blind-audit");
        let audit = audit.context("the evaluation was not audited")?;
        let (training, scoring) = (number("cpu_seconds")?, number("scoring_cpu_seconds")?);
        let (probes, hooks) = (number("verification_cpu_seconds")?, number("hook_seconds")?);
        Ok(Self {
            training,
            scoring,
            probes,
            hooks,
            n_hooks: report.telemetry.facts.keys().filter(|fact| fact.starts_with("hook.")).count(),
            share: (probes + hooks) / (training + scoring),
            audited_positions: audit.trials,
            residual_for_one_deviation: audit.numbers["residual_for_one_deviation"],
        })
    }

    fn hook_ms(&self) -> f64 {
        1e3 * self.hooks / self.n_hooks.max(1) as f64
    }
}

#[derive(Debug, Serialize)]
struct Outcome {
    machine: Machine,
    evaluations: Vec<Costs>,
    goals: Vec<Goal>,
}

impl Verification {
    pub(super) fn run(&self) -> Result<()> {
        let binary = self.common.prefix()?.join("bin/forerunner");
        let evaluations: Vec<Costs> = (1..=self.seeds)
            .map(|seed| {
                say(format!("seed {seed} of {}", self.seeds));
                Costs::of(&self.evaluate(&binary, seed)?)
            })
            .collect::<Result<_>>()?;
        let median = |of: &dyn Fn(&Costs) -> f64| {
            let mut values: Vec<f64> = evaluations.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let share = median(&|costs| costs.share);
        let hook = median(&Costs::hook_ms);
        let goals = vec![
            Goal {
                goal: "probes and hooks add at most 10 %",
                measured: format!("{:.1} %", 100.0 * share),
                met: share <= MOST_SHARE,
            },
            Goal {
                goal: "a hook takes at most 1 ms",
                measured: format!("{hook:.2} ms"),
                met: hook <= MOST_HOOK_MS,
            },
        ];
        let result = Outcome { machine: Machine::now(), evaluations, goals };
        if self.common.json {
            print(serde_json::to_string_pretty(&result)?)?;
        } else {
            print(result.table())?;
        }
        Ok(())
    }

    fn evaluate(&self, binary: &Path, seed: u64) -> Result<Report> {
        let program = self.program.clone().unwrap_or_else(|| "reference".into());
        let output = Command::new(binary)
            .arg("evaluate")
            .arg(program)
            .args(["--environment", "nanogpt", "--track", "cpu", "--json", "--seed"])
            .arg(seed.to_string())
            .output()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        serde_json::from_slice(&output.stdout).with_context(|| {
            let said = String::from_utf8_lossy(&output.stderr);
            format!(
                "`forerunner evaluate` prints no report ({}):\n{}",
                output.status,
                said.trim_end()
            )
        })
    }
}

impl Outcome {
    fn table(&self) -> String {
        let mut table = Table::new([
            "CPU seconds",
            "training",
            "scoring",
            "probes",
            "hooks",
            "share",
            "audited",
            "residual",
        ]);
        for (index, costs) in self.evaluations.iter().enumerate() {
            table.row([
                format!("seed {}", index + 1),
                format!("{:.2}", costs.training),
                format!("{:.2}", costs.scoring),
                format!("{:.2}", costs.probes),
                format!("{:.4}", costs.hooks),
                format!("{:.1} %", 100.0 * costs.share),
                costs.audited_positions.to_string(),
                format!("{:.2}", costs.residual_for_one_deviation),
            ]);
        }
        let mut goals = Table::new(["goal", "measured", ""]);
        self.goals.iter().for_each(|goal| goals.row(goal.row()));
        format!(
            "{table}\nshare: of training and scoring; residual: highest probability that a forgery of \
             one seed deviation is missed\n{}\n\n{goals}",
            self.machine
        )
    }
}
