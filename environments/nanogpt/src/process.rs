//! A program's process: frames in and out, its CPU clock, and what went wrong with it.

use crate::{
    blame::{ended_early, misspoken},
    gpu::Session,
};
use forerunner_core::{Cause, Error, Finding, Host};
use forerunner_nanogpt_protocol::{Error as WireError, FromProgram, FromSupervisor};
use forerunner_sandbox::{Child, Finished, Policy, Profile};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use std::{
    ffi::OsString,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::mpsc::{RecvTimeoutError, channel},
    time::{Duration, Instant},
};

/// Why a run has no result: the program's fault, or ours.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The program failed; a failed evaluation.
    Program(Cause, Finding),
    /// Measuring was impossible.
    Host(Error),
}

impl Trouble {
    /// The program's fault.
    pub(crate) fn program(cause: Cause, rule: &str, message: impl Into<String>) -> Self {
        Self::Program(cause, Finding::error(rule, message))
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Host(error)
    }
}

/// Why a conversation stopped, before the process is ended.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The pipe broke, or something came through that is no frame.
    Wire(WireError),
    /// The frames make no sense, or a limit was passed.
    Trouble(Trouble),
}

impl From<WireError> for Stop {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

/// A running program that is talked to. The sandboxed process, or a scripted one in tests.
pub(crate) trait Process: Sized {
    /// Sends one message.
    fn send(&mut self, message: &FromSupervisor) -> Result<(), WireError>;
    /// Receives one message of at most `limit` bytes.
    fn receive(&mut self, limit: u64) -> Result<FromProgram, WireError>;
    /// The same, but `None` when nothing has come within `patience`. A frame that has begun is waited
    /// for as long as the process may live.
    fn receive_within(
        &mut self,
        limit: u64,
        patience: Duration,
    ) -> Result<Option<FromProgram>, WireError>;
    /// CPU seconds used so far; `None` once it has ended.
    fn cpu_seconds(&self) -> Option<f64>;
    /// Seconds that its threads, added up, were ready to run and had to wait for a core that
    /// somebody else used; `None` where the system does not say.
    fn delayed_seconds(&self) -> Option<f64>;
    /// Waits for its end, within its limits.
    fn wait(self) -> Result<Finished, Error>;
    /// Ends it now.
    fn kill(self) -> Result<Finished, Error>;

    /// Sends one message. A program that is gone shows when it is listened to, with what it said
    /// last: that explains more than a broken pipe.
    fn tell(&mut self, message: &FromSupervisor) -> Result<(), WireError> {
        match self.send(message) {
            Err(WireError::Io(_)) => Ok(()),
            other => other,
        }
    }

    /// Ends the process after a stopped conversation and says what went wrong; `most` is the
    /// track's cap on values.
    fn stopped(self, stage: &str, most: usize, stop: Stop) -> Trouble {
        let error = match stop {
            Stop::Wire(error) => error,
            Stop::Trouble(trouble) => {
                return self.kill().map_or_else(Trouble::Host, |_| trouble);
            }
        };
        let gone = matches!(error, WireError::Closed | WireError::Io(_));
        // A program that closed its pipes is ending, and how it ends is the better explanation.
        let finished = if gone { self.wait() } else { self.kill() };
        match finished {
            Err(error) => Trouble::Host(error),
            Ok(finished) if gone => ended_early(stage, most, &finished),
            Ok(_) => misspoken(stage, most, &error),
        }
    }
}

/// A sandboxed program.
pub(crate) struct Sandboxed(Child);

/// Where and within which limits a program is run.
#[derive(Debug, Clone)]
pub(crate) struct Place<'a> {
    /// The compiled program.
    pub(crate) binary: &'a Path,
    /// The cores it has to itself; none means any.
    pub(crate) cores: &'a [usize],
    /// Threads that its operations use.
    pub(crate) threads: usize,
    /// Whether to do without a sandbox.
    pub(crate) unsafe_no_sandbox: bool,
    /// CPU seconds after which the kernel ends it.
    pub(crate) cpu_seconds: f64,
    /// Wall seconds after which it is ended.
    pub(crate) wall_seconds: f64,
    /// Bytes of memory.
    pub(crate) memory_bytes: u64,
    /// The GPU that it is given.
    pub(crate) gpu: Option<&'a Session>,
}

/// Tasks of a program beyond the threads of its operations: some room for a library's.
const OTHER_TASKS: u64 = 7;
/// Tells the harness how many threads operations use.
const THREADS: &str = "FORERUNNER_THREADS";
/// Bytes kept of standard error: enough for a panic with its place.
const STDERR_BYTES: u64 = 16 << 10;

impl Sandboxed {
    /// Starts `binary mode` in an empty folder with nothing readable but itself and the system's
    /// libraries, and calls `talk` with it. While it runs, `host` is asked whether the result is
    /// still wanted; when not, the process is killed and the answer is [`Error::Cancelled`].
    pub(crate) fn with<T>(
        place: &Place<'_>,
        mode: &str,
        host: &dyn Host,
        talk: impl FnOnce(Self) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let work_dir = tempfile::tempdir().map_err(Error::failed)?;
        let mut policy = Policy::new(Profile::Program, work_dir.path());
        policy.read_only = libraries();
        policy.env = vec![
            ("RAYON_NUM_THREADS".into(), "1".into()),
            (THREADS.into(), place.threads.to_string()),
        ];
        policy.cores = place.cores.to_vec();
        policy.unsafe_no_sandbox = place.unsafe_no_sandbox;
        policy.limits.cpu_seconds = place.cpu_seconds.ceil() as u64 + 1;
        policy.limits.wall = Duration::from_secs_f64(place.wall_seconds);
        policy.limits.memory_bytes = place.memory_bytes;
        policy.limits.processes = OTHER_TASKS + place.threads as u64;
        policy.limits.output_bytes = STDERR_BYTES;
        policy.limits.file_bytes = 0;
        if let Some(session) = place.gpu {
            session.before_program(host)?;
            policy.give_gpu(session.gpu().clone());
        }
        let argv = [place.binary.as_os_str().to_owned(), OsString::from(mode)];
        let child = forerunner_sandbox::spawn(&policy, &argv).map_err(sandbox_error)?;
        let pid = nix::unistd::Pid::from_raw(child.program_pid());
        let (over, ended) = channel::<()>();
        std::thread::scope(|scope| {
            let watch = scope.spawn(move || {
                while ended.recv_timeout(CANCEL_POLL) == Err(RecvTimeoutError::Timeout) {
                    if host.cancelled() {
                        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
                        return true;
                    }
                }
                false
            });
            let result = talk(Self(child));
            drop(over);
            let cancelled = watch.join().unwrap_or(false);
            if cancelled { Err(Trouble::Host(Error::Cancelled)) } else { result }
        })
    }
}

/// What loads them: the dynamic loader under the names that programs call it by, and its index.
const LOADER: [&str; 3] =
    ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/etc/ld.so.cache"];

/// The system libraries that a compiled program loads, as files: those that this process has
/// loaded itself. Whole library folders hold too much else that could be learned from.
fn libraries() -> Vec<PathBuf> {
    const NEEDED: [&str; 3] = ["libc.so", "libm.so", "libgcc_s.so"];
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let path = |line: &str| line.find('/').map(|at| PathBuf::from(&line[at..]));
    let mut files: Vec<PathBuf> = maps
        .lines()
        .filter_map(path)
        .filter(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
            NEEDED.iter().any(|needed| name.starts_with(needed))
        })
        .collect();
    files.sort();
    files.dedup();
    if files.len() < NEEDED.len() {
        return forerunner_sandbox::system_libraries();
    }
    files.extend(LOADER.map(PathBuf::from).into_iter().filter(|path| path.exists()));
    files
}

/// How often the host is asked whether it still wants the result.
const CANCEL_POLL: Duration = Duration::from_millis(200);

impl Process for Sandboxed {
    fn send(&mut self, message: &FromSupervisor) -> Result<(), WireError> {
        message.write(&mut self.0.stdin())
    }

    fn receive(&mut self, limit: u64) -> Result<FromProgram, WireError> {
        FromProgram::read(&mut self.0.stdout(), limit)
    }

    fn receive_within(
        &mut self,
        limit: u64,
        patience: Duration,
    ) -> Result<Option<FromProgram>, WireError> {
        if !something_came(&*self.0.stdout(), patience)? {
            return Ok(None);
        }
        self.receive(limit).map(Some)
    }

    fn cpu_seconds(&self) -> Option<f64> {
        self.0.cpu_time().ok().map(|time| time.as_secs_f64())
    }

    fn delayed_seconds(&self) -> Option<f64> {
        delayed_seconds(self.0.program_pid())
    }

    fn wait(self) -> Result<Finished, Error> {
        self.0.wait().map_err(sandbox_error)
    }

    fn kill(self) -> Result<Finished, Error> {
        self.0.kill().map_err(sandbox_error)
    }
}

/// Waits until there is something to read, the end included; `false` when `patience` is over before.
pub(crate) fn something_came(pipe: &impl AsFd, patience: Duration) -> Result<bool, WireError> {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let milliseconds = u16::try_from(left.as_millis()).unwrap_or(u16::MAX);
        let mut pipe = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        match poll(&mut pipe, PollTimeout::from(milliseconds)) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(WireError::Io(error.into())),
        }
    }
}

/// The second number of every thread's `schedstat`, in nanoseconds.
fn delayed_seconds(pid: i32) -> Option<f64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let delay = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().nth(1)?.parse::<f64>().ok()
    };
    let delays: Vec<f64> = tasks.flatten().filter_map(delay).collect();
    (!delays.is_empty()).then(|| delays.iter().sum::<f64>() * 1e-9)
}

/// An error of the sandbox with its sources on one line, hints behind.
pub(crate) fn sandbox_error(error: forerunner_sandbox::Error) -> Error {
    Error::failed(with_sources(&error))
}

/// An error's text with that of its sources.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let (line, hint) = text.split_once('\n').map_or((text.as_str(), None), |(a, b)| (a, Some(b)));
    let mut all = line.to_owned();
    let mut source = error.source();
    while let Some(inner) = source {
        all += &format!(": {inner}");
        source = inner.source();
    }
    hint.map_or(all.clone(), |hint| format!("{all}\n{hint}"))
}
