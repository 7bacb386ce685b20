//! Reading answers of models, which are nonsense now and then.

mod change;
mod idea;
mod json;
mod verdict;

pub(crate) use change::digest;
pub use change::{Form, read_change};
pub use idea::{Sketch, read_idea};
pub use verdict::{Opined, read_verdict};
