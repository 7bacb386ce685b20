//! `cargo xtask`: builds, checks, installs and measures Forerunner.
//!
//! One module per command. What a command is doing goes to standard error; tables and JSON, the
//! results, go to standard output.

mod bench;
mod bundle;
mod check;
mod command;
mod console;
mod cuda_toolkit;
mod dataset;
mod deny;
mod effects;
mod estimate_gpu;
mod fuzz;
mod hooks;
mod install;
mod invariants;
mod kernels;
mod licence;
mod noise;
mod processes;
mod quickstart;
mod redteam;
mod sandbox_table;
mod speedrun;
mod table;
mod test;
mod tidy;
mod torture;
mod trial;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  cargo quickstart                             build, install into target/forerunner, search
  cargo xtask test                             every test, against a fresh installation
  cargo xtask check                            what a change must pass, cheapest first
  cargo xtask check --fast                     the same without building and testing
  cargo xtask install --prefix ~/.local        for everyday use, outside the checkout
  cargo xtask effects > docs/effects-cpu-track.md
  cargo xtask noise > docs/noise-cpu-track.md
  cargo xtask torture --kills 100              kill -9 at random instants, then count
  cargo xtask fuzz --seconds 60                broken input for everything that reads what is not trusted
  cargo xtask sandbox-table                    what the sandbox blocks and bounds on this machine
  cargo xtask redteam                          programs that cheat must be refused, honest ones not
  cargo xtask bench overhead --max-programs 3000
  cargo xtask bench slot --json
  cargo xtask bench training --install         beside PyTorch, on one thread
  cargo xtask bench verification               what verifying adds to an evaluation
  cargo xtask cuda-toolkit                     a CUDA compiler, also where none is installed
  cargo xtask kernels --check                  registers and spills of the CUDA kernels
  cargo xtask bundle --cuda --data FOLDER      to test and measure on a machine with a GPU
  cargo xtask estimate-gpu                     what that should say, from counted bytes
  cargo xtask hooks --check                    the shipped components are those of their sources";

/// Builds, checks, installs and measures Forerunner.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build in release mode and install binary, plugins, harness, presets and data set.
    Install(install::Install),
    /// Install into target/forerunner and run the preset `quickstart`.
    Quickstart(quickstart::Quickstart),
    /// Install into target/forerunner and run every test.
    Test(test::Test),
    /// Run every check, cheapest first.
    Check(check::Check),
    /// Check what neither rustfmt nor clippy can: heads, lengths, unsafe code, manifests, presets.
    Tidy,
    /// Check licences and duplicate versions of dependencies.
    Deny,
    /// Check the absences that docs/ARCHITECTURE.md promises.
    Invariants,
    /// Rebuild the components of shipped hooks, or check them.
    Hooks(hooks::Hooks),
    /// Find or assemble a CUDA compiler, and prepare linking programs that start without a driver.
    CudaToolkit(cuda_toolkit::CudaToolkit),
    /// Compile the CUDA kernels and write down what each one uses.
    Kernels(kernels::Kernels),
    /// Make an archive with which a machine that has a GPU, and no Rust, can test and measure.
    Bundle(bundle::Bundle),
    /// Predict the speed of GPT-2 124M on an H200 and write it down.
    EstimateGpu(estimate_gpu::EstimateGpu),
    /// Kill searches at random instants and make sure that nothing is lost.
    Torture(torture::Torture),
    /// Feed broken input to everything that reads what is not trusted.
    Fuzz(fuzz::Fuzz),
    /// Try everything that the sandbox must block or bound, in every situation this machine offers.
    SandboxTable(sandbox_table::SandboxTable),
    /// Measure programs that game the speedrun, and their honest twins.
    Redteam(redteam::RedTeam),
    /// Measure what known techniques gain on a track of the speedrun.
    Effects(effects::Effects),
    /// Measure how much results on a track vary, and what a loss is worth in time.
    Noise(noise::Noise),
    /// Measure the framework itself, and training beside PyTorch.
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    // `bench training` compiles programs in the sandbox, which starts a copy of this binary.
    forerunner_sandbox::init();
    let result = match Arguments::parse().command {
        Command::Install(arguments) => arguments.run().map(|()| ExitCode::SUCCESS),
        Command::Quickstart(arguments) => arguments.run(),
        Command::Test(arguments) => arguments.run(),
        Command::Check(arguments) => arguments.run().map(|()| ExitCode::SUCCESS),
        Command::Tidy => tidy::run().map(|()| ExitCode::SUCCESS),
        Command::Deny => deny::run().map(|()| ExitCode::SUCCESS),
        Command::Invariants => invariants::run().map(|()| ExitCode::SUCCESS),
        Command::Hooks(arguments) => arguments.run().map(|()| ExitCode::SUCCESS),
        Command::CudaToolkit(arguments) => arguments.run().map(|()| ExitCode::SUCCESS),
        Command::Kernels(arguments) => arguments.run().map(|()| ExitCode::SUCCESS),
        Command::Bundle(arguments) => arguments.run().map(|()| ExitCode::SUCCESS),
        Command::EstimateGpu(arguments) => arguments.run().map(|()| ExitCode::SUCCESS),
        Command::Torture(arguments) => arguments.run(),
        Command::Fuzz(arguments) => arguments.run(),
        Command::SandboxTable(arguments) => arguments.run(),
        Command::Redteam(arguments) => arguments.run(),
        Command::Effects(arguments) => arguments.run().map(|()| ExitCode::SUCCESS),
        Command::Noise(arguments) => arguments.run().map(|()| ExitCode::SUCCESS),
        Command::Bench(arguments) => arguments.run(),
    };
    result.unwrap_or_else(|error| {
        console::say(format_args!("error: {error:#}"));
        ExitCode::FAILURE
    })
}
