//! Runs from beginning to end.

use forerunner_tests::{Log, Running, Scratch, log_of, wait_until_alone};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use serde_json::Value;

/// The log of a run of `trivial.toml` with further options.
fn run(options: &str) -> Log {
    let scratch = Scratch::trivial();
    scratch.forerunner(&format!("run trivial.toml --out run {options}")).good();
    scratch.log("run")
}

#[test]
fn the_same_seed_gives_the_same_log() {
    let options = "--set budget.evaluations=18 --set run.seed=7";
    let log = run(options);
    log.verdicts_of_exactly(18);
    assert_eq!(log.timeless(), run(options).timeless());
    assert_ne!(log.timeless(), run("--set budget.evaluations=18 --set run.seed=8").timeless());
}

#[test]
fn the_same_seed_gives_the_same_log_on_two_slots() {
    let options = "--set budget.evaluations=18 --set run.slots=2 --set run.children=6 \
                   --set mutator.0.config.fault_every=5 --set mutator.0.config.fault=panic";
    let log = run(options);
    assert_eq!(format!("{:?}", log.verdicts_of_exactly(18)), r#"{"accepted": 15, "other": 3}"#);
    assert_eq!(log.timeless(), run(options).timeless());
}

#[test]
fn the_number_of_slots_changes_nothing_but_the_speed() {
    let timeless = |slots: u32| {
        let log = run(&format!("--set run.slots={slots}"));
        log.timeless().replace(&format!("\"slots\":{slots}"), "\"slots\":…")
    };
    assert_eq!(timeless(1), timeless(2));
}

#[test]
fn a_steady_run_completes_exactly_its_budget() {
    let log = run("--set run.mode=steady --set run.slots=2 --set budget.evaluations=25");
    assert_eq!(format!("{:?}", log.verdicts_of_exactly(25)), r#"{"accepted": 25}"#);
    assert!((1..=25).all(|iteration| log.evaluated().contains(&iteration)), "none is left out");
    assert_eq!(log.summary()["iterations"], 25);
    assert_eq!(log.summary()["reason"], "evaluations");
}

#[test]
fn a_budget_of_time_ends_a_run() {
    let scratch = Scratch::new();
    let file = forerunner_tests::TRIVIAL.replace("evaluations = 10", "seconds = 0.3");
    scratch.write("run.toml", file);
    let sets = "--set environment.config.evaluate_seconds=0.01";
    scratch.forerunner(&format!("run run.toml --out run {sets}")).good();
    let log = scratch.log("run");
    assert_eq!(log.summary()["reason"], "time");
    log.verdicts_of_exactly(log.summary()["iterations"].as_u64().expect("a number"));
}

#[test]
fn events_are_one_object_a_line_and_nothing_else() {
    let scratch = Scratch::trivial();
    let done = scratch.forerunner("run trivial.toml --out run --events ndjson");
    assert_eq!(done.stderr, "");
    let log = log_of(&done.good());
    assert_eq!(log.0[0]["event"], "run_started");
    assert_eq!(log.0.last().expect("events")["event"], "run_finished");
    log.verdicts_of_exactly(10);
    assert_eq!(log.timeless(), scratch.log("run").timeless(), "the log says the same later");
}

#[test]
fn the_summary_stands_alone_on_standard_output() {
    let scratch = Scratch::trivial();
    let done = scratch.forerunner("run trivial.toml --out run --json");
    assert!(done.stderr.contains("#10"), "progress goes to standard error: {}", done.stderr);
    let summary: Value = serde_json::from_str(&done.good()).expect("one JSON object");
    assert_eq!((&summary["iterations"], &summary["accepted"]), (&10.into(), &10.into()));
    assert_eq!(summary["run"], "run");
}

#[test]
fn quiet_shows_bests_and_the_summary() {
    let scratch = Scratch::trivial();
    let text = scratch.forerunner("run trivial.toml --out run --quiet").good();
    assert!(text.contains(" best ") && !text.contains("#10 "), "{text}");
    assert!(text.contains("10 iterations in"), "{text}");
}

#[test]
fn runs_get_a_folder_of_their_own() {
    let scratch = Scratch::trivial();
    for number in ["001", "002"] {
        let text = scratch.forerunner("run trivial.toml --set budget.evaluations=1").good();
        assert!(text.contains(&format!("runs/trivial-{number}")), "{text}");
    }
    insta::assert_snapshot!(scratch.forerunner("log").good(), @"
    runs/trivial-001  trivial  1 iteration
    runs/trivial-002  trivial  1 iteration
    ");
}

#[test]
fn finalists_are_confirmed_on_fresh_seeds() {
    let log = run("--set confirm.finalists=2 --set confirm.seeds=3");
    let seeds: std::collections::BTreeSet<u64> =
        log.of("confirmed").map(|event| event["seed"].as_u64().expect("a seed")).collect();
    assert_eq!((log.of("confirmed").count(), seeds.len()), (9, 3), "reference and two finalists");
    let confirmation = &log.summary()["confirmation"];
    assert_eq!(confirmation["finalists"][0]["program"], log.summary()["best"]);
    // Equal on every seed: there is a gain, and nothing in doubt.
    assert_eq!(confirmation["reference"].as_array().expect("a list").len(), 3);
}

#[test]
fn runs_that_measure_on_the_same_core_say_so() {
    // With one core for this thread and all it starts, two runs cannot but share it.
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).expect("known");
    let core = (0..CpuSet::count()).find(|core| allowed.is_set(*core).expect("in range"));
    let mut only = CpuSet::new();
    only.set(core.expect("a core")).expect("in range");
    sched_setaffinity(this, &only).expect("a part of what is allowed");

    let scratch = Scratch::trivial();
    let endless = "run trivial.toml --out first --events ndjson \
                   --set environment.config.evaluate_seconds=600";
    let first = Running::start(scratch.command(endless));
    first.wait_for("\"run_started\"");
    let beside = scratch.forerunner("run trivial.toml --out beside").good();
    let warning = beside.lines().find(|line| line.contains("  warning ")).expect("it is told");
    assert!(warning.contains("too few free cores for 1 slot: sharing core "), "{warning}");
    let name = scratch.path().join("first");
    assert!(warning.contains(&*name.to_string_lossy()), "it names the other run: {warning}");

    // Even `kill -9` leaves no mark behind.
    first.kill();
    wait_until_alone(scratch.path());
    let alone = scratch.forerunner("run trivial.toml --out alone").good();
    assert!(!alone.contains("warning"), "{alone}");
}

#[test]
fn a_run_needs_nothing_but_the_folder_it_is_given() {
    let scratch = Scratch::trivial();
    scratch.forerunner("run trivial.toml --out deep/er/run").good();
    let mut names: Vec<String> = std::fs::read_dir(scratch.path())
        .expect("listed")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    // In `xdg-runtime` it marks its cores.
    assert_eq!(names, ["deep", "trivial.toml", "xdg-runtime"], "nothing is written elsewhere");
}
