//! Making a harness out of what cargo built.

use super::{EDITION, file_name};
use crate::{Error, toolchain::Toolchain};
use serde::Deserialize;
use std::{
    fs,
    io::BufRead,
    path::{Path, PathBuf},
    process::Command,
};

/// What cargo built.
pub(super) struct Artifacts {
    /// Rlibs and procedural macros.
    pub(super) files: Vec<PathBuf>,
    /// The rlib of the harness crate.
    pub(super) library: PathBuf,
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    target: Option<Target>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    #[serde(default)]
    kind: Vec<String>,
}

impl Artifacts {
    pub(super) fn read(cargo_messages: impl BufRead, extern_crate: &str) -> Result<Self, Error> {
        let mut files = Vec::new();
        let mut library = None;
        for line in cargo_messages.lines() {
            let line = line.map_err(|error| Error::BadMessages(error.to_string()))?;
            // Build scripts and tests may print between the messages.
            let Ok(message) = serde_json::from_str::<Message>(&line) else { continue };
            let (Some(target), "compiler-artifact") = (message.target, &*message.reason) else {
                continue;
            };
            let is_macro = target.kind.iter().any(|kind| kind == "proc-macro");
            let own = own_rlib(&message.filenames);
            for path in message.filenames {
                let path = own.clone().filter(|_| is_rlib(&path)).unwrap_or(path);
                let is_rlib = is_rlib(&path);
                if is_rlib && target.name.replace('-', "_") == extern_crate {
                    library = Some(path.clone());
                }
                if is_rlib || is_macro {
                    files.push(path);
                }
            }
        }
        let library = library.ok_or_else(|| {
            Error::BadMessages(format!("no library called `{extern_crate}` is among them"))
        })?;
        Ok(Self { files, library })
    }
}

fn is_rlib(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rlib")
}

/// The rlib beside the metadata that cargo names. For a package built at the top level cargo names
/// a link without a hash instead, which another build of the same package may have replaced.
fn own_rlib(filenames: &[PathBuf]) -> Option<PathBuf> {
    let metadata = filenames.iter().find(|path| path.extension().is_some_and(|e| e == "rmeta"))?;
    Some(metadata.with_extension("rlib")).filter(|path| path.is_file())
}

/// Names of the files in `dir` that the compiler opens for a program using the harness. Build
/// scripts and macros bring rlibs along that are not among them.
pub(super) fn needed_files(
    toolchain: &Toolchain,
    dir: &Path,
    extern_crate: &str,
    library: &str,
) -> Result<Vec<String>, Error> {
    let scratch = tempfile::tempdir().map_err(Error::io("create a folder in", "TMPDIR"))?;
    let source = scratch.path().join("probe.rs");
    let text = format!("extern crate {extern_crate};\nfn main() {{}}\n");
    fs::write(&source, text).map_err(Error::io("write", &source))?;
    let output = Command::new(&toolchain.rustc)
        // Stable compilers list binary dependencies only when told to accept unstable options;
        // nothing built here is kept.
        .env("RUSTC_BOOTSTRAP", "1")
        .args(["--edition", EDITION, "-Zbinary-dep-depinfo", "--emit=dep-info,metadata"])
        .arg(format!("--extern={extern_crate}={}", dir.join(library).display()))
        .arg(format!("-Ldependency={}", dir.display()))
        .arg("--out-dir")
        .arg(scratch.path())
        .arg(&source)
        .output()
        .map_err(Error::io("run", &toolchain.rustc))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let why = format!("the compiler cannot use them: {}", text.trim());
        return Err(Error::BadMessages(why));
    }
    let list = scratch.path().join("probe.d");
    let text = fs::read_to_string(&list).map_err(Error::io("read", &list))?;
    // Lines are `target: dependency dependency …`; the names of rlibs hold no spaces.
    let mut needed: Vec<String> = text
        .split_whitespace()
        .map(|word| Path::new(word.trim_end_matches(':')))
        .map(file_name)
        .filter(|name| dir.join(name).is_file())
        .collect();
    needed.sort();
    needed.dedup();
    Ok(needed)
}

/// Puts `staging` in the place of `dir`.
pub(super) fn replace(dir: &Path, staging: tempfile::TempDir) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    let staging = staging.keep();
    // A temporary folder is private; the sandbox reads this one as another user.
    fs::set_permissions(&staging, fs::Permissions::from_mode(0o755))
        .map_err(Error::io("open to all", &staging))?;
    if dir.exists() {
        fs::remove_dir_all(dir).map_err(Error::io("remove", dir))?;
    }
    fs::rename(&staging, dir).map_err(Error::io("rename a folder to", dir))
}
