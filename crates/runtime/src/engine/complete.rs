//! Completing children: what lanes and slots made of them is recorded, announced in order, and
//! told to selector and mutators.

use super::{
    RunError,
    book::{Entry, outline},
    lanes::Prepared,
    search::Search,
    slots::Ticket,
};
use crate::{config::Mode, event::EventKind, store::Iteration};
use forerunner_core::{Evaluation, EvaluationRequest, Outcome, Program, Standing};

impl Search<'_> {
    pub(super) fn prepared(&mut self, prepared: Prepared) -> Result<(), RunError> {
        let iteration = prepared.iteration;
        let id = prepared.program.as_ref().map(Program::id);
        let known = match (&id, &prepared.outcome) {
            (Some(id), Ok(_)) => self.book.store.search_evaluation(id)?,
            _ => None,
        };
        let duplicate = known.is_some();
        let (measure, evaluation) = match (prepared.outcome, known) {
            (_, Some(known)) => (false, known),
            (Err(failure), None) => (false, *failure),
            (Ok(remarks), None) => {
                // A placeholder that carries the remarks of the check until the measurement.
                let mut waiting = Evaluation::accepted("waiting", 0.0);
                waiting.findings = remarks;
                (true, waiting)
            }
        };
        let parent = prepared.request.parent.program;
        let entry = Entry {
            iteration: Iteration {
                iteration,
                generation: prepared.generation,
                island: prepared.island,
                mutator: self.lanes.mutators[prepared.mutator].name.clone(),
                parent: Some(prepared.request.parent.id),
                program: id,
                idea: prepared.idea,
                cost: prepared.cost,
                repairs: prepared.repairs,
                duplicate,
            },
            program: prepared.program,
            evaluation,
            failed_checks: prepared.failed_checks,
        };
        if self.config.run.mode == Mode::Steady {
            self.announce_proposal(&entry);
            self.book.show();
        }
        if let (true, Some(program)) = (measure, &entry.program) {
            let request = EvaluationRequest::new(program.clone(), self.search_seed());
            self.send_request(Ticket::Child(iteration), request, Some(parent));
            self.measuring.insert(iteration, entry);
            Ok(())
        } else {
            self.complete(entry)
        }
    }

    pub(super) fn announce_proposal(&mut self, entry: &Entry) {
        let Iteration { iteration, mutator, parent, idea, .. } = &entry.iteration;
        let parent = parent.clone().unwrap_or_default();
        self.book.announce_proposal(*iteration, mutator, &parent, idea);
    }

    pub(super) fn announce_child(&mut self, entry: &Entry) {
        if self.config.run.mode == Mode::Generations {
            self.announce_proposal(entry);
        }
        self.book.announce(entry);
    }

    /// Records a complete child; in a generation, events keep the order of the children.
    pub(super) fn complete(&mut self, entry: Entry) -> Result<(), RunError> {
        self.in_flight -= 1;
        let seed = self.search_seed();
        if self.config.run.mode == Mode::Steady {
            self.announce_child(&entry);
            self.book.write(&entry, seed)?;
            return self.insert(&entry);
        }
        let iteration = entry.iteration.iteration;
        let in_turn = iteration == self.generation.next;
        if in_turn {
            self.announce_child(&entry);
            self.book.write(&entry, seed)?;
        } else {
            self.book.write_ahead(&entry, seed)?;
        }
        self.generation.done.insert(iteration, (entry, in_turn));
        if in_turn {
            self.generation.next += 1;
            self.announce_waiting()?;
        }
        Ok(())
    }

    /// Announces complete children whose turn has come.
    pub(super) fn announce_waiting(&mut self) -> Result<(), RunError> {
        let mut done = std::mem::take(&mut self.generation.done);
        while let Some((entry, announced)) = done.get_mut(&self.generation.next) {
            if !*announced {
                self.announce_child(entry);
                *announced = true;
            }
            self.generation.next += 1;
        }
        self.generation.done = done;
        self.book.flush()
    }

    /// Tells selector and mutator what became of a child.
    pub(super) fn insert(&mut self, entry: &Entry) -> Result<(), RunError> {
        let Entry { iteration, evaluation, program, .. } = entry;
        let id = iteration.program.clone().unwrap_or_default();
        let bytes = match program {
            Some(program) => program.len_bytes(),
            None => 0,
        };
        if iteration.program.is_some() {
            let standing = Standing {
                id,
                parent: iteration.parent.clone(),
                iteration: iteration.iteration,
                island: iteration.island,
                verdict: evaluation.verdict,
                metrics: evaluation.metrics.clone(),
                bytes: bytes as u64,
                cost: iteration.cost,
            };
            self.selector.insert(&standing).map_err(|error| self.selector_error(error))?;
        }
        let Some(parent) = &iteration.parent else { return Ok(()) };
        let mutator = self.lanes.mutators.iter().find(|m| m.name == iteration.mutator);
        let (Some(mutator), Some(parent_evaluation)) =
            (mutator, self.book.store.search_evaluation(parent)?)
        else {
            return Ok(());
        };
        let outcome = Outcome {
            iteration: iteration.iteration,
            idea: iteration.idea.clone(),
            parent: parent.clone(),
            parent_evaluation: outline(&parent_evaluation),
            program: iteration.program.clone(),
            evaluation: outline(evaluation),
        };
        if let Err(error) = mutator.object.observe(&outcome) {
            let message =
                format!("mutator `{}` could not learn from a result: {error}", mutator.name);
            self.book.emit(EventKind::Warning { message });
        }
        Ok(())
    }
}
