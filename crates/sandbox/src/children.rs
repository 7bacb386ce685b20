//! Children of the calling process, which has a single thread: making, awaiting, killing, reaping.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

use crate::process_tree::descendants;

/// Runs `child` in a new process and leaves with its result. `child` is dropped here, in the
/// parent, with all it owns.
pub(crate) fn fork(child: impl FnOnce() -> i32) -> io::Result<i32> {
    // SAFETY: an init has a single thread, so the copy is whole.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = child();
            // SAFETY: leaves without running what the parent registered.
            unsafe { libc::_exit(code) }
        }
        pid => Ok(pid),
    }
}

/// For [`kill`]: all processes of this namespace but pid 1, which calls; none is missed, not even
/// one that is just forking.
pub(crate) const EVERYONE: i32 = -1;

/// `pid` must be a child that has not been reaped.
pub(crate) fn kill(pid: i32) {
    // SAFETY: a plain system call.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Has the deaths of children arrive as data.
pub(crate) fn watch_children() -> io::Result<SignalFd> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.thread_block()?;
    Ok(SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// Blocks until a child has died or `peer` has something to say, which is always its end. Returns
/// whether it was the latter.
pub(crate) fn wait_for(peer: BorrowedFd<'_>, children: &SignalFd) -> io::Result<bool> {
    let mut watched =
        [PollFd::new(peer, PollFlags::POLLIN), PollFd::new(children.as_fd(), PollFlags::POLLIN)];
    match poll(&mut watched, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let ended = watched[0].any().unwrap_or(true);
    while children.read_signal()?.is_some() {}
    Ok(ended)
}

/// Kills and reaps every descendant of the calling process, which must be their subreaper. Gives
/// up after `patience`; returns whether all are gone.
///
/// First all are stopped: a stopped process cannot fork and still counts against the task limit,
/// so a growing tree comes to rest. Then all are killed. Orphans move up to the caller, and a
/// process that changes its number faster than it is found still has to live for a moment, so
/// asking again meets everyone in the end.
pub(crate) fn kill_descendants(patience: Duration, mut reaped: impl FnMut(i32, i32)) -> bool {
    let me = std::process::id().cast_signed();
    let start = Instant::now();
    while start.elapsed() < patience {
        let mut stopped = BTreeSet::new();
        for _ in 0..MAX_STOPPING_ROUNDS {
            let found = signal_descendants(me, libc::SIGSTOP, &stopped);
            if found.is_empty() {
                break;
            }
            stopped.extend(found);
        }
        signal_descendants(me, libc::SIGKILL, &BTreeSet::new());
        if reap(&mut reaped) == Reaped::NoChildren {
            return true;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    false
}

/// Somewhat arbitrary: enough for a tree to come to rest, and an end for one that never does.
const MAX_STOPPING_ROUNDS: usize = 50;

/// Sends a signal to all descendants but those in `except`; returns whom it found.
///
/// A descendant may end, be reaped by its parent, and leave its number to a stranger, between our
/// looking and our signal. So a descriptor is taken for each number first, and used only if the
/// number still names a descendant afterwards: then the descriptor is that descendant's, or that of
/// a process that has ended.
fn signal_descendants(me: i32, signal: i32, except: &BTreeSet<i32>) -> Vec<i32> {
    let found: Vec<i32> = descendants(me).into_iter().filter(|pid| !except.contains(pid)).collect();
    let opened: Vec<(i32, OwnedFd)> =
        found.into_iter().filter_map(|pid| Some((pid, open_process(pid)?))).collect();
    let still: BTreeSet<i32> = descendants(me).into_iter().collect();
    let confirmed = opened.into_iter().filter(|(pid, _)| still.contains(pid));
    let signalled = confirmed.map(|(pid, process)| {
        let no_information = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open; a null pointer stands for no further information.
        unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                process.as_raw_fd(),
                signal,
                no_information,
                0u32,
            )
        };
        pid
    });
    signalled.collect()
}

fn open_process(pid: i32) -> Option<OwnedFd> {
    // SAFETY: numbers only.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0u32) };
    let descriptor = i32::try_from(descriptor).ok().filter(|&number| number >= 0)?;
    // SAFETY: just made, owned by nobody else.
    Some(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Waits until no child is left. Somebody must have seen to it that they die.
pub(crate) fn reap_all(reaped: &mut impl FnMut(i32, i32)) {
    while reap_one(-1, reaped) {}
}

/// Waits for the child `pid`, or for any if it is -1. Returns whether there was one.
pub(crate) fn reap_one(pid: i32, reaped: &mut impl FnMut(i32, i32)) -> bool {
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        match unsafe { libc::waitpid(pid, &raw mut status, 0) } {
            -1 if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {}
            -1 => return false,
            pid => {
                reaped(pid, status);
                return true;
            }
        }
    }
}

/// What [`reap`] found.
#[derive(Debug, PartialEq)]
pub(crate) enum Reaped {
    /// Children are left, and alive.
    Alive,
    NoChildren,
}

/// Reaps every dead child and reports pid and wait status of each.
pub(crate) fn reap(reaped: &mut impl FnMut(i32, i32)) -> Reaped {
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
            0 => return Reaped::Alive,
            -1 => return Reaped::NoChildren,
            pid => reaped(pid, status),
        }
    }
}
