//! Renders the events and results of a Forerunner run for people and scripts.
//!
//! Everything here turns values into text: into a `String`, or into a [`std::io::Write`] that the
//! caller opened. Nothing is printed, nothing is computed that the run does not know already, and
//! no clock is read: time comes from [`forerunner_runtime::event::Event::at`].
//!
//! Text that comes from programs, compilers and mutators is data and passes through [`sanitize`]
//! before it reaches a terminal. In JSON nothing is removed: [`to_json()`] writes it out.
//!
//! | what | item |
//! | --- | --- |
//! | a run as it happens | [`terminal::Live`] |
//! | files on their way here | [`terminal::Transfer`] |
//! | the same for scripts | [`ndjson::Writer`] |
//! | the result, answer first | [`summary()`] |
//! | how the best program came about | [`lineage()`], [`diff()`] |
//! | what was expected of ideas, and what came | [`ideas::Ideas`] |
//! | what models were asked | [`calls()`], [`call()`] |
//! | one evaluation as JSON or text | [`EvaluationReport`] |
//! | any value as JSON that is safe to look at | [`to_json()`] |
//! | a run as one page of HTML | [`html::Report`] |

mod calls;
mod chart;
mod diff;
mod evaluation;
mod evidence;
mod gain;
pub mod html;
pub mod ideas;
mod json;
mod lineage;
pub mod ndjson;
mod number;
mod profile;
mod record;
pub mod sanitize;
mod summary;
mod table;
pub mod terminal;

pub use calls::{call, call_json, calls};
pub use chart::{bar, sparkline};
pub use diff::diff;
pub use evaluation::EvaluationReport;
pub use json::to_json;
pub use lineage::{Step, lineage};
pub use number::{duration, number};
pub use summary::summary;
