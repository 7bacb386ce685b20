//! The compiler: rustc, called directly, in the sandbox, at most once per program.

use crate::{
    Error, Harness,
    cache::{Cache, Guard, Outcome},
    diagnostics::{Diagnosis, diagnose},
    files,
    harness::hex,
    toolchain::Toolchain,
};
use forerunner_core::{Cause, Finding, Program};
use forerunner_sandbox::{self as sandbox, Layers, Limits, Policy, Profile};
use sha2::{Digest, Sha256};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

/// Compiles programs against a harness.
///
/// A program is its source alone: no manifest, no build script, no other crates than the harness
/// and `std`. `rustc` runs in the sandbox, reads nothing but the source, the harness, itself and
/// the system's linker, and is stopped at its limits. Unsafe code is refused by a lint that
/// source cannot lift; **source rules are not checked here**, see [`crate::Rules`].
///
/// Every outcome that the program causes is kept in the cache, refusals included.
#[derive(Debug)]
pub struct Compiler {
    harness: Harness,
    toolchain: Toolchain,
    cache: Cache,
    limits: Limits,
    unsafe_no_sandbox: bool,
}

/// A compiled program.
#[derive(Debug, Clone)]
pub struct Built {
    /// The binary, in the cache. Read-only by custom: identical programs share it.
    pub binary: PathBuf,
    /// CPU time that compiling took, even when it was taken from the cache.
    pub cpu: Duration,
    /// Whether it came from the cache.
    pub cached: bool,
    /// What confined the compiler.
    pub layers: Layers,
}

/// Why there is no binary.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The compiler refused the program.
    #[error("the program does not compile")]
    Refused(Vec<Finding>),
    /// The compiler did not finish in time.
    #[error("compiling the program takes too long")]
    TimedOut,
    /// The compiler used up its memory.
    #[error("compiling the program takes too much memory")]
    OutOfMemory,
    /// The workbench could not do its work; not the program's fault.
    #[error(transparent)]
    Host(#[from] Error),
}

impl CompileError {
    /// The findings to hand back to the author, with the cause to count; the error itself when
    /// the program is not to blame.
    ///
    /// # Errors
    /// [`CompileError::Host`]'s error.
    pub fn into_findings(self) -> Result<(Cause, Vec<Finding>), Error> {
        let advice = "macros and types that unfold into very much code do this; write it shorter";
        let limit = |rule: &str, what: &str| {
            vec![Finding::error(rule, format!("compiling the program takes {what}; {advice}"))]
        };
        match self {
            Self::Refused(findings) => Ok((Cause::Compile, findings)),
            Self::TimedOut => Ok((Cause::Compile, limit("compile/timeout", "too long"))),
            Self::OutOfMemory => Ok((Cause::Compile, limit("compile/memory", "too much memory"))),
            Self::Host(error) => Err(error),
        }
    }
}

/// Folder of the sources within the work folder; stripped from every message.
const SOURCE: &str = "src";
/// Name of the binary within the work folder.
const BINARY: &str = "program";
/// Makes the binary.
const LINK: &str = "--emit=link=program";
/// Stops after the borrow checker.
const CHECK: &str = "--emit=metadata=program.rmeta";
/// What every program is compiled with. **Never cap lints**: that would switch `-F` off.
const FLAGS: [&str; 13] = [
    "--crate-type=bin",
    "--crate-name=program",
    "--error-format=json",
    "--diagnostic-width=100",
    "--color=never",
    // Forbidden means that no attribute in the source can allow it again.
    "-Funsafe_code",
    "-Flong_running_const_eval",
    // Warnings help nobody here, and cost time.
    "-Awarnings",
    "-Copt-level=3",
    "-Cdebuginfo=0",
    "-Cstrip=symbols",
    // A panic ends the program at once; nobody unwinds past the harness. Saves a tenth.
    "-Cpanic=abort",
    // One unit costs the least CPU time (0.9 s for 320 lines against 1.2 s with 16, measured), and
    // an added function does not shift others between units, which would change their speed.
    "-Ccodegen-units=1",
];

impl Compiler {
    /// A compiler for programs of `harness` with its cache in the folder `cache`, which is made
    /// when missing and may be shared by any number of processes.
    ///
    /// # Errors
    /// When the compiler that built the harness is not to be found, or the cache cannot be made.
    pub fn new(harness: Harness, cache: &Path, unsafe_no_sandbox: bool) -> Result<Self, Error> {
        let toolchain = harness.toolchain()?;
        let cache = Cache::open(cache)?;
        Ok(Self { harness, toolchain, cache, limits: default_limits(), unsafe_no_sandbox })
    }

    /// The same compiler with other limits. Limits are part of what a result is kept under.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The harness programs are compiled against.
    pub fn harness(&self) -> &Harness {
        &self.harness
    }

    /// Checks syntax, types and borrows without making a binary: about a tenth of the cost.
    ///
    /// What only shows when code is generated passes: overflowing constants in generic code,
    /// endless instantiation.
    ///
    /// # Errors
    /// Findings with rustc's text at `file:line`, or a limit.
    pub fn check(&self, program: &Program) -> Result<(), CompileError> {
        let key = self.key(program);
        if let Some(outcome) = self.cache.get(&key) {
            return self.answer(&key, outcome, true).map(drop);
        }
        if self.cache.is_checked(&key) {
            return Ok(());
        }
        let guard = self.cache.lock(&key)?;
        // Somebody else may have been faster.
        if let Some(outcome) = self.cache.get(&key) {
            return self.answer(&key, outcome, true).map(drop);
        }
        if !self.cache.is_checked(&key) {
            self.compile(program, CHECK, &guard)?;
            guard.set_checked()?;
        }
        Ok(())
    }

    /// Makes the binary, or takes it from the cache. Wrong types are found as early as by
    /// [`Compiler::check`], so there is no need to call that first.
    ///
    /// # Errors
    /// As for [`Compiler::check`].
    pub fn build(&self, program: &Program) -> Result<Built, CompileError> {
        let key = self.key(program);
        if let Some(outcome) = self.cache.get(&key) {
            return self.answer(&key, outcome, true);
        }
        let guard = self.cache.lock(&key)?;
        // Somebody else may have been faster.
        if let Some(outcome) = self.cache.get(&key) {
            return self.answer(&key, outcome, true);
        }
        let outcome = self.compile(program, LINK, &guard)?;
        self.answer(&key, outcome, false)
    }

    /// The cache's name for everything that decides the outcome.
    fn key(&self, program: &Program) -> String {
        let mut hash = Sha256::new();
        let limits = (self.limits.memory_bytes, self.limits.cpu_seconds, self.limits.file_bytes);
        let parts = [
            program.id().0,
            self.harness.hash(),
            FLAGS.join(" "),
            format!("{limits:?} {}", self.unsafe_no_sandbox),
        ];
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hex(&hash.finalize())
    }

    fn answer(&self, key: &str, outcome: Outcome, cached: bool) -> Result<Built, CompileError> {
        match outcome {
            Outcome::Built { cpu, layers } => {
                Ok(Built { binary: self.cache.binary(key), cpu, cached, layers })
            }
            Outcome::Refused(findings) => Err(CompileError::Refused(findings)),
            Outcome::OutOfCpu => Err(CompileError::TimedOut),
            Outcome::OutOfMemory => Err(CompileError::OutOfMemory),
        }
    }

    /// Runs rustc and keeps what the program caused; a passed check is kept by the caller.
    fn compile(
        &self,
        program: &Program,
        emit: &str,
        guard: &Guard<'_>,
    ) -> Result<Outcome, CompileError> {
        let findings = files::check_files(program);
        if !findings.is_empty() {
            return Err(CompileError::Refused(findings));
        }
        let Some(root) = files::root_file(program) else {
            let message = "no `main.rs`; a program of several files starts there";
            return Err(CompileError::Refused(vec![Finding::error("files/root", message)]));
        };
        let work = self.cache.work_dir()?;
        let source = work.path().join(SOURCE);
        files::write(program, &source).map_err(Error::io("write", &source))?;

        let finished = self.run(work.path(), root, emit)?;
        let outcome = match finished.outcome {
            sandbox::Outcome::Signalled(signal) if INTERRUPTIONS.contains(&signal) => {
                return Err(Error::Interrupted(format!("rustc {}", finished.outcome)).into());
            }
            sandbox::Outcome::Exited(0) => {
                Outcome::Built { cpu: finished.cpu, layers: finished.layers }
            }
            sandbox::Outcome::OutOfCpu => Outcome::OutOfCpu,
            sandbox::Outcome::OutOfMemory => Outcome::OutOfMemory,
            // How long it takes depends on what else the machine does, so it is not kept.
            sandbox::Outcome::TimedOut => return Err(CompileError::TimedOut),
            sandbox::Outcome::Exited(_) | sandbox::Outcome::Signalled(_) => {
                Outcome::Refused(self.findings(work.path(), &finished)?)
            }
        };
        match &outcome {
            Outcome::Built { .. } if emit == LINK => {
                guard.put(&outcome, Some(&work.path().join(BINARY)))?;
                Ok(outcome)
            }
            Outcome::Built { .. } => Ok(outcome),
            _ => {
                guard.put(&outcome, None)?;
                self.answer("", outcome.clone(), false).map(|_| outcome)
            }
        }
    }

    fn run(&self, work: &Path, root: &str, emit: &str) -> Result<sandbox::Finished, Error> {
        Ok(sandbox::run(&self.policy(work), &self.command(root, emit))?)
    }

    fn policy(&self, work: &Path) -> Policy {
        let mut read_only = sandbox::system_tools();
        read_only.push(self.toolchain.sysroot.clone());
        read_only.push(self.harness.dir().to_owned());
        let mut policy = Policy::new(Profile::Tool, work);
        policy.read_only = read_only;
        policy.work_dir_writable = true;
        policy.limits = self.limits;
        policy.unsafe_no_sandbox = self.unsafe_no_sandbox;
        policy.env = [
            // Where the linker driver `cc` is looked for.
            ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
            ("TMPDIR", work.display().to_string()),
            ("LC_ALL", "C".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        policy
    }

    /// The command line; paths of the program are relative to the work folder, so that messages
    /// and binaries do not depend on where it is.
    fn command(&self, root: &str, emit: &str) -> Vec<OsString> {
        let mut command = vec![self.toolchain.rustc.clone().into_os_string()];
        let mut add = |argument: String| command.push(argument.into());
        self.harness.flags().iter().cloned().for_each(&mut add);
        FLAGS.iter().map(|flag| (*flag).to_owned()).for_each(&mut add);
        add(format!("--edition={}", self.harness.edition()));
        add(format!("--remap-path-prefix={SOURCE}="));
        add(format!(
            "--extern={}={}",
            self.harness.extern_crate(),
            self.harness.library().display()
        ));
        add(format!("-Ldependency={}", self.harness.dir().display()));
        if let Some(dir) = self.harness.native_dir() {
            add(format!("-Lnative={}", dir.display()));
        }
        add(format!("--sysroot={}", self.toolchain.sysroot.display()));
        add(emit.to_owned());
        add(format!("{SOURCE}/{root}"));
        command
    }

    /// Whether an empty program can be linked, to tell a broken machine from a broken program.
    fn can_link(&self) -> Result<bool, Error> {
        let work = self.cache.work_dir()?;
        let source = work.path().join(SOURCE);
        let program = Program::single("main.rs", "fn main() {}");
        files::write(&program, &source).map_err(Error::io("write", &source))?;
        Ok(self.run(work.path(), "main.rs", LINK)?.outcome.success())
    }

    fn findings(&self, work: &Path, finished: &sandbox::Finished) -> Result<Vec<Finding>, Error> {
        let work = format!("{}/", work.display());
        let hidden = [work.as_str(), "src/"];
        match diagnose(&finished.stderr, self.harness.extern_crate(), &hidden) {
            Diagnosis::Program(findings) => Ok(findings),
            Diagnosis::Linker(why) if !self.can_link()? => Err(Error::Linker(why)),
            Diagnosis::Linker(_) => {
                let message = "the linker refuses the program although it takes an empty one; \
                               give it a plain `main`, and compute large tables when it runs";
                Ok(vec![Finding::error("compile/link", message)])
            }
            Diagnosis::Machine(why) => Err(Error::Interrupted(why)),
            Diagnosis::Harness(why) => {
                Err(Error::BadHarness { dir: self.harness.dir().to_owned(), why })
            }
            Diagnosis::Nothing => {
                let message = format!(
                    "the compiler {} without naming an error; write the program more plainly",
                    finished.outcome
                );
                Ok(vec![Finding::error("compile/crash", message)])
            }
        }
    }
}

/// Signals that come from outside: hang-up, interrupt, kill, termination.
const INTERRUPTIONS: [i32; 4] = [1, 2, 9, 15];

/// Some ten times what a program of 1,000 lines takes.
fn default_limits() -> Limits {
    Limits {
        memory_bytes: 2 << 30,
        cpu_seconds: 20,
        wall: Duration::from_secs(60),
        ..Limits::default()
    }
}
