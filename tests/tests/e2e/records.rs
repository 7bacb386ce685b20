//! Records: the vault, the disguise and the replay, with programs that would cheat at each.

use forerunner_tests::{Log, Running, Scratch};
use serde_json::Value;

/// A run whose mutator writes `line` into every program, confirmed at level record.
fn run_file(line: &str, options: &str) -> Scratch {
    let scratch = Scratch::trivial();
    let text = forerunner_tests::TRIVIAL.replace(
        "name = \"nudge\"",
        &format!("name = \"nudge\"\nconfig = {{ fault_every = 1, fault = \"{line}\" }}"),
    );
    let confirm = "[confirm]\nfinalists = 2\nseeds = 3\nlevel = \"record\"\n";
    scratch.write("record.toml", format!("{text}\n{confirm}{options}"));
    scratch
}

/// Runs it to the end.
fn ended(line: &str) -> (Scratch, Log, String) {
    let scratch = run_file(line, "");
    let set = "--set environment.config.noise=0.02";
    let text = scratch.forerunner(&format!("run record.toml --out run {set}")).good();
    let log = scratch.log("run");
    (scratch, log, text)
}

fn record(log: &Log) -> &Value {
    &log.summary()["confirmation"]["record"]
}

/// The parts that were judged, in order.
fn judged(log: &Log) -> Vec<(&str, bool)> {
    log.of("record_judged")
        .map(|event| {
            let part = event["part"].as_str().expect("a part");
            (part, event["holds"].as_bool().expect("a verdict"))
        })
        .collect()
}

fn measured(log: &Log, part: &str) -> usize {
    log.of("record_measured").filter(|event| event["part"] == part).count()
}

#[test]
fn an_honest_program_becomes_a_record() {
    let (scratch, log, text) = ended("honest");
    assert_eq!(judged(&log), [("vault", true), ("disguise", true), ("replay", true)]);
    assert_eq!(["vault", "disguise", "replay"].map(|part| measured(&log, part)), [6, 3, 1]);
    let record = record(&log);
    assert_eq!(record["holds"], true);
    assert_eq!(record["plan"]["attempt"], 1);
    assert!(text.contains("Record: on the vault "), "{text}");
    assert!(text.contains("its replay is equal bit for bit"), "{text}");
    // All on the vault, in disguise or not; the replay is the first seed once more, at the end.
    let seeds: Vec<u64> = record["plan"]["seeds"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|seed| seed.as_u64().expect("a seed"))
        .collect();
    let last = log.of("record_measured").next_back().expect("measured");
    assert_eq!((last["part"].as_str(), last["seed"].as_u64()), (Some("replay"), Some(seeds[0])));
    let disguise = &record["plan"]["disguise"];
    for event in log.of("record_measured") {
        let expected = if event["part"] == "disguise" { disguise } else { &Value::Null };
        assert_eq!(&event["disguise"], expected);
    }
    let confirmed: Vec<u64> =
        log.of("confirmed").map(|event| event["seed"].as_u64().expect("a seed")).collect();
    assert!(seeds.iter().all(|seed| !confirmed.contains(seed)), "fresh seeds");

    // Anybody can repeat each measurement from what is stored.
    let id = record["plan"]["program"].as_str().expect("a program");
    let source = scratch.forerunner(&format!("show run {} --source", &id[..8])).good();
    scratch.write("mine/program.txt", source);
    for event in log.of("record_measured").filter(|event| event["program"] == id) {
        let disguise = event["disguise"].as_u64();
        let disguise = disguise.map_or(String::new(), |number| format!("--disguise {number}"));
        let mut command = scratch.command(&format!(
            "evaluate mine --environment trivial --slice vault --seed {} {disguise} --json",
            event["seed"]
        ));
        command.args(["--config", r#"{"noise":0.02}"#]);
        let again: Value = serde_json::from_str(&scratch.done(command).good()).expect("JSON");
        assert_eq!(again["metrics"], event["evaluation"]["metrics"]);
        assert_eq!(again["evidence"]["digest"], event["digest"]);
    }
    let page = std::fs::read_to_string(scratch.path().join("run/report.html")).expect("a report");
    assert!(page.contains("<span class=\"badge good\">record</span>"), "the page says so");
    assert!(page.contains("The attempt at a record of"), "and shows the parts");
}

#[test]
fn knowledge_of_the_data_is_lost_in_disguise() {
    let (_, log, text) = ended("knows = 0.5");
    assert_eq!(judged(&log), [("vault", true), ("disguise", false)]);
    assert_eq!(measured(&log, "replay"), 0, "what is refused costs no more");
    assert_eq!(record(&log)["holds"], false);
    assert!(text.contains("No record: the disguise refuses "), "{text}");
    let excess = record(&log)["disguise"]["compared"][0]["test"]["excess"].as_f64();
    assert!((excess.expect("tested") - 2.0_f64.ln()).abs() < 0.05, "{excess:?}");
}

#[test]
fn what_only_fits_val_is_refused_by_the_vault() {
    // So much smaller on dev and val that without it nothing is left of the gain.
    let (_, log, text) = ended("overfits = 1e-9");
    assert_eq!(judged(&log)[0].0, "vault");
    let gain = &log.summary()["confirmation"]["finalists"][0]["gain"]["mean"];
    assert!(gain.as_f64().expect("a gain") > 15.0, "on val it is overwhelming: {gain}");
    let on_vault = &record(&log)["vault"]["finalist"]["gain"]["mean"];
    assert!(on_vault.as_f64().expect("a gain") < 5.0, "{on_vault}: {text}");
}

#[test]
fn a_replay_that_differs_refuses() {
    let (_, log, text) = ended("unsteady");
    assert_eq!(judged(&log), [("vault", true), ("disguise", true), ("replay", false)]);
    let replay = &record(&log)["replay"];
    assert_ne!(replay["first"], replay["again"]);
    assert!(text.contains("No record: the replay refuses "), "{text}");
}

#[test]
fn a_worker_that_is_lost_is_asked_once_more_and_that_is_logged() {
    let (_, log, text) = ended("stumbles");
    assert_eq!(judged(&log), [("vault", true), ("disguise", true), ("replay", true)]);
    let repeated = log.of("measurement_repeated").count();
    assert!(repeated > 0 && log.of("worker_lost").count() == repeated, "{repeated}");
    assert!(record(&log)["repeated"].as_u64().expect("a number") > 0);
    assert!(text.contains("Repeated because worker or environment failed: "), "{text}");
}

#[test]
fn a_worker_that_is_lost_twice_fails_the_claim() {
    let (_, log, text) = ended("stumbles always");
    assert!(record(&log).is_null(), "no claim holds, and the vault is not touched");
    assert_eq!(log.of("record_started").count(), 0);
    let finalists = log.summary()["confirmation"]["finalists"].as_array().expect("a list");
    assert!(finalists.iter().all(|one| one["holds"] == false));
    // Two finalists on three seeds: each once more, and no third time.
    assert_eq!(log.of("measurement_repeated").count(), 6);
    assert_eq!(log.of("confirmed").count(), 3 + 12);
    assert!(text.contains("No record: no claim holds"), "{text}");
}

#[test]
fn a_finished_run_can_go_for_a_record_and_only_once() {
    let scratch = Scratch::trivial();
    scratch.forerunner("run trivial.toml --out run --confirm claim").good();
    let log = scratch.log("run");
    assert!(record(&log).is_null());
    let claims = log.of("confirmed").count();
    assert_eq!(claims, 12, "three finalists and the reference on three seeds");
    let text = scratch.forerunner("run --resume run --confirm record").good();
    assert!(text.contains("Record: on the vault "), "{text}");
    let log = scratch.log("run");
    assert_eq!(log.of("confirmed").count(), claims, "claims are not measured again");
    let n_measured = log.of("record_measured").count();
    assert_eq!(n_measured, 10);
    let first = record(&log).clone();
    // The level stays; the vault is not read again.
    scratch.forerunner("run --resume run").good();
    let log = scratch.log("run");
    assert_eq!(log.of("record_measured").count(), n_measured);
    assert_eq!(record(&log), &first);
    let text = scratch.forerunner("run --resume run --confirm none").good();
    assert!(!text.contains("Record: "), "{text}");
}

#[test]
fn another_program_is_another_attempt_and_spends_less_error() {
    let scratch = run_file("honest", "");
    scratch.forerunner("run record.toml --out run --set budget.evaluations=2").good();
    let first = record(&scratch.log("run")).clone();
    let text = scratch.forerunner("run --resume run --set budget.evaluations=30").good();
    assert!(text.contains("Attempt 2 of this run"), "{text}");
    let log = scratch.log("run");
    let second = record(&log);
    assert_ne!(second["plan"]["program"], first["plan"]["program"]);
    assert_eq!((&first["plan"]["attempt"], &second["plan"]["attempt"]), (&1.into(), &2.into()));
    let error = |record: &Value| 1.0 - record["plan"]["confidence"].as_f64().expect("a number");
    assert!((error(second) - error(&first) / 4.0).abs() < 1e-12, "{second}");
    let seeds = |record: &Value| record["plan"]["seeds"].as_array().expect("a list").clone();
    assert!(seeds(second).iter().all(|seed| !seeds(&first).contains(seed)), "fresh seeds again");
}

#[test]
fn an_attempt_that_was_cut_off_goes_on_where_it_was() {
    let scratch = run_file("honest", "");
    let slow = "--set environment.config.evaluate_seconds=0.15 --set budget.evaluations=4";
    let command = scratch.command(&format!("run record.toml --out run {slow}"));
    let running = Running::start(command);
    running.wait_for("the vault holds");
    running.wait_for("disguise ");
    running.kill();
    forerunner_tests::wait_until_alone(scratch.path());
    let before = scratch.log("run");
    let n_before = before.of("record_measured").count();
    assert!((7..10).contains(&n_before), "{n_before} of 10");
    let plan = before.of("record_started").next().expect("started")["plan"].clone();

    let text = scratch.forerunner("run --resume run").good();
    assert!(text.contains("Interrupted 1 time."), "{text}");
    let log = scratch.log("run");
    assert_eq!(record(&log)["plan"], plan, "the same seeds, the same disguise");
    assert_eq!(log.of("record_measured").count(), 10, "only what was missing is measured");
    assert_eq!(judged(&log), [("vault", true), ("disguise", true), ("replay", true)]);
    assert_eq!(record(&log)["sessions"], 2);
}

#[test]
fn without_disguise_the_rest_is_tried() {
    let scratch = run_file("knows = 0.5", "");
    let set = "--set environment.config.disguises=false";
    let text = scratch.forerunner(&format!("run record.toml --out run {set}")).good();
    assert!(text.contains("this environment offers no disguise"), "{text}");
    let log = scratch.log("run");
    assert_eq!(judged(&log), [("vault", true), ("replay", true)]);
    assert_eq!(record(&log)["plan"]["disguise"], Value::Null);

    let mut command = scratch.command("evaluate reference --environment trivial --disguise 3");
    command.args(["--config", r#"{"disguises":false}"#]);
    insta::assert_snapshot!(scratch.done(command).failure(), @"
    exit 2
    error: environment `trivial` cannot disguise its data
    hint: measure without `--disguise`
    ");
}

#[test]
fn a_record_is_chosen_on_val() {
    let scratch = Scratch::trivial();
    let set = "--set confirm.slice=vault --confirm record";
    insta::assert_snapshot!(scratch.forerunner(&format!("run trivial.toml --out run {set}")).failure(), @r#"
    exit 2
    error: --confirm: a record is chosen on val and tried on the vault: `confirm.slice` must be "val" with `confirm.level = "record"`
    hint: leave `confirm.slice` out
    "#);
}
