//! Runs a plugin's object in process, with every value still passing through the same encoding
//! and the same panic guard as at the plugin boundary.

use crate::foreign::{ForeignEnvironment, ForeignMutator, ForeignSelector};
use crate::guest::{environment_object, mutator_object, selector_object};
use forerunner_core::{
    Answer, Call, Cause, Check, Cost, Environment, Error, Finding, Host, Mutator, Program, Result,
    Selector, Series,
};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// The environment as the host would see it.
pub fn environment(of: impl Environment + 'static) -> impl Environment {
    ForeignEnvironment(environment_object(Box::new(of)))
}

/// The mutator as the host would see it.
pub fn mutator(of: impl Mutator + 'static) -> impl Mutator {
    ForeignMutator(mutator_object(Box::new(of)))
}

/// The selector as the host would see it.
pub fn selector(of: impl Selector + 'static) -> impl Selector {
    ForeignSelector(selector_object(Box::new(of)))
}

/// Reads a configuration as the host would: JSON in, errors that name the field.
///
/// # Errors
/// [`Error::Config`] when a field is missing, unknown or of the wrong type.
pub fn config<C: serde::de::DeserializeOwned>(value: &serde_json::Value) -> Result<C> {
    crate::export::config(value.to_string().as_bytes())
}

/// A host that remembers what it was told, with a temporary folder for artifacts and caches.
pub struct RecordingHost {
    dir: tempfile::TempDir,
    seen: Mutex<Seen>,
    cancelled: AtomicBool,
}

#[derive(Default)]
struct Seen {
    series: BTreeMap<String, Series>,
    progress: Vec<(f64, String)>,
    calls: Vec<(Call, Answer)>,
    spent: Cost,
}

impl RecordingHost {
    /// A fresh host.
    ///
    /// # Errors
    /// When no temporary folder can be made.
    pub fn new() -> Result<Self> {
        let dir = tempfile::tempdir().map_err(Error::failed)?;
        Ok(Self { dir, seen: Mutex::default(), cancelled: AtomicBool::new(false) })
    }

    /// From now on [`Host::cancelled`] answers yes.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// The curves recorded so far.
    pub fn series(&self) -> BTreeMap<String, Series> {
        self.seen().series.clone()
    }

    /// The progress messages so far.
    pub fn progress_messages(&self) -> Vec<(f64, String)> {
        self.seen().progress.clone()
    }

    /// The calls remembered so far, with what came of them.
    pub fn calls(&self) -> Vec<(Call, Answer)> {
        self.seen().calls.clone()
    }

    /// What was spent so far.
    pub fn spent(&self) -> Cost {
        self.seen().spent
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host for RecordingHost {
    fn record(&self, series: &str, step: u64, value: f64) {
        self.seen().series.entry(series.to_owned()).or_default().push((step, value));
    }
    fn progress(&self, fraction: f64, message: &str) {
        self.seen().progress.push((fraction, message.to_owned()));
    }
    fn store(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).map_err(Error::failed)?;
        Ok(path)
    }
    fn cache_dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
    /// Accepts everything but files that contain `does not compile`.
    fn check(&self, program: &Program) -> Result<Check> {
        let broken = program.files.values().any(|text| text.contains("does not compile"));
        let finding = || Finding::error("compile/error", "this does not compile");
        Ok(if broken { Check::refused(Cause::Compile, vec![finding()]) } else { Check::default() })
    }
    fn recall(&self, call: &Call) -> Result<Option<Answer>> {
        let seen = self.seen();
        Ok(seen.calls.iter().find(|(known, _)| known == call).map(|(_, answer)| answer.clone()))
    }
    fn remember(&self, call: &Call, answer: &Answer) -> Result<()> {
        self.seen().calls.push((call.clone(), answer.clone()));
        Ok(())
    }
    fn spend(&self, cost: &Cost) {
        self.seen().spent += *cost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forerunner_core::{
        Answered, Change, EnvironmentSpec, Evaluation, EvaluationRequest, Idea, Member, Message,
        NoHost, Objective, Proposal, ProposalRequest, Role, Verdict,
    };

    struct Moody;

    impl Environment for Moody {
        fn spec(&self) -> Result<EnvironmentSpec> {
            panic!("no spec today")
        }
        fn evaluate(&self, request: &EvaluationRequest, host: &dyn Host) -> Result<Evaluation> {
            if host.cancelled() {
                return Err(Error::Cancelled);
            }
            host.record("curve", 3, 0.5);
            host.progress(0.5, "half way");
            host.store("note.txt", b"kept")?;
            let values: Vec<f64> = vec![f64::NAN, 2.0];
            Ok(Evaluation::accepted("value", values[request.seed as usize]))
        }
    }

    #[test]
    fn panics_become_errors_with_their_place() {
        let error = environment(Moody).spec().expect_err("it panics");
        let text = error.to_string();
        assert!(text.starts_with("the plugin panicked: no spec today ("), "{text}");
        assert!(text.contains("testkit.rs:"), "{text}");
        let request = EvaluationRequest::new(Program::single("x", "1"), 7);
        let error = environment(Moody).evaluate(&request, &NoHost).expect_err("out of bounds");
        assert!(error.to_string().contains("index out of bounds"), "{error}");
    }

    #[test]
    fn calls_reach_the_host_and_numbers_stay_finite() {
        let host = RecordingHost::new().expect("temporary folder");
        let kit = environment(Moody);
        let mut request = EvaluationRequest::new(Program::single("x", "1"), 1);
        let evaluation = kit.evaluate(&request, &host).expect("evaluates");
        assert_eq!(evaluation.metrics["value"], 2.0);
        assert_eq!(host.series()["curve"], [(3, 0.5)]);
        assert_eq!(host.progress_messages(), [(0.5, "half way".to_owned())]);
        assert_eq!(std::fs::read(host.cache_dir().join("note.txt")).expect("stored"), b"kept");
        request.seed = 0;
        let evaluation = kit.evaluate(&request, &host).expect("evaluates");
        assert!(matches!(evaluation.verdict, Verdict::Failed(_)));
        host.cancel();
        assert_eq!(kit.evaluate(&request, &host), Err(Error::Cancelled));
    }

    /// Asks whether its program compiles, and somebody outside what to do.
    struct Asking;

    impl Mutator for Asking {
        fn propose(&self, request: &ProposalRequest, host: &dyn Host) -> Result<Proposal> {
            let program = &request.parent.program;
            assert!(host.check(program)?.passed());
            assert!(!host.check(&Program::single("x", "does not compile"))?.passed());
            let message = Message { role: Role::User, text: "what now?".to_owned() };
            let call = Call {
                model: "sage".to_owned(),
                purpose: "idea".to_owned(),
                parameters: BTreeMap::from([("temperature".to_owned(), 0.25.into())]),
                messages: vec![message],
                seed: request.seed,
                ordinal: 0,
            };
            let cost = Cost { tokens_in: 3, tokens_out: 1, dollars: 0.5 };
            let outcome = Answered::Reply { text: "wait".to_owned(), cut: false };
            let answer = Answer { outcome, cost, seconds: 1.5, attempts: 1 };
            assert_eq!(host.recall(&call)?, None);
            host.remember(&call, &answer)?;
            assert_eq!(host.recall(&call)?, Some(answer));
            host.spend(&cost);
            host.spend(&cost);
            let change = Change::Program(program.clone());
            Ok(Proposal { change, idea: Idea::default(), cost: Cost::default() })
        }
    }

    #[test]
    fn calls_are_recalled_across_the_boundary() {
        let host = RecordingHost::new().expect("temporary folder");
        let program = Program::single("x", "1");
        let request = ProposalRequest {
            iteration: 1,
            seed: u64::MAX,
            task: EnvironmentSpec::new("x"),
            parent: Member {
                id: program.id(),
                program,
                evaluation: Evaluation::accepted("x", 1.0),
                idea: None,
            },
            inspirations: Vec::new(),
            failures: Vec::new(),
            island: 0,
            stagnant: 0,
        };
        mutator(Asking).propose(&request, &host).expect("proposes");
        assert_eq!(host.calls().len(), 1);
        assert_eq!(host.calls()[0].0.seed, u64::MAX);
        assert_eq!(host.spent(), Cost { tokens_in: 6, tokens_out: 2, dollars: 1.0 });
        let error = mutator(Asking).propose(&request, &NoHost).expect_err("checks nothing");
        assert_eq!(error.to_string(), "this host checks no programs");
    }

    #[test]
    fn the_builder_makes_a_spec() {
        let spec = EnvironmentSpec::new("x").objective(Objective::minimize("loss", "nats"));
        assert_eq!(spec.objectives.0.len(), 1);
    }
}
