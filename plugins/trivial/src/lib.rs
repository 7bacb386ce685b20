//! The smallest environment and the smallest mutator, for measuring the framework itself.
//!
//! Programs hold a number; the objective is its distance from zero. Nothing is compiled and
//! nothing is run, so whatever an iteration costs is the framework's. Certain words in a program
//! make the environment misbehave: that is how the host's handling of a bad worker is tested. Others
//! make the program itself misbehave, as records have to find out.

mod conduct;
mod oracle;

pub use oracle::{Oracle, OracleConfig};

use conduct::Conduct;
use forerunner_sdk::prelude::*;
use std::time::{Duration, Instant};

/// Configuration of the environment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EnvironmentConfig {
    /// Wall seconds that a measurement takes, asleep.
    pub evaluate_seconds: f64,
    /// Size of the reference program in bytes.
    pub program_bytes: usize,
    /// Relative spread of the distance over seeds, in `0.0..1.0`.
    pub noise: f64,
    /// Whether the data can be disguised.
    pub disguises: bool,
}

impl Default for EnvironmentConfig {
    fn default() -> Self {
        Self { evaluate_seconds: 0.0, program_bytes: 1100, noise: 0.0, disguises: true }
    }
}

/// The environment `trivial`.
pub struct Trivial {
    config: EnvironmentConfig,
}

impl Trivial {
    /// Makes the environment.
    ///
    /// # Errors
    /// When `evaluate_seconds` is negative or not finite, or `noise` is outside `0.0..1.0`.
    pub fn new(config: EnvironmentConfig) -> Result<Self> {
        if !(0.0..1.0).contains(&config.noise) {
            return Err(Error::config("noise", "must be at least 0 and below 1"));
        }
        if !(config.evaluate_seconds.is_finite() && config.evaluate_seconds >= 0.0) {
            return Err(Error::config("evaluate_seconds", "must be a finite number, not negative"));
        }
        Ok(Self { config })
    }

    fn reference(&self) -> Program {
        let mut text = "value = 1.0\n".to_owned();
        while text.len() < self.config.program_bytes {
            text.push_str("# A line that only makes the program as long as a real one.\n");
        }
        Program::single("program.txt", text)
    }
}

/// The number in a program's `value = …` line.
fn value_of(program: &Program) -> Option<f64> {
    let text = program.files.get("program.txt")?;
    text.lines().find_map(|line| line.strip_prefix("value = "))?.trim().parse().ok()
}

impl Environment for Trivial {
    fn spec(&self) -> Result<EnvironmentSpec> {
        let mut spec = EnvironmentSpec::new("trivial")
            .objective(Objective::minimize("distance", ""))
            .reference(self.reference());
        spec.summary = "bring a number to zero".to_owned();
        spec.grants = Permission::ALL.to_vec();
        spec.fingerprint = format!("{:?}", self.config);
        spec.disguises = self.config.disguises;
        Ok(spec)
    }

    fn check(&self, program: &Program, _host: &dyn Host) -> Result<Check> {
        if value_of(program).is_some() {
            return Ok(Check::default());
        }
        let message = "no `value = NUMBER` line in program.txt";
        Ok(Check::refused(Cause::Rule, vec![Finding::error("trivial/value", message)]))
    }

    fn evaluate(&self, request: &EvaluationRequest, host: &dyn Host) -> Result<Evaluation> {
        let text = request.program.files.get("program.txt").map(String::as_str).unwrap_or_default();
        if text.contains("\nabort") {
            std::process::abort();
        }
        if text.contains("\npanic") {
            panic!("the program asked for a panic");
        }
        // Deaf on purpose: it does not ask whether it is cancelled.
        while text.contains("\nhang") {
            std::thread::sleep(Duration::from_millis(50));
        }
        let end = Instant::now() + Duration::from_secs_f64(self.config.evaluate_seconds);
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            if host.cancelled() {
                return Err(Error::Cancelled);
            }
            std::thread::sleep(left.min(Duration::from_millis(20)));
        }
        let Some(value) = value_of(&request.program) else {
            let finding = Finding::error("trivial/value", "no `value = NUMBER` line");
            return Ok(Evaluation::failed(Cause::Rule, finding));
        };
        let conduct = Conduct::of(text, request, self.config.noise);
        let mut evaluation = Evaluation::accepted("distance", value.abs() * conduct.factor);
        evaluation.evidence.digest = conduct.digest;
        Ok(evaluation)
    }
}

/// Configuration of the mutator.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NudgeConfig {
    /// Wall seconds that a proposal takes, asleep.
    pub propose_seconds: f64,
    /// Every so many proposals, one is spoilt with `fault`; 0 is never.
    pub fault_every: u64,
    /// A line that is added to a spoilt proposal, for example `abort` or `hang`.
    pub fault: String,
}

/// The mutator `nudge`: multiplies the number by something between 0.5 and 1.3.
pub struct Nudge {
    config: NudgeConfig,
}

impl Nudge {
    /// Makes the mutator.
    ///
    /// # Errors
    /// When `propose_seconds` is negative or not finite.
    pub fn new(config: NudgeConfig) -> Result<Self> {
        if !(config.propose_seconds.is_finite() && config.propose_seconds >= 0.0) {
            return Err(Error::config("propose_seconds", "must be a finite number, not negative"));
        }
        Ok(Self { config })
    }
}

impl Mutator for Nudge {
    fn propose(&self, request: &ProposalRequest, host: &dyn Host) -> Result<Proposal> {
        let end = Instant::now() + Duration::from_secs_f64(self.config.propose_seconds);
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            if host.cancelled() {
                return Err(Error::Cancelled);
            }
            std::thread::sleep(left.min(Duration::from_millis(20)));
        }
        let value = value_of(&request.parent.program)
            .ok_or_else(|| Error::failed("the parent has no `value = NUMBER` line"))?;
        let factor = 0.5 + 0.8 * Seed(request.seed).unit();
        // Away from zero again, so that every program of a long run is a new one.
        let next = if value.abs() < 1e-9 { 1.0 + factor } else { value * factor };
        let mut text = format!("value = {next:?}\n");
        let old = request.parent.program.files.get("program.txt").map(String::as_str);
        for line in old.unwrap_or_default().lines().skip(1) {
            text.push_str(line);
            text.push('\n');
        }
        if self.config.fault_every > 0 && request.iteration.is_multiple_of(self.config.fault_every)
        {
            text.push_str(&self.config.fault);
            text.push('\n');
        }
        Ok(Proposal {
            change: Change::Program(Program::single("program.txt", text)),
            idea: Idea { summary: format!("value {value:.3e} → {next:.3e}"), ..Idea::default() },
            cost: Cost::default(),
        })
    }
}

export_plugin! {
    environment "trivial" => Trivial::new,
    mutator "nudge" => Nudge::new,
    mutator "oracle" => Oracle::new,
}

#[cfg(test)]
mod tests {
    use super::*;
    use forerunner_sdk::testkit;

    #[test]
    fn a_nudge_changes_the_number_and_is_reproducible() {
        let environment = testkit::environment(
            Trivial::new(EnvironmentConfig::default()).expect("good configuration"),
        );
        let mutator =
            testkit::mutator(Nudge::new(NudgeConfig::default()).expect("good configuration"));
        let spec = environment.spec().expect("spec");
        let program = spec.reference.clone();
        assert!(program.len_bytes() >= 1100);
        let evaluation = environment
            .evaluate(&EvaluationRequest::new(program.clone(), 1), &NoHost)
            .expect("evaluates");
        let request = ProposalRequest {
            iteration: 1,
            seed: 9,
            task: spec,
            parent: Member { id: program.id(), program: program.clone(), evaluation, idea: None },
            inspirations: Vec::new(),
            failures: Vec::new(),
            island: 0,
            stagnant: 0,
        };
        let one = mutator.propose(&request, &NoHost).expect("proposes");
        assert_eq!(one, mutator.propose(&request, &NoHost).expect("proposes"));
        let Change::Program(child) = one.change else { panic!("a whole program") };
        assert_ne!(child, program);
        assert!(environment.check(&child, &NoHost).expect("checks").passed());
    }

    #[test]
    fn a_program_without_a_number_is_refused() {
        let environment = Trivial::new(EnvironmentConfig::default()).expect("good configuration");
        let check = environment.check(&Program::single("program.txt", "x"), &NoHost);
        assert_eq!(check.expect("checks").cause, Some(Cause::Rule));
    }
}
