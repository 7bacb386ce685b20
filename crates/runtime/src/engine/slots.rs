//! Slots: threads that measure, each with a worker process and a core to itself.

use super::{Control, search::Message};
use crate::{
    executor::{Call, Launch, Lost, Worker},
    verification::{Measured, Verification},
};
use crossbeam_channel::{Receiver, Sender};
use forerunner_core::{Cause, Error, Evaluation, EvaluationRequest, Finding, Program};
use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

/// Rule of the finding that says why an environment could not measure.
pub(super) const ENVIRONMENT_ERROR: &str = "environment/error";

/// What a measurement is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ticket {
    Reference,
    Child(u64),
    /// Index into the confirmation's plan.
    Confirm(usize),
}

/// A measurement to make.
pub(super) struct Measure {
    pub(super) ticket: Ticket,
    pub(super) request: EvaluationRequest,
    /// What the program was made from, for the hooks.
    pub(super) parent: Option<Program>,
}

/// One slot.
pub(super) struct Slot {
    pub(super) index: usize,
    /// The cores that each slot has to itself, once they are chosen: before the first measurement.
    pub(super) cores: Arc<OnceLock<Vec<Vec<usize>>>>,
    /// The hooks, once the environment is known: before the first measurement.
    pub(super) verification: Arc<OnceLock<Verification>>,
    pub(super) launch: Launch,
    pub(super) timeout: Duration,
    pub(super) control: Control,
    pub(super) messages: Sender<Message>,
}

impl Slot {
    /// Measures until there is nothing more.
    pub(super) fn serve(&self, measures: &Receiver<Measure>) {
        let label = format!("measure-{}", self.index);
        let mut worker = None;
        if let Some(started) = self.start(&label) {
            drop(self.messages.send(Message::Ready(Box::new(started.spec().clone()))));
            worker = Some(started);
        }
        for Measure { ticket, mut request, parent } in measures {
            if self.control.is_stopping() {
                drop(self.messages.send(Message::Dropped));
                continue;
            }
            let cores = self.cores.get().and_then(|cores| cores.get(self.index));
            if let Some((first, more)) = cores.and_then(|cores| cores.split_first()) {
                (request.slot, request.more_cores) = (Some(*first), more.to_vec());
            }
            let Some(mut current) = worker.take().or_else(|| self.start(&label)) else { return };
            let started = Instant::now();
            let iteration = match ticket {
                Ticket::Child(iteration) => Some(iteration),
                Ticket::Reference | Ticket::Confirm(_) => None,
            };
            let progress = |fraction, message| {
                drop(self.messages.send(Message::Progress { iteration, fraction, message }));
            };
            let call = Call {
                abort: self.control.abort_flag(),
                timeout: self.timeout,
                progress: &progress,
            };
            let hooks = self.verification.get().filter(|hooks| !hooks.is_empty());
            let (seed, slice) = (request.seed, request.slice);
            let program = hooks.map(|_| request.program.clone());
            let answer = current.evaluate(request, &call);
            let evaluation = match answer {
                Ok(Ok(evaluation)) => match hooks.zip(program.as_ref()) {
                    Some((hooks, program)) => {
                        let measured = Measured { program, parent: parent.as_ref(), seed, slice };
                        hooks.verify(&measured, evaluation)
                    }
                    None => evaluation,
                },
                Ok(Err(Error::Cancelled)) | Err(Lost::Aborted) => {
                    drop(self.messages.send(Message::Dropped));
                    continue;
                }
                Ok(Err(error)) => Evaluation::failed(
                    Cause::Other,
                    Finding::error(ENVIRONMENT_ERROR, error.to_string()),
                ),
                Err(lost) => {
                    let reason = lost.to_string();
                    let worker = label.clone();
                    drop(
                        self.messages.send(Message::WorkerLost { worker, reason: reason.clone() }),
                    );
                    let finding = Finding::error("worker/lost", reason);
                    let evaluation = Evaluation::failed(Cause::Worker, finding);
                    self.answer(ticket, evaluation, started);
                    continue;
                }
            };
            worker = Some(current);
            self.answer(ticket, evaluation, started);
        }
    }

    fn answer(&self, ticket: Ticket, evaluation: Evaluation, started: Instant) {
        let evaluation = Box::new(evaluation);
        let finished = Instant::now();
        drop(self.messages.send(Message::Measured { ticket, evaluation, started, finished }));
    }

    fn start(&self, label: &str) -> Option<Worker> {
        match Worker::start_again(&self.launch, label) {
            Ok(worker) => Some(worker),
            Err(error) => {
                drop(self.messages.send(Message::Fatal(error.into())));
                None
            }
        }
    }
}
