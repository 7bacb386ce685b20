//! Mutator `tuner`: searches the numeric constants of a program, without a model.
//!
//! It reads programs as text. Constants that carry an annotation in the comment above them are
//! searched within the range that it gives:
//!
//! ```text
//! /// Peak learning rate.
//! ///
//! /// tune: log 1e-4 3e-2
//! const LEARNING_RATE: f64 = 3e-3;
//! ```
//!
//! The kinds are `log LO HI`, `logit LO HI`, `linear LO HI`, `int LO HI`, `choice A B C`; an
//! `int` may be tied to another constant by `divides NAME` or `multiple NAME`. In a program
//! without any annotation every evident constant is searched: a number bound to a name at the top
//! level, in Rust (`const`) or in files like TOML or Python (`name = 1.5`). Nothing but the
//! numbers is ever changed, and they keep the way they were written.
//!
//! # How it searches
//!
//! *Operators* suggest children: one constant moved, several moved, a successful move repeated or
//! combined with another, constants crossed over from inspirations, by themselves or as scaled
//! differences. Step sizes belong to a constant and a direction: success lengthens, failure
//! shortens. A small *surrogate* (Bayesian regression of second degree on everything measured so
//! far, in coordinates in which equal steps matter equally) predicts each suggestion; the one
//! with the greatest expected improvement, times the probability that it still reaches the
//! target, is proposed. Because the surrogate learns the lower objectives as well, it can trade
//! them: where the clock counts only when a loss is reached, what lowers the loss pays for fewer
//! steps.
//!
//! # Invariants
//!
//! - Memory is bounded, whatever the length of the run.
//! - No program is proposed that is the parent or was proposed before (among the last 8,192).
//! - What it knows comes from outcomes and open proposals alone, so a resumed run that observes
//!   the same outcomes again continues in the same way.

mod config;
mod credit;
mod domain;
mod hash;
mod history;
mod judge;
mod operators;
mod source;
mod space;
mod surrogate;
mod tuner;

pub use config::Config;
pub use tuner::Tuner;

forerunner_sdk::export_plugin! { mutator "tuner" => Tuner::new }
