//! Data sets from existing token shards.

use super::folder::Folder;
use crate::{
    DataError, Manifest,
    manifest::{Part, TokenKind},
    shard::Shard,
};
use std::path::{Path, PathBuf};

/// Makes a GPT-2 data set from shards in the FineWeb format: `train` in order, and `val` divided
/// into three equal runs of tokens, dev, val and vault.
///
/// # Errors
/// When a shard is absent or damaged, holds a token outside the vocabulary, or there are none.
pub fn from_shards(
    train: &[PathBuf],
    val: &[PathBuf],
    name: &str,
    out: &Path,
) -> Result<Manifest, DataError> {
    let open = |paths: &[PathBuf], what: &str| -> Result<Vec<Shard>, DataError> {
        if paths.is_empty() {
            let hint = "give shards for training and for validation";
            return Err(DataError::Empty { what: format!("the list of {what} shards"), hint });
        }
        let shards = paths.iter().map(|path| Shard::open(path)).collect::<Result<Vec<_>, _>>()?;
        shards.iter().try_for_each(|shard| shard.check_tokens(TokenKind::Gpt2.vocab()))?;
        Ok(shards)
    };
    let (train, val) = (open(train, "training")?, open(val, "validation")?);
    let mut folder = Folder::create(name, out, TokenKind::Gpt2)?;
    folder.write(Part::Train, |file| {
        train.iter().try_for_each(|shard| file.push(shard.tokens(0..shard.len())))
    })?;
    let held_out = || val.iter().flat_map(|shard| shard.tokens(0..shard.len()));
    let third = held_out().count() / 3;
    for (index, part) in [Part::Dev, Part::Val, Part::Vault].into_iter().enumerate() {
        folder.write(part, |file| file.push(held_out().skip(index * third).take(third)))?;
    }
    let source = format!("{} training and {} validation shards", train.len(), val.len());
    folder.finish(source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dataset, shard::ShardWriter};

    fn shard(path: PathBuf, tokens: impl IntoIterator<Item = u16>) -> PathBuf {
        let mut writer = ShardWriter::create(&path).unwrap();
        writer.push(tokens).unwrap();
        writer.finish().unwrap();
        path
    }

    #[test]
    fn validation_shards_are_divided_in_three() {
        let dir = tempfile::tempdir().unwrap();
        let train = [shard(dir.path().join("a"), 0..10), shard(dir.path().join("b"), 10..20)];
        let val = [shard(dir.path().join("c"), 0..5), shard(dir.path().join("d"), 5..10)];
        let out = dir.path().join("out");
        let manifest = from_shards(&train, &val, "web", &out).unwrap();
        assert_eq!(manifest.vocab, 50_257);
        let dataset = Dataset::open(&out).unwrap();
        let tokens = |part: Part| {
            let shard = dataset.part(part);
            shard.tokens(0..shard.len()).collect::<Vec<_>>()
        };
        assert_eq!(tokens(Part::Train), (0..20).collect::<Vec<_>>());
        assert_eq!(tokens(Part::Dev), [0, 1, 2]);
        assert_eq!(tokens(Part::Val), [3, 4, 5]);
        assert_eq!(tokens(Part::Vault), [6, 7, 8]);
    }

    #[test]
    fn bad_shards_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let good = shard(dir.path().join("good"), 0..30);
        let alien = shard(dir.path().join("alien"), [1, 50_257]);
        let tiny = shard(dir.path().join("tiny"), [1, 2]);
        let out = dir.path().join("out");
        let check = |train: &[&PathBuf], val: &[&PathBuf], expected: &str| {
            let owned = |paths: &[&PathBuf]| paths.iter().map(|p| (*p).clone()).collect::<Vec<_>>();
            let error = from_shards(&owned(train), &owned(val), "web", &out).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.to_string().contains("\nhint: "), "{error}");
            assert!(!out.exists());
        };
        check(&[], &[&good], "the list of training shards is empty");
        check(&[&good], &[], "the list of validation shards is empty");
        check(&[&alien], &[&good], "holds token 50257 at position 1");
        check(&[&good], &[&alien], "holds token 50257 at position 1");
        check(&[&good], &[&tiny], "is empty");
    }
}
