//! Ctrl-C and `kill -9`.

use forerunner_tests::{Log, Running, Scratch, log_of, wait_until_alone};

const SLOW: &str = "--set run.mode=steady --set environment.config.evaluate_seconds=0.2 \
                    --set budget.evaluations=12";

#[test]
fn the_first_ctrl_c_finishes_what_is_measured() {
    let scratch = Scratch::trivial();
    let running = Running::start(scratch.command(&format!("run trivial.toml --out run {SLOW}")));
    running.wait_for("#2 ");
    running.interrupt();
    let (code, stdout, stderr) = running.finish();
    assert_eq!(code, Some(130), "{stderr}");
    assert!(stderr.contains("stopping when the measurements under way are done"), "{stderr}");
    assert!(stdout.contains("forerunner run --resume run"), "{stdout}");

    let log = scratch.log("run");
    assert_eq!(log.summary()["reason"], "interrupted");
    assert_eq!(log.of("worker_lost").count(), 0, "Ctrl-C is not for the workers");
    let completed = log.evaluated().len();
    assert!((2..12).contains(&completed), "{completed}");
    resume(&scratch, "", 12);
}

#[test]
fn an_interrupted_generation_goes_on_where_it_stopped() {
    let scratch = Scratch::trivial();
    let generations = SLOW.replace("steady", "generations");
    let command = scratch.command(&format!("run trivial.toml --out run {generations}"));
    let running = Running::start(command);
    running.wait_for("#2 ");
    running.interrupt();
    assert_eq!(running.finish().0, Some(130));
    let resumed = resume(&scratch, "", 12);

    // Interruptions change nothing about what is proposed and found.
    let whole = Scratch::trivial();
    whole.forerunner(&format!("run trivial.toml --out run {generations}")).good();
    let programs = |log: &Log| -> Vec<String> {
        log.of("evaluated").map(|event| event["program"].to_string()).collect()
    };
    assert_eq!(programs(&resumed), programs(&whole.log("run")));
}

/// Resumes and makes sure that `n` iterations were completed in all, each once.
fn resume(scratch: &Scratch, options: &str, n: u64) -> Log {
    let text = scratch.forerunner(&format!("run --resume run {options}")).good();
    assert!(text.contains(&format!("{n} iterations")), "{text}");
    wait_until_alone(scratch.path());
    let log = scratch.log("run");
    log.verdicts_of_exactly(n);
    assert_eq!(log.summary()["iterations"], n);
    assert_eq!(log.summary()["reason"], "evaluations");
    assert_eq!(log.of("reference").count(), 1, "the reference is measured once");
    log
}

#[test]
fn the_second_ctrl_c_stops_at_once() {
    let scratch = Scratch::trivial();
    let hang = "--set mutator.0.config.fault_every=3 --set mutator.0.config.fault=hang";
    // Nothing is proposed ahead, so that the third program is measured third.
    let sets = format!("{hang} --set run.mode=steady --set run.ahead=0 --set budget.evaluations=4");
    let command = scratch.command(&format!("run trivial.toml --out run {sets}"));
    let mut running = Running::start(command);
    running.wait_for("#2 ");
    running.interrupt();
    running.wait_for_error("Ctrl-C again: stop now");
    // Either the third program hangs in its worker, or the run stopped before it got there.
    if running.is_running() {
        running.interrupt();
    }
    let (code, stdout, stderr) = running.finish();
    assert_eq!(code, Some(130), "{stderr}");
    assert!(stdout.contains("forerunner run --resume run"), "{stdout}");
    wait_until_alone(scratch.path());
    let log = scratch.log("run");
    assert!(log.evaluated().len() < 4, "the hanging evaluation was given up");

    // How long a worker may take is no part of what is searched, so it may change.
    let log = resume(&scratch, "--set run.evaluation_timeout_seconds=2", 4);
    let verdicts = log.verdicts_of_exactly(4);
    assert_eq!(format!("{verdicts:?}"), r#"{"accepted": 3, "worker": 1}"#);
}

#[test]
fn kill_9_loses_nothing_that_was_completed() {
    for mode in ["steady", "generations"] {
        let scratch = Scratch::trivial();
        let sets = format!(
            "--events ndjson --set run.mode={mode} --set budget.evaluations=40 \
             --set environment.config.evaluate_seconds=0.03"
        );
        let mut command = format!("run trivial.toml --out run {sets}");
        let mut seen = Vec::new();
        for kills in 1..=3 {
            let running = Running::start(scratch.command(&command));
            let mut text = String::new();
            for _ in 0..kills {
                text.extend(running.wait_for("\"evaluated\""));
            }
            text += &running.kill();
            // The last line may be cut off.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            seen.extend(log_of(whole).evaluated());
            wait_until_alone(scratch.path());
            let kept = scratch.log("run").evaluated();
            for iteration in &seen {
                assert!(
                    kept.contains(iteration),
                    "{mode}: {iteration} was announced, {kept:?} kept"
                );
            }
            command = "run --resume run --events ndjson".to_owned();
        }
        resume(&scratch, "", 40);
    }
}

#[test]
fn an_interrupted_start_can_be_resumed() {
    for interrupts in [1, 2] {
        let scratch = Scratch::trivial();
        // Once lets the reference be measured to its end, twice does not.
        let seconds = if interrupts == 1 { 0.5 } else { 60.0 };
        let set = format!("--set environment.config.evaluate_seconds={seconds}");
        let mut running = Running::start(scratch.command(&format!(
            "run trivial.toml --out run --set run.mode=steady {set} --set budget.evaluations=2"
        )));
        running.wait_for(" run ");
        running.interrupt();
        running.wait_for_error("Ctrl-C again: stop now");
        if interrupts == 2 {
            assert!(running.is_running(), "the reference takes a minute");
            running.interrupt();
        }
        let (code, _, stderr) = running.finish();
        assert_eq!(code, Some(130), "{stderr}");
        wait_until_alone(scratch.path());
        if interrupts == 1 {
            resume(&scratch, "", 2);
        } else {
            assert!(stderr.contains("forerunner run --resume"), "{stderr}");
            assert!(scratch.log("run").evaluated().is_empty());
        }
    }
}
