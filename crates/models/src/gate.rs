//! Whose turn it is: how many calls are in flight, and how many requests and tokens a minute.

use crate::{ModelConfig, config::seconds};
use forerunner_core::{Error, Host, Result};
use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How often a waiting call asks the host whether its answer is still wanted.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// The gate of one model.
pub(crate) struct Gate {
    concurrency: usize,
    requests: Option<usize>,
    tokens: Option<u64>,
    minute: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    in_flight: usize,
    /// Requests and tokens of the last minute.
    recent: VecDeque<Sent>,
    /// Nothing is sent before then: the provider said so.
    held_until: Option<Instant>,
    /// Numbers the requests.
    next: u64,
}

struct Sent {
    number: u64,
    at: Instant,
    tokens: u64,
}

/// A place among the calls in flight; given back when dropped.
pub(crate) struct Place<'a>(&'a Gate);

/// A request that was counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted(u64);

impl Gate {
    pub(crate) fn new(config: &ModelConfig) -> Self {
        Self {
            concurrency: config.concurrency,
            requests: config.requests_per_minute.map(|n| n as usize),
            tokens: config.tokens_per_minute,
            minute: seconds(config.pace.minute),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place among the calls in flight.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub(crate) fn enter(&self, host: &dyn Host) -> Result<Place<'_>> {
        let mut state = self.state();
        while state.in_flight >= self.concurrency {
            let waited =
                self.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner);
            drop(waited);
            if host.cancelled() {
                return Err(Error::Cancelled);
            }
            state = self.state();
        }
        state.in_flight += 1;
        Ok(Place(self))
    }

    /// Waits until a request may be sent, and counts it with its estimated tokens.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub(crate) fn turn(&self, estimate: u64, host: &dyn Host) -> Result<Counted> {
        loop {
            let now = Instant::now();
            let pause = {
                let mut state = self.state();
                match self.free_at(&mut state, estimate, now) {
                    Some(until) => until.saturating_duration_since(now),
                    None => {
                        let number = state.next;
                        state.next += 1;
                        if self.requests.is_some() || self.tokens.is_some() {
                            state.recent.push_back(Sent { number, at: now, tokens: estimate });
                        }
                        return Ok(Counted(number));
                    }
                }
            };
            wait(pause, host)?;
        }
    }

    /// When the next request may be sent, if that is not now.
    fn free_at(&self, state: &mut State, estimate: u64, now: Instant) -> Option<Instant> {
        if let Some(until) = state.held_until {
            if now < until {
                return Some(until);
            }
            state.held_until = None;
        }
        while state
            .recent
            .front()
            .is_some_and(|sent| now.saturating_duration_since(sent.at) >= self.minute)
        {
            state.recent.pop_front();
        }
        let oldest = state.recent.front()?.at;
        let tokens: u64 = state.recent.iter().map(|sent| sent.tokens).sum();
        let full = self.requests.is_some_and(|limit| state.recent.len() >= limit)
            || self.tokens.is_some_and(|limit| tokens.saturating_add(estimate) > limit);
        full.then(|| oldest + self.minute)
    }

    /// Puts what a request really took in place of its estimate.
    pub(crate) fn settle(&self, counted: Counted, tokens: u64) {
        if let Some(sent) = self.state().recent.iter_mut().find(|sent| sent.number == counted.0) {
            sent.tokens = tokens;
        }
    }

    /// Sends nothing for `pause`, whoever asks.
    pub(crate) fn hold(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut state = self.state();
        state.held_until = Some(state.held_until.map_or(until, |known| known.max(until)));
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.state().in_flight -= 1;
        self.0.changed.notify_one();
    }
}

/// Lets time pass.
///
/// # Errors
/// [`Error::Cancelled`].
pub(crate) fn wait(pause: Duration, host: &dyn Host) -> Result<()> {
    let start = Instant::now();
    loop {
        if host.cancelled() {
            return Err(Error::Cancelled);
        }
        match pause.checked_sub(start.elapsed()) {
            None | Some(Duration::ZERO) => return Ok(()),
            Some(rest) => std::thread::sleep(rest.min(TICK)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forerunner_core::NoHost;

    fn gate(change: impl FnOnce(&mut ModelConfig)) -> Gate {
        let mut config = ModelConfig::new("m", "x");
        config.pace.minute = 3600.0;
        change(&mut config);
        Gate::new(&config)
    }

    /// Whether a request of `tokens` would have to wait.
    fn full(gate: &Gate, tokens: u64) -> bool {
        gate.free_at(&mut gate.state(), tokens, Instant::now()).is_some()
    }

    #[test]
    fn requests_and_tokens_are_counted_within_the_window() {
        let requests = gate(|config| config.requests_per_minute = Some(2));
        for _ in 0..2 {
            assert!(!full(&requests, 0));
            requests.turn(0, &NoHost).expect("not cancelled");
        }
        assert!(full(&requests, 0));
        let later = |seconds| Instant::now() + Duration::from_secs(seconds);
        let free = |at| requests.free_at(&mut requests.state(), 0, at).is_none();
        assert!(!free(later(3000)) && free(later(3601)));

        let tokens = gate(|config| config.tokens_per_minute = Some(100));
        // More than a minute's worth passes when nothing else was sent: it would wait forever.
        assert!(!full(&tokens, 1000));
        let counted = tokens.turn(90, &NoHost).expect("not cancelled");
        assert!(full(&tokens, 20));
        tokens.settle(counted, 30);
        assert!(!full(&tokens, 20));
    }

    #[test]
    fn holding_holds_everybody_and_the_longest_wins() {
        let gate = gate(|_| ());
        assert!(!full(&gate, 0));
        gate.hold(Duration::from_secs(3600));
        gate.hold(Duration::from_secs(1));
        assert!(full(&gate, 0));
        let left = gate.state().held_until.expect("held").saturating_duration_since(Instant::now());
        assert!(left > Duration::from_secs(3000));
    }
}
