//! `agent`: a command changes the program in a folder of its own, and a replay needs none.

use forerunner_tests::Scratch;
use std::{fs, os::unix::fs::PermissionsExt};

/// Halves the number, never quite the same, asks whether that may be, notes its idea; the third start is without success.
const HALVER: &str = r#"#!/bin/sh
grep -q 'bring a number to zero' BRIEF.md || exit 9
echo start >> "$STARTS"
[ "$(wc -l < "$STARTS")" -ne 3 ] || { echo 'out of quota' >&2; exit 7; }
cp program.txt before.md
echo nothing > program.txt
./check > refusal.md && exit 8
grep -q 'trivial/value' refusal.md || exit 6
awk -v n="$(wc -l < "$STARTS")" '/^value = /{ print "value = " $3 * (0.5 + n / 100); next } { print }' before.md > program.txt
./check || exit 5
printf 'Summary: half of it\nExpected gain: 40 %% to 60 %%\nMechanism: It is nearer to zero.\n' > IDEA.md
echo '{"spent": 0.125}'
"#;

const RUN: &str = r#"[environment]
name = "trivial"

[[mutator]]
name = "agent"

[mutator.config]
command = ["FOLDER/halver", "{prompt}"]
writable = ["FOLDER/starts"]
set = { STARTS = "FOLDER/starts" }
dollars = 1.0
cost = { dollars = "/spent" }

[selector]
name = "islands"

[run]
children = 2

[budget]
evaluations = 4
"#;

#[test]
fn an_agent_proposes_and_a_replay_needs_none() {
    let scratch = Scratch::new();
    let halver = scratch.write("halver", HALVER);
    fs::set_permissions(&halver, fs::Permissions::from_mode(0o755)).expect("executable");
    scratch.write("starts", "");
    let folder = scratch.path().canonicalize().expect("a path");
    scratch.write("agent.toml", RUN.replace("FOLDER", &folder.to_string_lossy()));
    scratch.forerunner("run agent.toml --out run").good();

    let log = scratch.log("run");
    let verdicts = log.verdicts_of_exactly(4);
    assert_eq!((verdicts["accepted"], verdicts["mutator"]), (3, 1), "{verdicts:?}");
    // Three that told what they cost, one that did not.
    assert_eq!(log.summary()["cost"]["dollars"], 3.0 * 0.125 + 1.0);
    let called: Vec<_> = log.of("called").collect();
    assert_eq!(called.len(), 4);
    assert!(called.iter().all(|call| call["purpose"] == "agent" && call["model"] == "halver"));
    let failures: Vec<&str> = called.iter().filter_map(|call| call["failure"].as_str()).collect();
    assert!(failures.len() == 1 && failures[0].contains("ended with code 7"), "{failures:?}");
    assert!(failures[0].contains("its last words: out of quota"), "{failures:?}");
    let ideas = scratch.forerunner("ideas run").good();
    assert!(ideas.contains("half of it") && ideas.contains("hit"), "{ideas}");
    let text = scratch.forerunner("log run").good();
    assert!(text.contains("halver for agent"), "{text}");

    // Whoever only looks again needs neither the program nor what it wrote to.
    fs::remove_file(&halver).expect("removed");
    let done = scratch.forerunner("run --replay run --out again");
    assert!(done.stderr.contains("there is no program `"), "{}", done.stderr);
    let again = done.good();
    assert!(again.contains("4 iterations and 4 calls as recorded in run"), "{again}");
    assert_eq!(scratch.log("again").summary()["best"], log.summary()["best"]);
    let starts = fs::read_to_string(scratch.path().join("starts")).expect("its own record");
    assert_eq!(starts.lines().count(), 4, "a replay starts nobody");
}
