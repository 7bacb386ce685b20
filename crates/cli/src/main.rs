//! The `forerunner` command: arguments in, exit codes out, nothing else.

mod arguments;
mod calls;
mod data;
mod evaluate;
mod failure;
mod fetch;
mod hook;
mod ideas;
mod mcp;
mod paths;
mod plugin;
mod report;
mod run;
mod show;
mod worker;

use arguments::{Arguments, Command};
use clap::{CommandFactory, Parser};
use failure::Failure;
use std::{
    io::{self, Write},
    process::ExitCode,
};

fn main() -> ExitCode {
    // First of all: this binary is also the launcher of sandboxed processes.
    forerunner_sandbox::init();
    let arguments = Arguments::parse();
    start_log(arguments.log.as_deref());
    let plugins = &arguments.plugins;
    let result = match arguments.command {
        Command::Run(run) => run::run(run, plugins),
        Command::Evaluate(evaluate) => evaluate::evaluate(evaluate, plugins),
        Command::Show(show) => show::show(&show),
        Command::Report(report) => report::report(&report),
        Command::Ideas(ideas) => ideas::ideas(&ideas),
        Command::Calls(calls) => calls::calls(&calls),
        Command::Log(log) => show::log(&log),
        Command::Plugin(plugin) => plugin::plugin(&plugin, plugins),
        Command::Hook(hook) => hook::hook(hook),
        Command::Mcp(mcp) => mcp::mcp(mcp, plugins),
        Command::Data(data) => data::data(data, plugins),
        Command::Worker => worker::worker(),
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "forerunner", &mut io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|failure: Failure| {
        // Nothing can be done about a closed standard error.
        drop(writeln!(io::stderr(), "error: {failure}"));
        failure.exit_code()
    })
}

/// Log records go to standard error; `--log` or FORERUNNER_LOG sets the level.
fn start_log(level: Option<&str>) {
    let from_environment = std::env::var("FORERUNNER_LOG").ok();
    let level = level.or(from_environment.as_deref()).unwrap_or("warn");
    let filter = tracing_subscriber::EnvFilter::builder().parse_lossy(level);
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false)
        .finish();
    // A second call in one process changes nothing.
    drop(tracing::subscriber::set_global_default(subscriber));
}
