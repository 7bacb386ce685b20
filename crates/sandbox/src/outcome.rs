//! How a sandboxed process ended and what it used.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Layers;

/// How a sandboxed process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It left with this code.
    Exited(i32),
    /// A signal ended it, [`Child::kill`](crate::Child::kill) included.
    Signalled(i32),
    /// It was killed when the wall time was up.
    TimedOut,
    /// It was killed over its memory limit, or gave up because an allocation failed.
    ///
    /// The second case is told from SIGABRT and Rust's message on standard error, which a program
    /// can fake: it is a label for a failure, nothing more.
    OutOfMemory,
    /// It was killed when its CPU time was used up.
    OutOfCpu,
}

impl Outcome {
    /// Whether the process left with code 0.
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Signalled(signal) => write!(f, "was killed by signal {signal}"),
            Self::TimedOut => write!(f, "ran out of wall time"),
            Self::OutOfMemory => write!(f, "ran out of memory"),
            Self::OutOfCpu => write!(f, "ran out of CPU time"),
        }
    }
}

/// A process that has ended, with everything it started.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How it ended.
    pub outcome: Outcome,
    /// User and system time of the whole tree, including about a millisecond of setting up.
    pub cpu: Duration,
    /// From the call of `spawn` or `run` to the death of the last process.
    pub wall: Duration,
    /// The highest resident memory seen: of the tree when polled, or of one process as the kernel
    /// counted it, whichever is larger.
    pub peak_memory_bytes: u64,
    /// Standard output: all of it for `run`, the unread rest for a `Child`; at most
    /// [`Limits::output_bytes`](crate::Limits::output_bytes).
    pub stdout: Vec<u8>,
    /// Standard error, at most [`Limits::output_bytes`](crate::Limits::output_bytes).
    pub stderr: Vec<u8>,
    /// Whether either stream was longer than what was kept.
    pub output_truncated: bool,
    /// What confined it.
    pub layers: Layers,
}
