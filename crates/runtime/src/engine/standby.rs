//! Mutators that make no proposals are put aside for a while: their provider is down, their key is
//! wrong. Others take over their share, and iterations are not used up meanwhile.

use std::time::{Duration, Instant};

/// Proposals in a row that a mutator may fail to make.
const PATIENCE: u32 = 3;
/// A pause is at most so many times the first one.
const LONGEST: u32 = 20;
/// Pauses in a row after which nothing is expected of a mutator any more.
const MOST_PAUSES: u32 = 6;

/// How the mutators of a run are doing, by index.
pub(super) struct Standby {
    /// The first pause.
    pause: Duration,
    states: Vec<State>,
}

#[derive(Debug, Clone, Default)]
struct State {
    /// Proposals in a row that were not made.
    failed: u32,
    /// Pauses in a row.
    pauses: u32,
    until: Option<Instant>,
}

impl Standby {
    pub(super) fn new(mutators: usize, pause: Duration) -> Self {
        Self { pause, states: vec![State::default(); mutators] }
    }

    /// Notes whether a mutator made a proposal; the pause that begins for it, if one does.
    pub(super) fn note(&mut self, mutator: usize, made: bool, now: Instant) -> Option<Duration> {
        let state = self.states.get_mut(mutator)?;
        if made {
            *state = State::default();
            return None;
        }
        state.failed += 1;
        // What was under way when a pause began does not make it longer.
        if state.failed < PATIENCE || state.until.is_some_and(|until| now < until) {
            return None;
        }
        let factor = 2_u32.saturating_pow(state.pauses).min(LONGEST);
        let pause = self.pause * factor;
        state.pauses += 1;
        state.until = Some(now + pause);
        Some(pause)
    }

    /// Whether a mutator is aside.
    pub(super) fn is_aside(&self, mutator: usize, now: Instant) -> bool {
        self.states[mutator].until.is_some_and(|until| now < until)
    }

    /// Whether nothing is expected of a mutator any more.
    pub(super) fn is_given_up(&self, mutator: usize) -> bool {
        self.states[mutator].pauses > MOST_PAUSES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_a_mutator_is_given_up_and_end_with_a_proposal() {
        let (pause, start) = (Duration::from_secs(30), Instant::now());
        let mut standby = Standby::new(2, pause);
        assert_eq!(standby.note(0, false, start), None);
        assert_eq!(standby.note(0, false, start), None);
        assert_eq!(standby.note(0, false, start), Some(pause));
        assert!(standby.is_aside(0, start) && !standby.is_aside(1, start));
        assert_eq!(standby.note(0, false, start), None, "it was under way");
        let mut now = start + pause;
        assert!(!standby.is_aside(0, now));
        let mut pauses = Vec::new();
        while !standby.is_given_up(0) {
            let pause = standby.note(0, false, now).expect("one failure is enough now");
            pauses.push(pause.as_secs());
            now += pause;
        }
        assert_eq!(pauses, [60, 120, 240, 480, 600, 600]);
        assert_eq!(standby.note(0, true, now), None);
        assert!(!standby.is_given_up(0) && !standby.is_aside(0, now));
        assert_eq!(standby.note(0, false, now), None);
    }
}
