//! `cargo xtask bench models`: what asking models costs the framework, and how many are asked at once.
//!
//! A local server that speaks a provider's wire format answers from a script, so that what remains is
//! ours: prompts, calls, replies, the store. Its CPU time is not counted.

use super::{Common, Goal, Machine, meter};
use crate::{
    console::{print, say},
    table::Table,
    trial::{self, Plan, Trial},
};
use anyhow::{Context, Result, bail};
use clap::Args;
use forerunner_scripted_model::{Asked, Reply, Server};
use serde::Serialize;
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// CPU time and prompt bytes per iteration with models, and calls at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench models
  cargo xtask bench models --max-programs 1000 --json

The environment is `trivial`, the mutator `llm` with its usual settings: 20 iterations of one call each,
then an idea and its implementation, two calls. CPU time is that of the host and its workers, without the
server's. With a latency of 2 s and 8 slots, 8 proposals are made at once; the last column compares with
what the latency allows.")]
pub(crate) struct Models {
    #[command(flatten)]
    common: Common,
    /// Leave out larger marks.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    max_programs: u64,
}

/// Stored programs at which the cost is looked at.
const MARKS: [u64; 3] = [200, 1_000, 10_000];
/// Iterations before a mark over which the cost is averaged.
const WINDOW: u64 = 100;
/// Seconds that the server waits, and how many are asked at once.
const LATENCY: f64 = 2.0;
const SLOTS: usize = 8;
/// Rounds of [`SLOTS`] proposals with that latency, the first of which is not counted.
const ROUNDS: u64 = 13;

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    rows: Vec<Row>,
    throughput: Throughput,
    goals: Vec<Goal>,
}

#[derive(Debug, Clone, Serialize)]
struct Row {
    programs: u64,
    cpu_ms_per_iteration: f64,
    wall_ms_per_iteration: f64,
    calls_per_iteration: f64,
    prompt_bytes_per_iteration: f64,
    peak_mib: f64,
    output_bytes_per_iteration: f64,
}

#[derive(Debug, Serialize)]
struct Throughput {
    latency_s: f64,
    slots: usize,
    iterations_per_s: f64,
    /// Slots over latency.
    possible_per_s: f64,
}

impl Models {
    pub(super) fn run(&self) -> Result<()> {
        let prefix = self.common.prefix()?;
        let folder = tempfile::Builder::new().prefix("forerunner-bench-").tempdir()?;
        let marks: Vec<u64> = MARKS.into_iter().filter(|mark| *mark <= self.max_programs).collect();
        let rows = cost(&prefix, folder.path(), &marks)?;
        let throughput = throughput(&prefix, folder.path())?;
        let goals = goals(&rows, &throughput);
        let report = Report { machine: Machine::now(), rows, throughput, goals };
        if self.common.json {
            return Ok(print(serde_json::to_string(&report)?)?);
        }
        Ok(print(report)?)
    }
}

/// A model that has an idea whenever it is asked, and makes the program's number smaller.
struct Script {
    asked: AtomicU64,
    prompt_bytes: AtomicU64,
    latency: Duration,
}

impl Script {
    fn serve(latency: Duration) -> Result<(Arc<Self>, Server)> {
        let script = Self { asked: AtomicU64::new(0), prompt_bytes: AtomicU64::new(0), latency };
        let script = Arc::new(script);
        let server = {
            let script = Arc::clone(&script);
            Server::start(move |asked| script.reply(asked))?
        };
        server.keep_last(1);
        Ok((script, server))
    }

    fn reply(&self, asked: &Asked) -> Reply {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let user = asked.last_user();
        let bytes = (asked.system().len() + user.len()) as u64;
        self.prompt_bytes.fetch_add(bytes, Ordering::Relaxed);
        let text = match (user.contains("Answer with an IDEA"), user.contains("BLOCKS")) {
            (true, false) => idea(number),
            (true, true) => format!("{}\n\n{}", idea(number), blocks(&user, number)),
            _ => blocks(&user, number),
        };
        Reply::text(text).after(self.latency)
    }

    /// Calls and bytes of prompts so far.
    fn seen(&self) -> (u64, u64) {
        (self.asked.load(Ordering::Relaxed), self.prompt_bytes.load(Ordering::Relaxed))
    }
}

/// Words that ideas are made of: as few as real ideas share, so that each is in many of them.
const WORDS: u64 = 400;

/// An idea in words that other ideas have as well, but hardly two of them together.
fn idea(number: u64) -> String {
    let drawn = |index| mixed(number * 12 + index) % WORDS;
    let words: Vec<String> = (0..12).map(|index| word(drawn(index))).collect();
    let (summary, mechanism) = (words[..6].join(" "), words[6..].join(" "));
    format!(
        "{{\"summary\": \"{summary}\", \"mechanism\": \"{mechanism}\", \"why_here\": \"the number \
         is too large\", \"expected_gain\": [0.3, 0.6], \"refutation\": \"it grows\"}}"
    )
}

/// A number in which every bit depends on every bit of the given one.
fn mixed(number: u64) -> u64 {
    let mut x = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A word of six letters, the last of which makes no plural; another one for every number below
/// [`WORDS`].
fn word(number: u64) -> String {
    let mixed = mixed(number);
    let letter = |index: u32| char::from(b'a' + ((mixed >> (8 * index)) % 18) as u8);
    (0..6).map(letter).collect()
}

/// Makes the number of the first program in the prompt, which is the parent, smaller: each time by
/// another factor, because a change that was there before is not made again.
fn blocks(user: &str, number: u64) -> String {
    let line = user.lines().find(|line| line.starts_with("value = ")).unwrap_or("value = 1.0");
    let value: f64 = line.trim_start_matches("value = ").trim().parse().unwrap_or(1.0);
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let factor = 0.5 + 0.4 * mixed as f64 / f64::from(u32::MAX);
    // Away from zero again, so that every program of a long run is a new one.
    let next = if value.abs() < 1e-300 { 1.0 + factor } else { value * factor };
    format!("program.txt\n<<<<<<< SEARCH\n{line}\n=======\nvalue = {next:?}\n>>>>>>> REPLACE\n")
}

fn mutator(server: &Server) -> String {
    let url = server.base_url();
    format!(
        "[[mutator]]\nname = \"llm\"\nparallel = true\n\
         [[mutator.config.models]]\nname = \"scripted\"\nprovider = \"openai\"\n\
         model = \"scripted\"\nbase_url = \"{url}\"\nconcurrency = {SLOTS}\n\
         price = {{ input = 0.0, output = 0.0 }}\n"
    )
}

fn cost(prefix: &Path, folder: &Path, marks: &[u64]) -> Result<Vec<Row>> {
    let Some(last) = marks.last() else { return Ok(Vec::new()) };
    say(format_args!("measuring {last} programs, proposed by a scripted model"));
    let (script, server) = Script::serve(Duration::ZERO)?;
    let plan = Plan { evaluations: last + 50, mutator: Some(mutator(&server)), ..Plan::default() };
    let trial = Trial::new(prefix, folder, "cost", &plan)?;
    let mut stops: BTreeSet<u64> = marks.iter().map(|mark| mark - WINDOW).collect();
    stops.extend(marks);
    let mut readings = Vec::new();
    let mut done = 0;
    trial::run(&trial, false, Duration::from_secs(60), |host, seen| {
        done += u64::from(seen.event.evaluated().is_some());
        if seen.event.evaluated().is_some() && stops.remove(&done) {
            let reading = meter::read(host.pid(), &trial.folder);
            readings.push((done, seen.at, reading, script.seen()));
        }
        Ok(())
    })?;
    let at = |wanted: u64| {
        let found = readings.iter().find(|(done, ..)| *done == wanted);
        found.with_context(|| format!("the search ended before {wanted} programs"))
    };
    let rows = marks.iter().map(|mark| {
        let (_, from, first, (calls, bytes)) = at(mark - WINDOW)?;
        let (_, to, last, (more_calls, more_bytes)) = at(*mark)?;
        let each = |sum: f64| sum / WINDOW as f64;
        Ok(Row {
            programs: *mark,
            cpu_ms_per_iteration: each(last.cpu.saturating_sub(first.cpu).as_secs_f64() * 1e3),
            wall_ms_per_iteration: each((*to - *from).as_secs_f64() * 1e3),
            calls_per_iteration: each((more_calls - calls) as f64),
            prompt_bytes_per_iteration: each((more_bytes - bytes) as f64),
            peak_mib: last.peak_memory as f64 / f64::from(1 << 20),
            output_bytes_per_iteration: last.output as f64 / *mark as f64,
        })
    });
    rows.collect()
}

fn throughput(prefix: &Path, folder: &Path) -> Result<Throughput> {
    say(format_args!("asking {SLOTS} at once, {LATENCY} s each"));
    let (_, server) = Script::serve(Duration::from_secs_f64(LATENCY))?;
    let mutator =
        format!("{}[mutator.config.schedule]\ntemplate_iterations = 1_000_000\n", mutator(&server));
    let rounds = SLOTS as u64;
    let plan = Plan {
        slots: SLOTS,
        ahead: Some(0),
        evaluations: ROUNDS * rounds,
        mutator: Some(mutator),
        ..Plan::default()
    };
    let trial = Trial::new(prefix, folder, "throughput", &plan)?;
    let mut times: Vec<Instant> = Vec::new();
    trial::run(&trial, false, Duration::from_secs(60), |_, seen| {
        if seen.event.evaluated().is_some() {
            times.push(seen.at);
        }
        Ok(())
    })?;
    // From the end of the first round, when everybody has been asked, to the end of the last.
    let (Some(from), Some(to)) = (times.get(SLOTS - 1), times.last()) else {
        bail!("the search ended after {} iterations", times.len());
    };
    let counted = (times.len() - SLOTS) as f64;
    Ok(Throughput {
        latency_s: LATENCY,
        slots: SLOTS,
        iterations_per_s: counted / (*to - *from).as_secs_f64(),
        possible_per_s: SLOTS as f64 / LATENCY,
    })
}

fn goals(rows: &[Row], throughput: &Throughput) -> Vec<Goal> {
    let cpu = || rows.iter().map(|row| row.cpu_ms_per_iteration);
    let (most, least) = (cpu().fold(0.0, f64::max), cpu().fold(f64::MAX, f64::min));
    let share = throughput.iterations_per_s / throughput.possible_per_s;
    vec![
        Goal {
            goal: "at most 2 ms of CPU time per iteration",
            measured: format!("{most:.2} ms"),
            met: most <= 2.0,
        },
        Goal {
            goal: "flat within 1.5x",
            measured: format!("{:.2}x", most / least),
            met: most / least <= 1.5,
        },
        Goal {
            goal: "throughput within 5 % of slots/latency",
            measured: format!("{:.1} %", 100.0 * share),
            met: share >= 0.95,
        },
    ]
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = Table::new([
            "stored",
            "CPU ms/iteration",
            "wall ms",
            "calls",
            "prompt bytes",
            "peak MiB",
            "output bytes",
        ]);
        for row in &self.rows {
            table.row([
                row.programs.to_string(),
                format!("{:.3}", row.cpu_ms_per_iteration),
                format!("{:.3}", row.wall_ms_per_iteration),
                format!("{:.2}", row.calls_per_iteration),
                format!("{:.0}", row.prompt_bytes_per_iteration),
                format!("{:.1}", row.peak_mib),
                format!("{:.0}", row.output_bytes_per_iteration),
            ]);
        }
        let mut goals = Table::new(["goal", "measured", ""]);
        for goal in &self.goals {
            goals.row(goal.row());
        }
        let Throughput { latency_s, slots, iterations_per_s, possible_per_s } = &self.throughput;
        write!(
            f,
            "{}\n\n{table}\nlatency {latency_s} s, {slots} slots: {iterations_per_s:.2} iterations \
             per second of {possible_per_s:.2} possible\n\n{goals}",
            self.machine
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ideas_share_words_but_hardly_two_of_them() {
        let all: BTreeSet<String> = (0..WORDS).map(word).collect();
        assert_eq!(all.len() as u64, WORDS);
        let words = |number| -> BTreeSet<String> {
            let idea: serde_json::Value = serde_json::from_str(&idea(number)).expect("JSON");
            let texts =
                ["summary", "mechanism"].map(|key| idea[key].as_str().unwrap_or("").to_owned());
            texts.iter().flat_map(|text| text.split(' ').map(str::to_owned)).collect()
        };
        let ideas: Vec<BTreeSet<String>> = (0..2_000).map(words).collect();
        let used: BTreeSet<&String> = ideas.iter().flatten().collect();
        assert_eq!(used.len() as u64, WORDS);
        // Half of the words would make them the same idea.
        for (number, idea) in ideas.iter().enumerate() {
            let most = ideas[..number].iter().map(|other| idea.intersection(other).count()).max();
            assert!(most.unwrap_or(0) <= 5, "{number}: {most:?}");
        }
    }

    #[test]
    fn the_block_finds_the_number() {
        let text = "# The program\nvalue = 0.25\n# more\nvalue = 9.0\n";
        let block = blocks(text, 0);
        assert!(block.contains("SEARCH\nvalue = 0.25\n=======\nvalue = 0.125\n"), "{block}");
        assert_ne!(block, blocks(text, 1));
    }
}
