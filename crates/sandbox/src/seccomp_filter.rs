//! The seccomp filter: an allow list of system calls, some only with certain arguments.
//!
//! What a hostile program can still do with what is left: use its memory, threads, clock and
//! pipes; open what Landlock grants; learn by `stat` that other paths exist; execute itself again
//! (or its loader) in the same process, with the same limits and the same clock. Kernel bugs in
//! the allowed calls are not ruled out.

use std::{collections::BTreeMap, ffi::c_long};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule,
};

use crate::{
    Profile,
    error::Failure,
    syscalls::{
        COMMON, COMMON_LEGACY, GPU, GPU_FCNTL, GPU_REQUESTS, NOT_IMPLEMENTED, TOOL, TOOL_LEGACY,
    },
};

const HINT: &str = "use a kernel with seccomp filters (CONFIG_SECCOMP_FILTER)";

/// What the filter depends on besides the profile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances {
    pub(crate) profile: Profile,
    /// The process's number as it sees it itself.
    pub(crate) pid: i32,
    /// Pinned to a core and to stay there.
    pub(crate) pinned: bool,
    /// What Landlock does not cover yet is refused here.
    pub(crate) landlock_abi: u32,
    /// Landlock or a process namespace keeps signals from reaching other sandboxes and users.
    pub(crate) signals_stay_inside: bool,
    /// Changing permissions can do no harm outside the work directory: a read-only view. Being
    /// `nobody` is not enough, since what other tools made belongs to `nobody` too.
    pub(crate) chmod_is_harmless: bool,
    /// It was given a GPU.
    pub(crate) gpu: bool,
    /// Refused calls raise SIGSYS.
    pub(crate) trap_refused: bool,
}

/// Installs the filter on the calling thread for good.
pub(crate) fn install(circumstances: &Circumstances) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::floor("seccomp", error, HINT);
    for filter in compile(circumstances).map_err(|e| failed(&e))? {
        seccompiler::apply_filter(&filter).map_err(|e| failed(&e))?;
    }
    Ok(())
}

/// Two filters, of which the kernel takes the stricter answer: one that answers "not implemented"
/// where the C library has another way, and then, since it also forbids further filters, the one
/// that refuses what is not allowed.
fn compile(circumstances: &Circumstances) -> Result<[BpfProgram; 2], seccompiler::BackendError> {
    let arch = std::env::consts::ARCH.try_into()?;
    let errno = |number: i32| SeccompAction::Errno(number.unsigned_abs());
    let mut allowed = allowed(circumstances)?;
    allowed.extend(NOT_IMPLEMENTED.iter().map(|&call| (call, Vec::new())));
    let missing = NOT_IMPLEMENTED.iter().map(|&call| (call, Vec::new())).collect();
    let allow = SeccompAction::Allow;
    let refuse = match circumstances.trap_refused {
        true => SeccompAction::Trap,
        false => errno(libc::EPERM),
    };
    Ok([
        SeccompFilter::new(missing, allow.clone(), errno(libc::ENOSYS), arch)?.try_into()?,
        SeccompFilter::new(allowed, refuse, allow, arch)?.try_into()?,
    ])
}

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

fn allowed(circumstances: &Circumstances) -> Result<Rules, seccompiler::BackendError> {
    let tool = circumstances.profile == Profile::Tool;
    let mut calls: Vec<c_long> = [COMMON, COMMON_LEGACY].concat();
    if tool {
        calls.extend([TOOL, TOOL_LEGACY].concat());
    }
    if !circumstances.pinned {
        calls.push(libc::SYS_sched_setaffinity);
    }
    if circumstances.landlock_abi >= 3 {
        calls.push(libc::SYS_truncate);
    }
    let mut rules: Rules = calls.into_iter().map(|call| (call, Vec::new())).collect();
    rules.extend(open_rules(circumstances.landlock_abi)?);
    rules.extend(process_rules(circumstances)?);
    rules.extend(chmod_rules(circumstances)?);
    let locks = if tool { LOCK_COMMANDS } else { &[] };
    let seals = if circumstances.gpu { GPU_FCNTL } else { &[] };
    rules.insert(libc::SYS_fcntl, any_of(1, &[FCNTL_COMMANDS, locks, seals].concat())?);
    let mut requests = any_of(1, IOCTL_REQUESTS)?;
    if circumstances.gpu {
        rules.extend(GPU.iter().map(|&call| (call, Vec::new())));
        for &(mask, value) in GPU_REQUESTS {
            requests.push(dword_masked_eq(1, mask, value)?);
        }
    }
    rules.insert(libc::SYS_ioctl, requests);
    rules.insert(libc::SYS_prctl, any_of(0, PRCTL_OPTIONS)?);
    // Only its own limits, and raising those needs a privilege it does not have.
    rules.insert(libc::SYS_prlimit64, any_of(0, &[0])?);
    Ok(rules)
}

/// No F_SETOWN and F_SETSIG: they make the kernel send signals to other processes.
const FCNTL_COMMANDS: &[i32] = &[
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_GETPIPE_SZ,
];

/// Locks that a tool takes.
const LOCK_COMMANDS: &[i32] = &[
    libc::F_GETLK,
    libc::F_SETLK,
    libc::F_SETLKW,
    libc::F_OFD_GETLK,
    libc::F_OFD_SETLK,
    libc::F_OFD_SETLKW,
];

/// Is it a terminal, how wide, how much can be read; close on exec; do not block.
const IOCTL_REQUESTS: &[i32] = &[
    libc::TCGETS as i32,
    libc::TIOCGWINSZ as i32,
    libc::FIONREAD as i32,
    libc::FIOCLEX as i32,
    libc::FIONBIO as i32,
];

/// Names for threads and memory. Not PR_SET_PDEATHSIG: it could undo its own death.
const PRCTL_OPTIONS: &[i32] =
    &[libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA, libc::PR_GET_DUMPABLE];

/// Every flag of `clone` that makes a namespace, or a process that is not simply a child.
const FOREIGN_CLONE_FLAGS: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_PTRACE
    | libc::CLONE_PARENT) as u64;

/// Opening is Landlock's business, except that before version 3 it misses truncation by a
/// read-only open.
fn open_rules(landlock_abi: u32) -> Result<Rules, seccompiler::BackendError> {
    let mut flag_positions = vec![(libc::SYS_openat, 2)];
    #[cfg(target_arch = "x86_64")]
    flag_positions.push((libc::SYS_open, 1));
    let open = |(call, position)| {
        if landlock_abi >= 3 {
            return Ok((call, Vec::new()));
        }
        let masked = |mask: i32, value: i32| masked_eq(position, mask as u64, value as u64);
        let no_truncation = masked(libc::O_TRUNC, 0)?;
        let write_only = masked(libc::O_ACCMODE, libc::O_WRONLY)?;
        let read_write = masked(libc::O_ACCMODE, libc::O_RDWR)?;
        Ok((call, vec![no_truncation, write_only, read_write]))
    };
    flag_positions.into_iter().map(open).collect()
}

/// Processes, threads and signals.
fn process_rules(circumstances: &Circumstances) -> Result<Rules, seccompiler::BackendError> {
    let tool = circumstances.profile == Profile::Tool;
    let thread = if tool { 0 } else { libc::CLONE_THREAD as u64 };
    let mut rules = Rules::new();
    rules.insert(libc::SYS_clone, vec![masked_eq(0, FOREIGN_CLONE_FLAGS | thread, thread)?]);
    // A tool's children have other numbers, so numbers say nothing about them. Where nothing keeps
    // signals inside, they can only reach the tool itself (`abort` then ends on a trap).
    let anyone = tool && circumstances.signals_stay_inside;
    let own = i64::from(circumstances.pid).cast_unsigned();
    for call in [libc::SYS_kill, libc::SYS_tgkill] {
        rules.insert(call, if anyone { Vec::new() } else { vec![dword_eq(0, own)?] });
    }
    if tool {
        rules.extend(socket_pair_rules()?);
    }
    Ok(rules)
}

/// Rust's standard library reports a failed `execve` to the parent over a socket pair. Connected
/// kinds only: a datagram could be addressed to a socket outside.
fn socket_pair_rules() -> Result<Rules, seccompiler::BackendError> {
    let kind = |kind: i32| {
        let unix = SeccompCondition::new(0, Len::Dword, Op::Eq, libc::AF_UNIX as u64)?;
        // The lowest four bits are the type; above them are flags.
        let kind = SeccompCondition::new(1, Len::Dword, Op::MaskedEq(0xf), kind as u64)?;
        SeccompRule::new(vec![unix, kind])
    };
    let kinds = vec![kind(libc::SOCK_STREAM)?, kind(libc::SOCK_SEQPACKET)?];
    let traffic = [libc::SYS_recvfrom, libc::SYS_sendto].map(|call| (call, Vec::new()));
    Ok(Rules::from_iter(traffic.into_iter().chain([(libc::SYS_socketpair, kinds)])))
}

/// Linkers make their output executable by name, and Landlock does not judge that: where it could
/// hit a file of the user's, only the one mode that a linker sets (the umask is ours) passes.
fn chmod_rules(circumstances: &Circumstances) -> Result<Rules, seccompiler::BackendError> {
    let mut rules = Rules::new();
    if circumstances.profile == Profile::Program {
        return Ok(rules);
    }
    let mut mode_positions = vec![(libc::SYS_fchmod, 1), (libc::SYS_fchmodat, 2)];
    #[cfg(target_arch = "x86_64")]
    mode_positions.push((libc::SYS_chmod, 1));
    for (call, position) in mode_positions {
        let harmless = circumstances.chmod_is_harmless;
        let modes = if harmless { Vec::new() } else { vec![dword_eq(position, 0o755)?] };
        rules.insert(call, modes);
    }
    Ok(rules)
}

fn any_of(position: u8, values: &[i32]) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    values.iter().map(|&value| dword_eq(position, u64::from(value.cast_unsigned()))).collect()
}

/// The kernel looks at the lower half only, and so do we.
fn dword_eq(position: u8, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(position, Len::Dword, Op::Eq, value)?])
}

fn dword_masked_eq(
    position: u8,
    mask: u32,
    value: u32,
) -> Result<SeccompRule, seccompiler::BackendError> {
    let op = Op::MaskedEq(mask.into());
    SeccompRule::new(vec![SeccompCondition::new(position, Len::Dword, op, value.into())?])
}

fn masked_eq(
    position: u8,
    mask: u64,
    value: u64,
) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(position, Len::Qword, Op::MaskedEq(mask), value)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(profile: Profile, landlock_abi: u32, call: c_long, n_rules: Option<usize>) {
        check_with(profile, landlock_abi, false, call, n_rules);
    }

    fn check_with(
        profile: Profile,
        landlock_abi: u32,
        gpu: bool,
        call: c_long,
        n_rules: Option<usize>,
    ) {
        let circumstances = Circumstances {
            gpu,
            trap_refused: false,
            profile,
            pid: 7,
            pinned: true,
            landlock_abi,
            signals_stay_inside: landlock_abi >= 6,
            chmod_is_harmless: false,
        };
        let rules = allowed(&circumstances).unwrap();
        assert_eq!(rules.get(&call).map(Vec::len), n_rules, "{profile:?} {landlock_abi} {call}");
        compile(&circumstances).unwrap();
    }

    #[test]
    fn each_profile_allows_what_it_says() {
        use Profile::{Program, Tool};
        // `None`: refused. `Some(0)`: allowed. Otherwise allowed with certain arguments.
        check(Program, 7, libc::SYS_read, Some(0));
        check(Program, 7, libc::SYS_socket, None);
        check(Tool, 7, libc::SYS_socket, None);
        check(Program, 7, libc::SYS_wait4, None);
        check(Tool, 7, libc::SYS_wait4, Some(0));
        check(Program, 7, libc::SYS_clone, Some(1));
        check(Program, 7, libc::SYS_kill, Some(1));
        check(Tool, 7, libc::SYS_kill, Some(0));
        check(Tool, 5, libc::SYS_kill, Some(1));
        check(Program, 7, libc::SYS_socketpair, None);
        check(Tool, 7, libc::SYS_socketpair, Some(2));
        check(Program, 7, libc::SYS_truncate, Some(0));
        check(Program, 2, libc::SYS_truncate, None);
        check(Program, 2, libc::SYS_openat, Some(3));
        check(Program, 7, libc::SYS_fchmodat, None);
        check(Tool, 7, libc::SYS_fchmodat, Some(1));
        check(Program, 7, libc::SYS_sched_setaffinity, None);
        check(Tool, 7, libc::SYS_io_uring_setup, None);
        check(Tool, 7, libc::SYS_memfd_create, None);
        check(Program, 7, libc::SYS_flock, None);
        check(Tool, 7, libc::SYS_flock, Some(0));
    }

    #[test]
    fn a_gpu_adds_exactly_what_its_list_says() {
        let check = |gpu, call, n_rules| check_with(Profile::Program, 7, gpu, call, n_rules);
        check(false, libc::SYS_memfd_create, None);
        check(true, libc::SYS_memfd_create, Some(0));
        check(false, libc::SYS_ioctl, Some(IOCTL_REQUESTS.len()));
        check(true, libc::SYS_ioctl, Some(IOCTL_REQUESTS.len() + GPU_REQUESTS.len()));
        check(true, libc::SYS_socket, None);
        let numbers = |gpu| {
            let circumstances = Circumstances {
                profile: Profile::Program,
                pid: 7,
                pinned: true,
                landlock_abi: 7,
                signals_stay_inside: true,
                chmod_is_harmless: true,
                gpu,
                trap_refused: false,
            };
            allowed(&circumstances).unwrap().into_keys().collect::<Vec<_>>()
        };
        let added: Vec<_> =
            numbers(true).into_iter().filter(|n| !numbers(false).contains(n)).collect();
        assert_eq!(added, GPU);
        assert_eq!(numbers(true).len(), numbers(false).len() + GPU.len());
    }
}
