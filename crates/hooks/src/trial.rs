//! A hook in the real host, outside any run: what it says of itself, and what it says of evidence.

use crate::Recorded;
use forerunner_core::{Evaluation, Metrics, Permission, Program, Slice};
use forerunner_verify::{Hook, HookError, HookHost, Limits, Manifest, Report, Subject};
use serde::Serialize;
use std::{collections::BTreeSet, path::Path, time::Instant};

/// What a look at a component found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checked {
    /// Name, version, and what it wants.
    #[serde(flatten)]
    pub manifest: Manifest,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    /// Size of the file.
    pub bytes: u64,
    /// Wall seconds from the file to the hook's description, compilation included.
    pub load_seconds: f64,
    /// What it said of an evaluation without any evidence.
    pub on_nothing: OnNothing,
}

/// What a hook says of an evaluation without any evidence. Any of it is fine.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNothing {
    /// A report.
    Reported(Report),
    /// That it cannot do its work.
    Declined(String),
}

/// Loads a component as a run would, compiles it afresh, and calls it once without evidence.
///
/// # Errors
/// When a run would refuse the hook, or it misbehaves: traps, does not return, answers nonsense.
pub fn check(path: &Path) -> Result<Checked, HookError> {
    let host = HookHost::new(Limits::default(), None)?;
    let started = Instant::now();
    let hook = host.load(path)?;
    let load_seconds = started.elapsed().as_secs_f64();
    let nothing = Evaluation { metrics: Metrics::new(), ..Evaluation::accepted("", 0.0) };
    let subject = Subject {
        environment: "none",
        track: "none",
        program: &Program::default(),
        parent: None,
        seed: 0,
        slice: Slice::Dev,
        evaluation: &nothing,
    };
    let on_nothing = match hook.verify(&subject, &everything()) {
        Ok(report) => OnNothing::Reported(report),
        Err(error @ HookError::Declined { .. }) => OnNothing::Declined(error.to_string()),
        Err(error) => return Err(error),
    };
    Ok(Checked {
        manifest: hook.manifest().clone(),
        sha256: hook.digest().to_owned(),
        // The hook was read from it a moment ago.
        bytes: path.metadata().map_or(0, |facts| facts.len()),
        load_seconds,
        on_nothing,
    })
}

/// What a hook concludes from recorded evidence, and which hook it was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tried {
    /// Name, version, and what it wants.
    pub hook: Manifest,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    /// Its answer.
    pub report: Report,
}

/// Has a hook judge recorded evidence. It is permitted what `allow` says; everything without.
///
/// # Errors
/// When a run would call the evaluation unverified.
pub fn run(
    path: &Path,
    recorded: &Recorded,
    allow: Option<&BTreeSet<Permission>>,
) -> Result<Tried, HookError> {
    let host = HookHost::new(Limits::default(), None)?;
    let hook: Hook = host.load(path)?;
    let everything = everything();
    let report = hook.verify(&recorded.subject(), allow.unwrap_or(&everything))?;
    Ok(Tried { hook: hook.manifest().clone(), sha256: hook.digest().to_owned(), report })
}

fn everything() -> BTreeSet<Permission> {
    Permission::ALL.into()
}
