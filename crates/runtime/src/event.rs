//! Events: the single output of a run. Terminal, HTML, JSON and store render these.

mod call;
mod record;

pub use call::Called;
pub use record::{Compared, DisguisePart, Record, RecordPart, RecordPlan, ReplayPart, VaultPart};

use crate::config::Level;
use forerunner_core::{
    Cause, Cost, Evaluation, Finding, Idea, Metrics, Objective, Objectives, ProgramId, Slice,
};
use forerunner_stats::Estimate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Seconds since the run (or its resumption) started.
    pub at: f64,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// The run began, or was taken up again.
    RunStarted {
        /// Folder of the run.
        run: String,
        /// Environment name.
        environment: String,
        /// Track within it.
        track: String,
        /// One sentence about the environment.
        summary: String,
        /// What is improved.
        objectives: Objectives,
        /// Axes of the frontier.
        frontier: Vec<Objective>,
        /// Seed of the run.
        seed: u64,
        /// Measuring slots.
        slots: usize,
        /// Evaluations the budget allows, the reference excluded; `None` is unlimited.
        evaluations: Option<u64>,
        /// Wall seconds the search may take; `None` is unlimited.
        seconds: Option<f64>,
        /// US dollars that mutators may spend; `None` is unlimited.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dollars: Option<f64>,
        /// Tokens that mutators may send and receive; `None` is unlimited.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tokens: Option<u64>,
        /// Iterations already in the store, when resumed.
        resumed: u64,
    },
    /// The reference program was measured.
    Reference {
        /// Its identity.
        program: ProgramId,
        /// Its evaluation.
        evaluation: Evaluation,
    },
    /// A generation begins.
    GenerationStarted {
        /// Its number, from 1.
        generation: u64,
        /// How many children it will have.
        children: usize,
    },
    /// A mutator asked a model.
    Called(Called),
    /// A mutator made a proposal.
    Proposed {
        /// Its number within the run, from 1.
        iteration: u64,
        /// Which mutator.
        mutator: String,
        /// The parent.
        parent: ProgramId,
        /// The idea.
        idea: Idea,
    },
    /// A proposal failed its check; it may be repaired.
    CheckFailed {
        /// The proposal.
        iteration: u64,
        /// Which check this was: 0 is the proposal itself, 1 the first repair.
        attempt: u32,
        /// The stage that refused it.
        cause: Cause,
        /// The reasons.
        findings: Vec<Finding>,
        /// What became of it.
        #[serde(default)]
        repair: Repair,
    },
    /// An iteration is complete: measured, rejected or failed.
    Evaluated(Box<Evaluated>),
    /// A program is better than every one before.
    NewBest {
        /// The iteration that found it.
        iteration: u64,
        /// Its identity.
        program: ProgramId,
        /// Its metrics.
        metrics: Metrics,
    },
    /// A generation is complete.
    GenerationFinished {
        /// Its number.
        generation: u64,
        /// The best so far.
        best: ProgramId,
    },
    /// A worker process died or was killed; it cost what it was doing.
    WorkerLost {
        /// Which worker, for example `measure-0`.
        worker: String,
        /// How it ended.
        reason: String,
    },
    /// Something the operator should know.
    Warning {
        /// What.
        message: String,
    },
    /// How far a piece of work is. Live only: never stored.
    Progress {
        /// The iteration at work; `None` for the reference.
        iteration: Option<u64>,
        /// Done share, in `0.0..=1.0`.
        fraction: f64,
        /// What is going on.
        message: String,
    },
    /// A second has passed. Live only: never stored.
    Tick,
    /// Finalists are measured on fresh seeds.
    ConfirmationStarted {
        /// The programs, best first; the reference runs beside each.
        programs: Vec<ProgramId>,
        /// Fresh seeds per program.
        seeds: usize,
        /// The held-out slice that is read.
        slice: Slice,
    },
    /// One confirming measurement is complete.
    Confirmed {
        /// The program.
        program: ProgramId,
        /// The fresh seed.
        seed: u64,
        /// The result.
        evaluation: Evaluation,
    },
    /// A confirming measurement failed for a reason that is not the program's: the worker was
    /// lost, or the environment could not measure. It counts as made, and is made once more.
    MeasurementRepeated {
        /// The program.
        program: ProgramId,
        /// The seed.
        seed: u64,
        /// The slice.
        slice: Slice,
        /// What happened.
        reason: String,
    },
    /// A program is put to the tests of a record, or an attempt that was cut off is taken up.
    RecordStarted {
        /// Program, seeds, disguise.
        plan: RecordPlan,
        /// Measurements that are missing at most; a part that refuses saves the later ones.
        missing: usize,
    },
    /// One measurement for a record is complete.
    RecordMeasured {
        /// The attempt it belongs to.
        attempt: u64,
        /// The part of it.
        part: RecordPart,
        /// The program.
        program: ProgramId,
        /// The seed.
        seed: u64,
        /// The secret number, where the data were disguised.
        disguise: Option<u64>,
        /// Digest of all that the program produced, where the environment gives one.
        digest: Option<String>,
        /// The result.
        evaluation: Evaluation,
    },
    /// All measurements of a part are there, and were judged.
    RecordJudged {
        /// The attempt.
        attempt: u64,
        /// The part.
        part: RecordPart,
        /// Whether it holds.
        holds: bool,
    },
    /// A replay is over.
    Replayed {
        /// Folder of the run that was repeated.
        recorded: String,
        /// Iterations that were compared.
        iterations: u64,
        /// Calls that were answered from the recording.
        calls: u64,
    },
    /// The run is over, or stopped and resumable.
    RunFinished(Box<Summary>),
}

impl EventKind {
    /// Whether the event is of the moment and does not belong into the log.
    pub fn is_live_only(&self) -> bool {
        matches!(self, Self::Progress { .. } | Self::Tick)
    }
}

/// What became of a proposal that failed its check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repair {
    /// The mutator mended it; the next check is of the mended one.
    Made,
    /// The mutator gave up: the evaluation has the same findings.
    #[default]
    GivenUp,
    /// The mutator was not asked: the repairs, or the money, were used up.
    NotAsked,
}

/// One complete iteration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Number within the run, from 1.
    pub iteration: u64,
    /// Generation it belongs to (steady-state runs count generations by their size).
    pub generation: u64,
    /// The mutator.
    pub mutator: String,
    /// The island.
    pub island: u32,
    /// The parent.
    pub parent: ProgramId,
    /// The child, when the change applied.
    pub program: Option<ProgramId>,
    /// The idea.
    pub idea: Idea,
    /// Repairs made before the check passed or was given up.
    pub repairs: u32,
    /// The outcome, without curves (they are in the store).
    pub evaluation: Evaluation,
    /// Whether the program is now on the frontier.
    pub on_frontier: bool,
    /// Whether the same program was measured before and not measured again.
    #[serde(default)]
    pub duplicate: bool,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The budget of evaluations is used up.
    Evaluations,
    /// The budget of wall time is used up.
    Time,
    /// The budget of money is used up.
    Dollars,
    /// The budget of tokens is used up.
    Tokens,
    /// No mutator makes proposals any more.
    Mutators,
    /// The operator asked for an end.
    Interrupted,
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Why it ended.
    pub reason: EndReason,
    /// Folder of the run.
    pub run: String,
    /// Complete iterations.
    pub iterations: u64,
    /// Accepted evaluations among them.
    pub accepted: u64,
    /// Iterations that came to nothing, by cause.
    pub failures: BTreeMap<String, u64>,
    /// The reference's metrics on the search slice.
    pub reference: Metrics,
    /// The best program found, by the search slice.
    pub best: ProgramId,
    /// Its metrics on the search slice.
    pub best_metrics: Metrics,
    /// Programs on the frontier with their metrics, by the first axis.
    pub frontier: Vec<(ProgramId, Metrics)>,
    /// What fresh seeds say.
    pub confirmation: Option<Confirmation>,
    /// Share of the wall time after warm-up in which the measuring slots were busy.
    pub slot_use: f64,
    /// Wall seconds of the search.
    pub seconds: f64,
    /// What mutators spent on models.
    #[serde(default)]
    pub cost: Cost,
    /// The run that this one repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<String>,
}

/// What fresh seeds on a held-out slice say of the finalists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Confirmation {
    /// The slice that was read.
    pub slice: Slice,
    /// The reference on the same seeds.
    pub reference: Vec<Metrics>,
    /// The finalists in the order of the claim: the winner first.
    pub finalists: Vec<Finalist>,
    /// What was asked for.
    #[serde(default)]
    pub level: Level,
    /// The winner's attempt at a record; `None` when none was asked for, or no claim holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Record>,
}

/// One finalist.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finalist {
    /// The program.
    pub program: ProgramId,
    /// Metrics per fresh seed; a failed measurement is empty.
    pub metrics: Vec<Metrics>,
    /// The leading objective that was compared.
    pub metric: String,
    /// Mean of ln(reference / program) over paired seeds (or of ln(program / reference) for an
    /// objective to maximise): positive is better. `None` when a measurement lacks the metric.
    pub gain: Option<Estimate>,
    /// Whether the gain's interval excludes zero and every seed has the metric.
    pub holds: bool,
}
