//! The clock: seconds of the trainer, read from outside, corrected for the speed of its cores.
//!
//! One thread is charged CPU seconds, several wall seconds, a GPU all wall seconds from the hand-over
//! until the snapshot is here, with nothing corrected: what slows a GPU down (heat, power, another
//! tenant) is not seen by a step on the CPU, and is reported beside the result instead. Identical work varies by five to ten per
//! cent in CPU seconds, because cores change their frequency and share caches and execution units
//! with neighbours. Only training is slowed like training, so a [`crate::metronome`] takes a step of
//! the reference program on the same cores every fraction of a second while the trainer waits for
//! tokens, and each stretch of the trainer's time is charged in proportion to how fast those steps
//! were around it.

use crate::{
    Clock, Track,
    metronome::{NOMINAL_SECONDS, nominal_seconds},
    track::SECONDS_PER_TOKEN,
};

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
    /// What it used, as counted by the operating system.
    pub(crate) used: Used,
}

/// What a process used until now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Used {
    /// CPU seconds of all threads.
    pub(crate) cpu_seconds: f64,
    /// Wall seconds, less those in which it waited for us; on a GPU, all since the hand-over.
    pub(crate) wall_seconds: f64,
}

/// Seconds of one beat, now; `None` when there is none any more.
pub(crate) type Beat<'a> = Box<dyn FnMut() -> Option<f64> + 'a>;

/// Follows one training run.
pub(crate) struct Meter<'a> {
    clock: Clock,
    beat: Option<Beat<'a>>,
    /// Seconds of the trainer between two beats.
    interval: f64,
    /// Seconds of a beat at normal speed.
    nominal: f64,
    samples: Vec<Sample>,
    /// When a beat was taken for the last time, believed or not.
    last: Option<f64>,
    disturbed: usize,
}

/// The beat when the trainer had used so much time.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: f64,
    beat_seconds: f64,
}

impl<'a> Meter<'a> {
    /// A clock without a metronome. Those that would be corrected say that they are not.
    pub(crate) fn new(clock: Clock) -> Self {
        let (samples, nominal) = (Vec::new(), NOMINAL_SECONDS);
        Self { clock, beat: None, interval: 0.0, nominal, samples, last: None, disturbed: 0 }
    }

    /// The track's clock, corrected by a beat now and then.
    pub(crate) fn with_beats(track: &Track, beat: Beat<'a>) -> Self {
        Self {
            beat: Some(beat),
            interval: track.seconds_per_beat,
            nominal: nominal_seconds(track),
            ..Self::new(track.clock)
        }
    }

    /// The seconds that this clock counts, before any correction.
    pub(crate) fn counted(&self, used: Used) -> f64 {
        match self.clock {
            Clock::Wall | Clock::Elapsed => used.wall_seconds,
            Clock::Calibrated | Clock::Raw | Clock::Steps => used.cpu_seconds,
        }
    }

    /// Takes a beat when it is time, at a moment when the trainer waits for us. `cpu_seconds` reads
    /// its CPU clock.
    pub(crate) fn boundary(&mut self, used: Used, cpu_seconds: impl Fn() -> Option<f64>) {
        let at = self.counted(used);
        if self.last.is_some_and(|last| at - last < self.interval) {
            return;
        }
        let Some(beat) = &mut self.beat else { return };
        self.last = Some(at);
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
        // A beat in wall seconds may have waited for the trainer.
        let waited = if self.clock == Clock::Wall { used.max(0.0) } else { 0.0 };
        self.samples.push(Sample { at, beat_seconds: beat_seconds - waited });
    }

    /// The charge for what the trainer used while it was served `tokens`.
    pub(crate) fn charge(&self, used: Used, tokens: u64) -> Charge {
        let seconds = match self.clock {
            Clock::Steps => tokens as f64 * SECONDS_PER_TOKEN,
            Clock::Raw => used.cpu_seconds,
            Clock::Elapsed => used.wall_seconds,
            Clock::Calibrated | Clock::Wall => {
                calibrated(&self.samples, self.counted(used), self.nominal)
            }
        };
        Charge { seconds, used }
    }

    /// How time was charged, in words.
    pub(crate) fn note(&self) -> String {
        match (self.clock, self.samples.len()) {
            (Clock::Steps, _) => format!("{SECONDS_PER_TOKEN} s per token served"),
            (Clock::Raw, _) => "CPU seconds".into(),
            (Clock::Elapsed, _) => {
                "wall seconds from the hand-over to the snapshot, nothing subtracted".into()
            }
            (Clock::Calibrated | Clock::Wall, n) => {
                let unit = if self.clock == Clock::Wall { "wall" } else { "CPU" };
                match n {
                    0 => format!("{unit} seconds, not calibrated (no beat was taken)"),
                    n => {
                        let disturbed = self.disturbed;
                        format!("{unit} seconds, calibrated by {n} beats, {disturbed} disturbed")
                    }
                }
            }
        }
    }
}

/// `seconds` charged stretch by stretch: nominal over smoothed beats, averaged over both ends.
fn calibrated(samples: &[Sample], seconds: f64, nominal: f64) -> f64 {
    let speed: Vec<f64> = (0..samples.len())
        .map(|index| {
            let from = index.saturating_sub(NEIGHBOURS);
            let to = (index + NEIGHBOURS + 1).min(samples.len());
            let around = samples[from..to].iter().map(|sample| sample.beat_seconds).collect();
            nominal / median(around)
        })
        .collect();
    let (Some(first), Some(last)) = (speed.first(), speed.last()) else { return seconds };
    let before = samples[0].at.min(seconds) * first;
    let between: f64 = (1..samples.len())
        .map(|index| {
            let from = samples[index - 1].at.min(seconds);
            let to = samples[index].at.min(seconds);
            (to - from) * (speed[index - 1] + speed[index]) / 2.0
        })
        .sum();
    let after = (seconds - samples[samples.len() - 1].at).max(0.0) * last;
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
    use crate::Config;

    fn samples(times: &[(f64, f64)]) -> Vec<Sample> {
        let sample = |&(at, slow): &(f64, f64)| Sample { at, beat_seconds: NOMINAL_SECONDS * slow };
        times.iter().map(sample).collect()
    }

    fn calibrated(samples: &[Sample], seconds: f64) -> f64 {
        super::calibrated(samples, seconds, NOMINAL_SECONDS)
    }

    /// CPU seconds, and three times as many wall seconds.
    fn used(cpu_seconds: f64) -> Used {
        Used { cpu_seconds, wall_seconds: 3.0 * cpu_seconds }
    }

    fn meter(clock: Clock, beat: Beat<'_>) -> Meter<'_> {
        let config = Config { clock: Some(clock), ..Config::default() };
        Meter::with_beats(&Track::new(&config).unwrap(), beat)
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
        let mut meter = meter(Clock::Calibrated, Box::new(|| Some(3.0 * NOMINAL_SECONDS)));
        let clock = std::cell::Cell::new(0.0);
        meter.boundary(used(0.0), || {
            clock.set(clock.get() + 0.001);
            Some(clock.get())
        });
        assert_eq!(meter.charge(used(6.0), 0).seconds, 6.0);
        meter.boundary(used(1.0), || Some(1.0));
        assert!((meter.charge(used(6.0), 0).seconds - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_wall_clock_counts_wall_seconds_and_is_corrected_too() {
        let mut meter = meter(Clock::Wall, Box::new(|| Some(2.0 * NOMINAL_SECONDS)));
        assert_eq!(meter.charge(used(6.0), 0).seconds, 18.0);
        assert_eq!(meter.note(), "wall seconds, not calibrated (no beat was taken)");
        meter.boundary(used(1.0), || Some(1.0));
        assert!((meter.charge(used(6.0), 0).seconds - 9.0).abs() < 1e-9);
        assert_eq!(meter.note(), "wall seconds, calibrated by 1 beats, 0 disturbed");
    }

    #[test]
    fn elapsed_seconds_are_charged_as_they_are() {
        let mut meter = meter(Clock::Elapsed, Box::new(|| Some(2.0 * NOMINAL_SECONDS)));
        meter.boundary(used(1.0), || Some(1.0));
        assert_eq!(meter.charge(used(6.0), 100).seconds, 18.0);
        assert!(meter.note().contains("nothing subtracted"));
    }

    #[test]
    fn the_clock_of_steps_depends_on_tokens_alone() {
        let meter = Meter::new(Clock::Steps);
        assert_eq!(meter.charge(used(1.0), 1000).seconds, meter.charge(used(9.0), 1000).seconds);
        assert_eq!(Meter::new(Clock::Raw).charge(used(9.0), 1000).seconds, 9.0);
    }
}
