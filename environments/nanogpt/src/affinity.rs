//! Keeps the supervising thread on the trainer's cores while it measures: the calibration kernel
//! must run where the trainer runs.

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// The calling thread stays on some cores until this is dropped.
pub(crate) struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// Pins the calling thread to `cores`. `None` when the system does not allow it.
    pub(crate) fn to(cores: &[usize]) -> Option<Self> {
        let this_thread = Pid::from_raw(0);
        let before = sched_getaffinity(this_thread).ok()?;
        let mut only = CpuSet::new();
        cores.iter().try_for_each(|&core| only.set(core)).ok()?;
        sched_setaffinity(this_thread, &only).ok()?;
        Some(Self { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}

/// The cores to measure on when the host gave none: the last ones that this process may use, fewer
/// than `count` where it may use fewer.
pub(crate) fn default_cores(count: usize) -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_else(|_| CpuSet::new());
    let may_use = |&core: &usize| allowed.is_set(core) == Ok(true);
    (0..CpuSet::count()).rev().filter(may_use).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinning_is_undone() {
        let before = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let all = default_cores(usize::MAX);
        let last = default_cores(1);
        assert_eq!(last, all[..1]);
        let pinned = Pinned::to(&last).unwrap();
        assert_eq!(default_cores(usize::MAX), last);
        drop(pinned);
        assert_eq!(sched_getaffinity(Pid::from_raw(0)).unwrap(), before);
        let some = Pinned::to(&all[..all.len().min(2)]).unwrap();
        assert_eq!(default_cores(usize::MAX), all[..all.len().min(2)]);
        drop(some);
        assert!(Pinned::to(&[CpuSet::count() - 1]).is_none());
    }
}
