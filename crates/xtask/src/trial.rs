//! A search of the environment `trivial`, started by the installed binary and watched from
//! outside.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Set for the host and everything it starts, so that nothing of it goes unnoticed.
pub(crate) const MARKER: &str = "FORERUNNER_TRIAL";

/// What to search.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// `steady` or `generations`.
    pub(crate) mode: &'static str,
    pub(crate) slots: usize,
    pub(crate) evaluations: u64,
    /// Finalists that are confirmed on two seeds each.
    pub(crate) finalists: usize,
    pub(crate) program_bytes: usize,
    pub(crate) propose_seconds: f64,
    pub(crate) evaluate_seconds: f64,
    /// The `[[mutator]]` table as text; `nudge` when `None`.
    pub(crate) mutator: Option<String>,
    /// Proposals worked on beyond those being measured; the host's own number when `None`.
    pub(crate) ahead: Option<usize>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 1,
            mode: "steady",
            slots: 1,
            evaluations: 100,
            finalists: 0,
            program_bytes: 1100,
            propose_seconds: 0.0,
            evaluate_seconds: 0.0,
            mutator: None,
            ahead: None,
        }
    }
}

impl Plan {
    /// Fresh seeds per finalist.
    pub(crate) const SEEDS: usize = 2;

    fn run_file(&self) -> String {
        let Self { seed, mode, slots, evaluations, finalists, .. } = self;
        let Self { program_bytes, propose_seconds, evaluate_seconds, .. } = self;
        let seeds = Self::SEEDS;
        let nudge = || {
            format!(
                "[[mutator]]\nname = \"nudge\"\nparallel = true\n\
                 config = {{ propose_seconds = {propose_seconds:?} }}\n"
            )
        };
        let mutator = self.mutator.clone().unwrap_or_else(nudge);
        let ahead = self.ahead.map_or_else(String::new, |ahead| format!("ahead = {ahead}\n"));
        format!(
            "[environment]\nname = \"trivial\"\n\
             config = {{ program_bytes = {program_bytes}, evaluate_seconds = {evaluate_seconds:?} }}\n\
             {mutator}[selector]\nname = \"islands\"\n\
             [run]\nseed = {seed}\nmode = \"{mode}\"\nslots = {slots}\n{ahead}\
             [budget]\nevaluations = {evaluations}\n\
             [confirm]\nfinalists = {finalists}\nseeds = {seeds}\n"
        )
    }
}

/// Where a search takes place.
#[derive(Debug)]
pub(crate) struct Trial {
    binary: PathBuf,
    file: PathBuf,
    /// Folder of the run.
    pub(crate) folder: PathBuf,
    /// Value of [`MARKER`].
    pub(crate) marker: String,
    log: PathBuf,
}

impl Trial {
    /// Prepares a search named `name` in the folder `within`.
    pub(crate) fn new(prefix: &Path, within: &Path, name: &str, plan: &Plan) -> Result<Self> {
        let binary = prefix.join("bin/forerunner");
        if !binary.is_file() {
            bail!(
                "{} is not there\nhint: `cargo xtask install --prefix {}`",
                binary.display(),
                prefix.display()
            );
        }
        let file = within.join(format!("{name}.toml"));
        fs::write(&file, plan.run_file())?;
        Ok(Self {
            binary,
            file,
            folder: within.join(name),
            marker: format!("{}-{name}", std::process::id()),
            log: within.join(format!("{name}.log")),
        })
    }

    /// Starts the host.
    pub(crate) fn start(&self, resume: bool) -> Result<Host> {
        let mut command = Command::new(&self.binary);
        command.args(["run", "--events", "ndjson"]);
        if resume {
            command.arg("--resume").arg(&self.folder);
        } else {
            command.arg(&self.file).arg("--out").arg(&self.folder);
        }
        let log = File::options().create(true).append(true).open(&self.log)?;
        let started = Instant::now();
        let mut child = command
            .env(MARKER, &self.marker)
            .env_remove("FORERUNNER_PREFIX")
            .env_remove("FORERUNNER_PLUGINS")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        let stdout = child.stdout.take().context("no pipe from the host")?;
        let (sender, events) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                // A host that is killed may leave half a line, which is no event.
                let Ok(line) = line else { break };
                let Ok(event) = serde_json::from_str::<Event>(&line) else { continue };
                let seen = Seen { at: Instant::now(), event };
                if sender.send(seen).is_err() {
                    break;
                }
            }
        });
        Ok(Host { child, started, events, reader: Some(reader) })
    }

    /// The last lines that the host wrote to standard error.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let mut words = String::new();
        for line in &lines[lines.len().saturating_sub(8)..] {
            let _ = writeln!(words, "    {line}");
        }
        words
    }
}

/// The part of an event that is looked at here.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Event {
    pub(crate) event: String,
    pub(crate) iteration: Option<u64>,
    #[serde(default)]
    pub(crate) slot_use: f64,
}

impl Event {
    /// The number of the iteration when this event says that it is complete.
    pub(crate) fn evaluated(&self) -> Option<u64> {
        self.iteration.filter(|_| self.event == "evaluated")
    }
}

/// An event and when it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) event: Event,
}

/// What a wait for an event came to.
pub(crate) enum Waited {
    Event(Seen),
    Late,
    /// The host closed its output: it has ended or is about to.
    End,
}

/// A host at work.
pub(crate) struct Host {
    child: Child,
    pub(crate) started: Instant,
    events: Receiver<Seen>,
    reader: Option<JoinHandle<()>>,
}

impl Host {
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(i32::MAX)
    }

    /// Waits for the next event, at most until `deadline`.
    pub(crate) fn next(&self, deadline: Instant) -> Waited {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.events.recv_timeout(left) {
            Ok(seen) => Waited::Event(seen),
            Err(RecvTimeoutError::Timeout) => Waited::Late,
            Err(RecvTimeoutError::Disconnected) => Waited::End,
        }
    }

    /// Waits for the host's own end and answers what else it said.
    pub(crate) fn wait(mut self) -> Result<(ExitStatus, Vec<Seen>)> {
        let status = self.child.wait()?;
        Ok((status, self.rest()))
    }

    /// Kills the host and answers what else it had said.
    pub(crate) fn kill(mut self) -> Result<Vec<Seen>> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(self.rest())
    }

    fn rest(&mut self) -> Vec<Seen> {
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
        self.events.try_iter().collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Left early, by an error: nothing of ours may stay behind.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a host to its end, handing every event to `each`. One that is silent for longer than
/// `patience` is killed and an error.
pub(crate) fn run(
    trial: &Trial,
    resume: bool,
    patience: Duration,
    mut each: impl FnMut(&Host, &Seen) -> Result<()>,
) -> Result<()> {
    let host = trial.start(resume)?;
    loop {
        match host.next(Instant::now() + patience) {
            Waited::Event(seen) => each(&host, &seen)?,
            Waited::Late => bail!("the host said nothing for {} s", patience.as_secs()),
            Waited::End => break,
        }
    }
    let (status, _) = host.wait()?;
    if !status.success() {
        bail!("the host ended with {status}\n{}", trial.last_words());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use forerunner_runtime::config::{Mode, RunFile};

    #[test]
    fn a_plan_is_a_run_file() {
        let plan = Plan { mode: "generations", slots: 2, evaluate_seconds: 1.0, ..Plan::default() };
        let file = RunFile::parse("plan", &plan.run_file(), &[]).unwrap();
        assert_eq!((file.run.mode, file.run.slots), (Mode::Generations, 2));
        assert_eq!(file.environment.config["evaluate_seconds"], 1.0);
        let steady = RunFile::parse("plan", &Plan::default().run_file(), &[]).unwrap();
        assert_eq!(steady.run.mode, Mode::Steady);
    }

    #[test]
    fn a_binary_that_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Trial::new(folder.path(), folder.path(), "a", &Plan::default()).unwrap_err();
        assert!(error.to_string().contains("hint: `cargo xtask install"), "{error}");
    }
}
