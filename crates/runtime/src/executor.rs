//! The host's end of a worker process.

use crate::{
    frame,
    worker::{FromWorker, Hello, ToWorker},
};
use forerunner_core::{Check, EnvironmentSpec, Error, Evaluation, EvaluationRequest, Program};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    fs::OpenOptions,
    io,
    os::{fd::AsFd, unix::process::CommandExt},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// How workers are started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The command and its arguments, usually `forerunner worker`.
    pub command: Vec<PathBuf>,
    /// What the worker is told first.
    pub hello: Hello,
    /// Folder for the standard error of workers.
    pub log_dir: PathBuf,
}

/// A worker could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The process did not start.
    #[error("cannot start a worker ({command}): {source}", command = command.display())]
    Spawn {
        /// The command.
        command: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The environment refused its configuration or cannot be loaded.
    #[error("{0}")]
    Refused(String),
    /// The process ended before it was ready.
    #[error("the worker ended while it loaded the environment: {0}\nhint: its log is {1}")]
    Ended(String, String),
}

/// The worker died, hung or was cancelled during a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// It ended by itself; how.
    Died(String),
    /// It did not answer in time and was killed.
    Hung(Duration),
    /// The call was given up and the worker killed.
    Aborted,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Died(how) => write!(f, "the worker process died ({how})"),
            Self::Hung(after) => {
                write!(
                    f,
                    "the worker did not answer for {:.0} s and was killed",
                    after.as_secs_f64()
                )
            }
            Self::Aborted => write!(f, "stopped on request"),
        }
    }
}

/// How long a cancelled worker may take to answer before it is killed.
const CANCEL_GRACE: Duration = Duration::from_secs(2);

/// How often a worker is started that dies before it is ready.
const START_ATTEMPTS: u32 = 3;

/// A running worker process with its environment loaded.
pub struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
    spec: EnvironmentSpec,
}

impl Worker {
    /// Starts a worker and waits until its environment is loaded.
    ///
    /// # Errors
    /// When the process does not start or the environment refuses.
    pub fn start(launch: &Launch, label: &str) -> Result<Self, StartError> {
        let (program, arguments) = launch
            .command
            .split_first()
            .ok_or_else(|| StartError::Refused("no worker command is configured".to_owned()))?;
        let spawn_error = |source| StartError::Spawn { command: program.clone(), source };
        let log = launch.log_dir.join(format!("worker-{label}.log"));
        let stderr =
            OpenOptions::new().create(true).append(true).open(&log).map_err(spawn_error)?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            // A Ctrl-C at the terminal is for the host, which decides what becomes of workers.
            .process_group(0)
            .spawn()
            .map_err(spawn_error)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(spawn_error(io::Error::other("no pipes")));
        };
        let spec = EnvironmentSpec::new(launch.hello.name.clone());
        let mut worker = Self { child, input: Some(input), output, spec };
        let ended = |worker: &mut Self, error: Option<io::Error>| {
            let how = worker.how_it_ended(error.as_ref());
            StartError::Ended(how, log.display().to_string())
        };
        if let Err(error) = worker.send(&ToWorker::Hello(launch.hello.clone())) {
            return Err(ended(&mut worker, Some(error)));
        }
        match frame::read(&mut worker.output) {
            Ok(Some(FromWorker::Ready(spec))) => worker.spec = *spec,
            Ok(Some(FromWorker::Refused(message))) => return Err(StartError::Refused(message)),
            Ok(_) => return Err(ended(&mut worker, None)),
            Err(error) => return Err(ended(&mut worker, Some(error))),
        }
        Ok(worker)
    }

    /// Starts a worker, and another when it dies before it is ready: one that is killed in that
    /// moment is not the end of a run, one that keeps dying is.
    ///
    /// # Errors
    /// As [`Worker::start`].
    pub fn start_again(launch: &Launch, label: &str) -> Result<Self, StartError> {
        for _ in 1..START_ATTEMPTS {
            match Self::start(launch, label) {
                Err(StartError::Ended(..)) => {}
                started => return started,
            }
        }
        Self::start(launch, label)
    }

    /// What the environment is about.
    pub fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    /// Checks a program.
    ///
    /// # Errors
    /// When the worker is lost; start another.
    pub fn check(
        &mut self,
        program: &Program,
        call: &Call<'_>,
    ) -> Result<Result<Check, Error>, Lost> {
        match self.call(&ToWorker::Check(program.clone()), call)? {
            FromWorker::Checked(result) => Ok(result),
            _ => Err(Lost::Died("it answered out of turn".to_owned())),
        }
    }

    /// Measures a program.
    ///
    /// # Errors
    /// When the worker is lost; start another.
    pub fn evaluate(
        &mut self,
        request: EvaluationRequest,
        call: &Call<'_>,
    ) -> Result<Result<Evaluation, Error>, Lost> {
        match self.call(&ToWorker::Evaluate(Box::new(request)), call)? {
            FromWorker::Evaluated(result) => Ok(result.map(|evaluation| *evaluation)),
            _ => Err(Lost::Died("it answered out of turn".to_owned())),
        }
    }

    fn send(&mut self, message: &ToWorker) -> io::Result<()> {
        let input = self.input.as_mut().ok_or_else(|| io::Error::other("the pipe is closed"))?;
        frame::write(input, message)
    }

    fn call(&mut self, request: &ToWorker, call: &Call<'_>) -> Result<FromWorker, Lost> {
        let started = Instant::now();
        if let Err(error) = self.send(request) {
            return Err(Lost::Died(self.how_it_ended(Some(&error))));
        }
        let mut cancelled_at: Option<Instant> = None;
        loop {
            if call.abort.load(Ordering::Relaxed) && cancelled_at.is_none() {
                cancelled_at = Some(Instant::now());
                drop(self.send(&ToWorker::Cancel));
            }
            if cancelled_at.is_some_and(|at| at.elapsed() > CANCEL_GRACE) {
                self.kill();
                return Err(Lost::Aborted);
            }
            if started.elapsed() > call.timeout {
                self.kill();
                return Err(Lost::Hung(call.timeout));
            }
            let mut descriptors = [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)];
            match poll(&mut descriptors, PollTimeout::from(100_u16)) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(Lost::Died(error.to_string())),
            }
            match frame::read(&mut self.output) {
                Ok(Some(FromWorker::Progress(fraction, message))) => {
                    (call.progress)(fraction, message);
                }
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => return Err(Lost::Died(self.how_it_ended(None))),
                Err(error) => return Err(Lost::Died(self.how_it_ended(Some(&error)))),
            }
        }
    }

    fn kill(&mut self) {
        // Closing its input first lets the worker's own children notice; the kill is for a
        // worker that does not listen any more.
        self.input = None;
        drop(self.child.kill());
        drop(self.child.wait());
    }

    fn how_it_ended(&mut self, error: Option<&io::Error>) -> String {
        self.input = None;
        let deadline = Instant::now() + Duration::from_millis(500);
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status.to_string(),
                Ok(None) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                _ => {
                    self.kill();
                    return error
                        .map_or_else(|| "it closed its pipe".to_owned(), ToString::to_string);
                }
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The worker ends by itself when its input ends; a short wait reaps it.
        self.input = None;
        let deadline = Instant::now() + CANCEL_GRACE + Duration::from_secs(1);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.kill();
    }
}

/// The circumstances of one call.
pub struct Call<'a> {
    /// Set to give the call up.
    pub abort: &'a AtomicBool,
    /// After this the worker counts as hung.
    pub timeout: Duration,
    /// Told how far the work is.
    pub progress: &'a (dyn Fn(f64, String) + Sync),
}
