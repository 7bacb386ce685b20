//! Lanes: threads that turn selections into checked programs ahead of the measurements.

use super::{
    Control,
    lane_host::{LaneHost, Notes},
    search::Message,
};
use crate::{
    config::{Budget, RunFile},
    event::{EventKind, Repair},
    executor::{Call, Launch, Lost, Worker},
    store::{Calls, Store},
};
use crossbeam_channel::{Receiver, Sender, bounded};
use forerunner_core::{
    Cause, Check, Cost, Error, Evaluation, Finding, Idea, Mutator, Program, Proposal,
    ProposalRequest, RepairRequest,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

/// A child to be proposed.
pub(super) struct Job {
    pub(super) iteration: u64,
    pub(super) generation: u64,
    pub(super) island: u32,
    /// Index of the mutator.
    pub(super) mutator: usize,
    /// Position in the order of issue, from 0.
    pub(super) turn: u64,
    pub(super) request: ProposalRequest,
}

/// What a lane made of a job.
pub(super) struct Prepared {
    pub(super) iteration: u64,
    pub(super) generation: u64,
    pub(super) island: u32,
    pub(super) mutator: usize,
    pub(super) request: ProposalRequest,
    pub(super) idea: Idea,
    pub(super) cost: Cost,
    pub(super) repairs: u32,
    /// Calls to models and checks that failed, in order.
    pub(super) steps: Vec<EventKind>,
    /// The program, when the change applied.
    pub(super) program: Option<Program>,
    /// Its normal form, where it has one.
    pub(super) form: Option<String>,
    /// Remarks of the check that passed, or the evaluation that the last failure amounts to.
    pub(super) outcome: Result<Vec<Finding>, Box<Evaluation>>,
}

impl Prepared {
    fn take(&mut self, notes: Notes) {
        self.steps.extend(notes.calls.into_iter().map(EventKind::Called));
        self.cost += notes.cost;
    }
}

/// What a replay has of the run that it repeats, for the lanes.
pub(super) struct Recorded {
    pub(super) store: Mutex<Store>,
    /// Checks after which the mutator was not asked, by iteration and repairs before.
    pub(super) not_asked: BTreeSet<(u64, u32)>,
}

/// A mutator of this process may panic as well as one behind the plugin interface, which guards it.
fn guarded<T>(call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Err(Error::Panicked(text.unwrap_or_else(|| "a panic without text".to_owned())))
    })
}

/// A mutator with how it is scheduled.
pub(super) struct LaneMutator {
    pub(super) name: String,
    pub(super) object: Box<dyn Mutator>,
    /// Proposals of this mutator may be made at the same time.
    pub(super) parallel: bool,
}

/// Lets proposals pass in the order in which they were issued, so that mutators which learn while
/// they propose replay identically.
pub(super) struct Gate {
    /// `None` lets everything pass.
    next: Mutex<Option<u64>>,
    changed: Condvar,
}

impl Gate {
    pub(super) fn new(ordered: bool) -> Self {
        Self { next: Mutex::new(ordered.then_some(0)), changed: Condvar::new() }
    }

    fn wait(&self, turn: u64) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        while next.is_some_and(|next| next < turn) {
            next = self.changed.wait(next).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn pass(&self, turn: u64) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = next.as_mut() {
            *next = (*next).max(turn + 1);
        }
        self.changed.notify_all();
    }
}

/// What all lanes share.
pub(super) struct LaneContext {
    pub(super) launch: Launch,
    pub(super) mutators: Vec<LaneMutator>,
    pub(super) gate: Gate,
    pub(super) control: Control,
    pub(super) repairs: u32,
    pub(super) timeout: Duration,
    pub(super) messages: Sender<Message>,
    /// What models were asked.
    pub(super) calls: Calls,
    /// The run that is replayed: models are not asked again.
    pub(super) recorded: Option<Recorded>,
    /// Calls that were paid for before the run was cut off, for proposals that are made again.
    pub(super) orphans: Mutex<BTreeMap<String, Cost>>,
    budget: Budget,
    /// Spent in all, by proposals under way as well.
    spent: Mutex<Cost>,
    checkers: (Sender<Option<Worker>>, Receiver<Option<Worker>>),
}

impl LaneContext {
    pub(super) fn new(
        launch: Launch,
        mutators: Vec<LaneMutator>,
        gate: Gate,
        control: Control,
        config: &RunFile,
        messages: Sender<Message>,
        (calls, recorded): (Calls, Option<Recorded>),
    ) -> Self {
        let settings = &config.run;
        let checkers = bounded(settings.checkers);
        for _ in 0..settings.checkers {
            // Started by whichever lane needs it first.
            drop(checkers.0.send(None));
        }
        Self {
            launch,
            mutators,
            gate,
            control,
            repairs: settings.repairs,
            timeout: Duration::from_secs_f64(settings.evaluation_timeout_seconds),
            messages,
            calls,
            recorded,
            orphans: Mutex::default(),
            budget: config.budget.clone(),
            spent: Mutex::default(),
            checkers,
        }
    }

    /// Counts what was spent, now or before the run was resumed.
    pub(super) fn spend(&self, cost: &Cost) {
        *self.spent.lock().unwrap_or_else(PoisonError::into_inner) += *cost;
    }

    /// Takes back what will be counted again.
    pub(super) fn unspend(&self, cost: &Cost) {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.tokens_in = spent.tokens_in.saturating_sub(cost.tokens_in);
        spent.tokens_out = spent.tokens_out.saturating_sub(cost.tokens_out);
        spent.dollars = (spent.dollars - cost.dollars).max(0.0);
    }

    /// Spent in all.
    pub(super) fn spent(&self) -> Cost {
        *self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts one checker ahead of the first proposal.
    pub(super) fn warm_up(&self) {
        let Ok(slot) = self.checkers.1.recv() else { return };
        // Another lane may have been here first; its checker must go back into circulation.
        let worker = slot.or_else(|| Worker::start(&self.launch, "check").ok());
        drop(self.checkers.0.send(worker));
    }

    /// Ends the checkers.
    pub(super) fn close(&self) {
        while let Ok(worker) = self.checkers.1.try_recv() {
            drop(worker);
        }
    }

    pub(super) fn check(&self, program: &Program) -> Result<Check, CheckLost> {
        let Ok(slot) = self.checkers.1.recv() else { return Err(CheckLost::Stopped) };
        let mut worker = match slot {
            Some(worker) => worker,
            None => match Worker::start_again(&self.launch, "check") {
                Ok(worker) => worker,
                Err(error) => {
                    drop(self.checkers.0.send(None));
                    drop(self.messages.send(Message::Fatal(error.into())));
                    return Err(CheckLost::Stopped);
                }
            },
        };
        let call =
            Call { abort: self.control.abort_flag(), timeout: self.timeout, progress: &|_, _| {} };
        let answer = worker.check(program, &call);
        match answer {
            Ok(Ok(check)) => {
                drop(self.checkers.0.send(Some(worker)));
                Ok(check)
            }
            Ok(Err(error)) => {
                drop(self.checkers.0.send(Some(worker)));
                Err(if error == Error::Cancelled {
                    CheckLost::Stopped
                } else {
                    CheckLost::Error(error)
                })
            }
            Err(Lost::Aborted) => {
                drop(self.checkers.0.send(None));
                Err(CheckLost::Stopped)
            }
            Err(lost) => {
                drop(self.checkers.0.send(None));
                let (worker, reason) = ("check".to_owned(), lost.to_string());
                drop(self.messages.send(Message::WorkerLost { worker, reason: reason.clone() }));
                Err(CheckLost::Worker(reason))
            }
        }
    }

    /// Works on jobs until there are no more.
    pub(super) fn serve(&self, jobs: &Receiver<Job>) {
        for job in jobs {
            let broke = self.recorded.is_none() && self.budget.is_spent(&self.spent());
            let message = if broke || self.control.is_stopping() {
                self.gate.pass(job.turn);
                None
            } else {
                self.prepare(job)
            };
            let message = message.map_or(Message::Dropped, |p| Message::Prepared(Box::new(p)));
            if self.messages.send(message).is_err() {
                return;
            }
        }
    }

    /// `None` when the run stops meanwhile.
    fn prepare(&self, job: Job) -> Option<Prepared> {
        let Job { iteration, generation, island, mutator, turn, request } = job;
        let entry = &self.mutators[mutator];
        let host = LaneHost::new(self, iteration);
        self.gate.wait(turn);
        if entry.parallel {
            self.gate.pass(turn);
        }
        let proposal = guarded(|| entry.object.propose(&request, &host));
        self.gate.pass(turn);

        let mut prepared = Prepared {
            iteration,
            generation,
            island,
            mutator,
            request,
            idea: Idea::default(),
            cost: Cost::default(),
            repairs: 0,
            steps: Vec::new(),
            program: None,
            form: None,
            outcome: Ok(Vec::new()),
        };
        prepared.take(host.take_notes());
        let mut proposal = match proposal {
            Ok(proposal) => proposal,
            Err(Error::Cancelled) if self.control.is_stopping() => return None,
            Err(error) => {
                let message = format!("mutator `{}`: {error}", entry.name);
                let finding = Finding::error("mutator/error", message);
                prepared.outcome = Err(Box::new(Evaluation::failed(Cause::Mutator, finding)));
                return Some(prepared);
            }
        };
        prepared.idea = proposal.idea.clone();
        loop {
            // What came with the proposal instead of being reported when it was spent.
            prepared.cost += proposal.cost;
            self.spend(&proposal.cost);
            let (cause, mut findings) = match self.try_proposal(&proposal, &mut prepared)? {
                Ok(remarks) => {
                    prepared.form = prepared.program.as_ref().and_then(forerunner_workbench::form);
                    prepared.outcome = Ok(remarks);
                    return Some(prepared);
                }
                Err(failure) => failure,
            };
            prepared.steps.push(EventKind::CheckFailed {
                iteration,
                attempt: prepared.repairs,
                cause,
                findings: findings.clone(),
                repair: Repair::NotAsked,
            });
            let failed_check = prepared.steps.len() - 1;
            let said = |steps: &mut Vec<EventKind>, what: Repair| {
                if let Some(EventKind::CheckFailed { repair, .. }) = steps.get_mut(failed_check) {
                    *repair = what;
                }
            };
            let repaired = if cause != Cause::Worker && self.asks_for_repair(&prepared) {
                said(&mut prepared.steps, Repair::GivenUp);
                let request = RepairRequest {
                    request: prepared.request.clone(),
                    proposal: proposal.clone(),
                    program: prepared.program.clone(),
                    cause,
                    findings: findings.clone(),
                    attempt: prepared.repairs + 1,
                };
                guarded(|| entry.object.repair(&request, &host))
            } else {
                Ok(None)
            };
            prepared.take(host.take_notes());
            match repaired {
                Ok(Some(next)) => {
                    said(&mut prepared.steps, Repair::Made);
                    prepared.repairs += 1;
                    proposal = next;
                    if !proposal.idea.summary.is_empty() {
                        prepared.idea = proposal.idea.clone();
                    }
                }
                Err(Error::Cancelled) if self.control.is_stopping() => return None,
                Ok(None) => {
                    prepared.outcome = Err(Box::new(Evaluation::refused(cause, findings)));
                    return Some(prepared);
                }
                Err(error) => {
                    let message = format!("mutator `{}`, mending it: {error}", entry.name);
                    findings.push(Finding::warning("mutator/repair", message));
                    prepared.outcome = Err(Box::new(Evaluation::refused(cause, findings)));
                    return Some(prepared);
                }
            }
        }
    }

    /// Whether the mutator is asked to mend what failed its check: in a replay, whether it was.
    fn asks_for_repair(&self, prepared: &Prepared) -> bool {
        let (iteration, attempt) = (prepared.iteration, prepared.repairs);
        match &self.recorded {
            Some(recorded) => !recorded.not_asked.contains(&(iteration, attempt)),
            None => attempt < self.repairs && !self.budget.is_spent(&self.spent()),
        }
    }

    /// Applies and checks one proposal. `None` when the run stops meanwhile.
    #[expect(clippy::type_complexity, reason = "the three outcomes are used once, right above")]
    fn try_proposal(
        &self,
        proposal: &Proposal,
        prepared: &mut Prepared,
    ) -> Option<Result<Vec<Finding>, (Cause, Vec<Finding>)>> {
        let parent = &prepared.request.parent.program;
        let program = match forerunner_workbench::apply(parent, &proposal.change) {
            Ok(program) => program,
            Err(findings) => return Some(Err((Cause::Patch, findings))),
        };
        let check = self.check(&program);
        prepared.program = Some(program);
        match check {
            Ok(check) if check.passed() => Some(Ok(check.findings)),
            Ok(check) => Some(Err((check.cause.unwrap_or(Cause::Other), check.findings))),
            Err(CheckLost::Stopped) => None,
            Err(CheckLost::Worker(reason)) => {
                Some(Err((Cause::Worker, vec![Finding::error("worker/lost", reason)])))
            }
            Err(CheckLost::Error(error)) => Some(Err((
                Cause::Other,
                vec![Finding::error("environment/error", error.to_string())],
            ))),
        }
    }
}

pub(super) enum CheckLost {
    Stopped,
    Worker(String),
    Error(Error),
}

/// The lanes of a run; dropping the sender of jobs ends them.
pub(super) fn start(
    context: &Arc<LaneContext>,
    lanes: usize,
    jobs: &Receiver<Job>,
) -> Vec<std::thread::JoinHandle<()>> {
    (0..lanes)
        .map(|lane| {
            let (context, jobs) = (context.clone(), jobs.clone());
            std::thread::spawn(move || {
                if lane == 0 {
                    context.warm_up();
                }
                context.serve(&jobs);
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordered_gate_lets_turns_pass_in_order() {
        let gate = Gate::new(true);
        let seen = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for turn in [3, 1, 0, 2] {
                let (gate, seen) = (&gate, &seen);
                scope.spawn(move || {
                    gate.wait(turn);
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(turn);
                    gate.pass(turn);
                });
            }
        });
        assert_eq!(seen.into_inner().unwrap_or_default(), [0, 1, 2, 3]);
    }
}
