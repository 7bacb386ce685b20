//! What honest programs and compilers need goes on working, and the caller learns what it asks for.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use crate::hosted::{Host, Setting, am_root, hostile, sysroot};
use forerunner_sandbox::{
    Layers, Policy,
    Profile::{self, Program, Tool},
    system_tools,
};
use serde_json::{Value, json};

const SETTINGS: [Setting; 4] = [Setting::Full, Setting::Floor, Setting::User, Setting::UserFloor];

/// Runs a probe in every setting and compares its output.
fn check(profile: Profile, probe: &str, change: impl Fn(&mut Policy), expected: &str) {
    for mut host in SETTINGS.into_iter().filter_map(|setting| Host::new(setting, profile)) {
        change(&mut host.policy);
        let detail = host.granted_file().to_string_lossy().into_owned();
        let answer = host.probe(probe, &detail);
        assert_eq!(answer["stdout"], expected, "{profile:?} {probe}: {answer}");
        assert_eq!(answer["outcome"]["exited"], 0, "{profile:?} {probe}: {answer}");
    }
}

/// Runs a command line in every setting and compares the error.
fn check_error(argv: &[&str], change: impl Fn(&mut Policy), expected: &str) {
    for mut host in SETTINGS.into_iter().filter_map(|setting| Host::new(setting, Program)) {
        change(&mut host.policy);
        let argv: Vec<String> = argv.iter().map(|&word| word.to_owned()).collect();
        let answer = host.ask("run", &argv);
        let error = answer["error"].as_str().unwrap();
        assert!(error.ends_with(expected), "{error}");
    }
}

#[test]
fn programs_compute_and_use_their_files() {
    for profile in [Program, Tool] {
        check(profile, "threads", |_| (), "allowed: 2999997 67108864 sent true\n");
        check(profile, "clocks_and_chance", |_| (), "allowed: true 10\n");
        check(profile, "read_granted", |_| (), "allowed: granted text\n");
        check(profile, "write_inside", |_| (), "allowed: first se\n");
        check(profile, "standard_input", |_| (), "allowed: \"\"\n");
        check(profile, "both_streams", |_| (), "to stdout allowed: done\n");
    }
    check(Tool, "wait_for_child", |_| (), "allowed: exit status: 0\n");
}

#[test]
fn nothing_is_inherited() {
    for profile in [Program, Tool] {
        check(profile, "descriptors", |_| (), "allowed: [0, 1, 2]\n");
        check(profile, "environment", |_| (), "allowed: []\n");
        let with_one = |policy: &mut Policy| policy.env.push(("ONE".into(), "a=b".into()));
        check(profile, "environment", with_one, "allowed: [(\"ONE\", \"a=b\")]\n");
    }
}

#[test]
fn root_becomes_nobody_and_a_core_is_kept() {
    let last_core = std::thread::available_parallelism().unwrap().get() - 1;
    let mut host = Host::new(Setting::Full, Program).unwrap();
    host.policy.cores = vec![last_core];
    let answer = host.probe("identity", "");
    let output = answer["stdout"].as_str().unwrap();
    if am_root() {
        assert_eq!(output, format!("allowed: uid 65534 gid 65534 cpu {last_core}\n"));
    }
    assert!(output.ends_with(&format!("cpu {last_core}\n")), "{output}");
    let refused = host.probe("change_affinity", "");
    assert_eq!(refused["outcome"]["exited"], 3, "it must not leave its core: {refused}");
    host.policy.cores.clear();
    let allowed = host.probe("change_affinity", "");
    assert_eq!(allowed["outcome"]["exited"], 0, "without a core it may choose: {allowed}");
}

#[test]
fn a_grant_below_a_closed_folder_opens_only_itself() {
    if !am_root() {
        return eprintln!("skipped: an ordinary user's folders are open to that user");
    }
    for setting in [Setting::Full, Setting::Floor] {
        let mut host = Host::new(setting, Program).unwrap();
        let closed = host.granted_file().with_file_name("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        let [granted, other] = ["granted", "other"].map(|name| closed.join(name));
        fs::write(&granted, "below").unwrap();
        fs::write(&other, "not granted").unwrap();
        host.policy.read_only.push(granted.clone());
        let allowed = host.probe("read_granted", &granted.to_string_lossy());
        assert_eq!(allowed["stdout"], "allowed: below\n", "{allowed}");
        assert_eq!(allowed["layers"]["kept_read_capability"], true);
        let refused = host.probe("read_granted", &other.to_string_lossy());
        assert_eq!(refused["outcome"]["exited"], 3, "{refused}");
        let written = host.probe("write_read_only", &granted.to_string_lossy());
        assert_eq!(written["outcome"]["exited"], 3, "{written}");
    }
}

#[test]
fn a_read_only_work_dir_cannot_be_written() {
    for setting in SETTINGS {
        let Some(mut host) = Host::new(setting, Program) else { continue };
        host.policy.work_dir_writable = false;
        let answer = host.probe("write_inside", "");
        assert_eq!(answer["outcome"]["exited"], 3, "{answer}");
    }
}

#[test]
fn ends_are_told_apart() {
    for (probe, outcome) in
        [("panic", json!({ "exited": 101 })), ("abort", json!({ "signalled": libc::SIGABRT }))]
    {
        for profile in [Program, Tool] {
            let host = Host::new(Setting::Full, profile).unwrap();
            assert_eq!(host.probe(probe, "")["outcome"], outcome);
        }
    }
}

#[test]
fn a_conversation_is_clocked_from_outside() {
    for setting in SETTINGS {
        let Some(host) = Host::new(setting, Program) else { continue };
        let argv = host.probe_argv("echo", "");
        let answer = host.ask("converse", &argv);
        assert_eq!(answer["answer"], "hello\n");
        assert_eq!(answer["outcome"], json!({ "signalled": libc::SIGKILL }));
        let line = answer["command_line"].as_str().unwrap();
        assert_eq!(line.trim_end_matches('\0').split('\0').collect::<Vec<_>>(), argv);
        let seconds = |key: &str| answer[key].as_f64().unwrap();
        let (own, ours) = (seconds("own_clock"), seconds("our_clock"));
        assert!(ours >= own && ours < own + 0.05, "we saw {ours} s, it used {own} s");
    }
}

#[test]
fn programs_that_cannot_be_executed_say_why() {
    check_error(
        &["/nowhere/program"],
        |_| (),
        "cannot execute `/nowhere/program` in the sandbox: No such file or directory (os error 2)",
    );
    check_error(
        &["/etc/hostname"],
        |_| (),
        "cannot execute `/etc/hostname` in the sandbox: not a 64-bit ELF program",
    );
    check_error(
        &["/bin/true"],
        |policy| policy.read_only.clear(),
        "cannot execute `/bin/true` in the sandbox: its loader `/lib64/ld-linux-x86-64.so.2` \
         is not below a readable path\n\
         hint: link it statically, or add `system_libraries()` to the readable paths",
    );
    check_error(
        &["/bin/true"],
        |policy| policy.work_dir = "/var/tmp/forerunner-nowhere".into(),
        "`/var/tmp/forerunner-nowhere`: No such file or directory (os error 2)",
    );
}

#[test]
fn a_binary_that_is_no_launcher_is_noticed() {
    let host = Host::new(Setting::Full, Program).unwrap();
    let answer = host.ask_with_launcher("/bin/true", &host.probe_argv("nothing", ""));
    assert_eq!(
        answer["error"],
        "`/bin/true` did not answer as a sandbox launcher\n\
         hint: its `main` must call `forerunner_sandbox::init()` first; \
         set FORERUNNER_SANDBOX_LAUNCHER to a binary that does"
    );
    let missing = host.ask_with_launcher("/nowhere", &host.probe_argv("nothing", ""));
    assert_eq!(missing["error"], "cannot start the sandbox launcher `/nowhere`");
}

#[test]
fn a_header_cannot_open_other_files() {
    let mut image = fs::read("/bin/true").unwrap();
    let loader = b"/lib64/ld-linux-x86-64.so.2\0";
    let Some(at) = image.windows(loader.len()).position(|window| window == loader) else {
        return eprintln!("skipped: this machine's programs name another loader");
    };
    image[at..at + 12].copy_from_slice(b"/etc/passwd\0");
    let mut host = Host::new(Setting::Full, Program).unwrap();
    let program = host.granted_file().with_file_name("program");
    fs::write(&program, image).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    host.policy.read_only.push(program.clone());
    let answer = host.ask("run", &[program.to_string_lossy().into_owned()]);
    let error = answer["error"].as_str().unwrap();
    assert!(error.contains("`/etc/passwd` is not below a readable path"), "{error}");
}

#[test]
fn rustc_compiles_and_the_result_runs() {
    for setting in SETTINGS {
        let Some(mut host) = Host::new(setting, Tool) else { continue };
        let rustc = sysroot().join("bin/rustc");
        let as_user = matches!(setting, Setting::User | Setting::UserFloor);
        if as_user && !others_may_pass(&rustc) {
            eprintln!("skipped: an ordinary user cannot reach `{}`", rustc.display());
            continue;
        }
        let work_dir = host.policy.work_dir.clone();
        fs::write(work_dir.join("hello.rs"), "fn main() { println!(\"hello\"); }").unwrap();
        host.policy.read_only = system_tools();
        host.policy.read_only.push(sysroot());
        host.policy.env = vec![
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("TMPDIR".into(), work_dir.to_string_lossy().into_owned()),
        ];
        host.policy.limits.memory_bytes = 2 << 30;
        host.policy.limits.file_bytes = 256 << 20;
        host.policy.limits.open_files = 256;
        host.policy.limits.cpu_seconds = 30;
        let compile = |source: &str| {
            let rustc = rustc.to_string_lossy().into_owned();
            host.ask("run", &[rustc, "-O".into(), source.into(), "-o".into(), "hello".into()])
        };
        let answer = compile("hello.rs");
        assert_eq!(answer["outcome"]["exited"], 0, "{answer}");
        eprintln!("rustc: {} s, of which CPU {} s", answer["wall"], answer["cpu"]);
        run_compiled(setting, &work_dir.join("hello"));
        fs::write(work_dir.join("leak.rs"), "const _: &str = include_str!(\"/etc/passwd\");")
            .unwrap();
        let refused = compile("leak.rs");
        let message = refused["stderr"].as_str().unwrap();
        assert!(message.contains("couldn't read `/etc/passwd`"), "{message}");
    }
}

fn run_compiled(setting: Setting, program: &Path) {
    let mut host = Host::new(setting, Program).unwrap();
    host.policy.read_only.push(program.to_owned());
    let answer = host.ask("run", &[program.to_string_lossy().into_owned()]);
    assert_eq!(answer["stdout"], "hello\n", "{answer}");
}

fn others_may_pass(path: &Path) -> bool {
    let open = |folder: &Path| fs::metadata(folder).unwrap().permissions().mode() & 1 == 1;
    path.ancestors().skip(1).all(open)
}

#[test]
fn the_layers_are_those_of_the_setting() {
    for setting in [Setting::Full, Setting::Floor] {
        let host = Host::new(setting, Program).unwrap();
        let layers = |value: Value| serde_json::from_value::<Layers>(value).unwrap();
        let probed = layers(host.ask("layers", &[]));
        assert!(probed.floor_holds(), "{probed}");
        let used = layers(host.probe("nothing", "")["layers"].take());
        assert_eq!(probed, used, "the rehearsal tells the truth");
        if setting == Setting::Floor {
            assert!(!probed.user_namespace && !probed.mount_namespace, "{probed}");
        }
    }
    let waived = Host::new(Setting::Waived, Program).unwrap().probe("nothing", "");
    assert_eq!(waived["layers"]["unsandboxed"], true);
}

#[test]
fn the_price_of_a_spawn_is_printed() {
    for setting in [Setting::Full, Setting::Floor] {
        let host = Host::new(setting, Program).unwrap();
        assert!(hostile().exists());
        let answer = host.ask("time", &host.probe_argv("nothing", ""));
        let seconds = answer["median_wall"].as_f64().unwrap();
        eprintln!("{setting:?}: {:.1} ms from spawn to exit", seconds * 1e3);
        assert!(seconds > 0.0);
    }
}
