//! The mutator from outside: a scripted model answers, and what was asked is looked at.

mod embeddings;
mod ensemble;
mod hostile;
mod ideas;
mod prompts;
mod repairs;
mod replies;
mod stages;
mod toy;
mod wire;
