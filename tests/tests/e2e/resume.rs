//! What may and what may not change between a run and its resumption.

use forerunner_tests::{Running, Scratch};

/// A folder with a finished run of ten.
fn finished() -> Scratch {
    let scratch = Scratch::trivial();
    scratch.forerunner("run trivial.toml --out run").good();
    scratch
}

fn resume(scratch: &Scratch, options: &str) -> String {
    scratch.forerunner(&format!("run --resume run {options}")).failure()
}

#[test]
fn a_changed_configuration_is_refused_by_name() {
    let scratch = finished();
    insta::assert_snapshot!(resume(&scratch, "--set run.seed=2"), @"
    exit 2
    error: the configuration changed since the run started:
      run.seed: 1 → 2
    hint: resume without a run file to keep the frozen one, or start another run; budget and slots may change
    ");
    insta::assert_snapshot!(resume(&scratch, "--set mutator.0.config.fault=abort"), @r#"
    exit 2
    error: the configuration changed since the run started:
      mutator.0.config.fault: null → "abort"
    hint: resume without a run file to keep the frozen one, or start another run; budget and slots may change
    "#);
    let file = forerunner_tests::TRIVIAL.replace("children = 4", "children = 5");
    scratch.write("changed.toml", file);
    insta::assert_snapshot!(scratch.forerunner("run changed.toml --resume run").failure(), @"
    exit 2
    error: the configuration changed since the run started:
      run.children: 4 → 5
    hint: resume without a run file to keep the frozen one, or start another run; budget and slots may change
    ");
    scratch.log("run").verdicts_of_exactly(10);
}

#[test]
fn the_budget_may_grow() {
    let scratch = finished();
    scratch.forerunner("run --resume run --set budget.evaluations=15").good();
    scratch.log("run").verdicts_of_exactly(15);
    // And the same through the run file.
    let text = forerunner_tests::TRIVIAL.replace("= 10", "= 18");
    scratch.write("larger.toml", text);
    scratch.forerunner("run larger.toml --resume run --set run.slots=2").good();
    scratch.log("run").verdicts_of_exactly(18);
}

#[test]
fn a_finished_run_has_nothing_left_to_do() {
    let scratch = finished();
    let text = scratch.forerunner("run --resume run").good();
    assert!(text.contains("10 iterations"), "{text}");
    scratch.log("run").verdicts_of_exactly(10);
}

#[test]
fn a_larger_run_is_the_same_as_a_resumed_one() {
    let scratch = finished();
    scratch.forerunner("run --resume run --set budget.evaluations=16").good();
    let whole = Scratch::trivial();
    whole.forerunner("run trivial.toml --out run --set budget.evaluations=16").good();
    let programs = |scratch: &Scratch| -> Vec<String> {
        let log = scratch.log("run");
        log.of("evaluated").map(|event| event["program"].to_string()).collect()
    };
    assert_eq!(programs(&scratch), programs(&whole));
}

#[test]
fn a_changed_environment_is_refused() {
    // The plugin's own idea of what makes results comparable, not the run file, has changed.
    let scratch = finished();
    let set = "--set environment.config.program_bytes=2000";
    let failure = resume(&scratch, set);
    assert!(failure.starts_with("exit 2\n"), "{failure}");
    assert!(failure.contains("environment.config.program_bytes"), "{failure}");
}

#[test]
fn there_must_be_a_run() {
    let scratch = Scratch::new();
    insta::assert_snapshot!(resume(&scratch, ""), @"
    exit 4
    error: run holds no run
    hint: `forerunner log` lists the runs below a folder
    ");
    scratch.write("run/notes.txt", "no run");
    insta::assert_snapshot!(resume(&scratch, ""), @"
    exit 4
    error: run holds no run
    hint: `forerunner log` lists the runs below a folder
    ");
}

#[test]
fn a_run_is_not_overwritten() {
    let scratch = finished();
    insta::assert_snapshot!(scratch.forerunner("run trivial.toml --out run").failure(), @"
    exit 4
    error: run holds a run already
    hint: `forerunner run --resume run` goes on with it; `--out DIR` starts another
    ");
}

#[test]
fn one_process_at_a_time() {
    let scratch = Scratch::trivial();
    let slow = "--set environment.config.evaluate_seconds=0.2 --set budget.evaluations=1000";
    let command = scratch.command(&format!("run trivial.toml --out run {slow}"));
    let running = Running::start(command);
    running.wait_for("#1 ");
    insta::assert_snapshot!(resume(&scratch, ""), @"
    exit 4
    error: run is in use by another process
    hint: wait for it, or stop it with Ctrl-C
    ");
    // Looking is allowed meanwhile.
    assert!(!scratch.log("run").evaluated().is_empty());
    scratch.forerunner("show run").good();
    running.kill();
    scratch.forerunner("show run reference").good();
}

#[test]
fn a_store_that_is_no_store() {
    let scratch = Scratch::new();
    scratch
        .write("run/store.sqlite", "This is not a database, whatever its name says.\n".repeat(99));
    insta::assert_snapshot!(resume(&scratch, ""), @"
    exit 4
    error: run cannot be read as a run: file is not a database
    hint: its `store.sqlite` is damaged or something else; restore it from a copy, or start another run with `--out DIR`
    ");
}
