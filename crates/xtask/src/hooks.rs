//! `cargo xtask hooks`: the components of the hooks that we ship, from their sources.
//!
//! Components are committed, so that nobody needs a WebAssembly toolchain to use them. Beside them
//! lies `SHA256SUMS`, which says from which sources and by which compiler they were made. Sources
//! can be compared everywhere; the bytes wherever that compiler and its target are installed.

use crate::{
    console::{plural, say},
    install, workspace,
};
use anyhow::{Context, Result, bail};
use clap::Args;
use forerunner_hook_tools::{BuildError, Recipe, Tools, WIT, build, sha256};
use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The profile in the root manifest.
const PROFILE: &str = "hook";
const SUMS: &str = "SHA256SUMS";
const SOURCES: &str = "# sources ";
const COMPILER: &str = "# compiler ";

/// Rebuild the components of shipped hooks.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask hooks            after a hook's source, the interface or the compiler has changed
  cargo xtask hooks --check    are the committed components those of the committed sources?")]
pub(crate) struct Hooks {
    /// Change nothing; fail when a committed component is not what its sources make.
    #[arg(long)]
    check: bool,
}

impl Hooks {
    pub(crate) fn run(&self) -> Result<()> {
        for shelf in shelves()? {
            if self.check { shelf.check()? } else { shelf.rebuild()? }
        }
        Ok(())
    }
}

/// As a step of `cargo xtask check`.
pub(crate) fn check() -> Result<()> {
    Hooks { check: true }.run()
}

/// Every committed component of an environment's hooks.
pub(crate) fn components() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for environment in workspace::sorted(&workspace::root().join("environments"))? {
        let folder = environment.join("hooks");
        if folder.is_dir() {
            let is_component = |path: &PathBuf| path.extension().is_some_and(|e| e == "wasm");
            found.extend(workspace::sorted(&folder)?.into_iter().filter(is_component));
        }
    }
    Ok(found)
}

/// A folder of hooks: crates, and their components side by side.
struct Shelf {
    folder: PathBuf,
    crates: Vec<PathBuf>,
}

fn shelves() -> Result<Vec<Shelf>> {
    let root = workspace::root();
    let environments = workspace::sorted(&root.join("environments"))?;
    let folders = environments.into_iter().chain([root.join("tests")]).map(|f| f.join("hooks"));
    let mut shelves = Vec::new();
    for folder in folders.filter(|folder| folder.is_dir()) {
        let is_crate = |path: &PathBuf| path.join("Cargo.toml").is_file();
        let crates = workspace::sorted(&folder)?.into_iter().filter(is_crate).collect();
        shelves.push(Shelf { folder, crates });
    }
    Ok(shelves)
}

impl Shelf {
    fn rebuild(&self) -> Result<()> {
        let mut sums = format!("{SOURCES}{}\n{COMPILER}{}\n", self.sources()?, compiler()?);
        for folder in &self.crates {
            let out = self.component(folder);
            let built = make(folder, &out)?;
            writeln!(sums, "{}  {}", built.sha256, name_of(&out))?;
            say(format_args!("{}: {} bytes, {}", out.display(), built.bytes, built.sha256));
        }
        install::replace(&self.folder.join(SUMS), sums.as_bytes(), None)
    }

    fn check(&self) -> Result<()> {
        let path = self.folder.join(SUMS);
        let sums = fs::read_to_string(&path).with_context(|| {
            format!("cannot read {}\nremedy: `cargo xtask hooks`", path.display())
        })?;
        let said = |key: &str| sums.lines().find_map(|line| line.strip_prefix(key));
        for folder in &self.crates {
            let file = self.component(folder);
            let bytes =
                fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let line = format!("{}  {}", sha256(&bytes), name_of(&file));
            if !sums.lines().any(|known| known == line) {
                bail!("{} is not the file of {SUMS}\nremedy: `cargo xtask hooks`", file.display());
            }
        }
        if said(SOURCES) != Some(&*self.sources()?) {
            bail!(
                "sources in {} have changed since the components were made\nremedy: `cargo xtask \
                 hooks`, and commit what it writes",
                self.folder.display()
            );
        }
        let (made_by, here) = (said(COMPILER).unwrap_or("unknown"), compiler()?);
        let n = plural(self.crates.len(), "component");
        if made_by != here {
            say(format_args!(
                "hooks: {n} not rebuilt: made by {made_by}, here is {here}; sources and digests agree"
            ));
            return Ok(());
        }
        let scratch = tempfile::tempdir().context("cannot make a folder")?;
        for folder in &self.crates {
            let file = self.component(folder);
            let again = scratch.path().join("again.wasm");
            match make(folder, &again) {
                Err(error) if matches!(error.downcast_ref(), Some(BuildError::Target(_))) => {
                    say(format_args!(
                        "hooks: {n} not rebuilt: the target wasm32-unknown-unknown is not installed; \
                         sources and digests agree"
                    ));
                    return Ok(());
                }
                made => made?,
            };
            if fs::read(&again)? != fs::read(&file)? {
                bail!(
                    "{} is not what its sources make\nremedy: `cargo xtask hooks`",
                    file.display()
                );
            }
        }
        say(format_args!("hooks: {n} rebuilt, byte for byte the same"));
        Ok(())
    }

    fn component(&self, folder: &Path) -> PathBuf {
        self.folder.join(format!("{}.wasm", name_of(folder)))
    }

    /// A digest of the interface and of everything in the crates.
    fn sources(&self) -> Result<String> {
        let mut all = format!("{}\n", sha256(WIT.as_bytes()));
        for folder in &self.crates {
            for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
                let entry = entry.context("cannot list sources")?;
                if entry.file_type().is_file() {
                    let path = entry.path().strip_prefix(&self.folder)?.display();
                    let text = fs::read(entry.path())
                        .with_context(|| format!("cannot read {}", entry.path().display()))?;
                    writeln!(all, "{path} {}", sha256(&text))?;
                }
            }
        }
        Ok(sha256(all.as_bytes()))
    }
}

fn make(folder: &Path, out: &Path) -> Result<forerunner_hook_tools::Built> {
    let recipe = Recipe {
        source: folder.to_owned(),
        out: Some(out.to_owned()),
        profile: Some(PROFILE.to_owned()),
    };
    build(&recipe, &tools()).with_context(|| format!("cannot build {}", folder.display()))
}

fn tools() -> Tools {
    let named = |name: &str| std::env::var_os(name);
    let default = Tools::default();
    Tools {
        cargo: named("CARGO").unwrap_or(default.cargo),
        rustc: named("RUSTC").unwrap_or(default.rustc),
        ..Tools::default()
    }
}

/// The compiler's version in one line.
fn compiler() -> Result<String> {
    let output = Command::new(tools().rustc).arg("-V").output().context("cannot start rustc")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
