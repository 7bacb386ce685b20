//! `forerunner worker`: serves a host over the standard streams.

use crate::failure::{Failure, PLUGIN};
use std::{
    fs::File,
    io::{self, BufReader},
    os::fd::AsFd,
    process::ExitCode,
};

/// Keeps the host's pipe for frames alone: whatever an environment prints goes to standard error.
pub(crate) fn worker() -> Result<ExitCode, Failure> {
    let failure = |error: io::Error| Failure::new(PLUGIN, format_args!("worker: {error}"));
    let frames = File::from(io::stdout().as_fd().try_clone_to_owned().map_err(failure)?);
    nix::unistd::dup2_stdout(io::stderr()).map_err(|error| failure(error.into()))?;
    forerunner_runtime::worker::serve(BufReader::new(io::stdin()), frames).map_err(failure)?;
    Ok(ExitCode::SUCCESS)
}
