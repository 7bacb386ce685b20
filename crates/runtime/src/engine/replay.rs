//! Replaying a run: the same search again, with the recorded answers of models and the recorded
//! measurements. Selection, proposals, patches, rules, checks and hooks' reports come out as they did,
//! or the replay says where they do not.

use super::{
    RunError,
    confirm::Wanted,
    lanes::{Prepared, Recorded},
    search::{Message, Search},
    slots::Ticket,
};
use crate::{
    config::{Level, Mode, RunFile},
    event::{EventKind, Repair},
    store::{Store, StoreError, StoredIteration},
};
use forerunner_core::{Evaluation, Program, ProgramId, Slice};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
    sync::Mutex,
    time::Instant,
};

/// The store's note of which run it repeats.
pub(super) const REPLAY_OF: &str = "replay_of";

/// Most characters of an event in an error.
const SHOWN: usize = 400;

/// The run that is repeated.
pub(super) struct Recording {
    store: Store,
    iterations: BTreeMap<u64, StoredIteration>,
    /// Numbers of the children to come, in the order in which they were completed.
    order: VecDeque<u64>,
    /// Children that are there before their turn.
    waiting: BTreeMap<u64, Prepared>,
    /// Confirming measurements that were not given out yet.
    confirmations: Vec<(ProgramId, u64, Slice, Evaluation)>,
}

/// The configuration with which the run in `folder` is replayed: the frozen one, with a budget of
/// the iterations that can be repeated.
///
/// # Errors
/// When there is no run, or none that can be replayed.
pub fn replayed_config(folder: &Path) -> Result<RunFile, RunError> {
    let store = Store::read(folder)?;
    let mut config = super::frozen_config(&store)?;
    let refuse = |reason: &str| {
        Err(RunError::NotReplayable { folder: folder.to_owned(), reason: reason.to_owned() })
    };
    let run = &config.run;
    if run.mode == Mode::Steady && run.slots + run.ahead > 1 {
        return refuse(
            "what a steady run selects depends on the order in which measurements end\nhint: \
             run with `--set run.mode=generations` what is to be replayed",
        );
    }
    let done: Vec<u64> = store.iterations()?.iter().map(|one| one.iteration.iteration).collect();
    let complete = done.iter().zip(0..).take_while(|(number, index)| **number == *index).count();
    if complete < 2 {
        return refuse("no child is complete\nhint: `forerunner run --resume` goes on with it");
    }
    config.budget.evaluations = Some(complete as u64 - 1);
    // A record's measurements are secret until they are made, and are made once.
    let level = was_confirmed(&store)?.then_some(Level::Claim);
    Ok(config.confirming(level)?)
}

/// Whether the last session of a run came to the end of its confirmation.
fn was_confirmed(store: &Store) -> Result<bool, StoreError> {
    let mut confirmed = false;
    store.each_event(&mut |event| {
        if let EventKind::RunFinished(summary) = event.kind {
            confirmed = summary.confirmation.is_some();
        }
    })?;
    Ok(confirmed)
}

impl Recording {
    pub(super) fn open(folder: &Path, config: &RunFile) -> Result<Self, RunError> {
        let store = Store::read(folder)?;
        let last = config.budget.evaluations.unwrap_or(0);
        let mut stored = store.iterations()?;
        stored.retain(|one| one.iteration.iteration <= last);
        stored.sort_by_key(|one| one.evaluation_id);
        let order = stored.iter().map(|one| one.iteration.iteration).filter(|number| *number > 0);
        let order = order.collect();
        let iterations = stored.into_iter().map(|one| (one.iteration.iteration, one)).collect();
        let slice = config.confirm.slice;
        let confirmations = store
            .confirmations(slice)?
            .into_iter()
            .map(|one| (one.program, one.seed, slice, one.evaluation))
            .collect();
        Ok(Self { store, iterations, order, waiting: BTreeMap::new(), confirmations })
    }

    /// The same for the lanes.
    pub(super) fn for_lanes(folder: &Path) -> Result<Recorded, RunError> {
        let store = Store::read(folder)?;
        let mut not_asked = BTreeSet::new();
        store.each_event(&mut |event| {
            if let EventKind::CheckFailed { iteration, attempt, repair, .. } = event.kind
                && repair == Repair::NotAsked
            {
                not_asked.insert((iteration, attempt));
            }
        })?;
        Ok(Recorded { store: Mutex::new(store), not_asked })
    }

    /// Whether this run and the recorded one are of the same environment and hooks.
    pub(super) fn is_of(&self, own: &Store) -> Result<(), RunError> {
        for what in ["environment", "hooks"] {
            let (then, now) = (self.store.meta(what)?, own.meta(what)?);
            let (then, now) = (then.unwrap_or_default(), now.unwrap_or_default());
            if then != now {
                let difference = format!("{what}: `{then}` → `{now}`");
                return Err(RunError::Diverged { iteration: 0, difference });
            }
        }
        Ok(())
    }

    /// The measurement of an iteration, as it was made.
    fn measured(&self, iteration: u64, program: &ProgramId) -> Result<Evaluation, RunError> {
        let diverged = |difference| RunError::Diverged { iteration, difference };
        let Some(stored) = self.iterations.get(&iteration) else {
            return Err(diverged("the recorded run has no such iteration".to_owned()));
        };
        match &stored.iteration.program {
            Some(known) if known == program => {}
            known => {
                let known = known.as_ref().map_or("none", |id| id.short());
                let difference = format!("program {} instead of {known}", program.short());
                return Err(diverged(difference));
            }
        }
        let mut evaluation = stored.evaluation.clone();
        evaluation.findings = self.store.findings(stored.evaluation_id)?;
        evaluation.telemetry.series =
            self.store.series(stored.evaluation_id)?.into_iter().collect();
        evaluation.evidence = self.store.evidence(stored.evaluation_id)?;
        // They lie in the folder of the recorded run.
        evaluation.evidence.artifacts.clear();
        Ok(evaluation)
    }
}

impl Search<'_> {
    /// Takes in a child of a replay; children are completed in the order in which they were.
    pub(super) fn prepared_in_replay(&mut self, prepared: Prepared) -> Result<(), RunError> {
        let mut prepared = Some(prepared);
        loop {
            let Some(recording) = &mut self.recording else { return Ok(()) };
            if let Some(prepared) = prepared.take() {
                recording.waiting.insert(prepared.iteration, prepared);
            }
            let Some(next) = recording.order.front() else { return Ok(()) };
            let Some(child) = recording.waiting.remove(next) else { return Ok(()) };
            recording.order.pop_front();
            self.take_prepared(child)?;
        }
    }

    /// Who made a child's proposal in the run that is repeated: whether a mutator was put aside then
    /// was a matter of time.
    pub(super) fn recorded_mutator(&self, iteration: u64) -> Option<&str> {
        let stored = self.recording.as_ref()?.iterations.get(&iteration)?;
        Some(&stored.iteration.mutator)
    }

    /// Answers a measurement from the recording; `false` when nothing is replayed.
    pub(super) fn answer_from_recording(
        &mut self,
        ticket: Ticket,
        program: &Program,
    ) -> Result<bool, RunError> {
        let Some(recording) = &self.recording else { return Ok(false) };
        let iteration = match ticket {
            Ticket::Child(iteration) => iteration,
            Ticket::Reference => 0,
            Ticket::Confirm(_) => return Ok(false),
        };
        let evaluation = recording.measured(iteration, &program.id())?;
        self.say_measured(ticket, evaluation);
        Ok(true)
    }

    /// The same for a confirming measurement.
    pub(super) fn confirm_from_recording(
        &mut self,
        index: usize,
        wanted: &Wanted,
    ) -> Result<bool, RunError> {
        let Some(recording) = &mut self.recording else { return Ok(false) };
        let known = recording.confirmations.iter().position(|(program, seed, slice, _)| {
            *program == wanted.program && *seed == wanted.seed && *slice == wanted.slice
        });
        let Some(known) = known else {
            let difference =
                format!("{} was not confirmed with seed {}", wanted.program.short(), wanted.seed);
            return Err(RunError::Diverged { iteration: self.book.iterations, difference });
        };
        let (_, _, _, evaluation) = recording.confirmations.remove(known);
        self.say_measured(Ticket::Confirm(index), evaluation);
        Ok(true)
    }

    fn say_measured(&self, ticket: Ticket, evaluation: Evaluation) {
        let now = Instant::now();
        let evaluation = Box::new(evaluation);
        let message = Message::Measured { ticket, evaluation, started: now, finished: now };
        drop(self.lanes.messages.send(message));
    }

    /// At the end of a replay: compares what happened with what is recorded.
    pub(super) fn compare_with_recording(&mut self) -> Result<(), RunError> {
        self.book.flush()?;
        let Some(recording) = &self.recording else { return Ok(()) };
        let last = recording.iterations.keys().next_back().copied().unwrap_or(0);
        let (then, sessions) = outcomes(&recording.store, last)?;
        let (now, _) = outcomes(&self.book.store, last)?;
        // Checks and calls of children that were complete when a run was cut off are not told again.
        let told = |event: &&(u64, bool, String)| sessions == 1 || !event.1;
        let mut then = then.iter().filter(told);
        let mut now = now.iter().filter(told);
        loop {
            let (iteration, difference) = match (then.next(), now.next()) {
                (None, None) => break,
                (Some((_, _, a)), Some((_, _, b))) if a == b => continue,
                (Some((iteration, _, a)), Some((_, _, b))) => {
                    (*iteration, format!("recorded {}\n  now      {}", cut(a), cut(b)))
                }
                (Some((iteration, _, a)), None) => (*iteration, format!("missing: {}", cut(a))),
                (None, Some((iteration, _, b))) => {
                    (*iteration, format!("not recorded: {}", cut(b)))
                }
            };
            return Err(RunError::Diverged { iteration, difference });
        }
        let calls = self.book.store.count_calls()?;
        let recorded = recording.store.folder().display().to_string();
        self.book.emit(EventKind::Replayed { recorded, iterations: last, calls });
        Ok(())
    }
}

fn cut(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

/// What a run came to, in order, without times: the iteration, whether it is a call or a failed check,
/// and the event as JSON. And how often the run was started or taken up.
#[expect(clippy::type_complexity, reason = "used once, right above")]
fn outcomes(store: &Store, last: u64) -> Result<(Vec<(u64, bool, String)>, usize), RunError> {
    let (mut outcomes, mut sessions) = (Vec::new(), 0);
    store.each_event(&mut |event| {
        let (iteration, passing) = match &event.kind {
            EventKind::RunStarted { .. } => {
                sessions += 1;
                return;
            }
            EventKind::Reference { .. } => (0, false),
            EventKind::Called(call) => (call.iteration, true),
            EventKind::CheckFailed { iteration, .. } => (*iteration, true),
            EventKind::Proposed { iteration, .. } | EventKind::NewBest { iteration, .. } => {
                (*iteration, false)
            }
            EventKind::Evaluated(evaluated) => (evaluated.iteration, false),
            // Confirmations are looked up by program and seed, in whatever order they end.
            _ => return,
        };
        if iteration <= last {
            outcomes.push((iteration, passing, crate::store::json(&event.kind)));
        }
    })?;
    Ok((outcomes, sessions))
}
