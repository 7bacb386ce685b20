//! One evaluation outside a run, and data preparation: the same worker, without a search.

use crate::{
    executor::{Call, Launch, Lost, StartError, Worker},
    registry::{PluginError, Registry},
    verification::{Hooks, Measured, Verification, VerificationError},
};
use forerunner_core::{
    DataReport, DataRequest, Environment, EnvironmentSpec, Error, Evaluation, EvaluationRequest,
    Host, NoHost, Program,
};
use std::{sync::atomic::AtomicBool, time::Duration};

/// A single evaluation was not possible. A program that fails is no error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SingleError {
    /// The worker did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The plugin.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The hooks.
    #[error(transparent)]
    Verification(#[from] VerificationError),
    /// The worker was lost.
    #[error("{0}\nhint: the worker's log is in {1}")]
    Lost(String, String),
    /// A disguise was asked of an environment that has none.
    #[error("environment `{name}` cannot disguise its data\nhint: measure without `--disguise`")]
    Disguise {
        /// Its name.
        name: String,
    },
    /// The environment could not do its work.
    #[error("{error}")]
    Environment {
        /// Its name.
        name: String,
        /// Its words.
        error: Error,
    },
}

/// Checks, measures and verifies one program in a worker of its own; `program` picks it once the
/// environment is known. Answers the spec, the program and its evaluation. Hooks are told of no
/// parent.
///
/// # Errors
/// When it could not be measured for a reason that is not the program's.
pub fn evaluate(
    launch: &Launch,
    hooks: &Hooks<'_>,
    program: impl FnOnce(&EnvironmentSpec) -> Program,
    mut request: EvaluationRequest,
    progress: &(dyn Fn(f64, String) + Sync),
    abort: &AtomicBool,
    timeout: Duration,
) -> Result<(EnvironmentSpec, Program, Evaluation), SingleError> {
    let mut worker = Worker::start(launch, "single")?;
    let spec = worker.spec().clone();
    if request.disguise.is_some() && !spec.disguises {
        return Err(SingleError::Disguise { name: spec.name });
    }
    let verification = Verification::load(&spec, hooks)?;
    let program = program(&spec);
    let call = Call { abort, timeout, progress };
    let lost =
        |lost: Lost| SingleError::Lost(lost.to_string(), launch.log_dir.display().to_string());
    let refused = |error| SingleError::Environment { name: spec.name.clone(), error };
    let check = worker.check(&program, &call).map_err(lost)?.map_err(refused)?;
    if !check.passed() {
        let cause = check.cause.unwrap_or(forerunner_core::Cause::Other);
        let evaluation = Evaluation::refused(cause, check.findings);
        return Ok((spec, program, evaluation));
    }
    request.program = program.clone();
    let (seed, slice) = (request.seed, request.slice);
    let evaluation = worker.evaluate(request, &call).map_err(lost)?.map_err(refused)?;
    let measured = Measured { program: &program, parent: None, seed, slice };
    let mut evaluation = verification.verify(&measured, evaluation);
    evaluation.findings.splice(0..0, check.findings);
    Ok((spec, program, evaluation))
}

/// Makes a data set with the environment called `name`.
///
/// # Errors
/// When the plugin is not there or the material is unusable.
pub fn prepare(
    registry: &Registry,
    name: &str,
    config: &serde_json::Value,
    request: &DataRequest,
    host: Option<&dyn Host>,
) -> Result<DataReport, SingleError> {
    let (plugin, _) = registry.find("environment", name, None)?;
    let environment = plugin.environment(name, config)?;
    environment
        .prepare(request, host.unwrap_or(&NoHost))
        .map_err(|error| SingleError::Environment { name: name.to_owned(), error })
}
