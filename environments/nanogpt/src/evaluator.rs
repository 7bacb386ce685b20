//! The evaluator's conversation: parameters and windows in, logits out, the loss computed here.

use crate::{
    process::{Process, Stop, Trouble},
    score::nll,
    text::Text,
    trainer::Task,
};
use forerunner_core::Cause;
use forerunner_nanogpt_protocol::{FromProgram, FromSupervisor, Snapshot, Windows};

/// Name of this process in findings.
const STAGE: &str = "the evaluator";
/// Most bytes of logits in one answer; large vocabularies get fewer windows in a frame.
const FRAME_BYTES: usize = 8 << 20;
/// Most windows in one frame.
const FRAME_WINDOWS: usize = 16;

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
        process.tell(&task.start())?;
        process.tell(&FromSupervisor::Parameters(snapshot.clone()))?;
        talk(&mut Evaluator { process: &mut process, task })
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
    pub(crate) fn losses(&mut self, windows: &[Window]) -> Result<Vec<f64>, Stop> {
        let inputs = windows.iter().flat_map(|window| window.inputs.iter().copied()).collect();
        let logits = self.logits(inputs, windows.len())?;
        let targets = windows.iter().flat_map(|window| &window.targets);
        let rows = logits.chunks_exact(self.task.vocab);
        Ok(rows.zip(targets).map(|(row, target)| nll(row, *target)).collect())
    }

    /// CPU seconds used so far.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.process.cpu_seconds().unwrap_or(0.0)
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

    /// Sends one frame and checks the answer's shape and values.
    fn logits(&mut self, tokens: Vec<u16>, n_windows: usize) -> Result<Vec<f32>, Stop> {
        let Task { track, vocab, .. } = self.task;
        let length = track.context;
        let expected = n_windows * length * vocab;
        let windows = Windows { batch: n_windows as u32, length: length as u32, tokens };
        self.process.tell(&FromSupervisor::Windows(windows))?;
        let FromProgram::Logits(logits) = self.process.receive(4 * expected as u64)? else {
            let text = format!("{STAGE} answered windows with something else than logits");
            return Err(Trouble::program(Cause::Protocol, "protocol/frame", text).into());
        };
        if logits.len() != expected {
            let text = format!(
                "{} logits for {n_windows} windows of {length} positions and a vocabulary of \
                 {vocab}; {expected} were asked for",
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
pub(crate) fn frame_windows(context: usize, vocab: usize) -> usize {
    (FRAME_BYTES / (4 * context * vocab)).clamp(1, FRAME_WINDOWS)
}
