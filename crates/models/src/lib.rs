//! Asks language models, whoever provides them.
//!
//! [`Models`] holds the models that a run may ask, each described by a [`ModelConfig`]. One call,
//! [`Models::ask`], does all there is to do about a question: it looks whether the host knows the
//! answer already (a run that is resumed or replayed), waits for its turn, asks, asks again after
//! failures that pass, and hands what came of it to the host, whatever it was.
//!
//! ```no_run
//! use forerunner_core::{Message, NoHost, Role};
//! use forerunner_models::{ModelConfig, Models, Question};
//!
//! # fn main() -> forerunner_core::Result<()> {
//! let mut config = ModelConfig::new("local", "qwen3-coder");
//! config.base_url = Some("http://localhost:8000/v1".to_owned());
//! let models = Models::new(vec![config])?;
//! let question = Question {
//!     model: "local",
//!     purpose: "idea",
//!     messages: vec![Message { role: Role::User, text: "What could be faster?".to_owned() }],
//!     seed: 7,
//!     ordinal: 0,
//!     max_tokens: Some(500),
//! };
//! let answer = models.ask(&question, &NoHost)?;
//! # let _ = answer;
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! - **No lost question.** Every call ends with an [`forerunner_core::Answer`]: a text, or a failure
//!   of a stable kind. Errors are left for an end that the host asked for, a replay's missing call and
//!   a host that cannot remember.
//! - **No storm.** One call sends at most `attempts` requests, with growing pauses drawn at random and
//!   never before the time that the provider asked for (up to a cap). After some failed calls in a row
//!   the model's circuit opens: calls fail at once, and one call at a time tries whether it is back.
//!   Nothing below retries on its own, and redirects are not followed.
//! - **Cancelled within a tenth of a second**, while waiting as well as in mid-request.
//! - **Keys stay where they are.** They come from the environment or a file, are never part of a call,
//!   and are cut out of every text that leaves this crate. The libraries below log nothing: their
//!   threads have no subscriber.
//!
//! # What is not bounded
//!
//! The library that speaks the providers' formats reads a whole body where replies are not streamed,
//! the body of an error, and one event of a stream at a time, however long; only time limits these
//! (`timeout_seconds`, `idle_timeout_seconds`). The text of a streamed reply is bounded in size
//! (`max_reply_bytes`): reading stops there.

mod circuit;
mod config;
mod failure;
mod gate;
mod http;
mod library;
mod model;
mod models;
mod prices;
mod provider;
mod secret;
mod seen;
mod text;
mod wire;

pub use config::{ModelConfig, Pace};
pub use models::{Models, Question};
pub use prices::{Listed, Price, price_table};
