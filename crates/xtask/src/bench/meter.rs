//! Measures a host and its workers while they run.

use crate::processes;
use std::{path::Path, time::Duration};

/// What a host and its workers have used up to an instant.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reading {
    pub(super) cpu: Duration,
    /// Sum over the processes of the most memory each ever had resident. Pages that they share
    /// count several times, so the true peak is below.
    pub(super) peak_memory: u64,
    /// Memory now, each shared page counted once.
    pub(super) memory: u64,
    /// Size of the run's folder in bytes.
    pub(super) output: u64,
}

/// Reads the tree below `host` and the folder of its run.
///
/// The processes' own CPU clocks are read, to the nanosecond; workers live as long as their host,
/// so that nothing is missed.
pub(super) fn read(host: i32, folder: &Path) -> Reading {
    let mut reading = Reading { output: size_of(folder), ..Reading::default() };
    for pid in processes::tree(host) {
        reading.cpu += processes::cpu_time(pid).unwrap_or_default();
        reading.peak_memory += processes::peak_memory(pid).unwrap_or_default();
        reading.memory += processes::proportional_memory(pid).unwrap_or_default();
    }
    reading
}

fn size_of(folder: &Path) -> u64 {
    let files = walkdir::WalkDir::new(folder).into_iter().flatten();
    files.filter_map(|entry| entry.metadata().ok()).filter(|m| m.is_file()).map(|m| m.len()).sum()
}

/// CPU time of every child that has ended and been waited for, and of theirs.
pub(super) fn children_cpu() -> Duration {
    use nix::sys::resource::{UsageWho, getrusage};
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return Duration::ZERO };
    let micros = [usage.user_time(), usage.system_time()].map(|time| {
        let micros = time.tv_sec() * 1_000_000 + time.tv_usec();
        u64::try_from(micros).unwrap_or(0)
    });
    Duration::from_micros(micros.iter().sum())
}
