//! Starts untrusted processes with only what they were given.
//!
//! A benchmark compiles and runs programs written by optimisers under pressure. This crate starts
//! one of them ([`spawn`]) or a compiler working on one ([`run`]) so that it reads only the paths
//! in its [`Policy`], writes only below its work directory, has no network, cannot touch other
//! processes, uses no more than its [`Limits`], and is gone without remains when it ends, when it
//! is killed, or when the host dies. It knows nothing of benchmarks.
//!
//! ```no_run
//! use std::io::{Read, Write};
//! use forerunner_sandbox::{Policy, Profile, spawn, system_libraries};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     forerunner_sandbox::init(); // First: this binary is also the sandbox's init.
//!     let mut policy = Policy::new(Profile::Program, "/var/tmp/run-1");
//!     policy.read_only = system_libraries();
//!     let mut child = spawn(&policy, &["/usr/bin/cat".into()])?;
//!     child.stdin().write_all(b"hello")?;
//!     child.close_stdin();
//!     let mut answer = String::new();
//!     child.stdout().read_to_string(&mut answer)?;
//!     assert_eq!(answer, "hello");
//!     assert!(child.wait()?.outcome.success());
//!     Ok(())
//! }
//! ```
//!
//! # Layers
//!
//! The **floor** needs no privilege and must hold, or nothing is started: Landlock
//! (`landlock_rules`), an allow list of system calls (`seccomp_filter`, `syscalls`), resource
//! limits (`rlimits`), and an init that is the subreaper of the tree and kills all of it (`init`).
//! **Namespaces** (`namespaces`) are added where the machine grants them. A watchdog thread in the
//! host (`watchdog`) enforces wall time, CPU time and memory of the whole tree. [`Layers`] says what
//! was active; [`probe`] finds out beforehand.
//!
//! # A GPU
//!
//! A program may be given one NVIDIA GPU ([`Gpu`], [`Policy::give_gpu`]): its device nodes, the
//! driver's libraries, and the few system calls that the driver needs besides. Nothing changes for
//! who is given none. What is *not* isolated then is said in `docs/sandbox.md`.
//!
//! # What a hostile program can still do
//!
//! - Use all it was given: its core, its memory, its time, its space on the disk (polled, so a
//!   fast writer exceeds it for a moment).
//! - Learn by `stat` that paths exist, and their sizes and times. Landlock does not hide names.
//! - Read the clock and the processor's identity, and observe the machine's load and caches.
//! - Where mounts cannot be made read-only, leave one bit a day for a later run in the access time of
//!   each file in a granted folder (not of files granted by name, see `confine`).
//! - Execute itself anew: same process, same limits, same clock.
//! - Attack the kernel through the calls it is allowed. This is not a virtual machine.
//!
//! # Testing
//!
//! `FORERUNNER_SANDBOX_LAYERS=floor` leaves the namespaces out, as on machines that refuse them.
//! `FORERUNNER_SANDBOX_LAUNCHER` names the binary to be started as init where the host itself
//! cannot be: its `main` must call [`init`].
#![expect(unsafe_code, reason = "system calls that neither std nor nix wrap, each justified")]

mod error;
mod gpu;
mod layers;
mod outcome;
mod policy;

mod child;
mod children;
mod disk_usage;
mod launch;
mod message;
mod process_tree;
mod shared_memory;
mod watchdog;

mod confine;
mod elf_interpreter;
mod identity;
mod init;
mod landlock_rules;
mod namespaces;
mod rlimits;
mod seccomp_filter;
mod syscalls;

pub use child::Child;
pub use error::Error;
pub use gpu::{Gpu, GpuPaths};
pub use launch::{run, spawn};
pub use layers::{Layers, probe};
pub use outcome::{Finished, Outcome};
pub use policy::{Limits, Policy, Profile, system_libraries, system_tools};

/// Call first thing in `main` of any binary that starts sandboxed processes, before it starts
/// threads. Returns at once, except in the copy of the binary that [`spawn`] starts as an init:
/// there it serves the sandbox and never returns.
pub fn init() {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == init::INIT_ARGUMENT) {
        init::serve();
    }
}
