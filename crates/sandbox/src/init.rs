//! The first stage: this binary again, as the init of one sandbox.
//!
//! A threaded host must not do work between `fork` and `exec`, so the host only starts itself anew
//! and everything else happens here, in a process with one thread:
//!
//! ```text
//! host ── init (subreaper; sees the host die by end of file on its socket)
//!           ├── pid 1 of the process namespace, if there is one: reaps; its death kills all
//!           └── the program (pid 2 there), confined by `confine` before it is executed
//! ```
//!
//! The tree dies when the program ends, when the host asks or dies, and when the init dies: with a
//! process namespace all of it in every case. Without one, a detached grandchild of a tool outlives
//! an init that somebody else kills with SIGKILL; nothing inside the sandbox can do that.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, PipeReader, PipeWriter},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::Duration,
};

use nix::sys::{
    resource::{UsageWho, getrusage},
    signalfd::SignalFd,
    time::TimeValLike,
};

use crate::{
    Layers, children,
    confine::{Progress, Stage},
    error::Failure,
    identity::{Identity, prctl},
    message::{self, Ended, Report, Start, Status},
    namespaces::{self, Entered},
};

/// The first argument that turns a binary into an init.
pub(crate) const INIT_ARGUMENT: &str = "__sandbox-init";

/// How long killing a tree may take before the init gives up and says so.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Serves one sandbox over the socket on descriptor 0 and leaves.
pub(crate) fn serve() -> ! {
    // SAFETY: this process was started to be an init; its host made descriptor 0 a socket for it,
    // and nothing else here uses it. Inherited descriptors above 2 are nobody's.
    let socket = unsafe {
        libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0);
        UnixStream::from(OwnedFd::from_raw_fd(0))
    };
    let code = match Init::start(&socket) {
        Ok(init) => init.supervise(),
        Err(failure) => {
            // If the host is gone there is nobody to tell.
            let _ = message::send(&socket, &Report::Failed(failure));
            1
        }
    };
    std::process::exit(code)
}

/// A running sandbox, seen from its init.
struct Init<'a> {
    socket: &'a UnixStream,
    deaths: SignalFd,
    program: i32,
    namespace: Option<First>,
}

impl<'a> Init<'a> {
    /// Sets the sandbox up and starts the program.
    fn start(socket: &'a UnixStream) -> Result<Self, Failure> {
        let failed = |step: &'static str| move |error: io::Error| Failure::setup(step, error);
        let stdin = message::receive_descriptor(socket).map_err(failed("receive the policy"))?;
        let start: Start = message::receive(socket).map_err(failed("receive the policy"))?;
        prctl(libc::PR_SET_CHILD_SUBREAPER, 1).map_err(failed("become a subreaper"))?;
        let (identity, entered) = isolate(&start)?;
        let deaths = children::watch_children().map_err(failed("watch children"))?;
        let namespace = match entered {
            Entered::Nothing => None,
            _ => Some(fork_first(identity, entered).map_err(failed("start pid 1"))?),
        };
        let (reader, writer) = io::pipe().map_err(failed("make a pipe"))?;
        let stage = Stage { start, identity, entered, stdin };
        let program = children::fork(move || stage.run(File::from(OwnedFd::from(writer))));
        let program = program.map_err(failed("start the program's process"))?;
        let mut init = Self { socket, deaths, program, namespace };
        match init.begin(identity, entered, reader) {
            Ok(()) => Ok(init),
            Err(failure) => {
                init.kill_tree(false)?;
                Err(failure)
            }
        }
    }

    /// Becomes harmless and waits until the program is executed.
    fn begin(
        &mut self,
        identity: Identity,
        entered: Entered,
        reader: PipeReader,
    ) -> Result<(), Failure> {
        let failed = |step: &'static str| move |error: io::Error| Failure::setup(step, error);
        if entered == Entered::AsRoot {
            identity.settle().map_err(failed("leave root"))?;
        }
        prctl(libc::PR_SET_DUMPABLE, 0).map_err(failed("forbid dumps"))?;
        release_output().map_err(failed("release the output"))?;
        let layers = await_execution(reader)?;
        let started = Report::Started { program_pid: self.program, layers };
        message::send(self.socket, &started).map_err(failed("answer the host"))
    }

    /// Waits for the end of the program or of the host, kills the rest and reports.
    fn supervise(mut self) -> i32 {
        let mut status = None;
        while status.is_none() {
            // The host never writes again, so any sign of it means its end or its wish for ours.
            if children::wait_for(self.socket.as_fd(), &self.deaths).unwrap_or(true) {
                break;
            }
            children::reap(&mut |pid, raw| note(&mut status, self.program, pid, raw));
        }
        let report = match self.kill_tree(status.is_some()) {
            Ok(killed) => {
                let status = status.or(killed).unwrap_or(Status::Signalled(libc::SIGKILL));
                Report::Ended(ended(status))
            }
            Err(failure) => Report::Failed(failure),
        };
        i32::from(message::send(self.socket, &report).is_err())
    }

    /// Kills and reaps everything. Returns the program's status if it is reaped here.
    fn kill_tree(&mut self, program_is_reaped: bool) -> Result<Option<Status>, Failure> {
        let mut status = None;
        let program = self.program;
        let mut reaped = |pid, raw| note(&mut status, program, pid, raw);
        match self.namespace.take() {
            // The program first, so that pid 1 inherits what it leaves and can account for it; the
            // end of its lifeline has pid 1 kill everyone, and its death would do so too.
            Some(First { lifeline }) => {
                if !program_is_reaped {
                    children::kill(program);
                    children::reap_one(program, &mut reaped);
                }
                drop(lifeline);
                children::reap_all(&mut reaped);
            }
            None if children::kill_descendants(KILL_PATIENCE, reaped) => {}
            None => return Err(Failure::Setup("the process tree does not die".to_owned())),
        }
        Ok(status)
    }
}

/// Pid 1 of the process namespace: the pipe whose end of file tells it to end everything.
struct First {
    lifeline: PipeWriter,
}

/// Leaves root and enters namespaces, as far as policy and machine allow.
fn isolate(start: &Start) -> Result<(Identity, Entered), Failure> {
    let identity = Identity::prepare(&start.policy, start.argv.first().map(Path::new))?;
    let failed = |error: io::Error| {
        let hint = match error.raw_os_error() {
            Some(libc::EINVAL | libc::EPERM) => {
                "\nhint: this root may not become user 65534 (`nobody`); run as an ordinary user"
            }
            _ => "",
        };
        Failure::setup("leave root", format!("{error}{hint}"))
    };
    if start.policy.unsafe_no_sandbox {
        return Ok((identity, Entered::Nothing));
    }
    if start.floor_only {
        identity.settle().map_err(failed)?;
        return Ok((identity, Entered::Nothing));
    }
    Ok((identity, namespaces::enter(identity).map_err(failed)?))
}

/// Starts pid 1 of the new process namespace. It only reaps, so that the program is an ordinary
/// process (signals to pid 1 are special) and no zombies count against its limit.
fn fork_first(identity: Identity, entered: Entered) -> io::Result<First> {
    let (reader, lifeline) = io::pipe()?;
    let first = move || {
        // SAFETY: puts the pipe in place of the host's socket and closes all else, the program's
        // output above all; nothing in this process uses any of these again.
        unsafe {
            libc::dup2(reader.as_raw_fd(), 0);
            libc::syscall(libc::SYS_close_range, 1u32, u32::MAX, 0);
        }
        if entered == Entered::AsRoot && identity.settle().is_err() {
            return 1;
        }
        let _ = prctl(libc::PR_SET_DUMPABLE, 0);
        let code = reap_until_end_of_file().map_or(1, |()| 0);
        children::kill(children::EVERYONE);
        children::reap_all(&mut |_, _| ());
        code
    };
    children::fork(first)?;
    Ok(First { lifeline })
}

fn reap_until_end_of_file() -> io::Result<()> {
    let deaths = children::watch_children()?;
    // SAFETY: descriptor 0 is the pipe and stays open as long as this process.
    let lifeline = unsafe { BorrowedFd::borrow_raw(0) };
    loop {
        if children::wait_for(lifeline, &deaths)? {
            return Ok(());
        }
        children::reap(&mut |_, _| ());
    }
}

/// Reads what the program's process tells until it executes the program, which closes the pipe.
fn await_execution(reader: PipeReader) -> Result<Layers, Failure> {
    let mut confined = None;
    for line in BufReader::new(reader).lines() {
        let line = line.map_err(|error| Failure::setup("listen to the program", error))?;
        match serde_json::from_str(&line) {
            Ok(Progress::Confined(layers)) => confined = Some(layers),
            Ok(Progress::Failed(failure)) => return Err(failure),
            Err(error) => return Err(Failure::setup("listen to the program", error)),
        }
    }
    confined.ok_or_else(|| Failure::Setup("the program's process died early".to_owned()))
}

/// Closes our copies of the program's output; a panic message would go nowhere.
fn release_output() -> io::Result<()> {
    let null = File::options().write(true).open("/dev/null")?;
    for descriptor in [1, 2] {
        // SAFETY: replaces descriptors that nothing in this process owns.
        if unsafe { libc::dup2(null.as_raw_fd(), descriptor) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Keeps the wait status of the program, and lets those of others go.
fn note(status: &mut Option<Status>, program: i32, pid: i32, raw: i32) {
    if pid == program {
        *status = Some(match libc::WIFSIGNALED(raw) {
            true => Status::Signalled(libc::WTERMSIG(raw)),
            false => Status::Exited(libc::WEXITSTATUS(raw)),
        });
    }
}

/// What the tree has used, when all of it is dead and reaped.
fn ended(status: Status) -> Ended {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else {
        return Ended { status, cpu: Duration::ZERO, max_rss_bytes: 0 };
    };
    let total = usage.user_time() + usage.system_time();
    let microseconds = u64::try_from(total.num_microseconds()).unwrap_or(0);
    Ended {
        status,
        cpu: Duration::from_micros(microseconds),
        max_rss_bytes: u64::try_from(usage.max_rss()).unwrap_or(0) * 1024,
    }
}
