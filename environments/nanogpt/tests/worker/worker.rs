//! A worker in miniature for the integration tests: reads one job as JSON, prints the answer as
//! JSON. It exists because a sandboxed process is started by re-executing a binary whose `main`
//! calls `forerunner_sandbox::init`, which a test binary's does not.

use forerunner_nanogpt::{Config, NanoGpt};
use forerunner_sdk::prelude::*;
use std::{
    io::{Read, Write},
    path::PathBuf,
};

/// What to do.
#[derive(Deserialize)]
struct Job {
    config: serde_json::Value,
    cache: PathBuf,
    cancelled: bool,
    #[serde(default)]
    without_source_rules: bool,
    action: Action,
    request: EvaluationRequest,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Check,
    Evaluate,
}

/// A host with a cache, whose result is wanted or not.
struct TestHost {
    cache: PathBuf,
    cancelled: bool,
}

impl Host for TestHost {
    fn record(&self, _series: &str, _step: u64, _value: f64) {}
    fn progress(&self, _fraction: f64, _message: &str) {}
    fn store(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.cache.join(name);
        std::fs::write(&path, bytes).map_err(Error::failed)?;
        Ok(path)
    }
    fn cache_dir(&self) -> PathBuf {
        self.cache.clone()
    }
    fn cancelled(&self) -> bool {
        self.cancelled
    }
}

fn answer(job: &Job) -> Result<serde_json::Value> {
    let config: Config = forerunner_sdk::testkit::config(&job.config)?;
    let mut environment = NanoGpt::new(config)?;
    if job.without_source_rules {
        environment = environment.without_source_rules();
    }
    let environment = forerunner_sdk::testkit::environment(environment);
    let host = TestHost { cache: job.cache.clone(), cancelled: job.cancelled };
    match job.action {
        Action::Check => serde_json::to_value(environment.check(&job.request.program, &host)?),
        Action::Evaluate => serde_json::to_value(environment.evaluate(&job.request, &host)?),
    }
    .map_err(Error::failed)
}

fn main() -> std::io::Result<()> {
    forerunner_sandbox::init();
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let job: Job = serde_json::from_str(&text)?;
    let answer: std::result::Result<serde_json::Value, String> =
        answer(&job).map_err(|error| error.to_string());
    serde_json::to_writer(std::io::stdout(), &answer)?;
    std::io::stdout().flush()
}
