//! Finding hooks, loading them, and deciding what each may look at and do.

use super::{Seat, Verification, judge::Judge};
use crate::{config::HookEntry, registry::Registry};
use forerunner_core::{EnvironmentSpec, Permission};
use forerunner_verify::{HookError, HookHost, Limits};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Where hooks come from.
#[derive(Debug, Clone, Copy)]
pub struct Hooks<'a> {
    /// Has the installed ones.
    pub registry: &'a Registry,
    /// The operator's, besides those of the environment.
    pub entries: &'a [HookEntry],
    /// Folder for compiled components.
    pub cache_dir: &'a Path,
}

/// The hooks of a run cannot be used; nothing was measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerificationError {
    /// Nothing of that name is installed.
    #[error(
        "no hook `{name}` is installed, which {wanted_by} asks for (installed: {known}; searched: {searched})\nhint: put `{name}.wasm` into one of the searched folders, name another folder of plugins with `--plugins DIR` or FORERUNNER_PLUGINS, or give a file with `path = \"…\"` in the `[[hook]]` table"
    )]
    Missing {
        /// What was asked for.
        name: String,
        /// Who asked.
        wanted_by: String,
        /// What there is.
        known: String,
        /// Where it was looked for.
        searched: String,
    },
    /// The file is not there.
    #[error("cannot find the hook {path}\nhint: `path` is looked up from the folder in which forerunner was started", path = path.display())]
    NoFile {
        /// The file.
        path: PathBuf,
    },
    /// The file is no hook that can be used.
    #[error("{path}: {source}", path = path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why, with hook and version where they are known.
        source: Box<HookError>,
    },
    /// What runs hooks does not start.
    #[error(transparent)]
    Host(Box<HookError>),
    /// It wants to look at more than it may.
    #[error(
        "{hook} wants what it is not given: {missing} (granted by the environment: {granted}; allowed by the operator: {allowed})\nhint: give it in the `allow` of its `[[hook]]` table if it is missing there; what the environment does not grant is only for hooks of other environments"
    )]
    NotPermitted {
        /// Name and version.
        hook: String,
        /// What it wants and does not get.
        missing: String,
        /// What the environment grants.
        granted: String,
        /// What the operator allows.
        allowed: String,
    },
    /// Findings would not tell which of them speaks.
    #[error("two hooks call themselves `{name}`\nhint: leave one of them out")]
    SameName {
        /// What both say.
        name: String,
    },
}

/// A hook that is to be loaded.
pub(super) struct Wanted {
    pub(super) path: PathBuf,
    /// What the operator allows; everything unless given.
    pub(super) allow: Option<BTreeSet<Permission>>,
}

impl Verification {
    /// Loads the environment's hooks and the operator's. Without any, nothing is started.
    ///
    /// # Errors
    /// When one is missing, is no hook, or wants more than it may.
    pub fn load(spec: &EnvironmentSpec, hooks: &Hooks<'_>) -> Result<Self, VerificationError> {
        let wanted = wanted(spec, hooks)?;
        if wanted.is_empty() {
            return Ok(Self::default());
        }
        let cache_dir = hooks.cache_dir.join("hooks");
        let host = HookHost::new(Limits::default(), Some(&cache_dir))
            .map_err(|error| VerificationError::Host(Box::new(error)))?;
        Self::seat(spec, wanted, |path| {
            let hook = host.load(path).map_err(|source| {
                let path = path.to_owned();
                VerificationError::Unusable { path, source: Box::new(source) }
            })?;
            Ok(Box::new(hook))
        })
    }

    /// Seats every wanted hook, which `open` loads.
    pub(super) fn seat(
        spec: &EnvironmentSpec,
        wanted: Vec<Wanted>,
        open: impl Fn(&Path) -> Result<Box<dyn Judge>, VerificationError>,
    ) -> Result<Self, VerificationError> {
        let granted: BTreeSet<Permission> = spec.grants.iter().copied().collect();
        let mut seats: Vec<Seat> = Vec::new();
        for Wanted { path, allow } in wanted {
            let judge = open(&path)?;
            let name = judge.name().to_owned();
            let permitted = match &allow {
                Some(allowed) => granted.intersection(allowed).copied().collect(),
                None => granted.clone(),
            };
            if !judge.wants().is_subset(&permitted) {
                return Err(VerificationError::NotPermitted {
                    missing: list(judge.wants().difference(&permitted)),
                    granted: list(&granted),
                    allowed: allow.as_ref().map_or("everything".to_owned(), list),
                    hook: format!("hook `{name}` {}", judge.version()),
                });
            }
            if seats.iter().any(|seat| seat.judge.name() == name) {
                return Err(VerificationError::SameName { name });
            }
            seats.push(Seat { judge, permitted });
        }
        Ok(Self { environment: spec.name.clone(), track: spec.track.clone(), seats })
    }
}

/// The environment's hooks, then the operator's. What the operator says of one of the
/// environment's restricts it.
pub(super) fn wanted(
    spec: &EnvironmentSpec,
    hooks: &Hooks<'_>,
) -> Result<Vec<Wanted>, VerificationError> {
    let installed = |name: &str, wanted_by: String| {
        hooks.registry.hook(name).ok_or_else(|| VerificationError::Missing {
            name: name.to_owned(),
            wanted_by,
            known: words(hooks.registry.hooks().into_iter().map(|(name, _)| name)),
            searched: words(hooks.registry.hook_folders().map(|path| path.display().to_string())),
        })
    };
    let allow = |entry: &HookEntry| Some(entry.allow.as_ref()?.iter().copied().collect());
    let mut wanted = Vec::new();
    let own: BTreeSet<&String> = spec.hooks.iter().collect();
    for name in own.iter().copied() {
        let path = installed(name, format!("the environment `{}`", spec.name))?;
        let entry = hooks.entries.iter().find(|entry| entry.name.as_ref() == Some(name));
        wanted.push(Wanted { path, allow: entry.and_then(allow) });
    }
    for entry in hooks.entries {
        let path = match (&entry.path, &entry.name) {
            (Some(path), _) if path.is_file() => path.clone(),
            (Some(path), _) => return Err(VerificationError::NoFile { path: path.clone() }),
            (None, Some(name)) if own.contains(name) => continue,
            (None, Some(name)) => installed(name, "the run file".to_owned())?,
            (None, None) => continue,
        };
        wanted.push(Wanted { path, allow: allow(entry) });
    }
    Ok(wanted)
}

fn list<'a>(permissions: impl IntoIterator<Item = &'a Permission>) -> String {
    words(permissions.into_iter().map(|one| one.as_str().to_owned()))
}

fn words(words: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = words.collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}
