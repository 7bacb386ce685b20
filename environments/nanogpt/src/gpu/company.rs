//! Whether somebody else computes on a GPU that we measure on.

use super::watch::{Gauge, Reading};
use forerunner_core::{Error, Result};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

/// Refuses to measure beside somebody else on the GPU called `name`.
///
/// # Errors
/// When there is somebody.
pub(super) fn refuse_company(name: &str, present: &[u32]) -> Result<()> {
    if present.is_empty() {
        return Ok(());
    }
    Err(Error::Failed(format!(
        "another program computes on GPU {name}: {}\nhint: wait for its end, or end it; this track is \
         measured by the wall clock, which it would spoil",
        people(present.iter().copied())
    )))
}

/// Process numbers with names, where the system tells.
pub(super) fn people(pids: impl Iterator<Item = u32>) -> String {
    let person = |pid: u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let name = crate::telemetry::printable(name.trim(), 20);
        if name.is_empty() { format!("pid {pid}") } else { format!("pid {pid} ({name})") }
    };
    pids.map(person).collect::<Vec<_>>().join(", ")
}

/// A gauge whose processes are only those that are not ours.
pub(super) struct Apart<G> {
    gauge: G,
    is_a_stranger: fn(u32) -> bool,
    known: BTreeMap<u32, bool>,
}

impl<G: Gauge> Apart<G> {
    pub(super) fn new(gauge: G) -> Self {
        Self { gauge, is_a_stranger, known: BTreeMap::new() }
    }
}

impl<G: Gauge> Gauge for Apart<G> {
    fn read(&mut self) -> Reading {
        let mut reading = self.gauge.read();
        if let Some(processes) = &mut reading.processes {
            // Asked once, while it lives: of the dead nobody knows whose they were.
            let is_a_stranger = self.is_a_stranger;
            processes.retain(|&pid| *self.known.entry(pid).or_insert_with(|| is_a_stranger(pid)));
        }
        reading
    }
}

/// Whether a process that is said to compute on a GPU is neither this one nor below it.
///
/// In a container NVML may number processes as the machine outside does. A number that means nothing
/// here, or that is here somebody's who has no GPU open, is therefore nobody's: it may as well be our
/// own program's.
fn is_a_stranger(pid: u32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap_or(false)
        && !is_ours(pid)
        && has_a_gpu_open(pid) != Some(false)
}

/// Whether a process is this one, or below it.
fn is_ours(pid: u32) -> bool {
    let mut seen = BTreeSet::new();
    let mut next = Some(pid);
    while let Some(pid) = next.filter(|&pid| seen.insert(pid)) {
        if pid == std::process::id() {
            return true;
        }
        next = parent(pid);
    }
    false
}

/// `None` where the system does not tell, as of other users' processes.
fn has_a_gpu_open(pid: u32) -> Option<bool> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let mut targets = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    Some(targets.any(|target| target.to_string_lossy().starts_with("/dev/nvidia")))
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Always sees the same.
    struct Still(Reading);

    impl Gauge for Still {
        fn read(&mut self) -> Reading {
            self.0.clone()
        }
    }

    #[test]
    fn our_own_processes_are_no_company() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let (own, of_child) = (std::process::id(), child.id());
        assert!(is_ours(own) && is_ours(of_child) && !is_ours(1) && !is_ours(u32::MAX));
        assert_eq!(has_a_gpu_open(of_child), Some(false));
        assert_eq!(has_a_gpu_open(u32::MAX), None);
        assert!(!is_a_stranger(own) && !is_a_stranger(of_child) && !is_a_stranger(u32::MAX));
        child.kill().unwrap();
        child.wait().unwrap();
        let all = Reading { processes: Some(vec![own, 1, 2]), ..Reading::default() };
        let mut apart = Apart { is_a_stranger: |pid| pid == 1, ..Apart::new(Still(all)) };
        assert_eq!(apart.read().processes.unwrap(), [1]);
        let error = refuse_company("GPU-7", &[1]).unwrap_err().to_string();
        assert!(error.starts_with("another program computes on GPU GPU-7: pid 1"), "{error}");
        assert!(refuse_company("GPU-7", &[]).is_ok());
    }
}
