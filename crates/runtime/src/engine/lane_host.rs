//! The host as a mutator sees it while it proposes: checks, calls, money.

use super::{
    RunError,
    lanes::{CheckLost, LaneContext},
    search::Message,
};
use crate::event::Called;
use forerunner_core::{Answer, Answered, Call, Check, Cost, Error, Host, Program, Result};
use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Serves one proposal, with its repairs.
pub(super) struct LaneHost<'a> {
    context: &'a LaneContext,
    iteration: u64,
    notes: Mutex<Notes>,
}

/// What came up while a proposal was made.
#[derive(Default)]
pub(super) struct Notes {
    /// Calls, in order.
    pub(super) calls: Vec<Called>,
    /// What was spent.
    pub(super) cost: Cost,
}

impl<'a> LaneHost<'a> {
    pub(super) fn new(context: &'a LaneContext, iteration: u64) -> Self {
        Self { context, iteration, notes: Mutex::default() }
    }

    /// What came up since this was asked last.
    pub(super) fn take_notes(&self) -> Notes {
        std::mem::take(&mut self.notes())
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, call: &Call, answer: &Answer) {
        self.notes().calls.push(Called::new(self.iteration, call, answer));
    }

    /// A failure that the run cannot go on with.
    fn fatal(&self, error: RunError) -> Error {
        let message = error.to_string();
        drop(self.context.messages.send(Message::Fatal(error)));
        Error::Failed(message)
    }

    /// What the run that is replayed has of this call; an error when it has none.
    fn replayed(&self, call: &Call) -> Option<Result<Answer>> {
        let store = &self.context.recorded.as_ref()?.store;
        let found = store.lock().unwrap_or_else(PoisonError::into_inner).answer(&call.key());
        Some(match found {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => {
                let (model, purpose) = (call.model.clone(), call.purpose.clone());
                let (iteration, key) = (self.iteration, call.key());
                Err(self.fatal(RunError::NotRecorded { iteration, model, purpose, key }))
            }
            Err(error) => Err(self.fatal(error.into())),
        })
    }
}

impl Host for LaneHost<'_> {
    fn record(&self, _series: &str, _step: u64, _value: f64) {}

    fn progress(&self, fraction: f64, message: &str) {
        drop(self.context.messages.send(Message::Progress {
            iteration: Some(self.iteration),
            fraction,
            message: message.to_owned(),
        }));
    }

    fn store(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let safe = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        if name.is_empty() || name.starts_with('.') || !safe {
            return Err(Error::failed(format!("`{name}` is not an artifact name")));
        }
        let folder = &self.context.launch.hello.artifact_dir;
        let path = folder.join(format!("{}-{name}", self.iteration));
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, bytes))
            .map_err(Error::failed)?;
        Ok(path)
    }

    fn cache_dir(&self) -> PathBuf {
        self.context.launch.hello.cache_dir.clone()
    }

    fn cancelled(&self) -> bool {
        self.context.control.is_stopping()
    }

    fn check(&self, program: &Program) -> Result<Check> {
        match self.context.check(program) {
            Ok(check) => Ok(check),
            Err(CheckLost::Stopped) => Err(Error::Cancelled),
            Err(CheckLost::Worker(reason)) => Err(Error::Failed(reason)),
            Err(CheckLost::Error(error)) => Err(error),
        }
    }

    fn recall(&self, call: &Call) -> Result<Option<Answer>> {
        if let Some(replayed) = self.replayed(call) {
            let answer = replayed?;
            // The new run is complete without the one that it repeats.
            self.remember(call, &answer)?;
            return Ok(Some(answer));
        }
        let key = call.key();
        let known = match self.context.calls.find(&key) {
            Ok(known) => known,
            Err(error) => return Err(self.fatal(error.into())),
        };
        let orphans = &self.context.orphans;
        let paid = orphans.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        // What failed before a run was cut off is worth another try.
        let known = known.filter(|answer| matches!(answer.outcome, Answered::Reply { .. }));
        if let Some(answer) = &known {
            // Whoever recalls it counts it.
            if let Some(cost) = paid {
                self.context.unspend(&cost);
            }
            self.note(call, answer);
        }
        Ok(known)
    }

    fn remember(&self, call: &Call, answer: &Answer) -> Result<()> {
        self.note(call, answer);
        let kept = self.context.calls.keep(self.iteration, call, answer);
        kept.map_err(|error| self.fatal(error.into()))
    }

    fn spend(&self, cost: &Cost) {
        // A number that is none would switch the budget off.
        let dollars =
            if cost.dollars > 0.0 && cost.dollars.is_finite() { cost.dollars } else { 0.0 };
        let cost = &Cost { dollars, ..*cost };
        self.notes().cost += *cost;
        self.context.spend(cost);
    }
}
