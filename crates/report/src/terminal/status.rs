//! What is known of a run so far, and the block of rows that shows it.

use super::line::{Line, Tone};
use super::log::foreign;
use crate::chart::bar;
use crate::evaluation::{environment, verdict_word};
use crate::gain::against_reference;
use crate::number::{count, duration};
use crate::sanitize;
use forerunner_core::{Metrics, Objective, Objectives, ProgramId, Verdict};
use forerunner_runtime::event::{Evaluated, Event, EventKind};
use forerunner_stats::{Frontier, place};
use std::collections::BTreeMap;

/// Columns of the labels at the left.
const LABEL: usize = 9;
/// Columns of a progress bar.
const BAR: usize = 10;
/// Rows for work in progress; more slots than this are counted.
const TASKS: usize = 8;

/// What is known so far.
#[derive(Debug)]
pub(super) struct Status {
    /// Of the environment; empty before the run starts.
    pub(super) objectives: Objectives,
    environment: String,
    axes: Vec<Objective>,
    frontier: Option<Frontier<ProgramId>>,
    reference: Option<(ProgramId, Metrics)>,
    best: Option<(u64, ProgramId, Metrics)>,
    failures: BTreeMap<String, u64>,
    generation: Option<Generation>,
    budget: Budget,
    /// Complete iterations, those before a resumption included.
    iterations: u64,
    /// Of them, in this session.
    evaluated: u64,
    /// When this session began to search.
    search_began: Option<f64>,
    confirmation: Option<(u64, u64)>,
    /// By iteration; the reference's and confirmations' have none.
    tasks: BTreeMap<Option<u64>, Task>,
    at: f64,
}

#[derive(Debug, Default)]
struct Budget {
    evaluations: Option<u64>,
    seconds: Option<f64>,
}

#[derive(Debug)]
struct Generation {
    number: u64,
    children: u64,
    done: u64,
}

#[derive(Debug)]
struct Task {
    /// `None` while it waits for a slot.
    fraction: Option<f64>,
    message: String,
}

impl Status {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        Self {
            objectives: Objectives(Vec::new()),
            environment: String::new(),
            axes: Vec::new(),
            frontier: None,
            reference: None,
            best: None,
            failures: BTreeMap::new(),
            generation: None,
            budget: Budget::default(),
            iterations: 0,
            evaluated: 0,
            search_began: None,
            confirmation: None,
            tasks: BTreeMap::new(),
            at: 0.0,
        }
    }

    /// The reference's metrics, once measured.
    pub(super) fn reference(&self) -> Option<&Metrics> {
        self.reference.as_ref().map(|(_, metrics)| metrics)
    }

    /// What people call a program: `reference`, or its short identity.
    pub(super) fn name<'a>(&self, program: &'a ProgramId) -> &'a str {
        match &self.reference {
            Some((reference, _)) if reference == program => "reference",
            _ => program.short(),
        }
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, at: f64) {
        self.at = self.at.max(at);
    }

    /// Learns from an event.
    pub(super) fn take_in(&mut self, event: &Event) {
        self.pass(event.at);
        match &event.kind {
            EventKind::RunStarted { .. } => self.start(event),
            EventKind::Reference { program, evaluation } => {
                self.tasks.remove(&None);
                self.enter(program, &evaluation.metrics);
                self.best.get_or_insert((0, program.clone(), evaluation.metrics.clone()));
                self.reference = Some((program.clone(), evaluation.metrics.clone()));
                self.search_began = Some(event.at);
            }
            EventKind::GenerationStarted { generation, children } => {
                let (number, children) = (*generation, *children as u64);
                self.generation = Some(Generation { number, children, done: 0 });
            }
            EventKind::Proposed { iteration, mutator, .. } => {
                let message = format!("proposed by {}", foreign(mutator));
                self.tasks.insert(Some(*iteration), Task { fraction: None, message });
            }
            EventKind::Progress { iteration, fraction, message } => {
                let task = Task { fraction: Some(*fraction), message: foreign(message) };
                self.tasks.insert(*iteration, task);
            }
            EventKind::Evaluated(evaluated) => self.count(evaluated),
            EventKind::NewBest { iteration, program, metrics } => {
                self.best = Some((*iteration, program.clone(), metrics.clone()));
            }
            EventKind::ConfirmationStarted { programs, seeds, .. } => {
                self.tasks.clear();
                self.confirmation = Some((0, (programs.len() as u64 + 1) * *seeds as u64));
            }
            EventKind::RecordStarted { missing, .. } => {
                self.tasks.clear();
                self.confirmation = Some((0, *missing as u64));
            }
            EventKind::MeasurementRepeated { .. } => {
                if let Some((_, all)) = &mut self.confirmation {
                    *all += 1;
                }
            }
            EventKind::Confirmed { .. } | EventKind::RecordMeasured { .. } => {
                self.tasks.remove(&None);
                if let Some((done, _)) = &mut self.confirmation {
                    *done += 1;
                }
            }
            _ => {}
        }
    }

    fn start(&mut self, event: &Event) {
        let EventKind::RunStarted {
            environment: name,
            track,
            objectives,
            frontier,
            evaluations,
            seconds,
            resumed,
            ..
        } = &event.kind
        else {
            return;
        };
        self.environment = environment(name, track);
        self.objectives = objectives.clone();
        self.axes.clone_from(frontier);
        if self.frontier.is_none() && !frontier.is_empty() {
            self.frontier = Some(Frontier::over(frontier));
        }
        self.budget = Budget { evaluations: *evaluations, seconds: *seconds };
        (self.iterations, self.evaluated) = (*resumed, 0);
        self.search_began = (*resumed > 0).then_some(event.at);
        self.tasks.clear();
        self.confirmation = None;
        // A new session counts from zero again.
        self.at = event.at;
    }

    fn count(&mut self, evaluated: &Evaluated) {
        self.tasks.remove(&Some(evaluated.iteration));
        self.iterations += 1;
        self.evaluated += 1;
        if let Some(generation) = &mut self.generation {
            generation.done += 1;
        }
        let evaluation = &evaluated.evaluation;
        let cause = match evaluation.verdict {
            Verdict::Accepted => {
                if let Some(program) = &evaluated.program {
                    self.enter(program, &evaluation.metrics);
                }
                return;
            }
            Verdict::Rejected | Verdict::Unverified => verdict_word(evaluation.verdict),
            Verdict::Failed(cause) => cause.as_str(),
        };
        *self.failures.entry(cause.to_owned()).or_default() += 1;
    }

    fn enter(&mut self, program: &ProgramId, metrics: &Metrics) {
        if let Some(frontier) = &mut self.frontier {
            frontier.insert(program.clone(), &place(&self.axes, metrics));
        }
    }

    /// The rows to show now.
    pub(super) fn rows(&self) -> Vec<Line> {
        let mut rows = Vec::new();
        let mut row = |label: &str, text: String| {
            rows.push(Line::labelled(Tone::Faint, label, LABEL).with(Tone::Plain, text));
        };
        row("run", self.run());
        if let Some((iteration, program, metrics)) = &self.best {
            let gain = against_reference(&self.objectives, metrics, self.reference());
            let text = match iteration {
                0 => format!("the reference so far: {gain}"),
                _ => format!("{gain}  (#{iteration} {})", program.short()),
            };
            row("best", text);
        }
        if let Some(frontier) = &self.frontier {
            row("frontier", count(frontier.len() as u64, "program"));
        }
        row("failures", self.failures());
        row("time", self.time());
        for (iteration, task) in self.tasks_at_work().take(TASKS) {
            let label = iteration.map_or("-".to_owned(), |iteration| format!("#{iteration}"));
            let done = match task.fraction {
                Some(share) => {
                    format!("{} {:>3.0} %", bar(share, BAR), share.clamp(0.0, 1.0) * 100.0)
                }
                None => format!("{:BAR$}      ", "waiting"),
            };
            row(&label, format!("{done}  {}", task.message));
        }
        let hidden = self.tasks.len().saturating_sub(TASKS);
        if hidden > 0 {
            row("", format!("and {hidden} more"));
        }
        rows
    }

    /// The furthest first: what is being measured stands above what waits.
    fn tasks_at_work(&self) -> impl Iterator<Item = (&Option<u64>, &Task)> {
        let mut tasks: Vec<_> = self.tasks.iter().collect();
        let done = |task: &Task| task.fraction.unwrap_or(-1.0);
        tasks.sort_by(|a, b| done(b.1).total_cmp(&done(a.1)));
        tasks.into_iter()
    }

    fn run(&self) -> String {
        let mut parts = vec![if self.environment.is_empty() {
            "starting".to_owned()
        } else {
            self.environment.clone()
        }];
        if let Some((done, all)) = self.confirmation {
            parts.push(format!("confirming on fresh seeds, {done} of {all}"));
            return parts.join(", ");
        }
        parts.push(match self.budget.evaluations {
            Some(evaluations) => {
                format!("{} of {}", self.iterations, count(evaluations, "evaluation"))
            }
            None => count(self.iterations, "evaluation"),
        });
        if let Some(Generation { number, children, done }) = &self.generation {
            parts.push(format!("generation {number} ({done} of {children})"));
        }
        if let Some(rate) = self.per_second() {
            parts.push(format!("{:.1} a minute", rate * 60.0));
        }
        parts.join(", ")
    }

    fn failures(&self) -> String {
        if self.failures.is_empty() {
            return "none".to_owned();
        }
        let causes =
            self.failures.iter().map(|(cause, n)| format!("{} {n}", sanitize::line(cause)));
        causes.collect::<Vec<_>>().join(", ")
    }

    fn time(&self) -> String {
        let gone = duration(self.at);
        match self.seconds_left() {
            Some(left) if self.confirmation.is_none() => {
                format!("{gone}, about {} left", duration(left))
            }
            _ => gone,
        }
    }

    /// Until the first budget is used up: the time's exactly, the evaluations' at today's rate.
    fn seconds_left(&self) -> Option<f64> {
        let by_time = self.budget.seconds.map(|seconds| seconds - self.at);
        let by_evaluations = self.budget.evaluations.and_then(|evaluations| {
            Some(evaluations.saturating_sub(self.iterations) as f64 / self.per_second()?)
        });
        match (by_time, by_evaluations) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn per_second(&self) -> Option<f64> {
        let seconds = self.at - self.search_began?;
        (self.evaluated > 0 && seconds > 0.0).then(|| self.evaluated as f64 / seconds)
    }
}
