//! The circuit breaker: no calls to a provider that is down, but for one that looks whether it is
//! back.

use crate::config::{Pace, seconds};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// What a call showed about the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It answers, whatever it answers.
    Alive,
    /// It does not, or not with anything that can be used.
    Down,
    /// It will not answer soon: there is no use in trying again.
    Closed,
}

/// The circuit of one model.
pub(crate) struct Circuit {
    pace: Pace,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Calls pass; so many failed in a row.
    Passing { failures: u32 },
    /// Calls are refused until then.
    Refusing { until: Instant, pause: Duration },
    /// One call is on its way to see; others are refused.
    Probing { pause: Duration },
}

/// The right to make a call.
pub(crate) struct Ticket<'a> {
    circuit: &'a Circuit,
    probe: bool,
    reported: bool,
}

impl Circuit {
    pub(crate) fn new(pace: Pace) -> Self {
        Self { pace, state: Mutex::new(State::Passing { failures: 0 }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a call that comes now is refused.
    pub(crate) fn refuses(&self) -> bool {
        match *self.state() {
            State::Passing { .. } => false,
            State::Refusing { until, .. } => Instant::now() < until,
            State::Probing { .. } => true,
        }
    }

    /// Lets a call pass, or not. After the pause the first call passes as the one that looks.
    pub(crate) fn admit(&self) -> Option<Ticket<'_>> {
        let mut state = self.state();
        let probe = match *state {
            State::Passing { .. } => false,
            State::Refusing { until, pause } if Instant::now() >= until => {
                *state = State::Probing { pause };
                true
            }
            State::Refusing { .. } | State::Probing { .. } => return None,
        };
        Some(Ticket { circuit: self, probe, reported: false })
    }

    fn open(&self, state: &mut State, pause: Duration) {
        *state = State::Refusing { until: Instant::now() + pause, pause };
    }
}

impl Ticket<'_> {
    /// Whether this call is the one that looks; it may try only once.
    pub(crate) fn is_probe(&self) -> bool {
        self.probe
    }

    /// Whether the call may try again: not when the circuit has opened meanwhile.
    pub(crate) fn may_go_on(&self) -> bool {
        !self.probe && matches!(*self.circuit.state(), State::Passing { .. })
    }

    /// Says what the call showed. Answers whether this opened the circuit that was closed before.
    pub(crate) fn report(mut self, sign: Sign) -> bool {
        self.reported = true;
        let circuit = self.circuit;
        let cap = seconds(circuit.pace.circuit_pause_cap);
        let first = seconds(circuit.pace.circuit_pause).min(cap);
        let threshold = circuit.pace.circuit_failures;
        let mut state = circuit.state();
        match (sign, *state) {
            _ if threshold == 0 => false,
            // A late reply of a call that began before the circuit opened is as good as a probe's.
            (Sign::Alive, _) => {
                *state = State::Passing { failures: 0 };
                false
            }
            (_, State::Probing { pause }) if self.probe => {
                circuit.open(&mut state, pause.saturating_mul(2).min(cap));
                false
            }
            (Sign::Closed, State::Passing { .. }) => {
                circuit.open(&mut state, first);
                true
            }
            (Sign::Down, State::Passing { failures }) if failures + 1 >= threshold => {
                circuit.open(&mut state, first);
                true
            }
            (Sign::Down, State::Passing { failures }) => {
                *state = State::Passing { failures: failures + 1 };
                false
            }
            (Sign::Down | Sign::Closed, State::Refusing { .. } | State::Probing { .. }) => false,
        }
    }
}

impl Drop for Ticket<'_> {
    /// A probe that ends without a report (its call was cancelled) leaves its place to the next.
    fn drop(&mut self) {
        if self.probe && !self.reported {
            let mut state = self.circuit.state();
            if let State::Probing { pause } = *state {
                *state = State::Refusing { until: Instant::now(), pause };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circuit(pause: f64) -> Circuit {
        Circuit::new(Pace { circuit_failures: 2, circuit_pause: pause, ..Pace::default() })
    }

    fn call(circuit: &Circuit, sign: Sign) -> Option<bool> {
        circuit.admit().map(|ticket| ticket.report(sign))
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let circuit = circuit(3600.0);
        for sign in [Sign::Down, Sign::Alive, Sign::Down] {
            assert_eq!(call(&circuit, sign), Some(false));
            assert!(!circuit.refuses());
        }
        let waiting = circuit.admit().expect("still closed");
        assert_eq!(call(&circuit, Sign::Down), Some(true));
        assert!(circuit.refuses() && circuit.admit().is_none());
        assert!(!waiting.may_go_on());
        assert!(!waiting.report(Sign::Alive));
        assert!(!circuit.refuses());
    }

    #[test]
    fn one_call_looks_whether_it_is_back() {
        let circuit = circuit(0.0);
        assert_eq!(call(&circuit, Sign::Closed), Some(true));
        let probe = circuit.admit().expect("the pause is over");
        assert!(probe.is_probe() && !probe.may_go_on());
        assert!(circuit.refuses() && circuit.admit().is_none());
        // Cancelled: the next one looks.
        drop(probe);
        let probe = circuit.admit().expect("its place is free");
        assert!(!probe.report(Sign::Down));
        let probe = circuit.admit().expect("a pause of zero stays zero");
        assert!(probe.is_probe());
        probe.report(Sign::Alive);
        assert!(!circuit.admit().expect("closed again").is_probe());
    }

    #[test]
    fn pauses_grow_to_their_cap() {
        let circuit = circuit(4.0);
        let pause = || match *circuit.state() {
            State::Refusing { pause, .. } => pause.as_secs(),
            State::Passing { .. } | State::Probing { .. } => panic!("not open"),
        };
        call(&circuit, Sign::Closed);
        let mut seen = vec![pause()];
        for _ in 0..8 {
            if let State::Refusing { until, .. } = &mut *circuit.state() {
                *until = Instant::now();
            }
            call(&circuit, Sign::Down);
            seen.push(pause());
        }
        assert_eq!(seen, [4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }
}
