//! What the integration tests share: a harness, a small data set, and the worker.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use forerunner_core::{Check, Evaluation, EvaluationRequest, Program};
use forerunner_nanogpt::{Dataset, prepare};
use forerunner_workbench::Harness;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// The smallest honest program; misbehaving ones are made of it.
pub(crate) const HONEST: &str = include_str!("../programs/honest.rs");

/// Where everything that tests share is kept, from one run to the next.
fn folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Lets one test process at a time do `make`, which brings about what is at the path it answers.
pub(crate) fn one_at_a_time(name: &str, make: impl FnOnce(PathBuf) -> PathBuf) -> PathBuf {
    let lock = File::create(folder().join(format!("{name}.lock"))).expect("a lock file");
    lock.lock().expect("locked");
    make(folder().join(name))
}

/// The harness, built and installed for these tests. Takes minutes the very first time.
pub(crate) fn harness() -> &'static Path {
    static HARNESS: OnceLock<PathBuf> = OnceLock::new();
    HARNESS.get_or_init(|| one_at_a_time("harness", install_harness))
}

fn install_harness(dir: PathBuf) -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "--package", "forerunner-nanogpt-harness"])
        .arg("--message-format=json")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "the harness does not build");
    // Not replaced needlessly: another process may be compiling against it.
    let messages = String::from_utf8_lossy(&output.stdout).replace("\"fresh\":false", "");
    let messages = messages.replace("\"fresh\":true", "");
    let library = messages.split('"').rfind(|text| text.ends_with("/libharness.rlib"));
    let modified = fs::metadata(library.expect("a library")).and_then(|m| m.modified());
    let stamp = format!("{:?} {}", modified.expect("a time"), messages.len());
    let stamp_path = dir.with_extension("stamp");
    if fs::read_to_string(&stamp_path).unwrap_or_default() != stamp || Harness::load(&dir).is_err()
    {
        Harness::install(output.stdout.as_slice(), "harness", &dir).expect("installed");
        fs::write(stamp_path, stamp).expect("written");
    }
    dir
}

/// A small byte data set: the Rust sources of this workspace.
pub(crate) fn bytes() -> &'static Path {
    static DATA: OnceLock<PathBuf> = OnceLock::new();
    DATA.get_or_init(|| {
        one_at_a_time("own-source", |dir| {
            if Dataset::open(&dir).is_err() {
                let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
                let text = ["environments/nanogpt", "crates"].map(|below| workspace.join(below));
                prepare::from_text(&text, "own-source", &dir).expect("own source is text");
            }
            dir
        })
    })
}

/// Has the worker do `action` with `program`.
pub(crate) fn work<T: DeserializeOwned>(
    action: &str,
    program: &str,
    change: impl FnOnce(&mut Value),
) -> Result<T, String> {
    let request = EvaluationRequest::new(Program::single("main.rs", program), 1);
    let mut job = json!({
        "config": {
            "harness": harness(),
            "data": bytes(),
            "windows": 64,
            "clock": "raw",
            "cpu_seconds": 5.0,
            "wall_seconds": 60.0,
            "memory_mib": 512,
        },
        "cache": folder().join("cache"),
        "cancelled": false,
        "action": action,
        "request": request,
    });
    change(&mut job);
    let mut worker = Command::new(env!("CARGO_BIN_EXE_nanogpt-test-worker"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the worker starts");
    let mut stdin = worker.stdin.take().expect("piped");
    stdin.write_all(job.to_string().as_bytes()).expect("the worker reads");
    drop(stdin);
    let output = worker.wait_with_output().expect("the worker ends");
    assert!(output.status.success(), "the worker itself failed: {}", output.status);
    serde_json::from_slice::<Result<T, String>>(&output.stdout).expect("an answer")
}

/// Evaluates `program` within the tests' limits.
pub(crate) fn evaluate(program: &str) -> Evaluation {
    work("evaluate", program, |_| ()).expect("measured")
}

/// Checks `program`.
pub(crate) fn check(program: &str) -> Check {
    work("check", program, |_| ()).expect("checked")
}

/// The honest program with `from` replaced.
pub(crate) fn changed(from: &str, to: &str) -> String {
    assert!(HONEST.contains(from), "`{from}` is not in honest.rs any more");
    HONEST.replace(from, to)
}
