//! The clock: CPU seconds of the trainer, read from outside, corrected for the speed of the core.
//!
//! Identical work varies by five to ten per cent in CPU seconds, because cores change their
//! frequency and share caches and execution units with neighbours. Only training is slowed like
//! training, so a [`crate::metronome`] takes a step of the reference program on the same core every
//! fraction of a second while the trainer waits for tokens, and each stretch of the trainer's CPU
//! time is charged in proportion to how fast those steps were around it.

use crate::{Clock, metronome::NOMINAL_SECONDS, track::SECONDS_PER_TOKEN};

/// Beats on each side of one that it is smoothed with, by their median.
const NEIGHBOURS: usize = 1;
/// A beat during which the trainer used more CPU seconds than this was disturbed by it, and is not
/// believed: a program must not be able to make the core look slow.
const DISTURBANCE_SECONDS: f64 = 2e-4;

/// What the trainer is charged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Charge {
    /// Seconds by the track's clock.
    pub(crate) seconds: f64,
    /// CPU seconds as counted by the operating system.
    pub(crate) cpu_seconds: f64,
}

/// CPU seconds of one beat, now; `None` when there is none any more.
pub(crate) type Beat<'a> = Box<dyn FnMut() -> Option<f64> + 'a>;

/// Follows one training run.
pub(crate) struct Meter<'a> {
    clock: Clock,
    beat: Option<Beat<'a>>,
    /// CPU seconds of the trainer between two beats.
    interval: f64,
    samples: Vec<Sample>,
    disturbed: usize,
}

/// The beat when the trainer had used so much CPU time.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: f64,
    beat_seconds: f64,
}

impl<'a> Meter<'a> {
    /// A clock without a metronome: for every clock but [`Clock::Calibrated`], which would count
    /// CPU seconds and say so.
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, beat: None, interval: 0.0, samples: Vec::new(), disturbed: 0 }
    }

    /// A calibrated clock, with a beat each time that the trainer has used `interval` CPU seconds.
    pub(crate) fn with_beats(interval: f64, beat: Beat<'a>) -> Self {
        Self { beat: Some(beat), interval, ..Self::new(Clock::Calibrated) }
    }

    /// Takes a beat when it is time, at a moment when the trainer waits for us. `cpu_seconds` reads
    /// its clock.
    pub(crate) fn boundary(&mut self, at: f64, cpu_seconds: impl Fn() -> Option<f64>) {
        if self.samples.last().is_some_and(|last| at - last.at < self.interval) {
            return;
        }
        let Some(beat) = &mut self.beat else { return };
        let before = cpu_seconds();
        let Some(beat_seconds) = beat() else {
            self.beat = None;
            return;
        };
        let used = cpu_seconds().zip(before).map_or(0.0, |(after, before)| after - before);
        if used > DISTURBANCE_SECONDS {
            self.disturbed += 1;
            return;
        }
        self.samples.push(Sample { at, beat_seconds });
    }

    /// The charge after `cpu_seconds` of the trainer's CPU time and `tokens` served.
    pub(crate) fn charge(&self, cpu_seconds: f64, tokens: u64) -> Charge {
        let seconds = match self.clock {
            Clock::Steps => tokens as f64 * SECONDS_PER_TOKEN,
            Clock::Raw => cpu_seconds,
            Clock::Calibrated => calibrated(&self.samples, cpu_seconds),
        };
        Charge { seconds, cpu_seconds }
    }

    /// How time was charged, in words.
    pub(crate) fn note(&self) -> String {
        match (self.clock, self.samples.len()) {
            (Clock::Steps, _) => format!("{SECONDS_PER_TOKEN} s per token served"),
            (Clock::Raw, _) => "CPU seconds".into(),
            (Clock::Calibrated, 0) => "CPU seconds, not calibrated (no beat was taken)".into(),
            (Clock::Calibrated, n) => {
                format!("CPU seconds, calibrated by {n} beats, {} disturbed", self.disturbed)
            }
        }
    }
}

/// `cpu_seconds` charged stretch by stretch: nominal over smoothed beats, averaged over both ends.
fn calibrated(samples: &[Sample], cpu_seconds: f64) -> f64 {
    let speed: Vec<f64> = (0..samples.len())
        .map(|index| {
            let from = index.saturating_sub(NEIGHBOURS);
            let to = (index + NEIGHBOURS + 1).min(samples.len());
            let around = samples[from..to].iter().map(|sample| sample.beat_seconds).collect();
            NOMINAL_SECONDS / median(around)
        })
        .collect();
    let (Some(first), Some(last)) = (speed.first(), speed.last()) else { return cpu_seconds };
    let before = samples[0].at.min(cpu_seconds) * first;
    let between: f64 = (1..samples.len())
        .map(|index| {
            let from = samples[index - 1].at.min(cpu_seconds);
            let to = samples[index].at.min(cpu_seconds);
            (to - from) * (speed[index - 1] + speed[index]) / 2.0
        })
        .sum();
    let after = (cpu_seconds - samples[samples.len() - 1].at).max(0.0) * last;
    before + between + after
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        (values[middle - 1] + values[middle]) / 2.0
    } else {
        values[middle]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(times: &[(f64, f64)]) -> Vec<Sample> {
        let sample = |&(at, slow): &(f64, f64)| Sample { at, beat_seconds: NOMINAL_SECONDS * slow };
        times.iter().map(sample).collect()
    }

    fn check(times: &[(f64, f64)], cpu_seconds: f64, expected: f64) {
        let charged = calibrated(&samples(times), cpu_seconds);
        assert!((charged - expected).abs() < 1e-9, "{charged} instead of {expected}");
    }

    #[test]
    fn a_core_at_nominal_speed_charges_what_it_counts() {
        check(&[], 3.0, 3.0);
        check(&[(0.0, 1.0)], 3.0, 3.0);
        check(&[(0.0, 1.0), (1.0, 1.0), (2.0, 1.0)], 2.5, 2.5);
    }

    #[test]
    fn a_slow_core_charges_less_in_proportion() {
        check(&[(0.0, 2.0)], 3.0, 1.5);
        let all_slow: Vec<_> = (0..10).map(|index| (f64::from(index), 1.25)).collect();
        check(&all_slow, 9.5, 9.5 / 1.25);
    }

    #[test]
    fn the_same_work_costs_the_same_when_half_of_it_ran_slowly() {
        // Ten units at nominal speed take 10 s; at two thirds of it the second half takes 7.5 s.
        let times: Vec<_> = (0..=625)
            .map(|index| f64::from(index) / 50.0)
            .map(|at| (at, if at < 5.0 { 1.0 } else { 1.5 }))
            .collect();
        let charged = calibrated(&samples(&times), 12.5);
        assert!((charged - 10.0).abs() < 0.05, "{charged}");
    }

    #[test]
    fn an_interrupted_timing_changes_little() {
        let times: Vec<_> =
            (0..400).map(|i| (f64::from(i) / 50.0, if i == 200 { 90.0 } else { 1.0 })).collect();
        let charged = calibrated(&samples(&times), 8.0);
        assert!((charged - 8.0).abs() < 0.02, "{charged}");
    }

    #[test]
    fn a_beat_that_the_trainer_disturbed_is_not_believed() {
        let mut meter = Meter::with_beats(0.1, Box::new(|| Some(3.0 * NOMINAL_SECONDS)));
        let clock = std::cell::Cell::new(0.0);
        meter.boundary(0.0, || {
            clock.set(clock.get() + 0.001);
            Some(clock.get())
        });
        assert_eq!(meter.charge(6.0, 0).seconds, 6.0);
        meter.boundary(1.0, || Some(1.0));
        assert!((meter.charge(6.0, 0).seconds - 2.0).abs() < 1e-9);
    }

    #[test]
    fn the_clock_of_steps_depends_on_tokens_alone() {
        let meter = Meter::new(Clock::Steps);
        assert_eq!(meter.charge(1.0, 1000).seconds, meter.charge(9.0, 1000).seconds);
        assert_eq!(Meter::new(Clock::Raw).charge(9.0, 1000).seconds, 9.0);
    }
}
