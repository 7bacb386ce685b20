//! The cores on which both sides are measured.

use anyhow::{Context, Result, ensure};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use std::process::{Child, Command};

/// As many cores as there are threads.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(transparent)]
pub(super) struct Cores(Vec<usize>);

impl Cores {
    /// The last cores that this process may use: the first one does most of the system's work.
    pub(super) fn last(count: usize) -> Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let may_use = |&core: &usize| allowed.is_set(core) == Ok(true);
        let last: Vec<usize> = (0..CpuSet::count()).rev().filter(may_use).take(count).collect();
        ensure!(
            last.len() == count,
            "{count} threads need as many cores, and this process may use {}",
            last.len()
        );
        Ok(Self(last))
    }

    /// Threads of a process that is measured here.
    pub(super) fn threads(&self) -> usize {
        self.0.len()
    }

    /// Starts a process that stays on these cores.
    pub(super) fn spawn(&self, command: &mut Command) -> Result<Child> {
        let this_thread = Pid::from_raw(0);
        let before = sched_getaffinity(this_thread)?;
        let mut only = CpuSet::new();
        self.0.iter().try_for_each(|&core| only.set(core))?;
        // A child stays where its parent's thread was when it was started.
        sched_setaffinity(this_thread, &only)?;
        let child = command.spawn();
        sched_setaffinity(this_thread, &before)?;
        child.with_context(|| format!("cannot start {}", crate::command::shown(command)))
    }
}

impl std::fmt::Display for Cores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cores: Vec<_> = self.0.iter().map(usize::to_string).collect();
        write!(f, "{} on core {}", threads(self.threads()), cores.join(" and "))
    }
}

fn threads(count: usize) -> String {
    if count == 1 { "one thread".to_owned() } else { format!("{count} threads") }
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
        let core = Cores::last(1).unwrap();
        let child = core.spawn(Command::new("cat").stdin(Stdio::piped())).unwrap();
        let child = Guarded(child);
        let of_child = sched_getaffinity(Pid::from_raw(child.pid())).unwrap();
        let allowed = |cores: &CpuSet| {
            (0..CpuSet::count()).filter(|&c| cores.is_set(c) == Ok(true)).collect::<Vec<_>>()
        };
        assert_eq!(allowed(&of_child), core.0);
        assert_eq!(sched_getaffinity(Pid::from_raw(0)).unwrap(), before);
        assert_eq!(core.to_string(), format!("one thread on core {}", core.0[0]));
        let error = Cores::last(CpuSet::count() + 1).unwrap_err().to_string();
        assert!(error.contains("need as many cores"), "{error}");
    }
}
