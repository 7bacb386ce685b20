//! A local server that speaks the wire formats of two providers and answers from a script: for
//! tests and benchmarks of whatever talks to models, without a model and without a network.
//!
//! It answers chat completions (`POST …/chat/completions`) as OpenAI does and messages
//! (`POST …/messages`) as Anthropic does, whole or as a stream, and embeddings
//! (`POST …/embeddings`) as OpenAI does, with their errors in their forms, and with every fault that
//! a client meets in life: see [`Reply`]. Whatever text a reply has, the vector of an embedding comes
//! from the words of the input, unless that text is a JSON list of numbers.
//!
//! ```
//! use forerunner_scripted_model::{Reply, Server};
//!
//! let server = Server::start(|asked| match asked.last_user().contains("weather") {
//!     true => Reply::text("Rain.").usage(12, 2),
//!     false => Reply::status(429).retry_after(1.0),
//! })?;
//! assert!(server.base_url().ends_with("/v1/"));
//! assert!(server.asked().is_empty());
//! # std::io::Result::Ok(())
//! ```

mod asked;
mod connection;
mod http;
mod reply;
mod script;
mod server;
mod wire;

pub use asked::{Asked, Wire};
pub use reply::{Reply, Stop};
pub use script::{FORMAT, Script};
pub use server::Server;
