//! What the tuner remembers: outcomes, open proposals, and what was proposed. All bounded.

use crate::space::Values;
use forerunner_sdk::{Metrics, Outcome, ProgramId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How many outcomes and measured programs are remembered.
const MAX_REMEMBERED: usize = 128;

/// How many proposals may be open; a proposal whose outcome never comes is forgotten in time.
const MAX_OPEN: usize = 64;

/// How many proposals are remembered so as not to be made twice.
const MAX_PROPOSED: usize = 8192;

/// One constant that a proposal changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Move {
    pub(crate) name: String,
    pub(crate) from: String,
    pub(crate) to: String,
}

/// What travels with a proposal, in the details of its idea, and comes back with its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// The operator that suggested the child.
    pub(crate) operator: String,
    /// What it changes.
    pub(crate) changes: Vec<Move>,
    /// The parent's values.
    pub(crate) values: Values,
    /// Hash of the program without its values. In hex, since JSON numbers hold 53 bits.
    #[serde(with = "crate::hash::hex")]
    pub(crate) skeleton: u64,
    /// Hash of the child, in hex.
    #[serde(with = "crate::hash::hex")]
    pub(crate) child: u64,
}

impl Note {
    /// The child's values.
    pub(crate) fn child_values(&self) -> Values {
        let mut values = self.values.clone();
        for change in &self.changes {
            values.insert(change.name.clone(), change.to.clone());
        }
        values
    }
}

/// A proposal with its outcome.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trial {
    pub(crate) operator: String,
    pub(crate) changes: Vec<Move>,
    pub(crate) parent: Metrics,
    /// `None`: not accepted.
    pub(crate) child: Option<Metrics>,
}

/// A measured program.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Measured {
    pub(crate) skeleton: u64,
    pub(crate) values: Values,
    /// `None`: not accepted.
    pub(crate) metrics: Option<Metrics>,
    /// Larger is more recent.
    pub(crate) age: u64,
}

/// Everything remembered.
#[derive(Debug, Default)]
pub(crate) struct History {
    trials: VecDeque<Trial>,
    measured: BTreeMap<ProgramId, Measured>,
    open: BTreeMap<u64, (u64, Values)>,
    proposed: BTreeSet<u64>,
    proposed_order: VecDeque<u64>,
    n_observed: u64,
}

impl History {
    /// The latest `n` trials, oldest first.
    pub(crate) fn latest_trials(&self, n: usize) -> impl Iterator<Item = &Trial> {
        self.trials.range(self.trials.len().saturating_sub(n)..)
    }

    pub(crate) fn measured(&self) -> impl Iterator<Item = (&ProgramId, &Measured)> {
        self.measured.iter()
    }

    /// Skeleton and values of the proposals without an outcome, latest first.
    pub(crate) fn open(&self) -> impl Iterator<Item = &(u64, Values)> {
        self.open.values().rev()
    }

    /// How many different children were proposed, as far as is remembered.
    pub(crate) fn n_proposed(&self) -> usize {
        self.proposed.len()
    }

    pub(crate) fn was_proposed(&self, child: u64) -> bool {
        self.proposed.contains(&child)
    }

    /// Remembers a proposal that is being made.
    pub(crate) fn propose(&mut self, iteration: u64, note: &Note) {
        self.open.insert(iteration, (note.skeleton, note.child_values()));
        if self.open.len() > MAX_OPEN {
            self.open.pop_first();
        }
        self.remember_proposed(note.child);
    }

    /// Takes in what became of a proposal.
    pub(crate) fn observe(&mut self, outcome: &Outcome, note: Note) {
        self.open.remove(&outcome.iteration);
        self.remember_proposed(note.child);
        let metrics = |evaluation: &forerunner_sdk::Evaluation| {
            evaluation.is_accepted().then(|| evaluation.metrics.clone())
        };
        let (parent, child) = (metrics(&outcome.parent_evaluation), metrics(&outcome.evaluation));
        // A child that did not compile may have no identity of its own.
        let child_id =
            outcome.program.clone().unwrap_or_else(|| ProgramId(format!("{:016x}", note.child)));
        self.remember_measured(child_id, note.skeleton, note.child_values(), &child);
        if !self.measured.contains_key(&outcome.parent) {
            let Note { skeleton, values, .. } = note.clone();
            self.remember_measured(outcome.parent.clone(), skeleton, values, &parent);
        }
        let Note { operator, changes, .. } = note;
        let parent = outcome.parent_evaluation.metrics.clone();
        self.trials.push_back(Trial { operator, changes, parent, child });
        if self.trials.len() > MAX_REMEMBERED {
            self.trials.pop_front();
        }
    }

    fn remember_measured(
        &mut self,
        id: ProgramId,
        skeleton: u64,
        values: Values,
        metrics: &Option<Metrics>,
    ) {
        self.n_observed += 1;
        let measured =
            Measured { skeleton, values, metrics: metrics.clone(), age: self.n_observed };
        self.measured.insert(id, measured);
        if self.measured.len() > MAX_REMEMBERED {
            let oldest = self.measured.iter().min_by_key(|(_, measured)| measured.age);
            if let Some(id) = oldest.map(|(id, _)| id.clone()) {
                self.measured.remove(&id);
            }
        }
    }

    fn remember_proposed(&mut self, child: u64) {
        if self.proposed.insert(child) {
            self.proposed_order.push_back(child);
            if self.proposed_order.len() > MAX_PROPOSED
                && let Some(oldest) = self.proposed_order.pop_front()
            {
                self.proposed.remove(&oldest);
            }
        }
    }
}
