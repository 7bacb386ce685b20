//! Environments: scientific problems that measure programs.

use crate::{
    DataReport, DataRequest, Evaluation, Finding, Host, Metrics, Objective, Objectives, Program,
    Result,
};
use serde::{Deserialize, Serialize};

/// A scientific problem: objectives, a reference program, and how a program is measured.
///
/// Environments are trusted code; programs are not. An environment that runs native programs
/// does so through the sandbox and takes no metric from their output.
pub trait Environment: Send + Sync {
    /// What this environment, with its configuration, is about. Constant for the life of `self`.
    ///
    /// # Errors
    /// When the configuration cannot be honoured, for example because data is missing.
    fn spec(&self) -> Result<EnvironmentSpec>;

    /// A cheap look before measuring: source rules, compilation, a smoke test. Its findings go
    /// back to the mutator for repair. Accepts everything by default.
    ///
    /// # Errors
    /// When the check itself could not be done.
    fn check(&self, program: &Program, host: &dyn Host) -> Result<Check> {
        let _ = (program, host);
        Ok(Check::default())
    }

    /// Measures one program with one seed. A program that fails is a failed [`Evaluation`], not
    /// an error.
    ///
    /// # Errors
    /// When measuring was impossible for a reason that is not the program's.
    fn evaluate(&self, request: &EvaluationRequest, host: &dyn Host) -> Result<Evaluation>;

    /// Makes a data set from the user's material, for environments that are measured on data.
    ///
    /// # Errors
    /// When the material is missing, empty or damaged, and for environments without data.
    fn prepare(&self, request: &DataRequest, host: &dyn Host) -> Result<DataReport> {
        let _ = (request, host);
        Err(crate::Error::failed("this environment needs no data"))
    }
}

/// A boxed environment is an environment.
impl<T: Environment + ?Sized> Environment for Box<T> {
    fn spec(&self) -> Result<EnvironmentSpec> {
        (**self).spec()
    }
    fn check(&self, program: &Program, host: &dyn Host) -> Result<Check> {
        (**self).check(program, host)
    }
    fn evaluate(&self, request: &EvaluationRequest, host: &dyn Host) -> Result<Evaluation> {
        (**self).evaluate(request, host)
    }
    fn prepare(&self, request: &DataRequest, host: &dyn Host) -> Result<DataReport> {
        (**self).prepare(request, host)
    }
}

/// What an environment is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentSpec {
    /// Name of the environment, for example `nanogpt`.
    pub name: String,
    /// The fixed setting within which results are comparable, for example `cpu`.
    #[serde(default)]
    pub track: String,
    /// Hash of everything that must be equal for two results to be comparable: data, target,
    /// budgets, evaluation shapes. Empty when the name and track say it all.
    #[serde(default)]
    pub fingerprint: String,
    /// One sentence for people.
    #[serde(default)]
    pub summary: String,
    /// The task in words for people and models: what may change, what is fixed, how it is scored.
    #[serde(default)]
    pub brief: String,
    /// What programs may be made of, in words for people and models: the interface that they are
    /// written against, and the rules that they are held to, with examples.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub manual: String,
    /// How much metrics differ between seeds of one program (standard deviations), where known.
    #[serde(default, skip_serializing_if = "Metrics::is_empty")]
    pub noise: Metrics,
    /// What is improved, most important first.
    pub objectives: Objectives,
    /// The axes of the frontier: a program is on it when no other is better on all of them.
    #[serde(default)]
    pub frontier: Vec<Objective>,
    /// Measured properties by which a diversity archive sorts programs.
    #[serde(default)]
    pub features: Vec<Feature>,
    /// The program every search starts from.
    pub reference: Program,
    /// Whether a check costs real time (compilation), so that the host runs checks ahead of
    /// measurements in processes of their own.
    #[serde(default)]
    pub expensive_check: bool,
    /// Cores that one evaluation uses at the same time; the host gives it as many to itself.
    #[serde(default = "one")]
    pub cores: usize,
    /// Verification hooks that judge every evaluation of this environment, by the name under
    /// which they are installed.
    #[serde(default)]
    pub hooks: Vec<String>,
    /// What hooks may look at and do in this environment. A hook gets what it asks for, this list
    /// grants and the operator does not forbid.
    #[serde(default)]
    pub grants: Vec<Permission>,
    /// Whether [`EvaluationRequest::disguise`] is honoured.
    #[serde(default)]
    pub disguises: bool,
}

/// Something that a verification hook may look at or do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Permission {
    /// Read the program's source.
    Source,
    /// Read its difference to its parent.
    Parent,
    /// Read the metrics.
    Metrics,
    /// Read the ledger.
    Ledger,
    /// Read series, by range.
    Series,
    /// Read the results of probes.
    Probes,
    /// Read artifacts, by range.
    Artifacts,
    /// Replace metrics by what the hook computed from evidence.
    Recompute,
}

impl Permission {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Source,
        Self::Parent,
        Self::Metrics,
        Self::Ledger,
        Self::Series,
        Self::Probes,
        Self::Artifacts,
        Self::Recompute,
    ];

    /// The name in run files and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Parent => "parent",
            Self::Metrics => "metrics",
            Self::Ledger => "ledger",
            Self::Series => "series",
            Self::Probes => "probes",
            Self::Artifacts => "artifacts",
            Self::Recompute => "recompute",
        }
    }
}

fn one() -> usize {
    1
}

impl EnvironmentSpec {
    /// A spec with nothing but a name; add objectives and a reference.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            track: String::new(),
            fingerprint: String::new(),
            summary: String::new(),
            brief: String::new(),
            manual: String::new(),
            noise: Metrics::new(),
            objectives: Objectives(Vec::new()),
            frontier: Vec::new(),
            features: Vec::new(),
            reference: Program::default(),
            expensive_check: false,
            cores: one(),
            hooks: Vec::new(),
            grants: Vec::new(),
            disguises: false,
        }
    }

    /// Adds the next most important objective.
    #[must_use]
    pub fn objective(mut self, objective: Objective) -> Self {
        self.objectives.0.push(objective);
        self
    }

    /// Sets the program every search starts from.
    #[must_use]
    pub fn reference(mut self, program: Program) -> Self {
        self.reference = program;
        self
    }
}

/// A measured property with the range in which programs are told apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    /// Name of the metric.
    pub metric: String,
    /// Lower end; smaller values share the first bin.
    pub low: f64,
    /// Upper end; larger values share the last bin.
    pub high: f64,
    /// How many bins.
    pub bins: u32,
    /// Whether bins are equal in the logarithm (`low` must be positive).
    #[serde(default)]
    pub log: bool,
}

/// What a check found. Any finding of severity `error` keeps the program from being measured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Reasons and remarks.
    pub findings: Vec<Finding>,
    /// Which stage refused the program, when one did.
    #[serde(default)]
    pub cause: Option<crate::Cause>,
}

impl Check {
    /// A refused program.
    pub fn refused(cause: crate::Cause, findings: Vec<Finding>) -> Self {
        Self { findings, cause: Some(cause) }
    }

    /// Whether the program may be measured.
    pub fn passed(&self) -> bool {
        self.cause.is_none()
            && self.findings.iter().all(|finding| finding.severity < crate::Severity::Error)
    }
}

/// Which held-out data an evaluation may look at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slice {
    /// For searching; read as often as one likes.
    #[default]
    Dev,
    /// For confirmation; read once per confirmed program.
    Val,
    /// For records; read once per record.
    Vault,
}

/// Why an evaluation is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// The search wants to know where to go.
    #[default]
    Search,
    /// A claim is being confirmed on fresh seeds.
    Confirm,
}

/// Everything protected that is injected into one evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRequest {
    /// What to measure.
    pub program: Program,
    /// The injected seed of initialisation and data order.
    pub seed: u64,
    /// Which held-out data decides.
    #[serde(default)]
    pub slice: Slice,
    /// Why.
    #[serde(default)]
    pub purpose: Purpose,
    /// The core or device this measurement has to itself, when the host gave one.
    #[serde(default)]
    pub slot: Option<usize>,
    /// Further cores that it has to itself, where [`EnvironmentSpec::cores`] asks for more than one.
    #[serde(default)]
    pub more_cores: Vec<usize>,
    /// A secret number under which everything that a program could know of the data beforehand is
    /// renamed: in the speedrun, token ids are permuted. An honest program does as well as without.
    /// Only for environments whose spec says that they can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disguise: Option<u64>,
}

impl EvaluationRequest {
    /// A search evaluation of `program` on the dev slice.
    pub fn new(program: Program, seed: u64) -> Self {
        Self {
            program,
            seed,
            slice: Slice::Dev,
            purpose: Purpose::Search,
            slot: None,
            more_cores: Vec::new(),
            disguise: None,
        }
    }
}
