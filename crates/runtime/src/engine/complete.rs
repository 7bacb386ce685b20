//! Completing children: what lanes and slots made of them is recorded, announced in order, and
//! told to selector and mutators.

use super::{
    RunError,
    book::{Entry, outline},
    lanes::Prepared,
    search::Search,
    slots::Ticket,
};
use crate::{
    config::Mode,
    event::EventKind,
    store::{Iteration, StoreError},
};
use forerunner_core::{Cause, Evaluation, EvaluationRequest, Outcome, Program, Standing, Verdict};
use std::time::Instant;

impl Search<'_> {
    /// Takes in a child that was proposed and checked.
    pub(super) fn prepared(&mut self, prepared: Prepared) -> Result<(), RunError> {
        match self.recording {
            Some(_) => self.prepared_in_replay(prepared),
            None => self.take_prepared(prepared),
        }
    }

    pub(super) fn take_prepared(&mut self, mut prepared: Prepared) -> Result<(), RunError> {
        let iteration = prepared.iteration;
        let known = match prepared.outcome {
            Ok(_) => self.known(&mut prepared)?,
            Err(_) => None,
        };
        let id = prepared.program.as_ref().map(Program::id);
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
            steps: prepared.steps,
            form: prepared.form,
        };
        if self.config.run.mode == Mode::Steady {
            self.announce_proposal(&entry);
            self.book.show();
        }
        let (true, Some(program)) = (measure, &entry.program) else { return self.complete(entry) };
        if let Some((twin, _)) = self.measuring.iter().find(|(_, other)| other.is_twin_of(&entry)) {
            self.twins.push((*twin, entry));
            return Ok(());
        }
        if !self.answer_from_recording(Ticket::Child(iteration), program)? {
            let request = EvaluationRequest::new(program.clone(), self.search_seed());
            self.send_request(Ticket::Child(iteration), request, Some(parent));
        }
        self.measuring.insert(iteration, entry);
        Ok(())
    }

    /// The result of the same program when it was measured before. A program that differs only in
    /// names and spelling is the same, and gives way to the one that was measured.
    fn known(&self, prepared: &mut Prepared) -> Result<Option<Evaluation>, RunError> {
        let Some(program) = &prepared.program else { return Ok(None) };
        let store = &self.book.store;
        if let Some(known) = store.search_evaluation(&program.id())? {
            return Ok(Some(known));
        }
        let Some(form) = &prepared.form else { return Ok(None) };
        let Some(id) = store.program_of_form(form)? else { return Ok(None) };
        let known = store.search_evaluation(&id)?;
        if known.is_some() {
            prepared.program = store.program(&id)?;
        }
        Ok(known)
    }

    /// Completes the children that waited for the measurement of `child`.
    pub(super) fn complete_twins(&mut self, child: u64) -> Result<(), RunError> {
        let (ready, waiting) =
            std::mem::take(&mut self.twins).into_iter().partition(|(of, _)| *of == child);
        self.twins = waiting;
        let ready: Vec<(u64, Entry)> = ready;
        if ready.is_empty() {
            return Ok(());
        }
        let Some(original) = self.book.store.iteration(child)? else {
            let message = format!("iteration {child} was completed and is not stored");
            return Err(
                StoreError::Value { path: self.book.store.folder().to_owned(), message }.into()
            );
        };
        if matches!(original.evaluation.verdict, Verdict::Failed(_)) {
            // That may have been the worker's fault.
            return self.measure_apart(ready);
        }
        for (_, mut entry) in ready {
            entry.iteration.program.clone_from(&original.iteration.program);
            if let Some(id) = &entry.iteration.program {
                entry.program = self.book.store.program(id)?;
            }
            let mut evaluation = original.evaluation.clone();
            evaluation.findings = self.book.store.findings(original.evaluation_id)?;
            entry.evaluation = evaluation;
            entry.iteration.duplicate = true;
            self.complete(entry)?;
        }
        Ok(())
    }

    /// Measures each of the children that waited for another one.
    fn measure_apart(&mut self, ready: Vec<(u64, Entry)>) -> Result<(), RunError> {
        for (_, entry) in ready {
            let iteration = entry.iteration.iteration;
            let Some(program) = entry.program.clone() else { continue };
            if !self.answer_from_recording(Ticket::Child(iteration), &program)? {
                let request = EvaluationRequest::new(program, self.search_seed());
                let parent = match &entry.iteration.parent {
                    Some(parent) => self.book.store.program(parent)?,
                    None => None,
                };
                self.send_request(Ticket::Child(iteration), request, parent);
            }
            self.measuring.insert(iteration, entry);
        }
        Ok(())
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
        self.note_proposal(&entry);
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

    /// Puts a mutator aside that makes no proposals.
    fn note_proposal(&mut self, entry: &Entry) {
        if self.recording.is_some() {
            return;
        }
        let name = &entry.iteration.mutator;
        let Some(mutator) = self.config.mutators.iter().position(|one| one.name == *name) else {
            return;
        };
        // Answers that were of no use (a veto, a repetition) are no outage.
        let answered =
            |step: &EventKind| matches!(step, EventKind::Called(call) if call.failure.is_none());
        let made = entry.evaluation.verdict != Verdict::Failed(Cause::Mutator)
            || entry.steps.iter().any(answered);
        if let Some(pause) = self.standby.note(mutator, made, Instant::now()) {
            let reason = entry.evaluation.findings.first().map_or("", |one| &one.message);
            let message = format!(
                "mutator `{name}` made no proposal several times in a row and is put aside for {:.0} s; \
                 the last reason: {reason}",
                pause.as_secs_f64()
            );
            self.book.emit(EventKind::Warning { message });
        }
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
