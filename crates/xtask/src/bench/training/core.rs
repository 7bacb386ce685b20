//! The core on which both sides are measured.

use anyhow::{Context, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use std::process::{Child, Command};

/// One core.
#[derive(Debug, Clone, Copy, serde::Serialize)]
#[serde(transparent)]
pub(super) struct Core(usize);

impl Core {
    /// The last core that this process may use: the first one does most of the system's work.
    pub(super) fn last() -> Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let last = (0..CpuSet::count()).rev().find(|&core| allowed.is_set(core) == Ok(true));
        last.map(Self).context("this process may use no core")
    }

    /// Starts a process that stays on this core.
    pub(super) fn spawn(self, command: &mut Command) -> Result<Child> {
        let this_thread = Pid::from_raw(0);
        let before = sched_getaffinity(this_thread)?;
        let mut only = CpuSet::new();
        only.set(self.0)?;
        // A child stays where its parent's thread was when it was started.
        sched_setaffinity(this_thread, &only)?;
        let child = command.spawn();
        sched_setaffinity(this_thread, &before)?;
        child.with_context(|| format!("cannot start {}", crate::command::shown(command)))
    }
}

impl std::fmt::Display for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A child that does not outlive its owner.
#[derive(Debug)]
pub(super) struct Guarded(pub(super) Child);

impl Guarded {
    pub(super) fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap_or(i32::MAX)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // After a good end there is nothing left to do, and both calls fail or do nothing.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    #[test]
    fn a_child_stays_on_the_core_and_we_do_not() {
        let before = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let core = Core::last().unwrap();
        let child = core.spawn(Command::new("cat").stdin(Stdio::piped())).unwrap();
        let child = Guarded(child);
        let of_child = sched_getaffinity(Pid::from_raw(child.pid())).unwrap();
        let allowed = |cores: &CpuSet| {
            (0..CpuSet::count()).filter(|&c| cores.is_set(c) == Ok(true)).collect::<Vec<_>>()
        };
        assert_eq!(allowed(&of_child), [core.0]);
        assert_eq!(sched_getaffinity(Pid::from_raw(0)).unwrap(), before);
    }
}
