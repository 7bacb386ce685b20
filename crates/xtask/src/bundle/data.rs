//! As much of a training text as the bench reads.

use anyhow::{Context, Result, ensure};
use std::{
    fs::{self, File},
    io::{BufWriter, Read, Write},
    path::{Path, PathBuf},
};

/// First numbers of a token file: 256 `i32`, of which the third is the number of tokens.
const MAGIC: i32 = 20_240_520;
const HEADER_BYTES: usize = 1024;

/// Copies the first `count` tokens of the first `*train*.bin` in `folder` to `to`, as a shard.
pub(super) fn cut(folder: &Path, count: usize, to: &Path) -> Result<()> {
    let from = first_shard(folder)?;
    let shown = from.display();
    let mut file = File::open(&from).with_context(|| format!("cannot read {shown}"))?;
    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header).with_context(|| format!("{shown} is too short for a shard"))?;
    let number = |at: usize| i32::from_le_bytes([0, 1, 2, 3].map(|byte| header[4 * at + byte]));
    ensure!(number(0) == MAGIC && number(1) == 1, "{shown} is no token file");
    let held = number(2);
    ensure!(
        usize::try_from(held).is_ok_and(|held| held >= count),
        "{shown} holds {held} tokens, the bench reads {count}"
    );
    let mut tokens = vec![0; 2 * count];
    file.read_exact(&mut tokens).with_context(|| format!("{shown} ends early"))?;
    header[8..12].copy_from_slice(&i32::try_from(count)?.to_le_bytes());
    let file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    let mut file = BufWriter::new(file);
    file.write_all(&header)?;
    file.write_all(&tokens)?;
    Ok(file.flush()?)
}

fn first_shard(folder: &Path) -> Result<PathBuf> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut shards: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    shards.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.contains("train") && name.ends_with(".bin")
    });
    shards.sort();
    let first = shards.into_iter().next();
    first.with_context(|| format!("{} holds no `*train*.bin`", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_cut_to_what_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let shard = |name: &str, numbers: [i32; 3], tokens: &[u16]| {
            let mut bytes = vec![0; HEADER_BYTES];
            for (at, number) in numbers.into_iter().enumerate() {
                bytes[4 * at..4 * at + 4].copy_from_slice(&number.to_le_bytes());
            }
            bytes.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
            fs::write(folder.path().join(name), bytes).unwrap();
        };
        shard("text_train_2.bin", [MAGIC, 1, 1], &[9]);
        shard("text_train_1.bin", [MAGIC, 1, 4], &[1, 2, 3, 500]);
        shard("text_val_0.bin", [MAGIC, 1, 0], &[]);
        let to = folder.path().join("cut");
        cut(folder.path(), 3, &to).unwrap();
        let bytes = fs::read(&to).unwrap();
        assert_eq!(bytes[..12], [MAGIC, 1, 3].map(i32::to_le_bytes).concat());
        assert_eq!(bytes[HEADER_BYTES..], [1, 0, 2, 0, 3, 0]);
        let error = cut(folder.path(), 5, &to).unwrap_err().to_string();
        assert!(error.contains("holds 4 tokens, the bench reads 5"), "{error}");
        shard("text_train_1.bin", [1, 1, 4], &[1, 2, 3, 4]);
        let error = cut(folder.path(), 3, &to).unwrap_err().to_string();
        assert!(error.contains("is no token file"), "{error}");
    }
}
