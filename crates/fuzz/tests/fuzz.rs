//! The fuzzer notices every kind of fault, its inputs reach what they are meant to reach, and a few
//! seconds of it find nothing.

use std::{path::Path, process::Command};

/// Exit code and standard output.
fn fuzz(out: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forerunner-fuzz"));
    let output = command.args(arguments).arg("--out").arg(out).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text + &String::from_utf8_lossy(&output.stderr))
}

fn check_fault(name: &str, expected: &str) {
    let out = tempfile::tempdir().unwrap();
    let target = format!("selftest/{name}");
    let (code, text) = fuzz(out.path(), &["--target", &target, "--seconds", "2"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(expected), "{text}");
    // Shortened to the byte that matters, and repeated by the command that is printed.
    let kept: Vec<_> = std::fs::read_dir(out.path()).unwrap().flatten().collect();
    assert_eq!(kept.len(), 1, "{text}");
    let path = kept[0].path();
    assert_eq!(std::fs::read(&path).unwrap(), b"!", "{text}");
    assert!(text.contains(&format!("--target {target} --input {}", path.display())), "{text}");
    let arguments = ["--target", &target, "--input", path.to_str().unwrap()];
    let (code, again) = fuzz(out.path(), &arguments);
    assert_eq!(code, Some(1), "{again}");
    assert!(again.contains(expected), "{again}");
}

#[test]
fn a_panic_is_a_crash() {
    check_fault("panic", "a fault on purpose");
}

#[test]
fn an_abort_is_a_crash() {
    check_fault("abort", "killed by signal 6");
}

#[test]
fn an_overflown_stack_is_a_crash() {
    check_fault("stack", "killed by signal 11");
}

#[test]
fn an_endless_loop_is_a_crash() {
    check_fault("loop", "more than 5 CPU seconds");
}

#[test]
fn too_much_memory_is_a_crash() {
    check_fault("memory", "bytes were allocated at a time");
}

#[test]
fn a_harmless_target_has_no_crash() {
    let out = tempfile::tempdir().unwrap();
    let (code, text) = fuzz(out.path(), &["--target", "selftest/none", "--seconds", "0.2"]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn the_inputs_to_start_from_reach_what_they_are_meant_for() {
    let out = tempfile::tempdir().unwrap();
    let (code, text) = fuzz(out.path(), &["--corpus"]);
    assert_eq!(code, Some(0), "{text}");
    for expected in [
        "patch: applied, one",
        "patch: applied, new file",
        "patch: patch/malformed",
        "rules: accepted",
        "rules: source/no-unsafe source/std",
        "worker-frame: 2 frames, then the end &",
        "program-frame: 7 frames, then the other side closed the pipe",
        "supervisor-frame: 1 frames",
        "snapshot: 3 parameters",
        "shard: a shard",
        "run-file: a run file",
        "hook-report: Accepted, 0 findings, 1 metrics",
        "hook-report: Rejected, 1 findings, 0 metrics",
        "hook-report: Unverified, 2 findings, 0 metrics",
        "hook-report: declined",
        "hook-file: a hook",
        "hook-file: not-wasm",
    ] {
        assert!(text.contains(expected), "no `{expected}` in\n{text}");
    }
}

#[test]
fn a_few_seconds_find_nothing() {
    let out = tempfile::tempdir().unwrap();
    let (code, text) = fuzz(out.path(), &["--seconds", "5"]);
    assert_eq!(code, Some(0), "{text}");
}
