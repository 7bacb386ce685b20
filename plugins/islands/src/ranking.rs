//! Entries in order of merit.

use forerunner_sdk::{Metrics, Objectives, ProgramId};
use std::{cmp::Ordering, sync::Arc};

/// What the population remembers of a program.
#[derive(Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) id: ProgramId,
    /// The iteration that made it; among equals the older one stands first.
    pub(crate) iteration: u64,
    /// The cell it belongs to.
    pub(crate) cell: u64,
    /// The objectives' metrics alone.
    pub(crate) metrics: Metrics,
}

/// A total order: by the objectives, then by age, then by identity.
pub(crate) fn order(objectives: &Objectives, a: &Entry, b: &Entry) -> Ordering {
    objectives
        .compare(&a.metrics, &b.metrics)
        .then(a.iteration.cmp(&b.iteration))
        .then_with(|| a.id.cmp(&b.id))
}

/// A list of entries, best first. Entries may be shared with other lists.
#[derive(Debug, Default)]
pub(crate) struct Ranking(Vec<Arc<Entry>>);

impl Ranking {
    pub(crate) fn entries(&self) -> &[Arc<Entry>] {
        &self.0
    }

    pub(crate) fn insert(&mut self, objectives: &Objectives, entry: Arc<Entry>) {
        let place = self.place(objectives, &entry).unwrap_or_else(|place| place);
        self.0.insert(place, entry);
    }

    pub(crate) fn remove(&mut self, objectives: &Objectives, entry: &Entry) {
        if let Ok(place) = self.place(objectives, entry) {
            self.0.remove(place);
        }
    }

    /// Drops and answers the worst entry.
    pub(crate) fn pop_worst(&mut self) -> Option<Arc<Entry>> {
        self.0.pop()
    }

    fn place(&self, objectives: &Objectives, entry: &Entry) -> Result<usize, usize> {
        self.0.binary_search_by(|other| order(objectives, other, entry))
    }
}

/// The best entries of the whole population, each program once.
#[derive(Debug)]
pub(crate) struct Archive {
    ranking: Ranking,
    capacity: usize,
}

impl Archive {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { ranking: Ranking::default(), capacity }
    }

    pub(crate) fn entries(&self) -> &[Arc<Entry>] {
        self.ranking.entries()
    }

    /// Takes `entry` in when it is good enough. A program already there keeps its better result.
    pub(crate) fn offer(&mut self, objectives: &Objectives, entry: &Arc<Entry>) {
        let full = self.entries().len() >= self.capacity;
        if full
            && self.entries().last().is_some_and(|worst| order(objectives, entry, worst).is_gt())
        {
            return;
        }
        // A scan of a few dozen entries, and only for those good enough.
        if let Some(known) = self.entries().iter().find(|known| known.id == entry.id).cloned() {
            if !objectives.compare(&entry.metrics, &known.metrics).is_lt() {
                return;
            }
            self.ranking.remove(objectives, &known);
        }
        self.ranking.insert(objectives, Arc::clone(entry));
        if self.entries().len() > self.capacity {
            self.ranking.pop_worst();
        }
    }
}
