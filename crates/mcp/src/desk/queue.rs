//! Who is next, and what is taken on at all.

use super::{CheckJob, Phase, Refused, State, Submission};
use forerunner_core::ProgramId;

/// Most calls of one client that may wait.
const MOST_PENDING: usize = 4;

impl State {
    /// Whether another check or submission of a client is taken on. Before the search begins it is
    /// not known what the client used in earlier sessions.
    pub(super) fn takes_work_of(&self, client: &str) -> Result<(), Refused> {
        if !matches!(self.phase, Phase::Searching) {
            return Err(Refused::Over);
        }
        let checks = self.checks.iter().map(|job| &job.client);
        let queued = self.submissions.iter().map(|submission| &submission.client);
        let running = self.running.values().map(|running| &running.client);
        let pending = checks.chain(queued).chain(running).filter(|one| *one == client).count();
        if pending >= MOST_PENDING {
            return Err(Refused::Pending { limit: MOST_PENDING });
        }
        Ok(())
    }

    /// Whether nothing is to be finished without clients.
    pub(super) fn is_settled(&self) -> bool {
        let idle = self.submissions.is_empty() && self.running.is_empty();
        match self.phase {
            Phase::Over(_) => true,
            Phase::Confirming => false,
            Phase::Starting(_) => idle,
            // With no proposal open, the search has not said yet whether it wants another change
            // or is over.
            Phase::Searching => idle && !self.open.is_empty(),
        }
    }

    /// The submission that suits a proposal: one that was made for its parent, else one that was
    /// made for none of those that are open. Clients have their turns, each with its oldest.
    pub(super) fn take_for(&mut self, parent: &ProgramId) -> Option<Submission> {
        let open = &self.open;
        let is_for_another =
            |submission: &Submission| open.values().any(|other| other.parent.id == submission.base);
        let first = |suits: &dyn Fn(&Submission) -> bool| {
            let all = self.submissions.iter().enumerate();
            let suiting = all.filter(|(_, submission)| suits(submission));
            suiting.min_by_key(|(index, one)| (self.last_turn(&one.client), *index))
        };
        let (index, _) = first(&|submission| submission.base == *parent)
            .or_else(|| first(&|submission| !is_for_another(submission)))?;
        let submission = self.submissions.remove(index)?;
        self.note_turn(&submission.client);
        Some(submission)
    }

    /// The check that is next.
    pub(super) fn take_check(&mut self) -> Option<CheckJob> {
        let all = self.checks.iter().enumerate();
        let (index, _) = all.min_by_key(|(index, job)| (self.last_turn(&job.client), *index))?;
        let job = self.checks.remove(index)?;
        self.note_turn(&job.client);
        Some(job)
    }

    fn last_turn(&self, client: &str) -> u64 {
        self.turns.get(client).copied().unwrap_or(0)
    }

    fn note_turn(&mut self, client: &str) {
        let now = self.turns.values().max().map_or(1, |last| last + 1);
        self.turns.insert(client.to_owned(), now);
    }
}
