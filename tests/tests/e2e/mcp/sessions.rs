//! What is left to do when a client has gone, and what the next one finds.

use super::{Rude, wait_for, wait_until_kept};
use forerunner_core::Slice;
use forerunner_runtime::store::Store;
use forerunner_tests::Scratch;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

/// A client that submits a program and hangs up.
fn submit_and_leave(scratch: &Scratch, arguments: &str) -> String {
    let mut rude = Rude::start(scratch, arguments);
    rude.greet();
    rude.submit("value = 0.5\n", "half");
    let (code, _, stderr) = rude.hang_up();
    assert_eq!(code, Some(0), "{stderr}");
    stderr
}

#[test]
fn a_search_that_is_over_is_confirmed_although_its_client_has_gone() {
    let scratch = Scratch::new();
    let slow = "--set environment.config.evaluate_seconds=0.2";
    let confirm = "--set budget.evaluations=1 --set confirm.finalists=1 --set confirm.seeds=2";
    submit_and_leave(&scratch, &format!("--environment trivial --out run {slow} {confirm}"));
    let summary = scratch.log("run").summary().clone();
    assert_eq!(summary["reason"], "evaluations");
    let finalist = &summary["confirmation"]["finalists"][0];
    assert_eq!((&finalist["program"], &finalist["holds"]), (&summary["best"], &json!(true)));
    // And again, by whoever has the run, without any client.
    let more = "--confirm claim --set confirm.seeds=3 --quiet";
    scratch.forerunner(&format!("run --resume run {more}")).good();
    let log = scratch.log("run");
    log.verdicts_of_exactly(1);
    assert_eq!(log.summary()["confirmation"]["finalists"][0]["holds"], true);
}

#[test]
fn a_confirmation_that_was_stopped_is_finished_without_clients() {
    let scratch = Scratch::new();
    let slow = "--set environment.config.evaluate_seconds=0.3";
    let confirm = "--set budget.evaluations=1 --set confirm.finalists=1 --set confirm.seeds=3";
    let mut rude =
        Rude::start(&scratch, &format!("--environment trivial --out run {slow} {confirm}"));
    rude.greet();
    rude.submit("value = 0.5\n", "half");
    drop(rude.child.stdin.take());
    let confirming =
        |store: &Store| store.confirmations(Slice::Val).is_ok_and(|made| !made.is_empty());
    wait_for(&scratch, &confirming);
    kill(Pid::from_raw(rude.child.id() as i32), Signal::SIGINT).expect("it runs");
    let (code, _, stderr) = rude.hang_up();
    assert_eq!(code, Some(130), "{stderr}");
    assert_eq!(scratch.log("run").summary()["confirmation"], Value::Null);
    scratch.forerunner("run --resume run --quiet").good();
    let log = scratch.log("run");
    assert_eq!(log.summary()["reason"], "evaluations");
    assert_eq!(log.summary()["confirmation"]["finalists"][0]["holds"], true);
}

#[test]
fn the_next_session_waits_until_the_last_one_is_done() {
    let scratch = Scratch::new();
    let slow = "--set environment.config.evaluate_seconds=1";
    let mut first = Rude::start(&scratch, &format!("--environment trivial --out run {slow}"));
    first.greet();
    first.submit("value = 0.5\n", "half");
    wait_until_kept(&scratch);
    // It hangs up, and is back while its submission is measured.
    drop(first.child.stdin.take());
    let mut next = Rude::start(&scratch, "--resume run");
    next.greet();
    next.request(1, "tools/call", json!({ "name": "brief", "arguments": {} }));
    let (code, stdout, stderr) = next.hang_up();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("run is in use by another process; waiting"), "{stderr}");
    assert!(stdout.contains("1 of 100 used, 99 left"), "{stdout}");
    assert_eq!(first.hang_up().0, Some(0));
    scratch.log("run").verdicts_of_exactly(1);
}

#[test]
fn a_start_that_failed_is_nothing_to_go_on_with() {
    let scratch = Scratch::new();
    let start = "mcp --environment trivial --out run";
    let refused = scratch.forerunner(&format!("{start} --set selector.name=ilands"));
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    submit_and_leave(&scratch, "--environment trivial --out run --set budget.evaluations=1");
    scratch.log("run").verdicts_of_exactly(1);
    // What was measured stays what it is.
    let refused = scratch.forerunner(&format!("{start} --set run.seed=7"));
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("the configuration changed"), "{}", refused.stderr);

    let refused = scratch.forerunner("mcp");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    for way in ["run file", "`--environment NAME`", "`--resume RUN`"] {
        assert!(refused.stderr.contains(way), "{}", refused.stderr);
    }
    let generations = "--out other --set run.mode=generations --set run.children=4";
    let refused = scratch.forerunner(&format!("mcp --environment trivial {generations}"));
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("all 4 children"), "{}", refused.stderr);
    assert!(!scratch.path().join("other").exists());
}
