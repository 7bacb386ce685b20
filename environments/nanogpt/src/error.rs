//! What can be wrong with data, and how to put it right.

use std::path::{Path, PathBuf};

/// A data set or its material cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as in "read".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// No data set there.
    #[error(
        "no data set in `{}`\nhint: run `forerunner data prepare` (for the track `gpt2-124m`: \
         `forerunner data fetch fineweb10B`), or set `data` to a folder that holds a `dataset.json`",
        .0.display()
    )]
    Missing(PathBuf),
    /// `dataset.json` is not one.
    #[error(
        "`{}` does not describe a data set: {reason}\nhint: make it again with \
         `forerunner data prepare`",
        path.display()
    )]
    Manifest {
        /// The description.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The first number is not the shard format's.
    #[error(
        "`{}` is not a token shard: it starts with {found}, not {}\nhint: give `.bin` shards in the \
         FineWeb format, or text with `--text`",
        path.display(), crate::shard::MAGIC
    )]
    Magic {
        /// The file.
        path: PathBuf,
        /// What stands in place of the magic number.
        found: i32,
    },
    /// The second number is not a version we know.
    #[error(
        "`{}` is a token shard of version {found}, only version {} is known\nhint: convert it",
        path.display(), crate::shard::VERSION
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i32,
    },
    /// The file's length is not what its header promises.
    #[error(
        "`{}` is damaged: its header promises {promised} tokens ({expected} bytes), it has {held} \
         bytes\nhint: copy or download it again",
        path.display()
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Tokens promised by the header.
        promised: i64,
        /// Bytes that a file with so many tokens has.
        expected: u64,
        /// Bytes it has.
        held: u64,
    },
    /// A token outside the vocabulary.
    #[error(
        "`{}` holds token {token} at position {index}, but the vocabulary has {vocab} tokens\n\
         hint: the file is damaged or was made with another tokenizer",
        path.display()
    )]
    Token {
        /// The file.
        path: PathBuf,
        /// Position of the token.
        index: usize,
        /// The token.
        token: u16,
        /// Number of token values.
        vocab: usize,
    },
    /// The file is not the one that was prepared.
    #[error(
        "`{}` has changed since it was prepared: its hash is not the one in `dataset.json`\nhint: \
         make the data set again with `forerunner data prepare`",
        .0.display()
    )]
    Changed(PathBuf),
    /// A shard that a data set is read from is no longer there.
    #[error(
        "`{}` is gone: the data set reads its training text from there\nhint: put it back, or make the \
         data set again with `forerunner data prepare` or `forerunner data fetch`",
        .0.display()
    )]
    ShardGone(PathBuf),
    /// Sequences are to begin with documents, and there are none.
    #[error(
        "the training text of data set `{0}` is not divided into documents by GPT-2's end-of-text \
         (50256), or none is long enough\nhint: leave out `stream = \"documents\"`, or use shards in the \
         FineWeb format"
    )]
    NoDocuments(String),
    /// Nothing to work with.
    #[error("{what} is empty\nhint: {hint}")]
    Empty {
        /// What holds nothing.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// Too little to fill a slice.
    #[error(
        "slice `{slice}` of data set `{name}` holds {held} tokens, the track needs {needed}\nhint: \
         prepare a larger corpus"
    )]
    Small {
        /// Name of the data set.
        name: String,
        /// Name of the slice.
        slice: &'static str,
        /// Tokens in it.
        held: usize,
        /// Tokens asked for.
        needed: usize,
    },
    /// The list of locked dependencies could not be had.
    #[error(
        "cannot list the locked dependencies of `{}`: {reason}\nhint: run `cargo fetch --locked` \
         there first, or prepare a corpus of your own with `--text`",
        manifest.display()
    )]
    Dependencies {
        /// The Cargo manifest.
        manifest: PathBuf,
        /// Cargo's words.
        reason: String,
    },
    /// A crate of the corpus is not among the locked dependencies.
    #[error(
        "crate `{name}` of the corpus is not a locked dependency of `{}`\nhint: name another in \
         corpus.toml",
        manifest.display()
    )]
    NotLocked {
        /// The crate.
        name: String,
        /// The Cargo manifest.
        manifest: PathBuf,
    },
    /// Something else stands where the data set should go.
    #[error(
        "`{}` exists and is not a data set, it is left alone\nhint: choose another folder with \
         `--out`",
        .0.display()
    )]
    Occupied(PathBuf),
    /// A shard is a file of the data set that is to be replaced.
    #[error(
        "`{}` is part of the data set that would be replaced, and the new one would read it\nhint: \
         choose another folder with `--out`",
        .0.display()
    )]
    Replaced(PathBuf),
    /// More tokens than one file can hold.
    #[error(
        "`{}` would hold more than {} tokens\nhint: prepare fewer shards",
        .0.display(), i32::MAX
    )]
    TooLarge(PathBuf),
}

impl DataError {
    /// Turns a failure of the operating system into an error that names action and path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

impl From<DataError> for forerunner_core::Error {
    fn from(error: DataError) -> Self {
        Self::failed(error)
    }
}
