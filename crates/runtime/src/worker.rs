//! The worker process: loads one environment and checks and measures programs for its host.
//!
//! It talks length-prefixed JSON frames over its standard input and output and ends when its
//! input ends, so a host that dies leaves no worker behind.

use crate::{frame, registry::Plugin};
use crossbeam_channel::{Receiver, unbounded};
use forerunner_core::{
    Check, Environment, EnvironmentSpec, Error, Evaluation, EvaluationRequest, Host, Program,
    Series,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// What a worker is told first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// The plugin's library.
    pub plugin: PathBuf,
    /// The environment's export name.
    pub name: String,
    /// Its configuration.
    pub config: serde_json::Value,
    /// Folder shared by all workers of a run for results that depend on content alone.
    pub cache_dir: PathBuf,
    /// Folder for the artifacts of evaluations.
    pub artifact_dir: PathBuf,
}

/// Host to worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToWorker {
    /// The first frame.
    Hello(Hello),
    /// Check a program.
    Check(Program),
    /// Measure a program.
    Evaluate(Box<EvaluationRequest>),
    /// The current answer is no longer wanted.
    Cancel,
}

/// Worker to host.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromWorker {
    /// The environment is loaded.
    Ready(Box<EnvironmentSpec>),
    /// The environment cannot be loaded: message with hint.
    Refused(String),
    /// How far the current work is.
    Progress(f64, String),
    /// Answer to [`ToWorker::Check`].
    Checked(Result<Check, Error>),
    /// Answer to [`ToWorker::Evaluate`].
    Evaluated(Result<Box<Evaluation>, Error>),
}

/// Progress more often than this is dropped.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// How long the environment may take to notice that its host is gone.
const GRACE: Duration = Duration::from_secs(2);

type Output = Arc<Mutex<Box<dyn Write + Send>>>;

struct WorkerHost {
    output: Output,
    series: Mutex<BTreeMap<String, Series>>,
    artifacts: Mutex<Artifacts>,
    last_progress: Mutex<Option<Instant>>,
    cancelled: Arc<AtomicBool>,
    cache_dir: PathBuf,
    artifact_dir: PathBuf,
}

/// What the call at work has kept.
#[derive(Default)]
struct Artifacts {
    /// What its folder is called after.
    label: String,
    /// Its own, so that nothing kept before is ever overwritten; made when it is needed.
    folder: Option<PathBuf>,
    files: BTreeMap<String, PathBuf>,
}

impl Artifacts {
    fn of(label: String) -> Self {
        Self { label, ..Self::default() }
    }

    fn folder(&mut self, within: &Path) -> io::Result<PathBuf> {
        if let Some(folder) = &self.folder {
            return Ok(folder.clone());
        }
        let folder = new_folder(within, &self.label)?;
        self.folder = Some(folder.clone());
        Ok(folder)
    }
}

/// Makes a folder called `label`, or `label-2` and so on where there is one.
fn new_folder(within: &Path, label: &str) -> io::Result<PathBuf> {
    std::fs::create_dir_all(within)?;
    let mut folder = within.join(label);
    for number in 2_u64.. {
        match std::fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                folder = within.join(format!("{label}-{number}"));
            }
            Err(error) => return Err(error),
            Ok(()) => break,
        }
    }
    Ok(folder)
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Host for WorkerHost {
    fn record(&self, series: &str, step: u64, value: f64) {
        lock(&self.series).entry(series.to_owned()).or_default().push((step, value));
    }

    fn progress(&self, fraction: f64, message: &str) {
        let mut last = lock(&self.last_progress);
        if last.is_none_or(|at| at.elapsed() >= PROGRESS_EVERY) {
            *last = Some(Instant::now());
            // A closed pipe is noticed by the reader, which ends the process.
            drop(frame::write(
                &mut *lock(&self.output),
                &FromWorker::Progress(fraction.clamp(0.0, 1.0), message.to_owned()),
            ));
        }
    }

    fn store(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, Error> {
        let safe = !name.is_empty()
            && name.len() <= 128
            && !name.starts_with('.')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        if !safe {
            return Err(Error::failed(format!(
                "artifact name `{name}`: use letters, digits, `.`, `_` and `-`"
            )));
        }
        let mut artifacts = lock(&self.artifacts);
        let folder = artifacts.folder(&self.artifact_dir).map_err(|error| {
            Error::failed(format!(
                "cannot make a folder in {}: {error}",
                self.artifact_dir.display()
            ))
        })?;
        let path = folder.join(name);
        std::fs::write(&path, bytes)
            .map_err(|error| Error::failed(format!("cannot keep {}: {error}", path.display())))?;
        artifacts.files.insert(name.to_owned(), path.clone());
        Ok(path)
    }

    fn cache_dir(&self) -> PathBuf {
        self.cache_dir.clone()
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// Reads the host's frames in a thread, so that a cancellation arrives during work.
fn listen(
    mut input: impl io::Read + Send + 'static,
    cancelled: Arc<AtomicBool>,
) -> Receiver<ToWorker> {
    let (sender, receiver) = unbounded();
    std::thread::spawn(move || {
        loop {
            match frame::read(&mut input) {
                Ok(Some(ToWorker::Cancel)) => cancelled.store(true, Ordering::Relaxed),
                Ok(Some(message)) => {
                    if sender.send(message).is_err() {
                        return;
                    }
                }
                Ok(None) | Err(_) => {
                    // The host is gone, or finished. Whatever still runs gets a moment to clean
                    // up after itself, then the process ends in any case.
                    cancelled.store(true, Ordering::Relaxed);
                    drop(sender);
                    std::thread::sleep(GRACE);
                    std::process::exit(0);
                }
            }
        }
    });
    receiver
}

/// Serves one host until its input ends.
///
/// # Errors
/// When the pipes break or the first frame is not a greeting.
pub fn serve(
    input: impl io::Read + Send + 'static,
    output: impl Write + Send + 'static,
) -> io::Result<()> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let output: Output = Arc::new(Mutex::new(Box::new(output)));
    let requests = listen(input, cancelled.clone());
    let send = |message: &FromWorker| frame::write(&mut *lock(&output), message);

    let hello = match requests.recv() {
        Ok(ToWorker::Hello(hello)) => hello,
        Ok(_) => return Err(io::Error::other("the first frame must be the greeting")),
        Err(_) => return Ok(()),
    };
    let loaded = Plugin::load(&hello.plugin).and_then(|plugin| {
        let environment = plugin.environment(&hello.name, &hello.config)?;
        Ok((plugin.describe(&hello.plugin), environment))
    });
    let (plugin, environment) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return send(&FromWorker::Refused(error.to_string())),
    };
    // Every error of the plugin says whose it is, and in which call.
    let said = |call: &str, error: Error| match error {
        Error::Cancelled => Error::Cancelled,
        error => Error::Failed(format!(
            "plugin {} {}: environment `{}`: {call}: {error}",
            plugin.name, plugin.version, hello.name
        )),
    };
    match environment.spec() {
        Ok(spec) => send(&FromWorker::Ready(Box::new(spec)))?,
        Err(error) => {
            let message = said("spec", error).to_string();
            return send(&FromWorker::Refused(with_hint(message)));
        }
    }
    let host = WorkerHost {
        output: output.clone(),
        series: Mutex::default(),
        artifacts: Mutex::default(),
        last_progress: Mutex::default(),
        cancelled: cancelled.clone(),
        cache_dir: hello.cache_dir.clone(),
        artifact_dir: hello.artifact_dir.clone(),
    };
    for request in requests {
        match request {
            ToWorker::Check(program) => {
                cancelled.store(false, Ordering::Relaxed);
                *lock(&host.artifacts) = Artifacts::of("check".to_owned());
                let check =
                    environment.check(&program, &host).map_err(|error| said("check", error));
                lock(&host.series).clear();
                send(&FromWorker::Checked(check))?;
            }
            ToWorker::Evaluate(request) => {
                cancelled.store(false, Ordering::Relaxed);
                let label = format!("{}-{}", request.program.id().short(), request.seed);
                *lock(&host.artifacts) = Artifacts::of(label);
                let result =
                    environment.evaluate(&request, &host).map_err(|error| said("evaluate", error));
                let recorded = std::mem::take(&mut *lock(&host.series));
                let kept = std::mem::take(&mut *lock(&host.artifacts)).files;
                send(&FromWorker::Evaluated(result.map(|mut evaluation| {
                    evaluation.telemetry.series.extend(recorded);
                    evaluation.evidence.artifacts = kept;
                    Box::new(evaluation.finite())
                })))?;
            }
            ToWorker::Hello(_) | ToWorker::Cancel => {}
        }
    }
    Ok(())
}

/// A message about what an environment is, with what to do about it. Where the environment says so
/// itself, it knows better.
fn with_hint(message: String) -> String {
    if message.contains("\nhint: ") {
        return message;
    }
    message + "\nhint: check the `config` table of this plugin in the run file"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_of_two_evaluations_never_overwrite_each_other() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let keep = |label: &str, names: &[&str]| -> Vec<PathBuf> {
            let host = WorkerHost {
                output: Arc::new(Mutex::new(Box::new(Vec::new()))),
                series: Mutex::default(),
                artifacts: Mutex::new(Artifacts::of(label.to_owned())),
                last_progress: Mutex::default(),
                cancelled: Arc::default(),
                cache_dir: PathBuf::new(),
                artifact_dir: folder.path().join("artifacts"),
            };
            for name in names {
                assert_eq!(
                    host.store(name, label.as_bytes()).expect("kept").file_name(),
                    Path::new(name).file_name()
                );
            }
            assert!(host.store("../out", b"").is_err());
            lock(&host.artifacts).files.values().cloned().collect()
        };
        let (one, again) = (keep("abcd-1", &["a.bin", "b.bin"]), keep("abcd-1", &["a.bin"]));
        assert_eq!((one.len(), again.len()), (2, 1));
        assert_eq!(one[0].parent(), one[1].parent());
        assert_ne!(one[0], again[0]);
        assert!(one.iter().chain(&again).all(|path| path.is_file()));
        assert!(keep("efgh-1", &[]).is_empty());
        let folders = std::fs::read_dir(folder.path().join("artifacts")).expect("made").count();
        assert_eq!(folders, 2, "an evaluation that keeps nothing needs no folder");
    }

    #[test]
    fn a_hint_of_the_environments_own_is_the_only_one() {
        let told = "needs a GPU\nhint: use a machine with one".to_owned();
        assert_eq!(with_hint(told.clone()), told);
        assert_eq!(
            with_hint("no".into()),
            "no\nhint: check the `config` table of this plugin in the run file"
        );
    }
}
