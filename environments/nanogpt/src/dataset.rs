//! Data sets: the tokens of four parts with a description that pins their content.

use crate::{
    DataError, FileEntry, Manifest, Part, Shard, Tokens,
    manifest::{ShardList, TokenKind},
    stream::END_OF_TEXT,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

/// Name of the note that says which files were already verified.
pub(crate) const VERIFIED: &str = "verified.json";

/// A verified data set, mapped into memory.
#[derive(Debug)]
pub struct Dataset {
    manifest: Manifest,
    parts: [Tokens; 4],
}

impl Dataset {
    /// Opens the data set in `dir` and verifies every file once: its hash against the description
    /// and its tokens against the vocabulary. Files that were verified before and have not been
    /// touched since are not read again.
    ///
    /// # Errors
    /// When a file is absent, damaged, or not the one that was prepared.
    pub fn open(dir: &Path) -> Result<Self, DataError> {
        let manifest = Manifest::read(dir)?;
        let mut verified = Verified::read(dir);
        let mut parts = Vec::with_capacity(4);
        for part in Part::ALL {
            let entry = &manifest.slices[part.name()];
            parts.push(match ShardList::read(dir, part)? {
                Some(list) => open_list(dir, part, &list, entry, manifest.vocab, &mut verified)?,
                None => open_file(dir, part, entry, manifest.vocab, &mut verified)?.into(),
            });
        }
        verified.write(dir);
        let parts = parts.try_into().expect("as many as there are parts");
        Ok(Self { manifest, parts })
    }

    /// The description.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// One part.
    pub fn part(&self, part: Part) -> &Tokens {
        &self.parts[part as usize]
    }

    /// Checks that `part` has at least `needed` tokens.
    ///
    /// # Errors
    /// [`DataError::Small`] when it has fewer.
    pub fn require(&self, part: Part, needed: usize) -> Result<(), DataError> {
        let held = self.part(part).len();
        if held < needed {
            let name = self.manifest.name.clone();
            return Err(DataError::Small { name, slice: part.name(), held, needed });
        }
        Ok(())
    }

    /// Checks that the training text is marked into documents, of which at least one is followed by
    /// `length` more tokens.
    ///
    /// # Errors
    /// [`DataError::NoDocuments`] when it is not.
    pub fn require_documents(&self, length: usize) -> Result<(), DataError> {
        let train = self.part(Part::Train);
        let n_starts = train.len().saturating_sub(length);
        let marked =
            self.manifest.kind == TokenKind::Gpt2 && train.find(0..n_starts, END_OF_TEXT).is_some();
        if marked { Ok(()) } else { Err(DataError::NoDocuments(self.manifest.name.clone())) }
    }
}

/// A part that is a token file in the data set's folder.
fn open_file(
    dir: &Path,
    part: Part,
    entry: &FileEntry,
    vocab: usize,
    verified: &mut Verified,
) -> Result<Shard, DataError> {
    let shard = Shard::open(&dir.join(part.file()))?;
    let stamp = Stamp::of(shard.path(), &entry.sha256);
    if !verified.contains(part.name(), stamp.as_ref()) {
        // The more telling error first: damage inside the tokens.
        shard.check_tokens(vocab)?;
        if shard.sha256() != entry.sha256 {
            return Err(DataError::Changed(shard.path().to_owned()));
        }
        verified.insert(part.name(), stamp);
    }
    Ok(shard)
}

/// A part that is a list of token files, wherever they are.
fn open_list(
    dir: &Path,
    part: Part,
    list: &ShardList,
    entry: &FileEntry,
    vocab: usize,
    verified: &mut Verified,
) -> Result<Tokens, DataError> {
    let mut shards = Vec::with_capacity(list.files.len());
    // The list itself, which belongs to one description only, and then its files.
    let mut stamps =
        vec![(part.name().to_owned(), Stamp::of(&dir.join(part.list()), &entry.sha256))];
    for (index, file) in list.files.iter().enumerate() {
        let path = dir.join(&file.path);
        if !path.exists() {
            return Err(DataError::ShardGone(path));
        }
        let shard = Shard::open(&path)?;
        if shard.len() as u64 != file.tokens {
            return Err(DataError::Changed(path));
        }
        let stamp = Stamp::of(&path, &file.sha256);
        stamps.push((format!("{}/{index}", part.name()), stamp));
        shards.push(shard);
    }
    let tokens = Tokens::new(shards);
    if tokens.len() as u64 != entry.tokens {
        return Err(DataError::Changed(dir.join(part.list())));
    }
    if !stamps.iter().all(|(name, stamp)| verified.contains(name, stamp.as_ref())) {
        tokens.shards().iter().try_for_each(|shard| shard.check_tokens(vocab))?;
        if tokens.sha256() != entry.sha256 {
            let files = tokens.shards().iter().zip(&list.files);
            let changed = files.map(|(shard, file)| (shard.path(), shard.sha256() != file.sha256));
            let changed = changed.into_iter().find(|(_, changed)| *changed);
            let path = changed.map_or_else(|| dir.join(part.list()), |(path, _)| path.to_owned());
            return Err(DataError::Changed(path));
        }
        stamps.into_iter().for_each(|(name, stamp)| verified.insert(&name, stamp));
    }
    Ok(tokens)
}

/// Which files were verified, so that a worker does not hash gigabytes at every start. Lives
/// beside the data; whoever can write it can write the data too.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verified {
    files: BTreeMap<String, Stamp>,
    #[serde(skip)]
    changed: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    sha256: String,
    bytes: u64,
    modified_ns: u128,
}

impl Stamp {
    /// The file at `path` as it is now, with the hash that it was found to have.
    pub(crate) fn of(path: &Path, sha256: &str) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        let sha256 = sha256.to_owned();
        Some(Self { sha256, bytes: metadata.len(), modified_ns: modified.as_nanos() })
    }
}

impl Verified {
    fn read(dir: &Path) -> Self {
        let text = fs::read_to_string(dir.join(VERIFIED)).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    fn contains(&self, name: &str, stamp: Option<&Stamp>) -> bool {
        stamp.is_some() && self.files.get(name) == stamp
    }

    /// Notes a file under the name of its part, and its number where there are several.
    pub(crate) fn insert(&mut self, name: &str, stamp: Option<Stamp>) {
        if let Some(stamp) = stamp {
            self.files.insert(name.to_owned(), stamp);
            self.changed = true;
        }
    }

    /// Best effort: in a folder that cannot be written, files are verified at every start.
    pub(crate) fn write(&self, dir: &Path) {
        let temporary: PathBuf = dir.join(format!("{VERIFIED}.{}", std::process::id()));
        if self.changed
            && let Ok(text) = serde_json::to_string_pretty(self)
            && fs::write(&temporary, text).is_ok()
            && fs::rename(&temporary, dir.join(VERIFIED)).is_err()
        {
            let _ = fs::remove_file(&temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ShardWriter, TokenKind, manifest::MANIFEST};

    /// A data set whose parts hold the given tokens.
    fn make(dir: &Path, tokens: [Vec<u16>; 4]) {
        let mut slices = BTreeMap::new();
        for (part, tokens) in Part::ALL.into_iter().zip(tokens) {
            let mut writer = ShardWriter::create(&dir.join(part.file())).unwrap();
            writer.push(tokens).unwrap();
            let shard = writer.finish().unwrap();
            let entry = FileEntry { tokens: shard.len() as u64, sha256: shard.sha256() };
            slices.insert(part.name().to_owned(), entry);
        }
        let manifest = Manifest {
            name: "x".into(),
            kind: TokenKind::Bytes,
            vocab: 256,
            source: "test".into(),
            slices,
        };
        fs::write(dir.join(MANIFEST), serde_json::to_string(&manifest).unwrap()).unwrap();
    }

    #[test]
    fn a_data_set_opens_and_is_verified_once() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), [vec![1; 50], vec![2; 20], vec![3; 20], vec![4; 20]]);
        let dataset = Dataset::open(dir.path()).unwrap();
        assert_eq!(dataset.part(Part::Val).tokens(0..2).collect::<Vec<_>>(), [3, 3]);
        let note = fs::read_to_string(dir.path().join(VERIFIED)).unwrap();
        assert_eq!(serde_json::from_str::<Verified>(&note).unwrap().files.len(), 4);
        Dataset::open(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(VERIFIED)).unwrap(), note);
        let error = dataset.require_documents(3).unwrap_err().to_string();
        assert!(error.starts_with("the training text of data set `x` is not divided"), "{error}");
        assert!(dataset.require(Part::Dev, 20).is_ok());
        assert_eq!(
            dataset.require(Part::Dev, 65_537).unwrap_err().to_string(),
            "slice `dev` of data set `x` holds 20 tokens, the track needs 65537\nhint: prepare a \
             larger corpus"
        );
    }

    #[test]
    fn what_is_wrong_with_a_data_set_is_said_in_one_line_with_a_hint() {
        let check = |damage: fn(&Path), expected: &str| {
            let dir = tempfile::tempdir().unwrap();
            make(dir.path(), [vec![1; 50], vec![2; 20], vec![3; 20], vec![4; 20]]);
            Dataset::open(dir.path()).unwrap();
            damage(dir.path());
            let error = Dataset::open(dir.path()).unwrap_err().to_string();
            let text = error.replace(&*dir.path().to_string_lossy(), "D");
            let (line, hint) = text.split_once('\n').expect("a hint");
            assert!(line.starts_with(expected), "{line}");
            assert!(hint.starts_with("hint: ") && !hint.contains('\n'), "{hint}");
        };
        check(|dir| fs::remove_file(dir.join(MANIFEST)).unwrap(), "no data set in `D`");
        check(
            |dir| fs::write(dir.join(MANIFEST), "{}").unwrap(),
            "`D/dataset.json` does not describe a data set: missing field `name`",
        );
        check(
            |dir| edit(&dir.join(MANIFEST), |text| *text = text.replace(":256", ":255")),
            "`D/dataset.json` does not describe a data set: Bytes tokens have a vocabulary of 256",
        );
        check(
            |dir| edit(&dir.join(MANIFEST), |text| *text = text.replace("\"vault\"", "\"volt\"")),
            "`D/dataset.json` does not describe a data set: slice `vault` is missing",
        );
        check(
            |dir| change(&dir.join("dev.bin"), |b| b[0] ^= 1),
            "`D/dev.bin` is not a token shard",
        );
        check(|dir| change(&dir.join("val.bin"), |b| b.truncate(1030)), "`D/val.bin` is damaged");
        check(
            |dir| change(&dir.join("train.bin"), |b| b[1025] = 9),
            "`D/train.bin` holds token 2305 at position 0",
        );
        check(|dir| change(&dir.join("train.bin"), |b| b[1024] = 9), "`D/train.bin` has changed");
    }

    fn change(path: &Path, change: fn(&mut Vec<u8>)) {
        let mut bytes = fs::read(path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }

    fn edit(path: &Path, change: fn(&mut String)) {
        let mut text = fs::read_to_string(path).unwrap();
        change(&mut text);
        fs::write(path, text).unwrap();
    }
}
