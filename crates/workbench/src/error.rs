//! Why the workbench could not do its work. What a program did wrong is a finding, not an error.

use std::{io, path::PathBuf};

/// Why the workbench could not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was being done, for example `read`.
        action: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is no harness in the folder.
    #[error(
        "no harness in `{0}`: manifest.json is missing\n\
         hint: run `cargo xtask install` to build and install it"
    )]
    NoHarness(PathBuf),
    /// The harness is damaged or of another format.
    #[error("unusable harness in `{dir}`: {why}\nhint: run `cargo xtask install` again")]
    BadHarness {
        /// Folder of the harness.
        dir: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The messages of cargo from which a harness is made make no sense.
    #[error(
        "cannot make a harness from cargo's messages: {0}\n\
         hint: they come from `cargo build --release --message-format=json -p PACKAGE`"
    )]
    BadMessages(String),
    /// No compiler could be run.
    #[error(
        "no usable rustc: {0}\n\
         hint: install Rust (https://rustup.rs), or set RUSTC to the path of a rustc"
    )]
    NoCompiler(String),
    /// The compiler is not the one the harness was built with.
    #[error(
        "the harness was built with {wanted}, but the compiler here is {found}\n\
         hint: install that compiler and set RUSTC to it, or run `cargo xtask install` again"
    )]
    WrongCompiler {
        /// Version and commit of the compiler of the harness.
        wanted: String,
        /// What was found instead.
        found: String,
    },
    /// The linker failed, even for an empty program.
    #[error(
        "rustc could not link: {0}\n\
         hint: install a C compiler that provides `cc` in /usr/bin (gcc or clang)"
    )]
    Linker(String),
    /// The compiler was stopped by the machine and not by the program.
    #[error("compiling was interrupted: {0}\nhint: see that the disk has room, and try again")]
    Interrupted(String),
    /// The sandbox could not run the compiler.
    #[error(transparent)]
    Sandbox(#[from] forerunner_sandbox::Error),
}

impl Error {
    /// For `map_err` on a file operation.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
