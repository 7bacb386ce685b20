//! Help, completions, and the examples in them.

use forerunner_tests::{Hook, Scratch};

const COMMANDS: [&str; 14] = [
    "run",
    "evaluate",
    "show",
    "report",
    "ideas",
    "calls",
    "log",
    "mcp",
    "plugin list",
    "plugin inspect",
    "data prepare",
    "data fetch",
    "completions",
    "",
];

#[test]
fn every_command_explains_itself() {
    let scratch = Scratch::new();
    for command in COMMANDS {
        let text = scratch.forerunner(&format!("{command} --help")).good();
        assert!(text.contains("Usage: forerunner"), "{command}: {text}");
    }
    let overview = scratch.forerunner("--help").good();
    assert!(overview.contains("Exit codes:"), "{overview}");
    for command in COMMANDS {
        let name = command.split(' ').next().expect("a word");
        assert!(overview.contains(&format!("  {name}")), "{name} is not in {overview}");
    }
    assert!(!overview.contains("worker  "), "internal commands are hidden");
}

#[test]
fn completions_know_the_commands() {
    let scratch = Scratch::new();
    for shell in ["bash", "zsh", "fish"] {
        let text = scratch.forerunner(&format!("completions {shell}")).good();
        assert!(text.contains("forerunner"), "{shell}");
        assert!(text.contains("run") && text.contains("resume"), "{shell}");
    }
    // Where the shell is there, it must be able to read them.
    let text = scratch.forerunner("completions bash").good();
    scratch.write("forerunner.bash", text);
    let mut bash = scratch.program("bash");
    bash.args(["-n", "forerunner.bash"]);
    assert_eq!(scratch.done(bash).failure(), "exit 0\n");
}

#[test]
fn the_run_file_in_the_help_is_a_run_file() {
    let scratch = Scratch::new();
    let help = scratch.forerunner("run --help").good();
    let (_, example) = help.split_once("A run file:\n").expect("the help shows a run file");
    scratch.write("example.toml", example);
    scratch.write("my_check.wasm", Hook::new("my-check").accepting());
    let (trivial, nudge) = ("environment.name=trivial", "mutator.0.name=nudge");
    let sets = format!(
        "--set {trivial} --set environment.config={{}} --set {nudge} --set budget.evaluations=3"
    );
    let summary = scratch.forerunner(&format!("run example.toml --out run --json {sets}")).good();
    let summary: serde_json::Value = serde_json::from_str(&summary).expect("JSON");
    assert_eq!((&summary["iterations"], &summary["reason"]), (&3.into(), &"evaluations".into()));
    assert!(summary["confirmation"].is_object(), "as the example says");
}

#[test]
fn wrong_arguments_are_usage_errors() {
    let scratch = Scratch::new();
    for arguments in ["fly", "run --fast", "evaluate x", "run x --resume y --out z", "plugin"] {
        let done = scratch.forerunner(arguments);
        assert_eq!(done.code, Some(2), "{arguments}: {}", done.stderr);
        assert_eq!(done.stdout, "", "{arguments}");
    }
}

#[test]
fn a_closed_pipe_does_not_end_a_run() {
    let scratch = Scratch::trivial();
    let mut command = scratch.program("sh");
    let script = r#"{ "$1" run trivial.toml --out run; echo $? >code; } | head -n 1"#;
    command.args(["-c", script, "sh"]).arg(scratch.binary());
    scratch.done(command).good();
    scratch.log("run").verdicts_of_exactly(10);
}
