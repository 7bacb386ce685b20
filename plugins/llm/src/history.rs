//! What became of earlier proposals: everything that later ones are decided by.

mod known;

use crate::{
    details::{Details, Tag},
    novelty::{Index, Words},
    text,
    values::percent,
    vectors::{Vector, Vectors},
};
use forerunner_sdk::{Cause, Cost, Interval, Metrics, Objectives, Outcome, ProgramId, Verdict};
use known::was_measured;
pub(crate) use known::{Credit, Known, Repeat, Tried};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
};

/// Outcomes that are remembered; the oldest are forgotten first.
const MOST: usize = 16_384;
/// Bytes of a summary that are remembered.
const SUMMARY: usize = 240;
/// Of the ideas shown, those tried on the same parent, and the best.
const HERE: usize = 8;
const BEST: usize = 8;
/// Outcomes from which models are credited: the latest.
const CREDITED: usize = 512;

/// What became of one proposal.
#[derive(Debug)]
struct Record {
    iteration: u64,
    parent: ProgramId,
    program: Option<ProgramId>,
    summary: String,
    expected: Option<Interval>,
    /// Who is credited.
    model: String,
    cost: Cost,
    change: String,
    ideas_first: bool,
    verdict: Verdict,
    /// The iteration that made the same program before; the outcome is that one's.
    made_before: Option<u64>,
    measured: Measured,
}

/// Gains need the task's objectives, which are not known before the first request.
#[derive(Debug)]
enum Measured {
    Waiting { parent: Metrics, child: Metrics },
    Gain(Option<f64>),
}

/// All that is remembered.
#[derive(Debug, Default)]
pub(crate) struct History {
    records: VecDeque<Record>,
    /// Number of the first record; they are numbered from 0 in the order in which they came.
    first: u64,
    /// Number of the first record whose gain is not known yet.
    waiting: u64,
    /// Accepted ones, best first.
    best: BTreeSet<(Reverse<Ordered>, u64)>,
    by_parent: BTreeMap<ProgramId, VecDeque<u64>>,
    ideas: Index,
    vectors: Vectors,
    /// Changes and programs that were there before.
    repeats: BTreeMap<String, u64>,
    /// Number of the latest proposal whose idea came first.
    ideas_first: Option<u64>,
}

/// A finite number that can be sorted.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ordered(f64);
impl Eq for Ordered {}
impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl History {
    /// Takes in what became of a proposal.
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        let number = self.first + self.records.len() as u64;
        let details = Details::read(&outcome.idea.details);
        let tag = Tag::find(&outcome.evaluation.findings);
        let (model, cost) = match (&details, tag) {
            (None, Some(tag)) => (tag.model, tag.cost),
            _ => (
                outcome.idea.model.clone(),
                details.as_ref().map(|details| details.spent).unwrap_or_default(),
            ),
        };
        let details = details.unwrap_or_default();
        let model = if details.chosen.is_empty() { model } else { details.chosen.clone() };
        let made = outcome.program.as_ref().and_then(|id| self.repeats.get(&id.0).copied());
        let summary = text::line(&outcome.idea.summary, SUMMARY);
        if !summary.is_empty() && made.is_none() && was_measured(outcome.evaluation.verdict) {
            self.ideas.add(number, Words::of(&summary, &outcome.idea.mechanism));
            let vector = details.embedding.as_ref().and_then(|it| Vector::parse(&it.vector));
            if let (Some(vector), Some(embedding)) = (vector, &details.embedding) {
                self.vectors.add(number, &embedding.model, vector);
            }
        }
        // A lost worker says nothing about a change.
        if outcome.evaluation.verdict != Verdict::Failed(Cause::Worker) {
            let program = outcome.program.iter().map(|id| id.0.clone());
            let change = (!details.change.is_empty()).then(|| details.change.clone());
            for text in program.chain(change) {
                self.repeats.entry(text).or_insert(number);
            }
        }
        if details.ideas_first {
            self.ideas_first = Some(number);
        }
        self.by_parent.entry(outcome.parent.clone()).or_default().push_back(number);
        self.records.push_back(Record {
            iteration: outcome.iteration,
            parent: outcome.parent.clone(),
            program: outcome.program.clone(),
            summary,
            expected: outcome.idea.expected_gain,
            model,
            cost,
            change: details.change,
            ideas_first: details.ideas_first,
            verdict: outcome.evaluation.verdict,
            made_before: made.and_then(|number| Some(self.record(number)?.iteration)),
            measured: Measured::Waiting {
                parent: outcome.parent_evaluation.metrics.clone(),
                child: outcome.evaluation.metrics.clone(),
            },
        });
        if self.records.len() > MOST {
            self.forget();
        }
    }

    fn forget(&mut self) {
        let Some(record) = self.records.pop_front() else { return };
        let number = self.first;
        self.first += 1;
        self.waiting = self.waiting.max(self.first);
        if let Measured::Gain(Some(gain)) = record.measured {
            self.best.remove(&(Reverse(Ordered(gain)), number));
        }
        if let Some(numbers) = self.by_parent.get_mut(&record.parent) {
            numbers.pop_front();
            if numbers.is_empty() {
                self.by_parent.remove(&record.parent);
            }
        }
        self.ideas.forget(number);
        self.vectors.forget(number);
        for text in record.program.map(|id| id.0).into_iter().chain([record.change]) {
            if self.repeats.get(&text) == Some(&number) {
                self.repeats.remove(&text);
            }
        }
        if record.ideas_first && self.ideas_first == Some(number) {
            self.ideas_first = None;
        }
    }

    /// Computes the gains that are not known yet.
    fn settle(&mut self, objectives: &Objectives) {
        let from = (self.waiting - self.first) as usize;
        for (idx, record) in self.records.iter_mut().enumerate().skip(from) {
            let number = self.first + idx as u64;
            if let Measured::Waiting { parent, child } = &record.measured {
                let accepted = record.verdict == Verdict::Accepted && record.made_before.is_none();
                let gain = objectives.gain(parent, child).filter(|g| accepted && g.is_finite());
                if let Some(gain) = gain {
                    self.best.insert((Reverse(Ordered(gain)), number));
                }
                record.measured = Measured::Gain(gain);
            }
        }
        self.waiting = self.first + self.records.len() as u64;
    }

    /// What a proposal for `parent` that begins now goes by, with at most `most` ideas.
    pub(crate) fn known(
        &mut self,
        parent: &ProgramId,
        objectives: &Objectives,
        most: usize,
    ) -> Known {
        self.settle(objectives);
        let before = self.first + self.records.len() as u64;
        let here = self.by_parent.get(parent).into_iter().flatten().rev().take(HERE).copied();
        let best = self.best.iter().take(BEST).map(|(_, number)| *number);
        let latest = (self.first..before).rev().take(most + HERE + BEST);
        let mut seen = BTreeSet::new();
        let tried = here
            .chain(best)
            .chain(latest)
            .filter(|number| seen.insert(*number))
            .filter_map(|number| self.tried(number, parent))
            .take(most)
            .collect();
        let ideas_first = self.ideas_first.is_some();
        Known { before, tried, total: self.records.len(), ideas_first }
    }

    /// Model, gain and cost of the latest outcomes before this number, latest first. After
    /// [`History::known`], which settles what they gained.
    pub(crate) fn credits(&self, before: u64) -> Vec<Credit> {
        let numbers = (self.first..before).rev().take(CREDITED);
        let records = numbers.filter_map(|number| self.record(number));
        let credit = |record: &Record| Credit {
            model: record.model.clone(),
            gain: record.gain().unwrap_or(0.0).max(0.0),
            cost: record.cost,
        };
        records.filter(|record| !record.model.is_empty()).map(credit).collect()
    }

    fn record(&self, number: u64) -> Option<&Record> {
        self.records.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn tried(&self, number: u64, parent: &ProgramId) -> Option<Tried> {
        let record = self.record(number).filter(|record| !record.summary.is_empty())?;
        Some(Tried {
            iteration: record.iteration,
            here: record.parent == *parent,
            summary: record.summary.clone(),
            expected: record.expected.map_or_else(
                || "nothing said".to_owned(),
                |gain| format!("{} to {}", percent(gain.low), percent(gain.high)),
            ),
            outcome: record.outcome(),
        })
    }

    /// The idea for `parent` that this one says again in other words, among those below `before`. What
    /// gained something on another parent may be borrowed.
    pub(crate) fn same_idea(
        &self,
        words: &Words,
        parent: &ProgramId,
        least: f64,
        before: u64,
    ) -> Option<Repeat> {
        let counts = |number| self.counts(number, parent);
        let (_, number) = self.ideas.nearest(words, least, before, counts)?;
        self.repeat(number)
    }

    /// The idea for `parent` that points the same way as this one, which has a model's vector, among
    /// those below `before`; by the same rules as [`History::same_idea`].
    pub(crate) fn same_meaning(
        &self,
        (model, vector): (&str, &Vector),
        words: &Words,
        parent: &ProgramId,
        least: f64,
        before: u64,
    ) -> Option<Repeat> {
        let counts = |number| self.counts(number, parent) && self.ideas.agrees(number, words);
        self.repeat(self.vectors.nearest(model, vector, least, before, counts)?)
    }

    /// Whether an idea that is tried on `parent` again would be a repeat of this one.
    fn counts(&self, number: u64, parent: &ProgramId) -> bool {
        self.record(number).is_some_and(|record| {
            record.parent == *parent || record.gain().is_none_or(|gain| gain <= 0.0)
        })
    }

    /// The proposal that made this change or program before, among those below `before`.
    pub(crate) fn same_change(&self, digest: &str, before: u64) -> Option<Repeat> {
        let number = self.repeats.get(digest).filter(|number| **number < before)?;
        self.repeat(*number)
    }

    fn repeat(&self, number: u64) -> Option<Repeat> {
        let record = self.record(number)?;
        Some(Repeat {
            iteration: record.iteration,
            summary: record.summary.clone(),
            outcome: record.outcome(),
        })
    }
}

impl Record {
    fn gain(&self) -> Option<f64> {
        match self.measured {
            Measured::Gain(gain) => gain,
            Measured::Waiting { .. } => None,
        }
    }

    fn outcome(&self) -> String {
        if let Some(iteration) = self.made_before {
            return format!("made the program of #{iteration} again");
        }
        match (self.verdict, self.gain()) {
            (Verdict::Accepted, Some(gain)) => format!("measured {}", percent(gain)),
            (Verdict::Accepted, None) => "measured, not comparable".to_owned(),
            (Verdict::Rejected, _) => "rejected".to_owned(),
            (Verdict::Unverified, _) => "could not be verified".to_owned(),
            (Verdict::Failed(cause), _) => format!("failed ({})", cause.as_str()),
        }
    }
}

#[cfg(test)]
mod tests;
