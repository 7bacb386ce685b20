//! `cargo xtask install`: what an ordinary user needs, in one folder.
//!
//! ```text
//! PREFIX/bin/forerunner
//! PREFIX/lib/forerunner/plugins/lib*.so
//! PREFIX/lib/forerunner/plugins/hooks/*.wasm
//! PREFIX/lib/forerunner/harness/nanogpt/     what NanoGPT programs are compiled against
//! PREFIX/lib/forerunner/harness/nanogpt-cuda/   the same for tracks on a GPU, with `--cuda`
//! PREFIX/bin/forerunner-gpu                  what works on the GPU for us, with `--cuda`
//! PREFIX/lib/forerunner/cuda                 a link to CUDA's libraries, with `--cuda`
//! PREFIX/share/forerunner/presets/*.toml
//! PREFIX/share/forerunner/data/rust-deps/
//! ```

use crate::{
    command,
    console::{plural, say},
    cuda_toolkit, dataset, hooks, workspace,
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
    process::{Command, Stdio},
    time::UNIX_EPOCH,
};

pub(crate) const HARNESS_PACKAGE: &str = "forerunner-nanogpt-harness";
const KERNELS_PACKAGE: &str = "forerunner-kernels";
/// Overwrites device memory between programs, and measures the rate of matrix products.
const GPU_HELPER: &str = "forerunner-gpu";
/// Where harnesses are installed, below the prefix.
const HARNESS: &str = "lib/forerunner/harness/nanogpt";
const CUDA_HARNESS: &str = "lib/forerunner/harness/nanogpt-cuda";
pub(crate) const CLI_PACKAGE: &str = "forerunner-cli";

/// Build in release mode and install.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask install --prefix ~/.local
  cargo xtask install --prefix /opt/forerunner --locked
  cargo xtask install --prefix ~/.local --cuda     also what tracks on a GPU take

With --cuda the harness is built a second time, with a CUDA compiler (`cargo xtask cuda-toolkit`); no GPU is
needed for that. Files are replaced one by one and whole, so that programs that are running are not disturbed.")]
pub(crate) struct Install {
    /// Folder to install into.
    #[arg(long, value_name = "DIR")]
    prefix: PathBuf,
    /// Refuse to build when Cargo.lock is out of date.
    #[arg(long)]
    locked: bool,
    /// Also build the harness for tracks on a GPU.
    #[arg(long)]
    cuda: bool,
}

impl Install {
    pub(crate) fn run(&self) -> Result<()> {
        let prefix = std::path::absolute(&self.prefix).context("cannot use the prefix")?;
        install(&prefix, self.locked)?;
        if self.cuda { install_cuda(&prefix, self.locked) } else { Ok(()) }
    }
}

/// Builds and installs into `prefix`; quick when nothing changed.
pub(crate) fn install(prefix: &Path, locked: bool) -> Result<()> {
    let built = Built::build(locked)?;
    let mut files = Files::new(prefix);
    files.put(built.binary("forerunner")?, "bin/forerunner")?;
    for plugin in built.plugins()? {
        files.put(plugin, &format!("lib/forerunner/plugins/{}", name_of(plugin)))?;
    }
    for hook in hooks::components()? {
        files.put(&hook, &format!("lib/forerunner/plugins/hooks/{}", name_of(&hook)))?;
    }
    for preset in workspace::presets()? {
        files.put(&preset, &format!("share/forerunner/presets/{}", name_of(&preset)))?;
    }
    files.put_harness(&built, HARNESS, &[])?;
    files.remove_stale()?;
    dataset::prepare(prefix)?;
    let state = match files.n_changed {
        0 => "up to date".to_owned(),
        count => format!("{} changed", plural(count, "file")),
    };
    say(format_args!("installed in {} ({state})", prefix.display()));
    Ok(())
}

/// Builds the harness for CUDA and installs it beside the other one.
///
/// Its rlibs name CUDA's libraries. Instead of those, programs are linked with archives that open them
/// at run time; they are copied into the harness, so that compiling a program takes nothing of this
/// machine, and a program starts where there is no driver, and says so.
fn install_cuda(prefix: &Path, locked: bool) -> Result<()> {
    let toolkit = cuda_toolkit::toolkit()?;
    let mut cargo = command::cargo([
        "build",
        "--release",
        "--message-format=json-render-diagnostics",
        "--package",
        HARNESS_PACKAGE,
        "--package",
        KERNELS_PACKAGE,
        "--features",
        "forerunner-nanogpt-harness/cuda,forerunner-kernels/cuda",
    ]);
    toolkit.apply(&mut cargo)?;
    let built = Built::of(cargo, locked, Vec::new())?;
    let mut files = Files::new(prefix);
    files.put(built.binary(GPU_HELPER)?, &format!("bin/{GPU_HELPER}"))?;
    files.put_harness(&built, CUDA_HARNESS, &archives(&toolkit.home.join("lib"))?)?;
    let libraries = prefix.join("lib/forerunner/cuda");
    if fs::read_link(&libraries).ok().as_deref() != Some(&*toolkit.libraries) {
        let _ = fs::remove_file(&libraries);
        std::os::unix::fs::symlink(&toolkit.libraries, &libraries)
            .with_context(|| format!("cannot link {}", libraries.display()))?;
    }
    let state = if files.n_changed == 0 { "up to date" } else { "changed" };
    say(format_args!("installed the harness for CUDA ({state})"));
    Ok(())
}

/// The archives in a folder, in order.
fn archives(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut archives = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "a") {
            archives.push(path);
        }
    }
    archives.sort();
    Ok(archives)
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
        Self::of(cargo, locked, plugins)
    }

    /// Runs cargo and collects what it built.
    fn of(mut cargo: Command, locked: bool, plugins: Vec<String>) -> Result<Self> {
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

    fn binary(&self, name: &str) -> Result<&Path> {
        let executable = |artifact: &Artifact| artifact.target.name == name;
        self.artifacts
            .iter()
            .filter(|artifact| executable(artifact))
            .find_map(|artifact| artifact.executable.as_ref())
            .map(|path| path.as_std_path())
            .with_context(|| format!("cargo built no binary `{name}`"))
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

    /// Changes when any library, archive or the compiler does.
    fn fingerprint(&self, archives: &[PathBuf]) -> Result<String> {
        let mut text = String::new();
        let files = self.artifacts.iter().flat_map(|artifact| &artifact.filenames);
        let rlibs = files.filter(|path| path.extension() == Some("rlib"));
        let rlibs = rlibs.map(|path| path.as_std_path());
        for path in rlibs.chain(archives.iter().map(PathBuf::as_path)) {
            let path_shown = path.display();
            let facts = fs::metadata(path).with_context(|| format!("cannot read {path_shown}"))?;
            let changed = facts.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            writeln!(text, "{path_shown} {} {}", facts.len(), changed.as_nanos())?;
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
    fn put_harness(&mut self, built: &Built, to: &str, archives: &[PathBuf]) -> Result<()> {
        let folder = self.prefix.join(to);
        let stamp = folder.with_extension("stamp");
        let fingerprint = built.fingerprint(archives)?;
        let same = fs::read_to_string(&stamp).is_ok_and(|known| known == fingerprint);
        if same && Harness::load(&folder).is_ok() {
            return Ok(());
        }
        self.n_changed += 1;
        Harness::install_linked(&*built.messages, "harness", &folder, &[], archives)?;
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
