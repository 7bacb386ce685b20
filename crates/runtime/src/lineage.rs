//! Reads a run back: which program is best, and how it came about.

use crate::{
    event::{EventKind, Summary},
    store::{Store, StoreError, StoredIteration},
};
use forerunner_core::{Objectives, ProgramId};

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

/// Reads the run's account.
///
/// # Errors
/// When the store is damaged.
pub fn account(store: &Store) -> Result<Account, StoreError> {
    let mut account = Account::default();
    for event in store.events()? {
        match event.kind {
            EventKind::RunStarted { environment, track, objectives, .. } => {
                account.environment = environment;
                account.track = track;
                account.objectives = Some(objectives);
            }
            EventKind::RunFinished(summary) => account.summary = Some(*summary),
            _ => {}
        }
    }
    Ok(account)
}

/// The best program: the confirmed winner when a claim holds, else the best of the search.
///
/// # Errors
/// When the store is damaged.
pub fn best(store: &Store, account: &Account) -> Result<Option<ProgramId>, StoreError> {
    let confirmed = account
        .summary
        .as_ref()
        .and_then(|summary| summary.confirmation.as_ref())
        .and_then(|confirmation| confirmation.finalists.first())
        .filter(|finalist| finalist.holds);
    if let Some(finalist) = confirmed {
        return Ok(Some(finalist.program.clone()));
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
    // The first iteration that made a program is the one that counts; numbers only fall on the
    // way back, which ends the walk even if a program reappears among its own descendants.
    let mut before = u64::MAX;
    while let Some(step) = store.iterations_of(&current)?.into_iter().next() {
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
