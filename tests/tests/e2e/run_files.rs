//! Run files that cannot be used.

use forerunner_tests::{Scratch, TRIVIAL, is_installed, skip};

/// Runs `text` as a run file, which must fail before a run begins.
fn check(text: &str, options: &str) -> String {
    let scratch = Scratch::new();
    scratch.write("run.toml", text);
    let done = scratch.forerunner(&format!("run run.toml --out run {options}"));
    assert_eq!(done.stdout, "");
    done.failure()
}

#[test]
fn a_misspelt_key_is_shown_in_its_place() {
    insta::assert_snapshot!(check(&TRIVIAL.replace("children", "childen"), ""), @"
    exit 2
    error: run.toml: TOML parse error at line 11, column 1
       |
    11 | childen = 4
       | ^^^^^^^
    unknown field `childen`, expected one of `seed`, `mode`, `children`, `slots`, `ahead`, `checkers`, `repairs`, `pause_seconds`, `evaluation_timeout_seconds`
    hint: `forerunner run --help` shows an example run file
    ");
    insta::assert_snapshot!(check(&TRIVIAL.replace("[budget]", "[budgets]"), ""), @"
    exit 2
    error: run.toml: TOML parse error at line 13, column 2
       |
    13 | [budgets]
       |  ^^^^^^^
    unknown field `budgets`, expected one of `environment`, `mutator`, `selector`, `hook`, `run`, `budget`, `confirm`
    hint: `forerunner run --help` shows an example run file
    ");
}

#[test]
fn a_value_of_the_wrong_type_is_shown_in_its_place() {
    insta::assert_snapshot!(check(&TRIVIAL.replace("= 10", "= \"ten\""), ""), @r#"
    exit 2
    error: run.toml: TOML parse error at line 14, column 15
       |
    14 | evaluations = "ten"
       |               ^^^^^
    invalid type: string "ten", expected u64
    hint: `forerunner run --help` shows an example run file
    "#);
}

#[test]
fn text_that_is_no_toml() {
    insta::assert_snapshot!(check("environment: trivial\n", ""), @"
    exit 2
    error: run.toml: TOML parse error at line 1, column 14
      |
    1 | environment: trivial
      |              ^
    key with no value, expected `=`
    hint: `forerunner run --help` shows an example run file
    ");
}

#[test]
fn an_unlimited_budget() {
    insta::assert_snapshot!(check(&TRIVIAL.replace("evaluations = 10", ""), ""), @"
    exit 2
    error: run.toml: the budget is unlimited
    hint: set `budget.evaluations` or `budget.seconds`; money and tokens alone do not end a run whose mutators cost nothing
    ");
}

#[test]
fn values_that_make_no_sense() {
    insta::assert_snapshot!(check(TRIVIAL, "--set run.slots=0"), @"
    exit 2
    error: run.toml: `run.slots` must be at least 1
    hint: leave it out for one measurement at a time
    ");
    insta::assert_snapshot!(check(TRIVIAL, "--set mutator.0.weight=-1"), @"
    exit 2
    error: run.toml: mutator weights must be finite, not negative, and not all zero
    hint: leave `weight` out for equal shares
    ");
}

#[test]
fn an_override_that_cannot_be_applied() {
    insta::assert_snapshot!(check(TRIVIAL, "--set run.sed=7"), @"
    exit 2
    error: --set run.sed=7: unknown field `sed`, expected one of `seed`, `mode`, `children`, `slots`, `ahead`, `checkers`, `repairs`, `pause_seconds`, `evaluation_timeout_seconds`
    in `run`
    hint: write it as `--set budget.evaluations=50`
    ");
    insta::assert_snapshot!(check(TRIVIAL, "--set seed"), @"
    exit 2
    error: --set seed: no `=`
    hint: write it as `--set budget.evaluations=50`
    ");
    insta::assert_snapshot!(check(TRIVIAL, "--set mutator.3.weight=1"), @"
    exit 2
    error: --set mutator.3.weight=1: `3` is not an index below 1
    hint: write it as `--set budget.evaluations=50`
    ");
}

#[test]
fn an_unknown_plugin() {
    let environment = TRIVIAL.replace("\"trivial\"", "\"trival\"");
    insta::assert_snapshot!(check(&environment, ""), @"
    exit 3
    error: no plugin offers the environment `trival` (known: nanogpt, trivial; searched: [prefix]/lib/forerunner/plugins)
    hint: put the plugin's library into one of the searched folders, or name another folder with `--plugins DIR` or FORERUNNER_PLUGINS
    ");
    insta::assert_snapshot!(check(&TRIVIAL.replace("\"nudge\"", "\"nudg\""), ""), @"
    exit 3
    error: no plugin offers the mutator `nudg` (known: agent, llm, nudge, oracle, recipes, tuner; searched: [prefix]/lib/forerunner/plugins)
    hint: put the plugin's library into one of the searched folders, or name another folder with `--plugins DIR` or FORERUNNER_PLUGINS
    ");
    insta::assert_snapshot!(check(&TRIVIAL.replace("\"islands\"", "\"isles\""), ""), @"
    exit 3
    error: no plugin offers the selector `isles` (known: islands; searched: [prefix]/lib/forerunner/plugins)
    hint: put the plugin's library into one of the searched folders, or name another folder with `--plugins DIR` or FORERUNNER_PLUGINS
    ");
}

/// What failed before it began must not stand in the way of the second attempt.
#[test]
fn a_run_that_could_not_begin_leaves_nothing_in_its_way() {
    let scratch = Scratch::trivial();
    let first = scratch.forerunner("run trivial.toml --out run --set mutator.0.name=nudg");
    assert_eq!(first.code, Some(3), "{}", first.stderr);
    let second = scratch.forerunner("run trivial.toml --out run");
    assert_eq!(second.code, Some(0), "{}", second.stderr);
}

#[test]
fn an_unknown_preset() {
    let scratch = Scratch::new();
    let failure = scratch.forerunner("run quikstart").failure();
    let (presets, rest) = failure.split_once("(presets: ").expect("the presets are listed");
    let (_, hint) = rest.split_once(')').expect("the list ends");
    insta::assert_snapshot!(format!("{presets}(presets: …){hint}"), @"
    exit 2
    error: no run file or preset `quikstart` (presets: …)
    hint: give the path of a TOML run file, or one of the presets
    ");
}

#[test]
fn no_run_file_at_all() {
    let done = Scratch::new().forerunner("run");
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("<FILE|PRESET>"), "{}", done.stderr);
}

#[test]
fn an_unknown_track() {
    if !is_installed("nanogpt") {
        return skip("an_unknown_track", "the plugin nanogpt is not installed");
    }
    let nanogpt = TRIVIAL.replace("\"trivial\"", "\"nanogpt\"\nconfig = { track = \"gpu\" }");
    let failure = check(&nanogpt, "");
    assert!(failure.starts_with("exit 3\n"), "{failure}");
    assert!(failure.contains("`gpu`") && failure.contains("cpu"), "{failure}");
}
