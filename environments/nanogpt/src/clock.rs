//! The clock: CPU seconds of the trainer, read from outside, corrected for the speed of the core.
//!
//! Identical work varies by several per cent in CPU seconds, because cores change their frequency
//! and share caches and execution units with neighbours. A short kernel timed on the same core
//! every few steps sees the same slowdown, so each stretch of the trainer's CPU time is charged in
//! proportion to how fast the kernel ran around it. Many short timings are better than a few long
//! ones: neighbours come and go within milliseconds.

use crate::{
    Clock,
    kernel::{Kernel, NOMINAL_SECONDS, Timing},
    track::SECONDS_PER_TOKEN,
};

/// CPU seconds of the trainer between two calibrations: one costs about a hundredth of that.
const INTERVAL_SECONDS: f64 = 0.02;
/// Calibrations on each side that smooth one: single timings scatter by a tenth or more.
const NEIGHBOURS: usize = 16;
/// A timing further than this factor from the median around it was interrupted; it counts as if
/// it were just as far.
const OUTLIER: f64 = 1.5;
/// A kernel run during which the trainer used more CPU seconds than this was disturbed by it, and
/// is not believed: a program must not be able to make the core look slow.
const DISTURBANCE_SECONDS: f64 = 2e-4;

/// What the trainer is charged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Charge {
    /// Seconds by the track's clock.
    pub(crate) seconds: f64,
    /// CPU seconds as counted by the operating system.
    pub(crate) cpu_seconds: f64,
}

/// Follows one training run.
pub(crate) struct Meter {
    clock: Clock,
    kernel: Option<Kernel>,
    samples: Vec<Sample>,
    peak_flops: f64,
    disturbed: usize,
}

/// The kernel's time when the trainer had used so much CPU time.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: f64,
    kernel_seconds: f64,
}

impl Meter {
    /// A clock before the start. Calibrates once when the clock is of that kind.
    ///
    /// An unoptimised build of this crate cannot calibrate: its kernel says nothing about the
    /// optimised program. It then charges CPU seconds; [`Meter::note`] says so.
    pub(crate) fn new(clock: Clock) -> Self {
        let calibrated = clock == Clock::Calibrated && !cfg!(debug_assertions);
        let kernel = calibrated.then(Kernel::new);
        let mut meter = Self { clock, kernel, samples: Vec::new(), peak_flops: 0.0, disturbed: 0 };
        meter.sample(0.0, || None);
        meter
    }

    /// Calibrates when it is time, at a moment when the trainer waits for us. `cpu_seconds` reads
    /// its clock.
    pub(crate) fn boundary(&mut self, at: f64, cpu_seconds: impl Fn() -> Option<f64>) {
        if self.samples.last().is_none_or(|last| at - last.at >= INTERVAL_SECONDS) {
            self.sample(at, cpu_seconds);
        }
    }

    fn sample(&mut self, at: f64, cpu_seconds: impl Fn() -> Option<f64>) {
        let Some(kernel) = &mut self.kernel else { return };
        let before = cpu_seconds();
        let Timing { seconds, flops_per_second } = kernel.time();
        let used = cpu_seconds().zip(before).map_or(0.0, |(after, before)| after - before);
        if used > DISTURBANCE_SECONDS {
            self.disturbed += 1;
            return;
        }
        self.peak_flops = self.peak_flops.max(flops_per_second);
        self.samples.push(Sample { at, kernel_seconds: seconds });
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

    /// Highest rate of the kernel's matrix products, in operations per second.
    pub(crate) fn peak_flops(&self) -> Option<f64> {
        (self.peak_flops > 0.0).then_some(self.peak_flops)
    }

    /// How time was charged, in words.
    pub(crate) fn note(&self) -> String {
        match (self.clock, self.samples.len()) {
            (Clock::Steps, _) => format!("{SECONDS_PER_TOKEN} s per token served"),
            (Clock::Raw, _) => "CPU seconds".into(),
            (Clock::Calibrated, 0) => "CPU seconds, not calibrated (unoptimised build)".into(),
            (Clock::Calibrated, n) => {
                format!("CPU seconds, calibrated {n} times, {} disturbed", self.disturbed)
            }
        }
    }
}

/// `cpu_seconds` charged stretch by stretch: nominal over smoothed kernel time.
fn calibrated(samples: &[Sample], cpu_seconds: f64) -> f64 {
    let speed: Vec<f64> = (0..samples.len())
        .map(|index| {
            let from = index.saturating_sub(NEIGHBOURS);
            let to = (index + NEIGHBOURS + 1).min(samples.len());
            let around = samples[from..to].iter().map(|sample| sample.kernel_seconds).collect();
            NOMINAL_SECONDS / robust_mean(around)
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

/// The mean, with outliers pulled in.
fn robust_mean(values: Vec<f64>) -> f64 {
    let n_values = values.len() as f64;
    let median = median(values.clone());
    values.iter().map(|value| value.clamp(median / OUTLIER, median * OUTLIER)).sum::<f64>()
        / n_values
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
        let sample =
            |&(at, slow): &(f64, f64)| Sample { at, kernel_seconds: NOMINAL_SECONDS * slow };
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
    fn the_clock_of_steps_depends_on_tokens_alone() {
        let meter = Meter::new(Clock::Steps);
        assert_eq!(meter.charge(1.0, 1000).seconds, meter.charge(9.0, 1000).seconds);
        assert_eq!(Meter::new(Clock::Raw).charge(9.0, 1000).seconds, 9.0);
    }
}
