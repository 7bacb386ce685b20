//! System calls that no program and no compiler needs, tried with empty arguments: whatever the
//! kernel would say to those, the filter has to answer first.

use std::{collections::BTreeSet, io};

use libc::c_long;

use crate::probes::Attempt;

/// Tries every call of the group `name`.
pub(crate) fn attempt(name: &str, detail: &str) -> Option<Attempt> {
    (name == "calls").then(|| {
        let group = GROUPS.iter().find(|(name, _)| *name == detail);
        let (_, calls) = group.unwrap_or_else(|| panic!("unknown group `{detail}`"));
        try_each(calls)
    })
}

/// One error for all of them, or which of them got further than a refusal.
fn try_each(calls: &[c_long]) -> Attempt {
    let mut refusals = BTreeSet::new();
    for &call in calls {
        // SAFETY: null pointers, zero lengths and the descriptor 0.
        let result = unsafe { libc::syscall(call, 0, 0, 0, 0, 0, 0) };
        let error = io::Error::last_os_error().raw_os_error().unwrap_or(0);
        if result >= 0 || ![libc::EPERM, libc::ENOSYS].contains(&error) {
            return Ok(format!("system call {call} was granted"));
        }
        refusals.insert(error);
    }
    Err(io::Error::from_raw_os_error(refusals.pop_first().unwrap_or(libc::ENOSYS)))
}

const GROUPS: &[(&str, &[c_long])] = &[
    (
        "mounts",
        &[
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_fsopen,
            libc::SYS_fsmount,
            libc::SYS_mount_setattr,
        ],
    ),
    ("namespaces", &[libc::SYS_unshare, libc::SYS_setns, libc::SYS_clone3]),
    ("bpf", &[libc::SYS_bpf]),
    ("perf", &[libc::SYS_perf_event_open]),
    ("userfaultfd", &[libc::SYS_userfaultfd]),
    ("keys", &[libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_request_key]),
    (
        "io_uring",
        &[libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register],
    ),
    (
        "other processes",
        &[
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_process_madvise,
            libc::SYS_pidfd_open,
            libc::SYS_pidfd_getfd,
            libc::SYS_pidfd_send_signal,
            libc::SYS_kcmp,
            libc::SYS_rt_sigqueueinfo,
            libc::SYS_rt_tgsigqueueinfo,
            libc::SYS_tkill,
            libc::SYS_move_pages,
            libc::SYS_migrate_pages,
            libc::SYS_ioprio_set,
            libc::SYS_setpriority,
            libc::SYS_sched_setscheduler,
            libc::SYS_sched_setattr,
        ],
    ),
    (
        "kernel",
        &[
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
            libc::SYS_kexec_load,
            libc::SYS_reboot,
            libc::SYS_swapon,
            libc::SYS_acct,
            libc::SYS_quotactl,
            libc::SYS_syslog,
            libc::SYS_settimeofday,
            libc::SYS_clock_settime,
            libc::SYS_clock_adjtime,
            libc::SYS_sethostname,
            libc::SYS_setdomainname,
        ],
    ),
    (
        "handles",
        &[
            libc::SYS_open_by_handle_at,
            libc::SYS_name_to_handle_at,
            libc::SYS_fanotify_init,
            libc::SYS_inotify_init1,
        ],
    ),
    (
        "shared memory",
        &[
            libc::SYS_shmget,
            libc::SYS_shmat,
            libc::SYS_semget,
            libc::SYS_semop,
            libc::SYS_msgget,
            libc::SYS_msgsnd,
            libc::SYS_mq_open,
            libc::SYS_memfd_create,
        ],
    ),
    (
        "extended attributes",
        &[
            libc::SYS_setxattr,
            libc::SYS_lsetxattr,
            libc::SYS_fsetxattr,
            libc::SYS_getxattr,
            libc::SYS_lgetxattr,
            libc::SYS_fgetxattr,
            libc::SYS_listxattr,
            libc::SYS_removexattr,
        ],
    ),
    (
        "sockets",
        &[
            libc::SYS_socket,
            libc::SYS_bind,
            libc::SYS_connect,
            libc::SYS_listen,
            libc::SYS_accept4,
            libc::SYS_sendmsg,
            libc::SYS_recvmsg,
            libc::SYS_sendmmsg,
            libc::SYS_recvmmsg,
        ],
    ),
    ("other executions", &[libc::SYS_execveat]),
    (
        "privileges",
        &[
            libc::SYS_setuid,
            libc::SYS_setgid,
            libc::SYS_setresuid,
            libc::SYS_setresgid,
            libc::SYS_setgroups,
            libc::SYS_setfsuid,
            libc::SYS_capset,
            libc::SYS_seccomp,
            libc::SYS_personality,
        ],
    ),
    (
        "owners and times",
        &[
            libc::SYS_fchownat,
            libc::SYS_fchown,
            libc::SYS_utimensat,
            libc::SYS_mknodat,
            libc::SYS_symlinkat,
        ],
    ),
    ("pinned memory", &[libc::SYS_mlock, libc::SYS_mlock2, libc::SYS_mlockall, libc::SYS_mbind]),
];
