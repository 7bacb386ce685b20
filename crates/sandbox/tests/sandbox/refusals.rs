//! What a hostile program tries is refused, in every setting; with the sandbox waived the same
//! attempt succeeds, so the refusal is the sandbox's doing.

use crate::hosted::{Host, Setting};
use forerunner_sandbox::Profile::{self, Program, Tool};

/// What is to happen when the sandbox is waived.
#[derive(Clone, Copy, PartialEq)]
enum Waived {
    Succeeds,
    /// The machine itself refuses, or the attempt would do harm.
    NotTried,
}

fn check(setting: Setting, profile: Profile, probe: &str, detail: &str, waived: Waived) {
    let Some(host) = Host::new(setting, profile) else { return };
    if setting == Setting::Waived && waived == Waived::NotTried {
        return;
    }
    let detail = match detail {
        "GRANTED" => host.granted_file().to_string_lossy().into_owned(),
        "HOST" => std::process::id().to_string(),
        other => other.to_owned(),
    };
    let answer = host.probe(probe, &detail);
    let output = answer["stdout"].as_str().unwrap_or_default();
    if setting == Setting::Waived {
        assert!(output.starts_with("allowed: "), "{profile:?} {probe}: {answer}");
        return;
    }
    assert!(output.starts_with("refused: "), "{profile:?} {probe}: {answer}");
    assert_eq!(answer["outcome"]["exited"], 3, "{profile:?} {probe}: {answer}");
    if matches!(setting, Setting::Floor | Setting::UserFloor) {
        assert_eq!(answer["layers"]["pid_namespace"], false, "the floor was not forced");
    }
}

/// One test for each probe, in each setting.
macro_rules! refused {
    ($($name:ident($probe:expr, $profiles:expr, $detail:expr, $waived:ident);)*) => {
        refused!(@ full, Full, $($name, $probe, $profiles, $detail, $waived;)*);
        refused!(@ floor, Floor, $($name, $probe, $profiles, $detail, $waived;)*);
        refused!(@ user, User, $($name, $probe, $profiles, $detail, $waived;)*);
        refused!(@ user_floor, UserFloor, $($name, $probe, $profiles, $detail, $waived;)*);
        refused!(@ waived, Waived, $($name, $probe, $profiles, $detail, $waived;)*);
    };
    (@ $module:ident, $setting:ident,
        $($name:ident, $probe:expr, $profiles:expr, $detail:expr, $waived:ident;)*) => {
        mod $module {
            use super::*;
            $(#[test]
            fn $name() {
                for profile in $profiles {
                    check(Setting::$setting, profile, $probe, $detail, Waived::$waived);
                }
            })*
        }
    };
}

const BOTH: [Profile; 2] = [Program, Tool];

refused! {
    // Files.
    reading_the_users_list("read_passwd", BOTH, "", Succeeds);
    opening_its_own_memory("read_own_memory", BOTH, "", Succeeds);
    reading_its_own_proc("read_own_status", BOTH, "", Succeeds);
    reading_the_hosts_command_line("read_host_command", BOTH, "HOST", Succeeds);
    listing_the_root("list_root", BOTH, "", Succeeds);
    listing_processes("list_processes", BOTH, "", Succeeds);
    writing_outside("write_outside", BOTH, "", Succeeds);
    writing_shared_memory("write_dev_shm", BOTH, "", Succeeds);
    writing_a_readable_file("write_read_only", BOTH, "GRANTED", Succeeds);
    truncating_a_readable_file("truncate_read_only", BOTH, "GRANTED", Succeeds);
    changing_modes_of_a_readable_file("chmod_read_only", BOTH, "GRANTED", Succeeds);
    changing_times_of_a_readable_file("touch_read_only", BOTH, "GRANTED", Succeeds);
    leaving_a_symlink_as_a_trap("make_symlink", BOTH, "", Succeeds);
    leaving_a_pipe_as_a_trap("make_fifo", BOTH, "", Succeeds);
    executing_a_shell("exec_shell", BOTH, "", Succeeds);
    executing_from_the_work_dir("exec_from_work_dir", BOTH, "", Succeeds);
    executing_from_memory("exec_memory_file", BOTH, "", Succeeds);
    // Network.
    tcp("tcp", BOTH, "", Succeeds);
    udp("udp", BOTH, "", Succeeds);
    abstract_sockets("unix_abstract", BOTH, "", Succeeds);
    socket_pairs("unix_pair", [Program], "", Succeeds);
    // Processes.
    forking("fork", [Program], "", Succeeds);
    spawning("spawn", [Program], "", Succeeds);
    tracing("ptrace", BOTH, "", Succeeds);
    signals_to_the_host("signal_host", BOTH, "HOST", Succeeds);
    signals_to_the_init("signal_parent", [Program], "", Succeeds);
    signals_to_the_hosts_threads("thread_signal_host", BOTH, "HOST", Succeeds);
    // Kernel.
    new_namespaces("unshare", BOTH, "", NotTried);
    new_namespaces_by_clone("clone_namespace", BOTH, "", NotTried);
    clone3("clone3", BOTH, "", NotTried);
    io_uring("io_uring", BOTH, "", NotTried);
    keys("keyring", BOTH, "", NotTried);
    system_v_memory("system_v_memory", BOTH, "", Succeeds);
    outliving_its_init("outlive_init", BOTH, "", Succeeds);
    raising_limits("raise_limit", BOTH, "", NotTried);
}
