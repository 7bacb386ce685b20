//! The dynamic loader's cache, `/etc/ld.so.cache`: which library lies where.
//!
//! The format is glibc's own (`dl-cache.h`), unchanged since 2.2: a header of 48 bytes that begins
//! with a fixed text, then entries of 24 bytes that point at two strings each, a name and a path.
//! Before glibc 2.32 the same lay behind an older table, which is passed over.

use std::{collections::BTreeMap, path::PathBuf};

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER_BYTES: usize = 48;
const ENTRY_BYTES: usize = 24;

/// The kind of this machine's libraries in an entry's flags: ELF for glibc, and the architecture.
const KIND: u32 = if cfg!(target_arch = "aarch64") { 0x0a03 } else { 0x0303 };

/// Paths by name, for libraries of this architecture; the first of several with one name, which is
/// what the loader takes. Empty when `cache` is none, or damaged.
pub(super) fn parse(cache: &[u8]) -> BTreeMap<String, PathBuf> {
    entries(cache).unwrap_or_default()
}

fn entries(cache: &[u8]) -> Option<BTreeMap<String, PathBuf>> {
    let at = cache.windows(MAGIC.len()).position(|window| window == MAGIC)?;
    let table = &cache[at..];
    let count = u32_at(table, 20)? as usize;
    let mut found = BTreeMap::new();
    for index in 0..count {
        let entry = HEADER_BYTES + index * ENTRY_BYTES;
        let flags = u32_at(table, entry)?;
        let name = text_at(table, u32_at(table, entry + 4)?)?;
        let path = text_at(table, u32_at(table, entry + 8)?)?;
        // Entries for special processors come first and name folders of their own.
        let hardware = u32_at(table, entry + 16)? | u32_at(table, entry + 20)?;
        if flags == KIND && hardware == 0 {
            found.entry(name).or_insert_with(|| PathBuf::from(path));
        }
    }
    Some(found)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn text_at(bytes: &[u8], at: u32) -> Option<String> {
    let rest = bytes.get(at as usize..)?;
    let end = rest.iter().position(|&byte| byte == 0)?;
    Some(String::from_utf8_lossy(&rest[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache with these entries: flags, hardware, name, path.
    fn cache(entries: &[(u32, u32, &str, &str)]) -> Vec<u8> {
        let strings_at = HEADER_BYTES + entries.len() * ENTRY_BYTES;
        let mut strings = Vec::new();
        let mut table = MAGIC.to_vec();
        table.extend((entries.len() as u32).to_le_bytes());
        table.resize(HEADER_BYTES, 0);
        for (flags, hardware, name, path) in entries {
            let mut place = |text: &str| {
                let at = (strings_at + strings.len()) as u32;
                strings.extend(text.bytes().chain([0]));
                at
            };
            for word in [*flags, place(name), place(path), 0, *hardware, 0] {
                table.extend(word.to_le_bytes());
            }
        }
        table.extend(strings);
        table
    }

    #[test]
    fn the_first_library_of_this_machine_is_found() {
        let other = KIND ^ 0x0100;
        let table = cache(&[
            (other, 0, "libcuda.so.1", "/other/libcuda.so.1"),
            (KIND, 2, "libcuda.so.1", "/special/libcuda.so.1"),
            (KIND, 0, "libcuda.so.1", "/usr/lib/libcuda.so.1"),
            (KIND, 0, "libcuda.so.1", "/later/libcuda.so.1"),
        ]);
        let expected = BTreeMap::from([("libcuda.so.1".into(), "/usr/lib/libcuda.so.1".into())]);
        assert_eq!(parse(&table), expected);
        let behind_an_older_table = [b"ld.so-1.7.0\0older table".as_slice(), &table].concat();
        assert_eq!(parse(&behind_an_older_table), expected);
    }

    #[test]
    fn damaged_caches_are_empty() {
        let table = cache(&[(KIND, 0, "a.so", "/a.so")]);
        for length in 0..table.len() {
            assert!(parse(&table[..length]).is_empty(), "{length}");
        }
    }

    #[test]
    fn this_machines_own_cache_knows_the_c_library() {
        let Ok(cache) = std::fs::read("/etc/ld.so.cache") else { return };
        let path = &parse(&cache)["libc.so.6"];
        assert!(path.is_file(), "{}", path.display());
    }
}
