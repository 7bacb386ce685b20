//! The trainer's conversation: serve tokens, watch the clock, take the snapshot.

use crate::{
    Track,
    clock::{Charge, Meter, Used},
    handover::{HandOver, greet},
    pace::{Pace, Phases},
    process::{Process, Stop, Trouble},
    stopwatch::Stopwatch,
    stream::{Ledger, Stream},
    telemetry::Log,
    track::Clock,
};
use forerunner_core::{Cause, Host};
use forerunner_nanogpt_protocol::{
    BatchRequest, Collect, Device, FromProgram, FromSupervisor, Limits, Snapshot, Spec, Start,
    VERSION,
};
use forerunner_sandbox::Finished;
use std::time::Instant;

/// Name of this process in findings.
const STAGE: &str = "the trainer";
/// Batches before the second look at the parameters; each further look comes after twice as many.
/// The first one comes before any token is served.
pub(crate) const SECOND_PEEK: u64 = 32;
/// How many times as many batches lie before the next look: on a GPU a look at a large model takes
/// some tenths of a second, and is charged.
const PEEK_FACTOR: (u64, u64) = (2, 4);
/// Records between two requests beyond which the program is talking to nobody.
const MAX_RECORDS: u32 = 10_000;
/// Seconds of the trainer between two progress messages.
const PROGRESS_SECONDS: f64 = 0.5;

/// What a program is trained for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Task<'a> {
    /// The track's setting.
    pub(crate) track: &'a Track,
    /// Number of token values.
    pub(crate) vocab: usize,
    /// The injected seed.
    pub(crate) seed: u64,
    /// What the harness is to collect.
    pub(crate) collect: Collect,
}

impl Task<'_> {
    /// The first message to a trainer, or to an evaluator with a seed of 0. On a GPU the seed comes
    /// with the hand-over, see [`greet`].
    pub(crate) fn start(&self) -> FromSupervisor {
        let Track { device, custom_kernels, .. } = *self.track;
        FromSupervisor::Start(Start {
            version: VERSION,
            track: self.track.name.clone(),
            seed: if device == Device::Cpu { self.seed } else { 0 },
            vocab: self.vocab,
            context: self.track.context,
            max_parameters: self.track.max_parameters,
            limits: Limits {
                cpu_seconds: self.track.cpu_seconds,
                memory_bytes: self.track.memory_bytes,
                batch_tokens: self.track.batch_tokens,
            },
            collect: self.collect,
            device,
            custom_kernels,
        })
    }
}

/// The parameters on the way.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    /// Batches served before.
    pub(crate) step: u64,
    /// The parameters then.
    pub(crate) snapshot: Snapshot,
}

/// A finished training.
#[derive(Debug)]
pub(crate) struct Trained {
    /// The parameters that are scored.
    pub(crate) snapshot: Snapshot,
    /// What it is charged.
    pub(crate) charge: Charge,
    /// Seconds that its threads waited for a core, where that is known.
    pub(crate) delayed_seconds: Option<f64>,
    /// What it was served.
    pub(crate) ledger: Ledger,
    /// Looks on the way, for the dev curve.
    pub(crate) checkpoints: Vec<Checkpoint>,
    /// Where its seconds went, phase by phase.
    pub(crate) phases: Phases,
    /// The device, where it was trained on one.
    pub(crate) hand_over: Option<HandOver>,
    /// How the process ended, and in what sandbox.
    pub(crate) finished: Finished,
}

/// One training run in progress.
pub(crate) struct Trainer<'a, 'm, P> {
    process: P,
    task: Task<'a>,
    stream: Stream<'a>,
    meter: &'a mut Meter<'m>,
    log: &'a mut Log,
    host: &'a dyn Host,
    /// Stop with a look at the parameters after so many batches: a smoke test.
    stop_after: Option<u64>,
    checkpoints: Vec<Checkpoint>,
    pace: Pace,
    /// Runs from the greeting on; on a GPU from the hand-over on.
    watch: Stopwatch,
    hand_over: Option<HandOver>,
    /// Called when a device is handed over.
    starting: Option<Box<dyn FnOnce() + 'a>>,
    /// Names and shapes of the parameters before any token was served: they cannot tell anything
    /// about the data, and must stay as they are.
    specs: Option<Vec<Spec>>,
    next_peek: u64,
    next_progress: f64,
}

impl<'a, 'm, P: Process> Trainer<'a, 'm, P> {
    /// A trainer that has not been told anything yet. `meter` must have been started.
    pub(crate) fn new(
        process: P,
        task: Task<'a>,
        stream: Stream<'a>,
        meter: &'a mut Meter<'m>,
        log: &'a mut Log,
        host: &'a dyn Host,
    ) -> Self {
        Self {
            process,
            task,
            stream,
            meter,
            log,
            host,
            stop_after: None,
            checkpoints: Vec::new(),
            pace: Pace::default(),
            watch: Stopwatch::start(Instant::now(), task.track.threads),
            hand_over: None,
            starting: None,
            specs: None,
            next_peek: 0,
            next_progress: PROGRESS_SECONDS,
        }
    }

    /// Has `starting` called when a device is handed over, just before the clock starts.
    pub(crate) fn when_handed_over<R>(mut self, starting: impl FnOnce() -> R + 'a) -> Self {
        self.starting = Some(Box::new(|| drop(starting())));
        self
    }

    /// Makes a smoke test of it: after `n_batches` the parameters are taken as they are.
    pub(crate) fn stop_after(mut self, n_batches: u64) -> Self {
        self.stop_after = Some(n_batches);
        self
    }

    /// Talks until the snapshot is there.
    pub(crate) fn run(mut self) -> Result<Trained, Trouble> {
        let result = self.talk().and_then(|snapshot| self.same_parameters(snapshot));
        match result {
            Ok(snapshot) => self.finish(snapshot),
            Err(stop) => Err(self.process.stopped(STAGE, self.task.track.max_parameters, stop)),
        }
    }

    fn talk(&mut self) -> Result<Snapshot, Stop> {
        let (watch, task, starting) = (&mut self.watch, self.task, self.starting.take());
        self.hand_over = greet(&mut self.process, &task, STAGE, |_| {
            if let Some(starting) = starting {
                starting();
            }
            *watch = match task.track.clock {
                Clock::Elapsed => Stopwatch::without_pauses(Instant::now()),
                _ => Stopwatch::start(Instant::now(), task.track.threads),
            };
        })?;
        // Room for twice the parameter cap, so that a snapshot above it can be told its size.
        let limit = (1 << 20) + 4 * self.task.track.max_parameters as u64;
        let mut n_records = 0;
        loop {
            match self.process.receive(limit)? {
                FromProgram::Batch(request) => {
                    self.watch.stop(Instant::now(), self.process.cpu_seconds());
                    n_records = 0;
                    if let Some(snapshot) = self.batch(request, limit)? {
                        return Ok(snapshot);
                    }
                }
                FromProgram::Record(record) => {
                    self.log.record(&record);
                    n_records += 1;
                    if n_records > MAX_RECORDS {
                        let text = format!("more than {MAX_RECORDS} records without a batch");
                        return Err(protocol("protocol/records", text));
                    }
                }
                FromProgram::Summary(summary) => self.log.summary(&summary),
                FromProgram::Snapshot(snapshot) => {
                    self.watch.end(Instant::now(), self.process.cpu_seconds());
                    return Ok(snapshot);
                }
                FromProgram::Ready(_)
                | FromProgram::Checkpoint(_)
                | FromProgram::Logits(_)
                | FromProgram::Losses(_)
                | FromProgram::Loss(_) => {
                    let text = format!("{STAGE} sent a frame that nobody asked for");
                    return Err(protocol("protocol/frame", text));
                }
            }
        }
    }

    /// Answers a request for tokens, or ends a smoke test with the parameters as they are.
    fn batch(&mut self, request: BatchRequest, limit: u64) -> Result<Option<Snapshot>, Stop> {
        self.boundary()?;
        let Ledger { batches, .. } = self.stream.ledger();
        if self.stop_after.is_some_and(|n_batches| batches >= n_batches) {
            return self.peek(limit).map(Some);
        }
        if batches == self.next_peek {
            let factor = match self.task.track.device {
                Device::Cpu => PEEK_FACTOR.0,
                Device::Cuda => PEEK_FACTOR.1,
            };
            self.next_peek = (factor * batches).max(SECOND_PEEK);
            let snapshot = self.peek(limit)?;
            self.specs.get_or_insert_with(|| snapshot.specs().to_vec());
            self.checkpoints.push(Checkpoint { step: batches, snapshot });
        }
        let most = self.task.track.batch_tokens;
        let sensible = request.batch > 0 && request.length > 0 && request.tokens() <= most;
        let tokens = if sensible { self.stream.serve(request) } else { None };
        let Some(tokens) = tokens else {
            let text = format!(
                "asked for {} sequences of {} positions; a batch has at least one of each and at \
                 most {most} tokens",
                request.batch, request.length
            );
            return Err(protocol("protocol/batch", text));
        };
        self.answer(&FromSupervisor::Tokens(tokens))?;
        Ok(None)
    }

    /// Sends what the trainer waits for; from then on its time is counted again.
    fn answer(&mut self, message: &FromSupervisor) -> Result<(), Stop> {
        self.watch.resume(Instant::now(), self.process.cpu_seconds());
        Ok(self.process.tell(message)?)
    }

    /// The trainer waits for us: calibrate, check its budget, tell people.
    fn boundary(&mut self) -> Result<(), Stop> {
        let Some(cpu_seconds) = self.process.cpu_seconds() else { return Ok(()) };
        let process = &self.process;
        let used = Used { cpu_seconds, wall_seconds: self.watch.seconds(Instant::now()) };
        self.meter.boundary(used, || process.cpu_seconds());
        self.pace.boundary(self.stream.ledger(), self.meter.counted(used));
        let Track { cpu_seconds: most, wall_seconds, clock, .. } = *self.task.track;
        if clock == Clock::Elapsed && used.wall_seconds > wall_seconds {
            let text = format!(
                "{STAGE} used up its {wall_seconds} seconds after {} batches; do less work or take \
                 fewer steps",
                self.stream.ledger().batches
            );
            return Err(Trouble::program(Cause::Timeout, "limit/wall", text).into());
        }
        if cpu_seconds > most {
            let text = format!(
                "{STAGE} used up its {most} CPU seconds after {} batches; do less work or take \
                 fewer steps",
                self.stream.ledger().batches
            );
            return Err(Trouble::program(Cause::Timeout, "limit/cpu", text).into());
        }
        let (seconds, most, unit) = match clock {
            Clock::Elapsed => (used.wall_seconds, wall_seconds, "s"),
            _ => (cpu_seconds, most, "CPU s"),
        };
        if seconds >= self.next_progress {
            self.next_progress = seconds + PROGRESS_SECONDS;
            let loss = self.log.last("train_loss").map(|loss| format!(", train loss {loss:.3}"));
            let text = format!(
                "{seconds:.1} {unit}, {} batches{}",
                self.stream.ledger().batches,
                loss.unwrap_or_default()
            );
            self.host.progress(seconds / most, &text);
        }
        Ok(())
    }

    /// Asks for the parameters as they are.
    fn peek(&mut self, limit: u64) -> Result<Snapshot, Stop> {
        self.answer(&FromSupervisor::Peek)?;
        let frame = self.process.receive(limit)?;
        self.watch.stop(Instant::now(), self.process.cpu_seconds());
        match frame {
            FromProgram::Checkpoint(snapshot) => Ok(snapshot),
            _ => {
                let text = format!("{STAGE} answered a look at its parameters with something else");
                Err(protocol("protocol/frame", text))
            }
        }
    }

    /// Refuses a snapshot whose names or shapes came about after the first token: text in names
    /// and numbers in shapes would be carried past the cap on parameters.
    fn same_parameters(&self, snapshot: Snapshot) -> Result<Snapshot, Stop> {
        if self.specs.as_ref().is_none_or(|specs| specs == snapshot.specs()) {
            return Ok(snapshot);
        }
        let text = "names or shapes of the parameters changed during training; declare them in \
                    `Model::new`";
        Err(Trouble::program(Cause::Rule, "snapshot/changed", text).into())
    }

    /// Stops the clock and the process.
    fn finish(self, snapshot: Snapshot) -> Result<Trained, Trouble> {
        let cpu_seconds = self.process.cpu_seconds();
        let delayed_seconds = self.process.delayed_seconds();
        let wall_seconds = self.watch.seconds(Instant::now());
        if let Some(cpu_seconds) = cpu_seconds {
            let used = Used { cpu_seconds, wall_seconds };
            self.meter.boundary(used, || self.process.cpu_seconds());
        }
        let finished = self.process.kill()?;
        // A program that left at once after its snapshot is charged all that it used.
        let cpu_seconds = cpu_seconds.unwrap_or(finished.cpu.as_secs_f64());
        let used = Used { cpu_seconds, wall_seconds };
        let ledger = self.stream.ledger();
        let charge = self.meter.charge(used, ledger.tokens);
        let phases = self.pace.phases(ledger, self.meter.counted(used));
        let (checkpoints, hand_over) = (self.checkpoints, self.hand_over);
        Ok(Trained {
            snapshot,
            charge,
            delayed_seconds,
            ledger,
            checkpoints,
            phases,
            hand_over,
            finished,
        })
    }
}

fn protocol(rule: &str, text: String) -> Stop {
    Trouble::program(Cause::Protocol, rule, text).into()
}

#[cfg(test)]
mod tests;
