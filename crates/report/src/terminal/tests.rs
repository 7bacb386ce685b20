//! A small run, shown in every look.

use super::*;
use forerunner_core::{
    Cause, Cost, Evaluation, Finding, Idea, Metrics, Objective, Objectives, ProgramId, Slice,
    Verdict,
};
use forerunner_runtime::event::{Called, EndReason, Evaluated, RecordPart, RecordPlan, Summary};

fn id(letter: char) -> ProgramId {
    ProgramId(letter.to_string().repeat(32))
}

fn measured(seconds: f64, loss: f64) -> Evaluation {
    let mut evaluation = Evaluation::accepted("seconds", seconds);
    evaluation.metrics.insert("loss".to_owned(), loss);
    evaluation
}

fn event(at: f64, kind: EventKind) -> Event {
    Event { at, kind }
}

fn evaluated(at: f64, iteration: u64, program: char, evaluation: Evaluation) -> Event {
    let idea = Idea { summary: format!("idea\t{iteration}\x1b[2J"), ..Idea::default() };
    event(
        at,
        EventKind::Evaluated(Box::new(Evaluated {
            iteration,
            generation: 1,
            mutator: "tuner".to_owned(),
            island: 0,
            parent: id('0'),
            program: Some(id(program)),
            idea,
            repairs: 0,
            on_frontier: evaluation.is_accepted(),
            duplicate: false,
            evaluation,
        })),
    )
}

fn called(at: f64, failure: Option<String>) -> Event {
    event(
        at,
        EventKind::Called(Called {
            iteration: 6,
            key: "0".repeat(32),
            model: "big\x1b[31m-1".to_owned(),
            purpose: "idea".to_owned(),
            cost: Cost { tokens_in: 12_345, tokens_out: 567, dollars: 0.0042 },
            seconds: 2.34,
            attempts: 1,
            failure,
        }),
    )
}

fn submitted(at: f64) -> Event {
    let mut event = called(at, None);
    if let EventKind::Called(called) = &mut event.kind {
        (called.model, called.purpose) = ("mcp".to_owned(), "submission".to_owned());
    }
    event
}

fn started(at: f64, resumed: u64) -> Event {
    let objectives = vec![Objective::minimize("seconds", "s"), Objective::minimize("loss", "")];
    event(
        at,
        EventKind::RunStarted {
            run: "runs/quickstart".to_owned(),
            environment: "nanogpt".to_owned(),
            track: "cpu".to_owned(),
            summary: "train a small GPT".to_owned(),
            frontier: objectives.clone(),
            objectives: Objectives(objectives),
            seed: 7,
            slots: 2,
            evaluations: Some(20),
            seconds: Some(360.0),
            dollars: None,
            tokens: None,
            resumed,
        },
    )
}

fn progress(at: f64, iteration: Option<u64>, fraction: f64, message: &str) -> Event {
    event(at, EventKind::Progress { iteration, fraction, message: message.to_owned() })
}

/// The search up to the middle of the first generation.
fn search() -> Vec<Event> {
    let finding =
        Finding::error("compile/error", "mismatched types\n  |\n3 | let x").at("main.rs:3");
    let failed = Evaluation::failed(Cause::Compile, finding);
    let finding = Finding::error("source/no-unsafe", "`unsafe` is not allowed");
    let rejected =
        Evaluation { verdict: Verdict::Rejected, findings: vec![finding], ..measured(1.0, 1.0) };
    let mut again = evaluated(61.0, 4, 'a', measured(28.3, 1.91));
    if let EventKind::Evaluated(evaluated) = &mut again.kind {
        evaluated.duplicate = true;
    }
    vec![
        started(0.0, 0),
        progress(1.0, None, 0.5, "training step 200 of 400"),
        event(30.0, EventKind::Reference { program: id('0'), evaluation: measured(32.1, 1.9) }),
        event(30.0, EventKind::GenerationStarted { generation: 1, children: 10 }),
        evaluated(31.0, 1, 'f', failed),
        evaluated(58.5, 2, 'a', measured(28.3, 1.91)),
        event(
            58.5,
            EventKind::NewBest {
                iteration: 2,
                program: id('a'),
                metrics: measured(28.3, 1.91).metrics,
            },
        ),
        evaluated(60.0, 3, 'b', rejected),
        again,
        event(
            62.0,
            EventKind::WorkerLost {
                worker: "measure-0".to_owned(),
                reason: "killed by signal 9".to_owned(),
            },
        ),
        event(63.0, EventKind::Warning { message: "the disk\nis \x1b[31mnearly full".to_owned() }),
        called(63.5, None),
        called(63.8, Some("rate_limited: try\x1b[2J later".to_owned())),
        submitted(63.9),
        event(
            64.0,
            EventKind::Replayed { recorded: "runs/quickstart".to_owned(), iterations: 4, calls: 2 },
        ),
        event(
            64.0,
            EventKind::Proposed {
                iteration: 6,
                mutator: "llm".to_owned(),
                parent: id('a'),
                idea: Idea::default(),
            },
        ),
        progress(90.0, Some(5), 0.72, "training step\r 288 of 400"),
    ]
}

fn ending() -> Vec<Event> {
    let programs = vec![id('a')];
    let summary = Summary {
        reason: EndReason::Time,
        run: "runs/quickstart".to_owned(),
        iterations: 4,
        accepted: 2,
        failures: [].into(),
        reference: Metrics::new(),
        best: id('a'),
        best_metrics: Metrics::new(),
        frontier: Vec::new(),
        confirmation: None,
        slot_use: 0.9,
        cost: Default::default(),
        replay_of: None,
        seconds: 360.0,
    };
    vec![
        event(360.0, EventKind::ConfirmationStarted { programs, seeds: 2, slice: Slice::Val }),
        event(
            390.0,
            EventKind::Confirmed { program: id('0'), seed: 8, evaluation: measured(32.0, 1.9) },
        ),
        event(4000.0, EventKind::RunFinished(Box::new(summary))),
    ]
}

fn show(look: Look, events: &[Event]) -> String {
    let mut text = Vec::new();
    let mut live = Live::new(&mut text, look);
    events.iter().for_each(|event| live.event(event).expect("memory"));
    drop(live);
    String::from_utf8(text).expect("text is UTF-8")
}

/// What a terminal shows after `text`: the few sequences that [`Live`] uses, and no others.
fn screen(text: &str) -> String {
    let mut rows = vec![String::new()];
    let mut row = 0;
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        if let Some(sequence) = rest.strip_prefix("\x1b[") {
            let end = sequence.find(|c: char| c.is_ascii_alphabetic()).expect("a final byte");
            match (&sequence[..end], &sequence[end..=end]) {
                (up, "A") => row -= up.parse::<usize>().expect("a count of rows"),
                ("", "J") => rows.truncate(row),
                ("?2026", "h" | "l") | (_, "m") => {}
                other => panic!("unexpected sequence {other:?}"),
            }
            rest = &sequence[end + 1..];
            continue;
        }
        rest = &rest[char.len_utf8()..];
        match char {
            '\n' => row += 1,
            '\r' => {}
            char => {
                assert!(!char.is_control(), "{char:?} reached the terminal");
                rows.resize(rows.len().max(row + 1), String::new());
                rows[row].push(char);
            }
        }
    }
    rows.join("\n")
}

fn live(columns: usize) -> Look {
    Look { live: true, colour: false, quiet: false, width: Width::Columns(columns) }
}

#[test]
fn plain_lines_tell_the_whole_story() {
    let events = [search(), ending()].concat();
    let text = show(Look::plain(), &events);
    assert!(!text.contains('\x1b'));
    insta::assert_snapshot!(text, @"
       0:00  run         nanogpt/cpu, seed 7, 2 slots, 20 evaluations, at most 6:00, runs/quickstart
       0:30  reference   00000000  seconds 32.100 s, loss 1.9000
       0:31  #1          failed (compile) compile/error at main.rs:3: mismatched types | 3 | let x  [tuner] idea 1
       0:58  #2          seconds 28.300 s, 11.8 % better than the reference, on the frontier  [tuner] idea 2
       0:58  best        #2 aaaaaaaa  seconds 28.300 s, 11.8 % better than the reference
       1:00  #3          rejected source/no-unsafe: `unsafe` is not allowed  [tuner] idea 3
       1:01  #4          same program as before aaaaaaaa  [tuner] idea 4
       1:02  lost        worker measure-0: killed by signal 9
       1:03  warning     the disk is nearly full
       1:03  asked       #6 big-1 for idea: 12,345 + 567 tokens, $0.0042, 2.3 s
       1:03  asked       #6 big-1 for idea: 12,345 + 567 tokens, $0.0042, 2.3 s, no reply: rate_limited: try later
       1:03  submission  #6
       1:04  replayed    4 iterations and 2 calls as recorded in runs/quickstart
       6:00  confirm     1 program and the reference on 2 fresh seeds, val slice
       6:30  confirmed   reference seed 8  seconds 32 s, loss 1.9000
    1:06:40  end         the time is used up: 4 iterations, 2 accepted
    ");
}

#[test]
fn quiet_lines_leave_out_single_evaluations() {
    let text = show(Look { quiet: true, ..Look::plain() }, &search());
    insta::assert_snapshot!(text, @"
    0:00  run         nanogpt/cpu, seed 7, 2 slots, 20 evaluations, at most 6:00, runs/quickstart
    0:30  reference   00000000  seconds 32.100 s, loss 1.9000
    0:58  best        #2 aaaaaaaa  seconds 28.300 s, 11.8 % better than the reference
    1:02  lost        worker measure-0: killed by signal 9
    1:03  warning     the disk is nearly full
    1:04  replayed    4 iterations and 2 calls as recorded in runs/quickstart
    ");
}

#[test]
fn the_status_stands_below_the_lines() {
    let mut text = Vec::new();
    let mut shown = Live::new(&mut text, live(100));
    search().iter().for_each(|event| shown.event(event).expect("memory"));
    // Keep the status on the screen: a finished run would remove it.
    std::mem::forget(shown);
    let text = String::from_utf8(text).expect("text is UTF-8");
    let screen = screen(&text);
    let status: Vec<&str> = screen.lines().skip_while(|line| !line.starts_with("run")).collect();
    insta::assert_snapshot!(status.join("\n"), @"
    run        nanogpt/cpu, 4 of 20 evaluations, generation 1 (4 of 10), 4.0 a minute
    best       seconds 28.300 s, 11.8 % better than the reference  (#2 aaaaaaaa)
    frontier   2 programs
    failures   compile 1, rejected 1
    time       1:30, about 4:00 left
    #5         ███████▎    72 %  training step 288 of 400
    #6         waiting           proposed by llm
    ");
}

#[test]
fn nothing_but_the_lines_remains_at_the_end() {
    let events = [search(), ending()].concat();
    let remains = screen(&show(live(100), &events));
    assert_eq!(remains.trim_end(), show(Look::plain(), &events).trim_end());
    // The same when the run breaks off.
    let remains = screen(&show(live(100), &search()));
    assert_eq!(remains.trim_end(), show(Look::plain(), &search()).trim_end());
}

#[test]
fn a_narrow_terminal_cuts_the_status() {
    let mut text = Vec::new();
    let mut shown = Live::new(&mut text, live(30));
    search().iter().for_each(|event| shown.event(event).expect("memory"));
    std::mem::forget(shown);
    let screen = screen(&String::from_utf8(text).expect("text is UTF-8"));
    let status: Vec<&str> = screen.lines().skip_while(|line| !line.starts_with("run")).collect();
    insta::assert_snapshot!(status.join("\n"), @"
    run        nanogpt/cpu, 4 of…
    best       seconds 28.300 s,…
    frontier   2 programs
    failures   compile 1, reject…
    time       1:30, about 4:00 …
    #5         ███████▎    72 % …
    #6         waiting          …
    ");
}

#[test]
fn the_status_is_not_redrawn_more_often_than_needed() {
    let mut text = Vec::new();
    let mut shown = Live::new(&mut text, live(80));
    shown.event(&started(0.0, 0)).expect("memory");
    for step in 0..1000_u32 {
        let at = f64::from(step) * 0.001;
        shown.event(&progress(at, Some(1), 0.5, "working")).expect("memory");
    }
    drop(shown);
    let text = String::from_utf8(text).expect("text is UTF-8");
    let drawings = text.matches("\x1b[?2026h").count();
    assert!((9..=12).contains(&drawings), "{drawings} drawings in a second");
}

#[test]
fn time_passes_without_events() {
    let mut text = Vec::new();
    let mut shown = Live::new(&mut text, live(80));
    shown.event(&started(0.0, 0)).expect("memory");
    shown.tick(59.0).expect("memory");
    std::mem::forget(shown);
    let screen = screen(&String::from_utf8(text).expect("text is UTF-8"));
    assert!(screen.contains("time       0:59, about 5:01 left"), "{screen}");
}

#[test]
fn a_resumed_run_remembers() {
    let mut text = Vec::new();
    let mut shown = Live::new(&mut text, live(100));
    search().iter().for_each(|event| shown.replay(event));
    shown.event(&started(0.0, 4)).expect("memory");
    shown.event(&evaluated(10.0, 5, 'c', measured(30.0, 1.8))).expect("memory");
    std::mem::forget(shown);
    insta::assert_snapshot!(screen(&String::from_utf8(text).expect("text is UTF-8")), @"
        0:00  run         nanogpt/cpu, resumed after 4 iterations, seed 7, 2 slots, 20 evaluations, at most 6:00, runs/quickstart
        0:10  #5          seconds 30 s, 6.5 % better than the reference, on the frontier  [tuner] idea 5
    run        nanogpt/cpu, 5 of 20 evaluations, generation 1 (5 of 10), 6.0 a minute
    best       seconds 28.300 s, 11.8 % better than the reference  (#2 aaaaaaaa)
    frontier   2 programs
    failures   compile 1, rejected 1
    time       0:10, about 2:30 left
    ");
}

#[test]
fn colours_are_never_the_only_sign() {
    let events = [search(), ending()].concat();
    let coloured = show(Look { colour: true, ..Look::plain() }, &events);
    assert!(coloured.contains("\x1b[1m\x1b[32mbest\x1b[0m"), "{coloured}");
    assert_eq!(crate::sanitize::block(&coloured), show(Look::plain(), &events));
}

#[test]
fn an_attempt_at_a_record_is_told_measurement_by_measurement() {
    let plan = RecordPlan {
        attempt: 1,
        program: id('a'),
        reference: id('0'),
        slice: Slice::Vault,
        seeds: vec![3, 4],
        disguise: Some(9),
        earlier: Vec::new(),
        confidence: 0.97,
    };
    let measured = |at, part, program, disguise, seconds| {
        let evaluation = measured(seconds, 1.9);
        let (attempt, seed, digest) = (1, 3, None);
        let kind = EventKind::RecordMeasured {
            attempt,
            part,
            program,
            seed,
            disguise,
            digest,
            evaluation,
        };
        event(at, kind)
    };
    let judged = |at, part, holds| event(at, EventKind::RecordJudged { attempt: 1, part, holds });
    let (program, slice) = (id('a'), Slice::Vault);
    let reason = "the worker process died".to_owned();
    let events = [
        search(),
        vec![
            event(400.0, EventKind::RecordStarted { plan, missing: 7 }),
            measured(430.0, RecordPart::Vault, id('0'), None, 32.0),
            event(431.0, EventKind::MeasurementRepeated { program, seed: 3, slice, reason }),
            measured(460.0, RecordPart::Vault, id('a'), None, 28.0),
            judged(460.0, RecordPart::Vault, true),
            measured(490.0, RecordPart::Disguise, id('a'), Some(9), 40.0),
            judged(490.0, RecordPart::Disguise, false),
        ],
    ]
    .concat();
    let text = show(Look::plain(), &events);
    let told: Vec<&str> = text.lines().skip_while(|line| !line.contains("attempt")).collect();
    insta::assert_snapshot!(told.join("\n"), @"
    6:40  record      aaaaaaaa, attempt 1: 7 measurements, vault slice
    7:10  vault       reference seed 3  seconds 32 s, loss 1.9000
    7:11  repeat      aaaaaaaa seed 3 (vault), once more: the worker process died
    7:40  vault       aaaaaaaa seed 3  seconds 28 s, loss 1.9000
    7:40  record      the vault holds
    8:10  disguise    aaaaaaaa seed 3  seconds 40 s, loss 1.9000
    8:10  record      the disguise refuses
    ");
    let mut text = Vec::new();
    let mut shown = Live::new(&mut text, live(100));
    events.iter().for_each(|event| shown.event(event).expect("memory"));
    std::mem::forget(shown);
    let rows = screen(&String::from_utf8(text).expect("text is UTF-8"));
    assert!(rows.contains("confirming on fresh seeds, 3 of 8"), "{rows}");
}
