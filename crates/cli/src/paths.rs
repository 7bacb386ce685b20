//! Where things are: the installation, its plugins, presets and data.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Where runs go unless a command says otherwise.
const RUNS: &str = "runs";
/// What makes a folder that of a run.
const STORE: &str = "store.sqlite";
const STORE_LOG: &str = "store.sqlite-wal";

/// The installation this binary belongs to: FORERUNNER_PREFIX, or the folder above `bin/`.
pub(crate) fn prefix() -> Option<PathBuf> {
    if let Some(prefix) = std::env::var_os("FORERUNNER_PREFIX") {
        return Some(PathBuf::from(prefix));
    }
    let exe = std::env::current_exe().ok()?;
    let prefix = exe.parent()?.parent()?;
    prefix.join("lib/forerunner").is_dir().then(|| prefix.to_owned())
}

/// Folders with plugins: those given, FORERUNNER_PLUGINS (separated by `:`), the installation's.
pub(crate) fn plugin_folders(given: &[PathBuf]) -> Vec<PathBuf> {
    let mut folders = given.to_vec();
    if let Some(paths) = std::env::var_os("FORERUNNER_PLUGINS") {
        folders.extend(std::env::split_paths(&paths));
    }
    folders.extend(prefix().map(|prefix| prefix.join("lib/forerunner/plugins")));
    folders
}

/// Folders with presets.
pub(crate) fn preset_folders() -> Vec<PathBuf> {
    prefix().map(|prefix| prefix.join("share/forerunner/presets")).into_iter().collect()
}

/// The command that starts a worker: this binary itself.
pub(crate) fn worker_command() -> std::io::Result<Vec<PathBuf>> {
    Ok(vec![std::env::current_exe()?, PathBuf::from("worker")])
}

/// The next free `runs/NAME-NNN`.
pub(crate) fn next_run_folder(name: &str) -> PathBuf {
    let stem = Path::new(name).file_stem().map_or_else(|| "run".into(), |s| s.to_string_lossy());
    (1..)
        .map(|number| PathBuf::from(RUNS).join(format!("{stem}-{number:03}")))
        .find(|folder| !folder.exists())
        .unwrap_or_else(|| PathBuf::from(RUNS).join(stem.as_ref()))
}

/// Runs below a folder, by name.
pub(crate) fn runs_in(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut runs: Vec<PathBuf> = std::fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_run(path))
        .collect();
    runs.sort();
    Ok(runs)
}

/// Whether a folder is that of a run.
pub(crate) fn is_run(folder: &Path) -> bool {
    folder.join(STORE).exists()
}

/// The run in `runs/` that was written to last.
pub(crate) fn latest_run() -> Option<PathBuf> {
    // What a run that goes on has written last is in the store's log of changes.
    let written = |run: &PathBuf| {
        let changed =
            |name: &str| std::fs::metadata(run.join(name)).and_then(|m| m.modified()).ok();
        changed(STORE).max(changed(STORE_LOG))
    };
    runs_in(Path::new(RUNS)).ok()?.into_iter().max_by_key(written)
}

/// A folder that all runs of this user on this machine share while they last: below
/// XDG_RUNTIME_DIR or, for runs from outside a login session, where that usually is.
pub(crate) fn runtime_folder() -> PathBuf {
    let given = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty());
    if let Some(folder) = given {
        return PathBuf::from(folder).join("forerunner");
    }
    let user = std::fs::metadata("/proc/self").map(|data| data.uid()).unwrap_or_default();
    let session = PathBuf::from(format!("/run/user/{user}"));
    if session.is_dir() {
        return session.join("forerunner");
    }
    std::env::temp_dir().join(format!("forerunner-{user}"))
}

/// A folder for single evaluations: the user's cache, or a temporary one.
pub(crate) fn cache_folder() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(home)
        .unwrap_or_else(std::env::temp_dir)
        .join("forerunner")
}
