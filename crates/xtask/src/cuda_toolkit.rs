//! `cargo xtask cuda-toolkit`: a CUDA compiler, and what cargo has to know to build with it.
//!
//! An installed compiler is used where there is one. Elsewhere the pinned one is assembled from
//! packages of the Python index. Either way cargo is pointed at a folder of ours ([`home`]) in which
//! CUDA's libraries are replaced by archives that open them at run time, so that a program which was
//! built for CUDA starts on a machine without a driver and can say what it lacks.

mod assemble;
mod compiler;
mod home;
mod libraries;
mod quantized;
mod shims;

use crate::{
    console::{print, say},
    workspace,
};
use anyhow::{Context, Result, bail};
use clap::Args;
pub(crate) use compiler::Compiler;
use home::Home;
use std::{
    ffi::{OsStr, OsString},
    fmt::Write as _,
    path::PathBuf,
    process::Command,
};

/// Where programs look for CUDA's libraries first.
const LIBRARIES: &str = "FORERUNNER_CUDA_LIBS";

/// Candle's own kernels are built for this unless `CUDA_COMPUTE_CAP` says otherwise: they are embedded
/// as PTX, which the driver of any later device translates. 8.0 is the first with bf16.
const CANDLE_CAPABILITY: &str = "80";

/// Variables by which cudarc, candle and their like find CUDA.
const HOMES: [&str; 4] = ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CUDA_TOOLKIT_ROOT_DIR"];

/// Find or assemble a CUDA compiler, and prepare linking programs that start without a driver.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask cuda-toolkit
  cargo xtask cuda-toolkit --pinned                      also where another compiler is installed
  eval \"$(cargo xtask cuda-toolkit --print-env)\"         for cargo in this shell

An installed compiler is looked for in CUDA_HOME, in PATH and in /usr/local/cuda, and must be 12.4 or
newer. The assembled one takes 1.2 GB of disk; it needs python3 with pip or venv, and a C++ compiler.")]
pub(crate) struct CudaToolkit {
    /// Print lines for a shell that have cargo build for CUDA.
    #[arg(long)]
    print_env: bool,
    /// Assemble the pinned compiler even where another one is installed.
    #[arg(long)]
    pinned: bool,
    /// Do nothing, and say so, where the pinned compiler cannot be had for want of a network or of Python.
    #[arg(long)]
    if_reachable: bool,
    /// Folder to assemble into [default: target/cuda-toolkit]; implies --pinned.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl CudaToolkit {
    pub(crate) fn run(&self) -> Result<()> {
        let folder = match &self.folder {
            Some(folder) => std::path::absolute(folder).context("cannot use the folder")?,
            None => default_folder(),
        };
        let installed = match (self.pinned, &self.folder) {
            (false, None) => compiler::installed()?,
            _ => None,
        };
        let compiler = match installed {
            Some(compiler) => compiler,
            None if self.if_reachable && !assemble::is_within_reach(&folder)? => {
                say("left out: the packages of the CUDA compiler cannot be had here");
                return Ok(());
            }
            None => assemble::assemble(&folder)?,
        };
        let toolkit = Toolkit::of(compiler)?;
        let Compiler { nvcc, version, .. } = &toolkit.compiler;
        say(format_args!("CUDA compiler {version}: {}", nvcc.display()));
        say(format_args!("programs link against {}", toolkit.home.join("lib").display()));
        if self.print_env {
            print(toolkit.shell_lines()?)?;
        } else {
            say("for cargo in a shell: eval \"$(cargo xtask cuda-toolkit --print-env)\"");
        }
        Ok(())
    }
}

/// A CUDA compiler that can be used.
#[derive(Debug)]
pub(crate) struct Toolkit {
    pub(crate) compiler: Compiler,
    /// What cargo is pointed at; programs link against the archives in its `lib`.
    pub(crate) home: PathBuf,
    /// What build scripts are given for a compiler.
    nvcc: PathBuf,
    /// The folder of the real libraries, which a machine with a driver alone lacks.
    pub(crate) libraries: PathBuf,
}

/// The compiler that is installed, or else the one that was assembled in this checkout.
pub(crate) fn toolkit() -> Result<Toolkit> {
    let compiler = match compiler::installed()? {
        Some(compiler) => Some(compiler),
        None => assemble::assembled(&default_folder())?,
    };
    match compiler {
        Some(compiler) => Toolkit::of(compiler),
        None => bail!(
            "there is no CUDA compiler\nhint: `cargo xtask cuda-toolkit` assembles one in target/cuda-toolkit"
        ),
    }
}

impl Toolkit {
    fn of(compiler: Compiler) -> Result<Self> {
        let folder = assemble::folder_of(&compiler.root).unwrap_or_else(default_folder);
        let libraries = libraries::find(&compiler.root)?;
        let Home { folder: home, nvcc } = home::make(&folder, &compiler, &libraries)?;
        Ok(Self { compiler, home, nvcc, libraries })
    }

    /// Has `command` build for CUDA, if it is cargo, or find CUDA's libraries, if it is a program that
    /// was built so.
    pub(crate) fn apply(&self, command: &mut Command) -> Result<()> {
        command.envs(self.environment()?);
        Ok(())
    }

    /// Variables in full.
    fn environment(&self) -> Result<Vec<(&'static str, OsString)>> {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::iter::once(self.compiler.folder()).chain(std::env::split_paths(&paths));
        let path = std::env::join_paths(paths).context("cannot put the compiler on PATH")?;
        let mut variables = self.settings();
        variables.push(("PATH", path));
        Ok(variables)
    }

    /// Variables but for PATH, which is not replaced but added to.
    fn settings(&self) -> Vec<(&'static str, OsString)> {
        let own = |name: &str, value: &OsStr| std::env::var_os(name).unwrap_or(value.to_owned());
        let mut variables: Vec<_> =
            HOMES.iter().map(|&name| (name, self.home.clone().into_os_string())).collect();
        variables.push(("NVCC", self.nvcc.clone().into_os_string()));
        variables.push(("CUDA_COMPUTE_CAP", own("CUDA_COMPUTE_CAP", CANDLE_CAPABILITY.as_ref())));
        variables.push((LIBRARIES, own(LIBRARIES, self.libraries.as_os_str())));
        variables
    }

    fn shell_lines(&self) -> Result<String> {
        let text = |value: &OsStr| {
            let text = value.to_str().with_context(|| format!("{} is not UTF-8", value.display()));
            text.map(quoted)
        };
        let mut lines = String::new();
        for (name, value) in self.settings() {
            writeln!(lines, "export {name}={}", text(&value)?)?;
        }
        write!(lines, "export PATH={}:\"$PATH\"", text(self.compiler.folder().as_os_str())?)?;
        Ok(lines)
    }
}

/// For a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn default_folder() -> PathBuf {
    workspace::root().join("target/cuda-toolkit")
}

/// Writes a program for tests. A process of its own writes it: a file that this one has open for writing,
/// if only in a child of another test that was about to start, could not be started.
#[cfg(test)]
fn write_script(path: &std::path::Path, text: &str) {
    let write = "printf '#!/bin/sh\\n%s\\n' \"$2\" > \"$1\" && chmod +x \"$1\"";
    let status = Command::new("sh").args(["-c", write, "sh"]).arg(path).arg(text).status();
    assert!(status.is_ok_and(|status| status.success()), "cannot write {}", path.display());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_read_what_is_quoted() {
        let check = |value: &str, expected: &str| assert_eq!(quoted(value), expected);
        check("/a b/c", "'/a b/c'");
        check("it's", r"'it'\''s'");
        check("$HOME", "'$HOME'");
    }
}
