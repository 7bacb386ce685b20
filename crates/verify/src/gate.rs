//! Lets calls in, a few at a time, and moves the engine's clock while any is inside.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};
use wasmtime::Engine;

/// Length of one epoch: the grain of deadlines.
const TICK: Duration = Duration::from_millis(10);

/// Counts calls. While there are none its thread sleeps, so that it takes no core from a
/// measurement.
pub(crate) struct Gate {
    shared: Arc<Shared>,
    ticker: Option<JoinHandle<()>>,
}

struct Shared {
    inside: Mutex<Inside>,
    changed: Condvar,
    limit: usize,
}

struct Inside {
    n_calls: usize,
    is_closed: bool,
}

/// A call that is inside; leaves when dropped.
pub(crate) struct Pass<'a>(&'a Shared);

impl Gate {
    pub(crate) fn new(engine: Engine, limit: usize) -> std::io::Result<Self> {
        let inside = Mutex::new(Inside { n_calls: 0, is_closed: false });
        let shared = Arc::new(Shared { inside, changed: Condvar::new(), limit: limit.max(1) });
        let theirs = Arc::clone(&shared);
        let ticker = std::thread::Builder::new()
            .name("hook-clock".to_owned())
            .spawn(move || tick(&theirs, &engine))?;
        Ok(Self { shared, ticker: Some(ticker) })
    }

    /// Waits until there is room.
    pub(crate) fn enter(&self) -> Pass<'_> {
        let mut inside = self.shared.lock();
        while inside.n_calls >= self.shared.limit {
            inside = self.shared.wait(inside);
        }
        inside.n_calls += 1;
        drop(inside);
        self.shared.changed.notify_all();
        Pass(&self.shared)
    }
}

/// Epochs in which a call of this duration ends at the latest; one more than it takes, because
/// the present one may be nearly over.
pub(crate) fn epochs(deadline: Duration) -> u64 {
    let n_ticks = deadline.as_nanos().div_ceil(TICK.as_nanos());
    u64::try_from(n_ticks).unwrap_or(u64::MAX / 2).saturating_add(1)
}

impl Shared {
    // The counts are right even if a thread panicked while it held the lock.
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, inside: MutexGuard<'a, Inside>) -> MutexGuard<'a, Inside> {
        self.changed.wait(inside).unwrap_or_else(PoisonError::into_inner)
    }
}

fn tick(shared: &Shared, engine: &Engine) {
    loop {
        let mut inside = shared.lock();
        while inside.n_calls == 0 && !inside.is_closed {
            inside = shared.wait(inside);
        }
        if inside.is_closed {
            return;
        }
        drop(inside);
        std::thread::sleep(TICK);
        engine.increment_epoch();
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.lock().n_calls -= 1;
        self.0.changed.notify_all();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_all();
        if let Some(ticker) = self.ticker.take() {
            // A ticker that panicked has nothing left to clean up.
            let _ = ticker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_rounded_up() {
        assert_eq!(epochs(Duration::ZERO), 1);
        assert_eq!(epochs(Duration::from_millis(1)), 2);
        assert_eq!(epochs(Duration::from_millis(200)), 21);
        assert!(epochs(Duration::MAX) > u64::MAX / 4);
    }
}
