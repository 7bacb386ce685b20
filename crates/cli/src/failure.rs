//! Errors as the command line sees them, each with its documented exit code.

use forerunner_fetch::FetchError;
use forerunner_runtime::{
    config::ConfigError, engine::RunError, registry::PluginError, single::SingleError,
    store::StoreError,
};
use std::{fmt, io, path::Path, process::ExitCode};

/// The program was measured, or refused, and does not count.
pub(crate) const NOT_ACCEPTED: u8 = 1;
/// Usage: clap's own code for wrong arguments, and ours for wrong input.
pub(crate) const USAGE: u8 = 2;
/// A plugin or environment cannot be used.
pub(crate) const PLUGIN: u8 = 3;
/// The store or the disk.
pub(crate) const STORE: u8 = 4;
/// A replay came to something else than the recorded run.
pub(crate) const DIVERGED: u8 = 5;
/// Data cannot be fetched: no network, or the hub does not give it.
pub(crate) const FETCH: u8 = 6;
/// Interrupted; the run can be resumed.
pub(crate) const INTERRUPTED: u8 = 130;

/// Shown by `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    the evaluated program was rejected, unverified or failed
  2    wrong arguments, run file or input data
  3    a plugin, environment or worker cannot be used
  4    the run's store cannot be used, or the disk is full
  5    a replay came to something else than the recorded run
  6    data cannot be fetched: no network, or the hub does not give it
  130  interrupted; resume with `forerunner run --resume RUN`";

/// An error with its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }

    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(USAGE, message)
    }

    pub(crate) fn reading(path: &Path, error: &io::Error, hint: &str) -> Self {
        Self::usage(format_args!("cannot read {}: {error}\nhint: {hint}", path.display()))
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(USAGE, error)
    }
}

impl From<PluginError> for Failure {
    fn from(error: PluginError) -> Self {
        Self::new(PLUGIN, error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(STORE, error)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let code = match &error {
            RunError::Config(_)
            | RunError::Changed(_)
            | RunError::NotReplayable { .. }
            | RunError::IsReplay { .. } => USAGE,
            RunError::NotRecorded { .. } | RunError::Diverged { .. } => DIVERGED,
            RunError::Store(_) => STORE,
            RunError::Interrupted => INTERRUPTED,
            _ => PLUGIN,
        };
        Self::new(code, error)
    }
}

impl From<SingleError> for Failure {
    fn from(error: SingleError) -> Self {
        let code = if matches!(error, SingleError::Disguise { .. }) { USAGE } else { PLUGIN };
        Self::new(code, error)
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        let code = match &error {
            FetchError::UnknownSource { .. }
            | FetchError::Shards { .. }
            | FetchError::Foreign { .. }
            | FetchError::Changed { .. } => USAGE,
            FetchError::Io { .. } | FetchError::NoRoom { .. } | FetchError::Busy(_) => STORE,
            FetchError::Interrupted => INTERRUPTED,
            _ => FETCH,
        };
        Self::new(code, error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(STORE, format_args!("cannot write output: {error}"))
    }
}
