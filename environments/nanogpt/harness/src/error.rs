//! What stops a program.

/// What the functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a program stopped; it goes to standard error and back to whoever wrote the program.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor operation failed.
    #[error("{0}")]
    Tensor(String),
    /// The conversation with the supervisor failed.
    #[error("the supervisor's pipe: {0}")]
    Protocol(#[from] forerunner_nanogpt_protocol::Error),
    /// The supervisor sent something else than what had to come.
    #[error("the supervisor sent {got} where {expected} had to come")]
    Unexpected {
        /// What came.
        got: &'static str,
        /// What had to come.
        expected: &'static str,
    },
    /// The binary was started in a way that means nothing.
    #[error(
        "unknown mode `{0}` (known: train, evaluate, loss)\nhint: run it with `forerunner evaluate`"
    )]
    Mode(String),
    /// The program declared a parameter that cannot be.
    #[error("parameter `{name}`: {reason}")]
    Parameter {
        /// Name of the parameter.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The track is measured on a GPU, and there is none that can be used.
    #[error("{0}")]
    NoDevice(String),
    /// The program's own complaint.
    #[error("{0}")]
    Program(String),
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(error.to_string())
    }
}

impl Error {
    /// A program's own complaint; [`crate::bail`] makes it from a format string.
    pub fn program(message: impl Into<String>) -> Self {
        Self::Program(message.into())
    }
}
