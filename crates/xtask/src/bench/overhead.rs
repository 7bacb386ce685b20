//! `cargo xtask bench overhead`: CPU time, memory and output per iteration.
//!
//! The environment does nothing and the mutator next to nothing, so that what remains is the
//! framework: selection, pipes to two worker processes, checks, store and events. One search per
//! size of program runs through all marks; the cost at N stored programs is that of the
//! iterations just before N.

use super::{Common, Goal, Machine, meter};
use crate::{
    console::{print, say},
    table::Table,
    trial::{self, Plan, Trial, Waited},
};
use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;
use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

/// CPU time, memory and output per iteration, and the time to the first result.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench overhead
  cargo xtask bench overhead --max-programs 3000 --json
  cargo xtask bench overhead --program-bytes 1100

CPU time is that of the host and its workers. Memory is the sum of each process's own peak, which
counts shared pages several times; beside it stands the memory at that instant with shared pages
counted once. Output is the size of the run's folder.")]
pub(crate) struct Overhead {
    #[command(flatten)]
    common: Common,
    /// Leave out larger marks.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    max_programs: u64,
    /// Bytes of a program; may be given several times.
    #[arg(long, default_values_t = SIZES, value_name = "BYTES")]
    program_bytes: Vec<usize>,
}

/// Stored programs at which the cost is looked at.
const MARKS: [u64; 4] = [200, 1_000, 3_000, 100_000];

/// Sizes of programs in bytes.
const SIZES: [usize; 2] = [1_100, 45_000];

/// Starts over which the median is taken.
const STARTS: usize = 5;

/// Folder bytes per byte of program that must be free: the store, its log, and room to breathe.
const ROOM: u64 = 3;

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    start_to_first_result_ms: f64,
    rows: Vec<Row>,
    goals: Vec<Goal>,
}

#[derive(Debug, Clone, Serialize)]
struct Row {
    program_bytes: usize,
    programs: u64,
    /// Mean over the iterations just before the mark.
    cpu_ms_per_iteration: f64,
    /// Mean since the start, the start included.
    cpu_ms_since_start: f64,
    wall_ms_per_iteration: f64,
    peak_mib: f64,
    shared_once_mib: f64,
    output_mib: f64,
    output_bytes_per_iteration: f64,
}

impl Overhead {
    pub(super) fn run(&self) -> Result<()> {
        let prefix = self.common.prefix()?;
        let folder = tempfile::Builder::new().prefix("forerunner-bench-").tempdir()?;
        let start = start_to_first_result(&prefix, folder.path())?;
        let mut rows = Vec::new();
        for &program_bytes in &self.program_bytes {
            let marks = self.marks(program_bytes, folder.path());
            rows.extend(through(&prefix, folder.path(), program_bytes, &marks)?);
        }
        let goals = goals(start, &rows);
        let machine = Machine::now();
        let report = Report { machine, start_to_first_result_ms: start, rows, goals };
        if self.common.json {
            return Ok(print(serde_json::to_string(&report)?)?);
        }
        Ok(print(report)?)
    }

    /// The marks that were asked for and that the disk has room for.
    fn marks(&self, program_bytes: usize, folder: &Path) -> Vec<u64> {
        let free = nix::sys::statvfs::statvfs(folder)
            .map_or(u64::MAX, |facts| facts.blocks_available() * facts.fragment_size());
        let wanted = MARKS.into_iter().filter(|mark| *mark <= self.max_programs);
        let (fitting, left_out): (Vec<u64>, Vec<u64>) =
            wanted.partition(|mark| mark * program_bytes as u64 * ROOM < free);
        for mark in left_out {
            say(format_args!(
                "left out: {mark} programs of {program_bytes} bytes do not fit on the disk \
                 ({} MiB free in {})",
                free >> 20,
                folder.display()
            ));
        }
        fitting
    }
}

/// Median milliseconds from the start of the host to the first evaluated child.
fn start_to_first_result(prefix: &Path, folder: &Path) -> Result<f64> {
    let mut times = Vec::new();
    for index in 0..STARTS {
        let plan = Plan { evaluations: 1, ..Plan::default() };
        let trial = Trial::new(prefix, folder, &format!("start-{index}"), &plan)?;
        let host = trial.start(false)?;
        let deadline = host.started + Duration::from_secs(60);
        let first = loop {
            match host.next(deadline) {
                Waited::Event(seen) if seen.event.evaluated().is_some() => {
                    break Some(seen.at - host.started);
                }
                Waited::Event(_) => {}
                Waited::Late | Waited::End => break None,
            }
        };
        host.wait()?;
        match first {
            Some(time) => times.push(time.as_secs_f64() * 1e3),
            None => bail!("the search came to no result\n{}", trial.last_words()),
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[STARTS / 2])
}

/// How many iterations before a mark are averaged: half of them, at most 1,000.
fn window(mark: u64) -> u64 {
    (mark / 2).min(1_000)
}

/// One search through all marks.
fn through(prefix: &Path, folder: &Path, program_bytes: usize, marks: &[u64]) -> Result<Vec<Row>> {
    let Some(last) = marks.last() else { return Ok(Vec::new()) };
    say(format_args!("measuring {last} programs of {program_bytes} bytes"));
    // A few more than are looked at, so that the last mark is passed at full speed.
    let plan = Plan { program_bytes, evaluations: last + 100, ..Plan::default() };
    let trial = Trial::new(prefix, folder, &format!("size-{program_bytes}"), &plan)?;
    let mut stops: BTreeSet<u64> = marks.iter().map(|mark| mark - window(*mark)).collect();
    stops.extend(marks);
    let mut readings: Vec<(u64, Instant, meter::Reading)> = Vec::new();
    let mut done = 0;
    let before = meter::children_cpu();
    trial::run(&trial, false, Duration::from_secs(60), |host, seen| {
        done += u64::from(seen.event.evaluated().is_some());
        // Counted rather than numbered: children complete out of order.
        if seen.event.evaluated().is_some() && stops.remove(&done) {
            readings.push((done, seen.at, meter::read(host.pid(), &trial.folder)));
        }
        Ok(())
    })?;
    let all = (meter::children_cpu() - before).as_secs_f64() * 1e3 / plan.evaluations as f64;
    say(format_args!(
        "  {all:.3} ms of CPU time per iteration in all, by the processes' own account"
    ));
    let size = trial.folder.clone();
    let rows = marks.iter().map(|mark| row(program_bytes, *mark, &readings)).collect();
    // Gigabytes, with the largest marks.
    std::fs::remove_dir_all(size)?;
    rows
}

fn row(
    program_bytes: usize,
    mark: u64,
    readings: &[(u64, Instant, meter::Reading)],
) -> Result<Row> {
    let at = |wanted: u64| readings.iter().find(|(done, ..)| *done == wanted);
    let (Some((_, from, first)), Some((_, to, last))) = (at(mark - window(mark)), at(mark)) else {
        bail!("the search ended before {mark} programs");
    };
    let count = window(mark) as f64;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    Ok(Row {
        program_bytes,
        programs: mark,
        cpu_ms_per_iteration: (last.cpu.saturating_sub(first.cpu)).as_secs_f64() * 1e3 / count,
        cpu_ms_since_start: last.cpu.as_secs_f64() * 1e3 / mark as f64,
        wall_ms_per_iteration: (*to - *from).as_secs_f64() * 1e3 / count,
        peak_mib: mib(last.peak_memory),
        shared_once_mib: mib(last.memory),
        output_mib: mib(last.output),
        output_bytes_per_iteration: last.output as f64 / mark as f64,
    })
}

/// Largest over smallest.
fn spread(values: impl Iterator<Item = f64>) -> f64 {
    let (low, high) =
        values.fold((f64::MAX, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    high / low
}

/// The goals are for the small program; those that the marks say nothing about are left out.
fn goals(start: f64, rows: &[Row]) -> Vec<Goal> {
    let small: Vec<&Row> = rows.iter().filter(|row| row.program_bytes == SIZES[0]).collect();
    let cpu = || small.iter().map(|row| row.cpu_ms_per_iteration);
    let most = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
    let (dearest, flatness) = (most(&mut cpu()), spread(cpu()));
    let memory = most(&mut small.iter().map(|row| row.peak_mib));
    // Output between neighbouring marks, the first from nothing: linear means the same for each.
    let mut growth = Vec::new();
    let (mut programs, mut output) = (0.0, 0.0);
    for row in &small {
        growth.push((row.output_mib - output) / (row.programs as f64 - programs));
        (programs, output) = (row.programs as f64, row.output_mib);
    }
    // The write-ahead log has its full size of 4 MiB from early on: no part of the growth.
    let growth = spread(growth.into_iter().skip(1));
    let told = match small.len() {
        0 => 1,
        1 | 2 => 4,
        _ => 5,
    };
    let mut goals = vec![
        Goal {
            goal: "start to first result under 50 ms",
            measured: format!("{start:.0} ms"),
            met: start < 50.0,
        },
        Goal {
            goal: "at most 1 ms of CPU time per iteration",
            measured: format!("{dearest:.2} ms"),
            met: dearest <= 1.0,
        },
        Goal {
            goal: "flat within 1.5x",
            measured: format!("{flatness:.2}x"),
            met: flatness <= 1.5,
        },
        Goal { goal: "under 50 MiB", measured: format!("{memory:.0} MiB"), met: memory < 50.0 },
        Goal {
            goal: "output grows linearly (slopes within 1.5x)",
            measured: format!("{growth:.2}x"),
            met: growth <= 1.5,
        },
    ];
    goals.truncate(told);
    goals
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = Table::new([
            "program",
            "stored",
            "CPU ms/iteration",
            "since start",
            "wall ms",
            "peak MiB",
            "shared once",
            "output MiB",
            "bytes/iteration",
        ]);
        for row in &self.rows {
            table.row([
                format!("{:.1} KB", row.program_bytes as f64 / 1e3),
                row.programs.to_string(),
                format!("{:.3}", row.cpu_ms_per_iteration),
                format!("{:.3}", row.cpu_ms_since_start),
                format!("{:.3}", row.wall_ms_per_iteration),
                format!("{:.1}", row.peak_mib),
                format!("{:.1}", row.shared_once_mib),
                format!("{:.1}", row.output_mib),
                format!("{:.0}", row.output_bytes_per_iteration),
            ]);
        }
        let mut goals = Table::new(["goal (small program)", "measured", ""]);
        for goal in &self.goals {
            goals.row(goal.row());
        }
        write!(f, "{}\n\n{table}\n{goals}", self.machine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_at_a_mark_is_that_of_the_iterations_before_it() {
        let started = Instant::now();
        let reading = |done: u64, cpu_ms: u64| {
            let cpu = Duration::from_millis(cpu_ms);
            let reading = meter::Reading { cpu, output: done * 2_000, ..Default::default() };
            (done, started + Duration::from_millis(done * 2), reading)
        };
        let readings = [reading(100, 150), reading(200, 200)];
        let row = row(1_100, 200, &readings).unwrap();
        assert_eq!(row.cpu_ms_per_iteration, 0.5);
        assert_eq!(row.cpu_ms_since_start, 1.0);
        assert_eq!(row.wall_ms_per_iteration, 2.0);
        assert_eq!(row.output_bytes_per_iteration, 2_000.0);
        assert!(super::row(1_100, 1_000, &readings).is_err());
    }

    #[test]
    fn goals_are_judged_by_the_worst_mark() {
        let row = |programs: u64, cpu: f64, output: f64| Row {
            program_bytes: SIZES[0],
            programs,
            cpu_ms_per_iteration: cpu,
            cpu_ms_since_start: cpu,
            wall_ms_per_iteration: cpu,
            peak_mib: 30.0,
            shared_once_mib: 20.0,
            output_mib: output,
            output_bytes_per_iteration: 0.0,
        };
        let met =
            |rows: &[Row]| -> Vec<bool> { goals(40.0, rows).iter().map(|goal| goal.met).collect() };
        let good = [row(200, 0.5, 4.4), row(1_000, 0.6, 6.0), row(3_000, 0.7, 10.0)];
        assert_eq!(met(&good), [true; 5]);
        let bad = [row(200, 0.5, 4.4), row(1_000, 1.2, 6.0), row(3_000, 0.7, 20.0)];
        assert_eq!(met(&bad), [true, false, false, true, false]);
        assert_eq!(met(&good[..2]), [true; 4]);
        assert_eq!(met(&[]), [true]);
    }
}
