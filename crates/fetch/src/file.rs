//! Files on disk: whether one is a whole token shard, and the record of its hash beside it.

use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// The first number of every shard.
const MAGIC: i32 = 20_240_520;
/// The only version known.
const VERSION: i32 = 1;
/// Bytes before the first token.
const HEADER_BYTES: u64 = 1024;
/// Read at a time when hashing.
const CHUNK: usize = 1 << 20;

/// Number of tokens in a shard whose header and length agree, or what is wrong with it.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn count_tokens(path: &Path) -> io::Result<Result<u64, String>> {
    let mut file = File::open(path)?;
    let held = file.metadata()?.len();
    let mut header = [0; 12];
    if let Err(error) = file.read_exact(&mut header) {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => Ok(Err(format!("it has only {held} bytes"))),
            _ => Err(error),
        };
    }
    let (numbers, _) = header.as_chunks::<4>();
    let number = |index: usize| i32::from_le_bytes(numbers[index]);
    if (number(0), number(1)) != (MAGIC, VERSION) {
        let (magic, version) = (number(0), number(1));
        return Ok(Err(format!(
            "it starts with {magic} and {version}, not with {MAGIC} and {VERSION}"
        )));
    }
    let tokens = u64::try_from(number(2)).unwrap_or_default();
    let promised = HEADER_BYTES + 2 * tokens;
    if tokens == 0 || held != promised {
        return Ok(Err(format!(
            "its header promises {} tokens ({promised} bytes), it has {held} bytes",
            number(2)
        )));
    }
    Ok(Ok(tokens))
}

/// SHA-256 of a file, in hex: what `sha256sum` prints.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            n => hash.update(&chunk[..n]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Where the hash of a file is recorded.
pub(crate) fn record_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".sha256");
    PathBuf::from(name)
}

/// The recorded hash of a file, when there is one.
///
/// # Errors
/// When there is a record that cannot be read.
pub(crate) fn recorded(file: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(record_path(file)) {
        Ok(text) => Ok(text.split_whitespace().next().map(str::to_owned)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Records the hash of a file, completely or not at all.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn record(file: &Path, sha256: &str) -> io::Result<()> {
    let path = record_path(file);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_extension("sha256.new");
    fs::write(&temporary, format!("{sha256}  {name}\n"))?;
    fs::rename(&temporary, &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_whole_when_header_and_length_agree() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.bin");
        let check = |numbers: [i32; 3], tokens: usize, expected: Result<u64, &str>| {
            let mut bytes: Vec<u8> = numbers.map(i32::to_le_bytes).concat();
            bytes.resize(1024 + 2 * tokens, 0);
            fs::write(&path, bytes).unwrap();
            let found = count_tokens(&path).unwrap();
            assert_eq!(found, expected.map_err(str::to_owned));
        };
        check([MAGIC, 1, 5], 5, Ok(5));
        check([MAGIC + 1, 1, 5], 5, Err("it starts with 20240521 and 1, not with 20240520 and 1"));
        check([MAGIC, 2, 5], 5, Err("it starts with 20240520 and 2, not with 20240520 and 1"));
        let short = "its header promises 5 tokens (1034 bytes), it has 1032 bytes";
        check([MAGIC, 1, 5], 4, Err(short));
        check(
            [MAGIC, 1, 0],
            0,
            Err("its header promises 0 tokens (1024 bytes), it has 1024 bytes"),
        );
        fs::write(&path, "<html>").unwrap();
        assert_eq!(count_tokens(&path).unwrap(), Err("it has only 6 bytes".to_owned()));
    }

    #[test]
    fn a_record_reads_back_and_is_one_that_sha256sum_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.bin");
        fs::write(&path, "abc").unwrap();
        assert_eq!(recorded(&path).unwrap(), None);
        let hash = sha256(&path).unwrap();
        record(&path, &hash).unwrap();
        assert_eq!(recorded(&path).unwrap().as_deref(), Some(&*hash));
        let text = fs::read_to_string(dir.path().join("x.bin.sha256")).unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(text, format!("{abc}  x.bin\n"));
    }
}
