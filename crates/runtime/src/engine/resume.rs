//! Resuming: brings selector, mutators and book back to where the store says they were.

use super::{
    RunError,
    book::{Book, Entry},
    search::Search,
};
use crate::{config::Mode, event::EventKind, store::StoredIteration};
use forerunner_core::Program;
use std::{collections::BTreeSet, sync::PoisonError};

/// Reads what the store holds and makes sure that it belongs to this environment and was judged by
/// the same hooks. A new run gets both identities written down instead.
pub(super) fn check(
    book: &mut Book<'_>,
    reference: &Program,
    hooks: &str,
) -> Result<Vec<StoredIteration>, RunError> {
    let identity = format!(
        "{} {} {} {}",
        book.task.name,
        book.task.track,
        book.task.fingerprint,
        reference.id()
    );
    let Some(known) = book.store.meta("environment")? else {
        book.store.set_meta("hooks", hooks)?;
        book.store.set_meta("environment", &identity)?;
        return Ok(book.store.iterations()?);
    };
    if known != identity {
        let change =
            format!("environment (name, track, fingerprint, reference): {known} → {identity}");
        return Err(RunError::Changed(change));
    }
    // A run from before there were hooks had none.
    let judged_by = book.store.meta("hooks")?.unwrap_or_default();
    if judged_by != hooks {
        let word =
            |hooks: &str| if hooks.is_empty() { "none".to_owned() } else { hooks.to_owned() };
        let change =
            format!("hooks (name, version, digest): {} → {}", word(&judged_by), word(hooks));
        return Err(RunError::Changed(change));
    }
    Ok(book.store.iterations()?)
}

impl Search<'_> {
    /// Takes in everything that was completed before. In a generation that was cut off, complete
    /// children are kept and only the others are made again.
    pub(super) fn replay(&mut self, mut stored: Vec<StoredIteration>) -> Result<(), RunError> {
        let announced: BTreeSet<u64> = self
            .book
            .store
            .events()?
            .into_iter()
            .filter_map(|event| match event.kind {
                EventKind::Evaluated(evaluated) => Some(evaluated.iteration),
                _ => None,
            })
            .collect();
        let last = stored.iter().map(|one| one.iteration.iteration).max().unwrap_or(0);
        self.count_orphans(&stored)?;
        let children = self.config.run.children as u64;
        let generations = self.config.run.mode == Mode::Generations;
        let complete = |generation: u64, stored: &[StoredIteration]| {
            stored.iter().filter(|one| one.iteration.generation == generation).count() as u64
                == children
        };
        let open = stored
            .last()
            .map(|one| one.iteration.generation)
            .filter(|generation| generations && *generation > 0 && !complete(*generation, &stored));
        if !generations {
            stored.sort_by_key(|one| one.evaluation_id);
        }
        self.set_next(last + 1);
        if let Some(generation) = open {
            self.set_next((generation - 1) * children + 1);
        }
        for mut one in stored {
            if !one.evaluation.is_accepted() {
                // Mutators get the reasons again.
                one.evaluation.findings = self.book.store.findings(one.evaluation_id)?;
            }
            let program = match &one.iteration.program {
                Some(id) => self.book.store.program(id)?,
                None => None,
            };
            let generation = one.iteration.generation;
            let is_reference = one.iteration.iteration == 0;
            self.lanes.spend(&one.iteration.cost);
            let entry = Entry::stored(one.iteration, program, one.evaluation);
            if is_reference {
                self.book.reference = entry.evaluation.metrics.clone();
            }
            let was_announced = is_reference || announced.contains(&entry.iteration.iteration);
            let is_open = Some(generation) == open;
            if is_open {
                self.generation.outlook.get_or_insert_with(|| self.book.outlook().clone());
            }
            if was_announced {
                self.book.count(&entry.iteration, &entry.evaluation);
            } else if !is_open {
                self.book.announce(&entry);
            }
            if is_open {
                self.adopt(entry, was_announced);
            } else {
                self.insert(&entry)?;
            }
        }
        self.book.flush()
    }

    /// Counts what was paid for proposals that were cut off; they are made again, perhaps otherwise.
    fn count_orphans(&self, stored: &[StoredIteration]) -> Result<(), RunError> {
        let complete: BTreeSet<u64> = stored.iter().map(|one| one.iteration.iteration).collect();
        let calls = self.book.store.calls()?;
        let mut orphans = self.lanes.orphans.lock().unwrap_or_else(PoisonError::into_inner);
        for call in calls.into_iter().filter(|call| !complete.contains(&call.iteration)) {
            self.lanes.spend(&call.answer.cost);
            orphans.insert(call.key, call.answer.cost);
        }
        Ok(())
    }
}
