//! The default corpus: Rust sources of this workspace's own locked dependencies.

use super::documents::Documents;
use crate::{DataError, Manifest};
use cargo_metadata::{Metadata, MetadataCommand, Package};
use serde::Deserialize;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use walkdir::WalkDir;

/// Which crates and files make up the corpus: `corpus.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Corpus {
    /// Name of the data set.
    pub name: String,
    /// Smaller files are left out.
    pub min_file_bytes: u64,
    /// Larger files are left out.
    pub max_file_bytes: u64,
    /// The crates, as `name` or `name@version-prefix`, in the order of the training slice.
    pub crates: Vec<String>,
}

impl Default for Corpus {
    /// The corpus of track `cpu`.
    fn default() -> Self {
        toml::from_str(include_str!("../../corpus.toml")).expect("our own corpus.toml is valid")
    }
}

/// Makes a byte data set from the Rust sources of crates that the workspace at `manifest` locks.
///
/// Works offline when the crates were downloaded before, which building the workspace does.
///
/// # Errors
/// When Cargo cannot list the dependencies or a crate of the corpus is not among them.
pub fn from_locked_dependencies(
    manifest: &Path,
    corpus: &Corpus,
    name: &str,
    out: &Path,
) -> Result<Manifest, DataError> {
    let metadata = locked(manifest)?;
    let mut documents = Documents::default();
    for wanted in &corpus.crates {
        let package = find(&metadata, wanted).ok_or_else(|| DataError::NotLocked {
            name: wanted.clone(),
            manifest: manifest.to_owned(),
        })?;
        for file in rust_files(package, corpus)? {
            documents.push(fs::read(&file).map_err(DataError::io("read", &file))?);
        }
    }
    let (n_crates, n_files) = (corpus.crates.len(), documents.len());
    let source = format!(
        "Rust sources of {n_crates} locked crates, {n_files} files, {} bytes",
        documents.bytes()
    );
    documents.write(name, out, source)
}

/// Asks Cargo for the locked packages, first without touching the network.
fn locked(manifest: &Path) -> Result<Metadata, DataError> {
    let ask = |options: &[&str]| {
        let mut command = MetadataCommand::new();
        command.manifest_path(manifest);
        let mut options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        // Without the filter Cargo wants the sources of other platforms' crates too.
        if let Some(triple) = host_triple() {
            options.extend(["--filter-platform".to_owned(), triple]);
        }
        command.other_options(options).exec()
    };
    ask(&["--locked", "--offline"]).or_else(|_| ask(&["--locked"])).map_err(|error| {
        let text = error.to_string();
        let line = text.lines().find(|line| line.contains("error")).unwrap_or(&text);
        DataError::Dependencies { manifest: manifest.to_owned(), reason: line.trim().to_owned() }
    })
}

fn host_triple() -> Option<String> {
    let output = Command::new("rustc").arg("-vV").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}

/// The highest locked version of `name` or `name@prefix` that comes from a registry.
fn find<'a>(metadata: &'a Metadata, wanted: &str) -> Option<&'a Package> {
    let (name, prefix) = wanted.split_once('@').unwrap_or((wanted, ""));
    let matches = |version: &str| {
        version
            .strip_prefix(prefix)
            .is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('.'))
    };
    metadata
        .packages
        .iter()
        .filter(|p| {
            p.name.as_str() == name && p.source.is_some() && matches(&p.version.to_string())
        })
        .max_by(|a, b| a.version.cmp(&b.version))
}

/// A package's Rust files within the size limits, sorted by path.
fn rust_files(package: &Package, corpus: &Corpus) -> Result<Vec<PathBuf>, DataError> {
    let root = package.manifest_path.parent().map_or(Path::new("."), |path| path.as_std_path());
    let mut files = Vec::new();
    for entry in WalkDir::new(root).sort_by_file_name() {
        let entry = entry.map_err(|error| DataError::io("read", root)(error.into()))?;
        if !entry.file_type().is_file() || entry.path().extension().is_none_or(|e| e != "rs") {
            continue;
        }
        let bytes = entry.metadata().map_err(|e| DataError::io("read", root)(e.into()))?.len();
        if (corpus.min_file_bytes..=corpus.max_file_bytes).contains(&bytes) {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dataset, manifest::Part};

    fn workspace() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml")
    }

    #[test]
    fn the_default_corpus_names_each_crate_once() {
        let corpus = Corpus::default();
        let mut names = corpus.crates.clone();
        names.sort();
        names.dedup();
        assert_eq!(names, corpus.crates, "sorted and without duplicates");
        assert!((15..=30).contains(&names.len()));
    }

    #[test]
    fn every_crate_of_the_default_corpus_is_locked() {
        let metadata = locked(&workspace()).unwrap();
        for name in Corpus::default().crates {
            assert!(find(&metadata, &name).is_some(), "{name}");
        }
        assert!(find(&metadata, "hashbrown@0.1").is_none(), "a prefix ends at a dot");
        assert!(find(&metadata, "forerunner-core").is_none(), "our own crates are no corpus");
    }

    #[test]
    fn a_small_corpus_is_prepared_offline_and_identically() {
        let corpus = Corpus {
            name: "small".into(),
            crates: vec!["memchr".into(), "num-traits".into()],
            ..Corpus::default()
        };
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let manifest = from_locked_dependencies(&workspace(), &corpus, "small", &a).unwrap();
        assert_eq!(from_locked_dependencies(&workspace(), &corpus, "small", &b).unwrap(), manifest);
        let dataset = Dataset::open(&a).unwrap();
        assert!(dataset.part(Part::Train).len() > 5 * dataset.part(Part::Dev).len());
    }

    #[test]
    fn what_is_not_locked_is_an_error_with_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        let corpus = Corpus { crates: vec!["left-pad".into()], ..Corpus::default() };
        let out = dir.path().join("out");
        let error = from_locked_dependencies(&workspace(), &corpus, "x", &out).unwrap_err();
        assert!(error.to_string().contains("crate `left-pad` of the corpus is not a locked"));
        let nowhere = dir.path().join("Cargo.toml");
        let error = from_locked_dependencies(&nowhere, &corpus, "x", &out).unwrap_err();
        assert!(error.to_string().contains("\nhint: run `cargo fetch --locked`"), "{error}");
    }
}
