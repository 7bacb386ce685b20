//! The ideas of a run: what was expected of them, and what came.
//!
//! A gain is relative to the parent, in the most important objective that both have, and comes from
//! one measurement each on the search's slice: part of every gain is luck, and the best of many is
//! luckier than most. Says how good proposals were, not whether a program is better; for that there
//! is the confirmation.

mod group;
mod json;
mod text;

pub use group::By;

use forerunner_core::{Answered, Cause, Cost, Idea, Metrics, Objectives, ProgramId, Verdict};
use forerunner_runtime::{
    event::{EventKind, Repair},
    lineage::account,
    store::{Store, StoreError, StoredCall, StoredIteration},
};
use forerunner_stats::{Calibration, Forecast};
use group::Group;
pub(crate) use group::{ModelUse, models};
use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

/// The probability with which models are asked to make their intervals hold the gain.
const NOMINAL: f64 = 2.0 / 3.0;
/// The purpose of a call that brings a client's own proposal: nobody was asked anything.
pub(crate) const SUBMISSION: &str = "submission";
/// Purpose of calls that make a vector of an idea: whoever answers has no ideas.
const EMBEDDING: &str = "embedding";
/// Confidence of all intervals.
const CONFIDENCE: f64 = 0.95;

/// In which order ideas are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The largest gain first, ideas without one last.
    Gain,
    /// As they came.
    Iteration,
}

/// How ideas are shown as text.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// The order of the list.
    pub order: Order,
    /// Most ideas in the list.
    pub listed: usize,
    /// The only way in which they are grouped; `None` is every way that tells groups apart.
    pub by: Option<By>,
}

/// The ideas of a run.
#[derive(Debug, Clone)]
pub struct Ideas {
    run: String,
    environment: String,
    track: String,
    tried: Vec<Tried>,
    calls: Vec<StoredCall>,
}

/// An idea and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct Tried {
    iteration: u64,
    mutator: String,
    /// Whose idea it is; for a proposal that came to nothing, who was asked last.
    model: String,
    island: u32,
    parent: Option<ProgramId>,
    program: Option<ProgramId>,
    idea: Idea,
    verdict: Verdict,
    /// Relative to the parent; `None` where nothing new was measured, or nothing to compare with.
    gain: Option<f64>,
    improved: bool,
    duplicate: bool,
    /// Whether there was a program, and it passed its check.
    valid: bool,
    /// Whether the gain that was expected is one over the parent.
    over_parent: bool,
    /// Whether a critic had a say.
    criticised: bool,
    cost: Cost,
}

impl Ideas {
    /// Reads the ideas of a run, whether it ended or goes on.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn read(store: &Store) -> Result<Self, StoreError> {
        let account = account(store)?;
        let objectives = account.objectives.unwrap_or(Objectives(Vec::new()));
        let mut iterations = Vec::new();
        store.each_iteration(&mut |stored| iterations.push(stored))?;
        iterations.sort_by_key(|stored| stored.iteration.iteration);
        let mut refused = BTreeSet::new();
        store.each_event(&mut |event| refused.extend(refusal(&event.kind)))?;
        let calls = store.calls()?;
        let tried = tried(&objectives, iterations, &calls, &refused);
        Ok(Self {
            run: store.folder().display().to_string(),
            environment: account.environment,
            track: account.track,
            tried,
            calls,
        })
    }

    /// Whether all intervals that can be judged held what was measured, and the like; `None` when
    /// there are none.
    fn calibration(tried: &[&Tried]) -> Option<Calibration> {
        let forecasts: Vec<Forecast> = tried.iter().filter_map(|one| one.forecast()).collect();
        Calibration::of(&forecasts, NOMINAL, CONFIDENCE)
    }

    fn all(&self) -> Vec<&Tried> {
        self.tried.iter().collect()
    }

    fn groups(&self, by: By) -> Vec<Group<'_>> {
        group::groups(self.tried.iter().map(|one| (by.of(one), one)))
    }

    /// With a critic and without, when there is something of both or at least a critic.
    fn critic(&self) -> Vec<Group<'_>> {
        if !self.tried.iter().any(|one| one.criticised) {
            return Vec::new();
        }
        let name = |one: &Tried| if one.criticised { "with a critic" } else { "without" };
        group::groups(self.tried.iter().map(|one| (name(one).to_owned(), one)))
    }

    fn models(&self) -> Vec<ModelUse> {
        models(&self.calls, &self.tried)
    }
}

impl Tried {
    /// What was expected beside what came, where both are about the same.
    fn forecast(&self) -> Option<Forecast> {
        let expected = self.idea.expected_gain.filter(|_| self.over_parent)?;
        Some(Forecast { low: expected.low, high: expected.high, measured: self.gain? })
    }

    fn is_valid(&self) -> bool {
        self.valid
    }

    fn is_accepted(&self) -> bool {
        self.verdict == Verdict::Accepted
    }
}

/// Of a check that nobody mended after: the iteration, and how many repairs it had.
fn refusal(event: &EventKind) -> Option<(u64, u32)> {
    match event {
        EventKind::CheckFailed { iteration, attempt, repair, .. } if *repair != Repair::Made => {
            Some((*iteration, *attempt))
        }
        _ => None,
    }
}

/// Whether the gain that somebody expects of `idea` is one over `parent`: a client may have had
/// another program in mind than the one that its change was put down to.
fn is_over(parent: Option<&ProgramId>, idea: &Idea) -> bool {
    let base = idea.details.get("base").and_then(|base| base.as_str());
    base.is_none_or(|base| parent.is_some_and(|parent| parent.0 == base))
}

/// What became of each idea. `iterations` come by number; the reference is the first. `refused` are
/// those whose last check failed, with the number of repairs before it.
fn tried(
    objectives: &Objectives,
    iterations: Vec<StoredIteration>,
    calls: &[StoredCall],
    refused: &BTreeSet<(u64, u32)>,
) -> Vec<Tried> {
    let mut asked: BTreeMap<u64, &str> = BTreeMap::new();
    let mut criticised: BTreeMap<u64, ()> = BTreeMap::new();
    for call in calls {
        if call.call.purpose == "critique" {
            criticised.insert(call.iteration, ());
        } else if ![SUBMISSION, EMBEDDING].contains(&call.call.purpose.as_str()) {
            asked.insert(call.iteration, &call.call.model);
        }
    }
    // The first accepted measurement of a program is the one that its children were made from.
    let mut metrics: BTreeMap<ProgramId, Metrics> = BTreeMap::new();
    for stored in iterations.iter().filter(|stored| stored.evaluation.is_accepted()) {
        if let Some(program) = &stored.iteration.program {
            metrics.entry(program.clone()).or_insert_with(|| stored.evaluation.metrics.clone());
        }
    }
    let ideas = iterations.into_iter().filter(|stored| stored.iteration.iteration > 0);
    ideas
        .map(|StoredIteration { iteration, evaluation, .. }| {
            let parent = iteration.parent.as_ref().and_then(|parent| metrics.get(parent));
            let parent = parent.filter(|_| evaluation.is_accepted() && !iteration.duplicate);
            let opinions = iteration.idea.details.get("critic").and_then(|value| value.as_array());
            let model = match iteration.idea.model.as_str() {
                "" => asked.get(&iteration.iteration).copied().unwrap_or_default().to_owned(),
                model => model.to_owned(),
            };
            // What fails when it is measured may fail for the same causes as a check.
            let came_to_a_check = iteration.program.is_some()
                && evaluation.verdict != Verdict::Failed(Cause::Mutator);
            Tried {
                valid: came_to_a_check
                    && !refused.contains(&(iteration.iteration, iteration.repairs)),
                over_parent: is_over(iteration.parent.as_ref(), &iteration.idea),
                iteration: iteration.iteration,
                mutator: iteration.mutator,
                model,
                island: iteration.island,
                gain: parent.and_then(|parent| objectives.gain(parent, &evaluation.metrics)),
                improved: parent.is_some_and(|parent| {
                    objectives.compare(&evaluation.metrics, parent) == Ordering::Less
                }),
                criticised: criticised.contains_key(&iteration.iteration)
                    || opinions.is_some_and(|opinions| !opinions.is_empty()),
                parent: iteration.parent,
                program: iteration.program,
                idea: iteration.idea,
                verdict: evaluation.verdict,
                duplicate: iteration.duplicate,
                cost: iteration.cost,
            }
        })
        .collect()
}

/// Whether there was no reply.
fn is_failure(call: &StoredCall) -> bool {
    matches!(call.answer.outcome, Answered::Failed { .. })
}

#[cfg(test)]
mod tests;
