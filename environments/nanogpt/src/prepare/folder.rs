//! A data set's folder in the making: complete under its name, or not there at all.

use crate::{
    DataError, Manifest,
    manifest::{FileEntry, MANIFEST, Part, TokenKind},
    shard::{Shard, ShardWriter},
};
use std::{collections::BTreeMap, fs, path::Path};

/// The four files being written, in a temporary folder beside their destination.
pub(super) struct Folder<'a> {
    name: &'a str,
    out: &'a Path,
    kind: TokenKind,
    temporary: tempfile::TempDir,
    slices: BTreeMap<String, FileEntry>,
}

impl<'a> Folder<'a> {
    /// Starts a data set that will stand in `out`.
    pub(super) fn create(name: &'a str, out: &'a Path, kind: TokenKind) -> Result<Self, DataError> {
        if out.exists() && !out.join(MANIFEST).is_file() && !is_empty_folder(out) {
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
        Ok(Self { name, out, kind, temporary, slices: BTreeMap::new() })
    }

    /// Writes one part with `fill`; `material` names it in the error when nothing comes.
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

fn is_empty_folder(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}
