//! The system calls each profile may use, by name of what they are for.
//!
//! What is on no list is refused with EPERM, future system calls too. Left out on purpose:
//! sockets (a tool may make connected pairs), `io_uring`, `ptrace` and its kin, `memfd_create`
//! (Landlock does not see a memory file, so one could be executed), System V and POSIX IPC, keys,
//! mounts, modules, clocks, other processes' descriptors, signals to other processes, `chmod` (for
//! programs), `chown`, `utimensat`, extended attributes (Landlock does not cover these), and for
//! programs locks on files: two programs that may read the same library could talk through them. For
//! the same reason nobody may drop pages of a file from memory or ask whether they are there
//! (`fadvise64`, `preadv2` with its flags).

use libc::c_long;

/// Allowed whatever the arguments, in both profiles.
pub(crate) const COMMON: &[c_long] = &[
    // Reading and writing what is open.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_lseek,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_eventfd2,
    // Waiting for it.
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    // Names; Landlock decides on each.
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_getdents64,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_umask,
    // Memory.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_msync,
    libc::SYS_brk,
    libc::SYS_membarrier,
    // Threads.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_getpriority,
    libc::SYS_getcpu,
    // Its own signals.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigsuspend,
    libc::SYS_sigaltstack,
    // Time, chance, itself.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_times,
    libc::SYS_getrusage,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    // The program's start. Landlock leaves programs nothing else to execute.
    libc::SYS_execve,
];

/// Older calls that only x86-64 still has.
#[cfg(target_arch = "x86_64")]
pub(crate) const COMMON_LEGACY: &[c_long] = &[
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_getdents,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_link,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_getrlimit,
    libc::SYS_getpgrp,
    libc::SYS_time,
    libc::SYS_arch_prctl,
];
#[cfg(target_arch = "aarch64")]
pub(crate) const COMMON_LEGACY: &[c_long] = &[libc::SYS_renameat];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) const COMMON_LEGACY: &[c_long] = &[];

/// What a compiler needs besides: processes and waiting for them, and locks on files.
pub(crate) const TOOL: &[c_long] =
    &[libc::SYS_wait4, libc::SYS_waitid, libc::SYS_setpgid, libc::SYS_setsid, libc::SYS_flock];

/// What a compiler needs besides, on x86-64.
#[cfg(target_arch = "x86_64")]
pub(crate) const TOOL_LEGACY: &[c_long] = &[libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const TOOL_LEGACY: &[c_long] = &[];

/// What CUDA's driver in the program's process needs besides, where a GPU was given. All else that
/// it uses (mappings, threads, events, pipes, polling) is on the common list already.
///
/// Known to be tried and left out, since CUDA runs in containers whose filters refuse them or lack
/// what they look for: `get_mempolicy` and its kin, a fork for `nvidia-modprobe`, a socket to MPS.
///
/// `memfd_create`: drivers from 570 on keep data in files in memory and answer error 304 when they
/// cannot. Landlock does not judge such files, so a program with a GPU can execute one: in the same
/// process, within the same limits and the same filter.
pub(crate) const GPU: &[c_long] = &[libc::SYS_memfd_create];

/// Commands of `fcntl` that go with files in memory.
pub(crate) const GPU_FCNTL: &[i32] = &[libc::F_ADD_SEALS, libc::F_GET_SEALS];

/// Requests of `ioctl` to the driver, as mask and value of the request's lower half. Which devices
/// they can reach is Landlock's decision.
pub(crate) const GPU_REQUESTS: &[(u32, u32)] = &[
    // The resource manager (`nvidiactl`, `nvidiaN`): read and write, letter `F`, any number and size.
    (0xc000_ff00, 0xc000_4600),
    // The memory manager (`nvidia-uvm`) counts from 1, without direction, letter and size.
    (0xffff_ff00, 0),
    // Its beginning and its end, UVM_INITIALIZE and UVM_DEINITIALIZE.
    (u32::MAX, 0x3000_0001),
    (u32::MAX, 0x3000_0002),
];

/// Answered with ENOSYS, so that the C library takes the older way, which the filter can judge:
/// these pass their arguments in memory, where no filter can read them.
pub(crate) const NOT_IMPLEMENTED: &[c_long] = &[libc::SYS_clone3, libc::SYS_openat2];
