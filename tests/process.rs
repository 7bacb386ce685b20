//! Commands that are watched and disturbed while they run.

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

/// Longer than anything here takes on the slowest machine; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// A command in a process group of its own, as a shell starts it, whose output is read.
pub struct Running {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

/// Lines as they come, with their line ends.
fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let text = String::from_utf8(std::mem::take(&mut line)).expect("output is UTF-8");
            if sender.send(text).is_err() {
                return;
            }
        }
    });
    receiver
}

impl Running {
    /// Starts it.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().expect("the command starts");
        let stdout: ChildStdout = child.stdout.take().expect("a pipe");
        let stderr: ChildStderr = child.stderr.take().expect("a pipe");
        Self { child, stdout: lines(stdout), stderr: lines(stderr) }
    }

    /// Waits for a line of standard output that contains `text` and answers all lines so far.
    ///
    /// # Panics
    /// When none comes.
    pub fn wait_for(&self, text: &str) -> Vec<String> {
        wait(&self.stdout, text)
    }

    /// The same on standard error.
    ///
    /// # Panics
    /// When none comes.
    pub fn wait_for_error(&self, text: &str) -> Vec<String> {
        wait(&self.stderr, text)
    }

    /// Sends a signal to the whole group, as Ctrl-C does.
    ///
    /// # Panics
    /// When there is no such group any more.
    pub fn interrupt(&self) {
        killpg(self.pid(), Signal::SIGINT).expect("it runs");
    }

    /// `kill -9` of the command alone; answers the rest of standard output.
    ///
    /// # Panics
    /// When it is gone already.
    pub fn kill(mut self) -> String {
        kill(self.pid(), Signal::SIGKILL).expect("it runs");
        let status = self.child.wait().expect("it is ours");
        assert_eq!(status.signal(), Some(9), "it ended before it could be killed: {status}");
        self.stdout.iter().collect()
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// When its state is unknown.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is ours").is_none()
    }

    /// Waits for its end and answers its exit code and the rest of both streams.
    ///
    /// # Panics
    /// When it does not end.
    pub fn finish(mut self) -> (Option<i32>, String, String) {
        let status = self.end();
        (status.code(), self.stdout.iter().collect(), self.stderr.iter().collect())
    }

    fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.so_far());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it wrote and nobody waited for.
    fn so_far(&self) -> String {
        self.stdout.try_iter().chain(self.stderr.try_iter()).collect()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Running {
    /// A failing test leaves nothing behind.
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn wait(lines: &Receiver<String>, text: &str) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(line) = lines.recv_timeout(left) else {
            panic!("no line with `{text}` after:\n{}", seen.concat());
        };
        let found = line.contains(text);
        seen.push(line);
        if found {
            return seen;
        }
    }
}

/// Waits until no process has its working directory in `folder`: workers of a host that is gone
/// have a moment to notice.
///
/// # Panics
/// When one stays.
pub fn wait_until_alone(folder: &Path) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = processes_in(folder);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "orphans in {}: {left:?}", folder.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The processes whose working directory is `folder` or below.
fn processes_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| {
            std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
