//! Calls to models: kept, shown, counted against budgets, and never made twice. The mutator `oracle` asks
//! somebody who is never of the same opinion twice, so that what comes out again was not asked again.

use forerunner_tests::Scratch;
use serde_json::Value;

/// Two generations of four; proposal 3 and 6 fail their first check, 5 gets no answer.
const ORACLE: &str = r#"[environment]
name = "trivial"
config = { noise = 0.1 }

[[mutator]]
name = "oracle"
parallel = true
config = { asked = "asked.txt", dollars = 0.25, calls = 2, broken_every = 3, silent_every = 5 }

[selector]
name = "islands"

[run]
children = 4

[budget]
evaluations = 8
"#;

fn oracle() -> Scratch {
    let scratch = Scratch::new();
    scratch.write("oracle.toml", ORACLE);
    scratch
}

/// How often somebody was really asked.
fn asked(scratch: &Scratch) -> usize {
    let text = std::fs::read_to_string(scratch.path().join("asked.txt")).unwrap_or_default();
    text.lines().count()
}

/// Events without what differs between a run and its repetition: times, the folder, the framework's own
/// view of itself.
fn outcomes(scratch: &Scratch, run: &str) -> Vec<Value> {
    let mut events = scratch.log(run).0;
    events.retain(|event| event["event"] != "replayed");
    for event in &mut events {
        let event = event.as_object_mut().expect("an object");
        for volatile in ["at", "run", "seconds", "slot_use", "replay_of"] {
            // A call's seconds are those of the recorded call.
            if volatile != "seconds" || event["event"] != "called" {
                event.remove(volatile);
            }
        }
    }
    events
}

#[test]
fn a_replay_asks_nobody_and_comes_to_the_same() {
    let scratch = oracle();
    scratch.forerunner("run oracle.toml --out run").good();
    // Two for each proposal but the silent one, which stops at its first; one for each repair.
    assert_eq!(asked(&scratch), 8 * 2 - 1 + 2);
    let log = scratch.log("run");
    assert_eq!(log.of("called").count(), 17);
    let silent = log.of("called").find(|call| call["iteration"] == 5).expect("it was called");
    assert_eq!(silent["failure"], "unavailable: the oracle is silent");
    assert_eq!(log.verdicts_of_exactly(8)["mutator"], 1);
    assert_eq!(log.summary()["cost"]["dollars"], 17.0 * 0.25);

    let said = scratch.forerunner("run --replay run --out again").good();
    assert!(said.contains("8 iterations"), "{said}");
    assert_eq!(asked(&scratch), 17, "a replay asks nobody");
    assert_eq!(outcomes(&scratch, "again"), outcomes(&scratch, "run"));
    let replayed = scratch.log("again");
    let replayed = replayed.of("replayed").next().expect("it says so");
    assert_eq!((&replayed["iterations"], &replayed["calls"]), (&8.into(), &17.into()));
    // What was repeated can be repeated.
    scratch.forerunner("run --replay again --out third").good();
}

#[test]
fn a_replay_says_where_it_leaves_the_recording() {
    let scratch = oracle();
    scratch.forerunner("run oracle.toml --out run").good();
    let store =
        rusqlite::Connection::open(scratch.path().join("run/store.sqlite")).expect("a store");
    let changed = store
        .execute("UPDATE calls SET answer = replace(answer, '\"text\":\"0', '\"text\":\"1') WHERE iteration = 7", [])
        .expect("changed");
    assert_eq!(changed, 2);
    let failure = scratch.forerunner("run --replay run --out changed").failure();
    assert!(
        failure.starts_with("exit 5\nerror: the replay left the recording at iteration 7: "),
        "{failure}"
    );
    assert!(failure.contains("\nhint: "), "{failure}");
    store.execute("DELETE FROM calls WHERE iteration = 6 AND ordinal = 1", []).expect("deleted");
    let failure = scratch.forerunner("run --replay run --out missing").failure();
    assert!(failure.starts_with("exit 5\nerror: the replay left the recording at iteration 6: `oracle` was not asked this before (idea, call "), "{failure}");
    assert_eq!(asked(&scratch), 17, "not even then");
}

#[test]
fn what_cannot_be_replayed_says_why() {
    let scratch = oracle();
    scratch.forerunner("run oracle.toml --out run --set run.mode=steady").good();
    insta::assert_snapshot!(scratch.forerunner("run --replay run").failure(), @"
    exit 2
    error: run cannot be replayed: what a steady run selects depends on the order in which measurements end
    hint: run with `--set run.mode=generations` what is to be replayed
    ");
    // One after the other, there is only one order.
    scratch.forerunner("run oracle.toml --out one --set run.mode=steady --set run.ahead=0").good();
    scratch.forerunner("run --replay one --out again").good();
    insta::assert_snapshot!(scratch.forerunner("run --replay nowhere").failure(), @"
    exit 4
    error: nowhere holds no run
    hint: `forerunner log` lists the runs below a folder
    ");
}

#[test]
fn a_run_that_died_does_not_pay_twice() {
    let scratch = oracle();
    // What failed would be asked again, if it was cut off.
    let one = "run oracle.toml --out run --set mutator.0.parallel=false --set run.ahead=0 \
               --set mutator.0.config.silent_every=0 --set mutator.0.config.die_at_call=12";
    let died = scratch.forerunner(one);
    assert_ne!(died.code, Some(0));
    assert_eq!(asked(&scratch), 11);
    let store =
        rusqlite::Connection::open(scratch.path().join("run/store.sqlite")).expect("a store");
    // The configuration is frozen: the next session must not die again.
    store
        .execute(
            "UPDATE meta SET value = replace(value, '\"die_at_call\":12', '\"die_at_call\":0')",
            [],
        )
        .expect("changed");
    drop(store);
    scratch.forerunner("run --resume run").good();
    assert_eq!(asked(&scratch), 18, "what was answered before is not asked again");
    let log = scratch.log("run");
    log.verdicts_of_exactly(8);
    assert_eq!(log.summary()["cost"]["dollars"], 18.0 * 0.25);
    scratch.forerunner("run --replay run --out again").good();
}

#[test]
fn money_and_tokens_end_a_run() {
    let scratch = oracle();
    let serial = "--set run.mode=steady --set run.ahead=0 --set mutator.0.config.silent_every=0";
    let run = format!("run oracle.toml --out run {serial} --set budget.dollars=1.2");
    let said = scratch.forerunner(&run).good();
    assert!(said.contains("the budget of money is used up"), "{said}");
    // Half a dollar each: the third goes over the edge and is finished, without a repair.
    let log = scratch.log("run");
    assert_eq!(log.summary()["reason"], "dollars");
    let verdicts = log.verdicts_of_exactly(3);
    assert_eq!(verdicts["rule"], 1, "{verdicts:?}");
    scratch.forerunner("run --resume run --set budget.dollars=2.0").good();
    assert_eq!(scratch.log("run").summary()["cost"]["dollars"], 2.0);

    let run = format!("run oracle.toml --out tokens {serial} --set budget.tokens=70");
    scratch.forerunner(&run).good();
    assert_eq!(scratch.log("tokens").summary()["reason"], "tokens");
    scratch.log("tokens").verdicts_of_exactly(2);
    let failure = scratch.forerunner("run oracle.toml --out x --set budget.dollars=0").failure();
    assert!(failure.contains("`budget.dollars` must be a positive number\nhint: "), "{failure}");
}

#[test]
fn the_run_goes_on_with_the_mutators_that_remain() {
    let scratch = oracle();
    let silent = "--set mutator.0.config.silent_every=1 --set run.pause_seconds=0.01 \
                  --set run.ahead=0 --set run.mode=steady --set budget.evaluations=60";
    let done = scratch.forerunner(&format!("run oracle.toml --out alone {silent}"));
    assert_eq!(done.code, Some(3), "{}", done.failure());
    assert!(done.stdout.contains("no mutator makes proposals any more"), "{}", done.stdout);
    let log = scratch.log("alone");
    // Three failures for the first pause, one for each of the six longer ones.
    assert_eq!(log.verdicts_of_exactly(9)["mutator"], 9);
    let warning = log.of("warning").next().expect("it says so").to_string();
    assert!(warning.contains("the oracle is silent"), "{warning}");

    let both = ORACLE.replace("[selector]", "[[mutator]]\nname = \"nudge\"\n\n[selector]");
    scratch.write("both.toml", both);
    scratch
        .forerunner(&format!("run both.toml --out both {silent} --set run.pause_seconds=60"))
        .good();
    let verdicts = scratch.log("both").verdicts_of_exactly(60);
    assert_eq!((verdicts["mutator"], verdicts["accepted"]), (3, 57));
}

#[test]
fn runs_of_all_kinds_are_replayed() {
    let scratch = oracle();
    // Two slots confirm in an order of their own, money ends in the middle, programs fail.
    let runs = [
        ("slots", "--set run.slots=2 --set confirm.finalists=2"),
        ("money", "--set budget.dollars=2.6 --set budget.evaluations=40"),
        ("hangs", "--set run.slots=2 --set run.ahead=3 --set budget.evaluations=11"),
    ];
    for (name, options) in runs {
        scratch.forerunner(&format!("run oracle.toml --out {name} {options}")).good();
        let done = asked(&scratch);
        let replayed = scratch.forerunner(&format!("run --replay {name} --out {name}-again"));
        assert_eq!(replayed.code, Some(0), "{name}: {}", replayed.failure());
        assert_eq!(asked(&scratch), done, "{name}");
    }
    assert_eq!(scratch.log("money").summary()["reason"], "dollars");
    insta::assert_snapshot!(scratch.forerunner("run --resume money-again").failure(), @"
    exit 2
    error: money-again is a replay of money, which asks nobody
    hint: `forerunner run --replay money` starts it again; `forerunner run --resume money` goes on with the run itself
    ");
    // A run that went on after it had ended is one run.
    scratch.forerunner("run --resume money --set budget.dollars=4.2").good();
    scratch.forerunner("run --replay money --out money-more").good();
}
