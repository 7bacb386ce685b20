//! The mutator: who is asked, in which stage, and what is kept for repairs.

use crate::{
    ask::{Ask, connect},
    bandit::{self, Arm, Rules},
    config::{Config, CreditPer, Ensemble},
    context::{compose, finding_views, value},
    details::{Details, Tag},
    history::{History, Known},
    plan::Plan,
    prompts::Prompts,
    propose::{Draft, Proposing},
    reply::{self, Form, read_change},
    session::{Session, Stop, assistant, user},
};
use forerunner_sdk::{
    Change, Cost, Error, Host, Idea, Message, Mutator, Outcome, Proposal, ProposalRequest, Random,
    RepairRequest, Result, Seed,
};
use minijinja::context;
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Conversations that are kept for repairs; the oldest are forgotten first.
const TALKS: usize = 128;
/// Turns of a conversation that are kept besides its start: attempts with what was said of them.
const TURNS: usize = 2;
/// Bytes of one finding's message in a request for repair.
const MESSAGE: usize = 4_000;

/// The mutator `llm`. See the crate's page for what it does.
pub struct Llm {
    config: Config,
    ask: Box<dyn Ask>,
    credit_per: CreditPer,
    prompts: Prompts,
    history: Mutex<History>,
    /// By iteration.
    talks: Mutex<BTreeMap<u64, Talk>>,
}

/// A conversation that may go on.
struct Talk {
    messages: Vec<Message>,
    change: Change,
    form: Form,
    idea: Idea,
    details: Details,
    order: Vec<String>,
}

impl Llm {
    /// The mutator with its configuration.
    ///
    /// # Errors
    /// When a value, a model's settings or a template makes no sense.
    pub fn new(config: Config) -> Result<Self> {
        // First, so that what is wrong with the mutator is said before what is wrong with a model.
        config.check()?;
        let models = connect(&config.models)?;
        Self::asking(config, Box::new(models))
    }

    /// The mutator with its configuration, asking `ask` instead of the models that it names.
    ///
    /// # Errors
    /// When a value or a template makes no sense, or `credit_per` is dollars and a model is free.
    pub fn asking(config: Config, ask: Box<dyn Ask>) -> Result<Self> {
        config.check()?;
        let prompts = Prompts::new(config.prompts.as_deref())?;
        let mut asked = config.models.iter().filter(|model| !config.only_embeds(&model.name));
        let free = asked.find(|model| !ask.has_price(&model.name));
        if let (Some(CreditPer::Dollars), Some(free)) = (config.credit_per, free) {
            let why = format!(
                "nothing is known to be paid for `{}`, so that gains cannot be counted against \
                 dollars\nhint: set its `price`, or `credit_per = \"tokens\"`",
                free.name
            );
            return Err(Error::config("credit_per", why));
        }
        let by_price = if free.is_none() { CreditPer::Dollars } else { CreditPer::Tokens };
        let credit_per = config.credit_per.unwrap_or(by_price);
        Ok(Self {
            config,
            ask,
            credit_per,
            prompts,
            history: Mutex::default(),
            talks: Mutex::default(),
        })
    }

    fn history(&self) -> MutexGuard<'_, History> {
        // A panic in an earlier call was reported by the host; what is known stays usable.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn talks(&self) -> MutexGuard<'_, BTreeMap<u64, Talk>> {
        self.talks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All models, the chosen one first, then those after it in the configuration and around.
    fn order(&self, request: &ProposalRequest, known: &Known) -> Vec<String> {
        let models = &self.config.models;
        let arms = models.iter().map(|model| Arm { name: &model.name, weight: model.weight });
        let arms: Vec<Arm<'_>> = arms.collect();
        let rules = Rules {
            ensemble: self.config.ensemble,
            credit_per: self.credit_per,
            discount: self.config.discount,
        };
        let mut random = Random::new(Seed(request.seed).derive("llm.model", 0).0);
        let credits = match rules.ensemble {
            Ensemble::Bandit => self.history().credits(known.before),
            Ensemble::Weights => Vec::new(),
        };
        let first = bandit::choose(&arms, &credits, rules, &mut random);
        let names = models.iter().map(|model| model.name.clone());
        let names = names.clone().skip(first).chain(names.take(first));
        names.filter(|name| !self.config.only_embeds(name)).collect()
    }

    fn session<'a>(&'a self, host: &'a dyn Host, seed: u64, order: Vec<String>) -> Session<'a> {
        Session {
            ask: &*self.ask,
            host,
            seed,
            order,
            down: Vec::new(),
            calls: 0,
            prompt_bytes: 0,
            spent: Cost::default(),
            unavailable: Vec::new(),
        }
    }

    fn keep(&self, iteration: u64, talk: Talk) {
        let mut talks = self.talks();
        talks.insert(iteration, talk);
        if talks.len() > TALKS {
            talks.pop_first();
        }
    }
}

impl Mutator for Llm {
    fn propose(&self, request: &ProposalRequest, host: &dyn Host) -> Result<Proposal> {
        // One look at what is known: outcomes that arrive meanwhile make no difference.
        let known =
            self.history().known(&request.parent.id, &request.task.objectives, self.config.history);
        let plan = Plan::new(&self.config, request, &known);
        let order = self.order(request, &known);
        let prompts = self.prompts.of(&request.task.name);
        let context = compose(prompts, &self.config, request, &known)?;
        let details = Details {
            ideas_first: plan.ideas_first,
            form: plan.form.as_str().to_owned(),
            cut: context.cut.clone(),
            templates: prompts.replaced().map(str::to_owned).collect(),
            ..Details::default()
        };
        let mut proposing = Proposing {
            config: &self.config,
            prompts,
            request,
            context,
            known: &known,
            history: &self.history,
            plan,
            session: self.session(host, request.seed, order),
            details,
        };
        let draft = proposing.draft();
        let Proposing { session, mut details, .. } = proposing;
        let Draft { mut idea, change, messages } = draft.map_err(|stop| match stop {
            Stop::Host(error) => error,
            Stop::Lost(why) => {
                let tag = Tag { model: session.chosen(), cost: session.spent };
                Error::Failed(format!("{why} {}", tag.write()))
            }
        })?;
        count(&mut details, &session);
        details.chosen = session.chosen();
        details.change = reply::digest(&request.parent.program, &change);
        idea.stage = plan.stage().to_owned();
        idea.details = serde_json::to_value(&details).map_err(Error::failed)?;
        let talk = Talk {
            messages,
            change: change.clone(),
            form: plan.form,
            idea: idea.clone(),
            details,
            order: session.order,
        };
        self.keep(request.iteration, talk);
        Ok(Proposal { change, idea, cost: Cost::default() })
    }

    fn repair(&self, request: &RepairRequest, host: &dyn Host) -> Result<Option<Proposal>> {
        let RepairRequest { request: original, cause, findings, attempt, .. } = request;
        let Some(mut talk) = self.talks().remove(&original.iteration) else { return Ok(None) };
        let prompts = self.prompts.of(&original.task.name);
        let findings = value(finding_views(findings, MESSAGE));
        let variables = context! { cause => cause.as_str(), findings, attempt };
        talk.messages.push(user(prompts.render("repair", &variables)?));
        // The start, and the latest turns: an answer and what was said of it each.
        let oldest = talk.messages.len().saturating_sub(2 * TURNS).max(2);
        talk.messages.drain(2..oldest);

        let mut session = self.session(host, original.seed, talk.order.clone());
        session.calls = talk.details.calls;
        let role = self.config.roles.repair.clone();
        let role = role.unwrap_or_else(|| talk.details.implementation.clone());
        let said = match session.ask(Some(&role), "repair", &talk.messages) {
            Ok(said) => said,
            Err(Stop::Host(error)) => return Err(error),
            Err(Stop::Lost(why)) => return Err(Error::Failed(why)),
        };
        let change = match read_change(&said.text, talk.form, &original.parent.program) {
            Ok(change) if !said.cut && change != talk.change => change,
            _ => return Ok(None),
        };
        talk.messages.push(assistant(&said.text));
        talk.change = change.clone();
        count(&mut talk.details, &session);
        talk.details.repair = *attempt;
        talk.details.change = reply::digest(&original.parent.program, &change);
        talk.idea.details = serde_json::to_value(&talk.details).map_err(Error::failed)?;
        let idea = talk.idea.clone();
        self.keep(original.iteration, talk);
        Ok(Some(Proposal { change, idea, cost: Cost::default() }))
    }

    fn observe(&self, outcome: &Outcome) -> Result<()> {
        self.talks().remove(&outcome.iteration);
        self.history().add(outcome);
        Ok(())
    }
}

/// Adds what a session did.
fn count(details: &mut Details, session: &Session<'_>) {
    details.calls = session.calls;
    details.prompt_bytes += session.prompt_bytes;
    details.spent += session.spent;
    details.unavailable.extend(session.unavailable.iter().cloned());
}
