//! The desk between a run and its clients: proposals that wait for a change, changes that wait for
//! a proposal, and results that wait to be told.
//!
//! The run's side is synchronous: its lanes wait here in [`Desk::propose`], with a condition
//! variable. The clients' side is asynchronous and waits for [`Desk::changes`]. Both look at the
//! same state behind one lock, which nobody holds while anything is checked or measured.

mod client;
mod mutator;
mod phase;
mod queue;

pub(crate) use client::{Used, quota_left};
pub(crate) use phase::{Budget, End, Phase, Start};

use crate::Quotas;
use forerunner_core::{
    Change, Check, EnvironmentSpec, Error, Finding, Idea, Outcome, Program, ProgramId,
    ProposalRequest,
};
use forerunner_runtime::event::{Event, EventKind, Summary};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{oneshot, watch};

/// The name under which the clients' changes enter a run file, the store and the log.
pub const MUTATOR: &str = "mcp";

/// What clients and run share. One for each run.
pub struct Desk {
    folder: PathBuf,
    quotas: Quotas,
    state: Mutex<State>,
    /// For lanes that wait.
    changed: Condvar,
    /// For clients that wait.
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    phase: Phase,
    budget: Budget,
    /// Proposals that wait, by iteration.
    open: BTreeMap<u64, Arc<ProposalRequest>>,
    /// How many proposals were opened, and the latest of them.
    opened: (u64, Option<Arc<ProposalRequest>>),
    /// The task, once a proposal told it.
    task: Option<Arc<EnvironmentSpec>>,
    checks: VecDeque<CheckJob>,
    submissions: VecDeque<Submission>,
    /// Submissions that became iterations.
    running: BTreeMap<u64, Running>,
    /// Submissions of an earlier session that this one measures, and that are counted already.
    recalled: BTreeSet<u64>,
    clients: BTreeMap<String, Used>,
    /// The parent that each client was shown last.
    shown: BTreeMap<String, ProgramId>,
    /// When each client had its turn last: clients that wait have their turns one after the other.
    turns: BTreeMap<String, u64>,
}

struct CheckJob {
    client: String,
    program: Program,
    reply: oneshot::Sender<Result<Check, Error>>,
}

/// A change on its way into the run.
pub(crate) struct Submission {
    pub(crate) client: String,
    pub(crate) change: Change,
    /// The program that the change is against.
    pub(crate) base: ProgramId,
    /// What it makes of that program.
    pub(crate) applied: Result<Program, Vec<Finding>>,
    pub(crate) idea: Idea,
    reply: Running,
}

struct Running {
    client: String,
    result: oneshot::Sender<Told>,
    progress: watch::Sender<Progress>,
}

/// What a client is told of its submission.
pub(crate) enum Told {
    /// The iteration is complete and stored.
    Complete(Box<Outcome>),
    /// The change does not apply to the program that it is against, so there was no iteration.
    NotApplied(Vec<Finding>),
}

/// Where a submission is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// The iteration, once it is one.
    pub(crate) iteration: Option<u64>,
    /// Done share of the measurement.
    pub(crate) fraction: f64,
    /// What is going on: the environment's words.
    pub(crate) message: String,
}

/// The client's end of a submission.
pub(crate) struct Waiting {
    pub(crate) result: oneshot::Receiver<Told>,
    pub(crate) progress: watch::Receiver<Progress>,
}

/// Why something cannot be taken on.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The client's quota is used up.
    Quota { what: &'static str, limit: u64 },
    /// So many calls of the client wait already.
    Pending { limit: usize },
    /// The run takes nothing more.
    Over,
}

impl Desk {
    /// The desk of the run in `folder`.
    pub fn new(folder: &Path, quotas: Quotas) -> Arc<Self> {
        Arc::new(Self {
            folder: folder.to_owned(),
            quotas,
            state: Mutex::default(),
            changed: Condvar::new(),
            version: watch::Sender::new(0),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes everybody who waits for another state.
    fn announce(&self) {
        self.changed.notify_all();
        self.version.send_modify(|version| *version += 1);
    }

    /// Takes in an event of the run: how far it is, and what is left of its budget.
    pub fn event(&self, event: &Event) {
        let mut state = self.state();
        state.budget.gone = event.at;
        match &event.kind {
            EventKind::RunStarted { evaluations, seconds, dollars, tokens, resumed, .. } => {
                state.budget = Budget {
                    evaluations: *evaluations,
                    seconds: *seconds,
                    dollars: *dollars,
                    tokens: *tokens,
                    gone: event.at,
                };
                state.phase = match evaluations {
                    // There is nothing to search, and perhaps something to confirm.
                    Some(limit) if resumed >= limit => Phase::Confirming,
                    _ => Phase::Starting(Start::Reference),
                };
            }
            EventKind::ConfirmationStarted { .. } | EventKind::RecordStarted { .. } => {
                state.phase = Phase::Confirming;
            }
            EventKind::Progress { iteration: Some(iteration), fraction, message } => {
                if let Some(running) = state.running.get(iteration) {
                    running.progress.send_replace(Progress {
                        iteration: Some(*iteration),
                        fraction: *fraction,
                        message: message.clone(),
                    });
                }
                return;
            }
            _ => return,
        }
        drop(state);
        self.announce();
    }

    /// The run is over: everybody who still waits for something of it is told so.
    pub fn close(&self, result: Result<&Summary, String>) {
        let mut state = self.state();
        let at_start = matches!(state.phase, Phase::Starting(_)) && result.is_err();
        let (summary, error) = match result {
            Ok(summary) => (Some(summary.clone()), None),
            Err(error) => (None, Some(error)),
        };
        state.phase = Phase::Over(Arc::new(End { summary, error, at_start }));
        // Whoever waits for an answer learns that there will be none.
        state.checks.clear();
        state.submissions.clear();
        state.running.clear();
        drop(state);
        self.announce();
    }

    /// Says that the run waits until another process leaves its folder.
    pub fn wait_for_others(&self) {
        self.state().phase = Phase::Starting(Start::Others);
        self.announce();
    }

    /// Blocks until there is nothing to finish without clients: no submission is queued or under
    /// way and the search asks for the next one, or never began, or the run is over. A search that
    /// is over is confirmed before that.
    pub fn settle(&self) {
        let mut state = self.state();
        while !state.is_settled() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The run's folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// Tells when the state is another one.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.state().phase.clone()
    }

    pub(crate) fn budget(&self) -> Budget {
        self.state().budget.clone()
    }

    pub(crate) fn task(&self) -> Option<Arc<EnvironmentSpec>> {
        self.state().task.clone()
    }

    /// The proposals that wait for a change, oldest first.
    pub(crate) fn open(&self) -> Vec<Arc<ProposalRequest>> {
        self.state().open.values().cloned().collect()
    }

    /// How many proposals were opened so far, and the latest of them, which may be filled by now.
    pub(crate) fn opened(&self) -> (u64, Option<Arc<ProposalRequest>>) {
        self.state().opened.clone()
    }

    /// The parent that a client was shown last. Sessions come and go; this stays.
    pub(crate) fn shown(&self, client: &str) -> Option<ProgramId> {
        self.state().shown.get(client).cloned()
    }

    pub(crate) fn show(&self, client: &str, parent: &ProgramId) {
        self.state().shown.insert(client.to_owned(), parent.clone());
    }

    /// What a client has used.
    pub(crate) fn used(&self, client: &str) -> Used {
        self.state().clients.get(client).copied().unwrap_or_default()
    }

    /// Has a program looked over as soon as a proposal is open.
    pub(crate) fn check(
        &self,
        client: &str,
        program: Program,
    ) -> Result<oneshot::Receiver<Result<Check, Error>>, Refused> {
        let mut state = self.state();
        state.takes_work_of(client)?;
        let used = state.clients.entry(client.to_owned()).or_default();
        used.check(&self.quotas)?;
        let (reply, answer) = oneshot::channel();
        state.checks.push_back(CheckJob { client: client.to_owned(), program, reply });
        drop(state);
        self.announce();
        Ok(answer)
    }

    /// Hands a change to the next proposal.
    pub(crate) fn submit(
        &self,
        client: &str,
        change: Change,
        base: ProgramId,
        applied: Result<Program, Vec<Finding>>,
        idea: Idea,
    ) -> Result<Waiting, Refused> {
        let mut state = self.state();
        state.takes_work_of(client)?;
        let used = state.clients.entry(client.to_owned()).or_default();
        used.submit(&self.quotas)?;
        let idea = Idea { details: used.details(), ..idea };
        let (sender, result) = oneshot::channel();
        let (progress_sender, progress) = watch::channel(Progress::default());
        let client = client.to_owned();
        let reply = Running { client: client.clone(), result: sender, progress: progress_sender };
        let submission = Submission { client, change, base, applied, idea, reply };
        state.submissions.push_back(submission);
        drop(state);
        self.announce();
        Ok(Waiting { result, progress })
    }
}
