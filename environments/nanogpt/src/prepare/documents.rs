//! Documents and how they are divided into train, dev, val and vault.

use super::folder::Folder;
use crate::{
    DataError, Manifest,
    manifest::{Part, TokenKind},
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeSet, path::Path};

/// Most bytes in each held-out slice.
const HELD_OUT_BYTES: usize = 1_000_000;
/// A held-out slice takes at most one part in so many of a small corpus.
const HELD_OUT_SHARE: usize = 20;
/// A document of more bytes is cut into pieces of about this size, at line ends.
const PIECE_BYTES: usize = 64 * 1024;

/// Documents in the order in which they are trained on, without exact duplicates.
#[derive(Default)]
pub(super) struct Documents {
    documents: Vec<(Vec<u8>, [u8; 32])>,
    seen: BTreeSet<[u8; 32]>,
}

impl Documents {
    /// Adds a document, unless the same bytes are there already.
    pub(super) fn push(&mut self, bytes: Vec<u8>) {
        let hash: [u8; 32] = Sha256::digest(&bytes).into();
        if !bytes.is_empty() && self.seen.insert(hash) {
            self.documents.push((bytes, hash));
        }
    }

    /// Adds a text in pieces, so that a single large file can be divided too.
    pub(super) fn push_pieces(&mut self, mut text: &[u8]) {
        while text.len() > 2 * PIECE_BYTES {
            let line_end = text[PIECE_BYTES..].iter().take(PIECE_BYTES).position(|&b| b == b'\n');
            let (piece, rest) = text.split_at(PIECE_BYTES + line_end.map_or(0, |at| at + 1));
            self.push(piece.to_vec());
            text = rest;
        }
        self.push(text.to_vec());
    }

    /// Number of documents.
    pub(super) fn len(&self) -> usize {
        self.documents.len()
    }

    /// Bytes in all documents.
    pub(super) fn bytes(&self) -> usize {
        self.documents.iter().map(|(bytes, _)| bytes.len()).sum()
    }

    /// Divides the documents and writes them as a byte data set.
    ///
    /// Held-out slices take whole documents in the order of their hashes until they are full;
    /// what is left of the last one is dropped, so that no document is in two slices.
    pub(super) fn write(
        self,
        name: &str,
        out: &Path,
        source: String,
    ) -> Result<Manifest, DataError> {
        let quota = HELD_OUT_BYTES.min(self.bytes() / HELD_OUT_SHARE);
        let mut by_hash: Vec<usize> = (0..self.documents.len()).collect();
        by_hash.sort_by_key(|&index| self.documents[index].1);
        let mut by_hash = by_hash.into_iter();
        let mut held_out = BTreeSet::new();
        let mut folder = Folder::create(name, out, TokenKind::Bytes)?;
        for part in [Part::Dev, Part::Val, Part::Vault] {
            let mut slice = Vec::with_capacity(quota);
            while slice.len() < quota
                && let Some(index) = by_hash.next()
            {
                held_out.insert(index);
                slice.extend_from_slice(&self.documents[index].0);
            }
            slice.truncate(quota);
            self.not_empty(&slice, part)?;
            folder.write(part, |shard| shard.push(slice.iter().map(|&byte| u16::from(byte))))?;
        }
        let train = self.documents.iter().enumerate().filter(|(i, _)| !held_out.contains(i));
        let train: Vec<&[u8]> = train.map(|(_, (bytes, _))| bytes.as_slice()).collect();
        self.not_empty(&train, Part::Train)?;
        folder.write(Part::Train, |shard| {
            train.iter().try_for_each(|bytes| shard.push(bytes.iter().map(|&b| u16::from(b))))
        })?;
        folder.finish(source)
    }

    fn not_empty<T>(&self, slice: &[T], part: Part) -> Result<(), DataError> {
        if !slice.is_empty() {
            return Ok(());
        }
        let (part, n, bytes) = (part.name(), self.len(), self.bytes());
        Err(DataError::Empty {
            what: format!("slice `{part}` of a corpus of {n} documents and {bytes} bytes"),
            hint: "give more text: at least four documents, or one of 512 KiB",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dataset;

    fn text(index: usize) -> Vec<u8> {
        format!("document {index}\n").repeat(500).into_bytes()
    }

    #[test]
    fn every_document_is_in_one_slice_and_the_same_one_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let mut documents = Documents::default();
            (0..50).chain(0..10).for_each(|index| documents.push(text(index)));
            assert_eq!(documents.len(), 50, "duplicates are dropped");
            documents.write("x", &dir.path().join(name), "test".into()).unwrap()
        };
        let manifest = make("a");
        assert_eq!(manifest, make("b"));
        let dataset = Dataset::open(&dir.path().join("a")).unwrap();
        let lines = |part: Part| -> BTreeSet<Vec<u8>> {
            let shard = dataset.part(part);
            let bytes: Vec<u8> = shard.tokens(0..shard.len()).map(|token| token as u8).collect();
            // The last line of a held-out slice may be cut.
            let end = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
            bytes[..end]
                .split(|&b| b == b'\n')
                .filter(|l| !l.is_empty())
                .map(<[_]>::to_vec)
                .collect()
        };
        let slices = Part::ALL.map(lines);
        assert!(slices.iter().all(|slice| !slice.is_empty()));
        for (a, b) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
            assert!(slices[a].is_disjoint(&slices[b]), "{a} and {b} share documents");
        }
    }

    #[test]
    fn a_large_file_is_divided_at_line_ends() {
        let mut documents = Documents::default();
        let text: String = (0..100_000).map(|index| format!("line {index}\n")).collect();
        documents.push_pieces(text.as_bytes());
        assert!(documents.len() > 8);
        assert_eq!(documents.bytes(), text.len());
        assert!(documents.documents.iter().all(|(bytes, _)| bytes.ends_with(b"\n")));
    }

    #[test]
    fn too_little_text_is_an_error_with_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        for texts in [&[][..], &["one document is too few to divide"]] {
            let mut documents = Documents::default();
            texts.iter().for_each(|text| documents.push_pieces(text.as_bytes()));
            let out = dir.path().join("x");
            let error = documents.write("x", &out, "test".into()).unwrap_err().to_string();
            assert!(error.contains("is empty\nhint: give more text"), "{error}");
            assert!(!out.exists());
        }
    }
}
