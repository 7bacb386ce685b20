//! What is remembered, in which order it is shown, and what is forgotten.

use super::*;
use forerunner_sdk::{Evaluation, Finding, Idea, Objective};

fn objectives() -> Objectives {
    Objectives(vec![Objective::minimize("seconds", "s")])
}

fn outcome(iteration: u64, parent: &str, summary: &str, seconds: Option<f64>) -> Outcome {
    let details = Details { change: format!("change {iteration}"), ..Details::default() };
    Outcome {
        iteration,
        idea: Idea {
            summary: summary.to_owned(),
            model: "fast".to_owned(),
            details: serde_json::to_value(details).expect("plain data"),
            ..Idea::default()
        },
        parent: ProgramId(parent.to_owned()),
        parent_evaluation: Evaluation::accepted("seconds", 20.0),
        program: Some(ProgramId(format!("program {iteration}"))),
        evaluation: match seconds {
            Some(seconds) => Evaluation::accepted("seconds", seconds),
            None => Evaluation::failed(Cause::Compile, Finding::error("compile/error", "x")),
        },
    }
}

fn shown(known: &Known) -> Vec<String> {
    let line = |tried: &Tried| {
        format!("{}{} {}", if tried.here { "here " } else { "" }, tried.summary, tried.outcome)
    };
    known.tried.iter().map(line).collect()
}

#[test]
fn ideas_on_the_same_parent_come_first_then_the_best_then_the_latest() {
    let mut history = History::default();
    for (iteration, parent, summary, seconds) in [
        (1, "a", "good", Some(15.0)),
        (2, "b", "bad", Some(25.0)),
        (3, "a", "broken", None),
        (4, "b", "better", Some(10.0)),
        (5, "b", "plain", Some(20.0)),
    ] {
        history.add(&outcome(iteration, parent, summary, seconds));
    }
    let known = history.known(&ProgramId("a".to_owned()), &objectives(), 4);
    assert_eq!(
        shown(&known),
        [
            "here broken failed (compile)",
            "here good measured +25.0 %",
            "better measured +50.0 %",
            "plain measured +0.0 %"
        ]
    );
    assert_eq!((known.before, known.total), (5, 5));
    let gains: Vec<f64> = history.credits(known.before).iter().map(|credit| credit.gain).collect();
    assert_eq!(gains, [0.0, 0.5, 0.0, 0.0, 0.25]);
}

#[test]
fn what_came_later_makes_no_difference() {
    let mut history = History::default();
    history.add(&outcome(1, "a", "widen the hidden layer", Some(19.0)));
    let words = Words::of("widen the hidden layer", "");
    let parent = ProgramId("a".to_owned());
    assert_eq!(history.same_idea(&words, &parent, 0.6, 0), None);
    assert_eq!(history.same_change("change 1", 0), None);
    let repeat = history.same_idea(&words, &parent, 0.6, 1).expect("the same idea");
    assert_eq!((repeat.iteration, repeat.outcome.as_str()), (1, "measured, not comparable"));
    assert!(history.same_change("change 1", 1).is_some());
    assert!(history.same_change("program 1", 1).is_some());
    assert_eq!(history.same_change("change 2", 1), None);
}

#[test]
fn the_same_program_made_again_gains_nothing() {
    let mut history = History::default();
    history.add(&outcome(1, "a", "good", Some(15.0)));
    let mut again = outcome(2, "a", "good under another name", Some(15.0));
    again.program = Some(ProgramId("program 1".to_owned()));
    history.add(&again);
    let known = history.known(&ProgramId("a".to_owned()), &objectives(), 4);
    assert_eq!(
        shown(&known),
        ["here good under another name made the program of #1 again", "here good measured +25.0 %"]
    );
    let gains: Vec<f64> = history.credits(known.before).iter().map(|credit| credit.gain).collect();
    assert_eq!(gains, [0.0, 0.25]);
}

#[test]
fn an_idea_that_never_ran_may_be_tried_again_but_not_its_change() {
    let words = Words::of("widen the hidden layer", "");
    let parent = ProgramId("a".to_owned());
    for (cause, is_repeat) in [
        (Cause::Compile, false),
        (Cause::Crash, false),
        (Cause::Timeout, false),
        (Cause::Memory, false),
        (Cause::Protocol, false),
        (Cause::Other, false),
        (Cause::NotFinite, true),
        (Cause::Verification, true),
    ] {
        let mut failed = outcome(1, "a", "widen the hidden layer", None);
        failed.evaluation = Evaluation::failed(cause, Finding::error("x", "x"));
        let mut history = History::default();
        history.add(&failed);
        assert_eq!(history.same_idea(&words, &parent, 0.6, 1).is_some(), is_repeat, "{cause:?}");
        assert!(history.same_change("change 1", 1).is_some());
    }
}

#[test]
fn what_gained_something_elsewhere_may_be_borrowed() {
    let words = Words::of("widen the hidden layer", "");
    let is_repeat = |seconds: f64, parent: &str| {
        let mut history = History::default();
        history.add(&outcome(1, "a", "widen the hidden layer", Some(seconds)));
        let parent = ProgramId(parent.to_owned());
        history.known(&parent, &objectives(), 4);
        history.same_idea(&words, &parent, 0.6, 1).is_some()
    };
    assert!(is_repeat(15.0, "a") && is_repeat(25.0, "a"));
    assert!(!is_repeat(15.0, "b"), "it gained something");
    assert!(is_repeat(25.0, "b") && is_repeat(20.0, "b"), "it gained nothing");
}

#[test]
fn the_chosen_model_is_credited_whoever_had_the_idea() {
    let mut done = outcome(1, "a", "good", Some(15.0));
    let details = Details { chosen: "slow".to_owned(), ..Details::default() };
    done.idea.details = serde_json::to_value(details).expect("plain data");
    let mut history = History::default();
    history.add(&done);
    let known = history.known(&ProgramId("a".to_owned()), &objectives(), 4);
    let credits = history.credits(known.before);
    assert_eq!((credits[0].model.as_str(), credits.len()), ("slow", 1));
}

#[test]
fn failed_proposals_are_credited_by_what_stands_behind_their_error() {
    let cost = Cost { tokens_in: 10, tokens_out: 5, dollars: 0.5 };
    let tag = Tag { model: "slow".to_owned(), cost };
    let finding = Finding::error("mutator/error", format!("nothing {}", tag.write()));
    let mut failed = outcome(1, "a", "", None);
    failed.idea = Idea::default();
    failed.evaluation = Evaluation::failed(Cause::Mutator, finding);
    let mut history = History::default();
    history.add(&failed);
    let known = history.known(&ProgramId("a".to_owned()), &objectives(), 4);
    assert_eq!(
        history.credits(known.before),
        [Credit { model: "slow".to_owned(), gain: 0.0, cost }]
    );
    assert!(known.tried.is_empty());
}

#[test]
fn memory_is_bounded_and_a_resumed_run_knows_the_same() {
    let n = MOST as u64 + 500;
    let nth = |iteration: u64| {
        let seconds = 10.0 + (iteration * 7919 % 1000) as f64 / 100.0;
        let summary = format!("idea {iteration} of many {}", iteration * 31);
        outcome(iteration, ["a", "b", "c"][iteration as usize % 3], &summary, Some(seconds))
    };
    let (mut one, mut resumed) = (History::default(), History::default());
    let parent = ProgramId("a".to_owned());
    for iteration in 1..=n {
        one.add(&nth(iteration));
        resumed.add(&nth(iteration));
        if iteration % 50 == 0 {
            one.known(&parent, &objectives(), 20);
        }
    }
    let (a, b) = (one.known(&parent, &objectives(), 20), resumed.known(&parent, &objectives(), 20));
    assert_eq!(shown(&a), shown(&b));
    assert_eq!(a.before, n);
    for history in [one, resumed] {
        assert_eq!(
            (history.records.len(), history.ideas.len(), history.best.len()),
            (MOST, MOST, MOST)
        );
        assert_eq!(history.repeats.len(), 2 * MOST);
        assert_eq!(history.by_parent.values().map(VecDeque::len).sum::<usize>(), MOST);
        assert_eq!(history.same_change("change 500", n), None);
        assert!(history.same_change("change 501", n).is_some());
    }
}
