//! Hooks that do as they are told.

use super::*;
use crate::{config::HookEntry, registry::Registry};
use forerunner_core::{Cause, EnvironmentSpec, Metrics};
use forerunner_verify::Usage;
use load::Wanted;
use std::path::Path;

/// A hook with a fixed answer.
struct Told {
    name: String,
    wants: BTreeSet<Permission>,
    answer: Answer,
}

impl Judge for Told {
    fn name(&self) -> &str {
        &self.name
    }
    fn version(&self) -> &str {
        "1.0.0"
    }
    fn digest(&self) -> &str {
        "0123456789abcdef0123"
    }
    fn wants(&self) -> &BTreeSet<Permission> {
        &self.wants
    }
    fn judge(&self, subject: &Subject<'_>, _: &BTreeSet<Permission>) -> Result<Report, String> {
        (self.answer)(subject)
    }
}

type Answer = fn(&Subject<'_>) -> Result<Report, String>;

fn says(verdict: Verdict) -> Report {
    let usage = Usage { fuel: 7, seconds: 0.25, ..Usage::default() };
    Report { verdict, findings: Vec::new(), metrics: Metrics::new(), log: Vec::new(), usage }
}

fn finds(verdict: Verdict, finding: Finding) -> Report {
    Report { findings: vec![finding], ..says(verdict) }
}

fn computes(value: f64) -> Report {
    Report { metrics: [("loss".to_owned(), value)].into(), ..says(Verdict::Accepted) }
}

const ACCEPT: Answer = |_| Ok(says(Verdict::Accepted));
const WARN: Answer = |_| Ok(finds(Verdict::Accepted, Finding::warning("a/odd", "?")));
const REJECT: Answer = |_| Ok(finds(Verdict::Rejected, Finding::error("b/leak", "it leaks")));
const UNDECIDED: Answer = |_| Ok(says(Verdict::Unverified));
const FAIL: Answer = |_| Err("hook `x` 1.0.0: it ran out of fuel".to_owned());

fn verification(answers: &[Answer]) -> Verification {
    let seats = answers.iter().enumerate().map(|(index, answer)| {
        let name = ["a", "b", "c"][index].to_owned();
        let judge = Told { name, wants: BTreeSet::new(), answer: *answer };
        Seat { judge: Box::new(judge), permitted: BTreeSet::new() }
    });
    Verification { environment: "e".to_owned(), track: "t".to_owned(), seats: seats.collect() }
}

fn verified(answers: &[Answer], evaluation: Evaluation) -> Evaluation {
    let (program, parent) = (Program::single("x", "child"), Program::single("x", "parent"));
    let measured =
        Measured { program: &program, parent: Some(&parent), seed: 7, slice: Slice::Val };
    verification(answers).verify(&measured, evaluation)
}

/// Verifies an accepted evaluation and checks the verdict and the rules of the findings.
fn check(answers: &[Answer], verdict: Verdict, rules: &[&str]) -> Evaluation {
    let evaluation = verified(answers, Evaluation::accepted("loss", 1.0));
    let found: Vec<&str> = evaluation.findings.iter().map(|one| one.rule.as_str()).collect();
    assert_eq!((evaluation.verdict, &found[..]), (verdict, rules));
    evaluation
}

#[test]
fn only_what_every_hook_accepts_counts() {
    check(&[], Verdict::Accepted, &[]);
    check(&[ACCEPT], Verdict::Accepted, &[]);
    check(&[ACCEPT, REJECT, ACCEPT], Verdict::Rejected, &["b/leak"]);
    check(&[WARN, ACCEPT], Verdict::Accepted, &["a/odd"]);
    check(&[ACCEPT, UNDECIDED], Verdict::Unverified, &["verify/hook"]);
    check(&[ACCEPT, FAIL], Verdict::Unverified, &["verify/hook"]);
    // A reason to refuse is worth more than the lack of one to believe.
    check(&[FAIL, REJECT], Verdict::Rejected, &["verify/hook", "b/leak"]);
}

#[test]
fn what_a_hook_computes_replaces_what_was_measured() {
    let evaluation = check(&[|_| Ok(computes(2.0))], Verdict::Accepted, &["verify/recomputed"]);
    assert_eq!(evaluation.metrics["loss"], 2.0);
    assert_eq!(evaluation.findings[0].severity, Severity::Note);
    assert_eq!(evaluation.findings[0].message, "`loss` is 2 by hook `a`; measured: 1");
    check(&[|_| Ok(computes(1.0))], Verdict::Accepted, &[]);
    let twice: [Answer; 2] = [|_| Ok(computes(2.0)), |_| Ok(computes(3.0))];
    let evaluation = check(&twice, Verdict::Unverified, &["verify/hook", "verify/recomputed"]);
    assert_eq!(evaluation.findings[0].message, "hooks `a` and `b` disagree on `loss`: 2 and 3");
}

#[test]
fn hooks_see_what_was_measured_and_leave_a_trace() {
    let looks: Answer = |subject| {
        assert_eq!((subject.environment, subject.track, subject.seed), ("e", "t", 7));
        assert_eq!((subject.slice, subject.evaluation.metrics["loss"]), (Slice::Val, 1.0));
        assert_eq!(subject.program.files["x"], "child");
        assert_eq!(subject.parent.map(|parent| parent.files["x"].as_str()), Some("parent"));
        Ok(says(Verdict::Accepted))
    };
    // The first one's value is not what the second one looks at.
    let evaluation =
        check(&[|_| Ok(computes(5.0)), looks], Verdict::Accepted, &["verify/recomputed"]);
    assert_eq!(evaluation.telemetry.numbers["hook_seconds"], 0.5);
    let trace = "accepted in 250.00 ms with 7 units of fuel; 1.0.0, sha256 0123456789abcdef";
    assert_eq!(evaluation.telemetry.facts["hook.b"], trace);
}

#[test]
fn a_panic_of_the_host_costs_no_slot() {
    let evaluation = check(&[|_| panic!("a bug")], Verdict::Unverified, &["verify/hook"]);
    assert!(evaluation.findings[0].message.contains("hook `a` 1.0.0: its host panicked"));
}

#[test]
fn what_could_not_be_measured_is_nobodys_to_judge() {
    let failed = Evaluation::failed(Cause::Crash, Finding::error("run/crash", "crashed"));
    assert_eq!(verified(&[|_| panic!("nobody asks")], failed.clone()), failed);
    let rejected = Evaluation { verdict: Verdict::Rejected, ..Evaluation::accepted("loss", 1.0) };
    let seen = verified(&[ACCEPT, FAIL], rejected);
    assert_eq!(seen.verdict, Verdict::Rejected, "a hook never makes good what was refused");
}

/// Seats one hook that wants to look at metrics and series.
fn seat(grants: &[Permission], allow: Option<&[Permission]>) -> Result<Verification, String> {
    let mut spec = EnvironmentSpec::new("e");
    spec.grants = grants.to_vec();
    let allow = allow.map(|allow| allow.iter().copied().collect());
    let wants = BTreeSet::from([Permission::Metrics, Permission::Series]);
    let wanted = vec![Wanted { path: "x.wasm".into(), allow }];
    Verification::seat(&spec, wanted, |_| {
        Ok(Box::new(Told { name: "greedy".to_owned(), wants: wants.clone(), answer: ACCEPT }))
    })
    .map_err(|error| error.to_string())
}

#[test]
fn a_hook_gets_what_it_wants_only_when_environment_and_operator_agree() {
    use Permission::{Metrics, Series, Source};
    let seated = seat(&[Metrics, Series, Source], None).expect("all of it is granted");
    assert_eq!(seated.identity(), "greedy 1.0.0 0123456789abcdef0123 (source, metrics, series)");
    let seated = seat(&[Metrics, Series, Source], Some(&[Series, Metrics])).expect("allowed");
    assert_eq!(seated.seats[0].permitted, BTreeSet::from([Metrics, Series]));
    insta::assert_snapshot!(seat(&[Metrics], None).err().unwrap_or_default(), @"
    hook `greedy` 1.0.0 wants what it is not given: series (granted by the environment: metrics; allowed by the operator: everything)
    hint: give it in the `allow` of its `[[hook]]` table if it is missing there; what the environment does not grant is only for hooks of other environments
    ");
    let error = seat(&[Metrics, Series], Some(&[])).err().unwrap_or_default();
    assert!(error.contains("metrics, series (granted by the environment: metrics, series; allowed by the operator: none)"), "{error}");
}

#[test]
fn hooks_are_found_by_name_and_by_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let hooks = folder.path().join("hooks");
    std::fs::create_dir(&hooks).expect("made");
    for name in ["own.wasm", "other.wasm", "README.txt"] {
        std::fs::write(hooks.join(name), "").expect("written");
    }
    let registry = Registry::new(vec![folder.path().join("nowhere"), folder.path().to_owned()]);
    let mut spec = EnvironmentSpec::new("e");
    spec.hooks = vec!["own".to_owned()];
    let named = |name: &str, allow: Option<&[Permission]>| HookEntry {
        name: Some(name.to_owned()),
        allow: allow.map(<[Permission]>::to_vec),
        path: None,
    };
    let find = |entries: &[HookEntry]| {
        let hooks = Hooks { registry: &registry, entries, cache_dir: Path::new("unused") };
        load::wanted(&spec, &hooks)
            .map_err(|error| error.to_string().replace(&*folder.path().to_string_lossy(), "[here]"))
    };
    let found = find(&[named("other", None), named("own", Some(&[]))]).expect("both are there");
    let found: Vec<_> = found.into_iter().map(|one| (one.path, one.allow)).collect();
    let expected =
        [(hooks.join("own.wasm"), Some(BTreeSet::new())), (hooks.join("other.wasm"), None)];
    assert_eq!(found, expected, "the environment's comes first, with what the operator allows");
    insta::assert_snapshot!(find(&[named("nope", None)]).err().unwrap_or_default(), @"
    no hook `nope` is installed, which the run file asks for (installed: other, own; searched: [here]/nowhere/hooks, [here]/hooks)
    hint: put `nope.wasm` into one of the searched folders, name another folder of plugins with `--plugins DIR` or FORERUNNER_PLUGINS, or give a file with `path = \"…\"` in the `[[hook]]` table
    ");
    let file = HookEntry { path: Some("missing.wasm".into()), ..HookEntry::default() };
    insta::assert_snapshot!(find(&[file]).err().unwrap_or_default(), @"
    cannot find the hook missing.wasm
    hint: `path` is looked up from the folder in which forerunner was started
    ");
}
