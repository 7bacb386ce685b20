//! The host's side: starts the init, sends it the policy, and hands out the running [`Child`].

use std::{
    env,
    ffi::OsString,
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use crate::{
    Child, Error, Finished, Layers, Policy, Profile,
    disk_usage::DiskUsage,
    init::INIT_ARGUMENT,
    layers::floor_forced,
    message::{self, Report, Start},
    watchdog::Watchdog,
};

/// Setting up takes milliseconds; this only keeps a stuck machine from hanging the host.
const SETUP_PATIENCE: Duration = Duration::from_secs(30);

/// Starts `argv` under `policy`, with pipes to its standard input and output for a conversation.
/// Its standard error is captured in the background. Returns when the program is being executed.
///
/// The limits of the policy are enforced from now on, also while the caller blocks on a read: the
/// tree is killed then, and the read sees the end of the stream.
///
/// # Errors
///
/// [`Error::FloorMissing`] on machines that cannot confine programs, [`Error::Execute`] if the
/// program cannot be executed, and others that say what to do.
pub fn spawn(policy: &Policy, argv: &[OsString]) -> Result<Child, Error> {
    policy.check(argv)?;
    let (stdin, writer) = io::pipe().map_err(supervision)?;
    let mut child = launch(policy, argv, stdin.into(), Output::Conversation)?;
    child.stdin = Some(writer);
    Ok(child)
}

/// Runs `argv` under `policy` to its end, without input, and captures its output.
///
/// # Errors
///
/// As [`spawn`]. A process that fails or breaks a limit is not an error but an
/// [`Outcome`](crate::Outcome).
pub fn run(policy: &Policy, argv: &[OsString]) -> Result<Finished, Error> {
    policy.check(argv)?;
    let null = File::open("/dev/null").map_err(supervision)?;
    launch(policy, argv, null.into(), Output::Captured)?.join()
}

/// Sets every layer up for a process that then just leaves.
pub(crate) fn rehearse() -> Result<Layers, Error> {
    let policy = Policy::new(Profile::Program, "/");
    let null = File::open("/dev/null").map_err(supervision)?;
    Ok(launch(&policy, &[], null.into(), Output::Captured)?.join()?.layers)
}

/// Who reads the program's standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Conversation,
    Captured,
}

fn launch(
    policy: &Policy,
    argv: &[OsString],
    stdin: OwnedFd,
    output: Output,
) -> Result<Child, Error> {
    let begin = Instant::now();
    let launcher = launcher();
    if env::args_os().nth(1).is_some_and(|argument| argument == INIT_ARGUMENT) {
        // A host whose `main` does not call `init` would start itself for ever.
        let source = io::Error::other("started as a launcher, it started a sandbox");
        return Err(Error::NotALauncher { launcher, source });
    }
    let (control, theirs) = UnixStream::pair().map_err(supervision)?;
    let (stdout, stdout_writer) = io::pipe().map_err(supervision)?;
    let (stderr, stderr_writer) = io::pipe().map_err(supervision)?;
    let floor_only = floor_forced()?;
    let mut command = Command::new(&launcher);
    command
        .arg(INIT_ARGUMENT)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(stdout_writer)
        .stderr(stderr_writer)
        // Out of reach of the terminal's Ctrl-C, which is for the host to handle.
        .process_group(0);
    if let Some(path) = env::var_os("LD_LIBRARY_PATH") {
        command.env("LD_LIBRARY_PATH", path); // For the launcher; the program does not see it.
    }
    let init = command.spawn();
    drop(command); // Closes our copies of the writers.
    let init = init.map_err(|source| Error::Launch { launcher: launcher.clone(), source })?;
    let mut init = Guard(Some(init));
    let start = Start { policy: policy.clone(), argv: argv.to_vec(), floor_only };
    let report = exchange(&control, &stdin, &start)
        .map_err(|source| Error::NotALauncher { launcher, source })?;
    let (program_pid, layers) = match report {
        Report::Started { program_pid, layers } => (program_pid, layers),
        Report::Failed(failure) => return Err(failure.into()),
        Report::Ended(_) => return Err(Error::Supervision("it ended before it began".into())),
    };
    if !layers.floor_holds() && !policy.unsafe_no_sandbox {
        return Err(Error::Supervision(format!("the floor does not hold: {layers}")));
    }
    let (control, ended) = (Arc::new(control), Arc::new(AtomicBool::new(false)));
    let (captured, conversation) = match output {
        Output::Captured => (Some(stdout), None),
        Output::Conversation => (None, Some(stdout)),
    };
    let watchdog = Watchdog {
        begin,
        control: Arc::clone(&control),
        ended: Arc::clone(&ended),
        init: init.0.take().expect("it is taken only here"),
        program_pid,
        profile: policy.profile,
        limits: policy.limits,
        gpu: policy.gpu.is_some(),
        disk: policy.work_dir_writable.then(|| DiskUsage::new(&policy.work_dir, &policy.limits)),
        layers: layers.clone(),
    };
    let watchdog = watchdog.start(captured, stderr).map_err(supervision)?;
    Ok(Child {
        stdin: None,
        stdout: conversation,
        program_pid,
        layers,
        output_bytes: policy.limits.output_bytes,
        control,
        ended,
        watchdog: Some(watchdog),
    })
}

/// This binary, also if its file has been replaced meanwhile.
fn launcher() -> PathBuf {
    env::var_os("FORERUNNER_SANDBOX_LAUNCHER").unwrap_or_else(|| "/proc/self/exe".into()).into()
}

/// Sends what the init needs and waits for its first report.
fn exchange(control: &UnixStream, stdin: &OwnedFd, start: &Start) -> io::Result<Report> {
    control.set_read_timeout(Some(SETUP_PATIENCE))?;
    message::send_descriptor(control, stdin.as_fd())?;
    message::send(control, start)?;
    message::receive(control)
}

fn supervision(error: io::Error) -> Error {
    Error::Supervision(error.to_string())
}

/// An init that is not yet watched: killed if setting up fails half-way. Its tree dies with it.
struct Guard(Option<std::process::Child>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(mut init) = self.0.take() {
            let _ = init.kill();
            let _ = init.wait();
        }
    }
}
