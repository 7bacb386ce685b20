//! What a store gives back is what it was given.

use super::*;
use forerunner_core::{Answer, Answered, Call, Evidence, Finding, Message, Probe, Role, Verdict};

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
        .execute_batch(
            "DROP TABLE evidence; DROP TABLE calls; DROP TABLE texts; DROP TABLE forms;
             PRAGMA user_version = 1",
        )
        .expect("made old");
    drop(store);
    let old = Store::read(folder.path()).expect("readable");
    assert_eq!(old.version().expect("a version"), 1, "who only reads changes nothing");
    assert!(old.evidence(row).expect("read").is_empty());
    assert!(old.calls().expect("read").is_empty());
    drop(old);
    let mut store = Store::open(folder.path()).expect("goes on");
    assert!(store.calls().expect("read").is_empty());
    assert!(store.evidence(row).expect("read").is_empty());
    let mut evaluation = Evaluation::accepted("loss", 0.5);
    evaluation.evidence = evidence(folder.path());
    let child = Program::single("x", "2");
    let row = record(&mut store, &iteration(1, Some(&program), &child), &child, &evaluation);
    assert_eq!(store.evidence(row).expect("read"), evaluation.evidence);
    drop(store);

    let store = Store::open(folder.path()).expect("goes on");
    store.connection.execute_batch("PRAGMA user_version = 4").expect("made new");
    drop(store);
    let error = Store::read(folder.path()).err().expect("from the future").to_string();
    assert!(error.contains("store version 4, this program knows 1 to 3\nhint: "), "{error}");
}

fn call(ordinal: u32, question: &str) -> Call {
    let message = |role, text: &str| Message { role, text: text.to_owned() };
    Call {
        model: "sage".to_owned(),
        purpose: "idea".to_owned(),
        parameters: [("temperature".to_owned(), 0.5.into())].into(),
        messages: vec![message(Role::System, "be wise"), message(Role::User, question)],
        seed: u64::MAX,
        ordinal,
    }
}

fn answer(outcome: Answered) -> Answer {
    let cost = Cost { tokens_in: 3, tokens_out: 1, dollars: 0.25 };
    Answer { outcome, cost, seconds: 1.5, attempts: 2 }
}

#[test]
fn calls_come_back_and_only_failures_are_made_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut store = Store::create(folder.path(), &config()).expect("a store");
    let calls = Calls::open(folder.path()).expect("a second connection");
    let (first, second) = (call(0, "what now?"), call(1, "and then?"));
    let failed =
        answer(Answered::Failed { kind: "timeout".to_owned(), message: "late".to_owned() });
    let good = answer(Answered::Reply { text: "wait".to_owned(), cut: false });
    assert_eq!(calls.find(&first.key()).expect("read"), None);
    calls.keep(7, &first, &failed).expect("kept");
    calls.keep(7, &second, &good).expect("kept");
    calls.keep(7, &first, &good).expect("kept again");
    assert_eq!(calls.find(&first.key()).expect("read"), Some(good.clone()));

    // Both connections write, in turns.
    let program = Program::single("x", "1");
    record(&mut store, &iteration(0, None, &program), &program, &Evaluation::accepted("loss", 1.0));
    calls.keep(8, &call(0, "what now?"), &good).expect("kept");

    let listed = store.calls().expect("read");
    let listed: Vec<_> = listed.iter().map(|one| (one.iteration, one.call.ordinal)).collect();
    assert_eq!(listed, [(7, 1), (8, 0)], "an equal call of the same seed is the same call");
    let found = store.calls_like(&second.key()[..8]).expect("read");
    assert_eq!((found.len(), &found[0].call, &found[0].answer), (1, &second, &good));
    let texts: i64 = store
        .connection
        .query_row("SELECT COUNT(*) FROM texts", [], |row| row.get(0))
        .expect("counted");
    assert_eq!(texts, 3, "equal texts are stored once");
    assert!(store.calls_like("'; --").expect("read").is_empty());
}
