//! Programs: the source that mutators may rewrite.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fmt};

/// The source a mutator may rewrite: one or more files, by relative path.
///
/// Paths use `/`, are relative and never contain `..`; the workbench refuses others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Program {
    /// Path of each file and its text.
    pub files: BTreeMap<String, String>,
}

impl Program {
    /// A program of one file.
    ///
    /// ```
    /// let program = forerunner_core::Program::single("main.rs", "fn main() {}");
    /// assert_eq!(program.files.len(), 1);
    /// ```
    pub fn single(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { files: BTreeMap::from([(path.into(), text.into())]) }
    }

    /// The content address: equal for equal files, whatever made them.
    pub fn id(&self) -> ProgramId {
        let mut hash = Sha256::new();
        for (path, text) in &self.files {
            // Lengths keep `("a", "bc")` and `("ab", "c")` apart.
            hash.update((path.len() as u64).to_le_bytes());
            hash.update(path);
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        let digest = hash.finalize();
        ProgramId(digest[..16].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Size of all files in bytes.
    pub fn len_bytes(&self) -> usize {
        self.files.values().map(String::len).sum()
    }
}

/// Content address of a [`Program`]: the first 128 bits of a SHA-256, in hex.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProgramId(pub String);

impl ProgramId {
    /// The first eight digits, for people.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

impl fmt::Display for ProgramId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_is_content_and_nothing_else() {
        let one = Program::single("a.rs", "x");
        assert_eq!(one.id(), Program::single("a.rs", "x").id());
        assert_ne!(one.id(), Program::single("a.rs", "y").id());
        assert_ne!(Program::single("a", "bc").id(), Program::single("ab", "c").id());
        assert_eq!(one.id().0.len(), 32);
        assert_eq!(one.id().short().len(), 8);
    }
}
