//! Mutators: what proposes a child program from a parent.

use crate::{
    Cause, EnvironmentSpec, Evaluation, Finding, Host, Member, Program, ProgramId, Result,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Proposes child programs.
pub trait Mutator: Send + Sync {
    /// Proposes one child. Every random choice derives from `request.seed`.
    ///
    /// # Errors
    /// When no proposal can be made; the iteration is recorded as failed and the run goes on.
    fn propose(&self, request: &ProposalRequest, host: &dyn Host) -> Result<Proposal>;

    /// Tries to mend a proposal that failed its check. `None` means: give up, which is the
    /// default.
    ///
    /// # Errors
    /// As for [`Mutator::propose`].
    fn repair(&self, request: &RepairRequest, host: &dyn Host) -> Result<Option<Proposal>> {
        let _ = (request, host);
        Ok(None)
    }

    /// Learns what became of a proposal. Called once per proposal of this mutator in a
    /// reproducible order, and again from the store when a run is resumed.
    ///
    /// # Errors
    /// When the outcome cannot be taken in; the run goes on and says so.
    fn observe(&self, outcome: &Outcome) -> Result<()> {
        let _ = outcome;
        Ok(())
    }
}

/// A boxed mutator is a mutator.
impl<T: Mutator + ?Sized> Mutator for Box<T> {
    fn propose(&self, request: &ProposalRequest, host: &dyn Host) -> Result<Proposal> {
        (**self).propose(request, host)
    }
    fn repair(&self, request: &RepairRequest, host: &dyn Host) -> Result<Option<Proposal>> {
        (**self).repair(request, host)
    }
    fn observe(&self, outcome: &Outcome) -> Result<()> {
        (**self).observe(outcome)
    }
}

/// A shared mutator is a mutator.
impl<T: Mutator + ?Sized> Mutator for std::sync::Arc<T> {
    fn propose(&self, request: &ProposalRequest, host: &dyn Host) -> Result<Proposal> {
        (**self).propose(request, host)
    }
    fn repair(&self, request: &RepairRequest, host: &dyn Host) -> Result<Option<Proposal>> {
        (**self).repair(request, host)
    }
    fn observe(&self, outcome: &Outcome) -> Result<()> {
        (**self).observe(outcome)
    }
}

/// What a mutator gets to work with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProposalRequest {
    /// Number of this proposal within the run, from 1.
    pub iteration: u64,
    /// The seed of all random choices of this proposal.
    pub seed: u64,
    /// The environment in words and objectives. `reference` is left empty: the parent is here.
    pub task: EnvironmentSpec,
    /// The program to change.
    pub parent: Member,
    /// Other programs worth borrowing from, best first.
    pub inspirations: Vec<Member>,
    /// Recent relatives that failed or were not believed, with their causes.
    #[serde(default)]
    pub failures: Vec<Attempt>,
    /// The island that the child will belong to.
    #[serde(default)]
    pub island: u32,
    /// Children since the best program was found, over the whole run.
    #[serde(default)]
    pub stagnant: u64,
}

/// An attempt that came to nothing, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The idea that was tried.
    pub idea: Idea,
    /// Where it failed; [`Cause::Verification`] when it was measured and not believed.
    pub cause: Cause,
    /// The reasons.
    pub findings: Vec<Finding>,
}

/// A proposal that failed its check, to be mended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RepairRequest {
    /// The original request.
    pub request: ProposalRequest,
    /// What was proposed.
    pub proposal: Proposal,
    /// The program that came of it, when the change applied.
    pub program: Option<Program>,
    /// Where it failed.
    pub cause: Cause,
    /// The diagnostics.
    pub findings: Vec<Finding>,
    /// Which repair this is, from 1.
    pub attempt: u32,
}

/// A change to the parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "snake_case")]
pub enum Change {
    /// Search/replace blocks in the form the workbench documents.
    Patch(String),
    /// Whole files that replace or join the parent's files.
    Files(BTreeMap<String, String>),
    /// A complete program.
    Program(Program),
}

/// A closed range of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What a mutator has in mind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Idea {
    /// One line for people.
    pub summary: String,
    /// Relative gain in the leading objective that the mutator expects: 0.1 is a tenth better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_gain: Option<Interval>,
    /// Why it should help here, in a few sentences.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mechanism: String,
    /// What would show that it does not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub refutation: String,
    /// How it came about, for statistics: `template`, `meta`, `agent`; empty where a mutator knows
    /// only one way.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stage: String,
    /// Whose idea it is, where one mutator asks several: a model's or a client's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// Anything the mutator wants to find again in [`Outcome`], such as its strategy's state.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub details: serde_json::Value,
}

/// What a proposal cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Tokens sent to models.
    #[serde(default)]
    pub tokens_in: u64,
    /// Tokens received from models.
    #[serde(default)]
    pub tokens_out: u64,
    /// Money in US dollars.
    #[serde(default)]
    pub dollars: f64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.tokens_in += other.tokens_in;
        self.tokens_out += other.tokens_out;
        self.dollars += other.dollars;
    }
}

/// A suggestion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// What to do to the parent.
    pub change: Change,
    /// Why.
    pub idea: Idea,
    /// What it cost to come up with.
    #[serde(default)]
    pub cost: Cost,
}

/// What became of a proposal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Number of the proposal within the run.
    pub iteration: u64,
    /// The idea, as proposed.
    pub idea: Idea,
    /// The parent's identity.
    pub parent: ProgramId,
    /// The parent's evaluation.
    pub parent_evaluation: Evaluation,
    /// The child's identity, when there was one.
    pub program: Option<ProgramId>,
    /// The child's evaluation; a failed check is a failed evaluation.
    pub evaluation: Evaluation,
}
