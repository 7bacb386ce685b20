//! Mutator `llm`: asks language models for ideas, and for the changes that carry them out.
//!
//! ```
//! use forerunner_llm::{Ask, Config, Llm, Query};
//! use forerunner_sdk::{Answer, Answered, Cost, Host, Result};
//!
//! /// Stands in for the models that a configuration names.
//! struct Parrot;
//!
//! impl Ask for Parrot {
//!     fn ask(&self, query: &Query<'_>, _host: &dyn Host) -> Result<Answer> {
//!         let text = format!("you asked for: {}", query.purpose);
//!         let outcome = Answered::Reply { text, cut: false };
//!         Ok(Answer { outcome, cost: Cost::default(), seconds: 0.0, attempts: 1 })
//!     }
//!     fn has_price(&self, _model: &str) -> bool {
//!         false
//!     }
//! }
//!
//! let text = r#"{"models": [{"name": "parrot", "model": "grey"}], "prompt_tokens": 16000}"#;
//! let config: Config = serde_json::from_str(text).unwrap();
//! let mutator = Llm::asking(config, Box::new(Parrot)).unwrap();
//!
//! let wrong = text.replace("16000", "16");
//! let config: Config = serde_json::from_str(&wrong).unwrap();
//! let error = Llm::asking(config, Box::new(Parrot)).err().unwrap();
//! assert!(error.to_string().contains("`prompt_tokens`"));
//! ```
//!
//! # How a proposal is made
//!
//! In the *template* stage one call gives an idea and the change at once. Later, or when the search
//! stagnates, ideas come first ([`Schedule`]): one call writes an idea in words, a critic may look it
//! over, and another call carries exactly that out (*meta*). With some probability the change is a
//! whole program instead of search/replace blocks (*rewrite*). A change that fails its check goes
//! back with the findings, in the same conversation.
//!
//! Answers are read leniently. One that cannot be read is asked for once more with the complaint, an
//! idea or a change that was there before as often as `duplicates` says, a vetoed idea as often as
//! `critic.rounds` says. Then the proposal fails, and the error says why and what it cost.
//!
//! Of several [`Config::models`] one is chosen for each proposal, by weight or by a bandit. When it
//! cannot be had, the one after it in the configuration is asked.
//!
//! # What a question shows
//!
//! The system part (task, manual, rules, forms of answers), which is the same for all calls of a run,
//! then what is the same for all calls of a proposal (program, telemetry, other programs, earlier
//! ideas, failed attempts), then what is asked: providers' caches of prompts work. Texts are
//! templates in `prompts/`, and a folder of one's own may replace any of them.
//!
//! The budget in tokens is an estimate ([`estimated_tokens`]). It goes to the system part and the
//! program, which are never cut, then to telemetry, failed attempts, earlier ideas and other programs,
//! each of which loses what comes last in it when it does not fit; other programs lose their sources
//! first. The question says what was left out, and so does [`Details::cut`]. What a model itself said
//! in the same conversation comes on top.
//!
//! # Invariants
//!
//! - What is asked follows from configuration, request, outcomes observed before the proposal began,
//!   and answers. There is no clock here, no order of threads or of hash tables, and no state that
//!   proposals leave for one another, but the conversations of their own repairs. Two proposals in
//!   flight at the same time may therefore have the same idea; the host drops equal programs.
//! - A run that is resumed, and observes the same outcomes again, goes on in the same way. Repairs
//!   happen in the process that made the proposal.
//! - Memory is bounded whatever the length of the run: 16,384 outcomes, 128 conversations, 2,304 vectors.
//!   What they cost to look through does not grow with their number.
//! - Calls for a proposal are bounded: two answers that cannot be read for each stage, `duplicates`,
//!   `critic.rounds`, and for each call as many models as there are; with embeddings one more for each
//!   idea, which never fails a proposal.
//! - What programs, compilers and models wrote is stripped of control characters, capped, and stands
//!   between markers that name a digest of it, so that it cannot close them.
//! - Nothing of a reply is run, opened or looked up: it is a change for the host to apply, or words.
//! - Prices, keys and the network are not known here, but to `forerunner-models`.
//!
//! Similar ideas are found by their words, and with [`Config::embeddings`] also by what a model for
//! embeddings makes of them; ideas whose summaries name different numbers, or opposite directions, stay
//! different ideas in any case.

mod ask;
mod bandit;
mod config;
mod context;
mod details;
mod embedding;
mod history;
mod mutator;
mod novelty;
mod plan;
mod prompts;
mod propose;
pub mod reply;
mod session;
mod text;
mod values;
mod vectors;

pub use ask::{Ask, Query};
pub use config::{
    Config, CreditPer, CriticConfig, EmbeddingConfig, Ensemble, ModelEntry, Roles, Schedule,
};
pub use details::{Cut, Details, Embedding, Opinion};
pub use mutator::Llm;
pub use novelty::SIMILARITY;
pub use text::estimated_tokens;

forerunner_sdk::export_plugin! { mutator "llm" => Llm::new }
