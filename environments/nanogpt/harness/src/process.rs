//! How a program's process is set up: its threads, an allocator that keeps its memory, a clock.
#![expect(unsafe_code, reason = "the C library's settings and clock are reached by foreign calls")]

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use forerunner_train_ops::{threads, use_threads};

use crate::{Error, Result};

/// Variables that would let candle's matrix products start threads.
const OTHERS_THREADS: [&str; 2] = ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"];

/// Where the supervisor says how many threads operations use; one if it says nothing.
const THREADS: &str = "FORERUNNER_THREADS";

/// Prepares the process; called first thing in `main`, on the thread that calls operations.
///
/// Libraries start no threads: most tracks rank by CPU seconds, and waiting threads spend them.
/// Operations use as many as the supervisor says. Freed memory stays with the process: a training step frees and asks for the same large
/// buffers again, and returning them to the kernel in between costs about a tenth of a step.
///
/// # Errors
///
/// When the threads cannot be had.
pub(crate) fn prepare() -> Result<()> {
    for name in OTHERS_THREADS {
        // SAFETY: `run` is called from `main` before the process has a second thread, so nobody
        // reads the environment meanwhile.
        unsafe { std::env::set_var(name, "1") };
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` takes two numbers and locks the allocator itself.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, 16 << 20);
    }
    let Ok(threads) = std::env::var(THREADS) else { return Ok(()) };
    let count = threads
        .parse()
        .map_err(|_| Error::program(format!("{THREADS} is `{threads}`, not a number")))?;
    use_threads(count).map_err(|error| Error::program(format!("{count} threads: {error}")))
}

/// When the wall clock of [`cpu_time`] began.
static BEGIN: OnceLock<Instant> = OnceLock::new();

thread_local! {
    /// Wall time in which this thread waited for the supervisor.
    static WAITED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Calls `wait`, which waits for the supervisor: the wall clock of [`cpu_time`] stands meanwhile, as
/// that of the supervisor does.
pub(crate) fn waiting<R>(wait: impl FnOnce() -> R) -> R {
    if threads() == 1 {
        return wait();
    }
    let begin = Instant::now();
    BEGIN.get_or_init(|| begin);
    let result = wait();
    WAITED.set(WAITED.get() + begin.elapsed());
    result
}

/// Time of the sections of a program: CPU time of its one thread, or wall time where operations use
/// several, which CPU time of one of them would not show waiting. Zero where there is no such clock.
///
/// The process's own clock advances by whole ticks while a limit on its CPU time is set, as it is in
/// the sandbox, and would charge a section with what happened before it. The thread's does not.
pub(crate) fn cpu_time() -> Duration {
    if threads() > 1 {
        return BEGIN.get_or_init(Instant::now).elapsed().saturating_sub(WAITED.get());
    }
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is valid for writes for the duration of the call.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    if status != 0 {
        return Duration::ZERO;
    }
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
