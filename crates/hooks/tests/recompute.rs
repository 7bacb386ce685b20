//! A hook that computes the authoritative metric itself: a construction needs nobody's word.

use forerunner_core::{Evaluation, Metrics, Permission, Program, Slice, Verdict};
use forerunner_hook_tools::Recorded;
use forerunner_verify::{Hook, HookError, HookHost, Limits, Report};
use std::{collections::BTreeSet, path::Path};

fn load() -> Hook {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/hooks/recheck-sine.wasm");
    HookHost::new(Limits::default(), None).and_then(|host| host.load(&file)).expect("our own hook")
}

/// What the hook says of a construction of which the environment claims that it is perfect.
fn judged(hook: &Hook, text: &str) -> Result<Report, HookError> {
    let folder = tempfile::tempdir().expect("a folder");
    let artifact = folder.path().join("0.bin");
    std::fs::write(&artifact, text).expect("written");
    let mut evaluation = Evaluation::accepted("error", 0.0);
    evaluation.evidence.artifacts.insert("sine.toml".into(), artifact);
    let recorded = Recorded {
        environment: "sine".into(),
        track: String::new(),
        program: Program::single("sine.toml", text),
        parent: None,
        seed: 1,
        slice: Slice::Dev,
        evaluation,
    };
    hook.verify(&recorded.subject(), &hook.manifest().wants)
}

#[test]
fn a_claimed_score_is_replaced_by_the_computed_one() {
    let hook = load();
    // Exact at 0 and π/2, where a careless environment might look, and nowhere between.
    let chord = "c1 = 0.6366197723675814\nc3 = 0.0\nc5 = 0.0\n";
    let report = judged(&hook, chord).expect("a report");
    assert_eq!(report.verdict, Verdict::Accepted);
    let names: Vec<_> = report.metrics.keys().map(String::as_str).collect();
    assert_eq!(names, ["error"]);
    assert!((report.metrics["error"] - 0.210_513_7).abs() < 1e-6, "{:?}", report.metrics);
}

#[test]
fn what_is_no_construction_is_rejected() {
    let report = judged(&load(), "c1 = NaN\nc3 = 0\nc5 = 0\n").expect("a report");
    assert_eq!(report.verdict, Verdict::Rejected);
    assert_eq!(report.findings[0].rule, "recheck-sine/no-construction");
    assert_eq!(report.metrics, Metrics::new());
}

#[test]
fn it_needs_the_artifact_and_the_permission() {
    let hook = load();
    let recorded = Recorded {
        environment: "sine".into(),
        track: String::new(),
        program: Program::default(),
        parent: None,
        seed: 1,
        slice: Slice::Dev,
        evaluation: Evaluation::accepted("error", 0.0),
    };
    let cause = |permitted: &[Permission]| {
        let permitted: BTreeSet<Permission> = permitted.iter().copied().collect();
        hook.verify(&recorded.subject(), &permitted).map_err(|error| error.cause())
    };
    assert_eq!(cause(&[Permission::Artifacts]), Err("not-permitted"));
    assert_eq!(cause(&[Permission::Artifacts, Permission::Recompute]), Err("declined"));
}
