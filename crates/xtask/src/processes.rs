//! Looking at other processes through /proc.

use nix::{sys::signal::Signal, time::ClockId, unistd::Pid};
use std::{collections::BTreeMap, fs, time::Duration};

/// A process and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    /// Its arguments, separated by spaces.
    pub(crate) command: String,
}

/// Every process that is alive; zombies are not.
fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(read).collect()
}

fn read(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything; what follows the last bracket is plain.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
    if matches!(state, "Z" | "X") {
        return None;
    }
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command).replace('\0', " ").trim_end().to_owned();
    Some(Process { pid, parent, command })
}

/// Processes that were started with `NAME=value` in their environment, or by one that was.
pub(crate) fn marked(name: &str, value: &str) -> Vec<Process> {
    let marker = format!("{name}={value}");
    let is_marked = |process: &Process| {
        fs::read(format!("/proc/{}/environ", process.pid)).is_ok_and(|environment| {
            environment.split(|byte| *byte == 0).any(|one| one == marker.as_bytes())
        })
    };
    all().into_iter().filter(is_marked).collect()
}

/// The process and everything below it.
pub(crate) fn tree(root: i32) -> Vec<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for Process { pid, parent, .. } in all() {
        children.entry(parent).or_default().push(pid);
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children.get(pid).into_iter().flatten().copied().collect::<Vec<_>>());
        next += 1;
    }
    found
}

/// CPU time of a process that is alive, all threads, ended ones included; in nanoseconds steps.
pub(crate) fn cpu_time(pid: i32) -> Option<Duration> {
    let clock = nix::time::clock_getcpuclockid(Pid::from_raw(pid)).ok()?;
    ClockId::now(clock).ok().map(Duration::from)
}

/// The most memory that a process ever had resident, in bytes. Pages shared with others count.
pub(crate) fn peak_memory(pid: i32) -> Option<u64> {
    kilobytes(&format!("/proc/{pid}/status"), "VmHWM:")
}

/// The memory that a process has now, in bytes; a page shared by n processes counts 1/n.
pub(crate) fn proportional_memory(pid: i32) -> Option<u64> {
    kilobytes(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

fn kilobytes(path: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// Kills one process. One that is gone already is no error.
pub(crate) fn kill(pid: i32) {
    let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_can_be_read() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(tree(pid).contains(&pid));
        assert!(cpu_time(pid).unwrap() > Duration::ZERO);
        let (peak, now) = (peak_memory(pid).unwrap(), proportional_memory(pid).unwrap());
        assert!(peak >= now && now > 0, "{peak} {now}");
    }

    #[test]
    fn a_marked_child_is_found_while_it_lives() {
        let value = format!("{}-marked", std::process::id());
        let mut child = std::process::Command::new("cat")
            .env("FORERUNNER_PROCESS_TEST", &value)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let find = || marked("FORERUNNER_PROCESS_TEST", &value);
        assert!(find().iter().any(|process| process.pid == pid));
        kill(pid);
        child.wait().unwrap();
        assert_eq!(find(), []);
    }
}
