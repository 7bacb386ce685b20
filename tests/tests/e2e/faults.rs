//! Workers that die or hang cost the evaluation they were at, and nothing else.

use forerunner_tests::{Log, Scratch, wait_until_alone};

/// Runs nine proposals of which every third is spoilt.
fn run(fault: &str, options: &str) -> Log {
    let scratch = Scratch::trivial();
    let sets = format!(
        "--set mutator.0.config.fault_every=3 --set mutator.0.config.fault={fault} \
         --set budget.evaluations=9 --set run.children=3 {options}"
    );
    let text = scratch.forerunner(&format!("run trivial.toml --out run {sets}")).good();
    assert!(text.contains("6 accepted"), "{text}");
    wait_until_alone(scratch.path());
    scratch.log("run")
}

/// Every third iteration failed with this cause, all others were accepted.
fn check(log: &Log, cause: &str, words: &str) {
    let verdicts = log.verdicts_of_exactly(9);
    let counted = [("accepted", 6), (cause, 3)].map(|(word, n)| (word.to_owned(), n));
    assert_eq!(verdicts, counted.into());
    assert_eq!(log.summary()["failures"], serde_json::json!({cause: 3}));
    for event in log.of("evaluated") {
        let evaluation = &event["evaluation"];
        let spoilt = event["iteration"].as_u64().expect("a number").is_multiple_of(3);
        assert_eq!(evaluation["verdict"] == "failed", spoilt, "{event}");
        if spoilt {
            let message = evaluation["findings"][0]["message"].as_str().expect("a reason");
            assert!(message.contains(words), "{message}");
        }
    }
}

#[test]
fn an_abort_costs_one_evaluation() {
    for mode in ["generations", "steady"] {
        let log = run("abort", &format!("--set run.mode={mode}"));
        check(&log, "worker", "SIGABRT");
        assert_eq!(log.of("worker_lost").count(), 3);
    }
}

#[test]
fn a_panic_costs_one_evaluation_and_no_worker() {
    let log = run("panic", "--set run.mode=steady --set run.slots=2");
    check(&log, "other", "the program asked for a panic");
    assert_eq!(log.of("worker_lost").count(), 0);
}

#[test]
fn a_hang_costs_one_evaluation() {
    // Two seconds are an eternity for an evaluation that only parses a number.
    let log = run("hang", "--set run.evaluation_timeout_seconds=2");
    check(&log, "worker", "2");
    assert_eq!(log.of("worker_lost").count(), 3);
}
