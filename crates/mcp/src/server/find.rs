//! Finding what a call is about in the run's store.

use super::{Answer, Called, Complaint, Server};
use crate::{inputs::ChangeInput, text};
use forerunner_core::{Change, Evaluation, Finding, Objectives, Program, ProgramId};
use forerunner_runtime::{
    lineage::{account, best},
    store::{Store, StoredIteration},
};

/// A change and what it makes of its base.
pub(super) struct Prepared {
    pub(super) change: Change,
    pub(super) base: ProgramId,
    pub(super) applied: Result<Program, Vec<Finding>>,
}

impl Server {
    /// Reads a change and applies it to the program that it is against.
    pub(super) async fn prepare(
        &self,
        call: &Called<'_>,
        input: &ChangeInput,
    ) -> Result<Prepared, Complaint> {
        let change = input.change()?;
        let (base, program) = match (&input.base, self.desk.shown(&self.client(call.context))) {
            (Some(name), _) => {
                let store = self.store()?;
                let id = self.resolve(call, &store, name)?;
                let program = store.program(&id)?.unwrap_or_default();
                (id, program)
            }
            (None, Some(id)) => {
                let program = self.store()?.program(&id)?.unwrap_or_default();
                (id, program)
            }
            (None, None) => {
                let offer = self.offer(call).await?;
                (offer.parent.id.clone(), offer.parent.program.clone())
            }
        };
        let applied = forerunner_workbench::apply(&program, &change);
        Ok(Prepared { change, base, applied })
    }

    /// The program that goes by a name.
    pub(super) fn resolve(
        &self,
        call: &Called<'_>,
        store: &Store,
        name: &str,
    ) -> Result<ProgramId, Complaint> {
        let unknown = || {
            Complaint(format!(
                "the run has no program `{}`\nhint: `best`, `reference`, `parent`, or the first \
                 digits of an id from `history`",
                text::line(name, 60)
            ))
        };
        let found = match name {
            "best" => best(store, &account(store)?)?,
            "reference" => store.reference()?,
            "parent" => {
                let offered = || self.desk.open().first().map(|offer| offer.parent.id.clone());
                self.desk.shown(&self.client(call.context)).or_else(offered)
            }
            prefix => {
                let mut like = store.programs_like(prefix)?;
                if like.len() > 1 {
                    let like: Vec<_> = like.iter().map(|id| id.0.as_str()).collect();
                    return Err(Complaint(format!(
                        "`{prefix}` could be {}\nhint: give more digits",
                        like.join(", ")
                    )));
                }
                like.pop()
            }
        };
        found.ok_or_else(unknown)
    }
}

/// What the search improves.
pub(super) fn objectives(store: &Store) -> Result<Objectives, Complaint> {
    Ok(account(store)?.objectives.unwrap_or(Objectives(Vec::new())))
}

/// The first iteration that measured the program; one that lost its worker only where there is
/// none else.
pub(super) fn made(store: &Store, id: &ProgramId) -> Result<StoredIteration, Complaint> {
    use forerunner_core::{Cause, Verdict};
    let mut all = store.iterations_of(id)?;
    all.sort_by_key(|one| one.evaluation.verdict == Verdict::Failed(Cause::Worker));
    all.into_iter().next().ok_or_else(|| {
        Complaint(format!("program {id} was never measured\nhint: name another one"))
    })
}

/// The page about a measurement, compared with the parent's.
pub(super) fn digest(store: &Store, objectives: &Objectives, id: &ProgramId) -> Answer {
    let with_curves = |id: &ProgramId| -> Result<Option<Evaluation>, Complaint> {
        let Some(mut evaluation) = store.search_evaluation(id)? else { return Ok(None) };
        evaluation.telemetry.series = store.search_series(id)?.into_iter().collect();
        Ok(Some(evaluation))
    };
    let Some(evaluation) = with_curves(id)? else {
        return Err(Complaint(format!(
            "program {} was not measured\nhint: name another one",
            id.short()
        )));
    };
    let parent = match store.parent(id)? {
        Some(parent) => with_curves(&parent)?,
        None => None,
    };
    let parent = parent.as_ref().map(|parent| ("parent", parent));
    let page = forerunner_core::digest(&evaluation, &objectives.0, parent);
    Ok(text::data(&format!("digest of {}", id.short()), &page, text::MAX_PAGE))
}
