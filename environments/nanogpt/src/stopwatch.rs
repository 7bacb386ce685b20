//! Wall time of a program, less the time in which it waits for its supervisor.

use std::time::{Duration, Instant};

/// CPU seconds that a waiting program may use unseen: its threads end what they were doing and look
/// for more work for a moment before they sleep.
const TOLERANCE_SECONDS: f64 = 2e-4;

/// Runs while the program works, and stands still while it waits for an answer.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    counted: Duration,
    /// When it was started for the last time; nothing while it stands.
    since: Option<Instant>,
    /// CPU seconds of the program when it was stopped.
    stopped_at: f64,
}

impl Stopwatch {
    /// Starts.
    pub(crate) fn start(now: Instant) -> Self {
        Self { counted: Duration::ZERO, since: Some(now), stopped_at: 0.0 }
    }

    /// The program waits for an answer from `now` on, having used so many CPU seconds.
    pub(crate) fn stop(&mut self, now: Instant, cpu_seconds: Option<f64>) {
        if let Some(since) = self.since.take() {
            self.counted += now.duration_since(since);
            self.stopped_at = cpu_seconds.unwrap_or_default();
        }
    }

    /// It is answered. CPU time that it used while it should have waited is counted: work must not
    /// be hidden there.
    pub(crate) fn resume(&mut self, now: Instant, cpu_seconds: Option<f64>) {
        if self.since.is_none() {
            let hidden = cpu_seconds.map_or(0.0, |after| after - self.stopped_at);
            if hidden > TOLERANCE_SECONDS {
                self.counted += Duration::from_secs_f64(hidden);
            }
            self.since = Some(now);
        }
    }

    /// Seconds counted by `now`.
    pub(crate) fn seconds(&self, now: Instant) -> f64 {
        let running = self.since.map_or(Duration::ZERO, |since| now.duration_since(since));
        (self.counted + running).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_free_and_work_is_not_whenever_it_is_done() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let check = |watch: &Stopwatch, ms: u64, expected: f64| {
            let counted = watch.seconds(at(ms));
            assert!((counted - expected).abs() < 1e-9, "{counted} instead of {expected}");
        };
        let mut watch = Stopwatch::start(at(0));
        check(&watch, 100, 0.1);
        watch.stop(at(100), Some(0.15));
        check(&watch, 500, 0.1);
        watch.resume(at(500), Some(0.1501));
        check(&watch, 600, 0.2);
        // It waits for 400 milliseconds, of which two threads work 300 each.
        watch.stop(at(600), Some(0.3));
        watch.resume(at(1000), Some(0.9));
        check(&watch, 1000, 0.8);
        // Stopped or started twice, it does nothing; a program that has ended has no clock.
        watch.resume(at(1100), Some(5.0));
        watch.stop(at(1100), None);
        watch.stop(at(1200), Some(5.0));
        watch.resume(at(1300), None);
        check(&watch, 1300, 0.9);
    }
}
