//! Which layers confine a process, and what this machine grants.

use std::{env, fmt, sync::OnceLock};

use serde::{Deserialize, Serialize};

use crate::{Error, launch};

/// Which layers confine a process; printed with every evaluation.
///
/// Displayed as one line, strongest first: `landlock 7, seccomp, rlimits, …`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Layers {
    /// Capabilities are those of a namespace of its own, and tasks are counted in it.
    pub user_namespace: bool,
    /// Other processes cannot be named, and the death of its first process kills them all.
    pub pid_namespace: bool,
    /// No network interface but an unconfigured loopback (with its own IPC and host names).
    pub network_namespace: bool,
    /// Its own table of mounts.
    pub mount_namespace: bool,
    /// Every mount but the work directory is read-only, which also stops what Landlock does not
    /// see: changes of permissions, owners and times.
    pub read_only_view: bool,
    /// Landlock's version: 0 none, 1 files, 2 moves, 3 truncation, 4 TCP, 5 device control,
    /// 6 signals and abstract sockets. The seccomp filter stands in for what is missing.
    pub landlock_abi: u32,
    /// System calls are limited to an allow list.
    pub seccomp: bool,
    /// Memory, CPU, tasks, file size and descriptors are limited by the kernel.
    pub rlimits: bool,
    /// `/proc` shows only the sandbox's own processes. Landlock closes it either way.
    pub private_proc: bool,
    /// Orphans fall to the init, which kills them.
    pub subreaper: bool,
    /// Started by root, it runs as `nobody`.
    pub dropped_root: bool,
    /// As `nobody` it kept the right to pass and read through folders closed to others, because a
    /// granted path lies below one. Landlock still decides what can be opened.
    pub kept_read_capability: bool,
    /// The user waived the sandbox: nothing but limits and tree kill.
    pub unsandboxed: bool,
}

impl Layers {
    /// Whether the layers that need no privilege are all there: Landlock, seccomp, resource limits
    /// and whole-tree kill. Nothing untrusted runs without them unless the user waives it.
    pub fn floor_holds(&self) -> bool {
        self.landlock_abi >= 1
            && self.seccomp
            && self.rlimits
            && self.subreaper
            && !self.unsandboxed
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let landlock = format!("landlock {}", self.landlock_abi);
        let names = [
            (self.unsandboxed, "NO SANDBOX"),
            (self.landlock_abi > 0, landlock.as_str()),
            (self.seccomp, "seccomp"),
            (self.rlimits, "rlimits"),
            (self.subreaper, "subreaper"),
            (self.user_namespace, "user namespace"),
            (self.pid_namespace, "pid namespace"),
            (self.network_namespace, "network namespace"),
            (self.mount_namespace, "mount namespace"),
            (self.read_only_view, "read-only view"),
            (self.private_proc, "private /proc"),
            (self.dropped_root, "nobody"),
            (self.kept_read_capability, "read capability kept"),
        ];
        let active: Vec<_> = names.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        f.write_str(&active.join(", "))
    }
}

/// What this machine grants: really starts a tiny process and sets up every layer for it. The
/// answer is kept for the life of this process.
///
/// # Errors
///
/// [`Error::FloorMissing`] when not even the floor can be had.
pub fn probe() -> Result<Layers, Error> {
    static PROBED: [OnceLock<Layers>; 2] = [const { OnceLock::new() }; 2];
    let cell = &PROBED[usize::from(floor_forced()?)];
    if let Some(layers) = cell.get() {
        return Ok(layers.clone());
    }
    let layers = launch::rehearse()?;
    Ok(cell.get_or_init(|| layers).clone())
}

/// Whether `FORERUNNER_SANDBOX_LAYERS=floor` asks to leave the namespaces out, as on machines that
/// refuse them.
pub(crate) fn floor_forced() -> Result<bool, Error> {
    match env::var_os("FORERUNNER_SANDBOX_LAYERS") {
        None => Ok(false),
        Some(value) if value == "all" || value.is_empty() => Ok(false),
        Some(value) if value == "floor" => Ok(true),
        Some(value) => Err(Error::UnknownLayers(value.to_string_lossy().into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_names_the_active_layers() {
        let mut layers = Layers {
            landlock_abi: 7,
            seccomp: true,
            rlimits: true,
            subreaper: true,
            pid_namespace: true,
            ..Layers::default()
        };
        assert_eq!(layers.to_string(), "landlock 7, seccomp, rlimits, subreaper, pid namespace");
        assert!(layers.floor_holds());
        layers.seccomp = false;
        assert!(!layers.floor_holds());
        assert_eq!(Layers { unsandboxed: true, ..Layers::default() }.to_string(), "NO SANDBOX");
    }
}
