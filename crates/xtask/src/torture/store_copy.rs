//! A copy of a store, to look at without touching the original.

use anyhow::{Context, Result};
use forerunner_runtime::store::{Store, StoreError};
use std::{fs, path::Path};
use tempfile::TempDir;

/// Opens a copy of the store in `folder`; `None` when it holds no run yet. The copy lives as long
/// as the folder that comes with it.
///
/// Opening the original would recover its write-ahead log, which is what the host must be able to
/// do by itself.
pub(super) fn open(folder: &Path) -> Result<Option<(Store, TempDir)>> {
    let copy = tempfile::tempdir()?;
    let mut found = false;
    for name in ["store.sqlite", "store.sqlite-wal"] {
        let from = folder.join(name);
        if from.exists() {
            found = true;
            fs::copy(&from, copy.path().join(name))
                .with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    if !found {
        return Ok(None);
    }
    match Store::read(copy.path()) {
        Ok(store) => Ok(Some((store, copy))),
        Err(StoreError::Missing { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
