//! What a hook is given: only what it wants and is permitted, by range, fresh for every call.

mod assemble;

use assemble::{
    ANSWER, ARTIFACTS, Guest, LEDGER, METRICS, PARENT, PROBES, RECOMPUTE, SERIES, SOURCE, answer,
};
use forerunner_core::{Evaluation, Permission, Probe, Program, Slice};
use forerunner_verify::{
    Hook, HookError, HookHost, Limits, MAX_ARTIFACT_BYTES, MAX_POINTS, Report, Subject,
};
use std::{collections::BTreeSet, path::PathBuf};

/// A host, a subject, and the folder of its artifacts.
struct Bench {
    host: HookHost,
    folder: tempfile::TempDir,
    program: Program,
    parent: Program,
    evaluation: Evaluation,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut evaluation = Evaluation::accepted("loss", 1.5);
        evaluation.metrics.insert("seconds".into(), 2.5);
        let series = &mut evaluation.telemetry.series;
        series.insert("lr".into(), vec![(0, 0.5), (10, 0.25), (20, 0.125)]);
        let evidence = &mut evaluation.evidence;
        evidence.ledger.insert("tokens".into(), 4_096);
        evidence.probes = vec![Probe::new("causality", 30, 2).with("residual", 0.5)];
        let path = folder.path().join("answer.bin");
        std::fs::write(&path, 0.75_f64.to_le_bytes()).expect("room");
        evidence.artifacts.insert("answer.bin".into(), path);
        Self {
            host: HookHost::new(Limits::default(), None).expect("a host"),
            folder,
            program: Program::single("main.rs", "fn main() { new() }\n"),
            parent: Program::single("main.rs", "fn main() { old() }\n"),
            evaluation,
        }
    }

    fn artifact(&mut self, name: &str, path: PathBuf) {
        self.evaluation.evidence.artifacts.insert(name.to_owned(), path);
    }

    fn load(&self, guest: &Guest, body: &str) -> Hook {
        let path = self.folder.path().join("hook.wasm");
        std::fs::write(&path, guest.component(body)).expect("room");
        self.host.load(&path).expect("a sound hook")
    }

    fn verify(&self, hook: &Hook, permitted: &[Permission]) -> Result<Report, HookError> {
        let subject = Subject {
            environment: "test",
            track: "small",
            program: &self.program,
            parent: Some(&self.parent),
            seed: u64::MAX,
            slice: Slice::Val,
            evaluation: &self.evaluation,
        };
        hook.verify(&subject, &permitted.iter().copied().collect::<BTreeSet<_>>())
    }

    /// Has a hook with these wishes call a host function, and answers what the expressions find.
    fn figures(&self, wants: &[u8], question: &Question, reads: &[&str]) -> Vec<f64> {
        self.try_figures(wants, question, reads).expect("a report")
    }

    fn try_figures(
        &self,
        wants: &[u8],
        question: &Question,
        reads: &[&str],
    ) -> Result<Vec<f64>, HookError> {
        let names: Vec<String> = (0..reads.len()).map(|index| format!("f{index:02}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let wants = [wants, &[RECOMPUTE]].concat();
        let mut guest = Guest::new("asks").wants(&wants).imports(&[question.function]);
        let (report, values) = guest.figures(&names);
        let call = question.call(&mut guest);
        let stores: String = reads
            .iter()
            .zip(values)
            .map(|(read, address)| format!("(f64.store (i32.const {address}) {read})"))
            .collect();
        let hook = self.load(&guest, &format!("{call} {stores} {}", answer(report)));
        let report = self.verify(&hook, &Permission::ALL)?;
        Ok(report.metrics.values().copied().collect())
    }
}

/// One call of one host function.
struct Question {
    function: &'static str,
    /// Name, start and length, for functions by range.
    range: Option<(&'static str, u64, u32)>,
}

fn all(function: &'static str) -> Question {
    Question { function, range: None }
}

fn range(function: &'static str, name: &'static str, start: u64, length: u32) -> Question {
    Question { function, range: Some((name, start, length)) }
}

impl Question {
    fn call(&self, guest: &mut Guest) -> String {
        let Self { function, range } = self;
        let Some((name, start, length)) = range else {
            return format!("(call ${function} (i32.const {ANSWER}))");
        };
        let [address, n_bytes] = guest.text(name.as_bytes());
        // Wasm has no unsigned constants; the bits are the same.
        let start = start.cast_signed();
        format!(
            "(call ${function} (i32.const {address}) (i32.const {n_bytes}) (i64.const {start})
                (i32.const {length}) (i32.const {ANSWER}))"
        )
    }
}

/// 0 when evidence was given, 1 when it was denied.
const DENIED: &str = "(f64.convert_i32_u (i32.load8_u (i32.const 64)))";
/// 0 not granted, 1 not found, 2 too large.
const WHY: &str = "(f64.convert_i32_u (i32.load8_u (i32.const 68)))";
/// Length of the list or string that was given.
const LENGTH: &str = "(f64.convert_i32_u (i32.load (i32.const 72)))";

/// The 64-bit integer at `offset` within the list that was given.
fn integer(offset: u32) -> String {
    format!("(f64.convert_i64_u (i64.load offset={offset} (i32.load (i32.const 68))))")
}

/// The number at `offset` within the list that was given.
fn number(offset: u32) -> String {
    format!("(f64.load offset={offset} (i32.load (i32.const 68)))")
}

#[test]
fn what_is_not_wanted_is_not_granted() {
    let bench = Bench::new();
    let questions = [
        (SOURCE, all("source"), 1.0),
        (PARENT, all("parent-diff"), 0.0),
        (METRICS, all("metrics"), 2.0),
        (LEDGER, all("ledger"), 1.0),
        (SERIES, all("list-series"), 1.0),
        (SERIES, range("series", "lr", 0, 10), 3.0),
        (SERIES, range("steps", "lr", 0, 10), 3.0),
        (SERIES, range("values", "lr", 0, 10), 3.0),
        (PROBES, all("probes"), 1.0),
        (ARTIFACTS, all("list-artifacts"), 1.0),
        (ARTIFACTS, range("artifact", "answer.bin", 0, 10), 8.0),
    ];
    let every_wish = [SOURCE, PARENT, METRICS, LEDGER, SERIES, PROBES, ARTIFACTS];
    for (wish, question, length) in questions {
        let given = bench.figures(&[wish], &question, &[DENIED, LENGTH]);
        assert_eq!(given[0], 0.0, "{}", question.function);
        if length > 0.0 {
            assert_eq!(given[1], length, "{}", question.function);
        }
        let others: Vec<u8> = every_wish.into_iter().filter(|&other| other != wish).collect();
        let given = bench.figures(&others, &question, &[DENIED, WHY]);
        assert_eq!(given, [1.0, 0.0], "{}", question.function);
    }
}

#[test]
fn a_hook_that_wants_more_than_is_permitted_does_not_run() {
    let bench = Bench::new();
    let mut guest = Guest::new("curious").wants(&[SERIES, ARTIFACTS, PROBES]);
    guest.report(0, &[], &[]);
    let hook = bench.load(&guest, "(unreachable)");
    match bench.verify(&hook, &[Permission::Series, Permission::Metrics]) {
        Err(HookError::NotPermitted { hook, missing }) => {
            assert_eq!(hook.to_string(), "hook `curious` 1.2.3");
            assert_eq!(missing, [Permission::Probes, Permission::Artifacts]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn evidence_arrives_as_it_was_measured() {
    let bench = Bench::new();
    let check = |wish, question, reads: &[String], expected: &[f64]| {
        let reads: Vec<&str> = reads.iter().map(String::as_str).collect();
        assert_eq!(bench.figures(&[wish], &question, &reads), expected);
    };
    check(METRICS, all("metrics"), &[number(8), number(24)], &[1.5, 2.5]);
    check(LEDGER, all("ledger"), &[integer(8)], &[4_096.0]);
    check(PROBES, all("probes"), &[integer(8), integer(16)], &[30.0, 2.0]);
    check(SERIES, all("list-series"), &[integer(8)], &[3.0]);
    check(ARTIFACTS, all("list-artifacts"), &[integer(8)], &[8.0]);
    let lr = |start, length| range("series", "lr", start, length);
    let len = || LENGTH.to_owned();
    check(SERIES, lr(1, 5), &[len(), integer(0), number(8)], &[2.0, 10.0, 0.25]);
    check(SERIES, lr(1, 1), &[len()], &[1.0]);
    check(SERIES, lr(0, 0), &[len()], &[0.0]);
    check(SERIES, lr(u64::MAX, 5), &[len()], &[0.0]);
    let lr = |function| range(function, "lr", 1, 5);
    check(SERIES, lr("steps"), &[len(), integer(0), integer(8)], &[2.0, 10.0, 20.0]);
    check(SERIES, lr("values"), &[len(), number(0), number(8)], &[2.0, 0.25, 0.125]);
    let bytes = |start, length| range("artifact", "answer.bin", start, length);
    check(ARTIFACTS, bytes(0, 100), &[len(), number(0)], &[8.0, 0.75]);
    check(ARTIFACTS, bytes(6, 100), &[len()], &[2.0]);
    check(ARTIFACTS, bytes(u64::MAX, 100), &[len()], &[0.0]);
}

#[test]
fn unknown_names_and_long_ranges_are_denied() {
    let bench = Bench::new();
    let check = |wish, question, why: f64| {
        assert_eq!(bench.figures(&[wish], &question, &[DENIED, WHY]), [1.0, why]);
    };
    check(SERIES, range("series", "gone", 0, 1), 1.0);
    check(SERIES, range("series", "lr", 0, MAX_POINTS + 1), 2.0);
    check(SERIES, range("values", "gone", 0, 1), 1.0);
    check(SERIES, range("steps", "lr", 0, MAX_POINTS + 1), 2.0);
    check(ARTIFACTS, range("artifact", "gone", 0, 1), 1.0);
    check(ARTIFACTS, range("artifact", "../answer.bin", 0, 1), 1.0);
    check(ARTIFACTS, range("artifact", "answer.bin", 0, MAX_ARTIFACT_BYTES + 1), 2.0);
}

#[test]
fn artifacts_that_cannot_be_read_are_not_the_hooks_fault() {
    let mut bench = Bench::new();
    let folder = bench.folder.path().to_owned();
    std::os::unix::fs::symlink("/etc/hostname", folder.join("link")).expect("a link");
    for (name, path) in
        [("gone", folder.join("gone")), ("folder", folder.clone()), ("link", folder.join("link"))]
    {
        bench.artifact(name, path);
        let result = bench.try_figures(&[ARTIFACTS], &range("artifact", name, 0, 1), &[LENGTH]);
        match result {
            Err(HookError::Evidence { hook, artifact, .. }) => {
                assert_eq!(hook.to_string(), "hook `asks` 1.2.3");
                assert_eq!(artifact, name);
            }
            other => panic!("{name}: {other:?}"),
        }
        bench.evaluation.evidence.artifacts.remove(name);
    }
}

#[test]
fn the_difference_to_the_parent_is_a_unified_diff() {
    let mut bench = Bench::new();
    // The answer to the question becomes the hook's own, as an error with that text.
    let mut guest = Guest::new("reads").wants(&[PARENT]).imports(&["parent-diff"]);
    let call = all("parent-diff").call(&mut guest);
    let hook = bench.load(
        &guest,
        &format!("{call} (i32.store8 (i32.const {ANSWER}) (i32.const 1)) (i32.const {ANSWER})"),
    );
    let text = |bench: &Bench| match bench.verify(&hook, &Permission::ALL) {
        Err(HookError::Declined { message, .. }) => message,
        other => panic!("{other:?}"),
    };
    let expected =
        "--- a/main.rs +++ b/main.rs @@ -1 +1 @@ -fn main() { old() } +fn main() { new() } ";
    assert_eq!(text(&bench), expected);
    bench.parent = bench.program.clone();
    assert_eq!(text(&bench), "");
}

#[test]
fn the_subject_names_environment_program_seed_and_slice() {
    let bench = Bench::new();
    let id = bench.program.id().0;
    let expected = ["test", "small", &*id, "18446744073709551615", "val"];
    for (index, expected) in expected.iter().enumerate() {
        let guest = Guest::new("names");
        let (address, length) = (2 * index, 2 * index + 1);
        let body = format!(
            "(i32.store8 (i32.const {ANSWER}) (i32.const 1))
            (i32.store offset=4 (i32.const {ANSWER}) (local.get {address}))
            (i32.store offset=8 (i32.const {ANSWER}) (local.get {length}))
            (i32.const {ANSWER})"
        );
        match bench.verify(&bench.load(&guest, &body), &[]) {
            Err(HookError::Declined { message, .. }) => assert_eq!(message, *expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn metrics_are_recomputed_from_an_artifact() {
    let bench = Bench::new();
    let mut guest = Guest::new("recomputes").wants(&[ARTIFACTS, RECOMPUTE]).imports(&["artifact"]);
    let (report, values) = guest.figures(&["loss"]);
    let call = range("artifact", "answer.bin", 0, 8).call(&mut guest);
    let store = format!("(f64.store (i32.const {}) {})", values[0], number(0));
    let hook = bench.load(&guest, &format!("{call} {store} {}", answer(report)));
    let report = bench.verify(&hook, &Permission::ALL).expect("a report");
    assert_eq!(report.metrics.into_iter().collect::<Vec<_>>(), [("loss".to_owned(), 0.75)]);
    assert_eq!(hook.manifest().wants.len(), 2);
    assert_eq!(hook.digest().len(), 64);
}

#[test]
fn every_call_starts_afresh_and_costs_the_same() {
    let bench = Bench::new();
    let mut guest =
        Guest::new("counts").wants(&[RECOMPUTE]).fields("(global $calls (mut i32) (i32.const 0))");
    let (report, values) = guest.figures(&["calls"]);
    let body = format!(
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (f64.store (i32.const {}) (f64.convert_i32_u (global.get $calls)))
        {}",
        values[0],
        answer(report)
    );
    let hook = bench.load(&guest, &body);
    let first = bench.verify(&hook, &Permission::ALL).expect("a report");
    assert!(first.usage.fuel > 0 && first.usage.memory_bytes == 131_072, "{:?}", first.usage);
    for _ in 0..3 {
        let report = bench.verify(&hook, &Permission::ALL).expect("a report");
        assert_eq!(report.metrics["calls"], 1.0);
        assert_eq!(report.usage.fuel, first.usage.fuel);
    }
}

#[test]
fn more_threads_than_places_wait_for_each_other() {
    let mut bench = Bench::new();
    let limits = Limits { concurrent_calls: 2, ..Limits::default() };
    bench.host = HookHost::new(limits, None).expect("a host");
    let mut guest = Guest::new("busy");
    let report = guest.report(0, &[], &[]);
    // Long enough that calls meet.
    let body = format!(
        "(local $left i32) (local.set $left (i32.const 1000000))
        (loop $next
            (local.set $left (i32.sub (local.get $left) (i32.const 1)))
            (br_if $next (local.get $left)))
        {}",
        answer(report)
    );
    let hook = bench.load(&guest, &body);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..12)
            .map(|_| scope.spawn(|| bench.verify(&hook, &Permission::ALL).map(|r| r.verdict)))
            .collect();
        for thread in threads {
            let verdict = thread.join().expect("no panic").expect("a report");
            assert_eq!(verdict, forerunner_core::Verdict::Accepted);
        }
    });
}
