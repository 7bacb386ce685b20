//! The vocabulary of Forerunner: what environments, mutators and selectors are, and the values
//! they exchange with the host.
//!
//! A *progress-oriented* benchmark is an environment whose objective is itself a target of
//! science. An [`Environment`] measures programs, a [`Mutator`] rewrites them, a [`Selector`]
//! decides which are rewritten next, and the [`Host`] is what all three may ask for while they
//! work. The traits are synchronous and ordinary; every value is plain serde data, so the same
//! object runs in process (tests) or behind a dynamic library (plugins).
//!
//! This crate does no I/O and starts no threads.
//!
//! # Core concepts
//!
//! | term | type |
//! | --- | --- |
//! | program, content-addressed | [`Program`], [`ProgramId`] |
//! | objective with direction and unit | [`Objective`] |
//! | one measured run of one program with one seed | [`Evaluation`] |
//! | one reason for or against a program | [`Finding`] |
//! | the outcome that follows | [`Verdict`] |
//! | what hooks judge it by | [`Evidence`], [`Probe`], [`Permission`] |
//! | a mutator's suggestion with its idea | [`Proposal`], [`Idea`] |
//! | what a mutator asked a model, and what came back | [`Call`], [`Answer`] |
//! | an evaluated program as mutators and selectors see it | [`Member`], [`Standing`] |

mod call;
mod data;
mod digest;
mod environment;
mod error;
mod evaluation;
mod evidence;
mod group;
mod host;
mod mutator;
mod objective;
mod program;
mod seed;
mod selector;
mod telemetry;

pub use call::{Answer, Answered, Call, Message, Role};
pub use data::{DataReport, DataRequest, DataSource};
pub use digest::{MAX_DIGEST, digest};
pub use environment::{
    Check, Environment, EnvironmentSpec, EvaluationRequest, Feature, Permission, Purpose, Slice,
};
pub use error::{Error, Result};
pub use evaluation::{Cause, Evaluation, Finding, Severity, Verdict};
pub use evidence::{Evidence, Probe};
pub use group::{GRADIENT_NORM, Group, RELATIVE_UPDATE, UPDATE_NORM, late_median};
pub use host::{Host, NoHost};
pub use mutator::{
    Attempt, Change, Cost, Idea, Interval, Mutator, Outcome, Proposal, ProposalRequest,
    RepairRequest,
};
pub use objective::{Direction, Metrics, Objective, Objectives};
pub use program::{Program, ProgramId};
pub use seed::Seed;
pub use selector::{Member, Select, Selection, Selector, SelectorView, Standing};
pub use telemetry::{
    ALLOCATIONS_PER_STEP, Operation, PEAK_FLOPS, SECONDS_PER_TOKEN, Section, Series,
    TOKENS_PER_STEP, Telemetry, thinned,
};
