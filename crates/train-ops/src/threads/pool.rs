//! Helpers of one thread, asleep until there is work.
#![expect(unsafe_code, reason = "helpers that live on borrow what the caller of one job owns")]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a thread looks for work, or for the end of a job, before it sleeps. Between two
/// operations of a training step lie some ten microseconds, and a job costs 4 µs where the helper is
/// awake and 35 where the kernel has to wake it (two cores of a virtual machine, Zen 4).
const PATIENCE: Duration = Duration::from_micros(100);

/// What every thread does in a job, told which one it is; the owner is 0.
type Job<'a> = &'a (dyn Fn(usize) + Sync);

pub(super) struct Pool {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
}

struct Shared {
    owner: Thread,
    /// Number of the last job; helpers that have seen it wait for another.
    number: AtomicUsize,
    /// The job, or nothing when helpers are to end.
    job: Mutex<Option<Job<'static>>>,
    /// Helpers that are not done with it.
    at_work: AtomicUsize,
    /// What a helper's share panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Pool {
    /// Starts helpers of the calling thread, which is the only one that may call [`Self::run`].
    pub(super) fn start(n_helpers: usize) -> std::io::Result<Self> {
        Self::start_named(n_helpers, "helper")
    }

    pub(super) fn start_named(n_helpers: usize, name: &str) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            owner: thread::current(),
            number: AtomicUsize::new(0),
            job: Mutex::new(None),
            at_work: AtomicUsize::new(0),
            panic: Mutex::new(None),
        });
        let mut pool = Self { shared, helpers: Vec::with_capacity(n_helpers) };
        for index in 1..=n_helpers {
            let shared = Arc::clone(&pool.shared);
            let helper = Builder::new().name(format!("{name} {index}"));
            pool.helpers.push(helper.spawn(move || shared.help(index))?);
        }
        Ok(pool)
    }

    /// Calls `job` once on every thread and returns when all calls have. A panic in one of them
    /// becomes one here, after the others are through.
    pub(super) fn run(&mut self, job: Job<'_>) {
        // SAFETY: only the lifetime changes. Helpers call the job between `announce`, below, and
        // their countdown of `at_work`; `Finish` does not let this function return or unwind before
        // that is zero, and `job` is borrowed until then.
        let job = unsafe { std::mem::transmute::<Job<'_>, Job<'static>>(job) };
        let finish = Finish(&self.shared);
        self.announce(Some(job));
        job(0);
        drop(finish);
        if let Some(panic) = locked(&self.shared.panic).take() {
            resume_unwind(panic);
        }
    }

    /// Jobs so far.
    #[cfg(test)]
    pub(super) fn jobs(&self) -> usize {
        self.shared.number.load(Ordering::Relaxed)
    }

    fn announce(&self, job: Option<Job<'static>>) {
        // A panic of the owner's own share has hidden that of a helper's.
        *locked(&self.shared.panic) = None;
        *locked(&self.shared.job) = job;
        self.shared.at_work.store(self.helpers.len(), Ordering::Relaxed);
        // Whoever sees the new number sees what was written before.
        self.shared.number.fetch_add(1, Ordering::Release);
        // Costs a system call only where the helper sleeps.
        self.helpers.iter().for_each(|helper| helper.thread().unpark());
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.announce(None);
        for helper in self.helpers.drain(..) {
            // Panics of jobs are caught: there is none to be had here.
            drop(helper.join());
        }
    }
}

/// Waits for all helpers when it is dropped, also while the owner's own share panics.
struct Finish<'a>(&'a Shared);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        wait_until(|| self.0.at_work.load(Ordering::Acquire) == 0);
        // Nobody looks before the next number; what the job borrowed may be gone by then.
        *locked(&self.0.job) = None;
    }
}

impl Shared {
    fn help(&self, index: usize) {
        for seen in 0.. {
            wait_until(|| self.number.load(Ordering::Acquire) != seen);
            let Some(job) = *locked(&self.job) else { return };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(index))) {
                locked(&self.panic).get_or_insert(panic);
            }
            if self.at_work.fetch_sub(1, Ordering::Release) == 1 {
                self.owner.unpark();
            }
        }
    }
}

/// Returns once `done`; a thread that is unparked asks again.
fn wait_until(done: impl Fn() -> bool) {
    if done() {
        return;
    }
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        // Reading the clock takes as long as some rounds of this.
        for _ in 0..8 {
            if done() {
                return;
            }
            std::hint::spin_loop();
        }
    }
    while !done() {
        thread::park();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
