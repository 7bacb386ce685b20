//! Trusted work on a GPU for whoever measures programs there: says what it is, overwrites its memory,
//! and measures the rate of its matrix products.
//!
//! A program of its own, so that neither the host nor a plugin ever loads CUDA. With `--json` the
//! answer is one object on one line; without, lines of `key: value` with the same keys.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is its purpose")]

mod arguments;
mod device;
mod matmul;
mod probe;
mod report;
mod scrub;

use std::process::ExitCode;

use arguments::{Command, Request};
use device::Failure;
use report::Report;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let request = match arguments::parse(&arguments) {
        Ok(Some(request)) => request,
        Ok(None) => {
            print!("{}", arguments::HELP);
            return ExitCode::SUCCESS;
        }
        Err(reason) => {
            eprintln!("{reason}\nhint: see `forerunner-gpu --help`");
            return ExitCode::from(arguments::USAGE);
        }
    };
    match answer(&request) {
        Ok(report) if request.json => println!("{}", report.json()),
        Ok(report) => print!("{}", report.lines()),
        Err(failure) => {
            eprintln!("{failure}");
            return ExitCode::from(failure.code());
        }
    }
    ExitCode::SUCCESS
}

fn answer(request: &Request) -> Result<Report, Failure> {
    device::require_driver()?;
    match request.command {
        Command::Probe => probe::probe(request.device),
        Command::Scrub => scrub::scrub(request.device),
        Command::Matmul => matmul::measure(request.device),
    }
}
