//! How long a token took, phase by phase of a training: seconds of the trainer as its track counts
//! them, read from outside each time that it asked for tokens.

use crate::stream::Ledger;
use forerunner_core::Series;

/// Phases of a run, of as many batches each as can be.
const PHASES: u64 = 10;
/// Boundaries that are kept; beyond, every second one is forgotten.
const MAX_BOUNDARIES: usize = 4096;

/// A moment at which the trainer waited for tokens, or had finished.
#[derive(Debug, Clone, Copy)]
struct Boundary {
    /// What had been served by then.
    ledger: Ledger,
    /// Seconds used by then.
    seconds: f64,
}

/// Follows one training run.
#[derive(Debug)]
pub(crate) struct Pace {
    boundaries: Vec<Boundary>,
    /// Batches from one kept boundary to the next.
    stride: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { boundaries: Vec::new(), stride: 1 }
    }
}

impl Pace {
    /// Takes in a request for tokens.
    pub(crate) fn boundary(&mut self, ledger: Ledger, seconds: f64) {
        if !ledger.batches.is_multiple_of(self.stride) {
            return;
        }
        self.boundaries.push(Boundary { ledger, seconds });
        if self.boundaries.len() > MAX_BOUNDARIES {
            self.stride *= 2;
            let stride = self.stride;
            self.boundaries.retain(|boundary| boundary.ledger.batches.is_multiple_of(stride));
        }
    }

    /// The phases of a training that ended with so much served and used.
    pub(crate) fn phases(mut self, ledger: Ledger, seconds: f64) -> Phases {
        if self.boundaries.last().is_some_and(|last| last.ledger.batches == ledger.batches) {
            self.boundaries.pop();
        }
        self.boundaries.push(Boundary { ledger, seconds });
        let nearest = |batches: u64| {
            let distance = |boundary: &&Boundary| boundary.ledger.batches.abs_diff(batches);
            self.boundaries.iter().min_by_key(distance).copied()
        };
        let mut ends: Vec<Boundary> =
            (0..=PHASES).filter_map(|part| nearest(ledger.batches * part / PHASES)).collect();
        ends.dedup_by_key(|boundary| boundary.ledger.batches);
        let startup_seconds = ends[0].seconds;
        let phases = ends.windows(2).map(|pair| Phase {
            end: pair[1].ledger.batches,
            batches: pair[1].ledger.batches - pair[0].ledger.batches,
            tokens: pair[1].ledger.tokens - pair[0].ledger.tokens,
            seconds: pair[1].seconds - pair[0].seconds,
        });
        Phases { startup_seconds, phases: phases.collect() }
    }
}

/// Where the seconds of a training went. All of them add up to what it used.
#[derive(Debug)]
pub(crate) struct Phases {
    /// Seconds before the first request for tokens.
    pub(crate) startup_seconds: f64,
    phases: Vec<Phase>,
}

/// A stretch between two requests for tokens.
#[derive(Debug)]
struct Phase {
    /// Batches served when it ended.
    end: u64,
    batches: u64,
    tokens: u64,
    seconds: f64,
}

impl Phases {
    /// Seconds per token of each phase, at its last batch.
    pub(crate) fn seconds_per_token(&self) -> Series {
        self.series(|phase| phase.seconds / phase.tokens as f64)
    }

    /// Tokens per step, which is a request for tokens, of each phase, at its last batch.
    pub(crate) fn tokens_per_step(&self) -> Series {
        self.series(|phase| phase.tokens as f64 / phase.batches as f64)
    }

    fn series(&self, value: impl Fn(&Phase) -> f64) -> Series {
        self.phases.iter().map(|phase| (phase.end, value(phase))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of `n` batches; `tokens` and `cost` say how many tokens and seconds each of them takes.
    fn run(n: u64, tokens: impl Fn(u64) -> u64, cost: impl Fn(u64) -> f64) -> Phases {
        let mut pace = Pace::default();
        let (mut ledger, mut seconds) = (Ledger::default(), 0.25);
        for batch in 0..n {
            pace.boundary(ledger, seconds);
            ledger.batches += 1;
            ledger.tokens += tokens(batch);
            seconds += cost(batch);
        }
        let phases = pace.phases(ledger, seconds);
        let all: f64 = phases.phases.iter().map(|phase| phase.seconds).sum();
        assert!((phases.startup_seconds - 0.25).abs() < 1e-9 || n == 0, "{phases:?}");
        assert!((phases.startup_seconds + all - seconds).abs() < 1e-9, "{phases:?}");
        let tokens: u64 = phases.phases.iter().map(|phase| phase.tokens).sum();
        assert_eq!(tokens, ledger.tokens, "{phases:?}");
        phases
    }

    #[test]
    fn a_slow_half_and_a_schedule_show() {
        let even = run(2800, |_| 512, |_| 0.0075);
        assert_eq!(even.seconds_per_token().len(), 10);
        for (_, value) in even.seconds_per_token() {
            assert!((value - 0.0075 / 512.0).abs() < 1e-12);
        }
        let slow = run(100, |_| 10, |batch| if batch < 50 { 0.1 } else { 0.2 });
        let values: Vec<f64> = slow.seconds_per_token().iter().map(|point| point.1).collect();
        for (idx, value) in values.iter().enumerate() {
            assert!((value - if idx < 5 { 0.01 } else { 0.02 }).abs() < 1e-12, "{values:?}");
        }
        let grown = run(100, |batch| if batch < 50 { 8 } else { 16 }, |_| 0.1);
        let tokens: Vec<f64> = grown.tokens_per_step().iter().map(|point| point.1).collect();
        assert_eq!(tokens, [[8.0; 5], [16.0; 5]].concat());
        assert_eq!(grown.tokens_per_step()[4].0, 50);
    }

    #[test]
    fn runs_of_any_length_add_up() {
        for n in [0, 1, 2, 3, 9, 10, 11, 4095, 4096, 4097, 8193, 30_000] {
            let phases = run(n, |batch| batch % 7 + 1, |batch| 1e-4 * (batch % 5) as f64);
            assert_eq!(phases.phases.len() as u64, n.min(PHASES), "{n}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut pace = Pace::default();
        for batches in 0..1_000_000 {
            pace.boundary(Ledger { batches, tokens: batches, order: 0 }, 0.0);
            assert!(pace.boundaries.len() <= MAX_BOUNDARIES + 1);
        }
    }
}
