//! `show`, `log` and `evaluate`: looking at runs and programs.

use forerunner_tests::{Log, Running, Scratch, strange_plugins};
use serde_json::Value;
use std::collections::BTreeSet;

/// A folder with a finished run of thirty, and its log.
fn finished() -> (Scratch, Log) {
    let scratch = Scratch::trivial();
    let options = "--set budget.evaluations=30 --set environment.config.program_bytes=100";
    scratch.forerunner(&format!("run trivial.toml --out run {options}")).good();
    let log = scratch.log("run");
    (scratch, log)
}

/// The programs of a run.
fn programs(log: &Log) -> BTreeSet<String> {
    let reference = log.of("reference");
    let id = |event: &Value| event["program"].as_str().expect("an identity").to_owned();
    reference.chain(log.of("evaluated")).map(id).collect()
}

#[test]
fn the_best_program_with_its_history() {
    let (scratch, log) = finished();
    let best = log.summary()["best"].as_str().expect("an identity");
    let text = scratch.forerunner("show run").good();
    assert!(text.starts_with(&format!("accepted  program {best}")), "{text}");
    assert!(text.contains("step 1 of "), "{text}");
    assert!(text.contains("-value = 1.0\n+value = 0."), "the first change starts at 1: {text}");
    assert!(text.contains("measured  distance 1 -> 0."), "{text}");
    let diffs = scratch.forerunner("show run best --diff").good();
    assert!(text.ends_with(&diffs), "`--diff` shows the changes alone: {diffs}");
    let digits = &best[..12];
    assert_eq!(scratch.forerunner(&format!("show run {digits}")).good(), text);
}

#[test]
fn the_latest_run_needs_no_name() {
    let scratch = Scratch::trivial();
    insta::assert_snapshot!(scratch.forerunner("show best --diff").failure(), @"
    exit 2
    error: there is no run in runs/
    hint: name the folder of a run
    ");
    for _ in 0..2 {
        scratch.forerunner("run trivial.toml --set budget.evaluations=10").good();
    }
    let latest = scratch.forerunner("show runs/trivial-002 best --diff").good();
    assert_eq!(scratch.forerunner("show best --diff").good(), latest);
    assert_eq!(scratch.forerunner("show --diff").good(), latest);
    // Another run is written to: it becomes the latest.
    let more = "run --resume runs/trivial-001 --set budget.evaluations=40";
    scratch.forerunner(more).good();
    let first = scratch.forerunner("show runs/trivial-001 reference").good();
    assert_eq!(scratch.forerunner("show reference").good(), first);
}

#[test]
fn a_run_that_goes_on_is_the_latest() {
    let scratch = Scratch::trivial();
    let slow = "--set run.mode=steady --set environment.config.evaluate_seconds=0.2 \
                --set budget.evaluations=1000";
    let running = Running::start(scratch.command(&format!("run trivial.toml {slow}")));
    running.wait_for("#1 ");
    scratch.forerunner("run trivial.toml --set budget.evaluations=10").good();
    running.wait_for("#12 ");
    let first = scratch.forerunner("show runs/trivial-001 reference").good();
    assert_eq!(scratch.forerunner("show reference").good(), first);
    running.kill();
}

#[test]
fn a_program_as_it_is() {
    let (scratch, log) = finished();
    let source = scratch.forerunner("show run best --source").good();
    let value = source.lines().next().and_then(|line| line.strip_prefix("value = "));
    let value: f64 = value.expect("the first line").parse().expect("a number");
    assert_eq!(log.summary()["best_metrics"]["distance"].as_f64(), Some(value.abs()));
    let reference = scratch.forerunner("show run reference --source").good();
    let printed = scratch.command("evaluate reference --environment trivial --print --config");
    let mut command = printed;
    command.arg(r#"{"program_bytes": 100}"#);
    assert_eq!(scratch.done(command).good(), reference);
}

#[test]
fn an_evaluation_as_json() {
    let (scratch, log) = finished();
    let evaluation = scratch.forerunner("show run best --json").good();
    let evaluation: Value = serde_json::from_str(&evaluation).expect("one JSON object");
    assert_eq!(evaluation["verdict"], "accepted");
    assert_eq!(evaluation["program"], log.summary()["best"]);
    assert_eq!(evaluation["metrics"], log.summary()["best_metrics"]);
}

#[test]
fn a_digest_compares_with_the_parent() {
    let (scratch, log) = finished();
    let best = log.summary()["best"].as_str().expect("an identity");
    let text = scratch.forerunner("show run best --digest").good();
    assert!(
        text.starts_with(&format!("program {best}: accepted\n\nmetrics\n  distance ")),
        "{text}"
    );
    assert!(text.contains(" (parent "), "{text}");
    let text = scratch.forerunner("show run reference --digest").good();
    assert!(text.contains("distance 1\n") && !text.contains("parent"), "{text}");
    scratch.write("program.txt", "value = -0.25\n");
    let text = scratch.forerunner("evaluate program.txt --environment trivial --digest").good();
    assert!(text.starts_with("accepted\n\nmetrics\n  distance 0.25"), "{text}");
    for both in ["show run --digest --json", "evaluate x --environment trivial --digest --json"] {
        assert_eq!(scratch.forerunner(both).code, Some(2), "{both}");
    }
}

#[test]
fn an_ambiguous_identity_lists_the_programs() {
    let (scratch, log) = finished();
    // More programs than hexadecimal digits: some share the first one.
    let ids = programs(&log);
    let first = |id: &String| id[..1].to_owned();
    let digit = ids
        .iter()
        .map(first)
        .find(|digit| ids.iter().filter(|id| id.starts_with(digit)).count() > 1);
    let digit = digit.expect("there are more programs than digits");
    let failure = scratch.forerunner(&format!("show run {digit}")).failure();
    assert!(
        failure.starts_with(&format!("exit 2\nerror: `{digit}` could be {digit}")),
        "{failure}"
    );
    assert!(failure.ends_with("\nhint: give more digits\n"), "{failure}");
}

#[test]
fn an_unknown_identity() {
    let (scratch, _) = finished();
    // The second is no identity at all, though some of its letters are hexadecimal digits.
    insta::assert_snapshot!(scratch.forerunner("show run 0123456789abcdef").failure(), @"
    exit 2
    error: the run has no program `0123456789abcdef`
    hint: `best`, `reference`, or the first digits of an identity from `forerunner log`
    ");
    insta::assert_snapshot!(scratch.forerunner("show run newest").failure(), @"
    exit 2
    error: the run has no program `newest`
    hint: `best`, `reference`, or the first digits of an identity from `forerunner log`
    ");
}

#[test]
fn a_run_that_is_not_there() {
    let scratch = Scratch::new();
    insta::assert_snapshot!(scratch.forerunner("show run").failure(), @"
    exit 4
    error: run holds no run
    hint: `forerunner log` lists the runs below a folder
    ");
    insta::assert_snapshot!(scratch.forerunner("log run").failure(), @"
    exit 4
    error: run holds no run
    hint: `forerunner log` lists the runs below a folder
    ");
    assert!(!scratch.path().join("run").exists(), "looking makes nothing");
}

#[test]
fn a_run_whose_store_is_something_else() {
    let scratch = Scratch::trivial();
    scratch.write(
        "run/store.sqlite",
        "This is no database, though it is long enough for one. ".repeat(20),
    );
    for command in ["show run", "log run", "run --resume run", "run trivial.toml --out run"] {
        insta::allow_duplicates! {
            insta::assert_snapshot!(scratch.forerunner(command).failure(), @"
            exit 4
            error: run cannot be read as a run: file is not a database
            hint: its `store.sqlite` is damaged or something else; restore it from a copy, or start another run with `--out DIR`
            ");
        }
    }
}

#[test]
fn the_log_reads_as_the_run_did() {
    let scratch = Scratch::trivial();
    let text = scratch.forerunner("run trivial.toml --out run").good();
    let log = scratch.forerunner("log run").good();
    assert!(text.starts_with(&log), "{log}\n--- is not the start of ---\n{text}");
    assert!(log.contains("#10 "), "{log}");
}

#[test]
fn one_program_is_evaluated() {
    let scratch = Scratch::trivial();
    scratch.write("program.txt", "value = -0.25\n");
    let command = "evaluate program.txt --environment trivial --json";
    let done = scratch.forerunner(command);
    let evaluation: Value = serde_json::from_str(&done.stdout).expect("one JSON object");
    assert_eq!(
        (done.code, &evaluation["metrics"]["distance"]),
        (Some(0), &0.25.into()),
        "{evaluation}"
    );
}

#[test]
fn a_refused_program_says_why() {
    let scratch = Scratch::trivial();
    scratch.write("bad/program.txt", "nothing\n");
    let done = scratch.forerunner("evaluate bad --environment trivial");
    insta::assert_snapshot!(format!("exit {:?}\n{}", done.code, done.stdout), @"
    exit Some(1)
    failed (rule)  program d4b619d0c4d96dde98a48c27210d29a1
    trivial, seed 1, dev slice

    error trivial/value
        no `value = NUMBER` line in program.txt
    ");
    insta::assert_snapshot!(scratch.forerunner("evaluate none.rs --environment trivial").failure(), @"
    exit 2
    error: cannot read none.rs: No such file or directory (os error 2)
    hint: give a program, which is a file or a folder of UTF-8 text, or `reference`
    ");
}

/// No control character but the line feed, and nothing that reorders text.
fn assert_harmless(what: &str, text: &str) {
    let bad = |char: char| {
        (char.is_control() && char != '\n') || ('\u{202a}'..='\u{202e}').contains(&char)
    };
    let found: Vec<char> = text.chars().filter(|char| bad(*char)).collect();
    assert!(found.is_empty(), "{what} shows {found:?}: {text:?}");
}

const SPELLS: &str = r#"
[environment]
name = "moody"

[[mutator]]
name = "grumble"
config = { mood = "spells" }

[selector]
name = "islands"

[budget]
evaluations = 3
"#;

fn enchanted() -> (Scratch, forerunner_tests::Done) {
    let scratch = Scratch::new();
    scratch.add_plugin(strange_plugins().library("moody"));
    scratch.write("spells.toml", SPELLS);
    let done = scratch.forerunner("run spells.toml --plugins plugins --out run");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    (scratch, done)
}

#[test]
fn hostile_text_does_not_reach_the_terminal() {
    let (scratch, done) = enchanted();
    assert!(done.stdout.contains("a spell"), "the idea is shown: {}", done.stdout);
    assert_harmless("run", &done.stdout);
    assert_harmless("digest", &scratch.forerunner("show run --digest").good());
    for command in ["show run", "show run --diff", "log run"] {
        let text = scratch.forerunner(command).good();
        assert!(text.contains("over"), "{command} shows the spell's harmless part: {text}");
        assert_harmless(command, &text);
    }
    let evaluate = scratch.forerunner("evaluate reference --environment moody --plugins plugins");
    assert_harmless("evaluate", &evaluate.stdout);
    // Machines get everything, escaped.
    for command in ["show run --json", "log run --json"] {
        let json = scratch.forerunner(command).good();
        assert!(json.contains("\\u001b[2J") && !json.contains('\u{1b}'), "{command}: {json}");
    }
}

/// A file gets the program as it is, a terminal a harmless rendering.
#[test]
fn a_hostile_source_does_not_reach_the_terminal() {
    let (scratch, _) = enchanted();
    let raw = scratch.forerunner("show run best --source").good();
    assert!(raw.contains("\u{1b}[2J"), "a pipe gets every byte");
    let mut command = scratch.program("script");
    let show = format!("{} show run best --source", scratch.binary().display());
    command.args(["--quiet", "--return", "--command", &show, "/dev/null"]);
    let Ok(output) = command.output() else {
        return forerunner_tests::skip(
            "a_hostile_source",
            "there is no `script` to make a terminal",
        );
    };
    let shown = String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n");
    assert!(shown.contains("over"), "{shown:?}");
    assert_harmless("show --source", &shown);
}
