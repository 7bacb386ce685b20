//! `cargo xtask torture`: kills searches at random instants and makes sure that nothing is lost.
//!
//! A host is killed with SIGKILL between 5 ms and 600 ms after its start and then resumed, again
//! and again, until its search is over; then the next search begins, in the other mode. In some
//! rounds workers are killed as well. After every kill a *copy* of the store is opened, so that
//! the host itself has to recover what it left behind.
//!
//! What counts as completed: the host emits an event just before it commits the transaction that
//! records it, so a killed host may have announced one evaluation that is not in the store. That
//! one is allowed, as long as it is the last; whatever the store held after a kill must be in it
//! for ever after.

mod ledger;
mod store_copy;

use crate::{
    console::{plural, print, say},
    processes,
    table::Table,
    trial::{Host, MARKER, Plan, Seen, Trial, Waited},
    workspace,
};
use anyhow::Result;
use clap::Args;
use forerunner_core::Seed;
use ledger::{Ledger, Phase};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

/// How long a worker may outlive its host.
const GRACE: Duration = Duration::from_secs(3);

/// A host that does nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Share of the rounds in which workers are killed too.
const WORKER_ROUNDS: f64 = 0.3;

/// A worker is killed after so many events of a host, when all of its workers are at work.
const SETTLED: usize = 20;

/// Kill searches at random instants and make sure that nothing is lost.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask install --prefix target/forerunner && cargo xtask torture --kills 100
  cargo xtask torture --kills 20 --seed 7")]
pub(crate) struct Torture {
    /// How often to kill a host.
    #[arg(long, default_value_t = 100, value_name = "N")]
    kills: u64,
    /// Decides every instant.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The installation to use (default: target/forerunner).
    #[arg(long, value_name = "DIR")]
    prefix: Option<PathBuf>,
    /// The latest instant of a kill, in milliseconds after the start.
    #[arg(long, default_value_t = 600, value_name = "MS")]
    latest: u64,
    /// Keep the runs' folders and say where they are.
    #[arg(long)]
    keep: bool,
}

/// What happened, in all.
#[derive(Default)]
struct Tally {
    host_kills: u64,
    worker_kills: u64,
    phases: BTreeMap<Phase, u64>,
    searches: BTreeMap<&'static str, u64>,
    evaluations: u64,
    lost_to_workers: u64,
    /// Announced, but not committed when the host was killed.
    in_commit: u64,
    slowest_end: Duration,
    violations: Vec<String>,
}

impl Torture {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let prefix = match &self.prefix {
            Some(prefix) => std::path::absolute(prefix)?,
            None => workspace::prefix(),
        };
        let folder = tempfile::Builder::new().prefix("forerunner-torture-").tempdir()?;
        let mut tally = Tally::default();
        let mut search = 0;
        while tally.host_kills < self.kills {
            let mode = if search % 2 == 0 { "steady" } else { "generations" };
            let seed = Seed(self.seed).derive("search", search).0;
            let plan = Plan {
                seed: seed >> 1,
                mode,
                slots: 2,
                evaluations: 400,
                finalists: 2,
                evaluate_seconds: 0.004,
                ..Plan::default()
            };
            let name = format!("{mode}-{search:03}");
            let trial = Trial::new(&prefix, folder.path(), &name, &plan)?;
            say(format_args!("{name}: {} of {} kills so far", tally.host_kills, self.kills));
            self.search(&trial, &plan, &mut tally)?;
            *tally.searches.entry(mode).or_default() += 1;
            search += 1;
        }
        if self.keep || !tally.violations.is_empty() {
            say(format_args!("the runs are kept in {}", folder.keep().display()));
        }
        report(&tally)
    }

    /// One search: killed and resumed until it is over, or until the kills are used up and one
    /// last resumption takes it to its end.
    fn search(&self, trial: &Trial, plan: &Plan, tally: &mut Tally) -> Result<()> {
        let mut ledger = Ledger::new(plan);
        loop {
            let last = tally.host_kills >= self.kills;
            let seed = Seed(self.seed).derive("kill", tally.host_kills);
            let delay = if last { PATIENCE } else { self.delay(seed) };
            let worker_round = seed.derive("worker", 0).unit() < WORKER_ROUNDS;

            let host = trial.start(ledger.has_store())?;
            let deadline = host.started + delay;
            let mut round = Round { trial, seed, seen: Vec::new(), killed: 0 };
            let ended = round.watch(&host, deadline, worker_round)?;
            tally.worker_kills += round.killed;
            ledger.killed_workers(round.killed);
            if ended {
                let (status, rest) = host.wait()?;
                round.seen.extend(rest);
                if !status.success() {
                    let words = trial.last_words();
                    tally.violations.push(format!(
                        "{}: the host ended with {status} although nobody killed it\n{words}",
                        trial.marker
                    ));
                }
                self.settle(trial, tally);
                let found = ledger.audit(&trial.folder, &round.announced(), true);
                tally.take(trial, found);
                tally.evaluations += ledger.n_evaluations();
                tally.lost_to_workers += ledger.n_lost_to_workers();
                return Ok(());
            }
            round.seen.extend(host.kill()?);
            if last {
                tally.violations.push(format!("{}: the last resumption hung", trial.marker));
                return Ok(());
            }
            tally.host_kills += 1;
            self.settle(trial, tally);
            let found = ledger.audit(&trial.folder, &round.announced(), false);
            *tally.phases.entry(ledger.phase()).or_default() += 1;
            tally.take(trial, found);
        }
    }

    /// When to kill a host, counted from its start. Uniform up to the latest instant, but every
    /// fourth time within the first 60 ms, where it starts its workers and recovers the store.
    fn delay(&self, seed: Seed) -> Duration {
        let early = seed.derive("early", 0).unit() < 0.25;
        let latest = if early { self.latest.min(60) } else { self.latest };
        let span = latest.saturating_sub(5) as f64;
        Duration::from_secs_f64((5.0 + span * seed.unit()) / 1e3)
    }

    /// Waits until nothing of the host is left.
    fn settle(&self, trial: &Trial, tally: &mut Tally) {
        let started = Instant::now();
        loop {
            let left = processes::marked(MARKER, &trial.marker);
            if left.is_empty() {
                break;
            }
            if started.elapsed() > GRACE {
                for process in left {
                    tally.violations.push(format!(
                        "{}: process {} outlived its host by {} s: {}",
                        trial.marker,
                        process.pid,
                        GRACE.as_secs(),
                        process.command
                    ));
                    processes::kill(process.pid);
                }
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        tally.slowest_end = tally.slowest_end.max(started.elapsed());
    }
}

impl Tally {
    fn take(&mut self, trial: &Trial, audit: ledger::Audit) {
        self.in_commit += audit.in_commit;
        let violations = audit.violations.into_iter();
        self.violations.extend(violations.map(|text| format!("{}: {text}", trial.marker)));
    }
}

/// The time from a host's start to its end.
struct Round<'a> {
    trial: &'a Trial,
    seed: Seed,
    seen: Vec<Seen>,
    /// Workers that were killed.
    killed: u64,
}

impl Round<'_> {
    /// Watches the host until `deadline`, killing workers on the way when asked to. Says whether
    /// the host ended by itself.
    fn watch(&mut self, host: &Host, deadline: Instant, kill_workers: bool) -> Result<bool> {
        let mut next_kill = SETTLED;
        loop {
            match host.next(deadline) {
                Waited::Event(seen) => self.seen.push(seen),
                Waited::Late => return Ok(false),
                Waited::End => return Ok(true),
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            let n_evaluated = self.announced().len();
            if kill_workers && n_evaluated >= next_kill {
                self.kill_worker(host);
                // Far enough apart for the next worker to be at work.
                next_kill = n_evaluated + 2 * SETTLED;
            }
        }
    }

    fn kill_worker(&mut self, host: &Host) {
        let workers: Vec<_> = processes::marked(MARKER, &self.trial.marker)
            .into_iter()
            .filter(|process| process.parent == host.pid())
            .collect();
        let unit = self.seed.derive("which", self.killed).unit();
        let chosen = (unit * workers.len() as f64) as usize;
        if let Some(worker) = workers.get(chosen) {
            processes::kill(worker.pid);
            self.killed += 1;
        }
    }

    /// Iterations that were announced as complete, in order.
    fn announced(&self) -> Vec<u64> {
        self.seen.iter().filter_map(|seen| seen.event.evaluated()).collect()
    }
}

fn report(tally: &Tally) -> Result<ExitCode> {
    let mut table = Table::new(["torture", "count"]);
    let mut row = |name: String, count: u64| table.row([name, count.to_string()]);
    row("hosts killed".to_owned(), tally.host_kills);
    for (phase, count) in &tally.phases {
        row(format!("  {phase}"), *count);
    }
    row("workers killed".to_owned(), tally.worker_kills);
    row("  evaluations that this cost".to_owned(), tally.lost_to_workers);
    for (mode, count) in &tally.searches {
        row(format!("searches finished, {mode}"), *count);
    }
    row("evaluations in their stores".to_owned(), tally.evaluations);
    row("announced but not yet committed when killed".to_owned(), tally.in_commit);
    let slowest = u64::try_from(tally.slowest_end.as_millis()).unwrap_or(u64::MAX);
    row("slowest end of a worker after its host, ms".to_owned(), slowest);
    row("violations".to_owned(), tally.violations.len() as u64);
    print(table)?;
    for violation in &tally.violations {
        print(format_args!("violation: {violation}"))?;
    }
    if tally.violations.is_empty() {
        print("nothing was lost, nothing was there twice, every store was intact, no orphans")?;
        return Ok(ExitCode::SUCCESS);
    }
    say(format_args!("error: {}", plural(tally.violations.len(), "violation")));
    Ok(ExitCode::FAILURE)
}
