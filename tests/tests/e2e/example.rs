//! The environment of the documentation, from its source to a result.

use forerunner_tests::{Scratch, example_environment};

const RUN_FILE: &str = r#"
[environment]
name = "sine"
config = { samples = 200 }

[[mutator]]
name = "tuner"

[selector]
name = "islands"
config = { islands = 1 }

[budget]
evaluations = 60

[confirm]
finalists = 1
"#;

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    scratch.add_plugin(example_environment().library("sine"));
    scratch.write("sine.toml", RUN_FILE);
    scratch
}

#[test]
fn it_describes_itself() {
    let scratch = scratch();
    insta::assert_snapshot!(scratch.forerunner("plugin inspect plugins/libsine.so").good(), @"
    sine 0.1.0  environment sine
        plugins/libsine.so
    ");
    let listed = scratch.forerunner("--plugins plugins plugin list --json").good();
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed[0]["exports"], serde_json::json!([["environment", "sine"]]));
    assert!(listed.as_array().expect("a list").len() > 1, "and those of the installation");
}

#[test]
fn it_is_searched_with_installed_plugins() {
    let scratch = scratch();
    let command = "run sine.toml --plugins plugins --out run --json";
    let summary = scratch.forerunner(command).good();
    let summary: serde_json::Value = serde_json::from_str(&summary).expect("one JSON object");
    let error = |of: &str| summary[of]["error"].as_f64().expect("the objective");
    assert_eq!(summary["iterations"], 60);
    // The Taylor polynomial is known not to be the best one; the best one's error is 6.8e-5.
    assert!(error("reference") > 4e-3, "{summary}");
    assert!(error("best_metrics") < error("reference") / 2.0, "{summary}");
    assert!(error("best_metrics") > 6e-5, "better than the optimum: {summary}");
    assert_eq!(summary["confirmation"]["slice"], "val");
}

#[test]
fn it_cannot_be_cheated_with_numbers_that_are_none() {
    let scratch = scratch();
    scratch.write("cheat/sine.toml", "c1 = NaN\nc3 = NaN\nc5 = NaN\n");
    let mut command = scratch.command("evaluate cheat --environment sine --plugins plugins --json");
    command.args(["--config", r#"{"samples": 10}"#]);
    let done = scratch.done(command);
    let evaluation: serde_json::Value = serde_json::from_str(&done.stdout).expect("JSON");
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert_eq!(evaluation["cause"], "not_finite");
}
