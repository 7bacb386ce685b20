//! What a training function holds in its hands.

use std::collections::BTreeMap;

use forerunner_nanogpt_protocol::{
    Allocations, BatchRequest, Collect, FromProgram, FromSupervisor, Record, Start, Summary,
};
use forerunner_train_ops as ops;

use crate::channel::{Channel, unexpected};
use crate::norms::{Looks, Recorded, group_of};
use crate::operations::sum_of_squares;
use crate::sections::{Began, Sections};
use crate::tensor::n_backward;
use crate::{Error, Gradients, Params, Result, Rng, Task, Tensor, Tokens, allocation};

/// Tokens to learn from.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Tokens that the model sees, `[B, T]`.
    pub inputs: Tokens,
    /// The token that follows each of them, `[B, T]`.
    pub targets: Tokens,
}

/// A value for [`Training::record`]: a number of the program's, or a scalar tensor that the harness
/// reads.
#[derive(Clone, Copy, Debug)]
pub enum Point<'a> {
    /// A number that the program has.
    Number(f64),
    /// A scalar tensor, whose value the program does not see.
    Scalar(&'a Tensor),
}

impl From<f64> for Point<'_> {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl<'a> From<&'a Tensor> for Point<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self::Scalar(tensor)
    }
}

/// Name of the series that is watched for explosion and averaged for [`Training::recent_loss`].
const TRAIN_LOSS: &str = "train_loss";

/// Batches whose training losses make one value of [`Training::recent_loss`].
const RECENT: usize = 64;

/// Step in which [`Training::recent_loss`] is rounded, in nats.
const RECENT_STEP: f64 = 0.01;

/// Scalars of a device that are read together.
#[cfg(feature = "device")]
const AWAITED: usize = 32;

/// A scalar of a device that was recorded and is read later.
#[cfg(feature = "device")]
struct Awaited {
    series: String,
    step: usize,
    value: Tensor,
    /// Whether it is the first training loss after its batch.
    is_first: bool,
}

/// A training run: tokens, randomness, and telemetry.
pub struct Training<'a> {
    task: Task,
    seed: u64,
    params: &'a Params,
    channel: Channel,
    collect: Collect,
    /// Batches served.
    n_batches: u64,
    sections: Sections,
    looks: Looks,
    recorded: Recorded,
    /// Memory asked for when the first batch was.
    allocated: Option<Allocations>,
    /// Whether no training loss was recorded yet for the last batch.
    fresh: bool,
    /// Sum and number of training losses since `recent_loss` was renewed.
    losses: (f64, usize),
    recent_loss: Option<f64>,
    /// Scalars that a device has not been waited for yet.
    #[cfg(feature = "device")]
    awaited: Vec<Awaited>,
    #[cfg(feature = "device")]
    meter: crate::device::Meter,
    /// Why the run is over, once a recorded value was not what it must be.
    over: Option<String>,
}

impl<'a> Training<'a> {
    pub(crate) fn new(start: &Start, params: &'a Params, channel: Channel) -> Self {
        ops::profile::collect(start.collect != Collect::Nothing);
        Looks::stop();
        Self {
            task: Task::from(start),
            seed: start.seed,
            params,
            channel,
            collect: start.collect,
            n_batches: 0,
            sections: Sections::default(),
            looks: Looks::default(),
            recorded: Recorded::default(),
            allocated: None,
            fresh: false,
            losses: (0.0, 0),
            recent_loss: None,
            #[cfg(feature = "device")]
            awaited: Vec::new(),
            #[cfg(feature = "device")]
            meter: crate::device::Meter::default(),
            over: None,
        }
    }

    /// The task that the model is trained for.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Asks for `batch` sequences of `length` positions from random places of the training text.
    ///
    /// The order of the tokens served depends on the run's seed and on what was asked before, so
    /// programs that ask alike see the same tokens. Counted as the section `data`.
    ///
    /// # Errors
    ///
    /// When the supervisor ends the run, for instance because its limit on tokens is reached.
    pub fn batch(&mut self, batch: usize, length: usize) -> Result<Batch> {
        self.check_alive()?;
        #[cfg(feature = "device")]
        ops::device::refuse_while_capturing("Training::batch")?;
        let began = self.began();
        self.end_work(began)?;
        let side = |value| u32::try_from(value).map_err(|_| Error::program("batch too large"));
        let request = BatchRequest { batch: side(batch)?, length: side(length)? };
        self.channel.send(&FromProgram::Batch(request))?;
        self.channel.flush()?;
        let tokens = loop {
            match self.channel.receive()? {
                FromSupervisor::Tokens(tokens) => break tokens,
                FromSupervisor::Peek => {
                    self.channel.send(&FromProgram::Checkpoint(self.params.snapshot()?))?;
                    self.channel.flush()?;
                }
                other => return Err(unexpected(&other, "tokens")),
            }
        };
        if tokens.len() as u64 != request.tokens() {
            return Err(Error::program(format!(
                "the supervisor sent {} tokens for {batch} x ({length} + 1)",
                tokens.len()
            )));
        }
        let side_by_side = |skip: usize| {
            let rows = tokens.chunks_exact(length + 1);
            let ids = rows.flat_map(|row| row[skip..skip + length].iter().map(|&t| u32::from(t)));
            Tokens::new(ids.collect(), batch, self.task.vocab)
        };
        let served = Batch { inputs: side_by_side(0)?, targets: side_by_side(1)? };
        self.fresh = true;
        #[cfg(feature = "device")]
        if self.collect == Collect::All {
            self.meter.batch(self.n_batches)?;
        }
        self.n_batches += 1;
        if let Some(began) = began {
            let now = self.sections.charge("data", began);
            self.sections.begin_work(now);
        }
        Ok(served)
    }

    /// The beginning of a section; nothing where sections are not collected.
    fn began(&self) -> Option<Began> {
        (self.collect != Collect::Nothing).then(Began::now)
    }

    /// The work on a batch is over, at the beginning of something else.
    fn end_work(&mut self, began: Option<Began>) -> Result<()> {
        if let Some(began) = began {
            self.sections.end_work(began.cpu);
            self.allocated.get_or_insert_with(allocation::so_far);
        }
        if self.collect == Collect::All {
            let batch = self.n_batches.saturating_sub(1);
            for (series, value) in self.looks.end(batch, self.params, self.recorded) {
                self.send(&series, batch, value)?;
            }
            self.looks.begin(self.n_batches);
        }
        Ok(())
    }

    fn send(&mut self, series: &str, step: u64, value: f64) -> Result<()> {
        self.channel.send(&FromProgram::Record(Record { series: series.into(), step, value }))
    }

    /// Notes a point of a series. Telemetry: shown and kept, never scored.
    ///
    /// The series `train_loss` is watched: a value that is not finite, or more than twice the loss
    /// of a model that knows nothing (`ln V`), ends the run.
    ///
    /// # Errors
    ///
    /// When a tensor is no scalar, the loss has exploded, or the run is over.
    pub fn record<'p>(
        &mut self,
        series: &str,
        step: usize,
        value: impl Into<Point<'p>>,
    ) -> Result<()> {
        self.check_alive()?;
        #[cfg(feature = "device")]
        ops::device::refuse_while_capturing("Training::record")?;
        let value = match value.into() {
            Point::Number(value) => value,
            #[cfg(feature = "device")]
            Point::Scalar(tensor) if crate::device::current().is_some() => {
                return self.await_scalar(series, step, tensor);
            }
            Point::Scalar(tensor) => f64::from(tensor.values().to_scalar::<f32>()?),
        };
        self.note(series, step, value)
    }

    fn note(&mut self, series: &str, step: usize, value: f64) -> Result<()> {
        if series == TRAIN_LOSS {
            self.watch(step, value)?;
        }
        self.recorded.note(series);
        if self.collect == Collect::Nothing {
            return Ok(());
        }
        self.send(series, step as u64, value)
    }

    /// Keeps a scalar of a device for later: reading it now would wait for everything queued. So a
    /// loss that explodes ends the run up to [`AWAITED`] records later.
    #[cfg(feature = "device")]
    fn await_scalar(&mut self, series: &str, step: usize, tensor: &Tensor) -> Result<()> {
        if tensor.count() != 1 {
            let dims = tensor.dims();
            return Err(Error::program(format!(
                "`{series}` is recorded from a scalar, not {dims:?}"
            )));
        }
        let is_first = series == TRAIN_LOSS && std::mem::take(&mut self.fresh);
        let (series, value) = (series.to_owned(), tensor.detach().reshape(1)?);
        self.awaited.push(Awaited { series, step, value, is_first });
        if self.awaited.len() >= AWAITED { self.read_awaited() } else { Ok(()) }
    }

    /// Reads what a device has been asked to record, with one wait.
    #[cfg(feature = "device")]
    fn read_awaited(&mut self) -> Result<()> {
        let awaited = std::mem::take(&mut self.awaited);
        if awaited.is_empty() {
            return Ok(());
        }
        let scalars: Vec<Tensor> = awaited.iter().map(|one| one.value.clone()).collect();
        let values = crate::params::flat(&Tensor::cat(&scalars, 0)?)?;
        let fresh = self.fresh;
        for (Awaited { series, step, is_first, .. }, value) in awaited.into_iter().zip(values) {
            self.fresh = is_first;
            self.note(&series, step, f64::from(value))?;
        }
        self.fresh = fresh;
        Ok(())
    }

    /// Notes the norm of the gradients of every group of parameters, as the series
    /// `gradient_norm.GROUP`; a group is what names have before their first dot. Telemetry: shown
    /// and kept, never scored; the program does not see the norms.
    ///
    /// Where parameters are changed by this crate's optimizers, the harness does so by itself, with
    /// the norms of the updates. Elsewhere this helps; it reads every gradient once, which is better
    /// done every ten or hundred steps.
    ///
    /// # Errors
    ///
    /// When the run is over.
    pub fn record_norms(&mut self, step: usize, gradients: &Gradients) -> Result<()> {
        let mut squares = BTreeMap::<&str, f64>::new();
        for parameter in self.params {
            let group = group_of(&parameter.name);
            if let Some(gradient) = gradients.get(&parameter.var) {
                let sum = sum_of_squares(&gradient)?.values().to_scalar::<f32>()?;
                *squares.entry(group).or_default() += f64::from(sum);
            }
        }
        for (group, squares) in squares {
            self.record(&format!("gradient_norm.{group}"), step, squares.sqrt())?;
        }
        Ok(())
    }

    /// Mean training loss over 64 batches, the first one recorded after each, renewed when the next
    /// 64 are complete and rounded to 0.01 nats: enough to stop early or to adapt a schedule, too
    /// coarse to read text through. On a GPU recorded losses are read up to 32 records later, and so is
    /// this mean.
    pub fn recent_loss(&self) -> Option<f64> {
        self.recent_loss
    }

    fn watch(&mut self, step: usize, loss: f64) -> Result<()> {
        let hopeless = 2.0 * (self.task.vocab as f64).ln();
        if loss.is_nan() || loss >= hopeless {
            self.over = Some(format!("the training loss is {loss} at step {step}"));
            return self.check_alive();
        }
        if std::mem::take(&mut self.fresh) {
            self.losses = (self.losses.0 + loss, self.losses.1 + 1);
        }
        if self.losses.1 == RECENT {
            let mean = self.losses.0 / RECENT as f64;
            self.recent_loss = Some((mean / RECENT_STEP).round() * RECENT_STEP);
            self.losses = (0.0, 0);
        }
        Ok(())
    }

    /// An error for good once the run is over: caught and retried, it would tell about tokens.
    fn check_alive(&self) -> Result<()> {
        match &self.over {
            Some(reason) => Err(Error::program(reason.clone())),
            None => Ok(()),
        }
    }

    /// Runs `body` and adds its time (CPU, or wall with several threads), bytes and floating-point operations to the section `name`.
    /// Telemetry: shown, never scored.
    pub fn section<R>(&mut self, name: &str, body: impl FnOnce() -> R) -> R {
        #[cfg(feature = "device")]
        if crate::device::current().is_some() {
            return self.device_section(name, body);
        }
        let began = self.began();
        let result = body();
        if let Some(began) = began {
            self.sections.charge(name, began);
        }
        result
    }

    /// A section between two marks in the device's queue. What a device cannot say is left out of the
    /// telemetry, and shows when it is used next.
    #[cfg(feature = "device")]
    fn device_section<R>(&mut self, name: &str, body: impl FnOnce() -> R) -> R {
        let began = match self.collect {
            Collect::Nothing => None,
            _ => self.meter.begin().ok().flatten(),
        };
        let result = body();
        if let Some(began) = began {
            let _ = self.meter.end(name, began);
        }
        result
    }

    /// Random numbers keyed by the run's seed and `name`; asking twice gives the same stream.
    pub fn rng(&self, name: &str) -> Rng {
        Rng::new("program", self.seed, name)
    }

    /// Hands the trained parameters over and waits for leave to exit.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.check_alive()?;
        #[cfg(feature = "device")]
        self.read_awaited()?;
        self.end_work(self.began())?;
        Looks::stop();
        #[cfg(feature = "device")]
        crate::device::synchronize()?;
        let snapshot = self.params.snapshot()?;
        if !snapshot.is_finite() {
            return Err(Error::program("a parameter is not finite after training"));
        }
        let summary = Summary {
            sections: self.sections.take(),
            operations: self.sections.operations(),
            flops: ops::flops() as f64,
            parameters: snapshot.count() as u64,
            allocations: self.allocated.map(allocation::since),
            gradients: n_backward(),
            device: None,
        };
        #[cfg(feature = "device")]
        let summary = self.summary_of_device(summary)?;
        self.channel.send(&FromProgram::Summary(summary))?;
        self.channel.send(&FromProgram::Snapshot(snapshot))?;
        self.channel.flush()?;
        match self.channel.receive()? {
            FromSupervisor::Stop => Ok(()),
            other => Err(unexpected(&other, "stop")),
        }
    }

    #[cfg(feature = "device")]
    fn summary_of_device(&mut self, summary: Summary) -> Result<Summary> {
        let Some((device, flops)) = self.meter.usage()? else { return Ok(summary) };
        let (sections, operations) = self.meter.take()?;
        let (device, flops) = (Some(device), flops as f64);
        Ok(Summary { sections, operations, flops, device, ..summary })
    }
}
