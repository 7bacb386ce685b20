//! The run's side of the desk: a mutator whose ideas come from clients.
//!
//! A submission is kept by the host as what somebody outside answered, before anything is made of
//! it. A run that was cut off while it measured so goes on with that submission when it is resumed,
//! and a run can be replayed without its clients.

use super::{Desk, MUTATOR, Phase, Progress, State, Told};
use forerunner_core::{
    Answer, Answered, Call, Change, Cost, EnvironmentSpec, Error, Finding, Host, Idea, Mutator,
    Outcome, Program, ProgramId, Proposal, ProposalRequest, Result,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

/// How often a lane that waits asks whether it still should.
const ASK: Duration = Duration::from_millis(50);

impl Mutator for Desk {
    /// Waits until a client submits a change, and has programs checked meanwhile.
    fn propose(&self, request: &ProposalRequest, host: &dyn Host) -> Result<Proposal> {
        let parent = &request.parent.id;
        if let Some(proposal) = Kept::recall(request, host)? {
            self.take_up(request, &proposal.idea);
            return Ok(proposal);
        }
        let _open = Open::new(self, request);
        loop {
            if host.cancelled() {
                return Err(Error::Cancelled);
            }
            let mut state = self.state();
            if let Some(job) = state.take_check() {
                drop(state);
                // A client that has gone needs no answer.
                drop(job.reply.send(host.check(&job.program)));
                continue;
            }
            let Some(submission) = state.take_for(parent) else {
                let waited = self.changed.wait_timeout(state, ASK);
                drop(waited.unwrap_or_else(PoisonError::into_inner));
                continue;
            };
            let (program, base) = (submission.applied.clone().ok(), submission.base.clone());
            match change_for(parent, submission.change, submission.base, submission.applied) {
                Ok(change) => {
                    let idea = based_on(submission.idea, &base, parent);
                    let kept = Kept { parent: parent.clone(), change, program, idea };
                    let iteration = Some(request.iteration);
                    let started = Progress { iteration, ..Progress::default() };
                    submission.reply.progress.send_replace(started);
                    state.running.insert(request.iteration, submission.reply);
                    drop(state);
                    return kept.remember(request, host);
                }
                Err(findings) => {
                    if let Some(used) = state.clients.get_mut(&submission.client) {
                        used.submissions = used.submissions.saturating_sub(1);
                    }
                    drop(state);
                    drop(submission.reply.result.send(Told::NotApplied(findings)));
                    self.announce();
                }
            }
        }
    }

    fn observe(&self, outcome: &Outcome) -> Result<()> {
        let mut state = self.state();
        match state.running.remove(&outcome.iteration) {
            Some(running) => {
                drop(running.result.send(Told::Complete(Box::new(outcome.clone()))));
            }
            None if state.recalled.remove(&outcome.iteration) => {}
            // From the store, when a run is resumed.
            None => {
                let client = outcome.idea.model.clone();
                state.clients.entry(client).or_default().remember(&outcome.idea.details);
            }
        }
        drop(state);
        self.announce();
        Ok(())
    }
}

impl Desk {
    /// Notes that the search begins with a submission of an earlier session.
    fn take_up(&self, request: &ProposalRequest, idea: &Idea) {
        let mut state = self.state();
        state.begin(request);
        state.clients.entry(idea.model.clone()).or_default().remember(&idea.details);
        state.recalled.insert(request.iteration);
        drop(state);
        self.announce();
    }
}

/// Keeps with an idea which program its author had in mind, where that is not the parent: the gain
/// that was expected is then about something else than the gain that is measured.
fn based_on(mut idea: Idea, base: &ProgramId, parent: &ProgramId) -> Idea {
    if base != parent {
        if !idea.details.is_object() {
            idea.details = serde_json::json!({});
        }
        if idea.details["base"].is_null() {
            idea.details["base"] = base.0.clone().into();
        }
    }
    idea
}

/// A change against the parent is taken as it is. One against another program becomes a complete
/// program: parents are chosen by the selector, and what a child is made of is the client's affair.
fn change_for(
    parent: &ProgramId,
    change: Change,
    base: ProgramId,
    applied: Result<Program, Vec<Finding>>,
) -> Result<Change, Vec<Finding>> {
    if base == *parent { Ok(change) } else { applied.map(Change::Program) }
}

/// A submission as the host keeps it.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// The parent that the change is against.
    parent: ProgramId,
    change: Change,
    /// What came of it; `None` when it does not apply.
    program: Option<Program>,
    idea: Idea,
}

impl Kept {
    fn call(request: &ProposalRequest) -> Call {
        Call {
            model: MUTATOR.to_owned(),
            purpose: "submission".to_owned(),
            parameters: BTreeMap::new(),
            messages: Vec::new(),
            seed: request.seed,
            ordinal: 0,
        }
    }

    /// Keeps the submission for this proposal, and makes the proposal of it.
    fn remember(self, request: &ProposalRequest, host: &dyn Host) -> Result<Proposal> {
        let text = serde_json::to_string(&self).map_err(Error::failed)?;
        let outcome = Answered::Reply { text, cut: false };
        let answer = Answer { outcome, cost: Cost::default(), seconds: 0.0, attempts: 1 };
        host.remember(&Self::call(request), &answer)?;
        Ok(Proposal { change: self.change, idea: self.idea, cost: Cost::default() })
    }

    /// The proposal of the submission that was kept for this one. With several slots, a resumed run
    /// may offer another parent than before; then the whole program takes the change's place.
    fn recall(request: &ProposalRequest, host: &dyn Host) -> Result<Option<Proposal>> {
        let Some(Answer { outcome: Answered::Reply { text, .. }, .. }) =
            host.recall(&Self::call(request))?
        else {
            return Ok(None);
        };
        let Self { parent, change, program, idea } =
            serde_json::from_str(&text).map_err(Error::failed)?;
        let idea = based_on(idea, &parent, &request.parent.id);
        let change =
            if parent == request.parent.id { Some(change) } else { program.map(Change::Program) };
        Ok(change.map(|change| Proposal { change, idea, cost: Cost::default() }))
    }
}

impl State {
    /// The search began, and a proposal says what it is about.
    fn begin(&mut self, request: &ProposalRequest) {
        if matches!(self.phase, Phase::Starting(_)) {
            self.phase = Phase::Searching;
        }
        if self.task.is_none() {
            self.task = Some(Arc::new(EnvironmentSpec::clone(&request.task)));
        }
    }
}

/// A proposal is open while this lives.
struct Open<'a> {
    desk: &'a Desk,
    iteration: u64,
}

impl<'a> Open<'a> {
    fn new(desk: &'a Desk, request: &ProposalRequest) -> Self {
        let mut state = desk.state();
        state.begin(request);
        let request = Arc::new(request.clone());
        state.opened = (state.opened.0 + 1, Some(Arc::clone(&request)));
        let iteration = request.iteration;
        state.open.insert(iteration, request);
        drop(state);
        desk.announce();
        Self { desk, iteration }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.desk.state().open.remove(&self.iteration);
        self.desk.announce();
    }
}
