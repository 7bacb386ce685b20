//! A scripted model on a local port: see `--help`.

use clap::Parser;
use forerunner_scripted_model::{FORMAT, Script, Server};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Answers like a model, from a script: for demonstrations, tests and benchmarks without a network.
///
/// Speaks OpenAI's chat completions and embeddings and Anthropic's messages, whole and streamed, on
/// 127.0.0.1.
/// The first line of the output is the base URL. Serves until it is killed.
#[derive(Debug, Parser)]
#[command(name = "forerunner-scripted-model", version, after_long_help = FORMAT)]
struct Arguments {
    /// The script; its format is described by `--help`.
    script: PathBuf,
    /// The port; 0 means any that is free.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Seconds before every reply, besides what the script says.
    #[arg(long, default_value_t = 0.0, value_parser = seconds)]
    delay: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    Ok(seconds)
}

fn main() -> ExitCode {
    match serve(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            _ = writeln!(std::io::stderr(), "error: {message}");
            ExitCode::from(2)
        }
    }
}

fn serve(arguments: &Arguments) -> Result<(), String> {
    let path = arguments.script.display();
    let text = std::fs::read_to_string(&arguments.script)
        .map_err(|error| format!("script `{path}` cannot be read: {error}"))?;
    let script = Script::parse(&text).map_err(|problem| {
        format!("`{path}` is no script: {problem}\nhint: `--help` describes the format")
    })?;
    let delay = Duration::from_secs_f64(arguments.delay);
    let server = Server::start_on(arguments.port, move |asked| script.answer(asked).after(delay))
        .map_err(|error| format!("no server on port {}: {error}", arguments.port))?;
    server.keep_last(0);
    writeln!(std::io::stdout(), "{}", server.base_url())
        .map_err(|error| format!("the base URL cannot be written: {error}"))?;
    loop {
        std::thread::park();
    }
}
