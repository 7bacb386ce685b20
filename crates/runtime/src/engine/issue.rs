//! Issuing children: selections become jobs for the lanes, one by one or a generation at a time.

use super::{RunError, book::Entry, lanes::Job, search::Search};
use crate::{
    config::Mode,
    event::EventKind,
    store::{Store, StoreError},
};
use forerunner_core::{
    Error, Member, ProgramId, ProposalRequest, Seed, Select, Selection, Series, thinned,
};
use std::time::Instant;

/// Points of a curve that a mutator gets to see: as many as tell its shape. Whole curves would make
/// prompts long and requests slow.
const MEMBER_POINTS: usize = 64;

/// A stored program as mutators see it.
fn member(store: &Store, id: &ProgramId) -> Result<Option<Member>, StoreError> {
    let (Some(program), Some(mut evaluation)) = (store.program(id)?, store.search_evaluation(id)?)
    else {
        return Ok(None);
    };
    let series = store.search_series(id)?;
    let thin = |(name, points): (_, Series)| (name, thinned(&points, MEMBER_POINTS));
    evaluation.telemetry.series = series.into_iter().map(thin).collect();
    Ok(Some(Member { id: id.clone(), program, evaluation, idea: store.idea(id)? }))
}

impl Search<'_> {
    pub(super) fn issue(&mut self) -> Result<(), RunError> {
        if self.mutators_are_aside() {
            return Ok(());
        }
        let run = &self.config.run;
        match run.mode {
            Mode::Steady => {
                let room = run.slots + run.ahead;
                while self.in_flight < room && self.may_issue() {
                    let generation = (self.next - 1) / self.config.run.children as u64 + 1;
                    let selections = self.select(self.next, generation, 1)?;
                    for selection in selections {
                        self.issue_child(generation, selection)?;
                    }
                }
            }
            Mode::Generations => {
                if self.in_flight == 0 && self.may_issue() {
                    if self.generation.done.len() == self.config.run.children {
                        self.close_generation()?;
                    }
                    self.open_generation()?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn open_generation(&mut self) -> Result<(), RunError> {
        let size = self.config.run.children as u64;
        let number = (self.next - 1) / size + 1;
        let first = (number - 1) * size + 1;
        // Children adopted on resume that were never announced are announced as their turn comes.
        self.announce_waiting()?;
        let uncounted = self.generation.done.values().filter(|(_, announced)| !announced).count();
        let counted = self.book.iterations + uncounted as u64;
        let left = self.config.budget.evaluations.map(|limit| limit.saturating_sub(counted));
        let missing: Vec<u64> = (first..first + size)
            .filter(|iteration| !self.generation.done.contains_key(iteration))
            .take(left.unwrap_or(size).min(size) as usize)
            .collect();
        self.generation.number = number;
        self.generation.outlook.get_or_insert_with(|| self.book.outlook().clone());
        if self.generation.done.is_empty() {
            self.generation.next = first;
            let children = missing.len();
            self.book.emit(EventKind::GenerationStarted { generation: number, children });
        }
        if missing.is_empty() {
            return self.close_generation();
        }
        let selections = self.select(first, number, size as usize)?;
        for iteration in missing {
            let index = (iteration - first) as usize % selections.len().max(1);
            let Some(selection) = selections.get(index) else { continue };
            self.next = iteration;
            self.issue_child(number, selection.clone())?;
        }
        self.next = first + size;
        Ok(())
    }

    /// Inserts a generation in order: all of it, or what there is when the run ends.
    pub(super) fn close_generation(&mut self) -> Result<(), RunError> {
        if self.generation.done.is_empty() {
            return self.book.flush();
        }
        let done = std::mem::take(&mut self.generation.done);
        self.generation.outlook = None;
        let full = done.len() == self.config.run.children;
        for (entry, announced) in done.into_values() {
            if !announced {
                if self.control.is_interrupted() {
                    // Its elder siblings are missing: a resumed run announces it after them.
                    continue;
                }
                self.announce_child(&entry);
            }
            self.insert(&entry)?;
        }
        if let (true, Some((best, _))) = (full, self.book.best.clone()) {
            let generation = self.generation.number;
            self.book.hold(EventKind::GenerationFinished { generation, best });
        }
        self.book.flush()
    }

    /// Puts a child that the store already holds into the generation at work.
    pub(super) fn adopt(&mut self, entry: Entry, announced: bool) {
        self.generation.done.insert(entry.iteration.iteration, (entry, announced));
    }

    pub(super) fn set_next(&mut self, next: u64) {
        self.next = next;
        self.generation.next = next;
    }

    pub(super) fn select(
        &self,
        iteration: u64,
        generation: u64,
        count: usize,
    ) -> Result<Vec<Selection>, RunError> {
        let seed = Seed(self.config.run.seed).derive("select", iteration).0;
        self.selector
            .select(&Select { iteration, generation, count, seed })
            .map_err(|error| self.selector_error(error))
    }

    pub(super) fn member(&self, id: &ProgramId) -> Result<Option<Member>, RunError> {
        Ok(member(&self.book.store, id)?)
    }

    pub(super) fn issue_child(
        &mut self,
        generation: u64,
        selection: Selection,
    ) -> Result<(), RunError> {
        let iteration = self.next;
        self.next += 1;
        let seed = Seed(self.config.run.seed);
        let (parent, inspirations) = self.book.store.reading(|| {
            let mut inspirations = Vec::new();
            for id in &selection.inspirations {
                inspirations.extend(self.member(id)?);
            }
            Ok::<_, RunError>((self.member(&selection.parent)?, inspirations))
        })?;
        let Some(parent) = parent else {
            let error =
                Error::failed(format!("it chose `{}`, which is not stored", selection.parent));
            return Err(self.selector_error(error));
        };
        // Siblings know the same, also those that are made again after others were complete.
        let outlook = self.generation.outlook.as_ref().unwrap_or(self.book.outlook());
        let request = ProposalRequest {
            iteration,
            seed: seed.derive("propose", iteration).0,
            task: self.book.task.clone(),
            failures: outlook.failures_of(&selection.parent),
            parent,
            inspirations,
            island: selection.island,
            stagnant: outlook.stagnant,
        };
        let mutator = self.draw_mutator(iteration, seed.derive("mutator", iteration).unit());
        if let Some(jobs) = &self.jobs {
            let island = selection.island;
            let turn = self.issued;
            drop(jobs.send(Job { iteration, generation, island, mutator, turn, request }));
            self.issued += 1;
            self.in_flight += 1;
        }
        Ok(())
    }

    /// The mutator at `unit` of the weights' total, of those that are not put aside; in a replay the
    /// one that it was.
    fn draw_mutator(&self, iteration: u64, unit: f64) -> usize {
        let mutators = &self.config.mutators;
        if let Some(name) = self.recorded_mutator(iteration) {
            return mutators.iter().position(|entry| entry.name == name).unwrap_or(0);
        }
        let now = Instant::now();
        let weight = |index: usize| match self.standby.is_aside(index, now) {
            true => 0.0,
            false => mutators[index].weight,
        };
        let mut left = unit * (0..mutators.len()).map(weight).sum::<f64>();
        let mut last = 0;
        for index in (0..mutators.len()).filter(|index| weight(*index) > 0.0) {
            if left < weight(index) {
                return index;
            }
            left -= weight(index);
            last = index;
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::RunFile, store::Iteration};
    use forerunner_core::{Cost, Evaluation, Idea, Program};

    const RUN: &str = "environment.name = \"x\"\nselector.name = \"x\"\n\
                       mutator = [{ name = \"x\" }]\nbudget.evaluations = 1";

    fn iteration(number: u64, program: &Program, duplicate: bool) -> Iteration {
        Iteration {
            iteration: number,
            generation: 0,
            island: 0,
            mutator: String::new(),
            parent: None,
            program: Some(program.id()),
            idea: Idea::default(),
            cost: Cost::default(),
            repairs: 0,
            duplicate,
        }
    }

    #[test]
    fn mutators_see_thinned_curves() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = RunFile::parse("run", RUN, &[]).expect("a run file");
        let mut store = Store::create(folder.path(), &config).expect("a store");
        let program = Program::single("x", "1");
        let long: Series = (0..6401).map(|step| (step, 1.0 / (step + 1) as f64)).collect();
        let short: Series = vec![(0, 5.5), (32, 2.0)];
        let mut evaluation = Evaluation::accepted("loss", 1.0);
        evaluation.telemetry.series =
            [("train_loss".to_owned(), long), ("dev_loss".to_owned(), short.clone())].into();
        let write = |store: &mut Store, number, evaluation: &Evaluation, duplicate| {
            let iteration = iteration(number, &program, duplicate);
            let written = store.record_iteration(&iteration, Some(&program), 1, evaluation, &[]);
            written.expect("recorded");
        };
        write(&mut store, 0, &evaluation, false);
        let seen = member(&store, &program.id()).expect("read").expect("stored");
        let series = &seen.evaluation.telemetry.series;
        assert_eq!(series["dev_loss"], short);
        let steps: Vec<u64> = series["train_loss"].iter().map(|(step, _)| *step).collect();
        assert_eq!(steps.len(), MEMBER_POINTS);
        assert_eq!((steps[0], steps[1], steps[63]), (0, 101, 6400));
        // The same program made again takes over the result, whose curves are stored once.
        write(&mut store, 1, &Evaluation::accepted("loss", 1.0), true);
        assert_eq!(member(&store, &program.id()).expect("read"), Some(seen));
    }
}
