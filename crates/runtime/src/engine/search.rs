//! The search: owns selector, store and events, and keeps lanes and slots at work.

use super::{
    Control, RunError, RunOptions,
    book::{Book, Entry, Outlook},
    cores::Cores,
    lanes::{self, Gate, Job, LaneContext, LaneMutator, Prepared},
    replay::{REPLAY_OF, Recording},
    resume,
    slots::{Measure, Slot, Ticket},
    standby::Standby,
};
use crate::{
    config::{Mode, RunFile},
    event::{EndReason, Event, EventKind, Summary},
    registry::Registry,
    store::{Calls, Iteration, Store},
    verification::{Hooks, Verification},
};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use forerunner_core::{
    Cost, EnvironmentSpec, Error, Evaluation, EvaluationRequest, Idea, Mutator, Program, Seed,
    Selector,
};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, OnceLock},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// What lanes and slots tell the search.
pub(super) enum Message {
    Ready(Box<EnvironmentSpec>),
    Fatal(RunError),
    Prepared(Box<Prepared>),
    /// Work that was given up because the run is stopping.
    Dropped,
    Measured {
        ticket: Ticket,
        evaluation: Box<Evaluation>,
        started: Instant,
        finished: Instant,
    },
    Progress {
        iteration: Option<u64>,
        fraction: f64,
        message: String,
    },
    WorkerLost {
        worker: String,
        reason: String,
    },
}

const TICK: Duration = Duration::from_secs(1);

pub(super) struct Search<'a> {
    pub(super) config: RunFile,
    pub(super) control: Control,
    pub(super) book: Book<'a>,
    pub(super) selector: Box<dyn Selector>,
    pub(super) lanes: Arc<LaneContext>,
    pub(super) jobs: Option<Sender<Job>>,
    pub(super) measures: Option<Sender<Measure>>,
    messages: Receiver<Message>,
    threads: Vec<JoinHandle<()>>,
    started: Instant,
    last_tick: Instant,
    /// Children issued and not complete.
    pub(super) in_flight: usize,
    /// Children issued in all.
    pub(super) issued: u64,
    /// Number of the next child.
    pub(super) next: u64,
    /// Children being measured.
    pub(super) measuring: BTreeMap<u64, Entry>,
    /// Children that are the same program as one that is being measured, with its number.
    pub(super) twins: Vec<(u64, Entry)>,
    /// How the mutators are doing.
    pub(super) standby: Standby,
    /// The run that is repeated.
    pub(super) recording: Option<Recording>,
    pub(super) generation: Generation,
    busy: Busy,
    /// Marked as ours until the run ends.
    cores: Cores,
    /// The same, for the slots.
    slot_cores: Arc<OnceLock<Vec<Vec<usize>>>>,
    core_locks: Option<PathBuf>,
    /// The hooks, for the slots.
    verification: Arc<OnceLock<Verification>>,
    registry: Registry,
}

/// The generation at work.
#[derive(Default)]
pub(super) struct Generation {
    pub(super) number: u64,
    /// Next iteration to be announced.
    pub(super) next: u64,
    /// What mutators knew when it began.
    pub(super) outlook: Option<Outlook>,
    /// Complete children that wait for their turn; `true` when they are announced.
    pub(super) done: BTreeMap<u64, (Entry, bool)>,
}

/// How long the slots were at work.
#[derive(Default)]
struct Busy {
    first: Option<Instant>,
    last: Option<Instant>,
    total: Duration,
}

impl<'a> Search<'a> {
    pub(super) fn start(
        options: RunOptions,
        sink: &'a mut dyn FnMut(&Event),
    ) -> Result<Self, RunError> {
        let started = Instant::now();
        let launch = options.launch()?;
        let RunOptions { config, folder, resume, registry, control, core_locks, .. } = options;
        let recording = match &options.replay {
            Some(recorded) => {
                Some((Recording::open(recorded, &config)?, Recording::for_lanes(recorded)?))
            }
            None => None,
        };
        let cores = Cores::claim(config.run.slots, core_locks.as_deref(), &folder);
        let mut store =
            if resume { Store::open(&folder)? } else { Store::create(&folder, &config)? };
        if let Some(recorded) = &options.replay {
            store.set_meta(REPLAY_OF, &recorded.display().to_string())?;
        }

        // Workers load the environment while this thread loads the other plugins.
        let (sender, messages) = unbounded();
        let (measures, measure_queue) = unbounded();
        let timeout = Duration::from_secs_f64(config.run.evaluation_timeout_seconds);
        let slot_cores = Arc::new(OnceLock::new());
        let verification = Arc::new(OnceLock::new());
        let mut threads: Vec<_> = (0..config.run.slots)
            .map(|index| {
                let slot = Slot {
                    index,
                    cores: Arc::clone(&slot_cores),
                    verification: Arc::clone(&verification),
                    launch: launch.clone(),
                    timeout,
                    control: control.clone(),
                    messages: sender.clone(),
                };
                let queue = measure_queue.clone();
                std::thread::spawn(move || slot.serve(&queue))
            })
            .collect();

        let find = |kind, name: &str, plugin: Option<&std::path::Path>| {
            registry.find(kind, name, plugin).map(|(plugin, _)| plugin)
        };
        let steady = config.run.mode == Mode::Steady;
        let mutators = config
            .mutators
            .iter()
            .map(|entry| {
                let parallel = steady || entry.parallel;
                let name = entry.name.clone();
                if let Some(own) = options.own_mutators.0.get(&name) {
                    let object: Box<dyn Mutator> = Box::new(Arc::clone(own));
                    return Ok(LaneMutator { name, object, parallel });
                }
                let plugin = find("mutator", &entry.name, entry.plugin.as_deref())?;
                let object = plugin.mutator(&entry.name, &entry.config)?;
                Ok(LaneMutator { name, object, parallel })
            })
            .collect::<Result<_, RunError>>()?;
        let entry = &config.selector;
        let selector = find("selector", &entry.name, entry.plugin.as_deref())?
            .selector(&entry.name, &entry.config)?;

        let gate = Gate::new(!steady);
        let (recording, recorded) = recording.unzip();
        let calls = (Calls::open(&folder)?, recorded);
        let (run, control_of_lanes) = (&config.run, control.clone());
        let lanes =
            LaneContext::new(launch, mutators, gate, control_of_lanes, &config, sender, calls);
        let lanes = Arc::new(lanes);
        let (jobs, job_queue) = unbounded();
        threads.extend(lanes::start(&lanes, run.slots + run.ahead, &job_queue));
        Ok(Self {
            control,
            book: Book::new(store, sink, started),
            selector,
            lanes,
            jobs: Some(jobs),
            measures: Some(measures),
            messages,
            threads,
            started,
            last_tick: started,
            in_flight: 0,
            issued: 0,
            next: 1,
            measuring: BTreeMap::new(),
            twins: Vec::new(),
            recording,
            standby: Standby::new(
                config.mutators.len(),
                Duration::from_secs_f64(config.run.pause_seconds),
            ),
            generation: Generation::default(),
            busy: Busy::default(),
            cores,
            slot_cores,
            core_locks,
            verification,
            registry,
            config,
        })
    }

    pub(super) fn run(mut self) -> Result<Summary, RunError> {
        let result = self.search();
        // Ends the threads: lanes and slots stop when there is nothing to receive.
        self.jobs = None;
        self.measures = None;
        if result.is_err() {
            self.control.interrupt();
            self.control.interrupt();
        }
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
        self.lanes.close();
        result
    }

    fn search(&mut self) -> Result<Summary, RunError> {
        let spec = self.wait_for_environment()?;
        let folder = self.book.store.folder();
        self.cores.widen(spec.cores, self.core_locks.as_deref(), folder);
        drop(self.slot_cores.set(self.cores.slots.clone()));
        let reference = spec.reference.clone();
        self.book.begin(spec);
        let hooks = self.load_hooks()?;
        let stored = resume::check(&mut self.book, &reference, &hooks)?;
        if let Some(recording) = &self.recording {
            recording.is_of(&self.book.store)?;
        }
        self.book.emit(EventKind::RunStarted {
            run: self.book.store.folder().display().to_string(),
            environment: self.book.task.name.clone(),
            track: self.book.task.track.clone(),
            summary: self.book.task.summary.clone(),
            objectives: self.book.task.objectives.clone(),
            frontier: self.book.task.frontier.clone(),
            seed: self.config.run.seed,
            slots: self.config.run.slots,
            evaluations: self.config.budget.evaluations,
            seconds: self.config.budget.seconds,
            dollars: self.config.budget.dollars,
            tokens: self.config.budget.tokens,
            resumed: stored.len().saturating_sub(1) as u64,
        });
        if let Some(message) = self.cores.warning.take() {
            self.book.emit(EventKind::Warning { message });
        }
        let task = EnvironmentSpec { reference: Program::default(), ..self.book.task.clone() };
        self.selector.start(&task).map_err(|error| self.selector_error(error))?;
        self.book.task = task;
        if stored.is_empty() {
            self.measure_reference(&reference)?;
        } else {
            self.replay(stored)?;
        }
        let reason = self.children()?;
        let confirmation = match reason {
            EndReason::Interrupted => None,
            _ => self.confirm()?,
        };
        if reason != EndReason::Interrupted {
            self.compare_with_recording()?;
        }
        let interrupted = self.control.is_interrupted();
        self.finish(if interrupted { EndReason::Interrupted } else { reason }, confirmation)
    }

    fn wait_for_environment(&mut self) -> Result<EnvironmentSpec, RunError> {
        loop {
            match self.messages.recv() {
                Ok(Message::Ready(spec)) => return Ok(*spec),
                Ok(Message::Fatal(error)) => return Err(error),
                Ok(_) => {}
                Err(_) => return Err(RunError::Reference("all workers ended".to_owned())),
            }
        }
    }

    /// Loads the hooks of the environment and the operator, for the slots; answers who they are.
    fn load_hooks(&self) -> Result<String, RunError> {
        let cache_dir = &self.lanes.launch.hello.cache_dir;
        let (registry, entries) = (&self.registry, &self.config.hooks[..]);
        let hooks = Hooks { registry, entries, cache_dir };
        let verification = Verification::load(&self.book.task, &hooks)?;
        let identity = verification.identity();
        drop(self.verification.set(verification));
        Ok(identity)
    }

    pub(super) fn selector_error(&self, error: Error) -> RunError {
        RunError::Selector { name: self.config.selector.name.clone(), error }
    }

    /// The injected seed of all search evaluations: common random numbers make children
    /// comparable with their parents.
    pub(super) fn search_seed(&self) -> u64 {
        Seed(self.config.run.seed).derive("evaluate", 0).0
    }

    fn measure_reference(&mut self, reference: &Program) -> Result<(), RunError> {
        if !self.answer_from_recording(Ticket::Reference, reference)? {
            let request = EvaluationRequest::new(reference.clone(), self.search_seed());
            self.send_request(Ticket::Reference, request, None);
        }
        let evaluation = loop {
            match self.receive()? {
                Some(Message::Measured { ticket: Ticket::Reference, evaluation, .. }) => {
                    break *evaluation;
                }
                Some(Message::Dropped) => {
                    return Err(RunError::Interrupted);
                }
                _ => {}
            }
        };
        if !evaluation.is_accepted() {
            let reasons: Vec<_> =
                evaluation.findings.iter().map(|f| format!("{}: {}", f.rule, f.message)).collect();
            return Err(RunError::Reference(reasons.join("; ")));
        }
        let iteration = Iteration {
            iteration: 0,
            generation: 0,
            island: 0,
            mutator: String::new(),
            parent: None,
            program: Some(reference.id()),
            idea: Idea { summary: "the reference program".to_owned(), ..Idea::default() },
            cost: Cost::default(),
            repairs: 0,
            duplicate: false,
        };
        let mut entry = Entry::stored(iteration, Some(reference.clone()), evaluation);
        entry.form = forerunner_workbench::form(reference);
        self.book.hold(EventKind::Reference {
            program: reference.id(),
            evaluation: super::book::outline(&entry.evaluation),
        });
        self.book.reference = entry.evaluation.metrics.clone();
        self.book.count(&entry.iteration, &entry.evaluation);
        self.book.write(&entry, self.search_seed())?;
        self.insert(&entry)
    }

    /// Asks for another measurement of a stored program.
    pub(super) fn send(&self, ticket: Ticket, request: EvaluationRequest) -> Result<(), RunError> {
        let parent = self.parent_of(&request.program)?;
        self.send_request(ticket, request, parent);
        Ok(())
    }

    /// Hands a measurement to whichever slot is free first.
    pub(super) fn send_request(
        &self,
        ticket: Ticket,
        request: EvaluationRequest,
        parent: Option<Program>,
    ) {
        if let Some(measures) = &self.measures {
            drop(measures.send(Measure { ticket, request, parent }));
        }
    }

    /// What a stored program was made from, when there are hooks to show it to.
    fn parent_of(&self, program: &Program) -> Result<Option<Program>, RunError> {
        if self.verification.get().is_none_or(Verification::is_empty) {
            return Ok(None);
        }
        match self.book.store.parent(&program.id())? {
            Some(parent) => Ok(self.book.store.program(&parent)?),
            None => Ok(None),
        }
    }

    /// Waits for a message, at most until the next tick. Progress and losses are passed on here.
    pub(super) fn receive(&mut self) -> Result<Option<Message>, RunError> {
        if self.last_tick.elapsed() >= TICK {
            self.last_tick = Instant::now();
            self.book.emit(EventKind::Tick);
        }
        match self.messages.recv_timeout(Duration::from_millis(100)) {
            Ok(Message::Fatal(error)) => Err(error),
            Ok(Message::Progress { iteration, fraction, message }) => {
                self.book.emit(EventKind::Progress { iteration, fraction, message });
                Ok(None)
            }
            Ok(Message::WorkerLost { worker, reason }) => {
                self.book.emit(EventKind::WorkerLost { worker, reason });
                Ok(None)
            }
            Ok(message) => Ok(Some(message)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                Err(RunError::Reference("all workers ended".to_owned()))
            }
        }
    }

    /// Whether the budget allows another child; in a replay, whether there was another one.
    pub(super) fn may_issue(&self) -> bool {
        let budget = &self.config.budget;
        !self.control.is_interrupted()
            && budget
                .evaluations
                .is_none_or(|limit| self.book.iterations + (self.in_flight as u64) < limit)
            && !self.time_is_up()
            && (self.recording.is_some() || !budget.is_spent(&self.lanes.spent()))
            && !self.mutators_are_given_up()
    }

    /// Mutators that are drawn at all.
    fn drawn(&self) -> impl Iterator<Item = usize> {
        let weights = self.config.mutators.iter().enumerate();
        weights.filter(|(_, entry)| entry.weight > 0.0).map(|(index, _)| index)
    }

    fn mutators_are_given_up(&self) -> bool {
        self.drawn().all(|mutator| self.standby.is_given_up(mutator))
    }

    /// Whether all mutators are put aside for now.
    pub(super) fn mutators_are_aside(&self) -> bool {
        let now = Instant::now();
        self.drawn().all(|mutator| self.standby.is_aside(mutator, now))
    }

    fn time_is_up(&self) -> bool {
        let limit = self.config.budget.seconds;
        // What ended the recorded run ends its repetition: the number of its iterations.
        self.recording.is_none()
            && limit.is_some_and(|limit| self.started.elapsed().as_secs_f64() >= limit)
    }

    /// Issues and completes children until the budget is used up.
    fn children(&mut self) -> Result<EndReason, RunError> {
        loop {
            if self.time_is_up() {
                self.control.set_closed(true);
            }
            self.issue()?;
            // What waits for a measurement that was given up is given up with it.
            if self.in_flight == self.twins.len() && !self.may_issue() {
                self.in_flight = 0;
                self.twins.clear();
                break;
            }
            match self.receive()? {
                Some(Message::Prepared(prepared)) => self.prepared(*prepared)?,
                Some(Message::Measured {
                    ticket: Ticket::Child(child),
                    evaluation,
                    started,
                    finished,
                }) => {
                    self.busy.first.get_or_insert(started);
                    self.busy.last = Some(finished);
                    self.busy.total += finished - started;
                    if let Some(mut entry) = self.measuring.remove(&child) {
                        let remarks = std::mem::take(&mut entry.evaluation.findings);
                        entry.evaluation = *evaluation;
                        // A recorded measurement has them already.
                        if self.recording.is_none() {
                            entry.evaluation.findings.splice(0..0, remarks);
                        }
                        self.complete(entry)?;
                        self.complete_twins(child)?;
                    }
                }
                Some(Message::Dropped) => self.in_flight -= 1,
                _ => {}
            }
        }
        self.close_generation()?;
        self.control.set_closed(false);
        Ok(if self.control.is_interrupted() {
            EndReason::Interrupted
        } else if self.time_is_up() {
            EndReason::Time
        } else if self.config.budget.dollars_are_spent(&self.lanes.spent()) {
            EndReason::Dollars
        } else if self.config.budget.tokens_are_spent(&self.lanes.spent()) {
            EndReason::Tokens
        } else if self.mutators_are_given_up() {
            EndReason::Mutators
        } else {
            EndReason::Evaluations
        })
    }

    fn finish(
        &mut self,
        reason: EndReason,
        confirmation: Option<crate::event::Confirmation>,
    ) -> Result<Summary, RunError> {
        let (best, best_metrics) = self.book.best.clone().unwrap_or_default();
        let window = self.busy.first.zip(self.busy.last).map(|(first, last)| last - first);
        let slots = self.config.run.slots as f64;
        let summary = Summary {
            reason,
            run: self.book.store.folder().display().to_string(),
            iterations: self.book.iterations,
            accepted: self.book.accepted,
            failures: self.book.failures.clone(),
            reference: self.book.reference.clone(),
            best,
            best_metrics,
            frontier: self.book.frontier(),
            confirmation,
            slot_use: window.map_or(0.0, |window| {
                self.busy.total.as_secs_f64() / (window.as_secs_f64() * slots).max(1e-9)
            }),
            seconds: self.book.seconds(),
            cost: self.lanes.spent(),
            replay_of: self.book.store.meta(REPLAY_OF)?,
        };
        self.book.emit(EventKind::RunFinished(Box::new(summary.clone())));
        self.book.flush()?;
        Ok(summary)
    }
}
