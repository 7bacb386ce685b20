//! What an evaluation costs a program: a forward pass like another, or work that belongs on the clock.
//!
//! A program could hand over text in place of trained parameters, at once, and train on it when it is
//! asked for logits: causal, deterministic, and charged nothing. So what an evaluator does once, at
//! its start or in single frames, is charged like training, and what it does in every frame must not
//! cost more than training did for as many tokens.
//!
//! On a GPU its work does not show in CPU seconds, so seconds are those of the wall there, from the
//! hand-over of the device on.

use crate::{
    clock::{Charge, Used},
    track::{Clock, Track},
};
use forerunner_core::Finding;
use forerunner_nanogpt_protocol::Device;

/// A frame that takes so many times the CPU time of the median frame does something else besides.
const UNUSUAL: f64 = 3.0;
/// Most CPU time for a position, in times of what training took for a token. A forward pass with all
/// logits handed over takes 0.1 to 0.8 of it; an ensemble of four that are trained in turns 1.8.
const MOST_TIMES: f64 = 6.0;
/// CPU seconds for one logit that are nobody's fault: handing it over takes a quarter of that.
const FREE_SECONDS_PER_LOGIT: f64 = 2.5e-8;
/// Seconds on a GPU for one position that are nobody's fault: a forward pass of GPT-2 with 124 million
/// parameters takes an estimated microsecond, the pipe less. Not measured yet.
const FREE_SECONDS_PER_POSITION: f64 = 5e-6;

/// CPU seconds of an evaluator; wall seconds on a GPU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Effort {
    /// Beyond what every frame takes: its start, its first answer, single frames.
    pub(crate) once: f64,
    /// For each position, in the median frame.
    pub(crate) per_position: f64,
}

impl Effort {
    /// Of frames of `n_positions` each; the first one includes the start of the process.
    pub(crate) fn of(frames: &[f64], n_positions: usize) -> Self {
        let mut sorted = frames.to_vec();
        sorted.sort_by(f64::total_cmp);
        let typical = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
        let first = frames.first().map_or(0.0, |first| first - typical);
        let unusual = frames.iter().skip(1).filter(|seconds| **seconds > UNUSUAL * typical);
        let once = first.max(0.0) + unusual.map(|seconds| seconds - typical).sum::<f64>();
        Self { once, per_position: typical / n_positions.max(1) as f64 }
    }

    /// Seconds by the track's clock that the program is charged for what it did once, at the speed at
    /// which its training was charged.
    pub(crate) fn charged(&self, track: &Track, training: &Charge) -> f64 {
        let Charge { seconds, used: Used { cpu_seconds, wall_seconds } } = *training;
        let (once, counted) = match track.clock {
            Clock::Steps => return 0.0,
            Clock::Wall => (self.once / track.threads as f64, wall_seconds),
            Clock::Elapsed => (self.once, wall_seconds),
            Clock::Calibrated | Clock::Raw => (self.once, cpu_seconds),
        };
        if counted > 0.0 { once * seconds / counted } else { once }
    }

    /// The reason to reject an evaluator that works harder than the trainer did, which used so much
    /// for `tokens`.
    pub(crate) fn finding(
        &self,
        device: Device,
        used: Used,
        tokens: u64,
        vocab: usize,
    ) -> Option<Finding> {
        let (seconds, free, unit) = match device {
            Device::Cpu => (used.cpu_seconds, FREE_SECONDS_PER_LOGIT * vocab as f64, "CPU time"),
            Device::Cuda => (used.wall_seconds, FREE_SECONDS_PER_POSITION, "wall time"),
        };
        let training = seconds / tokens.max(1) as f64;
        let most = (MOST_TIMES * training).max(free);
        (self.per_position > most).then(|| {
            let text = format!(
                "answering took {:.1} µs of {unit} for a token, training {:.1} µs; an evaluation is \
                 a forward pass, so do the work in training, where it is timed",
                1e6 * self.per_position,
                1e6 * training
            );
            Finding::error(format!("verify/{}", Self::NAME), text)
        })
    }

    /// Name of the probe.
    pub(crate) const NAME: &str = "evaluation-cost";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn what_is_done_once_is_told_from_what_every_frame_takes() {
        let check = |frames: &[f64], once: f64, per_position: f64| {
            let effort = Effort::of(frames, 100);
            assert!((effort.once - once).abs() < 1e-12, "{effort:?}");
            assert!((effort.per_position - per_position).abs() < 1e-12, "{effort:?}");
        };
        check(&[0.03, 0.01, 0.012, 0.01, 0.009], 0.02, 1e-4);
        // Work that is put off is found in whichever frame it is done.
        check(&[0.01, 0.01, 0.91, 0.01, 0.01], 0.9, 1e-4);
        check(&[0.01], 0.0, 1e-4);
        check(&[], 0.0, 0.0);
    }

    #[test]
    fn it_is_charged_as_training_was() {
        let effort = Effort { once: 0.5, per_position: 0.0 };
        let used = Used { cpu_seconds: 10.0, wall_seconds: 4.0 };
        let training = Charge { seconds: 8.0, used };
        let check = |track: &str, clock, expected: f64| {
            let config = Config { track: track.into(), clock, ..Config::default() };
            let track = Track::new(&config).unwrap();
            assert_eq!(effort.charged(&track, &training), expected);
        };
        check("cpu", Some(Clock::Calibrated), 0.4);
        check("cpu-2t", Some(Clock::Wall), 0.5);
        check("cpu", Some(Clock::Steps), 0.0);
        check("gpt2-124m", None, 1.0);
    }

    #[test]
    fn evaluators_that_work_harder_than_trainers_are_found() {
        let check = |per_position: f64, training: f64, found: bool| {
            let effort = Effort { once: 0.0, per_position };
            let used = Used { cpu_seconds: training * 1000.0, wall_seconds: 0.0 };
            assert_eq!(effort.finding(Device::Cpu, used, 1000, 256).is_some(), found);
            // On a GPU wall seconds count, and less is free.
            let used = Used { cpu_seconds: 0.0, wall_seconds: training * 1000.0 };
            let on_gpu = effort.finding(Device::Cuda, used, 1000, 256).is_some();
            assert_eq!(on_gpu, found || (per_position, training) == (5.5e-6, 1e-7));
        };
        check(5.5e-6, 1e-7, false);
        check(11e-6, 15e-6, false);
        check(85e-6, 15e-6, false);
        check(95e-6, 15e-6, true);
        check(5e-6, 1e-7, false);
        check(20e-6, 1e-7, true);
    }
}
