//! The rows of the table, by what they are after.

use std::time::Duration;

use forerunner_sandbox::{
    Outcome, Policy,
    Profile::{self, Program, Tool},
};

/// One line of the table.
pub(crate) struct Row {
    pub(crate) what: &'static str,
    /// The probe of the `hostile` example.
    pub(crate) probe: &'static str,
    pub(crate) detail: Detail,
    pub(crate) profiles: &'static [Profile],
    pub(crate) change: fn(&mut Policy),
    pub(crate) expected: Expected,
    /// Whether it is also run without the sandbox, where it must succeed.
    pub(crate) controlled: bool,
}

/// The probe's argument.
#[derive(Clone, Copy)]
pub(crate) enum Detail {
    Text(&'static str),
    /// A file that may be read.
    Granted,
    /// A file that nobody granted, beside it.
    Beside,
    /// The number of a process of the same user.
    Victim,
    /// A file in `/proc` of that process.
    OfVictim(&'static str),
}

/// What must come of it.
#[derive(Clone, Copy)]
pub(crate) enum Expected {
    /// An error.
    Refused,
    /// Exactly this on standard output.
    Says(&'static str, &'static str),
    /// A limit.
    Ends(Outcome, &'static str),
    /// An error after a number of tasks that fits the limit.
    Tasks,
    /// Whatever it is, nothing is left.
    Nothing(&'static str),
    /// This second probe, run in another work directory, finds nothing.
    Forgotten(&'static str),
    /// The probe says the same before and after this other one has run.
    Unseen(&'static str),
    /// The host is killed, and the tree dies.
    DiesWithHost,
}

const BOTH: &[Profile] = &[Program, Tool];
const PROGRAM: &[Profile] = &[Program];
const TOOL: &[Profile] = &[Tool];

fn refused(what: &'static str, probe: &'static str, detail: Detail) -> Row {
    Row {
        what,
        probe,
        detail,
        profiles: BOTH,
        change: |_| (),
        expected: Expected::Refused,
        controlled: true,
    }
}

fn calls(what: &'static str, group: &'static str) -> Row {
    Row { controlled: false, ..refused(what, "calls", Detail::Text(group)) }
}

fn bounded(
    what: &'static str,
    probe: &'static str,
    profiles: &'static [Profile],
    expected: Expected,
) -> Row {
    Row { profiles, expected, controlled: false, ..refused(what, probe, NONE) }
}

const NONE: Detail = Detail::Text("");

const DISK: Expected = Expected::Ends(Outcome::Signalled(libc::SIGXFSZ), "disk limit");
const MEMORY: Expected = Expected::Ends(Outcome::OutOfMemory, "memory limit");
const CPU: Expected = Expected::Ends(Outcome::OutOfCpu, "CPU limit");
const WALL: Expected = Expected::Ends(Outcome::TimedOut, "wall limit");

fn short_wall(policy: &mut Policy) {
    policy.limits.wall = Duration::from_millis(400);
}

fn one_cpu_second(policy: &mut Policy) {
    policy.limits.cpu_seconds = 1;
}

/// Less than four times the file size, so that no single file breaks it.
fn small_disk(policy: &mut Policy) {
    policy.limits.disk_bytes = 16 << 20;
    policy.limits.files = 500;
}

/// All rows, in the order of the table.
pub(crate) fn all() -> Vec<Row> {
    let groups = [files, network, processes, kernel, execution, limits, endings, persistence];
    groups.into_iter().flat_map(|group| group()).collect()
}

fn files() -> Vec<Row> {
    vec![
        refused("read the list of users", "read_passwd", NONE),
        refused("read a file of another run", "open", Detail::Beside),
        refused("list `/`", "list_root", NONE),
        refused("list `/proc`", "list_processes", NONE),
        refused("read its own status in `/proc`", "read_own_status", NONE),
        refused("open its own memory in `/proc`", "read_own_memory", NONE),
        refused("write to `/var/tmp`", "write_outside", NONE),
        refused("write to `/tmp`", "write_tmp", NONE),
        refused("write to `/dev/shm`", "write_dev_shm", NONE),
        refused("move a file out of the work directory", "move_out", NONE),
        Row {
            profiles: PROGRAM,
            change: |policy| policy.work_dir_writable = false,
            controlled: false,
            ..refused("write to a work directory given read-only (programs)", "write_inside", NONE)
        },
        refused("write to a readable file", "write_read_only", Detail::Granted),
        refused("write to it through a hard link", "link_and_write", Detail::Granted),
        refused("truncate it", "truncate_read_only", Detail::Granted),
        refused("change its permissions", "chmod_read_only", Detail::Granted),
        refused("change its owner", "change_owner", Detail::Granted),
        refused("change its times", "touch_read_only", Detail::Granted),
        refused("leave a symbolic link in the work directory", "make_symlink", NONE),
        refused("leave a pipe there", "make_fifo", NONE),
        calls("extended attributes: set, get, list, remove", "extended attributes"),
        calls("`chown`, `utimensat`, `mknod`, `symlink`", "owners and times"),
        calls("file handles, `fanotify`, `inotify`", "handles"),
        refused("open a device nobody granted", "open", Detail::Text("/dev/full")),
    ]
}

fn network() -> Vec<Row> {
    vec![
        refused("listen on TCP", "tcp", NONE),
        refused("connect by TCP", "tcp_connect", NONE),
        refused("UDP", "udp", NONE),
        refused("a unix socket in the work directory", "unix_path", NONE),
        refused("an abstract unix socket", "unix_abstract", NONE),
        refused("netlink", "netlink", NONE),
        Row { profiles: PROGRAM, ..refused("a pair of sockets (programs)", "unix_pair", NONE) },
        calls("`socket`, `bind`, `connect`, `sendmsg` and their kin", "sockets"),
    ]
}

fn processes() -> Vec<Row> {
    let untried = |row: Row| Row { controlled: false, ..row };
    vec![
        refused("signal another process of the user", "signal_host", Detail::Victim),
        refused("signal its thread", "thread_signal_host", Detail::Victim),
        Row { profiles: PROGRAM, ..refused("signal the init (programs)", "signal_parent", NONE) },
        untried(refused("trace another process", "attach_host", Detail::Victim)),
        untried(refused("read its memory by system call", "read_host_memory", Detail::Victim)),
        untried(refused("open its `/proc/PID/mem`", "open", Detail::OfVictim("mem"))),
        refused("read its `/proc/PID/cmdline`", "open", Detail::OfVictim("cmdline")),
        untried(refused("read its `/proc/PID/environ`", "open", Detail::OfVictim("environ"))),
        calls("`ptrace`, `process_vm_*`, `pidfd_*`, `kcmp`, priorities", "other processes"),
        refused("outlive its init", "outlive_init", NONE),
        Row {
            expected: Expected::Says("allowed: [0, 1, 2]\n", "only 0, 1 and 2 are open"),
            controlled: false,
            ..refused("inherited descriptors", "descriptors", NONE)
        },
        Row {
            expected: Expected::Says("allowed: []\n", "empty"),
            controlled: false,
            ..refused("inherited environment", "environment", NONE)
        },
    ]
}

fn kernel() -> Vec<Row> {
    let untried = |row: Row| Row { controlled: false, ..row };
    vec![
        calls("`io_uring`", "io_uring"),
        untried(refused("`clone3`", "clone3", NONE)),
        untried(refused("a user namespace by `clone`", "clone_namespace", NONE)),
        calls("`unshare`, `setns`", "namespaces"),
        calls("`mount`, `umount`, `pivot_root`, `chroot`, `fsopen` and kin", "mounts"),
        calls("`bpf`", "bpf"),
        calls("`perf_event_open`", "perf"),
        calls("`userfaultfd`", "userfaultfd"),
        calls("`keyctl`, `add_key`, `request_key`", "keys"),
        calls("System V and POSIX IPC, `memfd_create`", "shared memory"),
        calls("`setuid` and kin, `capset`, `seccomp`, `personality`", "privileges"),
        calls("`mlock`, `mbind`", "pinned memory"),
        calls("modules, `kexec`, `reboot`, swap, clocks, host name", "kernel"),
        untried(refused("raise its own limits", "raise_limit", NONE)),
    ]
}

fn execution() -> Vec<Row> {
    vec![
        refused("execute a shell", "exec_shell", NONE),
        refused("execute a file of the work directory", "exec_from_work_dir", NONE),
        refused("execute a file in memory", "exec_memory_file", NONE),
        Row { profiles: PROGRAM, ..refused("fork (programs)", "fork", NONE) },
        Row { profiles: PROGRAM, ..refused("start a readable program (programs)", "spawn", NONE) },
        calls("`execveat`", "other executions"),
    ]
}

fn limits() -> Vec<Row> {
    let disk = |what, probe| Row { change: small_disk, ..bounded(what, probe, BOTH, DISK) };
    let cpu = |what, probe, profiles| Row {
        change: one_cpu_second,
        ..bounded(what, probe, profiles, CPU)
    };
    let wall =
        |what, probe, profiles| Row { change: short_wall, ..bounded(what, probe, profiles, WALL) };
    let children = Detail::Text("100000000");
    vec![
        bounded("threads without end (programs)", "thread_bomb", PROGRAM, Expected::Tasks),
        bounded("forks without end (tools)", "fork_bomb", TOOL, Expected::Tasks),
        wall("forks that fork (tools)", "exponential_fork_bomb", TOOL),
        wall("a process that always has a new number (tools)", "hop", TOOL),
        bounded("memory, block by block", "memory_bomb", BOTH, MEMORY),
        bounded("memory, all at once", "huge_allocation", BOTH, MEMORY),
        bounded("shared memory", "shared_memory_bomb", BOTH, MEMORY),
        Row {
            detail: children,
            ..bounded("memory, spread over children (tools)", "memory_in_children", TOOL, MEMORY)
        },
        bounded("one large file", "disk_bomb", BOTH, DISK),
        disk("many files", "many_files"),
        disk("many empty files", "many_empty_files"),
        disk("removed files that are still open", "many_removed_files"),
        disk("removed files that are still mapped", "many_removed_mappings"),
        disk("folders in folders", "nested_folders"),
        Row { profiles: BOTH, ..refused_descriptors() },
        cpu("an endless loop", "spin", BOTH),
        cpu("one that ignores signals", "spin_ignoring_signals", BOTH),
        cpu("endless loops in children (tools)", "spin_in_children", TOOL),
        wall("sleep", "sleep", BOTH),
        wall("output without end", "flood", BOTH),
    ]
}

fn refused_descriptors() -> Row {
    let says = "refused: 61 opened, then Too many open files (os error 24)\n";
    Row {
        expected: Expected::Says(says, "61 could be opened"),
        ..bounded("descriptors without end", "descriptor_bomb", BOTH, Expected::Tasks)
    }
}

fn endings() -> Vec<Row> {
    let killed = Expected::Nothing("killed with the program");
    vec![
        bounded("a daemon: forked twice, own session, deaf (tools)", "daemon", TOOL, killed),
        Row {
            change: short_wall,
            ..bounded("the same behind a sleeping program (tools)", "daemon_and_sleep", TOOL, WALL)
        },
        bounded("outlive the host", "sleep", PROGRAM, Expected::DiesWithHost),
        bounded(
            "a daemon that outlives the host (tools)",
            "daemon_and_sleep",
            TOOL,
            Expected::DiesWithHost,
        ),
    ]
}

fn persistence() -> Vec<Row> {
    vec![
        Row {
            expected: Expected::Forgotten("find_marks"),
            ..refused(
                "leave something for the next run, in 11 places",
                "leave_marks",
                Detail::Granted,
            )
        },
        Row {
            expected: Expected::Unseen("read_granted"),
            ..refused(
                "show by its access time that a file was read",
                "access_time",
                Detail::Granted,
            )
        },
        Row {
            profiles: PROGRAM,
            ..refused("lock a readable file (programs)", "lock_granted", Detail::Granted)
        },
    ]
}
