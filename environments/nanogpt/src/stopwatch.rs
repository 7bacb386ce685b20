//! Wall time of a program, less the time in which it waits for its supervisor; on a GPU, all of it.

use std::time::{Duration, Instant};

/// CPU seconds that a waiting program may use unseen: its threads end what they were doing and look
/// for more work for a moment before they sleep.
const TOLERANCE_SECONDS: f64 = 2e-4;
/// What is forgiven in that way in all: so much from the start, and this share of what was counted.
/// Many short pauses hide no more than few.
const FORGIVEN: (f64, f64) = (0.01, 0.03);

/// Runs while the program works, and stands still while it waits for an answer.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    /// Threads that the program may use.
    threads: usize,
    /// Whether it stands still while the program waits.
    pauses: bool,
    counted: Duration,
    /// When it was started for the last time; nothing while it stands.
    since: Option<Instant>,
    /// When it was stopped, and the CPU seconds of the program then.
    stopped: (Instant, f64),
    /// CPU seconds used in pauses that were not counted.
    forgiven: f64,
}

impl Stopwatch {
    /// Starts, for a program of so many threads.
    pub(crate) fn start(now: Instant, threads: usize) -> Self {
        let (counted, stopped) = (Duration::ZERO, (now, 0.0));
        Self { threads, pauses: true, counted, since: Some(now), stopped, forgiven: 0.0 }
    }

    /// Starts, and does not stand still before the end: a GPU goes on working while its program
    /// waits for tokens, and nobody outside can tell whether it does.
    pub(crate) fn without_pauses(now: Instant) -> Self {
        Self { pauses: false, ..Self::start(now, 1) }
    }

    /// The program has handed over what it was to make; it stands still for good.
    pub(crate) fn end(&mut self, now: Instant, cpu_seconds: Option<f64>) {
        self.pauses = true;
        self.stop(now, cpu_seconds);
    }

    /// The program waits for an answer from `now` on, having used so many CPU seconds.
    pub(crate) fn stop(&mut self, now: Instant, cpu_seconds: Option<f64>) {
        if !self.pauses {
            return;
        }
        if let Some(since) = self.since.take() {
            self.counted += now.duration_since(since);
            self.stopped = (now, cpu_seconds.unwrap_or_default());
        }
    }

    /// It is answered. CPU time that it used while it should have waited is counted: work must not
    /// be hidden there.
    pub(crate) fn resume(&mut self, now: Instant, cpu_seconds: Option<f64>) {
        if self.since.is_none() {
            let (when, before) = self.stopped;
            // A process's CPU clock may lag behind by a tick; no thread works longer than the pause.
            let most = now.duration_since(when).as_secs_f64() * self.threads as f64;
            let hidden = cpu_seconds.map_or(0.0, |after| after - before).clamp(0.0, most);
            let forgivable = FORGIVEN.0 + FORGIVEN.1 * self.counted.as_secs_f64();
            if hidden > TOLERANCE_SECONDS || self.forgiven + hidden > forgivable {
                self.counted += Duration::from_secs_f64(hidden);
            } else {
                self.forgiven += hidden;
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
        let mut watch = Stopwatch::start(at(0), 2);
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

    #[test]
    fn on_a_gpu_it_stands_still_at_the_end_only() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut watch = Stopwatch::without_pauses(at(0));
        watch.stop(at(100), Some(0.0));
        assert_eq!(watch.seconds(at(300)), 0.3);
        watch.resume(at(400), Some(0.0));
        watch.end(at(500), Some(0.0));
        assert_eq!(watch.seconds(at(900)), 0.5);
    }

    #[test]
    fn work_in_many_short_pauses_is_counted_in_the_end() {
        let start = Instant::now();
        let at = |us: u64| start + Duration::from_micros(us);
        let mut watch = Stopwatch::start(at(0), 2);
        // A millisecond of every pair is a pause, in which a thread works a fifth of it.
        for round in 0..1000 {
            let cpu = |extra: f64| Some(round as f64 * 1.2e-3 + 1e-3 + extra);
            watch.stop(at(2000 * round + 1000), cpu(0.0));
            watch.resume(at(2000 * round + 2000), cpu(1.9e-4));
        }
        let counted = watch.seconds(at(2_000_000));
        assert!(counted > 1.0 + 0.19 - 0.01 - 0.03 * 1.2 - 1e-3, "{counted}");
    }

    #[test]
    fn a_lagging_clock_charges_no_more_than_a_pause_can_hold() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut watch = Stopwatch::start(at(0), 2);
        watch.stop(at(100), Some(0.1));
        watch.resume(at(101), Some(0.104));
        let counted = watch.seconds(at(101));
        assert!((counted - 0.102).abs() < 1e-9, "{counted}");
    }
}
