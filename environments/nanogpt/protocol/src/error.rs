//! What can go wrong on the wire.

/// A frame could not be read, written or understood.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pipe broke or closed in the middle of a frame.
    #[error("the pipe failed while a frame was passing")]
    Io(#[from] std::io::Error),
    /// The other side closed the pipe between two frames.
    #[error("the other side closed the pipe")]
    Closed,
    /// A frame announces more bytes than the reader is ready to hold.
    #[error("frame `{kind}` announces {length} bytes, more than the limit of {limit}")]
    TooLong {
        /// Kind of the frame.
        kind: &'static str,
        /// Announced payload length in bytes.
        length: u64,
        /// The reader's limit in bytes.
        limit: u64,
    },
    /// The kind byte stands for no message that this side receives.
    #[error("frame kind {0} is unknown on this side of the pipe")]
    UnknownKind(u8),
    /// The payload does not have the form that its kind demands.
    #[error("frame `{kind}` is malformed: {reason}")]
    Malformed {
        /// Kind of the frame.
        kind: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    pub(crate) fn malformed(kind: &'static str, reason: impl Into<String>) -> Self {
        Self::Malformed { kind, reason: reason.into() }
    }

    pub(crate) fn json(kind: &'static str, error: &serde_json::Error) -> Self {
        Self::malformed(kind, error.to_string())
    }
}
