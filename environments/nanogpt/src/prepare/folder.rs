//! A data set's folder in the making: complete under its name, or not there at all.

use crate::{
    DataError, Manifest, Tokens,
    dataset::{Stamp, VERIFIED, Verified},
    manifest::{FileEntry, MANIFEST, Part, ShardEntry, ShardList, TokenKind},
    shard::{Shard, ShardWriter},
};
use std::{collections::BTreeMap, ffi::OsString, fs, path::Path};

/// Folder within a data set's for the shards that it is made of: where `data fetch` puts them.
const SHARDS: &str = "shards";

/// The four parts being written, in a temporary folder beside their destination.
pub(super) struct Folder<'a> {
    name: &'a str,
    out: &'a Path,
    kind: TokenKind,
    temporary: tempfile::TempDir,
    slices: BTreeMap<String, FileEntry>,
    /// What is written here need not be read again when the data set is opened.
    verified: Verified,
}

impl<'a> Folder<'a> {
    /// Starts a data set that will stand in `out`.
    pub(super) fn create(name: &'a str, out: &'a Path, kind: TokenKind) -> Result<Self, DataError> {
        if out.exists() && !out.join(MANIFEST).is_file() && !is_ours(out) {
            return Err(DataError::Occupied(out.to_owned()));
        }
        let parent = match out.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(DataError::io("create", parent))?;
        let temporary = tempfile::Builder::new()
            .prefix(".preparing-")
            .tempdir_in(parent)
            .map_err(DataError::io("write in", parent))?;
        let (slices, verified) = (BTreeMap::new(), Verified::default());
        Ok(Self { name, out, kind, temporary, slices, verified })
    }

    /// Writes one part with `fill`.
    pub(super) fn write(
        &mut self,
        part: Part,
        fill: impl FnOnce(&mut ShardWriter) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let mut writer = ShardWriter::create(&self.temporary.path().join(part.file()))?;
        fill(&mut writer)?;
        let shard: Shard = writer.finish()?;
        shard.check_tokens(self.kind.vocab())?;
        let entry = FileEntry { tokens: shard.len() as u64, sha256: shard.sha256() };
        self.verified.insert(part.name(), Stamp::of(shard.path(), &entry.sha256));
        self.slices.insert(part.name().to_owned(), entry);
        Ok(())
    }

    /// Makes one part of token files that stay where they are. They are read once, for their hashes,
    /// and mapped from there whenever the data set is used.
    pub(super) fn refer(&mut self, part: Part, tokens: &Tokens) -> Result<(), DataError> {
        let out = fs::canonicalize(self.out).ok();
        let mut list = ShardList { files: Vec::new() };
        for (index, shard) in tokens.shards().iter().enumerate() {
            let path = fs::canonicalize(shard.path());
            let path = path.map_err(DataError::io("find", shard.path()))?;
            let sha256 = shard.sha256();
            let name = format!("{}/{index}", part.name());
            self.verified.insert(&name, Stamp::of(&path, &sha256));
            // Relative where they move with the data set.
            let below =
                out.as_ref().and_then(|out| path.strip_prefix(out).ok()).map(Path::to_owned);
            if below
                .as_ref()
                .is_some_and(|below| files().iter().any(|file| below.as_os_str() == file.as_str()))
            {
                return Err(DataError::Replaced(path));
            }
            let entry =
                ShardEntry { path: below.unwrap_or(path), tokens: shard.len() as u64, sha256 };
            list.files.push(entry);
        }
        let path = self.temporary.path().join(part.list());
        let text = serde_json::to_string_pretty(&list).expect("a list is plain data");
        fs::write(&path, text + "\n").map_err(DataError::io("write", &path))?;
        let sha256 = match &list.files[..] {
            // One file with nothing unusual in its header is what its hash would be of.
            [only] if tokens.is_canonical() => only.sha256.clone(),
            _ => tokens.sha256(),
        };
        let entry = FileEntry { tokens: tokens.len() as u64, sha256 };
        self.verified.insert(part.name(), Stamp::of(&path, &entry.sha256));
        self.slices.insert(part.name().to_owned(), entry);
        Ok(())
    }

    /// Writes the description and moves the folder to its place, replacing an older data set.
    pub(super) fn finish(self, source: String) -> Result<Manifest, DataError> {
        let manifest = Manifest {
            name: self.name.to_owned(),
            kind: self.kind,
            vocab: self.kind.vocab(),
            source,
            slices: self.slices,
        };
        let path = self.temporary.path().join(MANIFEST);
        let text = serde_json::to_string_pretty(&manifest).expect("a manifest is plain data");
        fs::write(&path, text + "\n").map_err(DataError::io("write", &path))?;
        self.verified.write(self.temporary.path());
        if holds_more(self.out) {
            replace_files(self.temporary.path(), self.out)
                .map_err(DataError::io("replace the data set in", self.out))?;
            return Ok(manifest);
        }
        if self.out.exists() {
            fs::remove_dir_all(self.out).map_err(DataError::io("replace", self.out))?;
        }
        let temporary = self.temporary.keep();
        if let Err(error) =
            make_readable(&temporary).and_then(|()| fs::rename(&temporary, self.out))
        {
            let _ = fs::remove_dir_all(&temporary);
            return Err(DataError::io("move the data set to", self.out)(error));
        }
        Ok(manifest)
    }
}

/// Temporary folders are private; a data set is for everyone on the machine.
fn make_readable(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

/// Whether a folder without a description holds nothing but shards and parts of a data set: it was
/// only fetched into, or making the data set in it was cut off.
fn is_ours(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    let is_part = |name: &OsString| files().iter().any(|file| name == file.as_str());
    names.is_empty()
        || names.iter().any(|name| name == SHARDS)
            && names.iter().all(|name| name == SHARDS || is_part(name))
}

/// Whether there is anything in a folder that is no part of a data set, such as shards.
fn holds_more(folder: &Path) -> bool {
    let is_part = |name: OsString| files().iter().any(|file| name == file.as_str());
    fs::read_dir(folder)
        .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|e| !is_part(e.file_name()))))
}

/// Names of all files that a data set's folder can hold.
fn files() -> Vec<String> {
    let parts = Part::ALL.into_iter().flat_map(|part| [part.file(), part.list()]);
    parts.chain([MANIFEST, VERIFIED].map(str::to_owned)).collect()
}

/// Replaces a data set file by file, so that what else is in its folder stays. Its description goes
/// first and comes last: a data set that was cut off is none.
fn replace_files(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut names = files();
    names.sort_by_key(|name| name != MANIFEST);
    for name in &names {
        match fs::remove_file(to.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    for name in names.iter().rev().filter(|name| from.join(name).is_file()) {
        fs::rename(from.join(name), to.join(name))?;
    }
    Ok(())
}
