//! The cache of compiled programs: content-addressed, shared by processes, safe against `kill`.
//!
//! ```text
//! cache/entries/3f/lock            held while a program of this shard is compiled
//! cache/entries/3f/<key>/          one finished compilation, renamed into place
//!                        result.json
//!                        program   the binary, when there is one
//! cache/entries/3f/<key>.checked   the program passed the check but has not been built
//! cache/work/<random>/             where the compiler works
//! ```
//!
//! An entry appears by one `rename`, so a reader sees all of it or nothing. Readers take no lock.
//! A writer holds the lock of its shard (one of 256, by the first byte of the key) from the second
//! look at the cache until the rename, so that identical programs are compiled once however many
//! processes want them. Locks belong to open files: a killed process drops its own.

use crate::Error;
use forerunner_core::Finding;
use forerunner_sandbox::Layers;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use tempfile::TempDir;

/// Binaries kept per shard; 256 shards of 5 MB binaries make 5 GB at most.
const MAX_BINARIES_PER_SHARD: usize = 4;
/// Younger binaries are never removed, because somebody may be about to start them.
const MIN_AGE: Duration = Duration::from_secs(3600);
const BINARY: &str = "program";
const RESULT: &str = "result.json";

/// How a compilation ended. Only ends that the program itself causes are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// There is a binary.
    Built {
        /// CPU time of the compiler.
        cpu: Duration,
        /// What confined the compiler.
        layers: Layers,
    },
    /// The compiler refused the program.
    Refused(Vec<Finding>),
    /// The compiler used up its CPU time.
    OutOfCpu,
    /// The compiler used up its memory.
    OutOfMemory,
}

#[derive(Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    pub(crate) fn open(root: &Path) -> Result<Self, Error> {
        for folder in ["entries", "work"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        }
        // The sandbox wants absolute paths without links.
        let root = root.canonicalize().map_err(Error::io("open", root))?;
        Ok(Self { root })
    }

    /// What is known about `key`.
    pub(crate) fn get(&self, key: &str) -> Option<Outcome> {
        let entry = self.entry(key);
        let outcome = serde_json::from_slice(&fs::read(entry.join(RESULT)).ok()?).ok()?;
        if matches!(outcome, Outcome::Built { .. }) {
            // The time of last use decides what is removed; a lost race only ages an entry.
            let binary = File::options().append(true).open(entry.join(BINARY)).ok()?;
            binary.set_modified(SystemTime::now()).ok();
        }
        Some(outcome)
    }

    /// Where the binary of `key` is when its outcome is [`Outcome::Built`].
    pub(crate) fn binary(&self, key: &str) -> PathBuf {
        self.entry(key).join(BINARY)
    }

    pub(crate) fn is_checked(&self, key: &str) -> bool {
        self.checked(key).exists()
    }

    /// Keeps others from compiling `key` until the guard is dropped.
    pub(crate) fn lock(&self, key: &str) -> Result<Guard<'_>, Error> {
        let shard = self.shard(key);
        fs::create_dir_all(&shard).map_err(Error::io("create", &shard))?;
        let path = shard.join("lock");
        let lock = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        lock.lock().map_err(Error::io("lock", &path))?;
        Ok(Guard { cache: self, key: key.to_owned(), _lock: lock })
    }

    /// A fresh folder for a compiler to work in, removed when dropped.
    pub(crate) fn work_dir(&self) -> Result<TempDir, Error> {
        let path = self.root.join("work");
        tempfile::tempdir_in(&path).map_err(Error::io("create a folder in", path))
    }

    fn shard(&self, key: &str) -> PathBuf {
        self.root.join("entries").join(&key[..2])
    }

    fn entry(&self, key: &str) -> PathBuf {
        self.shard(key).join(key)
    }

    fn checked(&self, key: &str) -> PathBuf {
        self.shard(key).join(format!("{key}.checked"))
    }
}

/// The right to write one entry.
#[derive(Debug)]
pub(crate) struct Guard<'a> {
    cache: &'a Cache,
    key: String,
    _lock: File,
}

impl Guard<'_> {
    /// Remembers that the program passed the check.
    pub(crate) fn set_checked(&self) -> Result<(), Error> {
        let path = self.cache.checked(&self.key);
        fs::write(&path, "").map_err(Error::io("write", path))
    }

    /// Writes the entry; `binary` is moved into it.
    pub(crate) fn put(&self, outcome: &Outcome, binary: Option<&Path>) -> Result<(), Error> {
        let staging = self.cache.work_dir()?;
        if let Some(binary) = binary {
            let to = staging.path().join(BINARY);
            fs::rename(binary, &to).map_err(Error::io("move", binary))?;
        }
        let path = staging.path().join(RESULT);
        let text = serde_json::to_vec(outcome).map_err(io::Error::from);
        text.and_then(|text| fs::write(&path, text)).map_err(Error::io("write", &path))?;
        open_to_all(staging.path())?;
        let entry = self.cache.entry(&self.key);
        // What may be there is an entry that could not be read.
        if entry.exists() {
            fs::remove_dir_all(&entry).map_err(Error::io("remove", &entry))?;
        }
        fs::rename(staging.path(), &entry).map_err(Error::io("write", &entry))?;
        let _ = staging.keep();
        fs::remove_file(self.cache.checked(&self.key)).ok();
        self.prune();
        Ok(())
    }

    /// Removes the entries of this shard whose binaries have not been used for longest. Failing
    /// to do so costs disk space only.
    fn prune(&self) {
        let Ok(entries) = fs::read_dir(self.cache.shard(&self.key)) else { return };
        let mut binaries: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| {
                let used = fs::metadata(entry.path().join(BINARY)).ok()?.modified().ok()?;
                Some((used, entry.path()))
            })
            .collect();
        binaries.sort();
        let n_extra = binaries.len().saturating_sub(MAX_BINARIES_PER_SHARD);
        for (used, entry) in binaries.into_iter().take(n_extra) {
            if used.elapsed().is_ok_and(|age| age > MIN_AGE) {
                fs::remove_dir_all(entry).ok();
            }
        }
    }
}

/// A temporary folder is private; programs are started as another user.
fn open_to_all(folder: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    let permissions = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder, permissions).map_err(Error::io("open to all", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built() -> Outcome {
        Outcome::Built { cpu: Duration::from_millis(1400), layers: Layers::default() }
    }

    fn binary(cache: &Cache) -> (TempDir, PathBuf) {
        let dir = cache.work_dir().unwrap();
        let path = dir.path().join("out");
        fs::write(&path, "elf").unwrap();
        (dir, path)
    }

    #[test]
    fn what_is_put_is_got() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        assert_eq!(cache.get("abcd"), None);
        let guard = cache.lock("abcd").unwrap();
        guard.set_checked().unwrap();
        assert!(cache.is_checked("abcd"));
        let (_work, path) = binary(&cache);
        guard.put(&built(), Some(&path)).unwrap();
        assert_eq!(cache.get("abcd"), Some(built()));
        assert_eq!(fs::read_to_string(cache.binary("abcd")).unwrap(), "elf");
        assert!(!cache.is_checked("abcd"), "the entry says more than the mark");
        assert_eq!(cache.get("abce"), None);
    }

    #[test]
    fn a_torn_entry_counts_as_missing_and_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let guard = cache.lock("abcd").unwrap();
        fs::create_dir_all(cache.entry("abcd")).unwrap();
        fs::write(cache.entry("abcd").join(RESULT), "{\"bui").unwrap();
        assert_eq!(cache.get("abcd"), None);
        // A result whose binary is gone.
        fs::write(cache.entry("abcd").join(RESULT), serde_json::to_vec(&built()).unwrap()).unwrap();
        assert_eq!(cache.get("abcd"), None);
        guard.put(&Outcome::OutOfCpu, None).unwrap();
        assert_eq!(cache.get("abcd"), Some(Outcome::OutOfCpu));
    }

    #[test]
    fn a_second_writer_of_a_shard_waits() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let _guard = cache.lock("ab01").unwrap();
        let path = cache.shard("ab02").join("lock");
        let same_shard = File::options().append(true).open(&path).unwrap();
        assert!(same_shard.try_lock().is_err());
        // Another shard is free.
        drop(cache.lock("cd01").unwrap());
    }

    #[test]
    fn old_binaries_make_room_and_young_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let put = |key: &str, age_hours: u64| {
            let (_work, path) = binary(&cache);
            let guard = cache.lock(key).unwrap();
            guard.put(&built(), Some(&path)).unwrap();
            let then = SystemTime::now() - Duration::from_secs(3600 * age_hours);
            let file = File::options().append(true).open(cache.binary(key)).unwrap();
            file.set_modified(then).unwrap();
        };
        for idx in 0..6 {
            put(&format!("ab{idx}"), 0);
        }
        assert!((0..6).all(|idx| cache.get(&format!("ab{idx}")).is_some()), "all are young");
        put("ab0", 3);
        put("ab1", 2);
        put("ab2", 5);
        put("ab9", 0);
        let left: Vec<_> = (0..10).filter(|idx| cache.get(&format!("ab{idx}")).is_some()).collect();
        assert_eq!(left, [3, 4, 5, 9]);
    }
}
