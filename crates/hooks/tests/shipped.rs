//! The committed components of our own hooks, in the real host: they load, they are the files of
//! SHA256SUMS, and they judge as their logic does natively.

use forerunner_core::{Evaluation, Finding, Permission, Probe, Program, Severity, Slice, Verdict};
use forerunner_hook_tools::{Recorded, sha256};
use forerunner_verify::{Hook, HookError, HookHost, Limits, Report};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

fn shelf() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../environments/nanogpt/hooks")
}

fn load(name: &str) -> Hook {
    let host = HookHost::new(Limits::default(), None).expect("a host");
    host.load(&shelf().join(format!("{name}.wasm"))).expect("a shipped hook")
}

fn recorded(evaluation: Evaluation) -> Recorded {
    Recorded {
        environment: "nanogpt".into(),
        track: "cpu".into(),
        program: Program::single("main.rs", "fn main() {}"),
        parent: None,
        seed: 1,
        slice: Slice::Dev,
        evaluation,
    }
}

/// What a hook with just the permissions it asks for says.
fn judged(hook: &Hook, evaluation: Evaluation) -> Result<Report, HookError> {
    let subject = recorded(evaluation);
    hook.verify(&subject.subject(), &hook.manifest().wants)
}

fn rules(findings: &[Finding], severity: Severity) -> Vec<&str> {
    let of = findings.iter().filter(|finding| finding.severity == severity);
    of.map(|finding| finding.rule.as_str()).collect()
}

#[test]
fn components_are_those_of_the_list() {
    let sums = std::fs::read_to_string(shelf().join("SHA256SUMS")).expect("the list");
    let listed = sums.lines().filter(|line| !line.starts_with('#')).map(str::to_owned);
    let mut here = Vec::new();
    for entry in std::fs::read_dir(shelf()).expect("the folder").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".wasm") {
            let bytes = std::fs::read(entry.path()).expect("a component");
            assert!(bytes.len() < 100_000, "{name} has {} bytes", bytes.len());
            here.push(format!("{}  {name}", sha256(&bytes)));
        }
    }
    here.sort();
    let mut listed: Vec<_> = listed.collect();
    listed.sort();
    assert_eq!(here, listed, "run `cargo xtask hooks`");
}

/// What the environment hands over for an honest program.
fn honest() -> Evaluation {
    let mut evaluation = Evaluation::accepted("loss", 1.62);
    for (name, value) in [("seconds", 21.0), ("tokens", 51_200.0), ("steps", 100.0)] {
        evaluation.metrics.insert(name.into(), value);
    }
    let evidence = &mut evaluation.evidence;
    for (name, count) in [("tokens", 51_200), ("batches", 100), ("scored_tokens", 65_536)] {
        evidence.ledger.insert(name.into(), count);
    }
    evidence.probes = vec![Probe::new("causality", 64, 0), Probe::new("blind-audit", 256, 0)];
    let series = &mut evaluation.telemetry.series;
    series.insert("tokens_per_step".into(), vec![(50, 512.0), (100, 512.0)]);
    let looks = [5.6, 4.0, 3.1, 2.1, 1.8, 1.63].into_iter();
    series.insert("dev_loss".into(), (0..).map(|at| 20 * at).zip(looks).collect());
    evaluation
}

#[test]
fn conduct_accepts_an_honest_evaluation_and_names_what_is_wrong_with_others() {
    let hook = load("conduct");
    assert_eq!(hook.manifest().name, "conduct");
    let report = judged(&hook, honest()).expect("a report");
    assert_eq!((report.verdict, report.findings.len()), (Verdict::Accepted, 0), "{report:?}");
    // Deterministic, and far below a millisecond's worth of instructions.
    assert!(report.usage.fuel < 1_000_000, "{:?}", report.usage);

    let mut failed = honest();
    failed.evidence.probes[0].failures = 1;
    failed.metrics.insert("tokens".into(), 51_201.0);
    let report = judged(&hook, failed).expect("a report");
    assert_eq!(report.verdict, Verdict::Rejected);
    let errors = rules(&report.findings, Severity::Error);
    assert_eq!(errors, ["conduct/ledger-disagrees", "conduct/probe-failed"]);
    assert_eq!(report.findings[1].place.as_deref(), Some("probe `causality`"));

    let mut odd = honest();
    let late = [5.6, 5.5, 5.4, 5.0, 4.5, 1.63].into_iter();
    let late = (0..).map(|at| 20 * at).zip(late).collect();
    odd.telemetry.series.insert("dev_loss".into(), late);
    let report = judged(&hook, odd).expect("a report");
    assert_eq!(report.verdict, Verdict::Accepted, "a suspicion rejects nobody");
    assert_eq!(rules(&report.findings, Severity::Warning), ["conduct/late-fall"]);

    let report = judged(&hook, Evaluation::accepted("loss", 1.0)).expect("a report");
    let errors = rules(&report.findings, Severity::Error);
    assert_eq!(errors, ["conduct/no-measurement", "conduct/no-audit"]);
}

#[test]
fn conduct_gets_all_it_wants_or_does_not_run() {
    let hook = load("conduct");
    for wanted in hook.manifest().wants.clone() {
        let others: BTreeSet<Permission> =
            Permission::ALL.into_iter().filter(|permission| *permission != wanted).collect();
        let error = hook.verify(&recorded(honest()).subject(), &others).expect_err("too little");
        assert_eq!(error.cause(), "not-permitted");
    }
}

/// One row of two even logits: the loss is ln 2, its gradient -1/2 and 1/2.
fn claim(value: f32, gradient: [f32; 2]) -> Vec<u8> {
    let words = [1_u32, 2, 0.0_f32.to_bits(), 0.0_f32.to_bits(), 0, value.to_bits()];
    let gradient = gradient.map(f32::to_bits);
    let words = words.into_iter().chain(gradient).flat_map(u32::to_le_bytes);
    b"FLOS".iter().copied().chain(words).collect()
}

#[test]
fn equivalent_loss_tells_cross_entropy_from_other_losses() {
    let hook = load("equivalent-loss");
    let folder = tempfile::tempdir().expect("a folder");
    let judge = |artifacts: &[(&str, Vec<u8>)]| {
        let mut evaluation = Evaluation::accepted("loss", 1.0);
        for (name, bytes) in artifacts {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).expect("written");
            evaluation.evidence.artifacts.insert((*name).to_owned(), path);
        }
        judged(&hook, evaluation)
    };
    let honest = claim(std::f32::consts::LN_2, [-0.5, 0.5]);
    let verdict = |artifacts: &[(&str, Vec<u8>)]| judge(artifacts).map(|report| report.verdict);
    let good = ("claimed-loss-1.bin", honest.clone());
    assert_eq!(verdict(std::slice::from_ref(&good)).expect("a report"), Verdict::Accepted);
    let other = ("claimed-loss-2.bin", claim(std::f32::consts::LN_2, [-0.5, 0.4]));
    let report = judge(&[good.clone(), other]).expect("a report");
    assert_eq!(report.verdict, Verdict::Rejected);
    let errors = rules(&report.findings, Severity::Error);
    assert_eq!(errors, ["equivalent-loss/not-cross-entropy"]);
    let place = report.findings[0].place.as_deref();
    assert_eq!(place, Some("artifact `claimed-loss-2.bin` at byte 0"));
    assert_eq!(verdict(&[]).expect("a report"), Verdict::Unverified, "nothing was claimed");
    let short = ("claimed-loss-3.bin", honest[..8].to_vec());
    let error = judge(&[good, short]).expect_err("a damaged artifact");
    assert!(matches!(error, HookError::Declined { .. }), "{error}");
}

#[test]
fn a_claim_of_full_size_is_read_in_pieces_within_the_limits() {
    let hook = load("equivalent-loss");
    let folder = tempfile::tempdir().expect("a folder");
    let (rows, vocab) = (2048_u32, 256_u32);
    let head = b"FLOS".iter().copied().chain([rows, vocab].into_iter().flat_map(u32::to_le_bytes));
    let logits = (0..rows * vocab).flat_map(|_| 0.0_f32.to_le_bytes());
    let targets = (0..rows).flat_map(|row| (row % vocab).to_le_bytes());
    let value = (f64::from(vocab).ln() as f32).to_le_bytes();
    let share = 1.0 / (rows as f32);
    let gradient = (0..rows * vocab).flat_map(|at| {
        let onehot = if at % vocab == at / vocab % vocab { 1.0 } else { 0.0 };
        ((1.0 / vocab as f32 - onehot) * share).to_le_bytes()
    });
    let bytes: Vec<u8> = head.chain(logits).chain(targets).chain(value).chain(gradient).collect();
    let path = folder.path().join("large");
    std::fs::write(&path, bytes).expect("written");
    let mut evaluation = Evaluation::accepted("loss", 1.0);
    evaluation.evidence.artifacts.insert("claimed-loss-1.bin".into(), path);
    let report = judged(&hook, evaluation).expect("within the limits");
    assert_eq!(report.verdict, Verdict::Accepted, "{:?}", report.findings);
    assert!(report.usage.host_calls > 4, "{:?}", report.usage);
}
