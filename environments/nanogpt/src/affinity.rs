//! Keeps the supervising thread on the trainer's core while it measures: the calibration kernel
//! must run where the trainer runs.

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// The calling thread stays on one core until this is dropped.
pub(crate) struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// Pins the calling thread to `core`. `None` when the system does not allow it.
    pub(crate) fn to(core: usize) -> Option<Self> {
        let this_thread = Pid::from_raw(0);
        let before = sched_getaffinity(this_thread).ok()?;
        let mut only = CpuSet::new();
        only.set(core).ok()?;
        sched_setaffinity(this_thread, &only).ok()?;
        Some(Self { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}

/// The core to measure on when the host gave none: the last one that this process may use.
pub(crate) fn default_core() -> Option<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).ok()?;
    (0..CpuSet::count()).rev().find(|&core| allowed.is_set(core) == Ok(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinning_is_undone() {
        let before = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let core = default_core().unwrap();
        let pinned = Pinned::to(core).unwrap();
        assert_eq!(default_core(), Some(core));
        assert!((0..core).all(|other| {
            sched_getaffinity(Pid::from_raw(0)).unwrap().is_set(other) == Ok(false)
        }));
        drop(pinned);
        assert_eq!(sched_getaffinity(Pid::from_raw(0)).unwrap(), before);
        assert!(Pinned::to(CpuSet::count() - 1).is_none());
    }
}
