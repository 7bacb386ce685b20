//! Confirmation: finalists and the reference are measured on fresh seeds and held-out data, and
//! only what they say there is claimed.

use super::{
    RunError, book,
    judge::{self, Standing, believed, is_fault},
    search::{Message, Search},
    slots::Ticket,
};
use crate::{
    config::Level,
    event::{Confirmation, EventKind, Finalist},
};
use forerunner_core::{
    Evaluation, EvaluationRequest, Metrics, ProgramId, Purpose, Seed, Severity, Slice,
};
use std::collections::VecDeque;

/// Confidence of the announced interval, before it is shared among the finalists.
const CONFIDENCE: f64 = 0.95;

/// The store's note of the settings with which a run was confirmed last.
pub(super) const SETTINGS: &str = "confirm";

/// A confirming measurement to make.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    pub(super) program: ProgramId,
    pub(super) seed: u64,
    pub(super) slice: Slice,
    pub(super) disguise: Option<u64>,
    /// Whether a fault of worker or environment would be the second one.
    pub(super) last_try: bool,
}

impl Search<'_> {
    /// `None` when confirmation is off, nothing beat the reference, or the run was interrupted
    /// before there was a result.
    pub(super) fn confirm(&mut self) -> Result<Option<Confirmation>, RunError> {
        let settings = self.config.confirm.clone();
        let text = serde_json::to_string(&settings).unwrap_or_default();
        self.book.store.set_meta(SETTINGS, &text)?;
        let Some(reference) = self.book.store.reference()? else { return Ok(None) };
        let objectives = self.book.objectives().clone();
        let finalists: Vec<ProgramId> = self
            .book
            .leaders
            .iter()
            .filter(|(id, metrics)| {
                *id != reference && objectives.compare(metrics, &self.book.reference).is_lt()
            })
            .take(settings.finalists)
            .map(|(id, _)| id.clone())
            .collect();
        if finalists.is_empty() {
            return Ok(None);
        }
        self.book.emit(EventKind::ConfirmationStarted {
            programs: finalists.clone(),
            seeds: settings.seeds,
            slice: settings.slice,
        });
        let run_seed = Seed(self.config.run.seed);
        let seeds: Vec<u64> =
            (0..settings.seeds as u64).map(|index| run_seed.derive("confirm", index).0).collect();

        let mut made: Vec<(ProgramId, u64, Evaluation)> = self
            .book
            .store
            .confirmations(settings.slice)?
            .into_iter()
            .map(|one| (one.program, one.seed, one.evaluation))
            .collect();
        let wanted: Vec<Wanted> = interleave(&reference, &finalists, &seeds)
            .into_iter()
            .filter_map(|(program, seed)| match standing(&made, &program, seed) {
                Standing::Done(_) => None,
                Standing::Missing { last_try } => {
                    Some(Wanted { program, seed, slice: settings.slice, disguise: None, last_try })
                }
            })
            .collect();
        let measured = self.measure_all(wanted, &|wanted, evaluation| EventKind::Confirmed {
            program: wanted.program.clone(),
            seed: wanted.seed,
            evaluation: book::outline(evaluation),
        })?;
        made.extend(measured.into_iter().map(|(wanted, one)| (wanted.program, wanted.seed, one)));
        if self.control.is_interrupted() {
            return Ok(None);
        }
        let of = |id: &ProgramId| -> Vec<Metrics> {
            let metrics = |seed: &u64| match standing(&made, id, *seed) {
                Standing::Done(evaluation) => believed(evaluation),
                Standing::Missing { .. } => Metrics::new(),
            };
            seeds.iter().map(metrics).collect()
        };
        let on_reference = of(&reference);
        // The best of several finalists is announced, so each interval is made wider.
        let confidence = 1.0 - (1.0 - CONFIDENCE) / finalists.len() as f64;
        let mut finalists: Vec<Finalist> = finalists
            .into_iter()
            .map(|id| judge::claim(&objectives.0, &on_reference, id.clone(), of(&id), confidence))
            .collect();
        // A claim that holds comes first, then the larger gain; `total_cmp` keeps this an order.
        let gain = |finalist: &Finalist| finalist.gain.map_or(f64::MIN, |gain| gain.mean);
        finalists.sort_by(|a, b| b.holds.cmp(&a.holds).then(gain(b).total_cmp(&gain(a))));
        let record = match (settings.level, finalists.first()) {
            (Level::Record, Some(winner)) if winner.holds => Some(self.record(reference, winner)?),
            _ => None,
        };
        let (slice, reference, level) = (settings.slice, on_reference, settings.level);
        Ok(Some(Confirmation { slice, reference, finalists, level, record }))
    }

    /// Makes measurements in this order, each stored with its `event` the moment it is complete.
    /// Answers all that were made, without telemetry and without evidence but the digest: fewer
    /// when the run is stopped, and one more for each fault of worker or environment, which is
    /// made once more.
    pub(super) fn measure_all(
        &mut self,
        mut wanted: Vec<Wanted>,
        event: &dyn Fn(&Wanted, &Evaluation) -> EventKind,
    ) -> Result<Vec<(Wanted, Evaluation)>, RunError> {
        // No more are on their way than there are slots, so that a repeat takes the place of what
        // it repeats, beside those that it is compared with.
        let mut waiting: VecDeque<usize> = (0..wanted.len()).collect();
        let mut open = 0;
        let mut made = Vec::new();
        loop {
            while open < self.config.run.slots && !self.control.is_interrupted() {
                let Some(index) = waiting.pop_front() else { break };
                open += usize::from(self.send_confirming(index, &wanted[index])?);
            }
            if open == 0 {
                break;
            }
            match self.receive()? {
                Some(Message::Measured { ticket: Ticket::Confirm(index), evaluation, .. }) => {
                    open -= 1;
                    let one = &mut wanted[index];
                    self.book.hold(event(one, &evaluation));
                    if is_fault(&evaluation) && !one.last_try {
                        // Written together with the fault: a repeat that nobody can see is none.
                        self.book.hold(EventKind::MeasurementRepeated {
                            program: one.program.clone(),
                            seed: one.seed,
                            slice: one.slice,
                            reason: reason(&evaluation),
                        });
                        waiting.push_front(index);
                    }
                    let (program, seed, slice) = (&one.program, one.seed, one.slice);
                    self.book.write_confirmation(program, seed, slice, &evaluation)?;
                    let mut outline = book::outline(&evaluation);
                    outline.evidence.digest.clone_from(&evaluation.evidence.digest);
                    made.push((one.clone(), outline));
                    one.last_try = true;
                }
                Some(Message::Dropped) => open -= 1,
                _ => {}
            }
        }
        Ok(made)
    }

    /// Says whether there was something to send.
    fn send_confirming(&mut self, index: usize, wanted: &Wanted) -> Result<bool, RunError> {
        if self.confirm_from_recording(index, wanted)? {
            return Ok(true);
        }
        let Some(program) = self.book.store.program(&wanted.program)? else { return Ok(false) };
        let mut request = EvaluationRequest::new(program, wanted.seed);
        request.slice = wanted.slice;
        request.purpose = Purpose::Confirm;
        request.disguise = wanted.disguise;
        self.send(Ticket::Confirm(index), request)?;
        Ok(true)
    }
}

/// What the measurements so far say of a program on a seed.
fn standing<'a>(
    made: &'a [(ProgramId, u64, Evaluation)],
    id: &ProgramId,
    seed: u64,
) -> Standing<'a> {
    let of_it = made.iter().filter(|(program, its_seed, _)| program == id && *its_seed == seed);
    Standing::of(&of_it.map(|(_, _, evaluation)| evaluation).collect::<Vec<_>>())
}

/// The gravest finding in words.
fn reason(evaluation: &Evaluation) -> String {
    let findings = &evaluation.findings;
    let gravest = findings.iter().find(|one| one.severity == Severity::Error).or(findings.first());
    gravest.map_or("no reason is known".to_owned(), |one| one.message.clone())
}

/// All programs on one seed before the next seed, in alternating order, so that a machine that
/// grows slower or faster does so for all of them.
pub(super) fn interleave(
    reference: &ProgramId,
    finalists: &[ProgramId],
    seeds: &[u64],
) -> Vec<(ProgramId, u64)> {
    let mut plan = Vec::new();
    for (index, seed) in seeds.iter().enumerate() {
        let mut row: Vec<_> =
            std::iter::once(reference).chain(finalists).map(|id| (id.clone(), *seed)).collect();
        if index % 2 == 1 {
            row.reverse();
        }
        plan.extend(row);
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_measures_every_program() {
        let id = |text: &str| ProgramId(text.to_owned());
        let plan = interleave(&id("r"), &[id("a"), id("b")], &[1, 2]);
        let text: Vec<String> = plan.iter().map(|(id, seed)| format!("{id}{seed}")).collect();
        assert_eq!(text, ["r1", "a1", "b1", "b2", "a2", "r2"]);
    }
}
