//! What a store gives back is what it was given.

use super::*;
use forerunner_core::{Evidence, Finding, Probe, Verdict};

const RUN: &str = "environment.name = \"x\"\nselector.name = \"x\"\n\
                   mutator = [{ name = \"x\" }]\nbudget.evaluations = 1";

fn config() -> RunFile {
    RunFile::parse("run", RUN, &[]).expect("a run file")
}

fn iteration(number: u64, parent: Option<&Program>, program: &Program) -> Iteration {
    Iteration {
        iteration: number,
        generation: 0,
        island: 0,
        mutator: String::new(),
        parent: parent.map(Program::id),
        program: Some(program.id()),
        idea: Idea::default(),
        cost: Cost::default(),
        repairs: 0,
        duplicate: false,
    }
}

/// Records an evaluation and answers its row.
fn record(store: &mut Store, made: &Iteration, program: &Program, of: &Evaluation) -> i64 {
    store.record_iteration(made, Some(program), 1, of, &[]).expect("recorded")
}

fn evidence(folder: &Path) -> Evidence {
    Evidence {
        probes: vec![Probe::new("audit", 8, 1).with("residual", 1e-6)],
        ledger: [("tokens".to_owned(), 1 << 40)].into(),
        artifacts: [("net.bin".to_owned(), folder.join("artifacts/a-1/net.bin"))].into(),
        digest: Some("ab".to_owned()),
    }
}

#[test]
fn evidence_and_verdicts_come_back() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut store = Store::create(folder.path(), &config()).expect("a store");
    let (reference, child) = (Program::single("x", "1"), Program::single("x", "2"));
    let mut with = Evaluation::accepted("loss", 1.0);
    with.evidence = evidence(folder.path());
    let rows = record(&mut store, &iteration(0, None, &reference), &reference, &with);
    assert_eq!(store.evidence(rows).expect("read"), with.evidence);
    let outside = PathBuf::from("/elsewhere/net.bin");
    let mut without = Evaluation::accepted("loss", 1.0);
    without.verdict = Verdict::Unverified;
    without.findings.push(Finding::error("verify/hook", "it never returned"));
    let made = iteration(1, Some(&reference), &child);
    let row = record(&mut store, &made, &child, &without);
    assert!(store.evidence(row).expect("read").is_empty());
    let stored = store.search_evaluation(&child.id()).expect("read").expect("stored");
    assert_eq!(stored, without);
    assert_eq!(store.parent(&child.id()).expect("read"), Some(reference.id()));
    assert_eq!(store.parent(&reference.id()).expect("read"), None);

    // The same program made again takes over the result without its evidence.
    with.evidence.artifacts.insert("net.bin".to_owned(), outside.clone());
    let third = Program::single("x", "3");
    let made = iteration(2, Some(&child), &third);
    record(&mut store, &made, &third, &with);
    let again = Evaluation { evidence: Evidence::default(), ..with };
    record(&mut store, &iteration(3, Some(&child), &third), &third, &again);
    let found = store.search_evidence(&third.id()).expect("read");
    assert_eq!(found.artifacts["net.bin"], outside, "a path outside the run stays as it is");
}

#[test]
fn artifacts_are_found_where_the_run_was_moved() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (before, after) = (folder.path().join("before"), folder.path().join("after"));
    let mut store = Store::create(&before, &config()).expect("a store");
    let mut evaluation = Evaluation::accepted("loss", 1.0);
    evaluation.evidence = evidence(&before);
    let program = Program::single("x", "1");
    let row = record(&mut store, &iteration(0, None, &program), &program, &evaluation);
    drop(store);
    std::fs::rename(&before, &after).expect("moved");
    let found = Store::read(&after).and_then(|store| store.evidence(row)).expect("read");
    assert_eq!(found, evidence(&after));
}

#[test]
fn a_run_from_before_there_was_evidence_is_read_and_goes_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = Program::single("x", "1");
    let mut store = Store::create(folder.path(), &config()).expect("a store");
    let made = iteration(0, None, &program);
    let row = record(&mut store, &made, &program, &Evaluation::accepted("loss", 1.0));
    // As version 1 made it.
    store
        .connection
        .execute_batch("DROP TABLE evidence; PRAGMA user_version = 1")
        .expect("made old");
    drop(store);
    let old = Store::read(folder.path()).expect("readable");
    assert_eq!(old.version().expect("a version"), 1, "who only reads changes nothing");
    assert!(old.evidence(row).expect("read").is_empty());
    drop(old);
    let mut store = Store::open(folder.path()).expect("goes on");
    assert!(store.evidence(row).expect("read").is_empty());
    let mut evaluation = Evaluation::accepted("loss", 0.5);
    evaluation.evidence = evidence(folder.path());
    let child = Program::single("x", "2");
    let row = record(&mut store, &iteration(1, Some(&program), &child), &child, &evaluation);
    assert_eq!(store.evidence(row).expect("read"), evaluation.evidence);
    drop(store);

    let store = Store::open(folder.path()).expect("goes on");
    store.connection.execute_batch("PRAGMA user_version = 3").expect("made new");
    drop(store);
    let error = Store::read(folder.path()).err().expect("from the future").to_string();
    assert!(error.contains("store version 3, this program knows 1 to 2\nhint: "), "{error}");
}
