//! A running sandboxed process in the hands of the host.

use std::{
    io::{self, PipeReader, PipeWriter, Read},
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use nix::{time::ClockId, unistd::Pid};

use crate::{Error, Finished, Layers};

/// A running sandboxed process. Dropping it kills the whole tree.
#[derive(Debug)]
pub struct Child {
    pub(crate) stdin: Option<PipeWriter>,
    pub(crate) stdout: Option<PipeReader>,
    pub(crate) program_pid: i32,
    pub(crate) layers: Layers,
    pub(crate) output_bytes: u64,
    pub(crate) control: Arc<UnixStream>,
    pub(crate) ended: Arc<AtomicBool>,
    pub(crate) watchdog: Option<JoinHandle<Result<Finished, Error>>>,
}

impl Child {
    /// The program's standard input.
    ///
    /// # Panics
    ///
    /// After [`Self::take_stdin`] or [`Self::close_stdin`].
    pub fn stdin(&mut self) -> &mut PipeWriter {
        self.stdin.as_mut().expect("standard input was taken or closed")
    }

    /// The program's standard output.
    ///
    /// # Panics
    ///
    /// After [`Self::take_stdout`].
    pub fn stdout(&mut self) -> &mut PipeReader {
        self.stdout.as_mut().expect("standard output was taken")
    }

    /// The program's standard input, to be used by another thread. `None` if it is gone already.
    pub fn take_stdin(&mut self) -> Option<PipeWriter> {
        self.stdin.take()
    }

    /// The program's standard output, to be used by another thread. `None` if it is gone already.
    pub fn take_stdout(&mut self) -> Option<PipeReader> {
        self.stdout.take()
    }

    /// Lets the program see the end of its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// The untrusted program's process as numbered here, not one of the sandbox's own.
    pub fn program_pid(&self) -> i32 {
        self.program_pid
    }

    /// The program's CPU time (user and system, all its threads), read from outside.
    ///
    /// It starts at some milliseconds, which setting up took: take differences.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] when the program does not run any more.
    pub fn cpu_time(&self) -> Result<Duration, Error> {
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(self.program_pid));
        let time = clock.and_then(|clock| clock.now()).map_err(|_| Error::Ended)?;
        // Asked afterwards: a number that is used anew belongs to a process that ended before.
        if self.ended.load(Ordering::Acquire) {
            return Err(Error::Ended);
        }
        Ok(Duration::from(time))
    }

    /// What confines it.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Closes its standard input and waits for its end, within its limits. Output nobody has read
    /// is collected.
    ///
    /// # Errors
    ///
    /// [`Error::Supervision`] if contact was lost.
    pub fn wait(mut self) -> Result<Finished, Error> {
        self.stdin = None;
        let (rest, truncated) = match self.stdout.take() {
            Some(stdout) => read_capped(stdout, self.output_bytes),
            None => Default::default(),
        };
        let mut finished = self.join()?;
        finished.stdout = rest;
        finished.output_truncated |= truncated;
        Ok(finished)
    }

    /// Kills the whole tree and waits until it is gone.
    ///
    /// # Errors
    ///
    /// [`Error::Supervision`] if contact was lost.
    pub fn kill(self) -> Result<Finished, Error> {
        self.request_end();
        self.join()
    }

    fn request_end(&self) {
        // It may be gone already, which is as good.
        let _ = self.control.shutdown(Shutdown::Write);
    }

    pub(crate) fn join(mut self) -> Result<Finished, Error> {
        let lost = || Error::Supervision("the watchdog thread panicked".to_owned());
        self.watchdog.take().ok_or_else(lost)?.join().map_err(|_| lost())?
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(watchdog) = self.watchdog.take() {
            self.request_end();
            // Only returns when the tree is dead; its report interests nobody.
            let _ = watchdog.join();
        }
    }
}

/// Reads to the end, keeping at most `cap` bytes. Says whether there was more.
fn read_capped(mut stream: impl Read, cap: u64) -> (Vec<u8>, bool) {
    let mut kept = Vec::new();
    // An error ends the stream as far as we are concerned.
    let _ = stream.by_ref().take(cap).read_to_end(&mut kept);
    let dropped = io::copy(&mut stream, &mut io::sink()).unwrap_or(0);
    (kept, dropped > 0)
}
