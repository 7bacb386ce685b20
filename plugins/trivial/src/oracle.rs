//! The mutator `oracle`: asks somebody outside, who costs money and is never of the same opinion twice.

use forerunner_sdk::prelude::*;
use std::{
    fs::File,
    io::Write,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// Configuration of the mutator.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OracleConfig {
    /// A file that gets a line whenever somebody was really asked.
    pub asked: Option<PathBuf>,
    /// What a call costs, in US dollars.
    pub dollars: f64,
    /// Tokens sent and received by a call, each.
    pub tokens: u64,
    /// Calls of a proposal.
    pub calls: u32,
    /// Every so many proposals, the first attempt is one that the check refuses; 0 is never.
    pub broken_every: u64,
    /// Every so many proposals there is no answer; 0 is never.
    pub silent_every: u64,
    /// The process kills itself before this call, counted from 1; 0 is never.
    pub die_at_call: u64,
}

impl Default for OracleConfig {
    fn default() -> Self {
        Self {
            asked: None,
            dollars: 0.0,
            tokens: 10,
            calls: 1,
            broken_every: 0,
            silent_every: 0,
            die_at_call: 0,
        }
    }
}

/// The mutator.
pub struct Oracle {
    config: OracleConfig,
    asked: AtomicU64,
}

impl Oracle {
    /// Makes the mutator.
    ///
    /// # Errors
    /// When `dollars` is negative or not finite.
    pub fn new(config: OracleConfig) -> Result<Self> {
        if !(config.dollars.is_finite() && config.dollars >= 0.0) {
            return Err(Error::config("dollars", "must be a finite number, not negative"));
        }
        Ok(Self { config, asked: AtomicU64::new(0) })
    }

    /// A number between 0.5 and 1 from outside.
    fn ask(&self, request: &ProposalRequest, ordinal: u32, host: &dyn Host) -> Result<f64> {
        // All that a prompt may quote: siblings must be told the same, whenever they are made.
        let ProposalRequest { parent, failures, stagnant, .. } = request;
        let failures = failures.len();
        let question = format!(
            "{} failed {failures} times; {stagnant} without a new best: what now?",
            parent.id
        );
        let call = Call {
            model: "oracle".to_owned(),
            purpose: if ordinal < self.config.calls { "idea" } else { "repair" }.to_owned(),
            parameters: Default::default(),
            messages: vec![Message { role: Role::User, text: question }],
            seed: request.seed,
            ordinal,
        };
        let answer = match host.recall(&call)? {
            Some(answer) => answer,
            None => {
                let answer = self.outside(request.iteration)?;
                host.remember(&call, &answer)?;
                answer
            }
        };
        host.spend(&answer.cost);
        match answer.outcome {
            Answered::Reply { text, .. } => text.parse().map_err(Error::failed),
            Answered::Failed { message, .. } => Err(Error::Failed(message)),
        }
    }

    fn outside(&self, iteration: u64) -> Result<Answer> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        if number == self.config.die_at_call {
            std::process::abort();
        }
        if let Some(path) = &self.config.asked {
            let file = File::options().append(true).create(true).open(path);
            file.and_then(|mut file| writeln!(file, "{iteration}")).map_err(Error::failed)?;
        }
        let Self { config: OracleConfig { dollars, tokens, silent_every, .. }, .. } = self;
        let outcome = if *silent_every > 0 && iteration.is_multiple_of(*silent_every) {
            let message = "the oracle is silent".to_owned();
            Answered::Failed { kind: "unavailable".to_owned(), message }
        } else {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let text = format!("{:?}", 0.5 + f64::from(now.subsec_nanos()) / 2e9);
            Answered::Reply { text, cut: false }
        };
        let cost = Cost { tokens_in: *tokens, tokens_out: *tokens, dollars: *dollars };
        Ok(Answer { outcome, cost, seconds: 0.0, attempts: 1 })
    }

    fn proposal(&self, request: &ProposalRequest, factor: f64, broken: bool) -> Result<Proposal> {
        let value = super::value_of(&request.parent.program)
            .ok_or_else(|| Error::failed("the parent has no `value = NUMBER` line"))?;
        let next = value * factor;
        let text = if broken { "nothing".to_owned() } else { format!("value = {next:?}\n") };
        Ok(Proposal {
            change: Change::Program(Program::single("program.txt", text)),
            idea: Idea {
                summary: format!("value {value:.3e} → {next:.3e}"),
                expected_gain: Some(Interval { low: 0.0, high: 0.5 }),
                stage: "template".to_owned(),
                model: "oracle".to_owned(),
                ..Idea::default()
            },
            cost: Cost::default(),
        })
    }
}

impl Mutator for Oracle {
    fn propose(&self, request: &ProposalRequest, host: &dyn Host) -> Result<Proposal> {
        let mut factor = 1.0;
        for ordinal in 0..self.config.calls {
            factor = self.ask(request, ordinal, host)?;
        }
        let every = self.config.broken_every;
        self.proposal(request, factor, every > 0 && request.iteration.is_multiple_of(every))
    }

    fn repair(&self, request: &RepairRequest, host: &dyn Host) -> Result<Option<Proposal>> {
        let ordinal = self.config.calls + request.attempt - 1;
        let factor = self.ask(&request.request, ordinal, host)?;
        self.proposal(&request.request, factor, false).map(Some)
    }
}
