//! Tokens in a fixed order.

use std::fs;
use std::path::{Path, PathBuf};

use forerunner_nanogpt_protocol::BatchRequest;

use super::Result;

/// First numbers of a token file, little-endian `i32`: 256 of them stand before the tokens.
const MAGIC: i32 = 20_240_520;
const VERSION: i32 = 1;
const HEADER_BYTES: usize = 1024;

/// What is read.
pub(crate) enum Text {
    /// A shard of tokens.
    Shard { path: PathBuf, tokens: Vec<u16> },
    /// Numbers that stand for no text.
    Random { vocab: usize },
}

impl Text {
    /// A token file, or the first `*train*.bin` of a folder, by name.
    pub(crate) fn open(path: &Path, vocab: usize) -> Result<Self> {
        let path = if path.is_dir() { train_shard(path)? } else { path.to_owned() };
        let shown = path.display();
        let bytes = fs::read(&path).map_err(|error| format!("cannot read {shown}: {error}"))?;
        let number = |index: usize| {
            let bytes = bytes.get(4 * index..4 * index + 4).and_then(|bytes| bytes.try_into().ok());
            i32::from_le_bytes(bytes.unwrap_or_default())
        };
        let (pairs, odd) = bytes.get(HEADER_BYTES..).unwrap_or_default().as_chunks::<2>();
        let is_whole = odd.is_empty() && usize::try_from(number(2)) == Ok(pairs.len());
        if number(0) != MAGIC || number(1) != VERSION || !is_whole {
            return Err(
                format!("{shown} is no token file of version {VERSION}, or not whole").into()
            );
        }
        let tokens: Vec<u16> = pairs.iter().map(|&pair| u16::from_le_bytes(pair)).collect();
        if let Some(token) = tokens.iter().find(|&&token| usize::from(token) >= vocab) {
            return Err(format!("{shown} holds token {token}, not below {vocab}").into());
        }
        Ok(Self::Shard { path, tokens })
    }

    /// Where the tokens come from, for people.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Shard { path, .. } => {
                path.file_name().unwrap_or_default().to_string_lossy().into_owned()
            }
            Self::Random { .. } => "random".to_owned(),
        }
    }

    /// The tokens of a step, sequence by sequence.
    pub(crate) fn batch(&self, step: usize, request: BatchRequest) -> Result<Vec<u16>> {
        let (batch, length) = (request.batch as usize, request.length as usize);
        let mut served = Vec::with_capacity(batch * (length + 1));
        for sequence in 0..batch {
            let start = (step * batch + sequence) * length;
            match self {
                Self::Shard { path, tokens } => {
                    let window = tokens.get(start..=start + length).ok_or_else(|| {
                        format!(
                            "{} ends in step {step}, with {} tokens\nhint: give a longer file",
                            path.display(),
                            tokens.len()
                        )
                    })?;
                    served.extend_from_slice(window);
                }
                Self::Random { vocab } => {
                    served.extend((start..=start + length).map(|at| random_token(at, *vocab)));
                }
            }
        }
        Ok(served)
    }
}

/// The number at a place, from multiplicative hashing (Knuth, volume 3, 6.4); the other implementation
/// has the same line.
fn random_token(at: usize, vocab: usize) -> u16 {
    let mixed = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    (mixed % vocab as u64) as u16
}

fn train_shard(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder)
        .map_err(|error| format!("cannot read the folder {}: {error}", folder.display()))?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.contains("train") && name.ends_with(".bin")
        })
        .collect();
    found.sort();
    found.into_iter().next().ok_or_else(|| {
        format!(
            "{} holds no `*train*.bin`\nhint: leave --data out for random tokens",
            folder.display()
        )
        .into()
    })
}
