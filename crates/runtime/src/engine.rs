//! The run loop: select, propose, check with repair, measure, store, insert.
//!
//! One thread, the *search*, owns the selector, the store and the events. *Lanes* are threads
//! that propose and check ahead of time; *slots* are threads that measure, each with a worker
//! process and a core of its own.

mod book;
mod complete;
mod confirm;
mod cores;
mod issue;
mod judge;
mod lane_host;
mod lanes;
mod record;
mod replay;
mod resume;
mod search;
mod slots;
mod standby;

pub use replay::replayed_config;

use crate::{
    config::{ConfigError, RunFile},
    event::{Event, Summary},
    executor::{Launch, StartError},
    registry::{PluginError, Registry},
    store::{Store, StoreError},
    verification::VerificationError,
    worker::Hello,
};
use forerunner_core::Mutator;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
};

/// A run cannot start or go on. What was completed is in the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The run file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A plugin.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A worker.
    #[error(transparent)]
    Worker(#[from] StartError),
    /// The hooks.
    #[error(transparent)]
    Verification(#[from] VerificationError),
    /// The reference program could not be measured.
    #[error(
        "the reference program is not accepted: {0}\nhint: `forerunner evaluate reference --environment NAME --track TRACK` shows everything that was found"
    )]
    Reference(String),
    /// The operator stopped the run before it had anything to keep.
    #[error(
        "stopped before the reference program was measured\nhint: `forerunner run --resume` with the same folder starts it again"
    )]
    Interrupted,
    /// A run is resumed with another configuration.
    #[error(
        "the configuration changed since the run started:\n  {0}\nhint: resume without a run file to keep the frozen one, or start another run; budget and slots may change"
    )]
    Changed(String),
    /// A replay asks a model what the recorded run did not ask.
    #[error(
        "the replay left the recording at iteration {iteration}: `{model}` was not asked this before ({purpose}, call {key})\nhint: a replay needs the same programs, plugins and prompts as the recorded run; `forerunner calls RUN` lists what was asked"
    )]
    NotRecorded {
        /// The iteration.
        iteration: u64,
        /// Who would have been asked.
        model: String,
        /// What for.
        purpose: String,
        /// The call's address.
        key: String,
    },
    /// A replay came to something else than the recorded run.
    #[error(
        "the replay left the recording at iteration {iteration}: {difference}\nhint: a replay needs the same version of forerunner, its plugins and the environment's data as the recorded run"
    )]
    Diverged {
        /// The iteration.
        iteration: u64,
        /// What is different.
        difference: String,
    },
    /// A replay is resumed.
    #[error(
        "{folder} is a replay of {recorded}, which asks nobody\nhint: `forerunner run --replay {recorded}` starts it again; `forerunner run --resume {recorded}` goes on with the run itself",
        folder = folder.display()
    )]
    IsReplay {
        /// Its folder.
        folder: PathBuf,
        /// The folder of the run that it repeats.
        recorded: String,
    },
    /// A run cannot be replayed.
    #[error("{folder} cannot be replayed: {reason}", folder = folder.display())]
    NotReplayable {
        /// Its folder.
        folder: PathBuf,
        /// Why, with a hint.
        reason: String,
    },
    /// Nothing secret can be drawn for a record.
    #[error(
        "the operating system gives no random numbers: {0}\nhint: a record needs them for its seeds and its disguise; `forerunner run --resume` tries again"
    )]
    Random(getrandom::Error),
    /// The selector failed.
    #[error("selector `{name}`: {error}")]
    Selector {
        /// Its name.
        name: String,
        /// Its words.
        error: forerunner_core::Error,
    },
}

/// The operator's switch: asked once, the run finishes what is being measured and stops; asked
/// again, it stops at once. Either way it can be resumed.
#[derive(Debug, Clone, Default)]
pub struct Control(Arc<Switch>);

#[derive(Debug, Default)]
struct Switch {
    /// How often the operator asked.
    interrupts: AtomicU8,
    /// Set when work under way must be given up.
    abort: AtomicBool,
    /// Set while the budget of time is used up: nothing new is begun.
    closed: AtomicBool,
}

impl Control {
    /// Asks for an end, more urgently each time.
    pub fn interrupt(&self) {
        if self.0.interrupts.fetch_add(1, Ordering::SeqCst) >= 1 {
            self.0.abort.store(true, Ordering::SeqCst);
        }
    }

    /// Whether the operator asked for an end.
    pub fn is_interrupted(&self) -> bool {
        self.0.interrupts.load(Ordering::SeqCst) > 0
    }

    /// Whether nothing new may begin.
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_interrupted() || self.0.closed.load(Ordering::SeqCst)
    }

    /// Opens or closes the run for new work.
    pub(crate) fn set_closed(&self, closed: bool) {
        self.0.closed.store(closed, Ordering::SeqCst);
    }

    /// Set when the run must stop at once.
    pub(crate) fn abort_flag(&self) -> &AtomicBool {
        &self.0.abort
    }
}

/// Everything a run needs besides its run file.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// What to run.
    pub config: RunFile,
    /// Where to keep it.
    pub folder: PathBuf,
    /// Whether to go on with the run in `folder`.
    pub resume: bool,
    /// Where plugins are.
    pub registry: Registry,
    /// The command that starts a worker, usually `forerunner worker`.
    pub worker_command: Vec<PathBuf>,
    /// Folder for results that depend on content alone, shared between runs.
    pub cache_dir: PathBuf,
    /// Folder of the user's runs on this machine, in which each marks the cores it measures on;
    /// `None` does without.
    pub core_locks: Option<PathBuf>,
    /// The operator's switch.
    pub control: Control,
    /// Mutators of this process, which take the place of plugins of the same names.
    pub own_mutators: OwnMutators,
    /// The run that is to be repeated with its recorded answers and measurements; `config` is then
    /// [`replayed_config`]'s.
    pub replay: Option<PathBuf>,
}

/// Mutators that need no plugin, by name.
#[derive(Clone, Default)]
pub struct OwnMutators(pub BTreeMap<String, Arc<dyn Mutator>>);

impl std::fmt::Debug for OwnMutators {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl RunOptions {
    /// How workers of this run are started.
    ///
    /// # Errors
    /// When no plugin offers the environment.
    pub fn launch(&self) -> Result<Launch, PluginError> {
        let environment = &self.config.environment;
        let (_, plugin) =
            self.registry.find("environment", &environment.name, environment.plugin.as_deref())?;
        Ok(Launch {
            command: self.worker_command.clone(),
            hello: Hello {
                plugin,
                name: environment.name.clone(),
                config: environment.config.clone(),
                cache_dir: self.cache_dir.clone(),
                artifact_dir: self.folder.join("artifacts"),
            },
            log_dir: self.folder.clone(),
        })
    }
}

/// Runs a search to the end of its budget. Every event goes to `sink` as it happens.
///
/// # Errors
/// When the run cannot start, or cannot go on (a full disk, a worker that does not start). Every
/// completed evaluation is in the store either way.
pub fn run(options: RunOptions, sink: &mut dyn FnMut(&Event)) -> Result<Summary, RunError> {
    search::Search::start(options, sink)?.run()
}

/// The configuration with which to go on with the run in `folder`: the frozen one, with `given`
/// or `sets` laid over it. Only budget and resources may differ from the frozen one.
///
/// # Errors
/// When there is no run, or the configurations contradict.
pub fn resumed_config(
    folder: &std::path::Path,
    given: Option<RunFile>,
    sets: &[String],
) -> Result<RunFile, RunError> {
    let store = Store::read(folder)?;
    if let Some(recorded) = store.meta(replay::REPLAY_OF)? {
        return Err(RunError::IsReplay { folder: folder.to_owned(), recorded });
    }
    let frozen = frozen_config(&store)?;
    let given = match given {
        Some(given) => given,
        None if sets.is_empty() => return Ok(frozen),
        None => frozen.with(sets)?,
    };
    let conflicts = frozen.conflicts(&given);
    if conflicts.is_empty() { Ok(given) } else { Err(RunError::Changed(conflicts.join("\n  "))) }
}

/// The configuration that a run began with, and that of the confirmation which it had last: what was
/// confirmed stays confirmed.
fn frozen_config(store: &Store) -> Result<RunFile, StoreError> {
    let mut frozen = store.config()?;
    if let Some(text) = store.meta(confirm::SETTINGS)? {
        frozen.confirm = serde_json::from_str(&text).map_err(|error| StoreError::Value {
            path: store.folder().to_owned(),
            message: format!("settings of the confirmation: {error}"),
        })?;
    }
    Ok(frozen)
}
