//! What a fetch says on its way, and what it brings.

use serde::Serialize;
use std::time::Duration;

/// What happens on the way. Every file begins with [`Event::Begun`] or [`Event::Checking`] and ends
/// with [`Event::Done`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The hub has described a file that is not here yet.
    Begun {
        /// Its name.
        file: String,
        /// Its length in bytes.
        bytes: u64,
        /// Bytes of it that are here from an earlier fetch.
        here: u64,
    },
    /// More bytes of that file have come.
    Received {
        /// Bytes of it that are here.
        here: u64,
    },
    /// A file is here and is being compared with its record.
    Checking {
        /// Its name.
        file: String,
    },
    /// A file that was here is damaged and is fetched again.
    Damaged {
        /// Its name.
        file: String,
    },
    /// An attempt failed; the next one comes after a pause.
    Waiting {
        /// The file.
        file: String,
        /// What went wrong.
        reason: String,
        /// The pause.
        pause: Duration,
    },
    /// A file is whole, checked and in its place.
    Done(FetchedFile),
}

/// A file that is whole, checked and in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FetchedFile {
    /// Its name.
    pub file: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Tokens in it.
    pub tokens: u64,
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// Bytes that came over the network this time.
    pub received: u64,
}

/// A finished fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fetched {
    /// The files: first the one that is held out, then those to train on in order.
    pub files: Vec<FetchedFile>,
    /// The commit of the repository, where anything came from the hub this time.
    pub commit: Option<String>,
}
