//! One line for each important event.

use super::line::{Line, Tone, shorten};
use super::status::Status;
use crate::evaluation::{environment, slice, verdict};
use crate::gain::{against_reference, reading};
use crate::ideas::SUBMISSION;
use crate::number::{count, duration, money, number};
use crate::record::word;
use crate::sanitize;
use forerunner_core::{Evaluation, Metrics, Objectives, Severity};
use forerunner_runtime::event::{Called, EndReason, Evaluated, Event, EventKind, Repair, Summary};

/// Columns of the first word after the time.
const LABEL: usize = 10;
/// Columns that foreign text (ideas, messages) may take: enough to recognise it.
const FOREIGN: usize = 100;

/// The line for `event`, when it deserves one. `status` is what was known before it.
pub(super) fn line(event: &Event, status: &Status, quiet: bool) -> Option<Line> {
    let labelled = |tone, label: &str, text: String| {
        let time = Line::default().with(Tone::Faint, format!("{:>8}  ", duration(event.at)));
        let blanks = " ".repeat(LABEL.saturating_sub(label.len()) + 2);
        Some(time.with(tone, label).with(Tone::Plain, blanks + &text))
    };
    match &event.kind {
        EventKind::RunStarted { .. } => {
            labelled(Tone::Plain, "run", run_started(&event.kind).unwrap_or_default())
        }
        EventKind::Reference { program, evaluation } => {
            let measured = outcome(evaluation, &status.objectives, None);
            let tone = if evaluation.is_accepted() { Tone::Plain } else { Tone::Bad };
            labelled(tone, "reference", format!("{}  {measured}", program.short()))
        }
        EventKind::Called(_) | EventKind::CheckFailed { .. } | EventKind::Evaluated(_) if quiet => {
            None
        }
        EventKind::CheckFailed { iteration, cause, findings, repair: Repair::Made, .. } => {
            let first = findings.iter().find(|finding| finding.severity == Severity::Error);
            let why = first.or(findings.first()).map_or(String::new(), |finding| {
                format!(": {} {}", foreign(&finding.rule), foreign(&finding.message))
            });
            labelled(
                Tone::Notice,
                "check",
                format!("#{iteration} failed ({}){why}", cause.as_str()),
            )
        }
        EventKind::Called(called) => {
            let tone = if called.failure.is_some() { Tone::Bad } else { Tone::Faint };
            match &called.failure {
                // Somebody came by themselves: no model was asked.
                None if called.purpose == SUBMISSION => {
                    labelled(tone, "submission", format!("#{}", called.iteration))
                }
                _ => labelled(tone, "asked", self::called(called)),
            }
        }
        EventKind::Evaluated(evaluated) => {
            let bad = !evaluated.evaluation.is_accepted();
            let tone = if bad { Tone::Bad } else { Tone::Plain };
            labelled(tone, &format!("#{}", evaluated.iteration), self::evaluated(evaluated, status))
        }
        EventKind::NewBest { iteration, program, metrics } => {
            let gain = against_reference(&status.objectives, metrics, status.reference());
            let text = format!("#{iteration} {}  {gain}", program.short());
            labelled(Tone::Good, "best", text)
        }
        EventKind::WorkerLost { worker, reason } => {
            let text = format!("worker {}: {}", foreign(worker), foreign(reason));
            labelled(Tone::Notice, "lost", text)
        }
        EventKind::Warning { message } => {
            // The operator needs all of it.
            labelled(Tone::Notice, "warning", sanitize::line(message))
        }
        EventKind::ConfirmationStarted { programs, seeds, slice: of } => {
            let programs = count(programs.len() as u64, "program");
            let seeds = count(*seeds as u64, "fresh seed");
            let text = format!("{programs} and the reference on {seeds}, {} slice", slice(*of));
            labelled(Tone::Plain, "confirm", text)
        }
        EventKind::Confirmed { program, seed, evaluation } => {
            let measured = outcome(evaluation, &status.objectives, None);
            let tone = if evaluation.is_accepted() { Tone::Plain } else { Tone::Bad };
            labelled(tone, "confirmed", format!("{} seed {seed}  {measured}", status.name(program)))
        }
        EventKind::MeasurementRepeated { program, seed, slice: of, reason } => {
            let (name, reason) = (status.name(program), foreign(reason));
            let text = format!("{name} seed {seed} ({}), once more: {reason}", slice(*of));
            labelled(Tone::Notice, "repeat", text)
        }
        EventKind::RecordStarted { plan, missing } => {
            let (program, missing) = (plan.program.short(), count(*missing as u64, "measurement"));
            let of = slice(plan.slice);
            let text = format!("{program}, attempt {}: {missing}, {of} slice", plan.attempt);
            labelled(Tone::Plain, "record", text)
        }
        EventKind::RecordMeasured { part, program, seed, evaluation, .. } => {
            let measured = outcome(evaluation, &status.objectives, None);
            let tone = if evaluation.is_accepted() { Tone::Plain } else { Tone::Bad };
            let text = format!("{} seed {seed}  {measured}", status.name(program));
            labelled(tone, part.as_str(), text)
        }
        EventKind::RecordJudged { part, holds, .. } => {
            let tone = if *holds { Tone::Good } else { Tone::Bad };
            let text = format!("the {} {}", part.as_str(), word(Some(*holds)));
            labelled(tone, "record", text)
        }
        EventKind::Replayed { recorded, iterations, calls } => {
            let (iterations, calls) = (count(*iterations, "iteration"), count(*calls, "call"));
            let text =
                format!("{iterations} and {calls} as recorded in {}", sanitize::line(recorded));
            labelled(Tone::Good, "replayed", text)
        }
        EventKind::RunFinished(summary) => labelled(Tone::Plain, "end", ended(summary)),
        _ => None,
    }
}

fn run_started(kind: &EventKind) -> Option<String> {
    let EventKind::RunStarted {
        run,
        environment: name,
        track,
        seed,
        slots,
        evaluations,
        seconds,
        resumed,
        ..
    } = kind
    else {
        return None;
    };
    let mut parts = vec![environment(name, track)];
    if *resumed > 0 {
        parts.push(format!("resumed after {}", count(*resumed, "iteration")));
    }
    parts.push(format!("seed {seed}"));
    parts.push(count(*slots as u64, "slot"));
    parts.extend(evaluations.map(|evaluations| count(evaluations, "evaluation")));
    parts.extend(seconds.map(|seconds| format!("at most {}", duration(seconds))));
    parts.push(sanitize::line(run));
    Some(parts.join(", "))
}

fn called(called: &Called) -> String {
    let Called { iteration, model, purpose, cost, seconds, failure, .. } = called;
    let tokens = |n: u64| number(n as f64);
    let text = format!(
        "#{iteration} {} for {}: {} + {} tokens, {}, {seconds:.1} s",
        foreign(model),
        foreign(purpose),
        tokens(cost.tokens_in),
        tokens(cost.tokens_out),
        money(cost.dollars)
    );
    match failure {
        Some(failure) => format!("{text}, no reply: {}", foreign(failure)),
        None => text,
    }
}

fn evaluated(evaluated: &Evaluated, status: &Status) -> String {
    let outcome = if evaluated.duplicate {
        let program = evaluated.program.as_ref().map_or("", |program| program.short());
        format!("same program as before {program}")
    } else {
        let frontier = if evaluated.on_frontier { ", on the frontier" } else { "" };
        let reference = status.reference();
        format!("{}{frontier}", outcome(&evaluated.evaluation, &status.objectives, reference))
    };
    let idea = foreign(&evaluated.idea.summary);
    format!("{outcome}  [{}] {idea}", foreign(&evaluated.mutator)).trim_end().to_owned()
}

/// The verdict with the leading metric, or with the first reason.
fn outcome(
    evaluation: &Evaluation,
    objectives: &Objectives,
    reference: Option<&Metrics>,
) -> String {
    if evaluation.is_accepted() {
        return match reference {
            Some(_) => against_reference(objectives, &evaluation.metrics, reference),
            None => readings(objectives, &evaluation.metrics),
        };
    }
    let verdict = verdict(evaluation.verdict);
    let findings = &evaluation.findings;
    let reason = findings.iter().find(|f| f.severity == Severity::Error).or(findings.first());
    match reason {
        None => verdict,
        Some(finding) => {
            let place = finding.place.as_ref().map(|place| format!(" at {}", foreign(place)));
            let rule = foreign(&finding.rule);
            let message = foreign(&finding.message);
            format!("{verdict} {rule}{}: {message}", place.unwrap_or_default())
        }
    }
}

/// Every objective that was measured.
fn readings(objectives: &Objectives, metrics: &Metrics) -> String {
    let readings: Vec<String> = objectives
        .0
        .iter()
        .filter_map(|objective| Some(reading(objective, *metrics.get(&objective.metric)?)))
        .collect();
    if readings.is_empty() { "no objective was measured".to_owned() } else { readings.join(", ") }
}

fn ended(summary: &Summary) -> String {
    let reason = match summary.reason {
        EndReason::Evaluations => "the budget of evaluations is used up",
        EndReason::Dollars => "the budget of money is used up",
        EndReason::Tokens => "the budget of tokens is used up",
        EndReason::Mutators => "no mutator makes proposals any more",
        EndReason::Time => "the time is used up",
        EndReason::Interrupted => "interrupted",
    };
    let (iterations, accepted) = (count(summary.iterations, "iteration"), summary.accepted);
    format!("{reason}: {iterations}, {accepted} accepted")
}

/// Foreign text on one line, cut to a recognisable length.
pub(super) fn foreign(text: &str) -> String {
    shorten(&sanitize::line(text), FOREIGN)
}
