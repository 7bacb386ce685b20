//! How fast a compiled NanoGPT program trains on a device, for comparison with the same model in
//! PyTorch (`environments/nanogpt/bench-gpu`).
//!
//! Starts a program as a supervisor does, serves it tokens in a fixed order, and prints one JSON object.
//! Sequence `i` of step `s` is the `T + 1` tokens from `(s · B + i) · T` on: the text from its start, so
//! that another implementation can read the same without asking.
//!
//! ```text
//! gpu_bench --program FILE [--data PATH] [--weights FILE] [--collect steady|all] [--warm-up 20]
//!           [--matmul-rate FLOPS] [--device cuda|cpu] [--seed 1] [--vocab 50257] [--context 1024]
//! ```
//!
//! `--weights` is written: the parameters before the first step, as safetensors in f32, rounded to bf16
//! as every checkpoint is. A program that rounds its own parameters so before it begins starts from these
//! very numbers; `cargo xtask bundle --program` makes one of the reference program.
//!
//! Nothing here waits for the device. A program queues work ahead, so that the time of single steps says
//! when its host was held up; their sum, over all steps after the warm-up, says how fast it trains.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the figures are its purpose")]

mod arguments;
mod figures;
mod text;
mod trainer;
mod weights;

use std::process::ExitCode;

use arguments::{Arguments, HELP};
use text::Text;
use trainer::Trainer;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    if given.iter().any(|word| word == "--help" || word == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match Arguments::parse(&given).and_then(|arguments| measure(&arguments)) {
        Ok(figures) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<serde_json::Value> {
    let text = match &arguments.data {
        Some(path) => Text::open(path, arguments.vocab)?,
        None => {
            eprintln!(
                "NOTE: no --data, so the program trains on RANDOM TOKENS: its speed means something, \
                 its loss does not"
            );
            Text::Random { vocab: arguments.vocab }
        }
    };
    let run = Trainer::start(arguments)?.train(&text, arguments)?;
    if let Some(path) = &arguments.weights {
        weights::write(path, &run.initial)?;
    }
    figures::figures(arguments, &text, &run)
}
