//! Where the workspace is and what is in it.

use anyhow::{Context, Result, bail};
use cargo_metadata::{CrateType, Metadata, MetadataCommand, Package};
use std::path::{Path, PathBuf};

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    // Cargo names the folder of this crate at run time; the one it was compiled in serves when the
    // binary is started by hand.
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.ancestors().nth(2).unwrap_or(&here).to_owned()
}

/// The installation of this checkout.
pub(crate) fn prefix() -> PathBuf {
    root().join("target/forerunner")
}

/// The members of the workspace, without their dependencies.
pub(crate) fn members() -> Result<Vec<Package>> {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cannot list the crates of the workspace")?;
    Ok(metadata.packages)
}

/// The whole graph of dependencies on `target`.
pub(crate) fn graph(target: &str) -> Result<Metadata> {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(["--filter-platform".to_owned(), target.to_owned()])
        .exec()
        .context("cannot list the dependencies of the workspace")
}

/// Members that are plugins: those that are built as a dynamic library.
pub(crate) fn plugins(members: &[Package]) -> Vec<&Package> {
    let is_plugin = |package: &&Package| {
        package.targets.iter().any(|target| target.crate_types.contains(&CrateType::CDyLib))
    };
    members.iter().filter(is_plugin).collect()
}

/// Every shipped preset: `environments/*/runs/*.toml`, sorted.
pub(crate) fn presets() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for environment in sorted(&root().join("environments"))? {
        let runs = environment.join("runs");
        if runs.is_dir() {
            let is_preset = |path: &PathBuf| path.extension().is_some_and(|e| e == "toml");
            found.extend(sorted(&runs)?.into_iter().filter(is_preset));
        }
    }
    for (index, path) in found.iter().enumerate() {
        let same = |other: &&PathBuf| other.file_name() == path.file_name();
        if let Some(other) = found[..index].iter().find(same) {
            bail!("two presets share a name: {} and {}", other.display(), path.display());
        }
    }
    Ok(found)
}

/// What is in a folder, sorted.
pub(crate) fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}
