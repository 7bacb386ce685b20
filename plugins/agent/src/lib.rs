//! Mutator `agent`: a command-line coding agent, or any command, changes the program.
//!
//! For each proposal the agent is started in a scratch folder that holds the program's files,
//! `BRIEF.md` (task, manual, score, what to leave behind), `TELEMETRY.md`, `HISTORY.md`,
//! `inspirations/` and a command `./check`, which looks the program over as the host will. What the
//! folder's program is when the agent has ended is the proposal, and `IDEA.md` the idea behind it.
//! `docs/agents.md` describes it for operators, with the command lines of two real agents.
//!
//! ```
//! use forerunner_agent::{Agent, Config};
//!
//! let config: Config = serde_json::from_str(r#"{"command": ["my-agent", "{prompt}"]}"#).unwrap();
//! Agent::new(config).unwrap();
//! let error = Agent::new(Config::default()).unwrap_err();
//! assert!(error.to_string().contains("`command`"));
//! ```
//!
//! # Invariants
//!
//! - When a call returns, no process of the agent is left, and no folder.
//! - What the agent leaves is data: nothing of it is followed, executed or waited for.
//! - A proposal is one [`forerunner_sdk::Call`]. Where it is recorded, no agent is started.
//! - Memory is bounded, whatever the agent prints or leaves and however long the run is.

mod agent;
mod briefing;
mod checks;
mod config;
mod cost;
mod harvest;
mod history;
mod idea;
mod output;
mod scratch;
mod session;
mod text;

pub use agent::Agent;
pub use config::{Config, CostSource};

/// The form of what an agent finds in its folder; part of every recorded call.
const VERSION: u32 = 1;

forerunner_sdk::export_plugin! { mutator "agent" => Agent::new }
