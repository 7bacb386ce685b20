//! The search: owns selector, store and events, and keeps lanes and slots at work.

use super::{
    Control, RunError, RunOptions,
    book::{Book, Entry},
    lanes::{self, Gate, Job, LaneContext, LaneMutator, Prepared},
    resume,
    slots::{self, Measure, Slot, Ticket},
};
use crate::{
    config::{Mode, RunFile},
    event::{EndReason, Event, EventKind, Summary},
    store::{Iteration, Store},
};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use forerunner_core::{
    Cost, EnvironmentSpec, Error, Evaluation, EvaluationRequest, Idea, Member, Outcome, Program,
    ProgramId, ProposalRequest, Purpose, Seed, Select, Selection, Selector, Slice, Standing,
};
use std::{
    collections::BTreeMap,
    sync::Arc,
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
    selector: Box<dyn Selector>,
    lanes: Arc<LaneContext>,
    jobs: Option<Sender<Job>>,
    pub(super) measures: Option<Sender<Measure>>,
    messages: Receiver<Message>,
    threads: Vec<JoinHandle<()>>,
    started: Instant,
    last_tick: Instant,
    /// Children issued and not complete.
    in_flight: usize,
    /// Number of the next child.
    next: u64,
    /// Children being measured.
    measuring: BTreeMap<u64, Entry>,
    generation: Generation,
    busy: Busy,
}

/// The generation at work.
#[derive(Default)]
pub(super) struct Generation {
    pub(super) number: u64,
    /// Next iteration to be announced.
    next: u64,
    /// Complete children that wait for their turn; `true` when they are announced.
    done: BTreeMap<u64, (Entry, bool)>,
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
        let RunOptions { config, folder, resume, registry, control, .. } = options;
        let cores = slots::assign_cores(config.run.slots);
        let store = if resume { Store::open(&folder)? } else { Store::create(&folder, &config)? };

        // Workers load the environment while this thread loads the other plugins.
        let (sender, messages) = unbounded();
        let (measures, measure_queue) = unbounded();
        let timeout = Duration::from_secs_f64(config.run.evaluation_timeout_seconds);
        let mut threads: Vec<_> = cores
            .into_iter()
            .enumerate()
            .map(|(index, core)| {
                let slot = Slot {
                    index,
                    core,
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
                let plugin = find("mutator", &entry.name, entry.plugin.as_deref())?;
                let object = plugin.mutator(&entry.name, &entry.config)?;
                let parallel = steady || entry.parallel;
                Ok(LaneMutator { name: entry.name.clone(), object, parallel })
            })
            .collect::<Result<_, RunError>>()?;
        let entry = &config.selector;
        let selector = find("selector", &entry.name, entry.plugin.as_deref())?
            .selector(&entry.name, &entry.config)?;

        let gate = if steady { Gate::open() } else { Gate::ordered(1) };
        let run = &config.run;
        let lanes =
            Arc::new(LaneContext::new(launch, mutators, gate, control.clone(), run, sender));
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
            next: 1,
            measuring: BTreeMap::new(),
            generation: Generation::default(),
            busy: Busy::default(),
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
        let reference = spec.reference.clone();
        self.book.begin(spec);
        let stored = resume::check(&mut self.book, &reference)?;
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
            resumed: stored.len().saturating_sub(1) as u64,
        });
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

    fn selector_error(&self, error: Error) -> RunError {
        RunError::Selector { name: self.config.selector.name.clone(), error }
    }

    /// The injected seed of all search evaluations: common random numbers make children
    /// comparable with their parents.
    pub(super) fn search_seed(&self) -> u64 {
        Seed(self.config.run.seed).derive("evaluate", 0).0
    }

    fn measure_reference(&mut self, reference: &Program) -> Result<(), RunError> {
        self.send_measure(Ticket::Reference, reference.clone(), self.search_seed());
        let evaluation = loop {
            match self.receive()? {
                Some(Message::Measured { ticket: Ticket::Reference, evaluation, .. }) => {
                    break *evaluation;
                }
                Some(Message::Dropped) => {
                    return Err(RunError::Reference("stopped before it was measured".to_owned()));
                }
                _ => {}
            }
        };
        if !evaluation.is_accepted() {
            let reasons: Vec<_> =
                evaluation.findings.iter().map(|f| format!("{}: {}", f.rule, f.message)).collect();
            return Err(RunError::Reference(reasons.join("; ")));
        }
        let entry = Entry {
            iteration: Iteration {
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
            },
            program: Some(reference.clone()),
            evaluation,
            failed_checks: Vec::new(),
        };
        self.book.emit(EventKind::Reference {
            program: reference.id(),
            evaluation: super::book::outline(&entry.evaluation),
        });
        self.book.reference = entry.evaluation.metrics.clone();
        self.book.count(&entry.iteration, &entry.evaluation);
        self.book.write(&entry, self.search_seed())?;
        self.insert(&entry)
    }

    pub(super) fn send_measure(&self, ticket: Ticket, program: Program, seed: u64) {
        let mut request = EvaluationRequest::new(program, seed);
        if let Ticket::Confirm(_) = ticket {
            request.slice = self.config.confirm.slice;
            request.purpose = Purpose::Confirm;
        } else {
            request.slice = Slice::Dev;
        }
        if let Some(measures) = &self.measures {
            drop(measures.send(Measure { ticket, request }));
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

    /// Whether the budget allows another child.
    fn may_issue(&self) -> bool {
        let budget = &self.config.budget;
        !self.control.is_interrupted()
            && budget
                .evaluations
                .is_none_or(|limit| self.book.iterations + (self.in_flight as u64) < limit)
            && !self.time_is_up()
    }

    fn time_is_up(&self) -> bool {
        let limit = self.config.budget.seconds;
        limit.is_some_and(|limit| self.started.elapsed().as_secs_f64() >= limit)
    }

    /// Issues and completes children until the budget is used up.
    fn children(&mut self) -> Result<EndReason, RunError> {
        loop {
            if self.time_is_up() {
                self.control.set_closed(true);
            }
            self.issue()?;
            if self.in_flight == 0 && !self.may_issue() {
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
                        entry.evaluation.findings.splice(0..0, remarks);
                        self.complete(entry)?;
                    }
                }
                Some(Message::Dropped) => self.in_flight -= 1,
                _ => {}
            }
        }
        self.close_generation(true)?;
        self.control.set_closed(false);
        Ok(if self.control.is_interrupted() {
            EndReason::Interrupted
        } else if self.time_is_up() {
            EndReason::Time
        } else {
            EndReason::Evaluations
        })
    }

    fn issue(&mut self) -> Result<(), RunError> {
        let run = &self.config.run;
        match run.mode {
            Mode::Steady => {
                let room = run.slots + run.ahead;
                while self.in_flight < room && self.may_issue() {
                    let generation = (self.next - 1) / self.config.run.children as u64 + 1;
                    let selections = self.select(self.next, generation, 1)?;
                    for selection in selections {
                        self.issue_child(generation, selection)?;
                    }
                }
            }
            Mode::Generations => {
                if self.in_flight == 0 && self.may_issue() {
                    self.close_generation(false)?;
                    self.open_generation()?;
                }
            }
        }
        Ok(())
    }

    fn open_generation(&mut self) -> Result<(), RunError> {
        let size = self.config.run.children as u64;
        let number = (self.next - 1) / size + 1;
        let first = (number - 1) * size + 1;
        let left = self.config.budget.evaluations.map(|limit| limit - self.book.iterations);
        let missing: Vec<u64> = (first..first + size)
            .filter(|iteration| !self.generation.done.contains_key(iteration))
            .take(left.unwrap_or(size).min(size) as usize)
            .collect();
        self.generation.number = number;
        if self.generation.done.is_empty() {
            self.generation.next = first;
            let children = missing.len();
            self.book.emit(EventKind::GenerationStarted { generation: number, children });
        }
        let selections = self.select(first, number, size as usize)?;
        for iteration in missing {
            let index = (iteration - first) as usize % selections.len().max(1);
            let Some(selection) = selections.get(index) else { continue };
            self.next = iteration;
            self.issue_child(number, selection.clone())?;
        }
        self.next = first + size;
        Ok(())
    }

    /// Inserts a complete generation in order. With `partial`, what there is of it.
    fn close_generation(&mut self, partial: bool) -> Result<(), RunError> {
        if self.generation.done.is_empty() {
            return self.book.flush();
        }
        let done = std::mem::take(&mut self.generation.done);
        let full = done.len() == self.config.run.children;
        for (mut entry, announced) in done.into_values() {
            if !announced {
                self.announce_child(&entry);
            }
            entry.program = None;
            self.insert(&entry)?;
        }
        if let (true, Some((best, _))) = (full || !partial, self.book.best.clone()) {
            let generation = self.generation.number;
            self.book.emit(EventKind::GenerationFinished { generation, best });
        }
        self.book.flush()
    }

    /// Puts a child that the store already holds into the generation at work.
    pub(super) fn adopt(&mut self, entry: Entry) {
        self.generation.done.insert(entry.iteration.iteration, (entry, true));
    }

    pub(super) fn set_next(&mut self, next: u64) {
        self.next = next;
        self.generation.next = next;
    }

    fn select(
        &self,
        iteration: u64,
        generation: u64,
        count: usize,
    ) -> Result<Vec<Selection>, RunError> {
        let seed = Seed(self.config.run.seed).derive("select", iteration).0;
        self.selector
            .select(&Select { iteration, generation, count, seed })
            .map_err(|error| self.selector_error(error))
    }

    fn member(&self, id: &ProgramId) -> Result<Option<Member>, RunError> {
        let store = &self.book.store;
        let (program, evaluation) = (store.program(id)?, store.search_evaluation(id)?);
        Ok(program.zip(evaluation).map(|(program, evaluation)| Member {
            id: id.clone(),
            program,
            evaluation,
        }))
    }

    fn issue_child(&mut self, generation: u64, selection: Selection) -> Result<(), RunError> {
        let iteration = self.next;
        self.next += 1;
        let seed = Seed(self.config.run.seed);
        let Some(parent) = self.member(&selection.parent)? else {
            let error =
                Error::failed(format!("it chose `{}`, which is not stored", selection.parent));
            return Err(self.selector_error(error));
        };
        let mut inspirations = Vec::new();
        for id in &selection.inspirations {
            inspirations.extend(self.member(id)?);
        }
        let request = ProposalRequest {
            iteration,
            seed: seed.derive("propose", iteration).0,
            task: self.book.task.clone(),
            failures: self.book.failures_of(&selection.parent),
            parent,
            inspirations,
        };
        let mutator = self.draw_mutator(seed.derive("mutator", iteration).unit());
        if let Some(jobs) = &self.jobs {
            let island = selection.island;
            drop(jobs.send(Job { iteration, generation, island, mutator, request }));
            self.in_flight += 1;
        }
        Ok(())
    }

    /// The mutator at `unit` of the weights' total.
    fn draw_mutator(&self, unit: f64) -> usize {
        let weights = self.config.mutators.iter().map(|entry| entry.weight);
        let mut left = unit * weights.clone().sum::<f64>();
        for (index, weight) in weights.enumerate() {
            if left < weight {
                return index;
            }
            left -= weight;
        }
        self.config.mutators.len() - 1
    }

    fn prepared(&mut self, prepared: Prepared) -> Result<(), RunError> {
        let iteration = prepared.iteration;
        let id = prepared.program.as_ref().map(Program::id);
        let known = match (&id, &prepared.outcome) {
            (Some(id), Ok(_)) => self.book.store.search_evaluation(id)?,
            _ => None,
        };
        let duplicate = known.is_some();
        let (measure, evaluation) = match (prepared.outcome, known) {
            (_, Some(known)) => (false, known),
            (Err(failure), None) => (false, *failure),
            (Ok(remarks), None) => {
                // A placeholder that carries the remarks of the check until the measurement.
                let mut waiting = Evaluation::accepted("waiting", 0.0);
                waiting.findings = remarks;
                (true, waiting)
            }
        };
        let entry = Entry {
            iteration: Iteration {
                iteration,
                generation: prepared.generation,
                island: prepared.island,
                mutator: self.lanes.mutators[prepared.mutator].name.clone(),
                parent: Some(prepared.request.parent.id.clone()),
                program: id,
                idea: prepared.idea,
                cost: prepared.cost,
                repairs: prepared.repairs,
                duplicate,
            },
            program: prepared.program,
            evaluation,
            failed_checks: prepared.failed_checks,
        };
        if self.config.run.mode == Mode::Steady {
            self.announce_proposal(&entry);
        }
        if let (true, Some(program)) = (measure, &entry.program) {
            self.send_measure(Ticket::Child(iteration), program.clone(), self.search_seed());
            self.measuring.insert(iteration, entry);
            Ok(())
        } else {
            self.complete(entry)
        }
    }

    fn announce_proposal(&mut self, entry: &Entry) {
        let Iteration { iteration, mutator, parent, idea, .. } = &entry.iteration;
        let parent = parent.clone().unwrap_or_default();
        self.book.announce_proposal(*iteration, mutator, &parent, idea);
    }

    fn announce_child(&mut self, entry: &Entry) {
        if self.config.run.mode == Mode::Generations {
            self.announce_proposal(entry);
        }
        self.book.announce(entry);
    }

    /// Records a complete child; in a generation, events keep the order of the children.
    fn complete(&mut self, mut entry: Entry) -> Result<(), RunError> {
        self.in_flight -= 1;
        let seed = self.search_seed();
        if self.config.run.mode == Mode::Steady {
            self.announce_child(&entry);
            self.book.write(&entry, seed)?;
            return self.insert(&entry);
        }
        let iteration = entry.iteration.iteration;
        let in_turn = iteration == self.generation.next;
        if in_turn {
            self.announce_child(&entry);
            self.book.write(&entry, seed)?;
        } else {
            self.book.write_ahead(&entry, seed)?;
        }
        entry.program = None;
        self.generation.done.insert(iteration, (entry, in_turn));
        if in_turn {
            self.generation.next += 1;
            self.announce_waiting();
        }
        Ok(())
    }

    /// Announces complete children whose turn has come.
    fn announce_waiting(&mut self) {
        let mut done = std::mem::take(&mut self.generation.done);
        while let Some((entry, announced)) = done.get_mut(&self.generation.next) {
            if !*announced {
                self.announce_child(entry);
                *announced = true;
            }
            self.generation.next += 1;
        }
        self.generation.done = done;
    }

    /// Tells selector and mutator what became of a child.
    pub(super) fn insert(&mut self, entry: &Entry) -> Result<(), RunError> {
        let Entry { iteration, evaluation, program, .. } = entry;
        let id = iteration.program.clone().unwrap_or_default();
        let bytes = match program {
            Some(program) => program.len_bytes(),
            None => 0,
        };
        if iteration.program.is_some() {
            let standing = Standing {
                id,
                parent: iteration.parent.clone(),
                iteration: iteration.iteration,
                island: iteration.island,
                verdict: evaluation.verdict,
                metrics: evaluation.metrics.clone(),
                bytes: bytes as u64,
                cost: iteration.cost,
            };
            self.selector.insert(&standing).map_err(|error| self.selector_error(error))?;
        }
        let Some(parent) = &iteration.parent else { return Ok(()) };
        let mutator = self.lanes.mutators.iter().find(|m| m.name == iteration.mutator);
        let (Some(mutator), Some(parent_evaluation)) =
            (mutator, self.book.store.search_evaluation(parent)?)
        else {
            return Ok(());
        };
        let outcome = Outcome {
            iteration: iteration.iteration,
            idea: iteration.idea.clone(),
            parent: parent.clone(),
            parent_evaluation: super::book::outline(&parent_evaluation),
            program: iteration.program.clone(),
            evaluation: super::book::outline(evaluation),
        };
        if let Err(error) = mutator.object.observe(&outcome) {
            let message =
                format!("mutator `{}` could not learn from a result: {error}", mutator.name);
            self.book.emit(EventKind::Warning { message });
        }
        Ok(())
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
        };
        self.book.emit(EventKind::RunFinished(Box::new(summary.clone())));
        self.book.flush()?;
        Ok(summary)
    }
}
