//! The models of a run, and what asking one does.

mod embed;

use crate::{
    ModelConfig, Price,
    circuit::{Sign, Ticket},
    config::seconds,
    failure::{Again, Failure, Kind},
    gate::{TICK, wait},
    model::{Model, estimated},
    secret::Key,
    seen::Seen,
    wire::Reply,
};
use forerunner_core::{Answer, Answered, Call, Cost, Error, Host, Message, Result};
use std::{
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Instant,
};
use tokio::runtime::{Handle, Runtime};

/// What is asked, of whom, and what for.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// The model, by its configured name.
    pub model: &'a str,
    /// What for, as in [`Call::purpose`].
    pub purpose: &'a str,
    /// The conversation so far, oldest first.
    pub messages: Vec<Message>,
    /// The proposal's seed.
    pub seed: u64,
    /// Which call of the proposal it is, from 0.
    pub ordinal: u32,
    /// The most tokens of the reply; by default the configuration's.
    pub max_tokens: Option<u32>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// What the model says next.
    Text,
    /// The vector of the only message.
    Vector,
}

/// The models that a run may ask.
///
/// Can be shared among threads; the limits of a model hold for all of them together. Threads of its
/// own and connections come with the first call that needs them, so a replay has none.
pub struct Models {
    models: Vec<Model>,
    runtime: Mutex<Option<Runtime>>,
}

/// Shows names only.
impl std::fmt::Debug for Models {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// The sum of a call's requests.
#[derive(Default)]
struct Spent {
    attempts: u32,
    cost: Cost,
    began: Option<Instant>,
}

impl Models {
    /// Looks the configurations over and finds the keys. Nothing is sent, and nothing is started.
    ///
    /// A key that is not there is only warned about, because a replay needs none: questions are then
    /// answered with a failure of kind `unauthorized`. See [`Models::require_keys`].
    ///
    /// # Errors
    /// [`Error::Config`], naming model and field; also for a key file that others can read.
    pub fn new(configs: Vec<ModelConfig>) -> Result<Self> {
        let mut models: Vec<Model> = Vec::with_capacity(configs.len());
        for config in configs {
            config.validate()?;
            if models.iter().any(|known| known.config.name == config.name) {
                return Err(Error::config(
                    "name",
                    format!("two models are called `{}`", config.name),
                ));
            }
            models.push(Model::new(config)?);
        }
        Ok(Self { models, runtime: Mutex::default() })
    }

    /// The models' names, in the order of the configuration.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.models.iter().map(|model| model.config.name.as_str())
    }

    /// The call that [`Models::ask`] makes of a question: what the host stores it under.
    ///
    /// # Errors
    /// [`Error::Config`] when no such model is configured.
    pub fn call(&self, question: &Question<'_>) -> Result<Call> {
        Ok(self.model(question.model)?.call(question))
    }

    /// Asks a model and hands the answer to the host. Blocks until it is there.
    ///
    /// # Errors
    /// [`Error::Cancelled`]; what [`Host::recall`] and [`Host::remember`] answer; a model that is not
    /// configured; a machine that has no thread or no certificates left to ask with. Whatever a
    /// provider does is an answer, not an error.
    pub fn ask(&self, question: &Question<'_>, host: &dyn Host) -> Result<Answer> {
        self.answer(&self.call(question)?, question, Wanted::Text, host)
    }

    /// The answer to a call, recalled or asked for.
    fn answer(
        &self,
        call: &Call,
        question: &Question<'_>,
        wanted: Wanted,
        host: &dyn Host,
    ) -> Result<Answer> {
        let model = self.model(question.model)?;
        if let Some(answer) = host.recall(call)? {
            host.spend(&answer.cost);
            return Ok(answer);
        }
        if host.cancelled() {
            return Err(Error::Cancelled);
        }
        let mut spent = Spent::default();
        let asked = self.converse(model, question, wanted, host, &mut spent);
        let outcome = match asked {
            Ok(outcome) => outcome,
            Err(error) => {
                // What was charged is charged, though the answer is lost.
                if spent.cost != Cost::default() {
                    host.spend(&spent.cost);
                }
                return Err(error);
            }
        };
        let answer = Answer {
            outcome,
            cost: spent.cost,
            seconds: spent.began.map_or(0.0, |began| began.elapsed().as_secs_f64()),
            attempts: spent.attempts,
        };
        host.remember(call, &answer)?;
        host.spend(&answer.cost);
        Ok(answer)
    }

    /// Whether the model's circuit is open right now: its calls would fail at once. Depends on time:
    /// a hint for choosing among models, and never a reason for anything that a replay has to repeat.
    /// A model that is not configured is down.
    pub fn is_down(&self, model: &str) -> bool {
        self.model(model).map_or(true, |model| model.circuit.refuses())
    }

    /// What the model costs: as configured, else as listed for the provider's own address.
    pub fn price(&self, model: &str) -> Option<Price> {
        self.model(model).ok()?.price
    }

    /// The models whose answers cost nothing in our books, because nobody said what they cost. A
    /// budget in dollars does not hold for them.
    pub fn unpriced(&self) -> Vec<&str> {
        let unpriced = self.models.iter().filter(|model| model.price.is_none());
        unpriced.map(|model| model.config.name.as_str()).collect()
    }

    /// Makes sure that every key that is needed is there.
    ///
    /// # Errors
    /// [`Error::Config`], naming the variable or the file.
    pub fn require_keys(&self) -> Result<()> {
        let missing = self.models.iter().find_map(|model| match &model.key {
            Key::Missing(what) => Some(what),
            Key::Unneeded | Key::Present(_) => None,
        });
        missing.map_or(Ok(()), |what| Err(Error::Config(what.clone())))
    }

    fn model(&self, name: &str) -> Result<&Model> {
        self.models.iter().find(|model| model.config.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.names().collect();
            Error::config(
                "model",
                format!("no model is called `{name}` (known: {})", known.join(", ")),
            )
        })
    }

    /// Everything between the question and its outcome, for calls that were not made before.
    fn converse(
        &self,
        model: &Model,
        question: &Question<'_>,
        wanted: Wanted,
        host: &dyn Host,
        spent: &mut Spent,
    ) -> Result<Answered> {
        if let Key::Missing(what) = &model.key {
            return Ok(model.failed(&Failure::new(Kind::Unauthorized, what)));
        }
        if model.circuit.refuses() {
            return Ok(model.circuit_open());
        }
        let _place = model.gate.enter(host)?;
        let Some(ticket) = model.circuit.admit() else {
            return Ok(model.circuit_open());
        };
        let asked = self.persist(model, question, wanted, host, spent, &ticket)?;
        let (sign, outcome) = match asked {
            Ok(reply) => {
                let text = model.key.out_of_reply(&reply.text).into_owned();
                (Sign::Alive, Answered::Reply { text, cut: reply.cut })
            }
            Err(failure) => (failure.sign, model.failed(&failure)),
        };
        if ticket.report(sign) {
            let kind = match &outcome {
                Answered::Failed { kind, .. } => kind.as_str(),
                Answered::Reply { .. } => "",
            };
            tracing::warn!(model = %model.config.name, kind, "the model is down: not asking for a while");
        }
        Ok(outcome)
    }

    /// Sends requests until one succeeds or no more are worth it.
    fn persist(
        &self,
        model: &Model,
        question: &Question<'_>,
        wanted: Wanted,
        host: &dyn Host,
        spent: &mut Spent,
        ticket: &Ticket<'_>,
    ) -> Result<Result<Reply, Failure>> {
        let estimate = estimated(&question.messages);
        let most = if ticket.is_probe() { 1 } else { model.config.attempts };
        let mut empty = 0;
        loop {
            let counted = model.gate.turn(estimate, host)?;
            spent.began.get_or_insert_with(Instant::now);
            spent.attempts += 1;
            let seen = Arc::new(Seen::default());
            let result = self.exchange(model, question, wanted, host, &seen);
            let tokens = model.tokens(&result, &seen.so_far(), estimate);
            spent.cost += Price::cost(model.price, tokens);
            model.gate.settle(counted, tokens.total());
            let failure = match result? {
                Ok(reply) => return Ok(Ok(reply)),
                Err(failure) => failure,
            };
            let name = model.config.name.as_str();
            let kind = failure.kind.as_str();
            tracing::debug!(
                model = name,
                purpose = question.purpose,
                attempt = spent.attempts,
                kind,
                "no reply"
            );
            empty += u32::from(failure.again == Again::Once);
            let after =
                failure.after.map(|after| after.min(seconds(model.config.pace.retry_after_cap)));
            if let Some(after) = after {
                model.gate.hold(after);
            }
            let over = match failure.again {
                Again::Never => true,
                Again::Once => empty > 1,
                Again::Yes => false,
            };
            if over || spent.attempts >= most || !ticket.may_go_on() {
                return Ok(Err(failure));
            }
            let pause = model.backoff(spent.attempts, question);
            // Never earlier than asked for, and not all at the same moment.
            wait(after.unwrap_or_default() + pause, host)?;
            if !ticket.may_go_on() {
                return Ok(Err(failure));
            }
        }
    }

    /// One request, on the runtime's threads; this thread looks out for cancellation.
    fn exchange(
        &self,
        model: &Model,
        question: &Question<'_>,
        wanted: Wanted,
        host: &dyn Host,
        seen: &Arc<Seen>,
    ) -> Result<Result<Reply, Failure>> {
        let line = model.line()?;
        let seed = model.config.send_seed.then_some(question.seed & 0x7fff_ffff);
        let max_tokens = question.max_tokens.or(model.config.max_tokens);
        let messages = question.messages.clone();
        let seen = Arc::clone(seen);
        let (done, result) = mpsc::sync_channel(1);
        let task = self.handle()?.spawn(async move {
            let result = match wanted {
                Wanted::Text => line.send(messages, max_tokens, seed, seen).await,
                Wanted::Vector => {
                    line.embed(messages.into_iter().map(|said| said.text).collect(), seen).await
                }
            };
            // Nobody waits any more when the call was cancelled.
            drop(done.send(result));
        });
        loop {
            match result.recv_timeout(TICK) {
                Ok(result) => return Ok(result),
                Err(mpsc::RecvTimeoutError::Timeout) if host.cancelled() => {
                    task.abort();
                    return Err(Error::Cancelled);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Ok(Err(Failure::new(
                        Kind::Malformed,
                        "the response could not be read",
                    )));
                }
            }
        }
    }

    fn handle(&self) -> Result<Handle> {
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*runtime {
            return Ok(runtime.handle().clone());
        }
        let started = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("models")
            .on_thread_start(|| {
                // The libraries write requests, bodies and errors with bodies to the log, and a body may
                // repeat the key. What is worth knowing is said by the thread that asks.
                std::mem::forget(tracing::subscriber::set_default(
                    tracing::subscriber::NoSubscriber::default(),
                ));
            })
            .enable_all()
            .build()
            .map_err(|error| {
                Error::failed(format!("cannot start threads to ask models with: {error}"))
            })?;
        Ok(runtime.insert(started).handle().clone())
    }
}

impl Drop for Models {
    fn drop(&mut self) {
        let runtime = self.runtime.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = runtime.take() {
            // A name that is being looked up cannot be interrupted, and is not waited for.
            runtime.shutdown_background();
        }
    }
}
