//! Confirmation: finalists and the reference are measured on fresh seeds and held-out data, and
//! only what they say there is claimed.

use super::{
    RunError,
    search::{Message, Search},
    slots::Ticket,
};
use crate::event::{Confirmation, EventKind, Finalist};
use forerunner_core::{Direction, Metrics, Objective, ProgramId, Seed};
use forerunner_stats::Estimate;
use std::collections::BTreeMap;

/// Confidence of the announced interval, before it is shared among the finalists.
const CONFIDENCE: f64 = 0.95;

impl Search<'_> {
    /// `None` when confirmation is off, nothing beat the reference, or the run was interrupted.
    pub(super) fn confirm(&mut self) -> Result<Option<Confirmation>, RunError> {
        let settings = self.config.confirm.clone();
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

        let mut results: BTreeMap<(ProgramId, u64), Metrics> = self
            .book
            .store
            .confirmations(settings.slice)?
            .into_iter()
            .map(|one| ((one.program, one.seed), believed(&one.evaluation)))
            .collect();
        let plan: Vec<(ProgramId, u64)> = interleave(&reference, &finalists, &seeds)
            .into_iter()
            .filter(|key| !results.contains_key(key))
            .collect();
        for (index, (id, seed)) in plan.iter().enumerate() {
            if let Some(program) = self.book.store.program(id)? {
                self.send_measure(Ticket::Confirm(index), program, *seed);
            }
        }
        let mut open = plan.len();
        while open > 0 {
            match self.receive()? {
                Some(Message::Measured { ticket: Ticket::Confirm(index), evaluation, .. }) => {
                    open -= 1;
                    let (program, seed) = plan[index].clone();
                    let outline = super::book::outline(&evaluation);
                    self.book.hold(EventKind::Confirmed {
                        program: program.clone(),
                        seed,
                        evaluation: outline,
                    });
                    self.book.write_confirmation(&program, seed, settings.slice, &evaluation)?;
                    results.insert((program, seed), believed(&evaluation));
                }
                Some(Message::Dropped) => open -= 1,
                _ => {}
            }
        }
        if self.control.is_interrupted() {
            return Ok(None);
        }
        let of = |id: &ProgramId| -> Vec<Metrics> {
            seeds
                .iter()
                .map(|seed| results.get(&(id.clone(), *seed)).cloned().unwrap_or_default())
                .collect()
        };
        let reference = of(&reference);
        // The best of several finalists is announced, so each interval is made wider.
        let confidence = 1.0 - (1.0 - CONFIDENCE) / finalists.len() as f64;
        let mut finalists: Vec<Finalist> = finalists
            .into_iter()
            .map(|id| judge(&objectives.0, &reference, id.clone(), of(&id), confidence))
            .collect();
        // A claim that holds comes first, then the larger gain; `total_cmp` keeps this an order.
        let gain = |finalist: &Finalist| finalist.gain.map_or(f64::MIN, |gain| gain.mean);
        finalists.sort_by(|a, b| b.holds.cmp(&a.holds).then(gain(b).total_cmp(&gain(a))));
        Ok(Some(Confirmation { slice: settings.slice, reference, finalists }))
    }
}

/// The metrics of an accepted evaluation; any other has none.
fn believed(evaluation: &forerunner_core::Evaluation) -> Metrics {
    if evaluation.is_accepted() { evaluation.metrics.clone() } else { Metrics::new() }
}

/// All programs on one seed before the next seed, in alternating order, so that a machine that
/// grows slower or faster does so for all of them.
fn interleave(
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

/// Compares a finalist with the reference on the first objective that all its measurements have.
fn judge(
    objectives: &[Objective],
    reference: &[Metrics],
    program: ProgramId,
    metrics: Vec<Metrics>,
    confidence: f64,
) -> Finalist {
    let values = |of: &[Metrics], name: &str| -> Option<Vec<f64>> {
        of.iter().map(|metrics| metrics.get(name).copied()).collect()
    };
    let leading = objectives.first();
    let metric = leading.map(|objective| objective.metric.clone()).unwrap_or_default();
    let gain = leading.and_then(|objective| {
        let (reference, program) = (values(reference, &metric)?, values(&metrics, &metric)?);
        match objective.direction {
            Direction::Minimize => Estimate::paired_log_ratio(&reference, &program, confidence),
            Direction::Maximize => Estimate::paired_log_ratio(&program, &reference, confidence),
        }
    });
    let holds = gain.is_some_and(|gain| gain.is_bounded() && gain.low > 0.0);
    Finalist { program, metrics, metric, gain, holds }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(name: &str, values: &[f64]) -> Vec<Metrics> {
        values.iter().map(|value| Metrics::from([(name.to_owned(), *value)])).collect()
    }

    #[test]
    fn a_gain_holds_only_when_its_interval_excludes_zero() {
        let objectives = [Objective::minimize("seconds", "s")];
        let check = |reference: &[f64], program: &[f64], expected: bool| {
            let (reference, program) = (metrics("seconds", reference), metrics("seconds", program));
            let one = judge(&objectives, &reference, ProgramId::default(), program, 0.95);
            assert_eq!(one.holds, expected, "{:?}", one.gain);
        };
        check(&[20.0, 21.0, 20.5], &[10.0, 10.4, 10.3], true);
        check(&[20.0, 21.0, 20.5], &[19.0, 22.0, 20.0], false);
        check(&[20.0, 21.0, 20.5], &[30.0, 31.0, 30.0], false);
    }

    #[test]
    fn a_measurement_without_the_metric_supports_no_claim() {
        let objectives = [Objective::minimize("seconds", "s")];
        let reference = metrics("seconds", &[20.0, 20.1, 20.2]);
        let mut program = metrics("seconds", &[10.0, 10.1, 10.2]);
        program[1].clear();
        let one = judge(&objectives, &reference, ProgramId::default(), program, 0.95);
        assert_eq!((one.gain, one.holds), (None, false));
    }

    #[test]
    fn every_seed_measures_every_program() {
        let id = |text: &str| ProgramId(text.to_owned());
        let plan = interleave(&id("r"), &[id("a"), id("b")], &[1, 2]);
        let text: Vec<String> = plan.iter().map(|(id, seed)| format!("{id}{seed}")).collect();
        assert_eq!(text, ["r1", "a1", "b1", "b2", "a2", "r2"]);
    }
}
