//! The clock's metronome: a second trainer that takes one step of its own now and then.
//!
//! Identical work varies by five to ten per cent in CPU seconds when neighbours use the same caches
//! and execution units. Only training itself is slowed like training: a loop of matrix products
//! leaves most of the variation, a step of the reference program in a process of its own on the
//! same core removes it (docs/calibration-cpu-track.md).

use forerunner_nanogpt_protocol::{BatchRequest, FromProgram};

use crate::{Options, Program, Result, Stream};

/// CPU seconds of the trainer between two beats.
const INTERVAL: f64 = 0.12;
/// CPU seconds of one beat, a step of the reference program, that count as normal speed.
const NOMINAL: f64 = 7.5e-3;
/// Beats on each side of one that it is smoothed with.
const NEIGHBOURS: usize = 1;

/// The second trainer, and what its steps took.
pub(crate) struct Metronome<'a> {
    program: Program,
    stream: Stream<'a>,
    request: BatchRequest,
    /// The trainer's CPU seconds when a beat was taken, and the beat's own.
    beats: Vec<(f64, f64)>,
}

impl<'a> Metronome<'a> {
    /// Starts the program and waits for its first request.
    pub(crate) fn start(options: &Options, program: &str, train: &'a [u16]) -> Result<Self> {
        let mut program = Program::start(options, program, "train", 1)?;
        let request = next_request(&mut program)?;
        let stream = Stream::new(train, 1);
        Ok(Self { program, stream, request, beats: Vec::new() })
    }

    /// Takes a beat when it is time; the trainer is blocked meanwhile.
    pub(crate) fn boundary(&mut self, trainer: f64) -> Result<()> {
        if self.beats.last().is_some_and(|last| trainer - last.0 < INTERVAL) {
            return Ok(());
        }
        // The first step finds the trainer's data in the caches; the second one counts.
        self.step()?;
        let before = self.program.cpu()?;
        self.step()?;
        self.beats.push((trainer, self.program.cpu()? - before));
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        self.stream.serve(self.request).write(&mut self.program.input)?;
        self.request = next_request(&mut self.program)?;
        Ok(())
    }

    /// Charged seconds of a trainer that ended after `raw` CPU seconds, the number of beats, and
    /// their median.
    pub(crate) fn finish(mut self, raw: f64) -> Result<(f64, usize, f64)> {
        self.program.child.kill()?;
        self.program.child.wait()?;
        let pace: Vec<f64> = (0..self.beats.len())
            .map(|idx| {
                let around =
                    idx.saturating_sub(NEIGHBOURS)..self.beats.len().min(idx + NEIGHBOURS + 1);
                NOMINAL / median(self.beats[around].iter().map(|beat| beat.1).collect())
            })
            .collect();
        let ends = self.beats.iter().map(|beat| beat.0).skip(1).chain([raw]);
        let next_pace = pace.iter().skip(1).chain(pace.last());
        let mut charged = self.beats[0].0 * pace[0];
        for (((begin, _), end), (pace, next)) in
            self.beats.iter().zip(ends).zip(pace.iter().zip(next_pace))
        {
            charged += (end - begin) * (pace + next) / 2.0;
        }
        Ok((charged, self.beats.len(), median(self.beats.iter().map(|beat| beat.1).collect())))
    }
}

fn next_request(program: &mut Program) -> Result<BatchRequest> {
    loop {
        if let FromProgram::Batch(request) = FromProgram::read(&mut program.output, 1 << 20)? {
            return Ok(request);
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
