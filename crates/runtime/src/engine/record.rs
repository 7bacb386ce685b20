//! Attempts at a record: the vault, the disguise, the replay.
//!
//! An attempt is planned once, before anything of it is measured, and its plan and every
//! measurement are in the event log: an attempt that was cut off goes on where it was, one that is
//! over is never made again, and another program's is another attempt, which spends less error.

use super::{
    RunError, book,
    confirm::{Wanted, interleave},
    judge::{self, Standing, believed},
    search::Search,
};
use crate::{
    event::{EventKind, Finalist, Record, RecordPart, RecordPlan, VaultPart},
    store::{Store, StoreError},
};
use forerunner_core::{Evaluation, Metrics, Objective, ProgramId, Slice};
use forerunner_stats::alpha_of_claim;
use std::collections::BTreeSet;

/// Error that all attempts of a run spend on the vault together.
const ALPHA: f64 = 0.05;

/// An attempt with what was measured for it so far.
struct Attempt {
    plan: RecordPlan,
    sessions: u64,
    judged: Vec<RecordPart>,
    measured: Vec<Measured>,
}

/// One measurement of an attempt.
struct Measured {
    part: RecordPart,
    program: ProgramId,
    seed: u64,
    /// Without telemetry, and without evidence but the digest.
    evaluation: Evaluation,
}

impl Search<'_> {
    /// Puts the winner of the claims to the tests of a record, or goes on with that. The answer
    /// is incomplete when the run is interrupted meanwhile.
    pub(super) fn record(
        &mut self,
        reference: ProgramId,
        winner: &Finalist,
    ) -> Result<Record, RunError> {
        let mut attempts = attempts(&self.book.store)?;
        let known = attempts.iter().position(|one| one.plan.program == winner.program);
        let mut attempt = match known {
            Some(index) => attempts.swap_remove(index),
            None => {
                let number = attempts.len() as u64 + 1;
                Attempt::new(self.plan(number, winner, reference)?)
            }
        };
        let objectives = self.book.objectives().0.clone();
        let mut began = false;
        loop {
            let record = attempt.judge(&objectives);
            for (part, holds) in record.judged() {
                if !attempt.judged.contains(&part) {
                    attempt.judged.push(part);
                    let attempt = attempt.plan.attempt;
                    self.book.emit(EventKind::RecordJudged { attempt, part, holds });
                }
            }
            self.book.flush()?;
            let next = attempt.next(&record).filter(|_| !self.control.is_interrupted());
            let Some((part, wanted)) = next else { return Ok(record) };
            if !began {
                began = true;
                attempt.sessions += 1;
                let missing = attempt.plan.measurements().saturating_sub(attempt.settled());
                self.book.emit(EventKind::RecordStarted { plan: attempt.plan.clone(), missing });
                // The plan must be known before anything of it is.
                self.book.flush()?;
            }
            let n_known = attempt.measured.len();
            self.measure_part(&mut attempt, part, wanted)?;
            if attempt.measured.len() == n_known {
                // Nothing can be measured: the attempt is incomplete, and a resume tries again.
                return Ok(record);
            }
        }
    }

    fn plan(
        &self,
        attempt: u64,
        winner: &Finalist,
        reference: ProgramId,
    ) -> Result<RecordPlan, RunError> {
        // Not derived from the run's seed, which whoever wrote the program may know.
        let draw = || getrandom::u64().map(|number| number >> 11).map_err(RunError::Random);
        Ok(RecordPlan {
            attempt,
            program: winner.program.clone(),
            earlier: winner.metrics.clone(),
            reference,
            slice: Slice::Vault,
            seeds: (0..self.config.confirm.seeds).map(|_| draw()).collect::<Result<_, _>>()?,
            disguise: if self.book.task.disguises { Some(draw()?) } else { None },
            confidence: 1.0 - alpha_of_claim(ALPHA, attempt),
        })
    }

    fn measure_part(
        &mut self,
        attempt: &mut Attempt,
        part: RecordPart,
        wanted: Vec<Wanted>,
    ) -> Result<(), RunError> {
        let number = attempt.plan.attempt;
        let made = self.measure_all(wanted, &|wanted, evaluation| EventKind::RecordMeasured {
            attempt: number,
            part,
            program: wanted.program.clone(),
            seed: wanted.seed,
            disguise: wanted.disguise,
            digest: evaluation.evidence.digest.clone(),
            evaluation: book::outline(evaluation),
        })?;
        attempt.measured.extend(made.into_iter().map(|(wanted, evaluation)| Measured {
            part,
            program: wanted.program,
            seed: wanted.seed,
            evaluation,
        }));
        Ok(())
    }
}

impl Attempt {
    fn new(plan: RecordPlan) -> Self {
        Self { plan, sessions: 0, judged: Vec::new(), measured: Vec::new() }
    }

    /// What the measurements so far say of a request.
    fn standing(&self, part: RecordPart, program: &ProgramId, seed: u64) -> Standing<'_> {
        let of_it = self
            .measured
            .iter()
            .filter(|one| one.part == part && one.program == *program && one.seed == seed);
        Standing::of(&of_it.map(|one| &one.evaluation).collect::<Vec<_>>())
    }

    /// The metrics on every seed; `None` while one is missing.
    fn metrics(&self, part: RecordPart, program: &ProgramId) -> Option<Vec<Metrics>> {
        let on = |seed: &u64| match self.standing(part, program, *seed) {
            Standing::Done(evaluation) => Some(believed(evaluation)),
            Standing::Missing { .. } => None,
        };
        self.plan.seeds.iter().map(on).collect()
    }

    /// The digest of what was measured on the first seed, `None` inside when there is none in it.
    fn digest(&self, part: RecordPart) -> Option<Option<String>> {
        let seed = *self.plan.seeds.first()?;
        let Standing::Done(evaluation) = self.standing(part, &self.plan.program, seed) else {
            return None;
        };
        Some(evaluation.evidence.digest.clone().filter(|_| evaluation.is_accepted()))
    }

    /// Judges every part whose measurements are complete, up to the first that refuses.
    fn judge(&self, objectives: &[Objective]) -> Record {
        let RecordPlan { program, reference, confidence, .. } = &self.plan;
        let mut record = Record {
            plan: self.plan.clone(),
            vault: None,
            disguise: None,
            replay: None,
            sessions: self.sessions,
            repeated: self.repeated(),
            holds: false,
        };
        let plain = self.metrics(RecordPart::Vault, program);
        let (Some(plain), Some(reference)) = (plain, self.metrics(RecordPart::Vault, reference))
        else {
            return record;
        };
        let finalist =
            judge::claim(objectives, &reference, program.clone(), plain.clone(), *confidence);
        let holds = finalist.holds;
        record.vault = Some(VaultPart { reference, finalist });
        if !holds {
            return record;
        }
        if self.plan.disguise.is_some() {
            let Some(disguised) = self.metrics(RecordPart::Disguise, program) else {
                return record;
            };
            let part = judge::disguise(objectives, &self.plan.earlier, &plain, disguised);
            let holds = part.holds;
            record.disguise = Some(part);
            if !holds {
                return record;
            }
        }
        let first = self.digest(RecordPart::Vault).flatten();
        let again = match &first {
            Some(_) => self.digest(RecordPart::Replay),
            // Nothing to compare with: no need to measure.
            None => Some(None),
        };
        let Some(again) = again else { return record };
        let part = judge::replay(first, again);
        record.holds = part.holds;
        record.replay = Some(part);
        record
    }

    /// The part that comes next, with the measurements that it lacks; `None` at the end.
    fn next(&self, record: &Record) -> Option<(RecordPart, Vec<Wanted>)> {
        if record.replay.is_some() || record.refused_by().is_some() {
            return None;
        }
        let RecordPlan { program, reference, seeds, disguise, .. } = &self.plan;
        let of_program =
            |seeds: &[u64]| seeds.iter().map(|seed| (program.clone(), *seed)).collect();
        let (part, requests, disguise): (_, Vec<_>, _) = if record.vault.is_none() {
            let both = interleave(reference, std::slice::from_ref(program), seeds);
            (RecordPart::Vault, both, None)
        } else if disguise.is_some() && record.disguise.is_none() {
            (RecordPart::Disguise, of_program(seeds), *disguise)
        } else {
            (RecordPart::Replay, of_program(&seeds[..1]), None)
        };
        let wanted: Vec<Wanted> = requests
            .into_iter()
            .filter_map(|(program, seed)| match self.standing(part, &program, seed) {
                Standing::Done(_) => None,
                Standing::Missing { last_try } => {
                    Some(Wanted { program, seed, slice: self.plan.slice, disguise, last_try })
                }
            })
            .collect();
        (!wanted.is_empty()).then_some((part, wanted))
    }

    /// Requests that need not be measured any more.
    fn settled(&self) -> usize {
        let done = |part, program: &ProgramId, seeds: &[u64]| {
            let done =
                |seed: &&u64| matches!(self.standing(part, program, **seed), Standing::Done(_));
            seeds.iter().filter(done).count()
        };
        let RecordPlan { program, reference, seeds, .. } = &self.plan;
        done(RecordPart::Vault, program, seeds)
            + done(RecordPart::Vault, reference, seeds)
            + done(RecordPart::Disguise, program, seeds)
            + done(RecordPart::Replay, program, &seeds[..seeds.len().min(1)])
    }

    /// Measurements beyond the first of their request.
    fn repeated(&self) -> u64 {
        let distinct: BTreeSet<_> =
            self.measured.iter().map(|one| (one.part, &one.program, one.seed)).collect();
        (self.measured.len() - distinct.len()) as u64
    }
}

/// All attempts of a run, in order.
fn attempts(store: &Store) -> Result<Vec<Attempt>, StoreError> {
    let mut attempts: Vec<Attempt> = Vec::new();
    store.each_event(&mut |event| match event.kind {
        EventKind::RecordStarted { plan, .. } => {
            match attempts.iter_mut().find(|one| one.plan.attempt == plan.attempt) {
                Some(known) => known.sessions += 1,
                None => attempts.push(Attempt { sessions: 1, ..Attempt::new(plan) }),
            }
        }
        EventKind::RecordMeasured {
            attempt, part, program, seed, digest, mut evaluation, ..
        } => {
            evaluation.evidence.digest = digest;
            if let Some(one) = attempts.iter_mut().find(|one| one.plan.attempt == attempt) {
                one.measured.push(Measured { part, program, seed, evaluation });
            }
        }
        EventKind::RecordJudged { attempt, part, .. } => {
            if let Some(one) = attempts.iter_mut().find(|one| one.plan.attempt == attempt) {
                one.judged.push(part);
            }
        }
        _ => {}
    })?;
    Ok(attempts)
}
