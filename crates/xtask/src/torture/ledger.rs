//! What a store held after each kill, and what it must hold for ever after.

use super::store_copy;
use crate::trial::Plan;
use anyhow::Result;
use forerunner_core::{Cause, Slice, Verdict};
use forerunner_runtime::{
    event::EventKind,
    store::{Store, StoredConfirmation, StoredIteration},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

/// How far a search was when its host was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    NoStore,
    NoReference,
    Searching,
    Confirming,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoStore => "before there was a store",
            Self::NoReference => "before the reference was measured",
            Self::Searching => "while searching",
            Self::Confirming => "after the last child",
        })
    }
}

/// What an audit found.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Audit {
    /// Evaluations that were announced and not committed.
    pub(super) in_commit: u64,
    pub(super) violations: Vec<String>,
}

/// The book of one search, kept from outside.
pub(super) struct Ledger {
    plan: Plan,
    has_store: bool,
    iterations: BTreeMap<u64, StoredIteration>,
    confirmations: Vec<StoredConfirmation>,
    n_killed_workers: u64,
}

impl Ledger {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            plan: plan.clone(),
            has_store: false,
            iterations: BTreeMap::new(),
            confirmations: Vec::new(),
            n_killed_workers: 0,
        }
    }

    /// Whether there is something to resume.
    pub(super) fn has_store(&self) -> bool {
        self.has_store
    }

    pub(super) fn killed_workers(&mut self, count: u64) {
        self.n_killed_workers += count;
    }

    pub(super) fn n_evaluations(&self) -> u64 {
        (self.iterations.len() + self.confirmations.len()) as u64
    }

    /// Evaluations that came to nothing because a worker was killed.
    pub(super) fn n_lost_to_workers(&self) -> u64 {
        let of_iterations = self.iterations.values().map(|one| one.evaluation.verdict);
        let of_confirmations = self.confirmations.iter().map(|one| one.evaluation.verdict);
        let lost = |verdict: &Verdict| *verdict == Verdict::Failed(Cause::Worker);
        of_iterations.chain(of_confirmations).filter(lost).count() as u64
    }

    pub(super) fn phase(&self) -> Phase {
        match self.iterations.len() as u64 {
            _ if !self.has_store => Phase::NoStore,
            0 => Phase::NoReference,
            count if count <= self.plan.evaluations => Phase::Searching,
            _ => Phase::Confirming,
        }
    }

    /// Compares the store with what was known of it, and takes in what is new.
    pub(super) fn audit(&mut self, folder: &Path, announced: &[u64], finished: bool) -> Audit {
        let mut audit = Audit::default();
        match store_copy::open(folder) {
            Ok(Some((store, _copy))) => {
                self.has_store = true;
                if let Err(error) = self.compare(&store, announced, finished, &mut audit) {
                    audit.violations.push(format!("the store cannot be read: {error:#}"));
                }
            }
            Ok(None) if self.has_store => {
                audit.violations.push("the store is gone".to_owned());
            }
            Ok(None) if finished || !announced.is_empty() => {
                audit.violations.push("the host left no store".to_owned());
            }
            Ok(None) => {}
            Err(error) => {
                audit.violations.push(format!("the store cannot be opened: {error:#}"));
            }
        }
        audit
    }

    fn compare(
        &mut self,
        store: &Store,
        announced: &[u64],
        finished: bool,
        audit: &mut Audit,
    ) -> Result<()> {
        store.verify()?;
        let stored = store.iterations()?;
        let confirmations = store.confirmations(Slice::Val)?;
        let events = events(store)?;
        let violations = &mut audit.violations;

        violations.extend(vanished(&self.iterations, &stored));
        for known in self.confirmations.iter().filter(|known| !confirmations.contains(known)) {
            violations.push(format!("the confirmation of {} is gone", known.program.short()));
        }
        violations.extend(twice(&stored, &confirmations));
        violations.extend(events.violations(&stored));
        for one in
            stored.iter().filter(|one| !self.iterations.contains_key(&one.iteration.iteration))
        {
            let Some(id) = &one.iteration.program else { continue };
            if store.program(id)?.is_none_or(|program| program.id() != *id) {
                violations.push(format!("the source of {} is missing or another", id.short()));
            }
        }
        self.iterations = stored.into_iter().map(|one| (one.iteration.iteration, one)).collect();
        self.confirmations = confirmations;

        let uncommitted: Vec<u64> = announced
            .iter()
            .filter(|iteration| !self.iterations.contains_key(*iteration))
            .copied()
            .collect();
        audit.in_commit = uncommitted.len() as u64;
        let may_lack = if finished { None } else { announced.last() };
        if uncommitted.iter().any(|iteration| Some(iteration) != may_lack) {
            violations.push(format!("announced as complete but not stored: {uncommitted:?}"));
        }
        if self.n_lost_to_workers() > self.n_killed_workers {
            let (lost, killed) = (self.n_lost_to_workers(), self.n_killed_workers);
            violations.push(format!("{killed} killed workers cost {lost} evaluations"));
        }
        if finished {
            violations.extend(self.completeness(&events));
        }
        Ok(())
    }

    /// What a finished search must hold.
    fn completeness(&self, events: &Events) -> Vec<String> {
        let mut violations = Vec::new();
        let wanted = self.plan.evaluations;
        let found = self.iterations.len() as u64;
        if found != wanted + 1 {
            violations.push(format!("{found} iterations instead of {wanted} and the reference"));
        }
        if !self.iterations.contains_key(&0) {
            violations.push("the reference is not stored".to_owned());
        }
        // A steady search numbers its children as it issues them, so that a kill leaves gaps;
        // generations are completed, so that it leaves none.
        let gap = (0..=wanted).find(|iteration| !self.iterations.contains_key(iteration));
        if let ("generations", Some(gap)) = (self.plan.mode, gap) {
            violations.push(format!("iteration {gap} is missing"));
        }
        let silent =
            |iteration: &&u64| **iteration > 0 && !events.evaluated.contains_key(*iteration);
        if let Some(iteration) = self.iterations.keys().find(silent) {
            violations.push(format!("iteration {iteration} is not in the event log"));
        }
        if !events.finished {
            violations.push("the event log has no end".to_owned());
        }
        let wanted = (self.plan.finalists + 1) * Plan::SEEDS;
        let confirmed: BTreeSet<_> =
            self.confirmations.iter().map(|one| (&one.program, one.seed)).collect();
        if confirmed.len() != wanted {
            let found = confirmed.len();
            violations.push(format!("{found} confirmations instead of {wanted}"));
        }
        violations
    }
}

/// What the stored event log says.
#[derive(Default)]
struct Events {
    /// How often each iteration was reported complete.
    evaluated: BTreeMap<u64, u64>,
    finished: bool,
}

fn events(store: &Store) -> Result<Events> {
    let mut events = Events::default();
    for event in store.events()? {
        match event.kind {
            EventKind::Evaluated(evaluated) => {
                *events.evaluated.entry(evaluated.iteration).or_default() += 1;
            }
            EventKind::RunFinished(_) => events.finished = true,
            _ => {}
        }
    }
    Ok(events)
}

impl Events {
    fn violations(&self, stored: &[StoredIteration]) -> Vec<String> {
        let known: BTreeSet<u64> = stored.iter().map(|one| one.iteration.iteration).collect();
        let mut violations = Vec::new();
        for (iteration, count) in &self.evaluated {
            if *count > 1 {
                violations.push(format!("iteration {iteration} is in the event log {count} times"));
            }
            if !known.contains(iteration) {
                violations.push(format!("iteration {iteration} is in the event log only"));
            }
        }
        violations
    }
}

/// Completed iterations that are gone, or not what they were.
fn vanished(known: &BTreeMap<u64, StoredIteration>, stored: &[StoredIteration]) -> Vec<String> {
    let now: BTreeMap<u64, &StoredIteration> =
        stored.iter().map(|one| (one.iteration.iteration, one)).collect();
    known
        .iter()
        .filter_map(|(iteration, before)| match now.get(iteration) {
            None => Some(format!("iteration {iteration} was complete and is gone")),
            Some(after) if *after != before => Some(format!("iteration {iteration} was changed")),
            Some(_) => None,
        })
        .collect()
}

/// Iterations, measurements and confirmations that are there twice.
fn twice(stored: &[StoredIteration], confirmations: &[StoredConfirmation]) -> Vec<String> {
    let mut violations = Vec::new();
    let (mut iterations, mut rows, mut programs) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for one in stored {
        let number = one.iteration.iteration;
        if !iterations.insert(number) {
            violations.push(format!("iteration {number} is there twice"));
        }
        if !rows.insert(one.evaluation_id) {
            violations.push(format!("iteration {number} shares its evaluation with another"));
        }
        let measured = one.evaluation.is_accepted() && !one.iteration.duplicate;
        if let (true, Some(id)) = (measured, &one.iteration.program)
            && !programs.insert(id)
        {
            violations.push(format!("program {} was measured twice", id.short()));
        }
    }
    let mut confirmed = BTreeSet::new();
    // What a lost worker cost is made once more, and both are kept.
    let lost = |one: &&StoredConfirmation| one.evaluation.verdict == Verdict::Failed(Cause::Worker);
    for one in confirmations.iter().filter(|one| !lost(one)) {
        if !confirmed.insert((&one.program, one.seed)) {
            let id = one.program.short();
            violations.push(format!("program {id} was confirmed twice on seed {}", one.seed));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use forerunner_core::{Cost, Evaluation, Finding, Idea, ProgramId};
    use forerunner_runtime::store::Iteration;

    fn iteration(number: u64, program: &str) -> StoredIteration {
        StoredIteration {
            iteration: Iteration {
                iteration: number,
                generation: 1,
                island: 0,
                mutator: "nudge".to_owned(),
                parent: None,
                program: Some(ProgramId(program.to_owned())),
                idea: Idea::default(),
                cost: Cost::default(),
                repairs: 0,
                duplicate: false,
            },
            evaluation_id: number as i64,
            evaluation: Evaluation::accepted("distance", number as f64),
        }
    }

    fn ledger(iterations: &[StoredIteration]) -> Ledger {
        let plan = Plan { evaluations: 1, mode: "generations", ..Plan::default() };
        let mut ledger = Ledger::new(&plan);
        let known = iterations.iter().map(|one| (one.iteration.iteration, one.clone()));
        ledger.iterations = known.collect();
        ledger
    }

    #[test]
    fn what_was_complete_stays_as_it_was() {
        let known = ledger(&[iteration(0, "aaaa"), iteration(1, "bbbb")]).iterations;
        assert_eq!(vanished(&known, &[iteration(0, "aaaa"), iteration(1, "bbbb")]), [""; 0]);
        let lost = vanished(&known, &[iteration(0, "aaaa")]);
        assert_eq!(lost, ["iteration 1 was complete and is gone"]);
        let changed = vanished(&known, &[iteration(0, "aaaa"), iteration(1, "cccc")]);
        assert_eq!(changed, ["iteration 1 was changed"]);
    }

    #[test]
    fn nothing_is_there_twice() {
        assert_eq!(twice(&[iteration(0, "aaaa"), iteration(1, "bbbb")], &[]), [""; 0]);
        let mut again = iteration(2, "aaaa");
        assert_eq!(twice(&[iteration(0, "aaaa"), again.clone()], &[]).len(), 1);
        again.iteration.duplicate = true;
        assert_eq!(twice(&[iteration(0, "aaaa"), again.clone()], &[]), [""; 0]);
        again.iteration.iteration = 0;
        assert_eq!(twice(&[iteration(0, "aaaa"), again], &[]).len(), 1);
    }

    #[test]
    fn a_finished_search_is_complete() {
        let mut events = Events { finished: true, ..Events::default() };
        let with_confirmations = |mut ledger: Ledger| {
            let evaluation = Evaluation::accepted("distance", 1.0);
            let one = |seed| {
                let program = ProgramId("aaaa".to_owned());
                StoredConfirmation { program, seed, evaluation: evaluation.clone() }
            };
            ledger.confirmations = vec![one(1), one(2)];
            ledger
        };
        let whole = with_confirmations(ledger(&[iteration(0, "aaaa"), iteration(1, "bbbb")]));
        assert_eq!(whole.completeness(&events).len(), 1, "the event of iteration 1 is missing");
        events.evaluated.insert(1, 1);
        assert_eq!(whole.completeness(&events), [""; 0]);
        let cut = with_confirmations(ledger(&[iteration(0, "aaaa")]));
        assert_eq!(cut.completeness(&events).len(), 2, "too few, and a gap");
        events.evaluated.insert(2, 2);
        assert_eq!(events.violations(&[iteration(1, "bbbb")]).len(), 2);
    }

    #[test]
    fn lost_workers_are_counted() {
        let mut lost = iteration(1, "bbbb");
        lost.evaluation =
            Evaluation::failed(Cause::Worker, Finding::error("worker/lost", "killed"));
        assert_eq!(ledger(&[iteration(0, "aaaa"), lost]).n_lost_to_workers(), 1);
    }
}
