//! Verification hooks: what they accept counts, what they refuse does not, and one that does not do
//! its work leaves nothing verified.

use forerunner_tests::{Hook, Scratch, TRIVIAL, parse_lines};
use serde_json::Value;

/// A folder with the run file `run.toml`, which names the hook `hook.wasm`.
fn scratch(component: &[u8], settings: &str) -> Scratch {
    let scratch = Scratch::new();
    scratch.write("hook.wasm", component);
    scratch.write("run.toml", format!("{TRIVIAL}\n[[hook]]\npath = \"hook.wasm\"\n{settings}"));
    scratch
}

/// The findings of an evaluation: severity, rule and message.
fn findings(evaluation: &Value) -> Vec<String> {
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let findings = evaluation["findings"].as_array().expect("a list");
    findings
        .iter()
        .map(|one| {
            format!("{} {}: {}", text(one, "severity"), text(one, "rule"), text(one, "message"))
        })
        .collect()
}

#[test]
fn what_an_honest_hook_accepts_counts() {
    let scratch = scratch(&Hook::new("honest").accepting(), "allow = []");
    scratch.forerunner("run run.toml --out run").good();
    let log = scratch.log("run");
    let verdicts = log.verdicts_of_exactly(10);
    assert_eq!(verdicts.into_iter().collect::<Vec<_>>(), [("accepted".to_owned(), 10)]);
    for event in log.of("evaluated").chain(log.of("reference")) {
        assert_eq!(findings(&event["evaluation"]), ["note honest/judgement: all is well"]);
    }
    let shown = scratch.forerunner("show run").good();
    assert!(shown.contains("\nnote honest/judgement\n    all is well\n"), "{shown}");
    assert!(shown.contains("\nhooks\n  honest  accepted in "), "{shown}");
    let shown = &parse_lines(&scratch.forerunner("show run --json").good())[0];
    let hook = shown["hooks"]["honest"].as_str().expect("the hook's word");
    assert!(hook.starts_with("accepted in ") && hook.contains("; 0.1.0, sha256 "), "{hook}");
    assert!(shown["telemetry"]["numbers"]["hook_seconds"].as_f64().is_some_and(|s| s > 0.0));
    let page = std::fs::read_to_string(scratch.path().join("run/report.html")).expect("the page");
    assert!(page.contains("hook honest, reference") && page.contains("honest/judgement"));

    // Resumed with another build of the hook, old and new results could not be compared.
    scratch.write("hook.wasm", Hook::new("honest").version("0.2.0").accepting());
    let failure = scratch.forerunner("run --resume run --set budget.evaluations=12").failure();
    let start = "exit 2\nerror: the configuration changed since the run started:\n  \
                 hooks (name, version, digest): honest 0.1.0 ";
    assert!(failure.starts_with(start) && failure.contains(" → honest 0.2.0 "), "{failure}");
    scratch.write("hook.wasm", Hook::new("honest").accepting());
    scratch.forerunner("run --resume run --set budget.evaluations=12").good();
    scratch.log("run").verdicts_of_exactly(12);
}

#[test]
fn what_a_hook_rejects_does_not_count() {
    let hook = Hook::new("conservative").wants_parent();
    let scratch = scratch(&hook.rejecting_changes(), "allow = [\"parent\"]");
    let out = scratch.forerunner("run run.toml --out run").good();
    assert!(out.contains("rejected conservative/judgement: it was changed"), "{out}");
    let log = scratch.log("run");
    let verdicts = log.verdicts_of_exactly(10);
    assert_eq!(verdicts.into_iter().collect::<Vec<_>>(), [("rejected".to_owned(), 10)]);
    let reason = "error conservative/judgement: it was changed; leave it as it is";
    assert_eq!(findings(&log.of("evaluated").next().expect("one")["evaluation"]), [reason]);
    let summary = log.summary();
    assert_eq!((&summary["accepted"], &summary["failures"]["rejected"]), (&0.into(), &10.into()));
    let page = std::fs::read_to_string(scratch.path().join("run/report.html")).expect("the page");
    assert!(page.contains("10 programs measured and refused by a rule"), "{page}");
}

#[test]
fn a_hook_that_never_returns_leaves_the_reference_unverified() {
    let scratch = scratch(&Hook::new("endless").endless(), "");
    let done = scratch.forerunner("run run.toml --out run");
    insta::assert_snapshot!(done.failure(), @"
    exit 3
    error: the reference program is not accepted: verify/hook: hook `endless` 0.1.0: `verify` did not return within 500000000 units of fuel
    hint: `forerunner evaluate reference --environment NAME --track TRACK` shows everything that was found
    ");
    let evaluate = "evaluate reference --environment trivial --hook hook.wasm --json";
    let done = scratch.forerunner(evaluate);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let json = &parse_lines(&done.stdout)[0];
    assert_eq!(json["verdict"], "unverified");
    let reason = "error verify/hook: hook `endless` 0.1.0: `verify` did not return within \
                  500000000 units of fuel";
    assert_eq!(findings(json), [reason]);
}

#[test]
fn hooks_that_cannot_be_used_end_a_run_before_it_begins() {
    let honest = Hook::new("honest").accepting();
    let run = |component: &[u8], settings: &str| {
        scratch(component, settings).forerunner("run run.toml --out run").failure()
    };
    let missing = run(&honest, "[[hook]]\nname = \"nope\"");
    // Which hooks are installed depends on the environments that are.
    let (start, rest) = missing.split_once("(installed: ").expect("a list");
    let (_, end) = rest.split_once("; searched").expect("its end");
    insta::assert_snapshot!(format!("{start}(…{end}"), @r#"
    exit 3
    error: no hook `nope` is installed, which the run file asks for (…: [prefix]/lib/forerunner/plugins/hooks)
    hint: put `nope.wasm` into one of the searched folders, name another folder of plugins with `--plugins DIR` or FORERUNNER_PLUGINS, or give a file with `path = "…"` in the `[[hook]]` table
    "#);
    insta::assert_snapshot!(run(&honest, "[[hook]]\npath = \"nope.wasm\""), @"
    exit 3
    error: cannot find the hook nope.wasm
    hint: `path` is looked up from the folder in which forerunner was started
    ");
    insta::assert_snapshot!(run(b"no hook", ""), @"
    exit 3
    error: hook.wasm: hook `hook` (version unknown): the file is not WebAssembly: it is text
    hint: `forerunner hook build` makes a component
    ");
    let greedy = Hook::new("greedy").wants_parent().rejecting_changes();
    insta::assert_snapshot!(run(&greedy, "allow = [\"metrics\"]"), @"
    exit 3
    error: hook `greedy` 0.1.0 wants what it is not given: parent (granted by the environment: source, parent, metrics, ledger, series, probes, artifacts, recompute; allowed by the operator: metrics)
    hint: give it in the `allow` of its `[[hook]]` table if it is missing there; what the environment does not grant is only for hooks of other environments
    ");
    insta::assert_snapshot!(run(&honest, "name = \"honest\""), @"
    exit 2
    error: run.toml: a `[[hook]]` table needs a `path` or a `name`, and only one of them
    hint: `path = \"check.wasm\"` for a file, `name = \"check\"` for an installed hook
    ");
}

#[test]
fn an_installed_hook_is_found_by_its_name() {
    let scratch = Scratch::new();
    scratch.write("more/hooks/honest.wasm", Hook::new("honest").accepting());
    scratch.write("run.toml", format!("{TRIVIAL}\n[[hook]]\nname = \"honest\"\n"));
    scratch.forerunner("run run.toml --out run --plugins more").good();
    let log = scratch.log("run");
    let reference = log.of("reference").next().expect("measured");
    assert_eq!(findings(&reference["evaluation"]), ["note honest/judgement: all is well"]);
}
