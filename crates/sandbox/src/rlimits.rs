//! Resource limits: what the kernel itself refuses, per process.
//!
//! | limit | value | against |
//! | --- | --- | --- |
//! | `DATA` | memory + ¼ + 256 MiB | one huge allocation between two polls of the watchdog |
//! | `AS` | 2 × memory + 8 GiB | endless shared or reserved mappings |
//! | `CPU` | `cpu_seconds` (SIGXCPU), one more (SIGKILL) | endless loops |
//! | `NPROC` | `processes` | fork and thread bombs |
//! | `FSIZE` | `file_bytes` | one huge file |
//! | `NOFILE` | `open_files` | descriptor exhaustion |
//! | `CORE`, `MEMLOCK`, `MSGQUEUE`, `RTPRIO` | 0 | core dumps, pinned memory, queues, real time |
//!
//! `DATA` counts what a program can really write to; `AS` also counts address space that is only
//! reserved (64 MiB for each thread that allocates, with glibc) and so has to be generous. Both
//! are per process. The watchdog's poll of the whole tree is the limit proper; these bound what
//! can happen between two polls.
//!
//! With a GPU some of this cannot hold: its driver reserves address space as large as the memory of
//! device and host together, keeps data in files in memory, and has threads of its own.
//!
//! | limit | with a GPU |
//! | --- | --- |
//! | `DATA`, `AS` | none: resident memory and shared mappings are polled (see `watchdog`) |
//! | `FSIZE` | at least `Gpu::MEMORY_FILE_BYTES` |
//! | `NPROC` | `Gpu::TASKS` more |
//!
//! Not bounded here: the number of files and so the sum of their sizes. The watchdog looks at those.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{Gpu, Policy, children};

/// The init and pid 1 of a process namespace count as tasks of their user namespace.
const OWN_TASKS: u64 = 2;

/// Without a user namespace the kernel counts all tasks of the user: room for what others start
/// meanwhile, such as other sandboxes.
const TASKS_OF_OTHERS: u64 = 64;

/// Applies all limits to the calling process. Its own user namespace, if it has one, does its own
/// counting of tasks.
pub(crate) fn apply(policy: &Policy, user_namespace: bool) -> io::Result<()> {
    let limits = &policy.limits;
    let memory = limits.memory_bytes;
    let mut data = memory.saturating_add(memory / 4).saturating_add(256 << 20);
    let mut address_space = memory.saturating_mul(2).saturating_add(8 << 30);
    let (mut tasks, mut file_bytes) = (limits.processes, limits.file_bytes);
    if policy.gpu.is_some() {
        (data, address_space) = (u64::MAX, u64::MAX);
        tasks = tasks.saturating_add(Gpu::TASKS);
        file_bytes = file_bytes.max(Gpu::MEMORY_FILE_BYTES);
    }
    let others = if user_namespace { OWN_TASKS } else { count_tasks()? + TASKS_OF_OTHERS };
    let fixed = [
        (Resource::RLIMIT_DATA, data),
        (Resource::RLIMIT_AS, address_space),
        (Resource::RLIMIT_NPROC, tasks.saturating_add(others)),
        (Resource::RLIMIT_FSIZE, file_bytes),
        (Resource::RLIMIT_NOFILE, limits.open_files),
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_MEMLOCK, 0),
        (Resource::RLIMIT_MSGQUEUE, 0),
        (Resource::RLIMIT_RTPRIO, 0),
    ];
    for (resource, value) in fixed {
        lower(resource, value, value)?;
    }
    let cpu = limits.cpu_seconds;
    lower(Resource::RLIMIT_CPU, cpu, cpu.saturating_add(1))
}

/// Never above what we were allowed ourselves: raising needs privileges.
fn lower(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let (_, own) = getrlimit(resource)?;
    Ok(setrlimit(resource, soft.min(own), hard.min(own))?)
}

/// How many tasks the kernel counts for this user, ours included, a few too many rather than too
/// few: a limit under which a process can just be made.
///
/// `/proc` would tell less: a container does not show all tasks of a user, and reading it is slow.
fn count_tasks() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NPROC)?;
    let can_fork_at = |limit: u64| {
        setrlimit(Resource::RLIMIT_NPROC, limit, hard)?;
        let Ok(child) = children::fork(|| 0) else { return io::Result::Ok(false) };
        children::reap_one(child, &mut |_, _| ());
        Ok(true)
    };
    let (mut impossible, mut possible) = (0, PRECISION);
    while !can_fork_at(possible.min(hard))? {
        if possible >= hard {
            return Err(io::Error::other("the user's task limit is reached already"));
        }
        (impossible, possible) = (possible, possible.saturating_mul(2));
    }
    while possible - impossible > PRECISION {
        let limit = impossible.midpoint(possible);
        if can_fork_at(limit)? {
            possible = limit;
        } else {
            impossible = limit;
        }
    }
    setrlimit(Resource::RLIMIT_NPROC, soft, hard)?;
    Ok(possible)
}

/// How closely tasks are counted. Somewhat arbitrary: each halving costs a fork.
const PRECISION: u64 = 16;
