//! What authors of verification hooks need: a folder to start from, a build, and evidence to try
//! the hook on.
//!
//! ```text
//! new    template.rs    a folder with a working hook, in Rust or in C
//! build  builder.rs     source → core module → component, in one file with a digest
//! check  trial.rs       in the host that runs use, without evidence
//! run    recorded.rs    the same with the evidence of an evaluation that was recorded
//! ```
//!
//! The host itself is `forerunner-verify`.

mod builder;
mod component;
mod recorded;
mod template;
mod trial;

pub use builder::{BuildError, Built, Recipe, Tools, build};
pub use component::{ComponentError, WIT, encode, sha256};
pub use recorded::{Recorded, RecordedError};
pub use template::{Language, TemplateError, create};
pub use trial::{Checked, OnNothing, Tried, check, run};
