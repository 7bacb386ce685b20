//! Why a hook could not be loaded or could not do its work.

use forerunner_core::Permission;
use serde::{Deserialize, Serialize};
use std::{fmt, io, path::PathBuf};

/// A hook in messages: the name it gives itself, or its file's before it has been asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Name without control characters, at most 64 bytes.
    pub name: String,
    /// The version, once the hook has told it.
    pub version: Option<String>,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "hook `{}` {version}", self.name),
            None => write!(f, "hook `{}` (version unknown)", self.name),
        }
    }
}

/// Which of a hook's functions was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// `describe`, once, when the hook is loaded.
    Describe,
    /// `verify`, once for every evaluation.
    Verify,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Describe => "describe",
            Self::Verify => "verify",
        })
    }
}

/// Why a hook could not be loaded or could not do its work.
///
/// Every variant but [`HookError::Host`] and [`HookError::Cache`] names the hook, its version when
/// it is known, and the cause. Text that comes from a hook is shortened and free of control
/// characters.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// The host itself could not be set up; no hook is to blame.
    #[error("cannot set up the host of hooks: {reason}")]
    Host {
        /// What the engine answered.
        reason: String,
    },
    /// The folder for compiled hooks cannot be trusted.
    #[error(
        "the cache of compiled hooks `{}` {problem}\n\
         hint: remove it or name another folder; it is created with mode 0700", path.display()
    )]
    Cache {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file cannot be read.
    #[error("{hook}: cannot read `{}`: {source}\nhint: give the path of a component, as `forerunner hook build` prints it", path.display())]
    Unreadable {
        /// Which hook.
        hook: Label,
        /// The file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// The file is larger than [`crate::Limits::file_bytes`].
    #[error(
        "{hook}: the file has more than {limit} bytes\nhint: build it with optimisation for size"
    )]
    TooLarge {
        /// Which hook.
        hook: Label,
        /// The limit in bytes.
        limit: u64,
    },
    /// The file is not WebAssembly.
    #[error(
        "{hook}: the file is not WebAssembly: {reason}\nhint: `forerunner hook build` makes a component"
    )]
    NotWasm {
        /// Which hook.
        hook: Label,
        /// What it is instead, as far as one can tell.
        reason: String,
    },
    /// The file is a core module; a hook is a component.
    #[error(
        "{hook}: the file is a core WebAssembly module, not a component\n\
         hint: `forerunner hook build` makes a component of it"
    )]
    CoreModule {
        /// Which hook.
        hook: Label,
    },
    /// The file is machine code that was compiled elsewhere.
    #[error(
        "{hook}: the file is a precompiled image, which could contain any machine code\n\
         hint: give the component itself; it is compiled and cached here"
    )]
    Precompiled {
        /// Which hook.
        hook: Label,
    },
    /// The hook was built for another version of the interface.
    #[error(
        "{hook}: built for version {found} of forerunner:verify (known: {})\n\
         hint: build it again with a known version of the interface", known.join(", ")
    )]
    OtherVersion {
        /// Which hook.
        hook: Label,
        /// The version it names.
        found: String,
        /// The versions that this host speaks.
        known: Vec<&'static str>,
    },
    /// The hook imports something other than evidence.
    #[error(
        "{hook}: imports what no hook is given: {}\n\
         hint: a hook has no files, clock, network or WASI; build it for wasm32-unknown-unknown",
        imports.join(", ")
    )]
    ForbiddenImports {
        /// Which hook.
        hook: Label,
        /// What it imports in excess; at most ten names.
        imports: Vec<String>,
    },
    /// The component is not of the world `hook`.
    #[error("{hook}: not of the world `hook`: {reason}")]
    WrongWorld {
        /// Which hook.
        hook: Label,
        /// What is missing or of another type.
        reason: String,
    },
    /// The component is damaged, invalid, or larger than an instance may be.
    #[error("{hook}: cannot be compiled: {reason}")]
    NotCompiled {
        /// Which hook.
        hook: Label,
        /// What the compiler answered.
        reason: String,
    },
    /// What the hook says of itself is not usable.
    #[error("{hook}: `describe` answered nonsense: {problem}")]
    Manifest {
        /// Which hook.
        hook: Label,
        /// What is wrong with it.
        problem: String,
    },
    /// The hook wants more than it is permitted.
    #[error(
        "{hook}: wants {}, which is not permitted\n\
         hint: the environment must grant it and the run file must not leave it out of `allow`",
        names(missing)
    )]
    NotPermitted {
        /// Which hook.
        hook: Label,
        /// What was wanted and is not permitted.
        missing: Vec<Permission>,
    },
    /// The hook used up its instructions.
    #[error("{hook}: `{call}` did not return within {limit} units of fuel")]
    OutOfFuel {
        /// Which hook.
        hook: Label,
        /// In which call.
        call: Call,
        /// The limit; a unit is about one WebAssembly instruction.
        limit: u64,
    },
    /// The hook used up its time.
    #[error("{hook}: `{call}` did not return within {seconds} seconds")]
    Deadline {
        /// Which hook.
        hook: Label,
        /// In which call.
        call: Call,
        /// The limit in seconds.
        seconds: f64,
    },
    /// The hook declared or asked for more memory or larger tables than it may have.
    #[error("{hook}: asked for {wanted} (limit: {limit})")]
    Memory {
        /// Which hook.
        hook: Label,
        /// How much of what, with its unit.
        wanted: String,
        /// The limit, with its unit.
        limit: String,
    },
    /// The hook trapped.
    #[error("{hook}: `{call}` trapped: {trap}")]
    Trapped {
        /// Which hook.
        hook: Label,
        /// In which call.
        call: Call,
        /// The kind of trap.
        trap: String,
    },
    /// The hook passed more data in one call than the host takes.
    #[error("{hook}: `{call}` passed more than {limit} bytes to the host at once")]
    TooMuchData {
        /// Which hook.
        hook: Label,
        /// In which call.
        call: Call,
        /// The limit in bytes.
        limit: usize,
    },
    /// The hook called the host too often.
    #[error("{hook}: `{call}` called the host more than {limit} times")]
    TooManyCalls {
        /// Which hook.
        hook: Label,
        /// In which call.
        call: Call,
        /// The limit.
        limit: u32,
    },
    /// The hook passed values that are none: lists beyond its memory, unknown cases, bad UTF-8.
    #[error("{hook}: `{call}` passed an invalid value: {reason}")]
    InvalidValue {
        /// Which hook.
        hook: Label,
        /// In which call.
        call: Call,
        /// What is wrong with it.
        reason: String,
    },
    /// The report is well-formed and yet unusable.
    #[error("{hook}: `verify` answered an unusable report: {problem}")]
    Report {
        /// Which hook.
        hook: Label,
        /// What is wrong with it.
        problem: String,
    },
    /// The hook itself said that it could not do its work.
    #[error("{hook}: could not do its work: {message}")]
    Declined {
        /// Which hook.
        hook: Label,
        /// Its words.
        message: String,
    },
    /// Evidence that the hook may see could not be read; the hook is not to blame.
    #[error("{hook}: cannot read the artifact `{artifact}`: {reason}")]
    Evidence {
        /// Which hook.
        hook: Label,
        /// The artifact.
        artifact: String,
        /// What the system answered.
        reason: String,
    },
}

impl HookError {
    /// The hook in question; `None` when the host could not be set up.
    pub fn hook(&self) -> Option<&Label> {
        match self {
            Self::Host { .. } | Self::Cache { .. } => None,
            Self::Unreadable { hook, .. }
            | Self::TooLarge { hook, .. }
            | Self::NotWasm { hook, .. }
            | Self::CoreModule { hook }
            | Self::Precompiled { hook }
            | Self::OtherVersion { hook, .. }
            | Self::ForbiddenImports { hook, .. }
            | Self::WrongWorld { hook, .. }
            | Self::NotCompiled { hook, .. }
            | Self::Manifest { hook, .. }
            | Self::NotPermitted { hook, .. }
            | Self::OutOfFuel { hook, .. }
            | Self::Deadline { hook, .. }
            | Self::Memory { hook, .. }
            | Self::Trapped { hook, .. }
            | Self::TooMuchData { hook, .. }
            | Self::TooManyCalls { hook, .. }
            | Self::InvalidValue { hook, .. }
            | Self::Report { hook, .. }
            | Self::Declined { hook, .. }
            | Self::Evidence { hook, .. } => Some(hook),
        }
    }

    /// A stable short name of the cause, fit for a finding's rule, for example `out-of-fuel`.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Host { .. } => "host",
            Self::Cache { .. } => "cache",
            Self::Unreadable { .. } => "unreadable",
            Self::TooLarge { .. } => "too-large",
            Self::NotWasm { .. } => "not-wasm",
            Self::CoreModule { .. } => "core-module",
            Self::Precompiled { .. } => "precompiled",
            Self::OtherVersion { .. } => "other-version",
            Self::ForbiddenImports { .. } => "forbidden-imports",
            Self::WrongWorld { .. } => "wrong-world",
            Self::NotCompiled { .. } => "not-compiled",
            Self::Manifest { .. } => "manifest",
            Self::NotPermitted { .. } => "not-permitted",
            Self::OutOfFuel { .. } => "out-of-fuel",
            Self::Deadline { .. } => "deadline",
            Self::Memory { .. } => "memory",
            Self::Trapped { .. } => "trapped",
            Self::TooMuchData { .. } => "too-much-data",
            Self::TooManyCalls { .. } => "too-many-calls",
            Self::InvalidValue { .. } => "invalid-value",
            Self::Report { .. } => "report",
            Self::Declined { .. } => "declined",
            Self::Evidence { .. } => "evidence",
        }
    }
}

fn names(permissions: &[Permission]) -> String {
    let quoted: Vec<String> = permissions.iter().map(|p| format!("`{}`", p.as_str())).collect();
    quoted.join(", ")
}
