//! Reads a run back: which program is best, and how it came about.

use crate::{
    event::{Event, EventKind, Summary},
    store::{Store, StoreError, StoredIteration},
};
use forerunner_core::{Metrics, Objectives, Program, ProgramId};

/// What a run was about, read back from its event log.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// Environment name.
    pub environment: String,
    /// Track within it.
    pub track: String,
    /// What is improved.
    pub objectives: Option<Objectives>,
    /// The result, once the run ended or stopped.
    pub summary: Option<Summary>,
}

impl Account {
    /// Takes in the next event of the log.
    pub fn take_in(&mut self, event: &Event) {
        match &event.kind {
            EventKind::RunStarted { environment, track, objectives, .. } => {
                self.environment.clone_from(environment);
                self.track.clone_from(track);
                self.objectives = Some(objectives.clone());
            }
            EventKind::RunFinished(summary) => self.summary = Some((**summary).clone()),
            _ => {}
        }
    }

    /// The winner of the confirmation, when its claim holds.
    pub fn confirmed(&self) -> Option<&ProgramId> {
        let finalist = self.summary.as_ref()?.confirmation.as_ref()?.finalists.first()?;
        finalist.holds.then_some(&finalist.program)
    }
}

/// Reads the run's account.
///
/// # Errors
/// When the store is damaged.
pub fn account(store: &Store) -> Result<Account, StoreError> {
    let mut account = Account::default();
    store.each_event(&mut |event| account.take_in(&event))?;
    Ok(account)
}

/// The best program: the confirmed winner when a claim holds, else the best of the search.
///
/// # Errors
/// When the store is damaged.
pub fn best(store: &Store, account: &Account) -> Result<Option<ProgramId>, StoreError> {
    if let Some(confirmed) = account.confirmed() {
        return Ok(Some(confirmed.clone()));
    }
    let Some(objectives) = &account.objectives else { return Ok(None) };
    let accepted = store.iterations()?.into_iter().filter(|one| one.evaluation.is_accepted());
    let best = accepted.reduce(|best, one| {
        let better = objectives.compare(&one.evaluation.metrics, &best.evaluation.metrics).is_lt();
        if better { one } else { best }
    });
    Ok(best.and_then(|one| one.iteration.program))
}

/// The iterations that lead from the reference to `program`, oldest first, the reference itself
/// left out.
///
/// # Errors
/// When the store is damaged.
pub fn lineage(store: &Store, program: &ProgramId) -> Result<Vec<StoredIteration>, StoreError> {
    let mut steps = Vec::new();
    let mut current = program.clone();
    // The first iteration that made a program and measured it is the one that counts; numbers only
    // fall on the way back, which ends the walk even if a program reappears among its own
    // descendants.
    let mut before = u64::MAX;
    loop {
        let made = store.iterations_of(&current)?;
        let measured = made.iter().position(|one| one.evaluation.is_accepted());
        let Some(step) = made.into_iter().nth(measured.unwrap_or(0)) else { break };
        let (number, parent) = (step.iteration.iteration, step.iteration.parent.clone());
        if number == 0 || number >= before {
            break;
        }
        before = number;
        steps.push(step);
        let Some(parent) = parent else { break };
        current = parent;
    }
    steps.reverse();
    Ok(steps)
}

/// One change on the way from the reference to a program, with what was there before.
#[derive(Debug)]
pub struct Made {
    /// The iteration that made the change, and its measurement.
    pub stored: StoredIteration,
    /// The program before.
    pub parent: Program,
    /// Its metrics on the search's slice.
    pub before: Metrics,
    /// The program after.
    pub child: Program,
}

/// The [`lineage`] of a program with the sources on both sides of each step.
///
/// # Errors
/// When the store is damaged.
pub fn changes(store: &Store, program: &ProgramId) -> Result<Vec<Made>, StoreError> {
    let made = lineage(store, program)?.into_iter().map(|stored| {
        let parent = stored.iteration.parent.clone().unwrap_or_default();
        let child = stored.iteration.program.clone().unwrap_or_default();
        Ok(Made {
            parent: store.program(&parent)?.unwrap_or_default(),
            before: store.search_evaluation(&parent)?.map(|e| e.metrics).unwrap_or_default(),
            child: store.program(&child)?.unwrap_or_default(),
            stored,
        })
    });
    made.collect()
}
