//! How much of the disk a process tree has filled through its work directory.
//!
//! The kernel limits single files only. So the directory is walked from outside, and what was
//! removed there but is still held open or mapped is found through `/proc`. The tree goes on
//! meanwhile and could move things out of our sight; it would have to guess the instant, again and
//! again. Whatever cannot be looked at, because its path is too long or its folder closed, is
//! hostile and counts as too much.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{Limits, process_tree::descendants};

/// A work directory with its bounds.
#[derive(Debug)]
pub(crate) struct DiskUsage {
    work_dir: PathBuf,
    /// A file that is mapped, but no longer open, counts as the largest it can be.
    file_bytes: u64,
    disk_bytes: u64,
    files: u64,
}

/// What has been found so far.
#[derive(Debug, Default, PartialEq)]
struct Found {
    bytes: u64,
    files: u64,
}

impl DiskUsage {
    /// `work_dir` as it is called here, with the limits that matter.
    pub(crate) fn new(work_dir: &Path, limits: &Limits) -> Self {
        Self {
            // As the kernel spells it in `/proc`.
            work_dir: work_dir.canonicalize().unwrap_or_else(|_| work_dir.to_owned()),
            file_bytes: limits.file_bytes,
            disk_bytes: limits.disk_bytes,
            files: limits.files,
        }
    }

    /// Whether `root`'s descendants have filled more than they may.
    pub(crate) fn is_exceeded(&self, root: i32) -> bool {
        let mut found = Found::default();
        let walked = self.walk(&mut found);
        for pid in descendants(root) {
            self.add_removed(pid, &mut found);
        }
        walked.is_err_and(|error| !is_our_own(&error)) || self.too_much(&found)
    }

    fn too_much(&self, found: &Found) -> bool {
        found.bytes > self.disk_bytes || found.files > self.files
    }

    /// Adds what lies in the work directory; stops as soon as it is too much. One folder is open at
    /// a time, however deep they are nested.
    fn walk(&self, found: &mut Found) -> io::Result<()> {
        let mut folders = vec![self.work_dir.clone()];
        while let Some(folder) = folders.pop() {
            let Some(entries) = unless_gone(fs::read_dir(folder))? else { continue };
            for entry in entries {
                let Some(entry) = unless_gone(entry)? else { continue };
                let Some(data) = unless_gone(entry.metadata())? else { continue };
                found.files += 1;
                found.bytes += data.blocks() * BLOCK_BYTES;
                if self.too_much(found) {
                    return Ok(());
                }
                if data.is_dir() {
                    folders.push(entry.path());
                }
            }
        }
        Ok(())
    }

    /// Adds files without a name that `pid` holds open or mapped. A process that has ended holds
    /// nothing.
    fn add_removed(&self, pid: i32, found: &mut Found) {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut open = Vec::new();
        for descriptor in descriptors {
            let data = fs::metadata(descriptor.path());
            let removed = data.ok().filter(|data| data.is_file() && data.nlink() == 0);
            if let Some(data) = removed.filter(|data| !open.contains(&data.ino())) {
                open.push(data.ino());
                found.files += 1;
                found.bytes += data.blocks() * BLOCK_BYTES;
            }
        }
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        let mut mapped: Vec<u64> =
            maps.lines().filter_map(|line| removed_below(&self.work_dir, line)).collect();
        mapped.sort_unstable();
        mapped.dedup();
        for _ in mapped.iter().filter(|inode| !open.contains(inode)) {
            found.files += 1;
            found.bytes = found.bytes.saturating_add(self.file_bytes);
        }
    }
}

/// Whether it is this process that lacks something; another look follows soon.
fn is_our_own(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EINTR))
}

/// The unit of `st_blocks`, whatever the file system's own is (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// The inode number in a line of `/proc/PID/maps` about a removed file below `folder`.
fn removed_below(folder: &Path, line: &str) -> Option<u64> {
    let path = line.strip_suffix(" (deleted)")?;
    let path = &path[path.find('/')?..];
    let inode = line.split_ascii_whitespace().nth(4)?.parse().ok()?;
    Path::new(path).starts_with(folder).then_some(inode)
}

/// `None` for what has gone away while we looked.
fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(folder: &Path, disk_bytes: u64, files: u64) -> DiskUsage {
        DiskUsage::new(folder, &Limits { disk_bytes, files, file_bytes: 7, ..Limits::default() })
    }

    #[test]
    fn everything_below_the_folder_counts() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/c"), vec![1; 1 << 20]).unwrap();
        fs::write(folder.path().join("empty"), "").unwrap();
        let exceeded = |disk, files| usage(folder.path(), disk, files).is_exceeded(-1);
        assert!(!exceeded(2 << 20, 4));
        assert!(exceeded(2 << 20, 3));
        assert!(exceeded(1 << 19, 4));
        assert!(!usage(&folder.path().join("missing"), 0, 0).is_exceeded(-1));
    }

    #[test]
    fn what_cannot_be_looked_at_is_too_much() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(usage(&file, u64::MAX, u64::MAX).is_exceeded(-1), "a file is no folder");
        assert!(is_our_own(&io::Error::from_raw_os_error(libc::EMFILE)));
        assert!(!is_our_own(&io::Error::from_raw_os_error(libc::ENAMETOOLONG)));
    }

    #[test]
    fn removed_files_count_while_they_are_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, vec![1; 1 << 20]).unwrap();
        let file = fs::File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let me = std::process::id().cast_signed();
        let held = || {
            let mut found = Found::default();
            usage(folder.path(), 0, 0).add_removed(me, &mut found);
            found.bytes
        };
        // Other tests of this process may hold removed files as well.
        assert!(held() >= 1 << 20);
        drop(file);
    }

    #[test]
    fn a_line_about_a_removed_mapping_names_its_inode() {
        let folder = Path::new("/folder");
        let line = |path: &str| format!("7f00-7f10 rw-s 00000000 fe:01 4711    {path}");
        let check = |path: &str, expected| assert_eq!(removed_below(folder, &line(path)), expected);
        check("/folder/a b (deleted)", Some(4711));
        check("/folder/a b", None);
        check("/folders/a (deleted)", None);
        check("/dev/zero (deleted)", None);
    }
}
