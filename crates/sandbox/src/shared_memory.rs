//! Memory of a process that its resident size does not show: shared mappings that it filled and then
//! unmapped in part or never touched itself, and files in memory (`memfd_create`).
//!
//! Without a GPU the limit on address space bounds the first, and the second does not exist. With one
//! both are looked for here. Looking stops the process's mappings for a moment, so it is done seldom.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt};

use crate::process_tree::resident_bytes;

/// The unit of `st_blocks` (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// Resident memory of `pid`, its shared memory counted in full, in bytes; 0 once it has ended.
///
/// A file in memory that is open counts with what it holds. Shared memory that is only mapped counts
/// with the size of the mappings, filled or not, because nobody can see how far it is. Mappings of devices do not
/// count: what the GPU's driver keeps in the host's memory for the process is nobody's to see.
pub(crate) fn memory_bytes(pid: i32) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mut files = mapped(&maps);
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let of_memory = |target: &std::path::Path| target.to_string_lossy().starts_with("/memfd:");
        if !fs::read_link(entry.path()).is_ok_and(|target| of_memory(&target)) {
            continue;
        }
        if let Ok(data) = fs::metadata(entry.path()) {
            files.insert(data.ino(), data.blocks() * BLOCK_BYTES);
        }
    }
    let resident = resident_bytes(pid);
    let private = resident.saturating_sub(resident_shared(&status));
    resident.max(files.values().fold(private, |sum, bytes| sum.saturating_add(*bytes)))
}

/// Bytes of shared memory by inode in the text of `/proc/PID/maps`.
fn mapped(maps: &str) -> BTreeMap<u64, u64> {
    let mut files = BTreeMap::new();
    for (inode, bytes) in maps.lines().filter_map(shared_mapping) {
        *files.entry(inode).or_default() += bytes;
    }
    files
}

/// Inode and size of a shared mapping of memory (proc(5): addresses, rights, offset, device, inode,
/// path). The kernel gives anonymous shared memory the name of `/dev/zero`.
fn shared_mapping(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_ascii_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let shared = words.next()?.ends_with('s');
    let inode = words.nth(2)?.parse().ok()?;
    let path = words.next()?;
    let memory = path.starts_with("/memfd:") || path == "/dev/zero";
    let address = |text| u64::from_str_radix(text, 16).ok();
    let bytes = address(to)?.checked_sub(address(from)?)?;
    (shared && memory).then_some((inode, bytes))
}

/// The part of the resident size that is shared memory.
fn resident_shared(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("RssShmem:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_memory_counts_once_and_devices_do_not() {
        let maps = "\
            7f00-8f00 rw-s 00000000 00:01 12 /memfd:pool (deleted)\n\
            8f00-9f00 rw-s 00001000 00:01 12 /memfd:pool (deleted)\n\
            9f00-af00 rw-s 00000000 00:01 13 /dev/zero (deleted)\n\
            af00-bf00 rw-s 00000000 00:05 99 /dev/nvidia-uvm\n\
            bf00-cf00 rw-p 00000000 00:00 0\n\
            cf00-df00 r--s 00000000 08:01 40 /usr/lib/locale/x\n";
        assert_eq!(mapped(maps), BTreeMap::from([(12, 0x2000), (13, 0x1000)]));
        assert_eq!(resident_shared("RssFile:\t 8 kB\nRssShmem:\t      12 kB\n"), 12 * 1024);
    }

    #[test]
    fn shared_memory_that_was_let_go_is_still_counted() {
        let pid = std::process::id().cast_signed();
        let before = memory_bytes(pid);
        let bytes = 64 << 20;
        // SAFETY: a new mapping, written within its length, given back to the kernel page by page,
        // and unmapped; nothing else refers to it.
        unsafe {
            let at = libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert_ne!(at, libc::MAP_FAILED);
            at.write_bytes(1, bytes);
            assert_eq!(libc::madvise(at, bytes, libc::MADV_DONTNEED), 0);
            let after = memory_bytes(pid);
            libc::munmap(at, bytes);
            // Other tests allocate and free at the same time, but not as much.
            assert!(after >= before + (bytes as u64) / 2, "{before} {after}");
        }
        assert_eq!(memory_bytes(0), 0);
    }
}
