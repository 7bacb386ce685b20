//! The book of a run: its store, its events, and what they add up to.

use super::RunError;
use crate::{
    event::{Evaluated, Event, EventKind},
    store::{Iteration, Store},
};
use forerunner_core::{
    Attempt, Cause, EnvironmentSpec, Evaluation, Evidence, Metrics, Objectives, Program, ProgramId,
    Telemetry, Verdict,
};
use forerunner_stats::Frontier;
use std::{
    cmp::Ordering,
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

/// Attempts that came to nothing and are remembered for mutators.
const REMEMBERED_FAILURES: usize = 32;

/// Candidates for confirmation that are remembered; more finalists than this make no sense.
const LEADERS: usize = 32;

/// A complete iteration on its way into the book.
pub(super) struct Entry {
    pub(super) iteration: Iteration,
    pub(super) program: Option<Program>,
    pub(super) evaluation: Evaluation,
    /// Calls to models and checks that failed on the way, in order.
    pub(super) steps: Vec<EventKind>,
    /// The program's normal form, where it has one.
    pub(super) form: Option<String>,
}

impl Entry {
    /// An iteration that the store holds.
    pub(super) fn stored(
        iteration: Iteration,
        program: Option<Program>,
        evaluation: Evaluation,
    ) -> Self {
        Self { iteration, program, evaluation, steps: Vec::new(), form: None }
    }

    /// Whether both are the same program, but for names and spelling.
    pub(super) fn is_twin_of(&self, other: &Self) -> bool {
        self.iteration.program.is_some() && self.iteration.program == other.iteration.program
            || self.form.is_some() && self.form == other.form
    }
}

pub(super) struct Book<'a> {
    pub(super) store: Store,
    sink: &'a mut dyn FnMut(&Event),
    started: Instant,
    /// Events that wait for the next transaction.
    unwritten: Vec<Event>,
    /// How many of them the sink has seen. Results are shown only when they are written: what
    /// somebody saw must survive a `kill -9` the moment after.
    shown: usize,
    pub(super) task: EnvironmentSpec,
    frontier: Frontier<(ProgramId, Metrics)>,
    pub(super) best: Option<(ProgramId, Metrics)>,
    /// The best programs besides the reference, best first.
    pub(super) leaders: Vec<(ProgramId, Metrics)>,
    pub(super) reference: Metrics,
    pub(super) failures: BTreeMap<String, u64>,
    pub(super) iterations: u64,
    pub(super) accepted: u64,
    outlook: Outlook,
}

/// What mutators get to know of the run besides programs.
#[derive(Clone, Default)]
pub(super) struct Outlook {
    /// Children counted since the best program was found.
    pub(super) stagnant: u64,
    /// The latest attempts that came to nothing, with their parents.
    failures: VecDeque<(ProgramId, Attempt)>,
}

impl Outlook {
    /// The latest attempts on a parent that failed or were not believed, at most three.
    pub(super) fn failures_of(&self, parent: &ProgramId) -> Vec<Attempt> {
        let of_parent = self.failures.iter().rev().filter(|(id, _)| id == parent);
        of_parent.take(3).map(|(_, attempt)| attempt.clone()).collect()
    }
}

impl<'a> Book<'a> {
    pub(super) fn new(store: Store, sink: &'a mut dyn FnMut(&Event), started: Instant) -> Self {
        let task = EnvironmentSpec::new("");
        Self {
            store,
            sink,
            started,
            unwritten: Vec::new(),
            shown: 0,
            frontier: Frontier::over(&[]),
            task,
            best: None,
            leaders: Vec::new(),
            reference: Metrics::new(),
            failures: BTreeMap::new(),
            iterations: 0,
            accepted: 0,
            outlook: Outlook::default(),
        }
    }

    /// Sets the environment once it is known.
    pub(super) fn begin(&mut self, task: EnvironmentSpec) {
        let axes = if task.frontier.is_empty() { &task.objectives.0 } else { &task.frontier };
        self.frontier = Frontier::over(axes);
        self.task = task;
    }

    pub(super) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Shows an event and keeps it for the next transaction.
    pub(super) fn emit(&mut self, kind: EventKind) {
        let event = Event { at: self.seconds(), kind };
        if event.kind.is_live_only() {
            (self.sink)(&event);
        } else {
            self.unwritten.push(event);
            self.show();
        }
    }

    /// Keeps an event for the next transaction, and shows it then.
    pub(super) fn hold(&mut self, kind: EventKind) {
        self.unwritten.push(Event { at: self.seconds(), kind });
    }

    /// Shows every event that was held back.
    pub(super) fn show(&mut self) {
        for event in &self.unwritten[self.shown..] {
            (self.sink)(event);
        }
        self.shown = self.unwritten.len();
    }

    /// After a transaction that wrote everything that waited.
    fn written(&mut self) {
        self.show();
        self.unwritten.clear();
        self.shown = 0;
    }

    /// Writes the events that wait.
    pub(super) fn flush(&mut self) -> Result<(), RunError> {
        if !self.unwritten.is_empty() {
            self.store.record_events(&self.unwritten)?;
            self.written();
        }
        Ok(())
    }

    /// Takes a measurement into the sums without emitting or writing anything. Says whether it
    /// is a new best and whether it is on the frontier.
    pub(super) fn count(&mut self, iteration: &Iteration, evaluation: &Evaluation) -> (bool, bool) {
        if iteration.iteration > 0 {
            self.iterations += 1;
            self.outlook.stagnant += 1;
        }
        match evaluation.verdict {
            Verdict::Accepted => {
                self.accepted += u64::from(iteration.iteration > 0);
                let Some(id) = &iteration.program else { return (false, false) };
                let best = self.best.as_ref().is_none_or(|(_, best)| {
                    self.task.objectives.compare(&evaluation.metrics, best) == Ordering::Less
                });
                if best {
                    self.outlook.stagnant = 0;
                    self.best = Some((id.clone(), evaluation.metrics.clone()));
                }
                if iteration.iteration > 0 {
                    self.lead(id, &evaluation.metrics);
                }
                (best, !iteration.duplicate && self.place(id, &evaluation.metrics))
            }
            Verdict::Rejected => {
                *self.failures.entry("rejected".to_owned()).or_default() += 1;
                self.remember(iteration, Cause::Verification, evaluation);
                (false, false)
            }
            Verdict::Unverified => {
                *self.failures.entry("unverified".to_owned()).or_default() += 1;
                self.remember(iteration, Cause::Verification, evaluation);
                (false, false)
            }
            Verdict::Failed(cause) => {
                *self.failures.entry(cause.as_str().to_owned()).or_default() += 1;
                self.remember(iteration, cause, evaluation);
                (false, false)
            }
        }
    }

    fn lead(&mut self, id: &ProgramId, metrics: &Metrics) {
        if self.leaders.iter().any(|(known, _)| known == id) {
            return;
        }
        let objectives = &self.task.objectives;
        let at = self
            .leaders
            .partition_point(|(_, other)| objectives.compare(other, metrics) != Ordering::Greater);
        self.leaders.insert(at, (id.clone(), metrics.clone()));
        self.leaders.truncate(LEADERS);
    }

    fn place(&mut self, id: &ProgramId, metrics: &Metrics) -> bool {
        let axes = if self.task.frontier.is_empty() {
            &self.task.objectives.0
        } else {
            &self.task.frontier
        };
        let point = forerunner_stats::place(axes, metrics);
        self.frontier.insert((id.clone(), metrics.clone()), &point)
    }

    fn remember(&mut self, iteration: &Iteration, cause: Cause, evaluation: &Evaluation) {
        let Some(parent) = &iteration.parent else { return };
        if self.outlook.failures.len() == REMEMBERED_FAILURES {
            self.outlook.failures.pop_front();
        }
        let attempt =
            Attempt { idea: iteration.idea.clone(), cause, findings: evaluation.findings.clone() };
        self.outlook.failures.push_back((parent.clone(), attempt));
    }

    /// What mutators get to know now.
    pub(super) fn outlook(&self) -> &Outlook {
        &self.outlook
    }

    /// Writes a complete iteration, with the events so far.
    pub(super) fn write(&mut self, entry: &Entry, seed: u64) -> Result<(), RunError> {
        self.note_form(entry)?;
        let Entry { iteration, program, evaluation, .. } = entry;
        let events = &self.unwritten;
        self.store.record_iteration(iteration, program.as_ref(), seed, evaluation, events)?;
        self.written();
        Ok(())
    }

    /// Writes a complete iteration whose events must wait for those of earlier ones.
    pub(super) fn write_ahead(&mut self, entry: &Entry, seed: u64) -> Result<(), RunError> {
        self.note_form(entry)?;
        let Entry { iteration, program, evaluation, .. } = entry;
        self.store.record_iteration(iteration, program.as_ref(), seed, evaluation, &[])?;
        Ok(())
    }

    /// Makes a measured program known by its normal form; before it is written, so that none is
    /// written without. A form whose program is not stored is that of none.
    fn note_form(&mut self, entry: &Entry) -> Result<(), RunError> {
        let measured = !matches!(entry.evaluation.verdict, Verdict::Failed(_));
        match (&entry.form, &entry.iteration.program) {
            (Some(form), Some(program)) if measured && !entry.iteration.duplicate => {
                Ok(self.store.note_form(form, program)?)
            }
            _ => Ok(()),
        }
    }

    /// Writes a confirming measurement, with the events so far.
    pub(super) fn write_confirmation(
        &mut self,
        program: &ProgramId,
        seed: u64,
        slice: forerunner_core::Slice,
        evaluation: &Evaluation,
    ) -> Result<(), RunError> {
        self.store.record_confirmation(program, seed, slice, evaluation, &self.unwritten)?;
        self.written();
        Ok(())
    }

    /// Counts a complete iteration and holds its events until it is written; what is stored
    /// already is shown with [`Book::show`].
    pub(super) fn announce(&mut self, entry: &Entry) {
        let Iteration { iteration, mutator, parent, idea, .. } = &entry.iteration;
        let parent = parent.clone().unwrap_or_default();
        for step in &entry.steps {
            self.hold(step.clone());
        }
        let (best, on_frontier) = self.count(&entry.iteration, &entry.evaluation);
        self.hold(EventKind::Evaluated(Box::new(Evaluated {
            iteration: *iteration,
            generation: entry.iteration.generation,
            mutator: mutator.clone(),
            island: entry.iteration.island,
            parent,
            program: entry.iteration.program.clone(),
            idea: idea.clone(),
            repairs: entry.iteration.repairs,
            evaluation: outline(&entry.evaluation),
            on_frontier,
            duplicate: entry.iteration.duplicate,
        })));
        if let (true, Some(program)) = (best, &entry.iteration.program) {
            self.hold(EventKind::NewBest {
                iteration: *iteration,
                program: program.clone(),
                metrics: entry.evaluation.metrics.clone(),
            });
        }
    }

    /// Holds the event of a proposal.
    pub(super) fn announce_proposal(
        &mut self,
        iteration: u64,
        mutator: &str,
        parent: &ProgramId,
        idea: &forerunner_core::Idea,
    ) {
        self.hold(EventKind::Proposed {
            iteration,
            mutator: mutator.to_owned(),
            parent: parent.clone(),
            idea: idea.clone(),
        });
    }

    /// Programs on the frontier, by the first axis.
    pub(super) fn frontier(&self) -> Vec<(ProgramId, Metrics)> {
        self.frontier.iter().map(|(member, _)| member.clone()).collect()
    }

    pub(super) fn objectives(&self) -> &Objectives {
        &self.task.objectives
    }
}

/// An evaluation without telemetry, which is in the store and differs from replay to replay, and
/// without evidence, which is for hooks and people: a mutator must not learn from it what is probed.
pub(super) fn outline(evaluation: &Evaluation) -> Evaluation {
    Evaluation {
        verdict: evaluation.verdict,
        findings: evaluation.findings.clone(),
        metrics: evaluation.metrics.clone(),
        telemetry: Telemetry::default(),
        evidence: Evidence::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RunFile;
    use forerunner_core::{Cost, Finding, Idea, Probe};

    const RUN: &str = "environment.name = \"x\"\nselector.name = \"x\"\n\
                       mutator = [{ name = \"x\" }]\nbudget.evaluations = 1";

    #[test]
    fn mutators_learn_why_an_attempt_came_to_nothing_and_no_more() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = RunFile::parse("run", RUN, &[]).expect("a run file");
        let store = Store::create(folder.path(), &config).expect("a store");
        let mut sink = |_: &Event| {};
        let mut book = Book::new(store, &mut sink, Instant::now());
        let parent = Program::single("x", "1").id();
        let verdicts = [
            Verdict::Accepted,
            Verdict::Rejected,
            Verdict::Failed(Cause::Crash),
            Verdict::Unverified,
        ];
        for (number, verdict) in (1..).zip(verdicts) {
            let mut evaluation = Evaluation::accepted("loss", 1.0);
            evaluation.verdict = verdict;
            evaluation.findings.push(Finding::error("x/rule", format!("reason {number}")));
            evaluation.evidence.probes.push(Probe::new("secret", 1, 0));
            let iteration = Iteration {
                iteration: number,
                generation: 1,
                island: 0,
                mutator: "m".to_owned(),
                parent: Some(parent.clone()),
                program: Some(Program::single("x", number.to_string()).id()),
                idea: Idea { summary: format!("idea {number}"), ..Idea::default() },
                cost: Cost::default(),
                repairs: 0,
                duplicate: false,
            };
            book.count(&iteration, &evaluation);
            assert!(outline(&evaluation).evidence.is_empty());
            assert_eq!(outline(&evaluation).findings, evaluation.findings);
        }
        let attempts = book.outlook().failures_of(&parent);
        let seen: Vec<_> = attempts
            .iter()
            .map(|one| (one.idea.summary.as_str(), one.cause, one.findings[0].message.as_str()))
            .collect();
        let expected = [
            ("idea 4", Cause::Verification, "reason 4"),
            ("idea 3", Cause::Crash, "reason 3"),
            ("idea 2", Cause::Verification, "reason 2"),
        ];
        assert_eq!(seen, expected);
        assert_eq!(book.failures["rejected"] + book.failures["unverified"], 2);
        assert!(book.outlook().failures_of(&Program::single("x", "9").id()).is_empty());
    }
}
