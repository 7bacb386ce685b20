//! The search, taken in event by event and evaluation by evaluation.

use super::text;
use forerunner_core::{Cost, Evaluation, Metrics, Objective, Objectives, ProgramId, Verdict};
use forerunner_runtime::{
    event::{EndReason, Event, EventKind, Summary},
    store::StoredIteration,
};
use forerunner_stats::{Frontier, place};
use std::collections::BTreeMap;

/// Objectives and axes whose values are kept for every evaluation; no environment has more.
pub(crate) const MAX_AXES: usize = 8;
/// Warnings and lost workers that are quoted; the others are counted.
const QUOTED: usize = 5;
/// Characters of a quoted warning.
const QUOTE: usize = 300;

/// One evaluation of the search, in order of completion.
#[derive(Debug, Clone)]
pub(crate) struct Trial {
    /// 0 is the reference.
    pub(crate) iteration: u64,
    pub(crate) program: Option<u64>,
    pub(crate) parent: Option<u64>,
    pub(crate) verdict: Verdict,
    pub(crate) duplicate: bool,
    /// Whether it was better than all before it.
    pub(crate) is_best: bool,
    /// Seconds into the run, sessions added up; NaN where the log does not tell.
    pub(crate) at: f64,
    /// By [`super::material::Material::axes`]; NaN where the metric is missing.
    values: [f64; MAX_AXES],
}

impl Trial {
    /// The value on an axis, of a trial that counts.
    pub(crate) fn value(&self, axis: usize) -> Option<f64> {
        let value = self.values.get(axis).copied().filter(|value| value.is_finite());
        value.filter(|_| self.verdict == Verdict::Accepted)
    }
}

/// The first 64 bits of an identity, enough to tell the programs of a run apart on a plot; `None` for
/// what is none.
pub(crate) fn as_number(id: &ProgramId) -> Option<u64> {
    u64::from_str_radix(id.0.get(..16)?, 16).ok()
}

/// What a mutator did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) proposals: u64,
    pub(crate) accepted: u64,
    pub(crate) duplicates: u64,
    pub(crate) bests: u64,
    pub(crate) repairs: u64,
    pub(crate) cost: Cost,
}

/// What the event log tells beyond evaluations.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogTally {
    pub(crate) sessions: u64,
    /// Wall seconds of all sessions.
    pub(crate) seconds: f64,
    pub(crate) workers_lost: u64,
    pub(crate) n_warnings: u64,
    /// The first warnings and losses, cut to size.
    pub(crate) quotes: Vec<String>,
    pub(crate) confirmations: u64,
    at: Vec<f64>,
    before: f64,
}

impl LogTally {
    pub(crate) fn take_in(&mut self, event: &Event) {
        match &event.kind {
            EventKind::RunStarted { .. } => {
                self.sessions += 1;
                self.before = self.seconds;
            }
            EventKind::Evaluated(evaluated) => {
                let index = evaluated.iteration as usize;
                if index >= self.at.len() && index < self.at.len() + 1_000_000 {
                    self.at.resize(index + 1, f64::NAN);
                }
                if let Some(at) = self.at.get_mut(index) {
                    *at = self.before + event.at;
                }
            }
            EventKind::WorkerLost { worker, reason } => {
                self.workers_lost += 1;
                self.quote(&format!("worker {worker} lost: {reason}"));
            }
            EventKind::Warning { message } => {
                self.n_warnings += 1;
                self.quote(message);
            }
            _ => {}
        }
        self.seconds = self.seconds.max(self.before + event.at);
    }

    fn quote(&mut self, message: &str) {
        if self.quotes.len() < QUOTED {
            self.quotes.push(text::line(message, QUOTE));
        }
    }

    fn at(&self, iteration: u64) -> f64 {
        self.at.get(iteration as usize).copied().unwrap_or(f64::NAN)
    }
}

/// The search taken in iteration by iteration.
pub(crate) struct Search<'a> {
    objectives: &'a Objectives,
    frontier_axes: &'a [Objective],
    axes: &'a [Objective],
    log: &'a LogTally,
    pub(crate) trials: Vec<Trial>,
    pub(crate) mutators: BTreeMap<String, Tally>,
    pub(crate) frontier: Frontier<(ProgramId, Metrics)>,
    /// As far as iterations tell.
    pub(crate) summary: Summary,
}

impl<'a> Search<'a> {
    pub(crate) fn new(
        objectives: &'a Objectives,
        frontier_axes: &'a [Objective],
        axes: &'a [Objective],
        log: &'a LogTally,
    ) -> Self {
        Self {
            objectives,
            frontier_axes,
            axes,
            log,
            trials: Vec::new(),
            mutators: BTreeMap::new(),
            frontier: Frontier::over(frontier_axes),
            summary: Summary {
                reason: EndReason::Interrupted,
                run: String::new(),
                iterations: 0,
                accepted: 0,
                failures: BTreeMap::new(),
                reference: Metrics::new(),
                best: ProgramId::default(),
                best_metrics: Metrics::new(),
                frontier: Vec::new(),
                confirmation: None,
                slot_use: 0.0,
                cost: Default::default(),
                replay_of: None,
                seconds: 0.0,
            },
        }
    }

    pub(crate) fn take_in(&mut self, stored: StoredIteration) {
        let StoredIteration { iteration: made, evaluation, .. } = stored;
        let Evaluation { verdict, metrics, .. } = evaluation;
        let is_best = self.count(&made.program, made.iteration == 0, verdict, &metrics);
        if made.iteration > 0 {
            let tally = self.mutators.entry(made.mutator).or_default();
            tally.proposals += 1;
            tally.accepted += u64::from(verdict == Verdict::Accepted);
            tally.duplicates += u64::from(made.duplicate);
            tally.bests += u64::from(is_best);
            tally.repairs += u64::from(made.repairs);
            tally.cost.tokens_in += made.cost.tokens_in;
            tally.cost.tokens_out += made.cost.tokens_out;
            tally.cost.dollars += made.cost.dollars;
        }
        let mut values = [f64::NAN; MAX_AXES];
        for (value, axis) in values.iter_mut().zip(self.axes) {
            *value = metrics.get(&axis.metric).copied().unwrap_or(f64::NAN);
        }
        self.trials.push(Trial {
            iteration: made.iteration,
            program: made.program.as_ref().and_then(as_number),
            parent: made.parent.as_ref().and_then(as_number),
            verdict,
            duplicate: made.duplicate,
            is_best,
            at: self.log.at(made.iteration),
            values,
        });
        if let (Verdict::Accepted, false, Some(id)) = (verdict, made.duplicate, made.program) {
            let point = place(self.frontier_axes, &metrics);
            self.frontier.insert((id, metrics), &point);
        }
    }

    /// Adds to the summary; says whether this is a new best.
    fn count(
        &mut self,
        program: &Option<ProgramId>,
        is_reference: bool,
        verdict: Verdict,
        metrics: &Metrics,
    ) -> bool {
        let summary = &mut self.summary;
        summary.iterations += u64::from(!is_reference);
        if is_reference {
            summary.reference.clone_from(metrics);
        }
        let cause = match verdict {
            Verdict::Accepted => None,
            Verdict::Rejected => Some("rejected"),
            Verdict::Unverified => Some("unverified"),
            Verdict::Failed(cause) => Some(cause.as_str()),
        };
        if let Some(cause) = cause {
            *summary.failures.entry(cause.to_owned()).or_default() += 1;
            return false;
        }
        summary.accepted += u64::from(!is_reference);
        let Some(id) = program else { return false };
        let is_best = summary.best.0.is_empty()
            || self.objectives.compare(metrics, &summary.best_metrics).is_lt();
        if is_best {
            summary.best = id.clone();
            summary.best_metrics.clone_from(metrics);
        }
        is_best && !is_reference
    }
}
