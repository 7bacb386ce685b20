//! The metronome: a second trainer, always the reference program, that takes a step now and then.
//!
//! A loop of matrix products leaves most of the variation of identical work; a step of training in a
//! process of its own on the same core removes it (docs/calibration-cpu-track.md). The step is the
//! same on every track and all data: what it learns does not matter, so it is given random bytes.

use crate::{
    Track,
    process::{Process, Stop, Trouble},
    trainer::Task,
};
use forerunner_nanogpt_protocol::{BatchRequest, FromProgram, FromSupervisor};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// CPU seconds of a step of the reference program that count as normal speed: those of the machine
/// that the track's constants were set on (Zen 4, two cores, other work beside it).
pub(crate) const NOMINAL_SECONDS: f64 = 7.5e-3;

/// Name of this process in findings.
const STAGE: &str = "the metronome";

/// Seed of its training and of its bytes; any will do, as long as it is the same.
const SEED: u64 = 0;

/// Number of values of a byte.
const VOCAB: usize = 256;

/// Most bytes of a frame that it may send: requests and records only.
const FRAME_BYTES: u64 = 1 << 16;

/// The second trainer, blocked on a request for tokens.
pub(crate) struct Metronome<P> {
    process: P,
    random: ChaCha8Rng,
    request: BatchRequest,
}

impl<P: Process> Metronome<P> {
    /// Starts the conversation and waits for the first request.
    pub(crate) fn start(mut process: P) -> Result<Self, Trouble> {
        let track = Track::cpu();
        let task = Task { track: &track, vocab: VOCAB, seed: SEED };
        let first = process.tell(&task.start()).map_err(Stop::from);
        match first.and_then(|()| next_request(&mut process)) {
            Ok(request) => Ok(Self { process, random: ChaCha8Rng::seed_from_u64(SEED), request }),
            Err(stop) => Err(process.stopped(STAGE, track.max_parameters, stop)),
        }
    }

    /// CPU seconds of a step. `None` when its training is over.
    pub(crate) fn beat(&mut self) -> Option<f64> {
        // The first step finds another program's data in the caches; the second one counts.
        self.step()?;
        let before = self.process.cpu_seconds()?;
        self.step()?;
        Some(self.process.cpu_seconds()? - before)
    }

    fn step(&mut self) -> Option<()> {
        let BatchRequest { batch, length } = self.request;
        let n_tokens = batch as usize * (length as usize + 1);
        let tokens = (0..n_tokens).map(|_| (self.random.next_u32() % VOCAB as u32) as u16);
        self.process.tell(&FromSupervisor::Tokens(tokens.collect())).ok()?;
        self.request = next_request(&mut self.process).ok()?;
        Some(())
    }
}

fn next_request(process: &mut impl Process) -> Result<BatchRequest, Stop> {
    loop {
        match process.receive(FRAME_BYTES)? {
            FromProgram::Batch(request) => return Ok(request),
            FromProgram::Record(_) => {}
            _ => {
                let text = format!("{STAGE} has ended its training");
                let trouble = Trouble::Host(forerunner_core::Error::Failed(text));
                return Err(trouble.into());
            }
        }
    }
}
