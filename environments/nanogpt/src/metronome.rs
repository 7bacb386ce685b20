//! The metronome: a second trainer, always the reference program, that takes a step now and then.
//!
//! A loop of matrix products leaves most of the variation of identical work; a step of training in a
//! process of its own on the same core removes it (docs/calibration-cpu-track.md).

use crate::{
    process::{Process, Stop, Trouble},
    stream::Stream,
    trainer::Task,
};
use forerunner_nanogpt_protocol::{BatchRequest, FromProgram, FromSupervisor};

/// CPU seconds of a step of the reference program that count as normal speed: those of the machine
/// that the track's constants were set on (Zen 4, two cores, other work beside it).
pub(crate) const NOMINAL_SECONDS: f64 = 7.5e-3;

/// Name of this process in findings.
const STAGE: &str = "the metronome";

/// The second trainer, blocked on a request for tokens.
pub(crate) struct Metronome<'a, P> {
    process: P,
    stream: Stream<'a>,
    request: BatchRequest,
    /// Most bytes of a frame that it may send.
    limit: u64,
}

impl<'a, P: Process> Metronome<'a, P> {
    /// Starts the conversation and waits for the first request.
    pub(crate) fn start(
        mut process: P,
        task: Task<'_>,
        stream: Stream<'a>,
    ) -> Result<Self, Trouble> {
        let limit = (1 << 20) + 4 * task.track.max_parameters as u64;
        let first = process.tell(&task.start()).map_err(Stop::from);
        match first.and_then(|()| next_request(&mut process, limit)) {
            Ok(request) => Ok(Self { process, stream, request, limit }),
            Err(stop) => Err(process.stopped(STAGE, stop)),
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
        let tokens = self.stream.serve(self.request)?;
        self.process.tell(&FromSupervisor::Tokens(tokens)).ok()?;
        self.request = next_request(&mut self.process, self.limit).ok()?;
        Some(())
    }
}

fn next_request(process: &mut impl Process, limit: u64) -> Result<BatchRequest, Stop> {
    loop {
        match process.receive(limit)? {
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
