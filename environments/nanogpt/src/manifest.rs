//! The description of a data set: what its tokens stand for and what its four parts hold.

use crate::DataError;
use forerunner_core::Slice;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Name of the description in a data set's folder.
pub(crate) const MANIFEST: &str = "dataset.json";

/// What the tokens of a data set stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// Bytes; vocabulary 256.
    Bytes,
    /// GPT-2 byte pairs; vocabulary 50,257.
    Gpt2,
}

impl TokenKind {
    /// Number of token values.
    pub fn vocab(self) -> usize {
        match self {
            Self::Bytes => 256,
            Self::Gpt2 => 50_257,
        }
    }

    /// The unit of a loss over these tokens.
    pub fn loss_unit(self) -> &'static str {
        match self {
            Self::Bytes => "nats/byte",
            Self::Gpt2 => "nats/token",
        }
    }
}

/// One of the four parts of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// What trainers are served from.
    Train,
    /// Held out: what a search may see the loss on.
    Dev,
    /// Held out: read once per confirmed run.
    Val,
    /// Held out: read once per record.
    Vault,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Train, Self::Dev, Self::Val, Self::Vault];

    /// The name, as in the file's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dev => "dev",
            Self::Val => "val",
            Self::Vault => "vault",
        }
    }

    /// Name of the file in a data set's folder.
    pub fn file(self) -> String {
        format!("{}.bin", self.name())
    }

    /// Name of the list that stands in the folder instead, where the tokens are read from files
    /// elsewhere: [`ShardList`].
    pub(crate) fn list(self) -> String {
        format!("{}.json", self.name())
    }
}

impl From<Slice> for Part {
    fn from(slice: Slice) -> Self {
        match slice {
            Slice::Dev => Self::Dev,
            Slice::Val => Self::Val,
            Slice::Vault => Self::Vault,
        }
    }
}

/// Token files that a part is read from where they lie, in order: `train.json` of a data set that
/// was made of shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShardList {
    /// The files.
    pub(crate) files: Vec<ShardEntry>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShardEntry {
    /// Where it is: below the data set's folder, or an absolute path.
    pub(crate) path: PathBuf,
    /// Number of tokens.
    pub(crate) tokens: u64,
    /// SHA-256 of the whole file, in hex.
    pub(crate) sha256: String,
}

impl ShardList {
    /// The list of `part` in `dir`, or `None` where the part is a token file.
    pub(crate) fn read(dir: &Path, part: Part) -> Result<Option<Self>, DataError> {
        let path = dir.join(part.list());
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(DataError::io("read", &path))?,
        };
        let list: Self = serde_json::from_str(&text).map_err(|error| DataError::Manifest {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        if list.files.is_empty() {
            let reason = "it names no files".to_owned();
            return Err(DataError::Manifest { path, reason });
        }
        Ok(Some(list))
    }
}

/// The description of the tokens of one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Number of tokens.
    pub tokens: u64,
    /// SHA-256 of the token file, in hex; of several files, that of the one that would hold all their
    /// tokens ([`Tokens::sha256`](crate::Tokens::sha256)).
    pub sha256: String,
}

/// The description of a data set: `dataset.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name of the data set.
    pub name: String,
    /// What its tokens stand for.
    pub kind: TokenKind,
    /// Number of token values.
    pub vocab: usize,
    /// Where the material came from, for people.
    pub source: String,
    /// The four parts by name.
    pub slices: BTreeMap<String, FileEntry>,
}

impl Manifest {
    /// Reads `dataset.json` in `dir`.
    ///
    /// # Errors
    /// When there is none, or it does not describe a data set.
    pub fn read(dir: &Path) -> Result<Self, DataError> {
        let path = dir.join(MANIFEST);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(DataError::Missing(dir.to_owned()));
            }
            other => other.map_err(DataError::io("read", &path))?,
        };
        let bad = |reason: String| DataError::Manifest { path: path.clone(), reason };
        let manifest: Self = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        if manifest.vocab != manifest.kind.vocab() {
            return Err(bad(format!(
                "{:?} tokens have a vocabulary of {}, not {}",
                manifest.kind,
                manifest.kind.vocab(),
                manifest.vocab
            )));
        }
        if let Some(part) = Part::ALL.iter().find(|p| !manifest.slices.contains_key(p.name())) {
            return Err(bad(format!("slice `{}` is missing", part.name())));
        }
        Ok(manifest)
    }

    /// Identity of the content: equal for equal tokens, wherever they came from.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update((self.vocab as u64).to_le_bytes());
        for part in Part::ALL {
            let digest = self.slices.get(part.name()).map_or("", |entry| &entry.sha256);
            hash.update(format!("{}={digest};", part.name()));
        }
        crate::shard::hex(&hash.finalize()[..16])
    }
}
