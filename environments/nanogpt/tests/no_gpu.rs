//! Tracks on a GPU where something of it is missing: the worker says in one line what, with a hint,
//! before data is looked for or anything is compiled.

use serde_json::{Value, json};
use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

/// The worker's answer to an evaluation with this configuration.
fn answer(config: &Value) -> Result<Value, String> {
    let job = json!({
        "config": config,
        "cache": env!("CARGO_TARGET_TMPDIR"),
        "cancelled": false,
        "action": "evaluate",
        "request": forerunner_core::EvaluationRequest::new(
            forerunner_core::Program::single("main.rs", "fn main() {}"), 1),
    });
    let mut worker = Command::new(env!("CARGO_BIN_EXE_nanogpt-test-worker"))
        .env_remove("FORERUNNER_PREFIX")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the worker starts");
    let mut stdin = worker.stdin.take().expect("piped");
    stdin.write_all(job.to_string().as_bytes()).expect("the worker reads");
    drop(stdin);
    let output = worker.wait_with_output().expect("the worker ends");
    serde_json::from_slice(&output.stdout).expect("an answer")
}

#[track_caller]
fn assert_missing(config: &Value, track: &str, missing: &str) {
    let text = answer(config).expect_err("nothing can be measured");
    let (line, hint) = text.split_once('\n').expect("a hint");
    assert!(line.starts_with(&format!("track `{track}` needs a GPU: ")), "{text}");
    assert!(line.contains(missing), "{text}");
    assert!(hint.starts_with("hint: ") && !hint.contains('\n'), "{text}");
}

#[test]
fn an_installation_without_a_harness_for_cuda_says_how_to_get_one() {
    for track in ["gpt2-124m", "fineweb-small-cuda"] {
        assert_missing(&json!({ "track": track }), track, "no harness that was built for CUDA");
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that cannot run says so aloud")]
fn a_machine_without_a_gpu_says_what_it_lacks() {
    if Path::new("/dev/nvidia0").exists() {
        eprintln!("SKIPPED: this machine has a GPU, or at least its node");
        return;
    }
    let config = json!({ "track": "gpt2-124m", "harness": env!("CARGO_TARGET_TMPDIR") });
    assert_missing(&config, "gpt2-124m", "/dev/nvidia0");
}
