//! `ideas` and `calls`: what was expected and what came, what was asked and what it cost.

use forerunner_tests::Scratch;
use serde_json::Value;

/// Twelve proposals; every third fails its first check and is repaired, 5 and 10 get no answer.
const ORACLE: &str = r#"[environment]
name = "trivial"

[[mutator]]
name = "oracle"
config = { dollars = 0.05, tokens = 1000, calls = 2, broken_every = 3, silent_every = 5 }

[selector]
name = "islands"
config = { islands = 2 }

[run]
children = 4

[budget]
evaluations = 12
"#;

/// A folder with a finished run of the oracle.
fn asked() -> Scratch {
    let scratch = Scratch::new();
    scratch.write("oracle.toml", ORACLE);
    scratch.forerunner("run oracle.toml --out run").good();
    scratch
}

fn json(scratch: &Scratch, arguments: &str) -> Value {
    let text = scratch.forerunner(arguments).good();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn objects(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("a list: {value}"))
}

#[test]
fn expected_gains_stand_beside_those_that_were_measured() {
    let scratch = asked();
    let found = json(&scratch, "ideas run --json");
    let ideas = objects(&found["ideas"]);
    assert_eq!(ideas.len(), 12);
    let log = scratch.log("run");
    for event in log.of("evaluated") {
        let number = event["iteration"].as_u64().expect("a number");
        let idea = &ideas[number as usize - 1];
        assert_eq!(idea["iteration"], number);
        assert_eq!(idea["verdict"], event["evaluation"]["verdict"]);
        assert_eq!(idea["model"], "oracle", "who did not answer was asked nevertheless");
        let Some(gain) = idea["gain"].as_f64() else { continue };
        // Without noise, a value times 0.5 to 1 is nearer to zero by what is missing to 1.
        assert!((0.0..=0.5).contains(&gain), "{idea}");
        assert_eq!((&idea["hit"], &idea["improved"]), (&true.into(), &true.into()), "{idea}");
    }
    let silent = objects(&found["ideas"]).iter().filter(|idea| idea["cause"] == "mutator").count();
    assert_eq!(silent, 2);
    let judged = ideas.iter().filter(|idea| !idea["gain"].is_null()).count();
    assert_eq!(judged, 10);
    let calibration = &found["calibration"];
    assert_eq!(
        (&calibration["coverage"]["n"], &calibration["coverage"]["rate"]),
        (&10.into(), &1.0.into())
    );
    assert_eq!(found["groups"]["mutator"][0]["ideas"], 12);
    let islands = objects(&found["groups"]["island"]);
    let of_islands: u64 = islands.iter().filter_map(|island| island["ideas"].as_u64()).sum();
    assert_eq!((islands.len(), of_islands), (2, 12));

    let text = scratch.forerunner("ideas run").good();
    assert!(text.contains("trivial: 12 ideas, 10 with an expected gain"), "{text}");
    assert!(text.contains("part of every gain is luck"), "{text}");
    assert!(text.contains("10 of 10: 100.0 %"), "{text}");
    assert!(text.contains("by island") && !text.contains("critic"), "{text}");
    let only = scratch.forerunner("ideas run --by model --sort iteration").good();
    assert!(only.contains("by model") && !only.contains("by island"), "{only}");
    let rows: Vec<&str> = only.lines().filter(|line| line.contains("template")).collect();
    assert!(rows[0].trim_start().starts_with("1 "), "as they came: {only}");
}

#[test]
fn a_run_without_models_has_ideas_too() {
    let scratch = Scratch::trivial();
    scratch.forerunner("run trivial.toml --out run --set budget.evaluations=30").good();
    let text = scratch.forerunner("ideas run").good();
    assert!(text.contains("the best 20 of 30 ideas"), "{text}");
    assert!(!text.contains("models;"), "{text}");
    let all = scratch.forerunner("ideas run --all").good();
    assert!(all.contains("ideas, best first"), "{all}");
    assert_eq!(all.lines().count() - text.lines().count(), 10);
    assert_eq!(scratch.forerunner("calls run").good(), "0 calls\n");
    insta::assert_snapshot!(scratch.forerunner("ideas nowhere").failure(), @"
    exit 4
    error: nowhere holds no run
    hint: `forerunner log` lists the runs below a folder
    ");
    insta::assert_snapshot!(scratch.forerunner("calls run abc").failure(), @"
    exit 2
    error: the run has no call `abc`
    hint: `forerunner calls RUN` lists them; the first digits are enough
    ");
    assert_eq!(scratch.forerunner("ideas run --by colour").code, Some(2));
}

#[test]
fn calls_are_listed_filtered_and_shown_in_full() {
    let scratch = asked();
    let all = json(&scratch, "calls run --json");
    // Two for each proposal but the two silent ones, which stop at their first; one for each repair.
    assert_eq!(objects(&all).len(), 10 * 2 + 2 + 4);
    let failed = json(&scratch, "calls run --failed --json");
    assert_eq!(objects(&failed).len(), 2);
    assert!(objects(&failed).iter().all(|call| call["outcome"] == "unavailable"));
    let repairs = json(&scratch, "calls run --purpose repair --model oracle --json");
    assert_eq!(objects(&repairs).len(), 4);
    assert_eq!(objects(&json(&scratch, "calls run --model nobody --json")).len(), 0);
    let text = scratch.forerunner("calls run").good();
    assert!(
        text.starts_with("26 calls, 2 without a reply: 26,000 + 26,000 tokens, $1.30\n"),
        "{text}"
    );

    let key = repairs[0]["key"].as_str().expect("an address");
    let one = json(&scratch, &format!("calls run {} --json", &key[..10]));
    assert_eq!(one["key"], key);
    let question = one["messages"][0]["text"].as_str().expect("a question");
    let reply = one["reply"].as_str().expect("a reply");
    let shown = scratch.forerunner(&format!("calls run {key}")).good();
    assert!(shown.contains(&format!("\nuser\n    {question}\n")), "{shown}");
    assert!(shown.ends_with(&format!("\nreply\n    {reply}\n")), "{shown}");
    let refused = scratch.forerunner("calls run 0123456789abcdef0123456789abcdef").failure();
    assert!(refused.contains("has no call"), "{refused}");
}

#[test]
fn the_log_and_the_report_say_what_was_asked() {
    let scratch = asked();
    let log = scratch.forerunner("log run").good();
    let asked = log.lines().filter(|line| line.contains("  asked  ")).count();
    assert_eq!(asked, 26, "{log}");
    assert!(log.contains("oracle for idea: 1000 + 1000 tokens, $0.0500, 0.0 s"), "{log}");
    assert!(log.contains("no reply: unavailable: the oracle is silent"), "{log}");
    let page = std::fs::read_to_string(scratch.path().join("run/report.html")).expect("written");
    assert!(page.contains("What models were asked"), "the costs name the models");
    let replay = scratch.forerunner("run --replay run --out again").good();
    assert!(
        replay.contains("replayed    12 iterations and 26 calls as recorded in run"),
        "{replay}"
    );
}

#[test]
fn json_shows_what_is_hidden() {
    let scratch = Scratch::trivial();
    // A control sequence, and a character that turns the text after it around.
    let name = "run\u{9b}31m\u{202e}";
    let run = format!("run trivial.toml --out {name} --events ndjson");
    let streamed = scratch.forerunner(&run).good();
    for arguments in [format!("log {name} --json"), format!("ideas {name} --json")] {
        let text = scratch.forerunner(&arguments).good();
        for text in [&text, &streamed] {
            assert!(text.contains(r"run\u009b31m\u202e"), "{arguments}: {text:?}");
            assert!(!text.contains(['\u{9b}', '\u{202e}']), "{arguments}: {text:?}");
        }
        let first: Value = serde_json::Deserializer::from_str(&text)
            .into_iter()
            .next()
            .expect("something")
            .expect("JSON");
        assert!(first["run"].as_str().is_some_and(|run| run.ends_with(name)), "{first}");
    }
}
