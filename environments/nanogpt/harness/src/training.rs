//! What a training function holds in its hands.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use forerunner_nanogpt_protocol::{
    BatchRequest, FromProgram, FromSupervisor, Operation, Record, Section, Summary,
};
use forerunner_train_ops as ops;

use crate::channel::{Channel, unexpected};
use crate::process::cpu_time;
use crate::{Error, Gradients, Params, Result, Rng, Task, Tensor, Tokens};

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

/// A training run: tokens, randomness, and telemetry.
pub struct Training<'a> {
    task: Task,
    seed: u64,
    params: &'a Params,
    channel: Channel,
    sections: Vec<Section>,
    /// CPU and wall time of work between batches, and when the work under way began.
    work: (Duration, Duration),
    work_since: Option<(Duration, Instant)>,
    /// Whether no training loss was recorded yet for the last batch.
    fresh: bool,
    /// Sum and number of training losses since `recent_loss` was renewed.
    losses: (f64, usize),
    recent_loss: Option<f64>,
    /// Why the run is over, once a recorded value was not what it must be.
    over: Option<String>,
}

impl<'a> Training<'a> {
    pub(crate) fn new(task: Task, seed: u64, params: &'a Params, channel: Channel) -> Self {
        Self {
            task,
            seed,
            params,
            channel,
            sections: Vec::new(),
            work: (Duration::ZERO, Duration::ZERO),
            work_since: None,
            fresh: false,
            losses: (0.0, 0),
            recent_loss: None,
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
        let begin = cpu_time();
        self.end_work(begin);
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
        let end = cpu_time();
        self.charge("data", end - begin);
        self.work_since = Some((end, Instant::now()));
        Ok(served)
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
        let value = match value.into() {
            Point::Number(value) => value,
            Point::Scalar(tensor) => f64::from(tensor.0.to_scalar::<f32>()?),
        };
        if series == TRAIN_LOSS {
            self.watch(step, value)?;
        }
        let record = Record { series: series.into(), step: step as u64, value };
        self.channel.send(&FromProgram::Record(record))
    }

    /// Notes the norm of the gradients of every group of parameters, as the series
    /// `gradient_norm.GROUP`; a group is what names have before their first dot. Telemetry: shown
    /// and kept, never scored; the program does not see the norms.
    ///
    /// This reads every gradient once, which is better done every ten or hundred steps.
    ///
    /// # Errors
    ///
    /// When the run is over.
    pub fn record_norms(&mut self, step: usize, gradients: &Gradients) -> Result<()> {
        let mut squares = BTreeMap::<&str, f64>::new();
        for parameter in self.params {
            let group = parameter.name.split('.').next().unwrap_or_default();
            if let Some(gradient) = gradients.get(&parameter.var) {
                let sum = ops::sum_of_squares(&gradient.0)?.to_scalar::<f32>()?;
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
    /// coarse to read text through.
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

    /// Runs `body` and adds its CPU time to the section `name`. Telemetry: shown, never scored.
    pub fn section<R>(&mut self, name: &str, body: impl FnOnce() -> R) -> R {
        let begin = cpu_time();
        let result = body();
        self.charge(name, cpu_time() - begin);
        result
    }

    /// Random numbers keyed by the run's seed and `name`; asking twice gives the same stream.
    pub fn rng(&self, name: &str) -> Rng {
        Rng::new("program", self.seed, name)
    }

    fn charge(&mut self, name: &str, spent: Duration) {
        let idx = self.sections.iter().position(|section| section.name == name);
        let idx = idx.unwrap_or_else(|| {
            self.sections.push(Section { name: name.into(), calls: 0, cpu_seconds: 0.0 });
            self.sections.len() - 1
        });
        self.sections[idx].calls += 1;
        self.sections[idx].cpu_seconds += spent.as_secs_f64();
    }

    /// Adds up the work since the last batch.
    fn end_work(&mut self, now: Duration) {
        if let Some((cpu, wall)) = self.work_since.take() {
            self.work.0 += now - cpu;
            self.work.1 += wall.elapsed();
        }
    }

    /// What the fused operations cost so far on this thread, which is the one that trains. A program
    /// cannot ask for it: it would be a clock.
    ///
    /// Operations are timed by the wall clock, which is cheap to read; on a core that others use too
    /// all of them are scaled by the share of it that the work between batches got.
    fn operations(&self) -> Vec<Operation> {
        let (cpu, wall) = self.work;
        let share = if cpu.is_zero() { 1.0 } else { cpu.as_secs_f64() / wall.as_secs_f64() };
        let operation = |cost: &ops::profile::Cost| Operation {
            name: cost.name(),
            calls: cost.calls,
            seconds: cost.time.as_secs_f64() * share.min(1.0),
            bytes: cost.bytes,
            flops: cost.flops,
        };
        ops::profile::costs().iter().map(operation).collect()
    }

    /// Hands the trained parameters over and waits for leave to exit.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.check_alive()?;
        self.end_work(cpu_time());
        let snapshot = self.params.snapshot()?;
        if !snapshot.is_finite() {
            return Err(Error::program("a parameter is not finite after training"));
        }
        self.channel.send(&FromProgram::Summary(Summary {
            sections: std::mem::take(&mut self.sections),
            operations: self.operations(),
            flops: ops::flops() as f64,
            parameters: snapshot.count() as u64,
        }))?;
        self.channel.send(&FromProgram::Snapshot(snapshot))?;
        self.channel.flush()?;
        match self.channel.receive()? {
            FromSupervisor::Stop => Ok(()),
            other => Err(unexpected(&other, "stop")),
        }
    }
}
