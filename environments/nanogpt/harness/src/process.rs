//! How a program's process is set up: one thread, an allocator that keeps its memory, a CPU clock.
#![expect(unsafe_code, reason = "the C library's settings and clock are reached by foreign calls")]

use std::time::Duration;

/// Variables that would let candle's matrix products start threads.
const THREADS: [&str; 2] = ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"];

/// Prepares the process; called first thing in `main`.
///
/// Everything runs on one thread, because a track ranks by CPU seconds and waiting threads spend
/// them. Freed memory stays with the process: a training step frees and asks for the same large
/// buffers again, and returning them to the kernel in between costs about a tenth of a step.
pub(crate) fn prepare() {
    for name in THREADS {
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
}

/// CPU time of this process so far, which has one thread; zero where there is no such clock.
///
/// The process's own clock advances by whole ticks while a limit on its CPU time is set, as it is in
/// the sandbox, and would charge a section with what happened before it. The thread's does not.
pub(crate) fn cpu_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is valid for writes for the duration of the call.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    if status != 0 {
        return Duration::ZERO;
    }
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
