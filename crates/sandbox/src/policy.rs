//! What an untrusted process is given: paths, environment, limits, a core.

use std::{
    ffi::{OsStr, OsString},
    path::{Component, Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{Error, Gpu};

/// Everything a sandboxed process is given. What is not named here it does not get.
///
/// ```
/// use forerunner_sandbox::{Policy, Profile};
///
/// let policy = Policy::new(Profile::Program, "/var/tmp/run-1");
/// assert!(policy.env.is_empty() && policy.read_only.is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Which system calls the process may use.
    pub profile: Profile,
    /// Files and folders that may be read (and, with [`Profile::Tool`], executed). Absolute.
    ///
    /// A dynamically linked program needs [`system_libraries`] here. For a caller who is root,
    /// paths below folders closed to others (such as `/root`) cost the user namespace and leave
    /// the process one capability, see
    /// [`Layers::kept_read_capability`](crate::Layers::kept_read_capability).
    pub read_only: Vec<PathBuf>,
    /// The working directory. When root starts the sandbox and owns a writable `work_dir`, the
    /// directory is handed to `nobody`.
    ///
    /// What the process leaves there is hostile input. Symbolic links, pipes, sockets and device
    /// nodes cannot be made, so a plain `open` of a file in it reads that file and does not hang.
    pub work_dir: PathBuf,
    /// Whether files may be created and written below `work_dir`. It is readable either way.
    pub work_dir_writable: bool,
    /// The complete environment; nothing is inherited.
    ///
    /// Compilers want `PATH` (to find the linker) and `TMPDIR` (set to `work_dir`).
    pub env: Vec<(String, String)>,
    /// How much of everything.
    pub limits: Limits,
    /// Pin the process to these cores, unless there are none. It cannot move away: changing the
    /// affinity is refused then.
    pub cores: Vec<usize>,
    /// Run with resource limits and tree kill only, when the user has explicitly accepted that the
    /// program can then read, write and send whatever the user can.
    pub unsafe_no_sandbox: bool,
    /// With `unsafe_no_sandbox`: nevertheless write only below `work_dir`, below these paths and to
    /// the usual devices, and signal no process outside (Landlock 6). For a command that the user
    /// trusts with network, files and secrets, so that its mistakes stay where they belong.
    #[serde(default)]
    pub writes_only: Option<Vec<PathBuf>>,
    /// One GPU, for a [`Profile::Program`]; set it with [`Policy::give_gpu`].
    #[serde(default)]
    pub gpu: Option<Gpu>,
    /// Answer refused system calls with the signal SIGSYS instead of an error, which ends the
    /// process unless it handles the signal. Stricter, never weaker: for finding out what an honest
    /// program would need (`examples/refused.rs`).
    #[serde(default)]
    pub trap_refused: bool,
}

/// Which family of system calls the process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// A program under test: threads, memory, files, its pipes. No new processes, and no execution
    /// of anything but itself.
    Program,
    /// A compiler: may also start processes from the readable paths, and not from `work_dir`
    /// (though a readable loader could be told to load a file from there: this keeps honest tools
    /// honest, and is no boundary).
    Tool,
}

/// Upper bounds for one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Resident memory of the whole process tree, in bytes, polled every few milliseconds.
    ///
    /// As a backstop against growth between two polls, one process can map little more than this
    /// as private data (see `rlimits`).
    pub memory_bytes: u64,
    /// CPU time (user and system) of the whole process tree, in whole seconds.
    pub cpu_seconds: u64,
    /// Time from the start to the end.
    pub wall: Duration,
    /// Tasks (processes and threads) of the tree. Without a user namespace the kernel counts all
    /// tasks of the user, and the bound is approximate.
    pub processes: u64,
    /// Size of any single file written, in bytes.
    pub file_bytes: u64,
    /// Space that everything in a writable `work_dir` takes together, in bytes, files included that
    /// were removed but are still open. Polled several times a second, so a fast writer gets
    /// further before it is killed; it then counts as ended by SIGXFSZ, as for a single file.
    pub disk_bytes: u64,
    /// Files and folders in a writable `work_dir`, polled and ended likewise.
    pub files: u64,
    /// Open file descriptors per process.
    pub open_files: u64,
    /// Bytes kept of each captured stream (standard output of [`crate::run`], standard error). The
    /// rest is read and dropped.
    pub output_bytes: u64,
}

impl Policy {
    /// A policy that gives nothing but a read-only `work_dir` and [`Limits::default`].
    pub fn new(profile: Profile, work_dir: impl Into<PathBuf>) -> Self {
        Self {
            profile,
            read_only: Vec::new(),
            work_dir: work_dir.into(),
            work_dir_writable: false,
            env: Vec::new(),
            limits: Limits::default(),
            cores: Vec::new(),
            unsafe_no_sandbox: false,
            writes_only: None,
            gpu: None,
            trap_refused: false,
        }
    }

    /// Gives the program `gpu`, with the environment variables that go with it. Variables of the
    /// same names that are set already stay as they are.
    pub fn give_gpu(&mut self, gpu: Gpu) {
        for (key, value) in gpu.environment() {
            if self.env.iter().all(|(name, _)| *name != key) {
                self.env.push((key, value));
            }
        }
        self.gpu = Some(gpu);
    }

    /// Everything that may be read by name outside `work_dir`, `/dev`, `/proc` and `/sys`.
    pub(crate) fn readable(&self) -> impl Iterator<Item = &PathBuf> {
        self.read_only.iter().chain(self.gpu.iter().flat_map(|gpu| &gpu.libraries))
    }

    /// Refuses policies that cannot be enforced or that would hand out more than they say.
    pub(crate) fn check(&self, argv: &[OsString]) -> Result<(), Error> {
        let program = argv.first().ok_or_else(|| Error::policy("the command line is empty"))?;
        let paths = [program.as_os_str(), self.work_dir.as_os_str()].into_iter();
        let of_gpu = self.gpu.iter().flat_map(Gpu::paths);
        let named = self.read_only.iter().chain(self.writes_only.iter().flatten()).chain(of_gpu);
        for path in paths.chain(named.map(|path| path.as_os_str())) {
            check_path(path)?;
        }
        if self.writes_only.is_some() && !self.unsafe_no_sandbox {
            return Err(Error::policy(
                "`writes_only` is for commands without a sandbox; a sandboxed one writes below its \
                 work_dir",
            ));
        }
        if self.gpu.is_some() && self.profile != Profile::Program {
            return Err(Error::policy("a GPU is given to programs, not to tools"));
        }
        if self.work_dir_writable && self.work_dir.components().count() < 3 {
            return Err(Error::policy(format!(
                "`{}` is a top-level folder and cannot be a writable work_dir",
                self.work_dir.display()
            )));
        }
        let no_proc = self.profile == Profile::Program && !self.unsafe_no_sandbox;
        for path in self.read_only.iter().chain([&self.work_dir]) {
            if no_proc && (path.starts_with("/proc") || Path::new("/proc").starts_with(path)) {
                return Err(Error::policy(format!(
                    "`{}` would give the program /proc",
                    path.display()
                )));
            }
        }
        for (key, value) in &self.env {
            if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
                return Err(Error::policy(format!("`{key:?}` is not an environment variable")));
            }
        }
        let limits = &self.limits;
        if limits.cpu_seconds == 0 || limits.processes == 0 || limits.open_files < 8 {
            return Err(Error::policy(
                "cpu_seconds and processes must be at least 1, open_files at least 8",
            ));
        }
        Ok(())
    }
}

impl Default for Limits {
    /// 4 GiB, 60 CPU seconds, 120 seconds, 64 tasks, files of 256 MiB, 1 GiB in at most 10,000
    /// files, 256 descriptors, 1 MiB of output: somewhat arbitrary, enough for compiling and running
    /// a small training program.
    fn default() -> Self {
        Self {
            memory_bytes: 4 << 30,
            cpu_seconds: 60,
            wall: Duration::from_secs(120),
            processes: 64,
            file_bytes: 256 << 20,
            disk_bytes: 1 << 30,
            files: 10_000,
            open_files: 256,
            output_bytes: 1 << 20,
        }
    }
}

/// Where this machine keeps the dynamic loader's files: what a dynamically linked program must be
/// able to read. Only paths that exist.
pub fn system_libraries() -> Vec<PathBuf> {
    existing(&["/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", LOADER_CACHE])
}

/// Where this machine keeps a C compiler and linker: what `rustc` needs besides its own sysroot.
/// Only paths that exist.
pub fn system_tools() -> Vec<PathBuf> {
    let mut paths = system_libraries();
    paths.extend(existing(&[
        "/bin",
        "/usr/bin",
        "/usr/libexec",
        "/usr/local/bin",
        "/usr/local/lib",
        "/etc/alternatives",
    ]));
    paths
}

const LOADER_CACHE: &str = "/etc/ld.so.cache";

fn existing(paths: &[&str]) -> Vec<PathBuf> {
    paths.iter().map(PathBuf::from).filter(|path| path.exists()).collect()
}

fn check_path(path: &OsStr) -> Result<(), Error> {
    let path = Path::new(path);
    if path.to_str().is_none_or(|text| text.contains('\0')) {
        return Err(Error::policy(format!("`{}` is not UTF-8", path.display())));
    }
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err(Error::policy(format!(
            "`{}` is not an absolute path without `..`",
            path.display()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut Policy), argv: &[&str], expected: &str) {
        let mut policy = Policy::new(Profile::Program, "/var/tmp/work");
        change(&mut policy);
        let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
        let actual = match policy.check(&argv) {
            Ok(()) => "ok".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(actual.contains(expected), "expected `{expected}` in `{actual}`");
    }

    #[test]
    fn policies_that_hand_out_too_much_are_refused() {
        let program = &["/usr/bin/true"][..];
        check(|_| (), program, "ok");
        check(|_| (), &[], "command line is empty");
        check(|_| (), &["true"], "not an absolute path");
        check(|p| p.read_only.push("/usr/../proc".into()), program, "not an absolute path");
        check(|p| p.read_only.push("/proc/self".into()), program, "/proc");
        check(|p| p.read_only.push("/".into()), program, "would give the program /proc");
        check(|p| p.work_dir = "/".into(), program, "would give the program /proc");
        check(|p| p.env.push(("A=B".into(), "c".into())), program, "environment variable");
        check(|p| p.limits.open_files = 3, program, "open_files at least 8");
        check(|p| p.writes_only = Some(Vec::new()), program, "commands without a sandbox");
        let gpu = |p: &mut Policy, node: &str| {
            p.gpu = Some(Gpu {
                minor: 0,
                uuid: None,
                nodes: vec![node.into()],
                information: vec!["/proc/devices".into()],
                libraries: Vec::new(),
                library_folders: Vec::new(),
            });
        };
        check(|p| gpu(p, "/dev/nvidia0"), program, "ok");
        check(|p| gpu(p, "/dev/../etc/shadow"), program, "not an absolute path");
        let to_a_tool = |p: &mut Policy| {
            gpu(p, "/dev/nvidia0");
            p.profile = Profile::Tool;
        };
        check(to_a_tool, program, "a GPU is given to programs");
        let writable_top_level = |p: &mut Policy| {
            p.work_dir = "/tmp".into();
            p.work_dir_writable = true;
        };
        check(writable_top_level, program, "top-level folder");
    }
}
