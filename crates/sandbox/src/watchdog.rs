//! The thread that watches one sandbox: wall time, CPU time, memory and disk space of the whole
//! tree, captured output, and the init's report.
//!
//! It sleeps until something happens and otherwise wakes every few milliseconds to look at memory.
//! When a limit is broken it closes its side of the socket; the init kills the tree and reports.

use std::{
    io::{self, PipeReader, Read},
    net::Shutdown,
    os::{fd::AsFd, unix::net::UnixStream},
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{
    Error, Finished, Layers, Limits, Outcome, Profile,
    disk_usage::DiskUsage,
    message::{self, Ended, Report, Status},
    process_tree::{self, Usage},
    shared_memory,
};

/// How often memory is looked at. A process can touch some 20 MB in this time.
const SAMPLE_PERIOD: Duration = Duration::from_millis(10);

/// Trees cost more to look at than single processes.
const TREE_SAMPLE_PERIOD: Duration = Duration::from_millis(20);

/// Enough where memory is not limited: there is only the disk to look after.
const RELAXED_SAMPLE_PERIOD: Duration = Duration::from_millis(250);

/// How often the work directory is walked, if it is writable.
const DISK_PERIOD: Duration = Duration::from_millis(100);

/// How long a kill may take before the init itself is killed.
const KILL_PATIENCE: Duration = Duration::from_secs(15);

/// What the thread needs to know and to hold.
#[derive(Debug)]
pub(crate) struct Watchdog {
    pub(crate) begin: Instant,
    pub(crate) control: Arc<UnixStream>,
    pub(crate) ended: Arc<AtomicBool>,
    pub(crate) init: process::Child,
    pub(crate) program_pid: i32,
    pub(crate) profile: Profile,
    pub(crate) limits: Limits,
    /// The program was given a GPU, and the kernel does not bound its address space.
    pub(crate) gpu: bool,
    /// If it can be filled.
    pub(crate) disk: Option<DiskUsage>,
    pub(crate) layers: Layers,
}

impl Watchdog {
    /// Starts the thread. `stdout` is captured if given, `stderr` always.
    pub(crate) fn start(
        mut self,
        stdout: Option<PipeReader>,
        stderr: PipeReader,
    ) -> io::Result<JoinHandle<Result<Finished, Error>>> {
        let cap = self.limits.output_bytes;
        let stdout = stdout.map(|pipe| Capture::new(pipe, cap)).transpose()?;
        let stderr = Capture::new(stderr, cap)?;
        let body = move || {
            let mut captures = Captures { stdout, stderr };
            let watched = self.watch(&mut captures);
            self.ended.store(true, Ordering::Release);
            if watched.is_err() {
                // Without its report it may be stuck; our end of the socket is all it needs.
                let _ = self.init.kill();
            }
            let _ = self.init.wait();
            let (ended, verdict, peak) = watched?;
            Ok(self.finish(captures, ended, verdict, peak))
        };
        thread::Builder::new().name("sandbox-watchdog".to_owned()).spawn(body)
    }

    /// Returns the init's report, the limit that was broken if any, and the highest memory seen.
    fn watch(&self, captures: &mut Captures) -> Result<(Ended, Option<Outcome>, u64), Error> {
        let lost = |error: io::Error| Error::Supervision(error.to_string());
        let mut deadline = self.begin + self.limits.wall;
        let mut sample_at = Instant::now();
        let mut walk_at = self.begin;
        let (mut verdict, mut peak) = (None, 0);
        loop {
            let wake_at = if verdict.is_none() { deadline.min(sample_at) } else { deadline };
            if captures.wait(&self.control, wake_at).map_err(lost)? {
                return match message::receive(&self.control).map_err(lost)? {
                    Report::Ended(ended) => Ok((ended, verdict, peak)),
                    Report::Failed(failure) => Err(failure.into()),
                    Report::Started { .. } => Err(Error::Supervision("it began twice".into())),
                };
            }
            let now = Instant::now();
            if verdict.is_some() {
                if now >= deadline {
                    return Err(Error::Supervision("the tree does not die".to_owned()));
                }
                continue;
            }
            if now >= deadline {
                verdict = Some(Outcome::TimedOut);
            } else if now >= sample_at {
                let usage = self.usage();
                peak = peak.max(usage.rss_bytes);
                verdict = self.judge(usage);
                if verdict.is_none() && now >= walk_at {
                    let memory = self.memory_with_shared();
                    peak = peak.max(memory);
                    let too_much = memory > self.limits.memory_bytes;
                    verdict =
                        too_much.then_some(Outcome::OutOfMemory).or_else(|| self.judge_disk());
                    walk_at = Instant::now() + DISK_PERIOD;
                }
                sample_at = Instant::now() + self.sample_period();
            }
            if verdict.is_some() {
                let _ = self.control.shutdown(Shutdown::Write);
                deadline = now + KILL_PATIENCE;
            }
        }
    }

    fn sample_period(&self) -> Duration {
        match self.profile {
            _ if self.limits.memory_bytes == u64::MAX => RELAXED_SAMPLE_PERIOD,
            Profile::Program => SAMPLE_PERIOD,
            Profile::Tool => TREE_SAMPLE_PERIOD,
        }
    }

    /// A program is a single process, whose CPU time the kernel limits well enough.
    fn usage(&self) -> Usage {
        match self.profile {
            Profile::Program => Usage {
                rss_bytes: process_tree::resident_bytes(self.program_pid),
                cpu: Duration::ZERO,
            },
            Profile::Tool => process_tree::usage(self.init.id().cast_signed()),
        }
    }

    fn judge(&self, usage: Usage) -> Option<Outcome> {
        if usage.rss_bytes > self.limits.memory_bytes {
            return Some(Outcome::OutOfMemory);
        }
        (usage.cpu > Duration::from_secs(self.limits.cpu_seconds)).then_some(Outcome::OutOfCpu)
    }

    /// Memory that the resident size does not show is only looked for where it is not bounded.
    fn memory_with_shared(&self) -> u64 {
        if self.gpu { shared_memory::memory_bytes(self.program_pid) } else { 0 }
    }

    fn judge_disk(&self) -> Option<Outcome> {
        let exceeded = |disk: &DiskUsage| disk.is_exceeded(self.init.id().cast_signed());
        self.disk.as_ref().is_some_and(exceeded).then_some(Outcome::Signalled(libc::SIGXFSZ))
    }

    fn finish(
        &self,
        captures: Captures,
        ended: Ended,
        verdict: Option<Outcome>,
        peak: u64,
    ) -> Finished {
        let (stdout, stdout_truncated) = captures.stdout.map(Capture::finish).unwrap_or_default();
        let (stderr, stderr_truncated) = captures.stderr.finish();
        Finished {
            outcome: self.outcome(ended, verdict, &stderr),
            cpu: ended.cpu,
            wall: self.begin.elapsed(),
            peak_memory_bytes: peak.max(ended.max_rss_bytes),
            stdout,
            stderr,
            output_truncated: stdout_truncated || stderr_truncated,
            layers: self.layers.clone(),
        }
    }

    /// A program that managed to leave before our kill hit it has left by itself.
    fn outcome(&self, ended: Ended, verdict: Option<Outcome>, stderr: &[u8]) -> Outcome {
        let signal = match ended.status {
            Status::Exited(code) => return Outcome::Exited(code),
            Status::Signalled(signal) => signal,
        };
        let cpu_is_used_up = ended.cpu >= Duration::from_secs(self.limits.cpu_seconds);
        match (signal, verdict) {
            (libc::SIGKILL, Some(verdict)) => verdict,
            (libc::SIGXCPU, _) => Outcome::OutOfCpu,
            (libc::SIGKILL, None) if cpu_is_used_up => Outcome::OutOfCpu,
            (libc::SIGABRT, _) if says_out_of_memory(stderr) => Outcome::OutOfMemory,
            _ => Outcome::Signalled(signal),
        }
    }
}

/// The message of Rust's allocation error handler.
fn says_out_of_memory(stderr: &[u8]) -> bool {
    String::from_utf8_lossy(stderr).contains("memory allocation of ")
}

/// The streams being captured.
struct Captures {
    stdout: Option<Capture>,
    stderr: Capture,
}

impl Captures {
    /// Sleeps until `wake_at` at most, reading what arrives. Returns whether the init has
    /// something to say.
    fn wait(&mut self, control: &UnixStream, wake_at: Instant) -> io::Result<bool> {
        let timeout = wake_at.saturating_duration_since(Instant::now());
        // Rounded up, or the last millisecond would be spent spinning.
        let timeout = timeout.as_micros().div_ceil(1000).try_into().unwrap_or(i32::MAX);
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        let mut watched = vec![PollFd::new(control.as_fd(), PollFlags::POLLIN)];
        for capture in [Some(&self.stderr), self.stdout.as_ref()].into_iter().flatten() {
            if let Some(pipe) = &capture.pipe {
                watched.push(PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
            }
        }
        match poll(&mut watched, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let report = watched[0].any().unwrap_or(true);
        drop(watched);
        self.stderr.read_available();
        if let Some(stdout) = &mut self.stdout {
            stdout.read_available();
        }
        Ok(report)
    }
}

/// A stream of which the beginning is kept and the rest dropped, so that the writer never blocks.
struct Capture {
    /// `None` at its end.
    pipe: Option<PipeReader>,
    kept: Vec<u8>,
    cap: usize,
    truncated: bool,
}

impl Capture {
    fn new(pipe: PipeReader, cap: u64) -> io::Result<Self> {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let cap = usize::try_from(cap).unwrap_or(usize::MAX);
        Ok(Self { pipe: Some(pipe), kept: Vec::new(), cap, truncated: false })
    }

    /// Reads what is there, but no more than a pipe holds: a flood must not keep us from watching.
    fn read_available(&mut self) {
        let mut chunk = [0; 65536];
        let Some(pipe) = &mut self.pipe else { return };
        match pipe.read(&mut chunk) {
            Ok(0) => self.pipe = None,
            Ok(n_bytes) => {
                let room = n_bytes.min(self.cap - self.kept.len());
                self.kept.extend_from_slice(&chunk[..room]);
                self.truncated |= room < n_bytes;
            }
            Err(error) => {
                let again = [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted];
                if !again.contains(&error.kind()) {
                    self.pipe = None;
                }
            }
        }
    }

    /// Takes what the dead have left in the pipe: it ends there, since nobody holds the other end.
    fn finish(mut self) -> (Vec<u8>, bool) {
        let blocked = |pipe: &PipeReader| {
            let mut watched = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
            poll(&mut watched, PollTimeout::ZERO).map_or(true, |n_ready| n_ready == 0)
        };
        while self.pipe.as_ref().is_some_and(|pipe| !blocked(pipe)) {
            self.read_available();
        }
        (self.kept, self.truncated)
    }
}
