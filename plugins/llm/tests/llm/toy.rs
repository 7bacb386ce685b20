//! A small task, and a stand-in for models that answers from a script.

use forerunner_llm::{Ask, Config, Details, Llm, ModelEntry, Query};
use forerunner_sdk::testkit::RecordingHost;
use forerunner_sdk::{
    Answer, Answered, Call, Cause, Cost, EnvironmentSpec, Evaluation, Finding, Host, Idea, Member,
    Message, Metrics, Mutator, Objective, Outcome, Program, Proposal, ProposalRequest,
    RepairRequest, Result, Role,
};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

pub(crate) const SOURCE: &str =
    "/// Rate of learning.\nconst RATE: f64 = 0.1;\n\nfn main() {\n    train(RATE);\n}\n";

pub(crate) const BLOCKS: &str = "main.rs\n<<<<<<< SEARCH\nconst RATE: f64 = 0.1;\n=======\n\
                                 const RATE: f64 = 0.2;\n>>>>>>> REPLACE\n";

/// An answer with an idea alone.
pub(crate) fn idea(summary: &str) -> String {
    let idea = serde_json::json!({
        "summary": summary,
        "mechanism": format!("{summary}, because the loss falls steadily"),
        "why_here": "there are no spikes",
        "expected_gain": [0.02, 0.06],
        "refutation": "spikes",
    });
    idea.to_string()
}

/// An answer with an idea and blocks that put `rate` there.
pub(crate) fn both(summary: &str, rate: &str) -> String {
    format!("{}\n\n{}", idea(summary), blocks(rate))
}

pub(crate) fn blocks(rate: &str) -> String {
    BLOCKS.replace("0.2", rate)
}

pub(crate) fn entry(name: &str) -> ModelEntry {
    let settings = serde_json::json!({"name": name, "model": "scripted"});
    ModelEntry { name: name.to_owned(), weight: 1.0, settings }
}

/// One model, `fast`.
pub(crate) fn config() -> Config {
    Config::with_models(vec![entry("fast")])
}

/// One model, and ideas first from the first iteration on.
pub(crate) fn ideas_first() -> Config {
    let mut config = config();
    config.schedule.template_iterations = 0;
    config
}

pub(crate) fn task() -> EnvironmentSpec {
    let mut task = EnvironmentSpec::new("toy")
        .objective(Objective::minimize("seconds", "s"))
        .objective(Objective::minimize("loss", "nats").with_target(2.0));
    task.track = "cpu".to_owned();
    task.summary = "train something small".to_owned();
    task.brief = "Make it faster.\nEverything may change.".to_owned();
    task.manual = "`train(rate)` trains. No `unsafe`.".to_owned();
    task.noise = Metrics::from([("loss".to_owned(), 0.01)]);
    task
}

pub(crate) fn member(source: &str, seconds: f64) -> Member {
    let program = Program::single("main.rs", source);
    let mut evaluation = Evaluation::accepted("seconds", seconds);
    evaluation.metrics.insert("loss".to_owned(), 1.95);
    Member { id: program.id(), program, evaluation, idea: None }
}

pub(crate) fn request(iteration: u64) -> ProposalRequest {
    ProposalRequest {
        iteration,
        seed: iteration.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        task: task(),
        parent: member(SOURCE, 20.0),
        inspirations: Vec::new(),
        failures: Vec::new(),
        island: 0,
        stagnant: 0,
    }
}

/// What became of a proposal that was measured.
pub(crate) fn outcome(iteration: u64, idea: Idea, seconds: f64) -> Outcome {
    let request = request(iteration);
    Outcome {
        iteration,
        idea,
        parent: request.parent.id,
        parent_evaluation: request.parent.evaluation,
        program: Some(Program::single("main.rs", format!("{iteration}")).id()),
        evaluation: Evaluation::accepted("seconds", seconds),
    }
}

/// What the host makes of a proposal that came to an error.
pub(crate) fn failed(iteration: u64, error: &forerunner_sdk::Error) -> Outcome {
    let finding = Finding::error("mutator/error", format!("mutator `llm`: {error}"));
    Outcome {
        idea: Idea::default(),
        program: None,
        evaluation: Evaluation::failed(Cause::Mutator, finding),
        ..outcome(iteration, Idea::default(), 1.0)
    }
}

pub(crate) fn repair(
    request: &ProposalRequest,
    proposal: &Proposal,
    attempt: u32,
) -> RepairRequest {
    RepairRequest {
        request: request.clone(),
        proposal: proposal.clone(),
        program: None,
        cause: Cause::Compile,
        findings: vec![Finding::error("compile/error", "cannot find `RTAE`").at("main.rs:2")],
        attempt,
    }
}

type Script = dyn Fn(&Query<'_>, usize) -> Answered + Send + Sync;

/// Answers from a script, and keeps to what is agreed with the host.
struct Scripted {
    script: Box<Script>,
    asked: Arc<AtomicUsize>,
}

impl Ask for Scripted {
    fn ask(&self, query: &Query<'_>, host: &dyn Host) -> Result<Answer> {
        let call = Call {
            model: query.model.to_owned(),
            purpose: query.purpose.to_owned(),
            parameters: std::collections::BTreeMap::new(),
            messages: query.messages.to_vec(),
            seed: query.seed,
            ordinal: query.ordinal,
        };
        let answer = match host.recall(&call)? {
            Some(answer) => answer,
            None => {
                let number = self.asked.fetch_add(1, Ordering::Relaxed);
                let outcome = (self.script)(query, number);
                let cost = Cost { tokens_in: 100, tokens_out: 10, dollars: 0.5 };
                let answer = Answer { outcome, cost, seconds: 0.0, attempts: 1 };
                host.remember(&call, &answer)?;
                answer
            }
        };
        host.spend(&answer.cost);
        Ok(answer)
    }

    fn embed(
        &self,
        model: &str,
        text: &str,
        seed: u64,
        ordinal: u32,
        host: &dyn Host,
    ) -> Result<Answer> {
        let messages = [Message { role: Role::User, text: text.to_owned() }];
        let purpose = "embedding";
        self.ask(&Query { model, purpose, messages: &messages, seed, ordinal }, host)
    }

    fn has_price(&self, _model: &str) -> bool {
        true
    }
}

/// The mutator with a script, behind the boundary of plugins.
pub(crate) struct Toy {
    pub(crate) host: RecordingHost,
    pub(crate) mutator: Box<dyn Mutator>,
    asked: Arc<AtomicUsize>,
}

impl Toy {
    /// Answers as `script` does, which gets the question and its number.
    pub(crate) fn new(
        config: Config,
        script: impl Fn(&Query<'_>, usize) -> Answered + Send + Sync + 'static,
    ) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let ask = Scripted { script: Box::new(script), asked: asked.clone() };
        let llm = Llm::asking(config, Box::new(ask)).expect("a sound configuration");
        Self {
            host: RecordingHost::new().expect("a temporary folder"),
            mutator: Box::new(forerunner_sdk::testkit::mutator(llm)),
            asked,
        }
    }

    /// Answers these texts in order, the last one again and again.
    pub(crate) fn saying(config: Config, texts: &[&str]) -> Self {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let texts = Mutex::new(texts);
        Self::new(config, move |_, number| {
            let texts = texts.lock().expect("never poisoned");
            said(&texts[number.min(texts.len() - 1)])
        })
    }

    pub(crate) fn propose(&self, iteration: u64) -> Result<Proposal> {
        self.mutator.propose(&request(iteration), &self.host)
    }

    /// The error of a proposal that fails.
    pub(crate) fn fails(&self, iteration: u64) -> String {
        self.propose(iteration).expect_err("it fails").to_string()
    }

    /// Purpose and model of every call so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        let name = |(call, _): &(Call, Answer)| format!("{} {}", call.purpose, call.model);
        self.host.calls().iter().map(name).collect()
    }

    /// Questions that really were asked.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// The messages of a call.
    pub(crate) fn messages(&self, number: usize) -> Vec<Message> {
        self.host.calls()[number].0.messages.clone()
    }

    /// The last message of a call.
    pub(crate) fn last(&self, number: usize) -> String {
        self.messages(number).pop().map(|message| message.text).unwrap_or_default()
    }
}

pub(crate) fn said(text: &str) -> Answered {
    Answered::Reply { text: text.to_owned(), cut: false }
}

pub(crate) fn not_said(kind: &str) -> Answered {
    Answered::Failed { kind: kind.to_owned(), message: format!("it is {kind}") }
}

/// What is kept with an idea.
pub(crate) fn details(proposal: &Proposal) -> Details {
    serde_json::from_value(proposal.idea.details.clone()).expect("our own")
}

/// A conversation as text.
pub(crate) fn shown(messages: &[Message]) -> String {
    let role = |role: Role| role.as_str().to_uppercase();
    let one = |message: &Message| format!("--- {}\n{}\n", role(message.role), message.text);
    messages.iter().map(one).collect()
}
