//! What each tool does. Everything that answers is in [`crate::pages`].

use super::{
    Answer, Called, Complaint, Server,
    find::{Prepared, digest, made, objectives},
};
use crate::{
    desk::{Progress, Told, quota_left},
    inputs::{CheckInput, HistoryInput, Nothing, ProgramInput, Show, SubmitInput, TelemetryInput},
    pages, text,
};
use forerunner_core::{Cost, Error, Objectives};
use forerunner_runtime::lineage::{account, best};
use std::fmt::Write as _;

/// Points of a curve that are shown, unless asked for otherwise, and at most.
const POINTS: (usize, usize) = (50, 500);
/// Attempts that are listed, unless asked for otherwise, and at most.
const ATTEMPTS: (usize, usize) = (30, 200);

impl Server {
    pub(super) async fn brief(&self, call: &Called<'_>, _input: Nothing) -> Answer {
        let task = match self.desk.task() {
            Some(task) => task,
            // The first proposal brings it.
            None => {
                self.offer(call).await?;
                self.desk.task().ok_or_else(|| self.over())?
            }
        };
        Ok(pages::brief(&task) + "\n## What is left\n\n" + &self.left(call)?)
    }

    pub(super) async fn parent(&self, call: &Called<'_>, _input: Nothing) -> Answer {
        let offer = self.offer(call).await?;
        self.desk.show(&self.client(call.context), &offer.parent.id);
        Ok(pages::parent(&offer))
    }

    pub(super) fn program(&self, call: &Called<'_>, input: &ProgramInput) -> Answer {
        let store = self.store()?;
        let id = self.resolve(call, &store, &input.program)?;
        let made = made(&store, &id)?;
        let objectives = objectives(&store)?;
        let before = match &made.iteration.parent {
            Some(parent) => store.search_evaluation(parent)?,
            None => None,
        };
        let mut page = pages::standing(&objectives, &id, &made, before.as_ref());
        let program = store.program(&id)?.unwrap_or_default();
        match (input.show, &made.iteration.parent) {
            (Show::Metrics, _) => {}
            (Show::Source, _) => page += &text::source(&program),
            (Show::Diff, None) => page += "this is the reference program; it has no parent\n",
            (Show::Diff, Some(parent)) => {
                let parent = store.program(parent)?.unwrap_or_default();
                let diff = forerunner_report::diff(&parent, &program);
                page += &text::data("difference to the parent", &diff, text::MAX_SOURCE);
            }
        }
        Ok(page)
    }

    pub(super) async fn check(&self, call: &Called<'_>, input: CheckInput) -> Answer {
        self.begun(call).await;
        let prepared = self.prepare(call, &input.change).await?;
        let program = match prepared.applied {
            Ok(program) => program,
            Err(findings) => return Ok(pages::not_applied(&prepared.base, &findings)),
        };
        let id = program.id();
        let known = self.store()?.search_evaluation(&id)?;
        let client = self.client(call.context);
        let answer = self.desk.check(&client, program.clone()).map_err(|why| self.refused(why))?;
        let waiting = || "waiting for the check, which needs a free slot".to_owned();
        let check = match call.wait(answer, &waiting).await {
            Ok(Ok(check)) => check,
            Ok(Err(Error::Cancelled)) | Err(_) => return Err(self.over_or_stopping()),
            Ok(Err(error)) => {
                return Err(Complaint(format!(
                    "the check could not be done\nhint: try again; this is not about your \
                     program\n{}",
                    text::data("why", &error.to_string(), 1_000)
                )));
            }
        };
        let mut page = pages::checked(&id, &program, &check);
        if known.is_some() {
            page += "this very program was measured before in this run; submitting it again uses \
                     up an evaluation and tells nothing new\n";
        }
        Ok(page + &self.left(call)?)
    }

    pub(super) async fn submit(&self, call: &Called<'_>, input: SubmitInput) -> Answer {
        let client = self.client(call.context);
        let idea = input.idea.idea(&client)?;
        self.begun(call).await;
        let Prepared { change, base, applied } = self.prepare(call, &input.change).await?;
        let submitted = self.desk.submit(&client, change, base.clone(), applied, idea);
        let waiting = submitted.map_err(|why| self.refused(why))?;
        let (mut result, mut progress) = (waiting.result, waiting.progress);
        let told = loop {
            let about = || about_progress(&progress.borrow());
            let seen = progress.clone();
            let told = tokio::select! {
                told = &mut result => Some(told),
                () = call.wait(changed(seen), &about) => None,
            };
            if let Some(told) = told {
                break told;
            }
            let now = progress.borrow_and_update().clone();
            call.notify(about_progress(&now)).await;
        };
        match told {
            Ok(Told::Complete(outcome)) => {
                let store = self.store()?;
                let stored = store.iteration(outcome.iteration)?;
                let duplicate = stored.is_some_and(|one| one.iteration.duplicate);
                let objectives = objectives(&store)?;
                let mut page = pages::outcome(&objectives, &outcome, duplicate);
                let measured = !duplicate && !outcome.evaluation.metrics.is_empty();
                if let (Some(id), true) = (&outcome.program, measured) {
                    page += &digest(&store, &objectives, id)?;
                }
                page += &self.left(call)?;
                page += "next: `parent` shows the program that the search offers now\n";
                Ok(page)
            }
            Ok(Told::NotApplied(findings)) => Err(Complaint(pages::not_applied(&base, &findings))),
            Err(_) => Err(Complaint(format!(
                "the run ended before your submission was measured; one that was under way is measured \
                 when the run is resumed\n{}",
                self.over().0
            ))),
        }
    }

    pub(super) fn telemetry(&self, call: &Called<'_>, input: &TelemetryInput) -> Answer {
        let store = self.store()?;
        let id = self.resolve(call, &store, &input.program)?;
        let Some(name) = &input.series else {
            let series = store.search_series(&id)?;
            return Ok(digest(&store, &objectives(&store)?, &id)? + &pages::series_names(&series));
        };
        let points = input.points.unwrap_or(POINTS.0);
        if !(1..=POINTS.1).contains(&points) {
            return Err(Complaint(format!("`points` is {points}\nhint: give 1 to {}", POINTS.1)));
        }
        let series = store.search_series(&id)?;
        let Some((_, curve)) = series.iter().find(|(known, _)| known == name) else {
            return Err(Complaint(format!(
                "program {} has no curve `{}`\n{}",
                id.short(),
                text::line(name, 60),
                pages::series_names(&series)
            )));
        };
        let (from, to) = (input.from.unwrap_or(0), input.to.unwrap_or(u64::MAX));
        Ok(pages::curve(&id, name, curve, from..=to, points))
    }

    pub(super) fn history(&self, input: &HistoryInput) -> Answer {
        let last = input.last.unwrap_or(ATTEMPTS.0);
        if !(1..=ATTEMPTS.1).contains(&last) {
            return Err(Complaint(format!("`last` is {last}\nhint: give 1 to {}", ATTEMPTS.1)));
        }
        let store = self.store()?;
        Ok(pages::history(&store, &objectives(&store)?, last)?)
    }

    pub(super) fn status(&self, call: &Called<'_>, _input: Nothing) -> Answer {
        use crate::desk::Phase;
        let phase = match self.desk.phase() {
            Phase::Starting(start) => {
                return Ok(format!("state: starting; {}\n", start.words()) + &self.quota(call));
            }
            Phase::Over(end) => return Ok(self.ended(&end)),
            Phase::Searching => "searching",
            Phase::Confirming => "the budget is used up; the best are measured again",
        };
        let store = self.store()?;
        let account = account(&store)?;
        let objectives = account.objectives.clone().unwrap_or(Objectives(Vec::new()));
        let axes = match self.desk.task() {
            Some(task) if !task.frontier.is_empty() => task.frontier.clone(),
            _ => objectives.0.clone(),
        };
        let mut page = format!("state: {phase}\n");
        if let Some(best) = best(&store, &account)? {
            let made = made(&store, &best)?;
            let _ = writeln!(page, "best: {best}{}", pages::metrics(&objectives, &made.evaluation));
        }
        page += &pages::frontier(&store, &axes)?;
        Ok(page + &self.left(call)?)
    }

    /// What is left of budget and quota.
    fn left(&self, call: &Called<'_>) -> Result<String, Complaint> {
        let (mut used, mut spent) = (0, Cost::default());
        self.store()?.each_iteration(&mut |one| {
            used += u64::from(one.iteration.iteration > 0);
            spent += one.iteration.cost;
        })?;
        let budget = self.desk.budget();
        let mut page = format!(
            "evaluations of this run: {}\n",
            match budget.evaluations {
                Some(limit) =>
                    format!("{used} of {limit} used, {} left", limit.saturating_sub(used)),
                None => format!("{used} used, no limit on their number"),
            }
        );
        if let Some(seconds) = budget.seconds {
            let left = (seconds - budget.gone).max(0.0);
            let _ = writeln!(page, "wall time of this session: {left:.0} s of {seconds:.0} s left");
        }
        page += &pages::spent(&budget, &spent);
        Ok(page + &self.quota(call))
    }

    fn quota(&self, call: &Called<'_>) -> String {
        let client = self.client(call.context);
        let (used, quotas) = (self.desk.used(&client), self.desk.quotas());
        format!(
            "your submissions: {}\nyour checks: {}\n",
            quota_left(used.submissions, quotas.submissions),
            quota_left(used.checks, Some(quotas.checks))
        )
    }

    fn over_or_stopping(&self) -> Complaint {
        use crate::desk::Phase;
        match self.desk.phase() {
            Phase::Starting(_) | Phase::Searching => Complaint::new(
                "the run is stopping\nhint: what was measured is kept; it can be resumed",
            ),
            Phase::Confirming | Phase::Over(_) => self.over(),
        }
    }
}

/// Ends when the submission is somewhere else; never, when nobody will say so any more.
async fn changed(mut progress: tokio::sync::watch::Receiver<Progress>) {
    if progress.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn about_progress(progress: &Progress) -> String {
    match progress.iteration {
        None => "waiting for a free slot".to_owned(),
        Some(iteration) if progress.message.is_empty() => {
            format!("iteration {iteration}: being checked and measured")
        }
        Some(iteration) => {
            let percent = 100.0 * progress.fraction;
            format!("iteration {iteration}: {percent:.0} % {}", progress.message)
        }
    }
}
