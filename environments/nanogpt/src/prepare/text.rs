//! Byte data sets from text files.

use super::documents::Documents;
use crate::{DataError, Manifest};
use std::{
    fs,
    path::{Path, PathBuf},
};
use walkdir::WalkDir;

/// Makes a byte data set from files and folders of files, in the order of their paths. Hidden
/// files and folders are left out.
///
/// # Errors
/// When a file cannot be read or there is too little text to divide.
pub fn from_text(paths: &[PathBuf], name: &str, out: &Path) -> Result<Manifest, DataError> {
    let mut documents = Documents::default();
    let mut n_files = 0;
    for path in paths {
        for file in files(path)? {
            let text = fs::read(&file).map_err(DataError::io("read", &file))?;
            documents.push_pieces(&text);
            n_files += 1;
        }
    }
    let source = format!("text, {n_files} files, {} bytes", documents.bytes());
    documents.write(name, out, source)
}

/// All files below `path`, sorted.
fn files(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    let shown = |entry: &walkdir::DirEntry| {
        entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".")
    };
    let mut files = Vec::new();
    for entry in WalkDir::new(path).sort_by_file_name().into_iter().filter_entry(shown) {
        let entry = entry.map_err(|error| DataError::io("read", path)(error.into()))?;
        if entry.file_type().is_file() || (entry.depth() == 0 && entry.path().is_file()) {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dataset, manifest::Part};
    use std::slice::from_ref;

    #[test]
    fn a_folder_becomes_a_data_set() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text/inner");
        fs::create_dir_all(&text).unwrap();
        for index in 0..40 {
            fs::write(text.join(format!("{index}.txt")), format!("text {index} ").repeat(200))
                .unwrap();
        }
        fs::write(text.join(".hidden"), "secret").unwrap();
        let out = dir.path().join("out");
        let manifest = from_text(&[dir.path().join("text")], "mine", &out).unwrap();
        assert_eq!(manifest.vocab, 256);
        assert!(manifest.source.starts_with("text, 40 files"), "{}", manifest.source);
        let dataset = Dataset::open(&out).unwrap();
        assert_eq!(dataset.part(Part::Dev).len(), dataset.part(Part::Vault).len());
    }

    #[test]
    fn an_empty_corpus_is_an_error_with_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        let error = from_text(&[dir.path().to_owned()], "x", &dir.path().join("out")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "slice `dev` of a corpus of 0 documents and 0 bytes is empty\n\
             hint: give more text: at least four documents, or one of 512 KiB"
        );
        let absent = from_text(&[dir.path().join("no")], "x", &dir.path().join("out"));
        assert!(absent.unwrap_err().to_string().starts_with("cannot read `"));
    }

    #[test]
    fn a_foreign_folder_is_left_alone_and_an_old_data_set_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text.txt");
        fs::write(&text, (0..200_000).map(|i| format!("{i}\n")).collect::<String>()).unwrap();
        let out = dir.path().join("out");
        fs::create_dir(&out).unwrap();
        fs::write(out.join("thesis.tex"), "years of work").unwrap();
        let error = from_text(from_ref(&text), "x", &out).unwrap_err().to_string();
        assert!(error.contains("exists and is not a data set"), "{error}");
        assert!(out.join("thesis.tex").exists());
        fs::remove_file(out.join("thesis.tex")).unwrap();
        from_text(from_ref(&text), "x", &out).unwrap();
        from_text(from_ref(&text), "y", &out).unwrap();
        assert_eq!(Dataset::open(&out).unwrap().manifest().name, "y");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left behind");
    }
}
