//! Token files: 256 little-endian `i32` (20240520, 1, count, zeros), then the tokens as
//! little-endian `u16`. The format of the FineWeb shards of the NanoGPT speedrun, used here for
//! byte corpora too.

use crate::DataError;
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{BufWriter, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
};

/// The first number of every shard.
pub(crate) const MAGIC: i32 = 20_240_520;
/// The only version known.
pub(crate) const VERSION: i32 = 1;
/// Bytes before the first token.
pub(crate) const HEADER_BYTES: usize = 1024;

/// A token file, mapped into memory.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    map: memmap2::Mmap,
}

impl Shard {
    /// Maps a file and checks its header and length; tokens are checked by
    /// [`Shard::check_tokens`].
    ///
    /// # Errors
    /// When the file cannot be read, has another magic number or version, is shorter or longer
    /// than its header promises, or holds no tokens.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::io("open", path))?;
        let held = file.metadata().map_err(DataError::io("open", path))?.len();
        if held == 0 {
            let hint = "give a shard with tokens";
            return Err(DataError::Empty { what: format!("`{}`", path.display()), hint });
        }
        #[expect(unsafe_code, reason = "a data set may be larger than memory")]
        // SAFETY: prepared data sets and fetched shards are written once, under another name, and
        // then renamed; we never write to or truncate a mapped file, and no untrusted process may
        // open it. Shards of the user's own stay as they are by agreement (`data prepare --help`).
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(DataError::io("map", path))?;
        let number = |index: usize| {
            let bytes = map.get(4 * index..4 * index + 4).and_then(|bytes| bytes.try_into().ok());
            i32::from_le_bytes(bytes.unwrap_or_default())
        };
        if number(0) != MAGIC {
            return Err(DataError::Magic { path: path.to_owned(), found: number(0) });
        }
        if number(1) != VERSION {
            return Err(DataError::Version { path: path.to_owned(), found: number(1) });
        }
        let promised = i64::from(number(2));
        let expected = HEADER_BYTES as u64 + 2 * promised.max(0) as u64;
        if promised < 0 || held != expected {
            return Err(DataError::Length { path: path.to_owned(), promised, expected, held });
        }
        if promised == 0 {
            let hint = "give a shard with tokens";
            return Err(DataError::Empty { what: format!("`{}`", path.display()), hint });
        }
        Ok(Self { path: path.to_owned(), map })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        (self.map.len() - HEADER_BYTES) / 2
    }

    /// Never: a shard without tokens does not open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tokens at the given positions.
    ///
    /// # Panics
    /// When `range` reaches beyond [`Shard::len`].
    pub fn tokens(&self, range: Range<usize>) -> impl Iterator<Item = u16> {
        let bytes = &self.map[HEADER_BYTES + 2 * range.start..HEADER_BYTES + 2 * range.end];
        let (pairs, _) = bytes.as_chunks::<2>();
        pairs.iter().map(|&pair| u16::from_le_bytes(pair))
    }

    /// What stands before the tokens.
    pub(crate) fn header(&self) -> &[u8] {
        &self.map[..HEADER_BYTES]
    }

    /// The tokens as they stand in the file: two little-endian bytes each.
    pub(crate) fn token_bytes(&self) -> &[u8] {
        &self.map[HEADER_BYTES..]
    }

    /// Checks that every token is smaller than `vocab`.
    ///
    /// # Errors
    /// [`DataError::Token`] for the first that is not.
    pub fn check_tokens(&self, vocab: usize) -> Result<(), DataError> {
        match self.tokens(0..self.len()).enumerate().find(|(_, token)| *token as usize >= vocab) {
            None => Ok(()),
            Some((index, token)) => {
                Err(DataError::Token { path: self.path.clone(), index, token, vocab })
            }
        }
    }

    /// SHA-256 of the whole file, in hex: what `sha256sum` prints.
    pub fn sha256(&self) -> String {
        hex(&Sha256::digest(&self.map[..]))
    }
}

/// Writes a shard token by token.
#[derive(Debug)]
pub struct ShardWriter {
    path: PathBuf,
    file: BufWriter<File>,
    count: u64,
}

impl ShardWriter {
    /// Starts a new file.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: &Path) -> Result<Self, DataError> {
        let file = File::create(path).map_err(DataError::io("create", path))?;
        let mut file = BufWriter::new(file);
        file.write_all(&[0; HEADER_BYTES]).map_err(DataError::io("write", path))?;
        Ok(Self { path: path.to_owned(), file, count: 0 })
    }

    /// Appends tokens.
    ///
    /// # Errors
    /// When the file cannot be written, for example on a full disk.
    pub fn push(&mut self, tokens: impl IntoIterator<Item = u16>) -> Result<(), DataError> {
        for token in tokens {
            self.count += 1;
            self.file
                .write_all(&token.to_le_bytes())
                .map_err(DataError::io("write", &self.path))?;
        }
        Ok(())
    }

    /// Writes the header and answers the file, opened again.
    ///
    /// # Errors
    /// When the file cannot be written, is empty, or holds more tokens than its header can count.
    pub fn finish(mut self) -> Result<Shard, DataError> {
        if self.count > i32::MAX as u64 {
            return Err(DataError::TooLarge(self.path));
        }
        let count = self.count;
        let write = |file: &mut BufWriter<File>| {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&header(count))?;
            file.flush()?;
            file.get_ref().sync_all()
        };
        write(&mut self.file).map_err(DataError::io("write", &self.path))?;
        Shard::open(&self.path)
    }
}

/// What stands before so many tokens. A file holds at most `i32::MAX`.
pub(crate) fn header(count: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&MAGIC.to_le_bytes());
    header[4..8].copy_from_slice(&VERSION.to_le_bytes());
    header[8..16].copy_from_slice(&count.to_le_bytes());
    header
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(magic: i32, version: i32, count: i32) -> Vec<u8> {
        let mut bytes: Vec<u8> = [magic, version, count].map(i32::to_le_bytes).concat();
        bytes.resize(HEADER_BYTES, 0);
        bytes
    }

    #[test]
    fn a_shard_reads_back_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.bin");
        let mut writer = ShardWriter::create(&path).unwrap();
        writer.push([3, 50_256, 7]).unwrap();
        writer.push([9]).unwrap();
        let shard = writer.finish().unwrap();
        assert_eq!(shard.len(), 4);
        assert_eq!(shard.tokens(1..4).collect::<Vec<_>>(), [50_256, 7, 9]);
        assert!(shard.check_tokens(50_257).is_ok());
        assert_eq!(shard.sha256(), Shard::open(&path).unwrap().sha256());
    }

    #[test]
    fn damaged_shards_are_one_line_errors_with_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        let check = |bytes: &[u8], expected: &str| {
            let path = dir.path().join("x.bin");
            std::fs::write(&path, bytes).unwrap();
            let error = match Shard::open(&path) {
                Ok(shard) => shard.check_tokens(256).unwrap_err(),
                Err(error) => error,
            };
            let text = error.to_string().replace(&*path.to_string_lossy(), "x.bin");
            let (line, hint) = text.split_once('\n').expect("a hint");
            assert_eq!(line, expected);
            assert!(hint.starts_with("hint: ") && !hint.contains('\n'), "{hint}");
        };
        let with = |header: Vec<u8>, tokens: &[u16]| {
            [header, tokens.iter().flat_map(|token| token.to_le_bytes()).collect()].concat()
        };
        check(b"", "`x.bin` is empty");
        check(b"#", "`x.bin` is not a token shard: it starts with 0, not 20240520");
        check(
            &with(header(20_240_801, 1, 1), &[1]),
            "`x.bin` is not a token shard: it starts with 20240801, not 20240520",
        );
        check(
            &with(header(MAGIC, 2, 1), &[1]),
            "`x.bin` is a token shard of version 2, only version 1 is known",
        );
        check(
            &header(MAGIC, 1, 1)[..100],
            "`x.bin` is damaged: its header promises 1 tokens (1026 bytes), it has 100 bytes",
        );
        check(
            &with(header(MAGIC, 1, 3), &[1, 2]),
            "`x.bin` is damaged: its header promises 3 tokens (1030 bytes), it has 1028 bytes",
        );
        check(
            &with(header(MAGIC, 1, 1), &[1, 2]),
            "`x.bin` is damaged: its header promises 1 tokens (1026 bytes), it has 1028 bytes",
        );
        check(
            &with(header(MAGIC, 1, -4), &[]),
            "`x.bin` is damaged: its header promises -4 tokens (1024 bytes), it has 1024 bytes",
        );
        check(&header(MAGIC, 1, 0), "`x.bin` is empty");
        check(
            &with(header(MAGIC, 1, 3), &[1, 255, 256]),
            "`x.bin` holds token 256 at position 2, but the vocabulary has 256 tokens",
        );
        let absent = Shard::open(&dir.path().join("none.bin")).unwrap_err().to_string();
        assert!(absent.starts_with("cannot open `"), "{absent}");
    }
}
