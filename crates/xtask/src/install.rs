//! `cargo xtask install`: what an ordinary user needs, in one folder.
//!
//! ```text
//! PREFIX/bin/forerunner
//! PREFIX/lib/forerunner/plugins/lib*.so
//! PREFIX/lib/forerunner/plugins/hooks/*.wasm
//! PREFIX/lib/forerunner/harness/nanogpt/     what NanoGPT programs are compiled against
//! PREFIX/share/forerunner/presets/*.toml
//! PREFIX/share/forerunner/data/rust-deps/
//! ```

use crate::{
    command,
    console::{plural, say},
    dataset, hooks, workspace,
};
use anyhow::{Context, Result, bail};
use cargo_metadata::{Artifact, CrateType, Message};
use clap::Args;
use forerunner_workbench::Harness;
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::UNIX_EPOCH,
};

pub(crate) const HARNESS_PACKAGE: &str = "forerunner-nanogpt-harness";
pub(crate) const CLI_PACKAGE: &str = "forerunner-cli";

/// Build in release mode and install.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask install --prefix ~/.local
  cargo xtask install --prefix /opt/forerunner --locked

Files are replaced one by one and whole, so that programs that are running are not disturbed.")]
pub(crate) struct Install {
    /// Folder to install into.
    #[arg(long, value_name = "DIR")]
    prefix: PathBuf,
    /// Refuse to build when Cargo.lock is out of date.
    #[arg(long)]
    locked: bool,
}

impl Install {
    pub(crate) fn run(&self) -> Result<()> {
        let prefix = std::path::absolute(&self.prefix).context("cannot use the prefix")?;
        install(&prefix, self.locked)
    }
}

/// Builds and installs into `prefix`; quick when nothing changed.
pub(crate) fn install(prefix: &Path, locked: bool) -> Result<()> {
    let built = Built::build(locked)?;
    let mut files = Files::new(prefix);
    files.put(built.binary()?, "bin/forerunner")?;
    for plugin in built.plugins()? {
        files.put(plugin, &format!("lib/forerunner/plugins/{}", name_of(plugin)))?;
    }
    for hook in hooks::components()? {
        files.put(&hook, &format!("lib/forerunner/plugins/hooks/{}", name_of(&hook)))?;
    }
    for preset in workspace::presets()? {
        files.put(&preset, &format!("share/forerunner/presets/{}", name_of(&preset)))?;
    }
    files.put_harness(&built)?;
    files.remove_stale()?;
    dataset::prepare(prefix)?;
    let state = match files.n_changed {
        0 => "up to date".to_owned(),
        count => format!("{} changed", plural(count, "file")),
    };
    say(format_args!("installed in {} ({state})", prefix.display()));
    Ok(())
}

/// What cargo built, with its messages.
struct Built {
    messages: Vec<u8>,
    artifacts: Vec<Artifact>,
    plugins: Vec<String>,
}

impl Built {
    fn build(locked: bool) -> Result<Self> {
        let members = workspace::members()?;
        let plugins: Vec<String> =
            workspace::plugins(&members).iter().map(|package| package.name.to_string()).collect();
        // One invocation for everything: features are then unified once, so that the binary, the
        // plugins and the harness share their dependencies.
        let mut cargo =
            command::cargo(["build", "--release", "--message-format=json-render-diagnostics"]);
        for package in
            [CLI_PACKAGE, HARNESS_PACKAGE].into_iter().chain(plugins.iter().map(|p| &**p))
        {
            cargo.args(["--package", package]);
        }
        if locked {
            cargo.arg("--locked");
        }
        let output = cargo
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot start {}", command::shown(&cargo)))?;
        if !output.status.success() {
            bail!("the build failed ({})", output.status);
        }
        let mut artifacts = Vec::new();
        for message in Message::parse_stream(&*output.stdout) {
            if let Message::CompilerArtifact(artifact) = message.context("cargo's messages")? {
                artifacts.push(artifact);
            }
        }
        Ok(Self { messages: output.stdout, artifacts, plugins })
    }

    fn binary(&self) -> Result<&Path> {
        let executable = |artifact: &Artifact| artifact.target.name == "forerunner";
        self.artifacts
            .iter()
            .filter(|artifact| executable(artifact))
            .find_map(|artifact| artifact.executable.as_ref())
            .map(|path| path.as_std_path())
            .context("cargo built no binary `forerunner`")
    }

    fn plugins(&self) -> Result<Vec<&Path>> {
        let library = |package: &String| {
            let stem = package.replace('-', "_");
            self.artifacts
                .iter()
                .filter(|artifact| {
                    artifact.target.name == stem
                        && artifact.target.crate_types.contains(&CrateType::CDyLib)
                })
                .flat_map(|artifact| &artifact.filenames)
                .find(|path| path.extension() == Some("so"))
                .map(|path| path.as_std_path())
                .with_context(|| format!("cargo built no library for the plugin `{package}`"))
        };
        self.plugins.iter().map(library).collect()
    }

    /// Changes when any library or the compiler does.
    fn fingerprint(&self) -> Result<String> {
        let mut text = String::new();
        let files = self.artifacts.iter().flat_map(|artifact| &artifact.filenames);
        for path in files.filter(|path| path.extension() == Some("rlib")) {
            let facts = fs::metadata(path).with_context(|| format!("cannot read {path}"))?;
            let changed = facts.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            writeln!(text, "{path} {} {}", facts.len(), changed.as_nanos())?;
        }
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let version = std::process::Command::new(rustc)
            .arg("-vV")
            .output()
            .context("cannot ask rustc for its version")?;
        text.push_str(&String::from_utf8_lossy(&version.stdout));
        Ok(text)
    }
}

/// The files of an installation.
struct Files<'a> {
    prefix: &'a Path,
    installed: BTreeSet<String>,
    n_changed: usize,
}

impl<'a> Files<'a> {
    fn new(prefix: &'a Path) -> Self {
        Self { prefix, installed: BTreeSet::new(), n_changed: 0 }
    }

    /// Copies `from` to `to` below the prefix unless the same is there.
    fn put(&mut self, from: &Path, to: &str) -> Result<()> {
        let target = self.prefix.join(to);
        self.installed.insert(to.to_owned());
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        if fs::read(&target).is_ok_and(|known| known == content) {
            return Ok(());
        }
        self.n_changed += 1;
        let mode = fs::metadata(from)?.permissions();
        replace(&target, &content, Some(mode))
    }

    /// Installs the harness unless the one that is there was made from the same libraries.
    fn put_harness(&mut self, built: &Built) -> Result<()> {
        let folder = self.prefix.join("lib/forerunner/harness/nanogpt");
        let stamp = folder.with_extension("stamp");
        let fingerprint = built.fingerprint()?;
        let same = fs::read_to_string(&stamp).is_ok_and(|known| known == fingerprint);
        if same && Harness::load(&folder).is_ok() {
            return Ok(());
        }
        self.n_changed += 1;
        Harness::install(&*built.messages, "harness", &folder)?;
        replace(&stamp, fingerprint.as_bytes(), None)
    }

    /// Removes what an earlier installation put there and this one does not. Files of other
    /// origin, for example a user's own plugins, stay.
    fn remove_stale(&self) -> Result<()> {
        let list = self.prefix.join("share/forerunner/installed.txt");
        let before = fs::read_to_string(&list).unwrap_or_default();
        for stale in before.lines().filter(|line| !self.installed.contains(*line)) {
            let path = self.prefix.join(stale);
            if path.is_file() {
                fs::remove_file(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        let mut now = String::new();
        for file in &self.installed {
            writeln!(now, "{file}")?;
        }
        if now == before { Ok(()) } else { replace(&list, now.as_bytes(), None) }
    }
}

/// Puts a file in its place in one step: whoever has the old one open keeps it.
pub(crate) fn replace(to: &Path, content: &[u8], mode: Option<fs::Permissions>) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let folder = to.parent().context("a file in no folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let write = || -> Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        std::io::Write::write_all(&mut file, content)?;
        let mode = mode.clone().unwrap_or_else(|| fs::Permissions::from_mode(0o644));
        fs::set_permissions(file.path(), mode)?;
        file.persist(to)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", to.display()))
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_files_are_left_alone_and_stale_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let (prefix, source) = (folder.path().join("prefix"), folder.path().join("source"));
        fs::write(&source, "one").unwrap();
        let install = |names: &[&str]| {
            let mut files = Files::new(&prefix);
            for name in names {
                files.put(&source, name).unwrap();
            }
            files.remove_stale().unwrap();
            files.n_changed
        };
        assert_eq!(install(&["lib/a.so", "lib/b.so"]), 2);
        assert_eq!(install(&["lib/a.so", "lib/b.so"]), 0);
        fs::write(prefix.join("lib/own.so"), "a user's").unwrap();
        fs::write(&source, "two").unwrap();
        assert_eq!(install(&["lib/a.so"]), 1);
        assert_eq!(fs::read(prefix.join("lib/a.so")).unwrap(), b"two");
        assert!(!prefix.join("lib/b.so").exists());
        assert!(prefix.join("lib/own.so").exists());
    }
}
