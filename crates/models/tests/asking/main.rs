//! Asking models through their real wire formats: a scripted server on this machine answers, and
//! every test counts the requests that it saw.

mod breaker;
mod canned;
mod kinds;
mod limits;
mod memory;
mod secrets;
mod vectors;

use forerunner_core::{Answer, Answered, Host, Message, Role};
use forerunner_models::{ModelConfig, Models, Pace, Question};
use forerunner_scripted_model::Server;
use forerunner_sdk::testkit::RecordingHost;

/// Both formats, streamed and whole.
const MODES: [(&str, bool); 4] =
    [("openai", true), ("openai", false), ("anthropic", true), ("anthropic", false)];

/// A model at `server`, in a hurry: pauses are short, and the circuit stays closed.
fn config(server: &Server) -> ModelConfig {
    let mut config = ModelConfig::new("m", "scripted-1");
    config.provider = Some("openai".to_owned());
    config.base_url = Some(server.base_url());
    config.timeout_seconds = 30.0;
    config.idle_timeout_seconds = 30.0;
    config.pace = Pace {
        backoff: 0.002,
        backoff_cap: 0.01,
        retry_after_cap: 0.05,
        circuit_failures: 0,
        circuit_pause: 3600.0,
        ..Pace::default()
    };
    config
}

fn question(ordinal: u32) -> Question<'static> {
    let said = |role, text: &str| Message { role, text: text.to_owned() };
    Question {
        model: "m",
        purpose: "idea",
        messages: vec![
            said(Role::System, "You are brief."),
            said(Role::User, "What could be faster?"),
        ],
        seed: 7,
        ordinal,
        max_tokens: None,
    }
}

fn host() -> RecordingHost {
    RecordingHost::new().expect("temporary folder")
}

fn models(config: ModelConfig) -> Models {
    Models::new(vec![config]).expect("a good configuration")
}

fn ask(models: &Models, host: &dyn Host) -> Answer {
    models.ask(&question(0), host).expect("an answer")
}

/// The kind of a failure; `reply` and `cut` for replies.
fn kind(answer: &Answer) -> &str {
    match &answer.outcome {
        Answered::Reply { cut: false, .. } => "reply",
        Answered::Reply { cut: true, .. } => "cut",
        Answered::Failed { kind, .. } => kind,
    }
}

/// The reply, or the message of the failure.
fn text(answer: &Answer) -> &str {
    match &answer.outcome {
        Answered::Reply { text, .. } => text,
        Answered::Failed { message, .. } => message,
    }
}
