//! Runs one target for a while: starts children, notices how they end, and keeps what ended them.

use crate::{child, minimise, targets::Target};
use anyhow::{Context, Result};
use forerunner_core::Seed;
use forerunner_sandbox::{Child, Finished, Limits, Outcome, Policy, Profile, system_libraries};
use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A target that found so many different crashes is given up for now.
const MAX_CRASHES: usize = 3;

/// So many ends in all, most of them repetitions, mean the same.
const MAX_ENDS: u64 = 20;

/// CPU time after which an input is taken for endless.
pub(crate) const INPUT_CPU: Duration = Duration::from_secs(5);

/// The same in wall time, for one that waits for ever; generous, for busy machines.
pub(crate) const INPUT_WALL: Duration = Duration::from_secs(60);

/// How often a silent child's clock is looked at.
const TICK: Duration = Duration::from_millis(100);

/// What to do with one target.
pub(crate) struct Plan<'a> {
    pub(crate) target: &'static Target,
    pub(crate) seconds: f64,
    pub(crate) seed: u64,
    /// Where crashing inputs go.
    pub(crate) out: &'a Path,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) inputs: u64,
    pub(crate) answers: u64,
    pub(crate) seconds: f64,
    pub(crate) crashes: Vec<Crash>,
}

/// An input that ended a child.
pub(crate) struct Crash {
    pub(crate) message: String,
    pub(crate) path: PathBuf,
    pub(crate) bytes: usize,
}

impl Plan<'_> {
    /// Runs until the time is up or enough has been found.
    pub(crate) fn run(&self) -> Result<Found> {
        let (mut found, mut seen) = (Found::default(), Vec::new());
        let begin = Instant::now();
        let end = begin + Duration::from_secs_f64(self.seconds.max(0.0));
        for round in 0..MAX_ENDS {
            let Some((input, message)) = self.one_child(round, end, &mut found)? else { break };
            let kind = kind(&message);
            if !seen.contains(&kind) {
                seen.push(kind);
                found.crashes.push(self.keep(&input, message)?);
            }
            if found.crashes.len() >= MAX_CRASHES || Instant::now() >= end {
                break;
            }
        }
        found.seconds = begin.elapsed().as_secs_f64();
        Ok(found)
    }

    /// Runs one child until `end` or until it ends by itself, which returns why and with what.
    fn one_child(
        &self,
        round: u64,
        end: Instant,
        found: &mut Found,
    ) -> Result<Option<(Vec<u8>, String)>> {
        let seed = Seed(self.seed).derive(self.target.name, round).0;
        let place = Place::new()?;
        let mut child = place.start(self.target, Job::Endless(seed))?;
        let progress = follow(&mut child)?;
        let (mut last, mut quiet) = ((0, 0), Quiet::new(&child));
        let corpus = (self.target.corpus)().len() as u64;
        let verdict = loop {
            match progress.recv_timeout(TICK) {
                Ok(now) => {
                    (last, quiet) = (now, Quiet::new(&child));
                    self.show(found.inputs + last.0, found.crashes.len());
                }
                Err(RecvTimeoutError::Disconnected) => break child.wait().map(ended)?,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(message) = quiet.too_long(&child) {
                        child.kill()?;
                        break Some(message);
                    }
                }
            }
            // A corpus is always run to its end, or a short smoke test would see nothing of it.
            if Instant::now() >= end && last.0 >= corpus {
                child.kill()?;
                break None;
            }
        };
        found.inputs += last.0;
        found.answers = found.answers.max(last.1);
        let Some(message) = verdict else { return Ok(None) };
        let record = fs::read(place.path().join(child::CURRENT));
        let input = record.ok().and_then(|record| child::noted(&record));
        let input = input.with_context(|| {
            format!("the child of `{}` ended before its first input: {message}", self.target.name)
        })?;
        Ok(Some((input, message)))
    }

    /// Shortens an input and writes it down.
    fn keep(&self, input: &[u8], message: String) -> Result<Crash> {
        let shorter = minimise::minimise(self.target, input, &kind(&message))?;
        let name = format!("{}-{:016x}.bin", self.target.name.replace('/', "-"), hash(&shorter));
        fs::create_dir_all(self.out).context("cannot make the folder for crashing inputs")?;
        let path = self.out.join(name);
        fs::write(&path, &shorter).context("cannot write a crashing input")?;
        Ok(Crash { message, path, bytes: shorter.len() })
    }

    fn show(&self, n_inputs: u64, n_crashes: usize) {
        let name = self.target.name;
        crate::show_progress(format_args!("{name}: {n_inputs} inputs, {n_crashes} crashes"));
    }
}

/// What a child is to do.
pub(crate) enum Job {
    /// Run the file [`child::SINGLE`] of its work directory.
    Single,
    /// Run the corpus.
    Corpus,
    /// Run inputs that follow from a seed until it is killed.
    Endless(u64),
}

/// A work directory for one child.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir().context("cannot make a work directory")?))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Starts a child for one job.
    pub(crate) fn start(&self, target: &Target, job: Job) -> Result<Child> {
        let ends = !matches!(job, Job::Endless(_));
        let binary = std::env::current_exe().context("cannot find this program's file")?;
        let mut policy = Policy::new(Profile::Program, self.path());
        policy.work_dir_writable = true;
        policy.unsafe_no_sandbox = !target.confined;
        policy.read_only = system_libraries();
        policy.limits = Limits {
            memory_bytes: target.memory_bytes,
            cpu_seconds: if ends { INPUT_CPU.as_secs() } else { 1_000_000 },
            wall: if ends { INPUT_WALL } else { Duration::from_secs(1_000_000) },
            output_bytes: 16 << 10,
            ..Limits::default()
        };
        let mut argv: Vec<OsString> =
            vec![binary.into(), child::ARGUMENT.into(), target.name.into()];
        match job {
            Job::Single => {}
            Job::Corpus => argv.push(child::CORPUS.into()),
            Job::Endless(seed) => argv.push(seed.to_string().into()),
        }
        Ok(forerunner_sandbox::spawn(&policy, &argv)?)
    }
}

/// How far the child says it is; ends with its output.
fn follow(child: &mut Child) -> Result<Receiver<(u64, u64)>> {
    let stdout = child.take_stdout().context("a new child has its output")?;
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let numbers = line
                .split_once(' ')
                .and_then(|(inputs, answers)| Some((inputs.parse().ok()?, answers.parse().ok()?)));
            if numbers.is_some_and(|numbers| sender.send(numbers).is_err()) {
                break;
            }
        }
    });
    Ok(receiver)
}

/// Since when a child has said nothing.
struct Quiet {
    since: Instant,
    cpu: Duration,
}

impl Quiet {
    fn new(child: &Child) -> Self {
        Self { since: Instant::now(), cpu: child.cpu_time().unwrap_or_default() }
    }

    fn too_long(&self, child: &Child) -> Option<String> {
        let cpu = child.cpu_time().unwrap_or(self.cpu).saturating_sub(self.cpu);
        if cpu > INPUT_CPU {
            return Some(format!("an input took more than {} CPU seconds", INPUT_CPU.as_secs()));
        }
        (self.since.elapsed() > INPUT_WALL)
            .then(|| format!("an input took more than {} seconds", INPUT_WALL.as_secs()))
    }
}

/// Why a child ended, unless it was done.
pub(crate) fn ended(finished: Finished) -> Option<String> {
    let said = String::from_utf8_lossy(&finished.stderr);
    let panic = said.lines().skip_while(|line| !line.contains("panicked at")).take(2);
    let panic: Vec<&str> = panic.map(str::trim).collect();
    match finished.outcome {
        Outcome::Exited(0) => None,
        _ if said.contains("has overflowed its stack") => Some("the stack overflowed".to_owned()),
        Outcome::OutOfMemory => Some("it used too much memory".to_owned()),
        Outcome::OutOfCpu => {
            Some(format!("an input took more than {} CPU seconds", INPUT_CPU.as_secs()))
        }
        Outcome::TimedOut => {
            Some(format!("an input took more than {} seconds", INPUT_WALL.as_secs()))
        }
        _ if !panic.is_empty() => {
            // The number of the thread is not part of what happened.
            let place = panic[0].split_once("panicked at ").map_or(panic[0], |(_, place)| place);
            Some(format!("panic at {place} {}", panic.get(1).unwrap_or(&"")))
        }
        outcome => Some(format!("it {outcome}")),
    }
}

/// Messages that differ in numbers alone are about the same.
fn kind(message: &str) -> String {
    message.chars().filter(|letter| !letter.is_ascii_digit()).collect()
}

/// Same kind of end.
pub(crate) fn same_kind(message: &str, kind_of_other: &str) -> bool {
    kind(message) == kind_of_other
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    std::hash::Hasher::write(&mut hasher, bytes);
    std::hash::Hasher::finish(&hasher)
}
