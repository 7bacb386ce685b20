//! The dynamic loader a program names in its ELF header.
//!
//! The kernel opens it with the right to execute when the program starts, so Landlock has to be
//! told about it.

use std::{
    fs::File,
    io,
    os::unix::{ffi::OsStringExt, fs::FileExt},
    path::{Path, PathBuf},
};

const PT_INTERP: u32 = 3;

/// The loader `program` asks for, or `None` if it is statically linked.
///
/// # Errors
///
/// When the file cannot be read or is not a 64-bit little-endian ELF file; scripts are not
/// programs here.
pub(crate) fn read(program: &Path) -> io::Result<Option<PathBuf>> {
    let file = File::open(program)?;
    let mut header = [0; 64];
    let not_elf = || io::Error::other("not a 64-bit ELF program");
    file.read_exact_at(&mut header, 0).map_err(|_| not_elf())?;
    if header[..6] != *b"\x7fELF\x02\x01" {
        return Err(not_elf());
    }
    let table = u64_at(&header, 32);
    let (entry_bytes, n_entries) = (u16_at(&header, 54), u16_at(&header, 56));
    for entry_idx in 0..n_entries {
        let mut entry = [0; 56];
        let at = u64::from(entry_idx) * u64::from(entry_bytes);
        file.read_exact_at(&mut entry, table.checked_add(at).ok_or_else(not_elf)?)?;
        if u32_at(&entry, 0) == PT_INTERP {
            let (offset, n_bytes) = (u64_at(&entry, 8), u64_at(&entry, 32));
            let mut path = vec![0; usize::try_from(n_bytes.min(4096)).map_err(io::Error::other)?];
            file.read_exact_at(&mut path, offset)?;
            path.truncate(path.iter().position(|&byte| byte == 0).unwrap_or(path.len()));
            return Ok(Some(PathBuf::from(std::ffi::OsString::from_vec(path))));
        }
    }
    Ok(None)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_names_a_loader_and_a_text_file_is_refused() {
        let loader = read(&std::env::current_exe().unwrap()).unwrap();
        if cfg!(target_env = "gnu") {
            assert!(loader.unwrap().to_string_lossy().contains("ld-linux"));
        }
        let error =
            read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))).unwrap_err();
        assert_eq!(error.to_string(), "not a 64-bit ELF program");
    }
}
