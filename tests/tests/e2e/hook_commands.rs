//! `forerunner hook`: new, build, check and run, without any WebAssembly toolchain.

use forerunner_tests::{Hook, Scratch, parse_lines, strange_plugins, workspace};
use std::fs;

/// A folder with recorded evidence, `honest.json`, of an evaluation without metrics.
fn with_evidence() -> Scratch {
    let scratch = Scratch::new();
    let evaluation = r#"{"verdict": "accepted", "metrics": {"loss": 1.5}}"#;
    let text = format!(
        r#"{{"environment": "example", "program": {{"main.rs": ""}}, "seed": 7, "evaluation": {evaluation}}}"#
    );
    scratch.write("honest.json", text);
    scratch
}

fn shipped(name: &str) -> String {
    workspace().join(format!("environments/nanogpt/hooks/{name}.wasm")).display().to_string()
}

#[test]
fn new_makes_a_folder_and_never_overwrites_one() {
    let scratch = Scratch::new();
    let said = scratch.forerunner("hook new mine").good();
    assert_eq!(said, "made mine; start in mine/src/lib.rs\n");
    for file in ["Cargo.toml", "README.md", "src/lib.rs", "src/component.rs", "wit/verify.wit"] {
        assert!(scratch.path().join("mine").join(file).is_file(), "{file}");
    }
    insta::assert_snapshot!(scratch.forerunner("hook new mine --language c").failure(), @"
    exit 2
    error: mine exists already, and nothing is overwritten
    hint: choose another name
    ");
    insta::assert_snapshot!(scratch.forerunner("hook new Mine!").failure(), @"
    exit 2
    error: `Mine!` is no name for a hook
    hint: use lowercase letters, digits and `-`, a letter first, at most 40 characters
    ");
    let said = scratch.forerunner("hook new other --language c").good();
    assert_eq!(said, "made other; start in other/judge.h\n");
    let readme = fs::read_to_string(scratch.path().join("other/README.md")).expect("made");
    assert!(readme.contains("forerunner hook build"), "{readme}");
}

#[test]
fn what_cannot_be_built_is_said_with_a_way_out() {
    let scratch = Scratch::new();
    insta::assert_snapshot!(scratch.forerunner("hook build").failure(), @"
    exit 2
    error: . is no hook: there is neither a Cargo.toml nor a hook.c in it
    hint: `forerunner hook new NAME` makes one; a core module can be given instead of a folder
    ");
    scratch.forerunner("hook new mine --language c").good();
    insta::assert_snapshot!(scratch.forerunner("hook build mine --clang no-such-clang").failure(), @r#"
    exit 3
    error: cannot start `no-such-clang`: No such file or directory (os error 2)
    hint: install clang and lld, or name a compiler that knows wasm32, for example --clang "python3 -m ziglang cc" after `pip install ziglang`
    "#);
    scratch.forerunner("hook new rusty").good();
    let mut command = scratch.command("hook build rusty");
    // Answers with the name of a folder that is not there, as a compiler without the target does.
    command.env("RUSTC", "echo");
    insta::assert_snapshot!(scratch.done(command).failure(), @"
    exit 3
    error: echo cannot compile for wasm32-unknown-unknown
    hint: run `rustup target add wasm32-unknown-unknown`, or write the hook in C (`forerunner hook new NAME --language c`)
    ");
}

#[test]
fn shipped_hooks_are_checked() {
    let scratch = Scratch::new();
    for (name, wants) in [
        ("conduct", r#"["metrics","ledger","series","probes"]"#),
        ("equivalent-loss", r#"["artifacts"]"#),
    ] {
        let file = shipped(name);
        let said = scratch.forerunner(&format!("hook check {file} --json")).good();
        let said = &parse_lines(&said)[0];
        assert_eq!(said["name"], name);
        assert_eq!(said["wants"].to_string(), wants);
        let bytes = fs::metadata(&file).expect("committed").len();
        assert_eq!(said["bytes"], bytes);
        let text = scratch.forerunner(&format!("hook check {file}")).good();
        assert!(text.starts_with(&format!("{name} ")) && text.contains("\n    wants "), "{text}");
        assert!(text.contains(said["sha256"].as_str().expect("a digest")), "{text}");
        // The one that an installation has is the same.
        let installed = scratch.binary().with_file_name("../lib/forerunner/plugins/hooks");
        let installed = fs::read(installed.join(format!("{name}.wasm"))).expect("installed");
        assert!(installed == fs::read(&file).expect("committed"), "install again");
    }
}

#[test]
fn what_is_no_hook_is_refused() {
    let scratch = Scratch::new();
    scratch.write("text.wasm", "This is no component.\n");
    scratch.write("core.wasm", b"\0asm\x01\0\0\0");
    scratch.write("endless.wasm", Hook::new("endless").endless());
    for (file, part) in [
        ("text.wasm", "not WebAssembly"),
        ("core.wasm", "core WebAssembly module"),
        ("nothing.wasm", "cannot read"),
        ("endless.wasm", "did not return"),
    ] {
        let failure = scratch.forerunner(&format!("hook check {file}")).failure();
        assert!(failure.starts_with("exit 3\nerror: hook `"), "{failure}");
        assert!(failure.contains(part), "{failure}");
    }
}

#[test]
fn a_hook_judges_recorded_evidence() {
    let scratch = with_evidence();
    scratch.write("kind.wasm", Hook::new("kind").accepting());
    let said = scratch.forerunner("hook run kind.wasm --evidence honest.json").good();
    assert!(said.starts_with("kind 0.1.0: accepted\n    note kind/judgement: "), "{said}");
    assert!(said.contains(" units of fuel, "), "{said}");

    let conduct = shipped("conduct");
    let done = scratch.forerunner(&format!("hook run {conduct} --evidence honest.json --json"));
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let said = &parse_lines(&done.stdout)[0];
    assert_eq!(said["hook"]["name"], "conduct");
    assert_eq!(said["report"]["verdict"], "rejected");
    let findings = said["report"]["findings"].as_array().expect("a list");
    let rules: Vec<_> = findings.iter().filter_map(|finding| finding["rule"].as_str()).collect();
    assert_eq!(rules, ["conduct/no-measurement", "conduct/no-audit"]);

    let command = format!("hook run {conduct} --evidence honest.json --allow metrics,probes");
    let failure = scratch.forerunner(&command).failure();
    assert!(failure.starts_with("exit 3\n") && failure.contains("not permitted"), "{failure}");
}

#[test]
fn evidence_that_is_none_is_refused() {
    let scratch = with_evidence();
    scratch.write("kind.wasm", Hook::new("kind").accepting());
    scratch.write("other.json", "{}");
    let failure =
        |arguments: &str| scratch.forerunner(&format!("hook run kind.wasm {arguments}")).failure();
    insta::assert_snapshot!(failure("--evidence nothing.json"), @"
    exit 2
    error: cannot read nothing.json: No such file or directory (os error 2)
    hint: `forerunner evaluate … --save-evidence FILE` writes such a file
    ");
    insta::assert_snapshot!(failure("--evidence other.json"), @"
    exit 2
    error: other.json is not recorded evidence: missing field `environment` at line 1 column 2
    hint: `forerunner evaluate … --save-evidence FILE` writes such a file
    ");
    assert!(failure("").starts_with("exit 2\n"));
    assert!(failure("--evidence honest.json --allow everything").contains("known: source, parent"));
}

#[test]
fn a_hook_judges_a_program_of_a_run() {
    let scratch = Scratch::trivial();
    scratch.forerunner("run trivial.toml --out run").good();
    // Without the parent's source nothing could be compared.
    scratch.write("strict.wasm", Hook::new("strict").wants_parent().rejecting_changes());
    scratch.forerunner("hook run strict.wasm --run run --program reference").good();
    let done = scratch.forerunner("hook run strict.wasm --run run");
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stdout.starts_with("strict 0.1.0: rejected\n"), "{}", done.stdout);
}

/// The construction is exact at both ends of the interval, wrong in between, and claims to be
/// perfect. The environment believes it; a hook computes.
#[test]
fn a_score_that_can_be_computed_is_nobodys_claim() {
    let scratch = Scratch::new();
    scratch.add_plugin(strange_plugins().library("moody"));
    let hook = workspace().join("tests/hooks/recheck-sine.wasm").display().to_string();
    let evaluate = "evaluate reference --environment gullible --plugins plugins --json";
    let believed = &parse_lines(&scratch.forerunner(evaluate).good())[0];
    assert_eq!(believed["metrics"]["error"], 0.0, "{believed}");

    let command = format!("{evaluate} --hook {hook} --save-evidence claim.json");
    let computed = &parse_lines(&scratch.forerunner(&command).good())[0];
    let error = computed["metrics"]["error"].as_f64().expect("the objective");
    assert!((error - 0.210_513_7).abs() < 1e-6, "{computed}");
    assert_eq!(computed["verdict"], "accepted");

    // The same from what was recorded, artifact included, wherever the folder goes.
    fs::create_dir(scratch.path().join("kept")).expect("made");
    for name in ["claim.json", "claim.artifacts"] {
        let kept = scratch.path().join("kept").join(name);
        fs::rename(scratch.path().join(name), kept).expect("written by --save-evidence");
    }
    let said = scratch.forerunner(&format!("hook run {hook} --evidence kept/claim.json")).good();
    assert!(said.contains("\n    computed error = 0.21051366"), "{said}");
}
