//! A GPU's grant opens what it names and nothing else. Devices that every machine has stand in for a
//! GPU's; the last test wants a real one.

use std::path::PathBuf;

use crate::hosted::{Host, Setting};
use forerunner_sandbox::{Gpu, Profile::Program};
use serde_json::{Value, json};

const SETTINGS: [Setting; 4] = [Setting::Full, Setting::Floor, Setting::User, Setting::UserFloor];

/// The stand-in for the device, which nobody is granted otherwise.
const NODE: &str = "/dev/full";

/// A grant of the stand-in, one file of `/proc` and one library.
fn gpu(library: PathBuf) -> Gpu {
    Gpu {
        minor: 0,
        uuid: None,
        nodes: vec![NODE.into()],
        information: vec!["/proc/devices".into(), "/proc/nowhere".into()],
        libraries: vec![library],
        library_folders: Vec::new(),
    }
}

/// A host whose program has the grant.
fn host(setting: Setting) -> Option<Host> {
    let mut host = Host::new(setting, Program)?;
    let library = host.granted_file();
    // Readable through the grant only.
    host.policy.read_only.retain(|path| *path != library);
    host.policy.give_gpu(gpu(library));
    Some(host)
}

/// What a probe says with the grant and without it, in every setting.
fn check(probe: &str, detail: &str, with: &str, without: &str) {
    for setting in SETTINGS {
        let Some(mut host) = host(setting) else { continue };
        let library = host.granted_file().to_string_lossy().into_owned();
        let detail = if detail == "LIBRARY" { &library } else { detail };
        let said = |host: &Host| host.probe(probe, detail)["stdout"].as_str().unwrap().to_owned();
        assert!(said(&host).starts_with(with), "{setting:?} {probe} {detail}: {}", said(&host));
        host.policy.gpu = None;
        let said = said(&host);
        assert!(said.starts_with(without), "{setting:?} {probe} {detail} without: {said}");
    }
}

const REFUSED: &str = "refused: Permission denied";
const NO_SUCH_CALL: &str = "refused: Operation not permitted";

#[test]
fn its_devices_can_be_opened_and_controlled() {
    check("control_device", NODE, "allowed: reached the device", REFUSED);
    check("control_device", "/dev/random", REFUSED, REFUSED);
}

#[test]
fn only_the_drivers_requests_pass_and_only_to_its_devices() {
    check("control_otherwise", NODE, NO_SUCH_CALL, REFUSED);
    let abi = Host::new(Setting::Floor, Program).unwrap().probe("nothing", "");
    if abi["layers"]["landlock_abi"].as_u64().unwrap() < 5 {
        return eprintln!("skipped: this kernel's Landlock does not judge the control of devices");
    }
    check("control_device", "/dev/null", REFUSED, NO_SUCH_CALL);
}

#[test]
fn its_information_and_libraries_can_be_read() {
    check("read_granted", "/proc/devices", "allowed: Character devices", REFUSED);
    check("read_granted", "LIBRARY", "allowed: granted text", REFUSED);
    check("read_granted", "/proc/uptime", REFUSED, REFUSED);
    check("write_read_only", "LIBRARY", "refused: ", "refused: ");
    check("list_processes", "", REFUSED, REFUSED);
}

#[test]
fn its_driver_can_name_its_threads() {
    check("name_a_thread", "", "allowed: renamed", "refused: ");
}

#[test]
fn its_driver_can_have_files_in_memory() {
    check("memory_file", "1048576", "allowed: mapped and written", NO_SUCH_CALL);
}

#[test]
fn everything_else_stays_refused() {
    let probes = [
        "read_passwd",
        "list_root",
        "write_outside",
        "write_dev_shm",
        "exec_shell",
        "exec_from_work_dir",
        "tcp",
        "udp",
        "unix_abstract",
        "unix_pair",
        "fork",
        "spawn",
        "ptrace",
        "io_uring",
        "system_v_memory",
        "raise_limit",
    ];
    for setting in SETTINGS {
        let Some(host) = host(setting) else { continue };
        for probe in probes {
            let answer = host.probe(probe, "");
            let said = answer["stdout"].as_str().unwrap_or_default();
            assert!(said.starts_with("refused: "), "{setting:?} {probe}: {answer}");
        }
    }
}

#[test]
fn host_memory_stays_bounded_without_a_limit_on_address_space() {
    for setting in SETTINGS {
        let Some(mut host) = host(setting) else { continue };
        // In one that can be written, files in memory would count as files of the disk.
        host.policy.work_dir_writable = false;
        for probe in ["hidden_shared_memory", "memory_files", "memory_bomb"] {
            let answer = host.probe(probe, "");
            assert_eq!(answer["outcome"], "out_of_memory", "{setting:?} {probe}: {answer}");
        }
        let large = host.probe("memory_file", &((4u64 << 30) + 1).to_string());
        assert_eq!(large["outcome"], json!({ "signalled": libc::SIGXFSZ }), "{large}");
    }
}

#[test]
fn refused_calls_can_be_found_out() {
    let mut host = host(Setting::Full).unwrap();
    host.policy.trap_refused = true;
    let ended = host.probe("tcp", "");
    assert_eq!(ended["outcome"], json!({ "signalled": libc::SIGSYS }), "{ended}");
    let nothing = host.probe("nothing", "");
    assert_eq!(nothing["outcome"]["exited"], 0, "{nothing}");
    let listed = host.probe("socket_and_refused_calls", "");
    let expected = format!(
        "allowed: -1 Operation not permitted (os error 1); refused calls: {} × 1\n",
        libc::SYS_socket
    );
    assert_eq!(listed["stdout"], expected, "{listed}");
}

#[test]
fn a_missing_node_is_an_error_that_names_it() {
    let mut host = host(Setting::Full).unwrap();
    let mut gpu = host.policy.gpu.take().unwrap();
    gpu.nodes.push("/dev/nvidia-not-there".into());
    host.policy.give_gpu(gpu);
    let error = host.probe("nothing", "")["error"].as_str().unwrap().to_owned();
    assert!(error.contains("cannot grant `/dev/nvidia-not-there`"), "{error}");
}

/// Starts CUDA behind the whole sandbox. Where that fails, it says which system calls were refused
/// on the way.
#[test]
fn sandbox_with_a_gpu() {
    // A GPU out of several may be there under any number.
    let node = |minor: &u32| std::path::Path::new(&format!("/dev/nvidia{minor}")).exists();
    let gpu = match Gpu::find((0..32).find(node).unwrap_or(0), &[]) {
        Ok(gpu) => gpu,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    eprintln!("{gpu:#?}");
    let mut failures = Vec::new();
    for setting in SETTINGS {
        let Some(mut host) = Host::new(setting, Program) else { continue };
        host.policy.give_gpu(gpu.clone());
        host.policy.limits.memory_bytes = 8 << 30;
        host.policy.limits.open_files = 1024;
        host.policy.limits.cpu_seconds = 60;
        host.policy.limits.wall = std::time::Duration::from_secs(120);
        let answer = host.probe("cuda", "");
        eprintln!("{setting:?}: {answer}");
        if answer["stdout"] != "allowed: device memory was written and read\n" {
            host.policy.trap_refused = true;
            let explained: Value = host.probe("cuda_and_refused_calls", "");
            failures.push(format!("{setting:?}: {answer}\n{explained}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
