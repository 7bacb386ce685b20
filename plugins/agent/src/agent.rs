//! The mutator: one call to the agent for each proposal, answered from the record where there is one.

use crate::briefing::{Briefing, PROMPT, listing, parameters};
use crate::checks::Service;
use crate::harvest::Wanted;
use crate::history::History;
use crate::output::{Kept, Secrets, last_words};
use crate::scratch::Scratch;
use crate::session::{self, End, Session, Texts};
use crate::{Config, cost, idea};
use forerunner_sandbox::Outcome as Ending;
use forerunner_sdk::{
    Answer, Answered, Call, Change, Cost, Error, Host, Idea, Message, Mutator, Outcome, Program,
    Proposal, ProposalRequest, RepairRequest, Result, Role,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of `IDEA.md` and of a cost file that are read.
const NOTE_BYTES: u64 = 64 << 10;

/// The mutator `agent`. See the crate's page for what it does.
#[derive(Debug)]
pub struct Agent {
    config: Config,
    history: Mutex<History>,
}

/// What one start is about.
struct Work<'a> {
    request: &'a ProposalRequest,
    repair: Option<&'a RepairRequest>,
    /// What lies in the folder at first.
    start: &'a Program,
    ordinal: u32,
}

/// What the agent delivered: the text of its answer in the record.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Delivery {
    /// Files that are new or different from the parent's.
    files: BTreeMap<String, String>,
    /// Files of the parent that are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    removed: Vec<String>,
    idea: Idea,
    /// Checks that were made.
    checks: u32,
}

/// Why there is no delivery: a word for statistics, and a message.
type Failure = (&'static str, String);

impl Agent {
    /// The mutator with its configuration. An agent that is not installed is a warning only: a replay
    /// needs none.
    ///
    /// # Errors
    /// When a value makes no sense.
    pub fn new(config: Config) -> Result<Self> {
        config.check()?;
        if !session::is_installed(&config) {
            let program = config.command.first().map_or("", String::as_str);
            tracing::warn!(
                "there is no program `{}` for the agent `{}`; unless this is a replay, its proposals \
                 will fail",
                program.escape_debug(),
                config.name()
            );
        }
        Ok(Self { config, history: Mutex::default() })
    }

    fn history(&self) -> MutexGuard<'_, History> {
        // A panic in an earlier call was reported by the host; what is known stays usable.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the agent makes of the work, from the record or by starting it.
    fn delivery(&self, work: &Work<'_>, host: &dyn Host) -> Result<Delivery> {
        let wanted = Wanted::new(&self.config, &work.request.parent.program, work.start);
        let briefing =
            Briefing::new(&self.config, work.request, work.repair, &self.history(), &wanted);
        let call = self.call(work, &briefing);
        let answer = match host.recall(&call)? {
            Some(answer) => answer,
            None => {
                let answer = self.ask(work, &briefing, &wanted, host)?;
                host.remember(&call, &answer)?;
                answer
            }
        };
        host.spend(&answer.cost);
        match answer.outcome {
            Answered::Reply { text, .. } => serde_json::from_str(&text)
                .map_err(|error| Error::failed(format!("a recorded delivery is none: {error}"))),
            Answered::Failed { message, .. } => Err(Error::Failed(message)),
        }
    }

    fn call(&self, work: &Work<'_>, briefing: &Briefing) -> Call {
        let user = |text: String| Message { role: Role::User, text };
        let system = Message { role: Role::System, text: briefing.brief.clone() };
        let mut messages =
            vec![system, user(briefing.telemetry.clone()), user(briefing.history.clone())];
        messages.extend(briefing.findings.clone().map(user));
        messages.push(user(listing(work.start)));
        Call {
            model: self.config.name().to_owned(),
            purpose: "agent".to_owned(),
            parameters: parameters(&self.config),
            messages,
            seed: work.request.seed,
            ordinal: work.ordinal,
        }
    }

    /// Starts the agent. A failure of its own is an answer too.
    fn ask(
        &self,
        work: &Work<'_>,
        briefing: &Briefing,
        wanted: &Wanted,
        host: &dyn Host,
    ) -> Result<Answer> {
        if host.cancelled() {
            return Err(Error::Cancelled);
        }
        let config = &self.config;
        let scratch = Scratch::new(work.start, &briefing.documents())?;
        let checks = Service::open(&scratch, wanted, config.checks)?;
        host.progress(0.0, &format!("{} works", config.name()));
        let texts = Texts { prompt: PROMPT, brief: &briefing.brief };
        let session = session::run(config, &scratch, &texts, &checks, host);
        let secrets = Secrets::of(config);
        let cost = self.cost(&session, &scratch);
        let log = host.store(&self.log_name(work.ordinal), log(&session, &secrets).as_bytes());
        if matches!(session.end, End::Cancelled) {
            // What was begun is to be paid, too.
            host.spend(&cost);
            return Err(Error::Cancelled);
        }
        let delivered = self
            .ended_well(&session, &secrets)
            .and_then(|()| delivered(work, &scratch, wanted, &secrets, checks.used()));
        let outcome = match delivered {
            Ok(mut delivery) => {
                self.complete(&mut delivery, work);
                let text = serde_json::to_string(&delivery).map_err(Error::failed)?;
                Answered::Reply { text, cut: false }
            }
            Err((kind, message)) => {
                let place = log.map(|path| format!("\nhint: its output is in {}", path.display()));
                let message = format!("{} {message}{}", config.name(), place.unwrap_or_default());
                Answered::Failed { kind: kind.to_owned(), message }
            }
        };
        Ok(Answer { outcome, cost, seconds: session.seconds, attempts: 1 })
    }

    /// Whether the agent ended as it should.
    fn ended_well(&self, session: &Session, secrets: &Secrets) -> Result<(), Failure> {
        let words = last_words(&session.stderr.shown(secrets))
            .or_else(|| last_words(&session.stdout.shown(secrets)))
            .map(|words| format!("; its last words: {words}"))
            .unwrap_or_default();
        let seconds = session.seconds;
        let ended = match &session.end {
            End::Ended(ending) => ending,
            End::NotStarted(why) => return Err(("unavailable", format!("was not started: {why}"))),
            End::Lost(why) => return Err(("unavailable", format!("was lost: {why}"))),
            End::Cancelled => return Err(("unavailable", "was cancelled".to_owned())),
        };
        // What Linux sends to a writer of too much (signal(7)).
        const SIGXFSZ: i32 = 25;
        Err(match ended {
            Ending::Exited(0) => return Ok(()),
            Ending::Exited(code) => {
                ("unavailable", format!("ended with code {code} after {seconds:.0} s{words}"))
            }
            Ending::TimedOut => {
                ("timeout", format!("was ended after {} s, all it was given", self.config.seconds))
            }
            Ending::OutOfMemory => {
                ("unavailable", "needed more memory than it was given".to_owned())
            }
            Ending::Signalled(SIGXFSZ) => {
                let limit = self.config.disk_mib;
                (
                    "too_long",
                    format!("filled more than {limit} MiB of its folder, or closed it to us"),
                )
            }
            Ending::Signalled(signal) => {
                ("unavailable", format!("was ended by signal {signal} after {seconds:.0} s{words}"))
            }
            Ending::OutOfCpu => ("timeout", "used up its CPU time".to_owned()),
        })
    }

    fn cost(&self, session: &Session, scratch: &Scratch) -> Cost {
        if matches!(session.end, End::NotStarted(_)) {
            return Cost::default();
        }
        let dollars = self.config.dollars;
        let told = self.config.cost.as_ref().and_then(|source| match &source.file {
            Some(file) => cost::read(source, &scratch.text(file, NOTE_BYTES)?, dollars),
            None => cost::read(source, &session.stdout.text(), dollars),
        });
        told.unwrap_or(Cost { dollars, ..Cost::default() })
    }

    /// Adds to the idea what the agent need not say itself.
    fn complete(&self, delivery: &mut Delivery, work: &Work<'_>) {
        let idea = &mut delivery.idea;
        if let (Some(repair), true) = (work.repair, idea.summary.is_empty()) {
            *idea = repair.proposal.idea.clone();
        }
        if idea.summary.is_empty() {
            let names = delivery.files.keys().chain(&delivery.removed).map(String::as_str);
            let names: Vec<_> = names.take(4).collect();
            idea.summary = crate::text::line(&format!("changes {}", names.join(", ")), 200);
        }
        idea.stage = "agent".to_owned();
        idea.model = self.config.name().to_owned();
    }

    fn log_name(&self, ordinal: u32) -> String {
        let name: String =
            self.config.name().chars().filter(|c| c.is_ascii_alphanumeric()).take(40).collect();
        format!("agent-{name}-{ordinal}.log")
    }
}

impl Mutator for Agent {
    fn propose(&self, request: &ProposalRequest, host: &dyn Host) -> Result<Proposal> {
        let start = &request.parent.program;
        let work = Work { request, repair: None, start, ordinal: 0 };
        Ok(self.delivery(&work, host)?.proposal(start))
    }

    fn repair(&self, request: &RepairRequest, host: &dyn Host) -> Result<Option<Proposal>> {
        if request.attempt > self.config.repairs {
            return Ok(None);
        }
        let parent = &request.request.parent.program;
        let work = Work {
            request: &request.request,
            repair: Some(request),
            start: request.program.as_ref().unwrap_or(parent),
            ordinal: request.attempt,
        };
        Ok(Some(self.delivery(&work, host)?.proposal(parent)))
    }

    fn observe(&self, outcome: &Outcome) -> Result<()> {
        self.history().add(outcome);
        Ok(())
    }
}

impl Delivery {
    fn proposal(self, parent: &Program) -> Proposal {
        let change = if self.removed.is_empty() {
            Change::Files(self.files)
        } else {
            let mut program = parent.clone();
            program.files.retain(|path, _| !self.removed.contains(path));
            program.files.extend(self.files);
            Change::Program(program)
        };
        // What it cost was reported when it was spent.
        Proposal { change, idea: self.idea, cost: Cost::default() }
    }
}

/// What lies in the folder, against the parent.
fn delivered(
    work: &Work<'_>,
    scratch: &Scratch,
    wanted: &Wanted,
    secrets: &Secrets,
    checks: u32,
) -> Result<Delivery, Failure> {
    let program = scratch.program(wanted).map_err(|problem| {
        let problem = crate::text::block(&secrets.hide(&problem), 600);
        ("malformed", format!("left what cannot be taken: {problem}"))
    })?;
    if program.files.is_empty() {
        return Err(("empty", "removed the whole program".to_owned()));
    }
    let parent = &work.request.parent.program;
    if program == *work.start || program == *parent {
        return Err(("empty", "left the program as it was".to_owned()));
    }
    let mut texts = program.files.keys().chain(program.files.values());
    if texts.any(|text| secrets.are_in(text)) {
        return Err(("malformed", "wrote one of its secrets into the program".to_owned()));
    }
    let removed = parent.files.keys().filter(|path| !program.files.contains_key(*path)).cloned();
    let removed = removed.collect();
    let mut files = program.files;
    files.retain(|path, text| parent.files.get(path) != Some(text));
    let note = scratch.text("IDEA.md", NOTE_BYTES).unwrap_or_default();
    let is_cut = note.len() as u64 >= NOTE_BYTES;
    let idea = idea::parse(&Kept::beginning(note, is_cut).shown(secrets));
    Ok(Delivery { files, removed, idea, checks })
}

/// The agent's output, for people.
fn log(session: &Session, secrets: &Secrets) -> String {
    format!(
        "ended: {:?} after {:.1} s\nconfined by: {}\n\n--- standard output ---\n{}\n\
         --- standard error ---\n{}\n",
        session.end,
        session.seconds,
        session.layers,
        session.stdout.shown(secrets),
        session.stderr.shown(secrets)
    )
}
