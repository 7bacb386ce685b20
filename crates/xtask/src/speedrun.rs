//! Measures programs of the speedrun by the installed binary, one on each core, and remembers what
//! it measured: for studies of a track.

use crate::{console::say, workspace};
use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use forerunner_core::{Program, ProgramId};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// What is measured, and where.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// The track.
    #[arg(long, default_value = "cpu", value_name = "TRACK")]
    pub(crate) track: String,
    /// The first seed.
    #[arg(long, default_value_t = 101, value_name = "SEED")]
    pub(crate) first_seed: u64,
    /// An installation to measure with [default: target/forerunner].
    #[arg(long, value_name = "DIR")]
    prefix: Option<PathBuf>,
    /// Where measurements are kept.
    #[arg(long, default_value = "target/speedrun.ndjson", value_name = "FILE")]
    results: PathBuf,
}

/// A program to be measured.
pub(crate) struct Candidate {
    pub(crate) name: String,
    pub(crate) program: Program,
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// By the track's clock.
    pub(crate) seconds: f64,
    /// As the operating system counts them.
    pub(crate) cpu_seconds: f64,
    pub(crate) loss: f64,
}

/// A measurement, as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    name: String,
    program: ProgramId,
    seed: u64,
    /// Name and fingerprint of track and data.
    track: String,
    seconds: Option<f64>,
    #[serde(default)]
    cpu_seconds: Option<f64>,
    loss: Option<f64>,
    /// Why there is no loss.
    trouble: String,
}

/// What is known of programs, by program and seed.
type Known = BTreeMap<(ProgramId, u64), Entry>;

/// What `forerunner evaluate --json` prints, as far as it matters here.
#[derive(Deserialize)]
struct Report {
    verdict: String,
    metrics: BTreeMap<String, f64>,
    findings: Vec<Finding>,
    telemetry: Telemetry,
}

#[derive(Deserialize)]
struct Finding {
    message: String,
}

#[derive(Deserialize)]
struct Telemetry {
    facts: BTreeMap<String, String>,
    numbers: BTreeMap<String, f64>,
}

/// Where programs are measured.
pub(crate) struct Bench {
    forerunner: PathBuf,
    track: String,
    cores: Vec<usize>,
    /// The program file lies here while it is measured.
    folder: tempfile::TempDir,
    known: Mutex<(Known, File)>,
}

impl Bench {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let prefix = options.prefix.clone().unwrap_or_else(workspace::prefix);
        let binary = prefix.join("bin/forerunner");
        let forerunner = binary.canonicalize().with_context(|| {
            let (binary, prefix) = (binary.display(), prefix.display());
            format!("no {binary}\nhint: cargo xtask install --prefix {prefix}")
        })?;
        let results = &options.results;
        let text = fs::read_to_string(results).unwrap_or_default();
        // A line that was cut by a crash is measured again.
        let entries = text.lines().filter_map(|line| serde_json::from_str::<Entry>(line).ok());
        let known = entries.map(|entry| ((entry.program.clone(), entry.seed), entry)).collect();
        let file = OpenOptions::new().append(true).create(true).open(results);
        let file = file.with_context(|| format!("cannot write {}", results.display()))?;
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core) == Ok(true)).collect();
        Ok(Self {
            forerunner,
            track: options.track.clone(),
            cores,
            folder: tempfile::tempdir()?,
            known: Mutex::new((known, file)),
        })
    }

    /// The reference program of the track.
    pub(crate) fn reference(&self) -> Result<Program> {
        let output = self.evaluate().arg("reference").arg("--print").output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(Program::single("main.rs", String::from_utf8(output.stdout)?))
    }

    /// Runs of each candidate in the order of the seeds, or why it failed.
    pub(crate) fn measure(
        &self,
        candidates: &[Candidate],
        seeds: &[u64],
    ) -> Result<Vec<Result<Vec<Run>, String>>> {
        // Seed by seed, so that what changes with the hour changes for all alike.
        let jobs = seeds.iter().flat_map(|seed| candidates.iter().map(move |c| (c, *seed)));
        let jobs: Vec<_> = jobs.filter(|(c, seed)| self.known(c, *seed).is_none()).collect();
        let total = jobs.len();
        let queue = Mutex::new(jobs.into_iter().enumerate());
        std::thread::scope(|scope| {
            let serve = |core| self.serve(core, total, &queue);
            let threads: Vec<_> =
                self.cores.iter().map(|core| scope.spawn(move || serve(*core))).collect();
            threads.into_iter().try_for_each(|t| t.join().expect("a thread that only measures"))
        })?;
        self.same_track()?;
        Ok(candidates.iter().map(|candidate| self.runs(candidate, seeds)).collect())
    }

    /// Losses on different data, or under different rules, cannot be compared.
    fn same_track(&self) -> Result<()> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tracks: Vec<&str> = known.0.values().map(|entry| entry.track.as_str()).collect();
        // A program that failed early was measured on none.
        tracks.retain(|track| !track.is_empty());
        tracks.sort_unstable();
        tracks.dedup();
        ensure!(
            tracks.len() <= 1,
            "the measurements kept are of different tracks or data: {}\n\
             hint: give another file with --results",
            tracks.join(", ")
        );
        Ok(())
    }

    /// Measures on one core until nothing is left.
    fn serve<'a>(
        &self,
        core: usize,
        total: usize,
        queue: &Mutex<impl Iterator<Item = (usize, (&'a Candidate, u64))>>,
    ) -> Result<()> {
        let mut only = CpuSet::new();
        only.set(core)?;
        // What is started from here stays on this core.
        sched_setaffinity(Pid::from_raw(0), &only)?;
        loop {
            let job = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((idx, (candidate, seed))) = job else { return Ok(()) };
            let entry = self.run(candidate, seed, core)?;
            let said = match (entry.seconds, entry.loss) {
                (Some(seconds), Some(loss)) => format!("{seconds:.2} s, loss {loss:.4}"),
                _ => entry.trouble.clone(),
            };
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            writeln!(known.1, "{}", serde_json::to_string(&entry)?)?;
            known.0.insert((entry.program.clone(), seed), entry);
            say(format_args!("{}/{total}  {}, seed {seed}: {said}", idx + 1, candidate.name));
        }
    }

    fn run(&self, candidate: &Candidate, seed: u64, core: usize) -> Result<Entry> {
        let path = self.folder.path().join(format!("program-{core}.rs"));
        let text: Vec<&str> = candidate.program.files.values().map(String::as_str).collect();
        fs::write(&path, text.concat())?;
        let mut command = self.evaluate();
        command.arg(&path).arg("--json").arg("--seed").arg(seed.to_string());
        let output = command.stderr(Stdio::piped()).output()?;
        let report: Report = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        let metric = |name: &str| report.metrics.get(name).copied();
        let accepted = report.verdict == "accepted";
        let messages: Vec<_> = report.findings.iter().map(|f| f.message.as_str()).collect();
        Ok(Entry {
            name: candidate.name.clone(),
            program: candidate.program.id(),
            seed,
            track: report.telemetry.facts.get("track").cloned().unwrap_or_default(),
            seconds: metric("seconds").filter(|_| accepted),
            cpu_seconds: report.telemetry.numbers.get("cpu_seconds").copied(),
            loss: metric("loss").filter(|_| accepted),
            trouble: messages.join("; "),
        })
    }

    /// Whether a program passes all rules, by a short trial.
    pub(crate) fn passes(&self, program: &Program) -> Result<bool> {
        let path = self.folder.path().join("trial.rs");
        let text: Vec<&str> = program.files.values().map(String::as_str).collect();
        fs::write(&path, text.concat())?;
        let mut command = self.evaluate();
        let output =
            command.arg(&path).args(["--json", "--config", r#"{"windows":16}"#]).output()?;
        let report: Report = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        Ok(report.verdict == "accepted")
    }

    fn evaluate(&self) -> Command {
        let mut command = Command::new(&self.forerunner);
        command.args(["evaluate", "--environment", "nanogpt", "--track", &self.track]);
        command
    }

    fn known(&self, candidate: &Candidate, seed: u64) -> Option<Entry> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.0.get(&(candidate.program.id(), seed)).cloned()
    }

    fn runs(&self, candidate: &Candidate, seeds: &[u64]) -> Result<Vec<Run>, String> {
        let run = |seed: &u64| {
            let entry = self.known(candidate, *seed).ok_or("was not measured")?;
            match (entry.seconds, entry.loss) {
                (Some(seconds), Some(loss)) => {
                    let cpu_seconds = entry.cpu_seconds.unwrap_or(f64::NAN);
                    Ok(Run { seconds, cpu_seconds, loss })
                }
                _ => Err(entry.trouble),
            }
        };
        seeds.iter().map(run).collect()
    }
}

/// The text with another value of a constant.
pub(crate) fn with_constant(text: &str, name: &str, value: &str) -> Result<String> {
    let declaration = format!("const {name}: ");
    let mut found = 0;
    let lines = text.split_inclusive('\n').map(|line| {
        match line.split_once(" = ").filter(|(head, _)| head.starts_with(&declaration)) {
            Some((head, _)) => {
                found += 1;
                format!("{head} = {value};\n")
            }
            None => line.to_owned(),
        }
    });
    let text: String = lines.collect();
    if found != 1 {
        bail!("the reference program declares `{name}` {found} times");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_is_replaced_once_or_not_at_all() {
        let text = "const STEPS: usize = 7;\nconst STEPS_MORE: usize = 1;\n";
        let expected = "const STEPS: usize = 9;\nconst STEPS_MORE: usize = 1;\n";
        assert_eq!(with_constant(text, "STEPS", "9").unwrap(), expected);
        assert!(with_constant(text, "WIDTH", "9").is_err());
        assert!(with_constant(&text.repeat(2), "STEPS", "9").is_err());
    }
}
