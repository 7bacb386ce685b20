//! The one error type that crosses the plugin boundary.

use serde::{Deserialize, Serialize};

/// What a plugin may answer instead of a value.
///
/// A *program* that fails is not an error: it is an [`crate::Evaluation`] whose verdict is
/// [`crate::Verdict::Failed`]. An error means that the plugin itself could not do its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", content = "message", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Error {
    /// The host asked for an end and the plugin complied.
    #[error("cancelled")]
    Cancelled,
    /// The configuration is wrong; the text names the field.
    #[error("bad configuration: {0}")]
    Config(String),
    /// The plugin panicked; the text is the panic's message and place.
    #[error("the plugin panicked: {0}")]
    Panicked(String),
    /// A value could not be read by the other side of the boundary.
    #[error("unreadable value at the plugin boundary: {0}")]
    Codec(String),
    /// Anything else, in the plugin's words.
    #[error("{0}")]
    Failed(String),
}

/// Shorthand for results that cross the plugin boundary.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Wraps any displayable failure, keeping its sources.
    pub fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// A configuration error in the field called `field`.
    pub fn config(field: &str, why: impl std::fmt::Display) -> Self {
        Self::Config(format!("`{field}`: {why}"))
    }
}
