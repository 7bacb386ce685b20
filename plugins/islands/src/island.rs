//! One island: a MAP-Elites grid whose members stand in order.

use crate::ranking::{Entry, Ranking};
use forerunner_sdk::{Objectives, ProgramId};
use std::{collections::BTreeMap, sync::Arc};

/// One program per cell, each program once.
#[derive(Debug, Default)]
pub(crate) struct Island {
    cells: BTreeMap<u64, Arc<Entry>>,
    cell_of: BTreeMap<ProgramId, u64>,
    ranking: Ranking,
}

impl Island {
    /// Members, best first.
    pub(crate) fn members(&self) -> &[Arc<Entry>] {
        self.ranking.entries()
    }

    /// Takes `entry` in when its cell is free or held by a worse program, and when the program
    /// is not already here with a result as good. Then drops the worst beyond `capacity`.
    pub(crate) fn offer(&mut self, objectives: &Objectives, entry: &Arc<Entry>, capacity: usize) {
        let beats = |other: &Entry| objectives.compare(&entry.metrics, &other.metrics).is_lt();
        let earlier = self.cell_of.get(&entry.id).and_then(|cell| self.cells.get(cell));
        let resident = self.cells.get(&entry.cell);
        if earlier.is_some_and(|earlier| !beats(earlier))
            || resident.is_some_and(|resident| !beats(resident))
        {
            return;
        }
        for leaving in [earlier.cloned(), resident.cloned()].into_iter().flatten() {
            self.remove(objectives, &leaving);
        }
        self.cells.insert(entry.cell, Arc::clone(entry));
        self.cell_of.insert(entry.id.clone(), entry.cell);
        self.ranking.insert(objectives, Arc::clone(entry));
        if self.members().len() > capacity
            && let Some(worst) = self.ranking.pop_worst()
        {
            self.remove(objectives, &worst);
        }
    }

    fn remove(&mut self, objectives: &Objectives, entry: &Entry) {
        self.cells.remove(&entry.cell);
        self.cell_of.remove(&entry.id);
        self.ranking.remove(objectives, entry);
    }
}
