//! The last stage: the process that becomes the program puts on every layer, one by one, and
//! executes it.
//!
//! The order is forced: mounts need the rights that leaving root gives up; the filter forbids what
//! all the steps before it need.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask},
    unistd::{Pid, setsid},
};
use serde::{Deserialize, Serialize};

use crate::{
    Layers, Policy,
    error::Failure,
    identity::{Identity, prctl},
    landlock_rules, message,
    namespaces::{self, Entered},
    rlimits, seccomp_filter,
};

/// What the init hands to the process that becomes the program.
pub(crate) struct Stage {
    pub(crate) start: message::Start,
    pub(crate) identity: Identity,
    pub(crate) entered: Entered,
    pub(crate) stdin: OwnedFd,
}

/// What it tells the init: the layers just before it executes the program, and a failure if there
/// is one. Success is silence: executing closes the pipe.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Progress {
    Confined(Layers),
    Failed(Failure),
}

impl Stage {
    /// Confines the calling process and executes the program. Returns only a process to leave:
    /// after a failure, which has been reported, or after a rehearsal.
    pub(crate) fn run(self, mut report: File) -> i32 {
        let mut tell = |progress: &Progress| {
            let mut line = serde_json::to_vec(progress).unwrap_or_default();
            line.push(b'\n');
            report.write_all(&line)
        };
        let done = self.confine().and_then(|layers| {
            // If the init is gone there is nobody to watch over us.
            tell(&Progress::Confined(layers)).map_err(|error| Failure::setup("report", error))?;
            if self.start.argv.is_empty() { Ok(()) } else { Err(execute(&self.start)) }
        });
        match done {
            Ok(()) => 0,
            Err(failure) => {
                // Nobody is left to tell if this fails.
                let _ = tell(&Progress::Failed(failure));
                127
            }
        }
    }

    fn confine(&self) -> Result<Layers, Failure> {
        let policy = &self.start.policy;
        let mut layers = Layers { subreaper: true, ..Layers::default() };
        // Lets the kernel's memory killer find the right process; a courtesy that may be refused.
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
        self.isolate(&mut layers)?;
        let step = |name: &'static str| move |error: io::Error| Failure::setup(name, error);
        // After the change of user, which clears it. It covers the init's death; the host's death
        // is seen by the init.
        prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as _).map_err(step("bind life to the init"))?;
        prctl(libc::PR_SET_NO_NEW_PRIVS, 1).map_err(step("forbid new privileges"))?;
        let detached = setsid().map_err(io::Error::from);
        detached.map_err(step("leave the session"))?;
        reset_signals().map_err(step("reset signals"))?;
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        connect_stdin(&self.stdin).map_err(step("connect standard input"))?;
        std::env::set_current_dir(&policy.work_dir).map_err(|error| {
            Failure::setup(&format!("cannot enter `{}`", policy.work_dir.display()), error)
        })?;
        if !layers.read_only_view && !policy.unsafe_no_sandbox {
            settle_access_times(policy, self.start.argv.first().map(Path::new));
        }
        pin(policy)?;
        rlimits::apply(policy, layers.user_namespace).map_err(|error| {
            Failure::floor("resource limits", error, "raise the limits of the calling shell")
        })?;
        layers.rlimits = true;
        if policy.unsafe_no_sandbox {
            layers.unsandboxed = true;
            if let Some(paths) = &policy.writes_only {
                layers.landlock_abi = landlock_rules::restrict_writes(&policy.work_dir, paths)?;
            }
        } else {
            self.restrict(&mut layers)?;
        }
        Ok(layers)
    }

    /// Namespaces and identity.
    fn isolate(&self, layers: &mut Layers) -> Result<(), Failure> {
        let policy = &self.start.policy;
        if self.entered != Entered::Nothing {
            let writable = policy.work_dir_writable.then_some(policy.work_dir.as_path());
            let mounts = namespaces::arrange_mounts(writable, policy.gpu.is_some());
            layers.user_namespace = self.entered == Entered::WithUser;
            layers.pid_namespace = true;
            layers.network_namespace = true;
            layers.mount_namespace = true;
            layers.private_proc = mounts.private_proc;
            layers.read_only_view = mounts.read_only_view;
        }
        if self.entered == Entered::AsRoot {
            self.identity.settle().map_err(|error| Failure::setup("leave root", error))?;
        }
        layers.dropped_root = self.identity.drops_root();
        layers.kept_read_capability = self.identity.keeps_capability();
        Ok(())
    }

    /// Landlock and seccomp.
    fn restrict(&self, layers: &mut Layers) -> Result<(), Failure> {
        let policy = &self.start.policy;
        let program = self.start.argv.first().map(Path::new);
        let abi = landlock_rules::restrict(policy, program)?;
        layers.landlock_abi = abi;
        seccomp_filter::install(&seccomp_filter::Circumstances {
            profile: policy.profile,
            pid: std::process::id().cast_signed(),
            pinned: !policy.cores.is_empty(),
            landlock_abi: abi,
            signals_stay_inside: abi >= 6 || layers.pid_namespace,
            chmod_is_harmless: layers.read_only_view,
            gpu: policy.gpu.is_some(),
            trap_refused: policy.trap_refused,
        })?;
        layers.seccomp = true;
        Ok(())
    }
}

/// The init blocks SIGCHLD and Rust ignores SIGPIPE; both would be inherited.
fn reset_signals() -> io::Result<()> {
    for signal_number in Signal::iterator() {
        if !matches!(signal_number, Signal::SIGKILL | Signal::SIGSTOP) {
            // SAFETY: installs no handler, only the default.
            unsafe { signal(signal_number, SigHandler::SigDfl) }?;
        }
    }
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}

/// Standard output and error are in place already. Everything else closes on execution.
fn connect_stdin(stdin: &OwnedFd) -> io::Result<()> {
    // SAFETY: replaces descriptor 0, which nothing in this process owns any more.
    if unsafe { libc::dup2(stdin.as_raw_fd(), 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    const CLOSE_ON_EXEC: i32 = 4;
    // SAFETY: only sets a flag on descriptors, which keep their owners.
    match unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, CLOSE_ON_EXEC) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Reads from every granted path first. File systems commonly note a reading time only when the last
/// one is older than the last change or a day, so what the program reads of these leaves no trace for
/// a later program to see. Where everything is noted (`strictatime`) this does not help.
fn settle_access_times(policy: &Policy, program: Option<&Path>) {
    let named = policy.readable().map(|path| path.as_path()).chain(program);
    for path in named {
        // What cannot be read now cannot be read later.
        if path.is_dir() {
            drop(std::fs::read_dir(path).map(|mut entries| entries.next().is_some()));
        } else if path.is_file() {
            drop(File::open(path).and_then(|mut file| file.read(&mut [0])));
        }
    }
}

fn pin(policy: &Policy) -> Result<(), Failure> {
    if policy.cores.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    let chosen = policy.cores.iter().try_for_each(|&core| set.set(core));
    let pinned = chosen.and_then(|()| sched_setaffinity(Pid::this(), &set));
    pinned.map_err(|error| {
        let cores: Vec<_> = policy.cores.iter().map(usize::to_string).collect();
        Failure::setup(
            &format!("cannot pin to core {}", cores.join(" and ")),
            format!("{error}\nhint: choose cores this process may use (see `taskset -p $$`)"),
        )
    })
}

/// Replaces the process. Returns why that did not work.
fn execute(start: &message::Start) -> Failure {
    let program = start.argv[0].to_string_lossy().into_owned();
    let failed = |reason: String| Failure::Execute { program: program.clone(), reason };
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|error| failed(error.to_string()));
    let arguments: Result<Vec<_>, _> = start.argv.iter().map(|arg| text(arg.as_bytes())).collect();
    let variable = |(key, value): &(String, String)| text(format!("{key}={value}").as_bytes());
    let environment: Result<Vec<_>, _> = start.policy.env.iter().map(variable).collect();
    let (arguments, environment) = match (arguments, environment) {
        (Ok(arguments), Ok(environment)) => (arguments, environment),
        (Err(failure), _) | (_, Err(failure)) => return failure,
    };
    let Err(error) = nix::unistd::execve(&arguments[0], &arguments, &environment);
    let hint = match error {
        nix::errno::Errno::EACCES => {
            "\nhint: the file must be executable, and it and its loader readable by this policy"
        }
        nix::errno::Errno::ENOENT => "\nhint: the file or the loader it names does not exist",
        _ => "",
    };
    failed(format!("{}{hint}", error.desc()))
}
