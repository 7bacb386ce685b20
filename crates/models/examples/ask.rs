//! Asks a model once: `ask CONFIG.json QUESTION`, where the file holds one model's configuration.
//!
//! ```sh
//! echo '{"name": "local", "model": "qwen3-coder", "base_url": "http://localhost:8000/v1"}' > local.json
//! cargo run -p forerunner-models --example ask -- local.json "What is a Pareto front?"
//! ```

use forerunner_core::{Answered, Message, NoHost, Role};
use forerunner_models::{ModelConfig, Models, Question};
use std::io::Write;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(text), None) = (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: ask CONFIG.json QUESTION".into());
    };
    let config: ModelConfig = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let name = config.name.clone();
    let models = Models::new(vec![config])?;
    models.require_keys()?;
    let messages = vec![Message { role: Role::User, text }];
    let question = Question {
        model: &name,
        purpose: "example",
        messages,
        seed: 0,
        ordinal: 0,
        max_tokens: None,
    };
    let answer = models.ask(&question, &NoHost)?;
    let mut out = std::io::stdout().lock();
    match &answer.outcome {
        Answered::Reply { text, cut } => {
            // A model's text may hold control sequences: they stay out of the terminal.
            let shown: String =
                text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
            writeln!(out, "{shown}{}", if *cut { " [cut]" } else { "" })?;
        }
        Answered::Failed { kind, message } => writeln!(out, "{kind}: {message}")?,
    }
    let cost = answer.cost;
    writeln!(
        out,
        "({} tokens in, {} out, {:.6} dollars, {:.2} s, {} requests)",
        cost.tokens_in, cost.tokens_out, cost.dollars, answer.seconds, answer.attempts
    )?;
    Ok(())
}
