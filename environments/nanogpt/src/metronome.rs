//! The metronome: a second trainer, always the reference program, that takes a step now and then.
//!
//! A loop of matrix products leaves most of the variation of identical work; a step of training in a
//! process of its own on the same core removes it (docs/calibration-cpu-track.md). The step is the
//! same on every track and all data: what it learns does not matter, so it is given random bytes.
//! Where a track has several threads, so has the step, and where it counts wall seconds, the step is
//! timed by the wall clock.

use crate::{
    Clock, Track,
    process::{Process, Stop, Trouble},
    trainer::Task,
};
use forerunner_nanogpt_protocol::{BatchRequest, Collect, FromProgram, FromSupervisor};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use std::time::Instant;

/// CPU seconds of a step of the reference program that count as normal speed: those of the machine
/// that the track's constants were set on (Zen 4, two cores, other work beside it).
pub(crate) const NOMINAL_SECONDS: f64 = 7.5e-3;

/// The same in wall seconds, with two threads: two thirds of it, which is what two threads gain.
const NOMINAL_SECONDS_OF_TWO: f64 = 5.0e-3;

/// Seconds of a step that count as normal speed on a track.
pub(crate) fn nominal_seconds(track: &Track) -> f64 {
    match (track.clock, track.threads) {
        (Clock::Wall, 2) => NOMINAL_SECONDS_OF_TWO,
        _ => NOMINAL_SECONDS,
    }
}

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
    /// What counts its seconds.
    clock: Clock,
    started: Instant,
}

impl<P: Process> Metronome<P> {
    /// Starts the conversation and waits for the first request.
    pub(crate) fn start(mut process: P, clock: Clock) -> Result<Self, Trouble> {
        let track = Track::cpu();
        // Steps are compared with one another.
        let collect = Collect::Steady;
        let task = Task { track: &track, vocab: VOCAB, seed: SEED, collect };
        let first = process.tell(&task.start()).map_err(Stop::from);
        match first.and_then(|()| next_request(&mut process)) {
            Ok(request) => Ok(Self {
                process,
                random: ChaCha8Rng::seed_from_u64(SEED),
                request,
                clock,
                started: Instant::now(),
            }),
            Err(stop) => Err(process.stopped(STAGE, track.max_parameters, stop)),
        }
    }

    /// Seconds of a step, by the track's clock. `None` when its training is over.
    pub(crate) fn beat(&mut self) -> Option<f64> {
        // The first step finds another program's data in the caches; the second one counts.
        self.step()?;
        self.step()
    }

    /// Takes a step and answers its seconds.
    fn step(&mut self) -> Option<f64> {
        let BatchRequest { batch, length } = self.request;
        let n_tokens = batch as usize * (length as usize + 1);
        let tokens = (0..n_tokens).map(|_| (self.random.next_u32() % VOCAB as u32) as u16);
        let tokens = FromSupervisor::Tokens(tokens.collect());
        let before = self.seconds()?;
        self.process.tell(&tokens).ok()?;
        self.request = next_request(&mut self.process).ok()?;
        Some(self.seconds()? - before)
    }

    fn seconds(&self) -> Option<f64> {
        match self.clock {
            Clock::Wall => Some(self.started.elapsed().as_secs_f64()),
            Clock::Calibrated | Clock::Raw | Clock::Elapsed | Clock::Steps => {
                self.process.cpu_seconds()
            }
        }
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
