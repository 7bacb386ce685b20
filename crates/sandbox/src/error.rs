//! Why a process could not be started or supervised.

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize};

/// Why a process could not be started or supervised. What the process itself did wrong is an
/// [`Outcome`](crate::Outcome), not an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The policy or the command line makes no sense.
    #[error("invalid sandbox policy: {0}")]
    Policy(String),
    /// The launcher, normally this very binary, could not be started again.
    #[error("cannot start the sandbox launcher `{launcher}`")]
    Launch {
        /// The binary that should have become the init.
        launcher: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The launcher started but did not behave as one.
    #[error(
        "`{launcher}` did not answer as a sandbox launcher\n\
         hint: its `main` must call `forerunner_sandbox::init()` first; \
         set FORERUNNER_SANDBOX_LAUNCHER to a binary that does"
    )]
    NotALauncher {
        /// The binary that did not answer.
        launcher: PathBuf,
        /// What was seen instead.
        #[source]
        source: io::Error,
    },
    /// A layer without which nothing untrusted is run is missing.
    #[error("this machine cannot confine programs: {layer} failed: {reason}\nhint: {hint}")]
    FloorMissing {
        /// The missing layer.
        layer: String,
        /// What the system said.
        reason: String,
        /// What the user can do.
        hint: String,
    },
    /// A step between the start of the init and the start of the program failed.
    #[error("cannot set up the sandbox: {0}")]
    Setup(String),
    /// The program itself could not be executed.
    #[error("cannot execute `{program}` in the sandbox: {reason}")]
    Execute {
        /// The path that was tried.
        program: String,
        /// What the system said, with a hint where there is one.
        reason: String,
    },
    /// Contact with the init was lost; the process tree has been killed.
    #[error("lost the sandbox's init process: {0}")]
    Supervision(String),
    /// The process has ended and has no clock any more.
    #[error("the sandboxed process has ended: its CPU clock can only be read while it runs")]
    Ended,
    /// There is no GPU to give, or not all of one.
    #[error("cannot give a program a GPU: {reason}\nhint: {hint}")]
    Gpu {
        /// What is missing.
        reason: String,
        /// What the user can do.
        hint: String,
    },
    /// `FORERUNNER_SANDBOX_LAYERS` holds an unknown value.
    #[error("unknown value `{0}` in FORERUNNER_SANDBOX_LAYERS (known: all, floor)")]
    UnknownLayers(String),
}

impl Error {
    pub(crate) fn policy(message: impl Into<String>) -> Self {
        Self::Policy(message.into())
    }

    pub(crate) fn gpu(reason: impl Into<String>, hint: &str) -> Self {
        Self::Gpu { reason: reason.into(), hint: hint.to_owned() }
    }
}

/// An [`Error`] found inside the init, on its way to the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    FloorMissing { layer: String, reason: String, hint: String },
    Setup(String),
    Execute { program: String, reason: String },
}

impl Failure {
    /// `step` says what was being done: "cannot set up the sandbox: {step}: {error}".
    pub(crate) fn setup(step: &str, error: impl std::fmt::Display) -> Self {
        Self::Setup(format!("{step}: {error}"))
    }

    pub(crate) fn floor(layer: &str, reason: impl std::fmt::Display, remedy: &str) -> Self {
        Self::FloorMissing {
            layer: layer.to_owned(),
            reason: reason.to_string(),
            hint: format!("{remedy}, or pass --unsafe-no-sandbox"),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::FloorMissing { layer, reason, hint } => {
                Self::FloorMissing { layer, reason, hint }
            }
            Failure::Setup(message) => Self::Setup(message),
            Failure::Execute { program, reason } => Self::Execute { program, reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_floor_says_what_to_do() {
        let failure = Failure::floor(
            "Landlock",
            "Function not implemented",
            "use kernel 5.13 or newer with Landlock enabled",
        );
        assert_eq!(
            Error::from(failure).to_string(),
            "this machine cannot confine programs: Landlock failed: Function not implemented\n\
             hint: use kernel 5.13 or newer with Landlock enabled, or pass --unsafe-no-sandbox"
        );
    }
}
