//! `cargo xtask bench slot`: how busy one measuring slot is with slow proposals.

use super::{Common, Goal, Machine};
use crate::{
    console::{print, say},
    table::Table,
    trial::{self, Plan, Trial},
};
use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use std::time::{Duration, Instant};

/// How busy one measuring slot is with slow proposals.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench slot
  cargo xtask bench slot --evaluations 20 --json")]
pub(crate) struct Slot {
    #[command(flatten)]
    common: Common,
    /// How many programs to measure; each takes a second.
    #[arg(long, default_value_t = 40, value_name = "N")]
    evaluations: u64,
}

const PROPOSE_SECONDS: f64 = 2.0;
const EVALUATE_SECONDS: f64 = 1.0;

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    evaluations: u64,
    propose_seconds: f64,
    evaluate_seconds: f64,
    /// Share of the time that the slot was busy, after warm-up, as the host counted it.
    slot_use: f64,
    /// The same, counted from outside: from the first result to the last.
    slot_use_outside: f64,
    wall_seconds: f64,
    /// What proposing and measuring in turn would come to.
    serial_slot_use: f64,
    serial_wall_seconds: f64,
    goals: Vec<Goal>,
}

impl Slot {
    pub(super) fn run(&self) -> Result<()> {
        let folder = tempfile::Builder::new().prefix("forerunner-bench-").tempdir()?;
        let plan = Plan {
            evaluations: self.evaluations,
            propose_seconds: PROPOSE_SECONDS,
            evaluate_seconds: EVALUATE_SECONDS,
            ..Plan::default()
        };
        let trial = Trial::new(&self.common.prefix()?, folder.path(), "slot", &plan)?;
        say(format_args!("measuring {} programs, a second each", self.evaluations));
        let started = Instant::now();
        let (mut results, mut slot_use) = (Vec::new(), None);
        trial::run(&trial, false, Duration::from_secs(60), |_, seen| {
            if seen.event.evaluated().is_some() {
                results.push(seen.at);
            }
            if seen.event.event == "run_finished" {
                slot_use = Some(seen.event.slot_use);
            }
            Ok(())
        })?;
        let report = report(
            self.evaluations,
            slot_use.context("the search came to no end")?,
            &results,
            started.elapsed().as_secs_f64(),
        );
        if self.common.json {
            return Ok(print(serde_json::to_string(&report)?)?);
        }
        Ok(print(report)?)
    }
}

fn report(evaluations: u64, slot_use: f64, results: &[Instant], wall_seconds: f64) -> Report {
    let outside = match results {
        // Warm-up ends with the first result: between two results lies one measurement.
        [first, .., last] => {
            let measured = (results.len() - 1) as f64 * EVALUATE_SECONDS;
            measured / (*last - *first).as_secs_f64()
        }
        _ => 0.0,
    };
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let goals = vec![
        Goal {
            goal: "busy at least 95 % of the time after warm-up",
            measured: percent(slot_use),
            met: slot_use >= 0.95,
        },
        Goal {
            goal: "the same, counted from outside",
            measured: percent(outside),
            met: outside >= 0.95,
        },
        Goal {
            // More than one measurement a second on one slot would be an overlap.
            goal: "no two measurements overlap",
            measured: percent(outside),
            met: outside <= 1.02,
        },
    ];
    Report {
        machine: Machine::now(),
        evaluations,
        propose_seconds: PROPOSE_SECONDS,
        evaluate_seconds: EVALUATE_SECONDS,
        slot_use,
        slot_use_outside: outside,
        wall_seconds,
        serial_slot_use: EVALUATE_SECONDS / (PROPOSE_SECONDS + EVALUATE_SECONDS),
        serial_wall_seconds: evaluations as f64 * (PROPOSE_SECONDS + EVALUATE_SECONDS),
        goals,
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let seconds = |seconds: f64| format!("{seconds:.1} s");
        let mut table = Table::new(["schedule", "slot busy", "wall time"]);
        table.row([
            "one after the other (computed)".to_owned(),
            percent(self.serial_slot_use),
            seconds(self.serial_wall_seconds),
        ]);
        table.row([
            "proposals ahead (measured)".to_owned(),
            percent(self.slot_use),
            seconds(self.wall_seconds),
        ]);
        let mut goals = Table::new(["goal", "measured", ""]);
        for goal in &self.goals {
            goals.row(goal.row());
        }
        let Self { machine, evaluations, propose_seconds, evaluate_seconds, .. } = self;
        write!(
            f,
            "{evaluations} programs, proposals {propose_seconds} s, evaluations \
             {evaluate_seconds} s, one slot; {machine}\n\n{table}\n{goals}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_from_outside_sees_gaps_and_overlaps() {
        let check = |millis: &[u64], expected: [bool; 3]| {
            let start = Instant::now();
            let results: Vec<_> =
                millis.iter().map(|millis| start + Duration::from_millis(*millis)).collect();
            let report = report(results.len() as u64, 0.99, &results, 9.0);
            let met: Vec<_> = report.goals.iter().map(|goal| goal.met).collect();
            assert_eq!(met, expected);
        };
        check(&[0, 1_000, 2_010], [true, true, true]);
        check(&[0, 3_000, 6_000], [true, false, true]);
        check(&[0, 500, 1_000], [true, true, false]);
    }
}
