//! The evaluator's conversation: parameters and windows in, logits out, the loss computed here.
//!
//! On a GPU all logits of a score would be terabytes, so the harness there computes the losses and
//! hands them over. That changes nothing about what is believed: what comes from a process that has
//! seen whole windows is a commitment either way, and the blind audit, for which single rows of
//! logits are asked for and whose losses are computed here, is what stands behind it.

use crate::{
    Track,
    handover::greet,
    process::{Process, Stop, Trouble},
    score::nll,
    text::Text,
    trainer::Task,
};
use forerunner_core::Cause;
use forerunner_nanogpt_protocol::{Device, FromProgram, FromSupervisor, Rows, Snapshot, Windows};
use std::time::{Duration, Instant};

/// Name of this process in findings.
const STAGE: &str = "the evaluator";
/// Most bytes of logits in one answer; large vocabularies get fewer windows in a frame.
const FRAME_BYTES: usize = 8 << 20;
/// Most windows in one frame.
const FRAME_WINDOWS: usize = 16;
/// The same on a GPU, where the logits of a frame stay in its memory.
const DEVICE_FRAME: (usize, usize) = (2 << 30, 32);

/// A window of text that is shown to a program, and the tokens whose loss is computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    /// What the program sees: one token for each position.
    pub(crate) inputs: Vec<u16>,
    /// What it does not see: the token after each position.
    pub(crate) targets: Vec<u16>,
}

impl Window {
    /// The window of `text` at `start`.
    pub(crate) fn read(text: Text<'_>, start: usize, context: usize) -> Self {
        let inputs = text.tokens(start..start + context).collect();
        let targets = text.tokens(start + 1..start + context + 1).collect();
        Self { inputs, targets }
    }

    /// Replaces what the program sees from position `cut` on by text from `start` of `other`.
    pub(crate) fn replace(&mut self, cut: usize, other: Text<'_>, start: usize) {
        let tokens = other.tokens(start..start + self.inputs.len() - cut);
        self.inputs[cut..].iter_mut().zip(tokens).for_each(|(token, new)| *token = new);
    }
}

/// A program that answers windows.
pub(crate) struct Evaluator<'a, P> {
    process: &'a mut P,
    task: Task<'a>,
    /// How long it has been waited for.
    waited: Duration,
}

/// What a conversation came to, and what it cost.
#[derive(Debug)]
pub(crate) struct Answered<T> {
    /// The result.
    pub(crate) value: T,
    /// CPU seconds of the evaluator.
    pub(crate) cpu_seconds: f64,
}

/// Hands `snapshot` to a fresh process and calls `talk` with it. `task.seed` should be 0: nothing of
/// the training run is carried over but the snapshot.
pub(crate) fn with_evaluator<P: Process, T>(
    mut process: P,
    task: Task<'_>,
    snapshot: &Snapshot,
    talk: impl FnOnce(&mut Evaluator<'_, P>) -> Result<T, Stop>,
) -> Result<Answered<T>, Trouble> {
    let converse = || {
        greet(&mut process, &task, STAGE, |_| ())?;
        process.tell(&FromSupervisor::Parameters(snapshot.clone()))?;
        talk(&mut Evaluator { process: &mut process, task, waited: Duration::ZERO })
    };
    match converse() {
        Ok(value) => {
            let cpu_seconds = process.cpu_seconds();
            let finished = process.kill()?;
            let cpu_seconds = cpu_seconds.unwrap_or(finished.cpu.as_secs_f64());
            Ok(Answered { value, cpu_seconds })
        }
        Err(stop) => Err(process.stopped(STAGE, task.track.max_parameters, stop)),
    }
}

impl<P: Process> Evaluator<'_, P> {
    /// Negative log-likelihoods of the targets in nats, window by window, position by position.
    /// The windows are one frame: they are answered together.
    ///
    /// On a GPU the loss of a position whose next token was replaced is that of the replacement.
    pub(crate) fn losses(&mut self, windows: &[Window]) -> Result<Vec<f64>, Stop> {
        if self.task.track.device == Device::Cuda {
            return self.committed(windows);
        }
        let inputs = windows.iter().flat_map(|window| window.inputs.iter().copied()).collect();
        let logits = self.logits(inputs, windows.len())?;
        let targets = windows.iter().flat_map(|window| &window.targets);
        let rows = logits.chunks_exact(self.task.vocab);
        Ok(rows.zip(targets).map(|(row, target)| nll(row, *target)).collect())
    }

    /// Negative log-likelihood of the target in nats at one position of each window, computed here.
    /// The windows are one frame, of the same shape as any other.
    pub(crate) fn losses_at(
        &mut self,
        windows: &[Window],
        positions: &[usize],
    ) -> Result<Vec<f64>, Stop> {
        let Task { track, vocab, .. } = self.task;
        let length = track.context;
        if track.device == Device::Cpu {
            let losses = self.losses(windows)?;
            let of = |(row, position): (usize, &usize)| losses[row * length + position];
            return Ok(positions.iter().enumerate().map(of).collect());
        }
        let tokens = windows.iter().flat_map(|window| window.inputs.iter().copied()).collect();
        let windows_sent = Windows { batch: windows.len() as u32, length: length as u32, tokens };
        let asked = positions.iter().map(|&position| position as u32).collect();
        let rows = Rows { windows: windows_sent, positions: asked };
        let logits = self.answered(&FromSupervisor::Rows(rows), windows.len())?;
        let targets = windows.iter().zip(positions).map(|(window, &at)| window.targets[at]);
        let rows = logits.chunks_exact(vocab);
        Ok(rows.zip(targets).map(|(row, target)| nll(row, target)).collect())
    }

    /// Seconds used so far: CPU seconds, or on a GPU those in which it was waited for. The first
    /// answer is waited for from when the parameters have been handed over, so that it is known what
    /// the program does with them.
    pub(crate) fn seconds(&self) -> f64 {
        match self.task.track.device {
            Device::Cpu => self.process.cpu_seconds().unwrap_or(0.0),
            Device::Cuda => self.waited.as_secs_f64(),
        }
    }

    /// Positions of a window whose losses can be compared with those known, when its tokens were
    /// replaced from `cut` on. Where the harness computes them the target before the cut is a
    /// replacement, too: a window that contradicts itself would give a probe away.
    pub(crate) fn comparable(&self, cut: usize) -> usize {
        let has_other_target = cut < self.task.track.context;
        match self.task.track.device {
            Device::Cuda if has_other_target => cut.saturating_sub(1),
            Device::Cpu | Device::Cuda => cut,
        }
    }

    /// The parameters as the evaluator has them now.
    pub(crate) fn parameters(&mut self) -> Result<Snapshot, Stop> {
        self.process.tell(&FromSupervisor::Peek)?;
        let limit = (1 << 20) + 4 * self.task.track.max_parameters as u64;
        match self.process.receive(limit)? {
            FromProgram::Checkpoint(snapshot) => Ok(snapshot),
            _ => {
                let text = format!("{STAGE} answered a look at its parameters with something else");
                Err(Trouble::program(Cause::Protocol, "protocol/frame", text).into())
            }
        }
    }

    /// Sends a question and waits for an answer of at most `limit` bytes.
    fn ask(&mut self, question: &FromSupervisor, limit: u64) -> Result<FromProgram, Stop> {
        let asked = Instant::now();
        self.process.tell(question)?;
        let answer = self.process.receive(limit)?;
        self.waited += asked.elapsed();
        Ok(answer)
    }

    /// Losses of one frame as the harness computed them.
    fn committed(&mut self, windows: &[Window]) -> Result<Vec<f64>, Stop> {
        let expected = windows.len() * self.task.track.context;
        let last = |window: &Window| window.targets.last().copied();
        let tokens =
            windows.iter().flat_map(|window| window.inputs.iter().copied().chain(last(window)));
        let (batch, length) = (windows.len() as u32, self.task.track.context as u32 + 1);
        let windows = Windows { batch, length, tokens: tokens.collect() };
        let answer = self.ask(&FromSupervisor::Score(windows), 4 * expected as u64)?;
        let FromProgram::Losses(losses) = answer else {
            let text = format!("{STAGE} answered windows to score with something else than losses");
            return Err(Trouble::program(Cause::Protocol, "protocol/frame", text).into());
        };
        if losses.len() != expected {
            let text = format!("{} losses for {expected} positions", losses.len());
            return Err(Trouble::program(Cause::Protocol, "score/count", text).into());
        }
        if let Some(loss) = losses.iter().find(|loss| !loss.is_finite()) {
            let text = format!("a loss is {loss}; all logits must be finite");
            return Err(Trouble::program(Cause::NotFinite, "score/not-finite", text).into());
        }
        // What the supervisor computes from logits cannot be below zero. What it is told could be, and a
        // single position far below would buy more than an audit of some positions can find.
        let tolerance = self.task.track.tolerance as f32;
        if let Some(loss) = losses.iter().find(|loss| **loss < -tolerance) {
            let text = format!("a loss is {loss}, below zero: no model's logits lead to that");
            return Err(Trouble::program(Cause::Rule, "score/below-zero", text).into());
        }
        Ok(losses.into_iter().map(|loss| f64::from(loss.max(0.0))).collect())
    }

    /// Sends one frame of windows.
    fn logits(&mut self, tokens: Vec<u16>, n_windows: usize) -> Result<Vec<f32>, Stop> {
        let length = self.task.track.context;
        let windows = Windows { batch: n_windows as u32, length: length as u32, tokens };
        self.answered(&FromSupervisor::Windows(windows), n_windows * length)
    }

    /// Sends a question about so many positions and checks the shape and the values of the logits.
    fn answered(&mut self, question: &FromSupervisor, rows: usize) -> Result<Vec<f32>, Stop> {
        let Task { track, vocab, .. } = self.task;
        let expected = rows * vocab;
        let FromProgram::Logits(logits) = self.ask(question, 4 * expected as u64)? else {
            let text = format!("{STAGE} answered windows with something else than logits");
            return Err(Trouble::program(Cause::Protocol, "protocol/frame", text).into());
        };
        if logits.len() != expected {
            let length = track.context;
            let what = match question {
                FromSupervisor::Rows(_) => format!("{rows} positions"),
                _ => format!("{} windows of {length} positions", rows / length.max(1)),
            };
            let text = format!(
                "{} logits for {what} and a vocabulary of {vocab}; {expected} were asked for",
                logits.len(),
            );
            return Err(Trouble::program(Cause::Protocol, "score/count", text).into());
        }
        if let Some(logit) = logits.iter().find(|logit| !logit.is_finite()) {
            let text = format!("a logit is {logit}; all logits must be finite");
            return Err(Trouble::program(Cause::NotFinite, "score/not-finite", text).into());
        }
        Ok(logits)
    }
}

/// Windows in a frame: depends on the track alone, so that every program sees the same shapes.
pub(crate) fn frame_windows(track: &Track, vocab: usize) -> usize {
    let (bytes, windows) = match track.device {
        Device::Cpu => (FRAME_BYTES, FRAME_WINDOWS),
        Device::Cuda => DEVICE_FRAME,
    };
    (bytes / (4 * track.context * vocab)).clamp(1, windows)
}
