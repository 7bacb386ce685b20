//! Plugins that cannot be used: one clear message and a documented exit code, never an abort.

use forerunner_tests::{Scratch, strange_plugins};

const MOODY: &str = r#"
[environment]
name = "moody"

[[mutator]]
name = "grumble"
config = { mood = "panics" }

[selector]
name = "islands"

[budget]
evaluations = 3
"#;

/// Inspects a file that is no plugin.
fn inspect(scratch: &Scratch, file: &str) -> String {
    let done = scratch.forerunner(&format!("plugin inspect {file}"));
    assert_eq!(done.stdout, "");
    done.failure()
}

/// A folder with the plugin `moody` and a run file that uses it.
fn moody() -> Scratch {
    let scratch = Scratch::new();
    scratch.add_plugin(strange_plugins().library("moody"));
    scratch.write("moody.toml", MOODY);
    scratch
}

#[test]
fn a_file_that_is_not_there() {
    insta::assert_snapshot!(inspect(&Scratch::new(), "libnothing.so"), @"
    exit 3
    error: cannot find the plugin libnothing.so
    hint: `forerunner plugin list` shows what is there
    ");
}

#[test]
fn a_file_that_is_no_library() {
    let scratch = Scratch::new();
    scratch.write("libtext.so", "This is not a library.\n");
    insta::assert_snapshot!(inspect(&scratch, "libtext.so"), @r#"
    exit 3
    error: libtext.so is not a library that can be loaded: [here]/libtext.so: file too short
    hint: build the plugin with `crate-type = ["cdylib"]` for this platform
    "#);
    scratch.write("libempty.so", "");
    insta::assert_snapshot!(inspect(&scratch, "libempty.so"), @r#"
    exit 3
    error: libempty.so is not a library that can be loaded: [here]/libempty.so: file too short
    hint: build the plugin with `crate-type = ["cdylib"]` for this platform
    "#);
    insta::assert_snapshot!(inspect(&scratch, "."), @r#"
    exit 3
    error: . is not a library that can be loaded: [here]: cannot read file data: Is a directory
    hint: build the plugin with `crate-type = ["cdylib"]` for this platform
    "#);
}

#[test]
fn a_library_that_is_no_plugin() {
    let scratch = Scratch::new();
    // A library that every process has mapped, under a name of its own.
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux");
    let libc =
        maps.split_whitespace().find(|word| word.contains("/libc.so") || word.contains("/libc-"));
    std::fs::copy(libc.expect("tests use the C library"), scratch.path().join("libc.so"))
        .expect("copied");
    insta::assert_snapshot!(inspect(&scratch, "libc.so"), @"
    exit 3
    error: libc.so is a library but not a plugin: it exports no plugin header
    hint: add an `export_plugin!` line and depend on forerunner-sdk
    ");
}

#[test]
fn a_plugin_of_another_interface() {
    let scratch = Scratch::new();
    scratch.add_plugin(strange_plugins().library("other_version"));
    insta::assert_snapshot!(inspect(&scratch, "plugins/libother_version.so"), @"
    exit 3
    error: plugins/libother_version.so was built for plugin interface 0.9.0, this host speaks 0.1.0
    hint: rebuild the plugin against forerunner-sdk 0.1.0
    ");
}

#[test]
fn a_plugin_of_another_layout() {
    let scratch = Scratch::new();
    scratch.add_plugin(strange_plugins().library("other_layout"));
    insta::assert_snapshot!(inspect(&scratch, "plugins/libother_layout.so"), @"
    exit 3
    error: plugins/libother_layout.so has another memory layout than this host although both say interface 0.1.0
    hint: rebuild the plugin and the host from the same sources
    ");
}

#[test]
fn a_damaged_plugin_does_not_hide_the_others() {
    let scratch = moody();
    scratch.write("plugins/libbroken.so", "text");
    let done = scratch.forerunner("plugin list --plugins plugins");
    assert_eq!(done.code, Some(3));
    assert!(done.stderr.contains("plugins/libbroken.so is not a library"), "{}", done.stderr);
    assert!(done.stdout.contains("environment moody, environment gullible"), "{}", done.stdout);
    assert!(done.stdout.contains("selector islands"), "{}", done.stdout);
}

/// The plugin that a run needs is there, but cannot be loaded: the message must say that instead
/// of "no plugin offers it".
#[test]
fn a_run_says_why_its_plugin_cannot_be_loaded() {
    let scratch = moody();
    let other = strange_plugins().library("other_version");
    std::fs::copy(other, scratch.path().join("plugins/libmoody.so")).expect("copied");
    insta::assert_snapshot!(scratch.forerunner("run moody.toml --plugins plugins").failure(), @"
    exit 3
    error: plugins/libmoody.so was built for plugin interface 0.9.0, this host speaks 0.1.0
    hint: rebuild the plugin against forerunner-sdk 0.1.0
    ");
}

/// Runs `moody` with a panic in one call.
fn panic_in(call: &str) -> String {
    let scratch = moody();
    let set = format!("--set environment.config.panics_in={call}");
    let done = scratch.forerunner(&format!("run moody.toml --plugins plugins --out run {set}"));
    forerunner_tests::wait_until_alone(scratch.path());
    done.failure()
}

#[test]
fn a_panic_in_the_constructor() {
    insta::assert_snapshot!(panic_in("constructor"), @"
    exit 3
    error: plugin moody 0.1.0: cannot make environment `moody`: the plugin panicked: no mood for this (src/lib.rs:30)
    hint: check the `config` table of this plugin in the run file
    ");
}

/// What a panic after construction must tell: plugin and version, export, call, text, and hint.
fn assert_tells(failure: &str, call: &str) {
    assert!(failure.starts_with("exit 3\nerror: "), "{failure}");
    let parts = ["moody 0.1.0", "`moody`", call, "the plugin panicked: no mood", "\nhint: "];
    for part in parts {
        assert!(failure.contains(part), "`{part}` is not in: {failure}");
    }
}

#[test]
fn a_panic_in_spec() {
    assert_tells(&panic_in("spec"), "spec");
}

#[test]
fn a_panic_in_evaluate() {
    assert_tells(&panic_in("evaluate"), "evaluate");
}

#[test]
fn a_panic_in_check_costs_the_proposal() {
    let scratch = moody();
    let sets = "--set environment.config.panics_in=check --set mutator.0.config.mood=spells";
    scratch.forerunner(&format!("run moody.toml --plugins plugins --out run {sets}")).good();
    let log = scratch.log("run");
    assert_eq!(format!("{:?}", log.verdicts_of_exactly(3)), r#"{"other": 3}"#);
}

#[test]
fn a_panic_in_a_mutator_costs_the_proposal() {
    let scratch = moody();
    scratch.forerunner("run moody.toml --plugins plugins --out run").good();
    let log = scratch.log("run");
    assert_eq!(format!("{:?}", log.verdicts_of_exactly(3)), r#"{"mutator": 3}"#);
    let evaluated = log.of("evaluated").next().expect("three iterations");
    insta::assert_snapshot!(evaluated["evaluation"]["findings"][0]["message"].as_str().expect("a message"), @"mutator `grumble`: the plugin panicked: no idea (src/lib.rs:75)");
}

/// A misspelt key in the configuration of one plugin of `trivial.toml`.
fn misspelt(set: &str) -> String {
    let scratch = Scratch::trivial();
    scratch.forerunner(&format!("run trivial.toml --out run --set {set}")).failure()
}

#[test]
fn a_misspelt_key_in_a_plugins_configuration() {
    insta::assert_snapshot!(misspelt("environment.config.evaluate_secs=1"), @"
    exit 3
    error: plugin forerunner-trivial 0.1.0: cannot make environment `trivial`: bad configuration: `evaluate_secs`: unknown field `evaluate_secs`, expected one of `evaluate_seconds`, `program_bytes`, `noise`, `disguises`
    hint: check the `config` table of this plugin in the run file
    ");
    insta::assert_snapshot!(misspelt("mutator.0.config.falt=x"), @"
    exit 3
    error: plugin forerunner-trivial 0.1.0: cannot make mutator `nudge`: bad configuration: `falt`: unknown field `falt`, expected one of `propose_seconds`, `fault_every`, `fault`
    hint: check the `config` table of this plugin in the run file
    ");
    insta::assert_snapshot!(misspelt("selector.config.isles=2"), @"
    exit 3
    error: plugin forerunner-islands 0.1.0: cannot make selector `islands`: bad configuration: `isles`: unknown field `isles`, expected one of `islands`, `elites`, `inspirations`, `exploration`, `exploitation`, `pressure`, `migration_every`, `migration_share`, `size_bins`, `capacity`
    hint: check the `config` table of this plugin in the run file
    ");
}

#[test]
fn a_wrong_value_in_a_plugins_configuration() {
    insta::assert_snapshot!(misspelt("environment.config.evaluate_seconds=-1"), @"
    exit 3
    error: plugin forerunner-trivial 0.1.0: cannot make environment `trivial`: bad configuration: `evaluate_seconds`: must be a finite number, not negative
    hint: check the `config` table of this plugin in the run file
    ");
    insta::assert_snapshot!(misspelt("mutator.0.config.fault_every=often"), @r#"
    exit 3
    error: plugin forerunner-trivial 0.1.0: cannot make mutator `nudge`: bad configuration: `fault_every`: invalid type: string "often", expected u64
    hint: check the `config` table of this plugin in the run file
    "#);
    insta::assert_snapshot!(misspelt("selector.config.islands=0"), @"
    exit 3
    error: plugin forerunner-islands 0.1.0: cannot make selector `islands`: bad configuration: `islands`: 0 is not within 1 and 1000
    hint: check the `config` table of this plugin in the run file
    ");
}
