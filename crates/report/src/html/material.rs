//! What a page is made of, read from a run's store.
//!
//! Of every evaluation only what plots need is kept; ideas, sources and telemetry are read for the
//! few programs that are shown, so that a run of 100,000 evaluations fits into little memory.

use super::{
    failures::Failures,
    search::{LogTally, MAX_AXES, Search, Tally, Trial},
};
use crate::ideas::{ModelUse, models};
use forerunner_core::{Evaluation, Objective, Objectives, Program, ProgramId, Slice};
use forerunner_runtime::{
    config::RunFile,
    event::{EndReason, EventKind, Summary},
    lineage::{Account, Made, changes},
    store::{Store, StoreError},
};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that a page shows.
pub(crate) struct Material {
    pub(crate) account: Account,
    /// The environment in a sentence.
    pub(crate) about: String,
    /// Folder of the run, as the run knew it.
    pub(crate) run: String,
    pub(crate) objectives: Objectives,
    /// Axes of the frontier: the environment's, or else its objectives.
    pub(crate) frontier_axes: Vec<Objective>,
    /// What the values of a [`Trial`] are: objectives, then axes that are none.
    pub(crate) axes: Vec<Objective>,
    pub(crate) state: State,
    /// The run's own summary, or what it would be if the run ended now.
    pub(crate) summary: Summary,
    pub(crate) config: RunFile,
    /// Name, track, fingerprint and reference of the environment.
    pub(crate) identity: String,
    pub(crate) search_seed: u64,
    /// Seeds and slice of the confirming measurements.
    pub(crate) confirm_seeds: Vec<u64>,
    pub(crate) trials: Vec<Trial>,
    pub(crate) reference: Option<Profile>,
    /// The confirmed winner, or else the best of the search; `None` while there is no better
    /// program than the reference.
    pub(crate) winner: Option<Profile>,
    /// The way from the reference to the winner.
    pub(crate) steps: Vec<Made>,
    pub(crate) failures: Failures,
    pub(crate) mutators: BTreeMap<String, Tally>,
    /// What models were asked and cost; without the gains of their ideas.
    pub(crate) models: Vec<ModelUse>,
    pub(crate) log: LogTally,
}

/// Where the run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Ended(EndReason),
    /// The log has no end: it still runs, or was killed.
    Open,
}

/// A program with its evaluation on the search's slice, curves included.
pub(crate) struct Profile {
    pub(crate) id: ProgramId,
    pub(crate) program: Program,
    pub(crate) evaluation: Evaluation,
}

impl Material {
    /// Reads all that a page needs from the store of a run, whether it ended, goes on or was
    /// killed.
    ///
    /// # Errors
    /// When the store is damaged.
    pub(crate) fn read(store: &Store) -> Result<Self, StoreError> {
        let mut account = Account::default();
        let mut log = LogTally::default();
        let mut failures = Failures::default();
        let (mut about, mut run) = (String::new(), store.folder().display().to_string());
        let (mut frontier_axes, mut state) = (Vec::new(), State::Open);
        store.each_event(&mut |event| {
            account.take_in(&event);
            log.take_in(&event);
            failures.take_in(&event);
            match event.kind {
                EventKind::RunStarted { run: folder, summary, frontier, .. } => {
                    (about, run, frontier_axes, state) = (summary, folder, frontier, State::Open);
                }
                EventKind::RecordMeasured { .. } => log.confirmations += 1,
                EventKind::RunFinished(summary) => state = State::Ended(summary.reason),
                _ => {}
            }
        })?;
        let objectives = account.objectives.clone().unwrap_or(Objectives(Vec::new()));
        if frontier_axes.is_empty() {
            frontier_axes.clone_from(&objectives.0);
        }
        let mut axes = objectives.0.clone();
        for axis in &frontier_axes {
            if axes.iter().all(|known| known.metric != axis.metric) {
                axes.push(axis.clone());
            }
        }
        axes.truncate(MAX_AXES);

        let mut search = Search::new(&objectives, &frontier_axes, &axes, &log);
        store.each_iteration(&mut |stored| search.take_in(stored))?;
        let Search { trials, mutators, summary: provisional, frontier, .. } = search;
        let provisional = Summary {
            frontier: frontier.iter().map(|(member, _)| member.clone()).collect(),
            run: run.clone(),
            seconds: log.seconds,
            confirmation: account.summary.as_ref().and_then(|s| s.confirmation.clone()),
            ..provisional
        };
        let summary = match (&account.summary, state) {
            (Some(summary), State::Ended(_)) => summary.clone(),
            _ => provisional,
        };

        let reference = store.reference()?;
        let better = objectives.compare(&summary.best_metrics, &summary.reference).is_lt();
        let best = Some(&summary.best).filter(|best| better && !best.0.is_empty());
        let winner = account.confirmed().or(best).cloned();
        let steps = match &winner {
            Some(winner) => changes(store, winner)?,
            None => Vec::new(),
        };
        let slice = summary.confirmation.as_ref().map_or(Slice::Val, |claim| claim.slice);
        let mut confirm_seeds = Vec::new();
        for one in store.confirmations(slice)? {
            log.confirmations += 1;
            if !confirm_seeds.contains(&one.seed) {
                confirm_seeds.push(one.seed);
            }
        }
        Ok(Self {
            about,
            run,
            frontier_axes,
            axes,
            state,
            config: store.config()?,
            identity: store.meta("environment")?.unwrap_or_default(),
            search_seed: store.search_seed()?,
            confirm_seeds,
            trials,
            reference: profile(store, reference)?,
            winner: profile(store, winner)?,
            steps,
            failures,
            mutators,
            models: models(&store.calls()?, &[]),
            log,
            objectives,
            account,
            summary,
        })
    }

    /// Where an axis is among the values of a trial.
    pub(crate) fn axis(&self, metric: &str) -> Option<usize> {
        self.axes.iter().position(|axis| axis.metric == metric)
    }

    /// Iterations that made the winner, the reference among them.
    pub(crate) fn lineage(&self) -> BTreeSet<u64> {
        let steps = self.steps.iter().map(|step| step.stored.iteration.iteration);
        std::iter::once(0).chain(steps).collect()
    }
}

fn profile(store: &Store, id: Option<ProgramId>) -> Result<Option<Profile>, StoreError> {
    let Some(id) = id else { return Ok(None) };
    let Some(mut evaluation) = store.search_evaluation(&id)? else { return Ok(None) };
    evaluation.telemetry.series = store.search_series(&id)?.into_iter().collect();
    evaluation.evidence = store.search_evidence(&id)?;
    Ok(Some(Profile { program: store.program(&id)?.unwrap_or_default(), evaluation, id }))
}
