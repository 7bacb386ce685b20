//! The NanoGPT speedrun through the installed binary.

use forerunner_tests::{Log, Scratch, workspace};
use serde_json::Value;

const PROGRAMS: &str = "environments/nanogpt/programs";

fn evaluation(scratch: &Scratch, program: &str) -> Value {
    let options = "--environment nanogpt --track cpu --json";
    let done = scratch.forerunner(&format!("evaluate {program} {options}"));
    serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{}", done.failure()))
}

/// The best program that counts instead of training, under the rules, stays a standing adversary.
#[test]
fn counting_stays_far_above_the_target() {
    let scratch = Scratch::new();
    let program = workspace().join(PROGRAMS).join("counting.rs");
    let evaluation = evaluation(&scratch, &program.to_string_lossy());
    assert_eq!(evaluation["verdict"], "accepted", "{evaluation}");
    assert!(evaluation["metrics"].get("seconds_to_target").is_none(), "{evaluation}");
    let loss = evaluation["metrics"]["loss"].as_f64().expect("a loss");
    assert!((2.0..3.0).contains(&loss), "it learns pairs, and no more: {loss}");
}

#[test]
fn a_program_that_does_not_compile_is_refused_with_the_place() {
    let scratch = Scratch::new();
    let text = "use harness::prelude::*;\n\nfn main() -> ExitCode {\n    1\n}\n";
    scratch.write("bad.rs", text);
    let evaluation = evaluation(&scratch, "bad.rs");
    assert_eq!(
        (&evaluation["verdict"], &evaluation["cause"]),
        (&"failed".into(), &"compile".into())
    );
    let finding = &evaluation["findings"][0];
    assert_eq!(finding["rule"], "compile/error", "{evaluation}");
    assert_eq!(finding["place"], "main.rs:4", "{evaluation}");
}

/// The reference with a training of twelve steps, so that a search of it takes seconds.
fn short_search(seed: u64) -> Log {
    let scratch = Scratch::new();
    let source = std::fs::read_to_string(workspace().join(PROGRAMS).join("gpt2.rs"));
    let source = source.expect("the reference program");
    let short = source.replace("const STEPS: usize = 2800;", "const STEPS: usize = 12;");
    assert_ne!(short, source, "the reference has other steps now: change this test");
    let short = short.replace("tune: log 400 6000", "tune: log 6 24");
    let reference = scratch.write("short.rs", short);
    let run_file = format!(
        r#"
        [environment]
        name = "nanogpt"
        [environment.config]
        clock = "steps"
        windows = 16
        reference = {reference:?}

        [[mutator]]
        name = "tuner"

        [selector]
        name = "islands"

        [run]
        seed = {seed}
        children = 2
        slots = 2

        [budget]
        evaluations = 4
        "#
    );
    scratch.write("short.toml", run_file);
    scratch.forerunner("run short.toml --out run").good();
    scratch.log("run")
}

/// With a clock that counts tokens, everything about a search derives from its seed.
#[test]
fn a_search_replays_identically() {
    let log = short_search(3);
    log.verdicts_of_exactly(4);
    // The path of the reference does not appear; everything else must be equal.
    assert_eq!(log.timeless(), short_search(3).timeless());
    assert_ne!(log.timeless(), short_search(4).timeless());
}
