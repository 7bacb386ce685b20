//! Runs verification hooks: untrusted WebAssembly components that look at the evidence of an
//! evaluation and say whether its result may count.
//!
//! A hook exports `describe` (name, version, what it wants to see) and `verify` (a report of
//! findings and a verdict), and imports one interface, the evidence. There is no WASI: a hook has
//! no files, no clock, no network, no random numbers, so a report follows from the evidence alone.
//! The interface is `wit/since_v0.1.0/verify.wit`.
//!
//! # Smallest use
//!
//! ```no_run
//! # fn main() -> Result<(), forerunner_verify::HookError> {
//! use forerunner_core::{Evaluation, Permission, Program, Slice};
//! use forerunner_verify::{HookHost, Limits, Subject};
//! use std::collections::BTreeSet;
//!
//! let host = HookHost::new(Limits::default(), None)?;
//! let hook = host.load("loss-check.wasm".as_ref())?;
//! let program = Program::single("main.rs", "fn main() {}");
//! let evaluation = Evaluation::accepted("loss", 1.5);
//! let subject = Subject {
//!     environment: "example",
//!     track: "",
//!     program: &program,
//!     parent: None,
//!     seed: 7,
//!     slice: Slice::Dev,
//!     evaluation: &evaluation,
//! };
//! let permitted = BTreeSet::from([Permission::Metrics]);
//! let report = hook.verify(&subject, &permitted)?;
//! assert!(report.findings.len() <= 101);
//! # Ok(()) }
//! ```
//!
//! # Core concepts
//!
//! | | |
//! | --- | --- |
//! | [`HookHost`] | one engine, its limits and its cache |
//! | [`Hook`], [`Manifest`] | a component that was checked, compiled and asked who it is |
//! | [`Subject`] | one evaluation |
//! | [`Report`] | verdict, findings, recomputed metrics, log, what it used |
//! | [`HookError`] | why there is no report; names hook, version and cause |
//!
//! # Limits
//!
//! Per call, each in [`Limits`], with its default: 500,000,000 units of fuel (about one
//! instruction each), 5 s of wall time, 24 MiB of linear memory, 512 KiB of stack, 20,000 table
//! elements, 4 MiB passed to the host at once, 10,000 host calls, 64 KiB of log (further lines are
//! counted and dropped). A component has at most 4 MiB. One host call answers at most 65,536
//! points of a series or 1,048,576 bytes of an artifact. A report has at most 100 findings of
//! 1,000 bytes.
//!
//! # What a hostile hook can still do
//!
//! - Judge wrongly: accept everything, reject everything, or, with the permission `recompute`,
//!   invent metrics. Whoever installs a hook trusts its judgement, not its code.
//! - Say in findings, log and metrics whatever it saw, in up to about 170 KB for each call. Findings
//!   reach people and mutators: do not grant a hook what these must not learn.
//! - Take its time: up to the deadline for every evaluation, on the core of the evaluation.
//! - Be slow to compile. Compilation has no limit but the size of the file, and can take seconds
//!   and more memory than a call.
//! - Profit from a hole in wasmtime. It runs in the host's process; there is no second wall.

mod cache;
mod diff;
mod error;
mod evidence;
mod gate;
mod hook;
mod host;
mod inspect;
mod limits;
mod manifest;
mod report;
mod since_v0_1_0;
mod state;
mod subject;
mod text;

pub use error::{Call, HookError, Label};
pub use evidence::{MAX_ARTIFACT_BYTES, MAX_POINTS};
pub use hook::Hook;
pub use host::HookHost;
pub use limits::{Limits, Usage};
pub use manifest::Manifest;
pub use report::{Level, LogLine, MAX_FINDINGS, MAX_MESSAGE_BYTES, Report};
pub use subject::Subject;
