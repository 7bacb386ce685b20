//! Assembling the pinned compiler from packages of the Python index.
//!
//! ```text
//! FOLDER/packages/nvidia/…        what the packages hold
//! FOLDER/packages/installed.json  written last: without it an installation is a half-finished one
//! FOLDER/venv                     only where python3 has no pip of its own
//! ```

use super::compiler::Compiler;
use crate::{command, console::say};
use anyhow::{Context, Result, anyhow, bail};
use forerunner_hook_tools::sha256;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

/// Packages with their versions and digests, for pip.
const REQUIREMENTS: &str = include_str!("requirements.txt");

/// The smallest of the packages.
const SMALLEST: &str = "nvidia-cuda-crt==";

const PACKAGES: &str = "packages";
const STAMP: &str = "installed.json";

/// What was installed.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    /// Digest of the list of packages.
    requirements: String,
    files: u64,
    bytes: u64,
}

/// The compiler in `folder` when the whole of it is there, in the pinned versions.
pub(super) fn assembled(folder: &Path) -> Result<Option<Compiler>> {
    let packages = folder.join(PACKAGES);
    let stamp = fs::read(packages.join(STAMP)).ok();
    let stamp: Option<Stamp> = stamp.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    match (stamp, compiler_in(&packages)) {
        (Some(stamp), Some(nvcc)) if stamp == measure(&packages)? => Compiler::at(&nvcc).map(Some),
        _ => Ok(None),
    }
}

/// The folder that the compiler in `root` was assembled in, if it was.
pub(super) fn folder_of(root: &Path) -> Option<PathBuf> {
    let packages = root.ancestors().find(|path| path.join(STAMP).is_file())?;
    packages.parent().map(Path::to_owned)
}

/// Whether the compiler is in `folder`, or its packages can be had: a small one is fetched.
pub(super) fn is_within_reach(folder: &Path) -> Result<bool> {
    if assembled(folder)?.is_some() {
        return Ok(true);
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let Ok(mut pip) = pip(folder) else { return Ok(false) };
    let scratch = tempfile::tempdir().context("cannot make a folder")?;
    let small = REQUIREMENTS.lines().find_map(|line| {
        let (requirement, _) = line.split_once(" \\")?;
        requirement.starts_with(SMALLEST).then_some(requirement)
    });
    pip.args(["download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"])
        .args(["--retries", "1", "--timeout", "20", "--dest"])
        .arg(scratch.path())
        .arg(small.context("the list of packages lacks the smallest one")?)
        .stdout(Stdio::from(io::stderr()));
    Ok(command::status(&mut pip)?.success())
}

/// Assembles the pinned compiler in `folder`; quick when it is there.
pub(super) fn assemble(folder: &Path) -> Result<Compiler> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let lock = File::create(folder.join("lock")).context("cannot make a lock file")?;
    // Of two that assemble at once the second finds the work done.
    lock.lock().context("cannot wait for another assembly")?;
    if let Some(compiler) = assembled(folder)? {
        return Ok(compiler);
    }
    let packages = folder.join(PACKAGES);
    let partial = folder.join("packages.partial");
    for leftover in [&packages, &partial] {
        if leftover.exists() {
            say(format_args!("removing what is incomplete or out of date: {}", leftover.display()));
            fs::remove_dir_all(leftover)
                .with_context(|| format!("cannot remove {}", leftover.display()))?;
        }
    }
    let started = Instant::now();
    say(format_args!(
        "assembling the pinned CUDA compiler in {} (a download of about 0.7 GB)",
        folder.display()
    ));
    let list = folder.join("requirements.txt");
    fs::write(&list, REQUIREMENTS).with_context(|| format!("cannot write {}", list.display()))?;
    let mut pip = pip(folder)?;
    pip.args(["install", "--no-input", "--disable-pip-version-check", "--no-deps"])
        // The digests say exactly which files; none is built here.
        .args(["--require-hashes", "--only-binary", ":all:", "--no-compile", "--target"])
        .arg(&partial)
        .arg("--requirement")
        .arg(&list)
        .env("PIP_ROOT_USER_ACTION", "ignore")
        // Standard output is for results.
        .stdout(Stdio::from(io::stderr()));
    command::run(&mut pip).map_err(|error| {
        anyhow!(
            "the packages cannot be installed, pip said why: {error:#}\n\
             hint: without a network install CUDA 12.4 or newer and name it in CUDA_HOME; \
             where the index has another address, name it in PIP_INDEX_URL"
        )
    })?;
    let Some(nvcc) = compiler_in(&partial) else {
        bail!("pip installed no compiler in {}", partial.display());
    };
    // Compiled now rather than after the stamp is there: it must run.
    let version = Compiler::at(&nvcc)?.version;
    let stamp = measure(&partial)?;
    fs::write(partial.join(STAMP), serde_json::to_vec(&stamp)?)
        .with_context(|| format!("cannot write {STAMP}"))?;
    fs::rename(&partial, &packages)
        .with_context(|| format!("cannot rename {}", partial.display()))?;
    say(format_args!(
        "assembled CUDA {version}: {} files, {:.2} GB, in {:.0} s",
        stamp.files,
        stamp.bytes as f64 / 1e9,
        started.elapsed().as_secs_f64()
    ));
    assembled(folder)?.context("what was assembled changed at once")
}

/// `packages/nvidia/cu13/bin/nvcc`, whichever version the folder is named after.
fn compiler_in(packages: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(packages.join("nvidia")).ok()?;
    entries.flatten().map(|entry| entry.path().join("bin/nvcc")).find(|nvcc| nvcc.is_file())
}

/// What is in `packages` now. Reads names and sizes only: this is against installations that were
/// interrupted or cleaned up, and not against malice.
fn measure(packages: &Path) -> Result<Stamp> {
    let requirements = sha256(REQUIREMENTS.as_bytes());
    let mut stamp = Stamp { requirements, files: 0, bytes: 0 };
    for entry in walkdir::WalkDir::new(packages) {
        let entry = entry.context("cannot list what is installed")?;
        if entry.file_type().is_file() && entry.file_name() != STAMP {
            stamp.files += 1;
            stamp.bytes += entry.metadata().context("cannot read a file's size")?.len();
        }
    }
    Ok(stamp)
}

/// A pip: that of `python3`, or of an environment of our own.
fn pip(folder: &Path) -> Result<Command> {
    let works = |python: &Path| {
        let mut command = Command::new(python);
        command.args(["-m", "pip", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let with_pip = |python: &Path| {
        let mut command = Command::new(python);
        command.args(["-m", "pip"]);
        command
    };
    let python = Path::new("python3");
    if works(python) {
        return Ok(with_pip(python));
    }
    let environment = folder.join("venv");
    let own = environment.join("bin/python");
    if !works(&own) {
        let mut venv = Command::new(python);
        venv.args(["-m", "venv", "--clear"]).arg(&environment).stdout(Stdio::from(io::stderr()));
        command::run(&mut venv).map_err(|error| {
            anyhow!(
                "there is no pip, and none can be made: {error:#}\n\
                 hint: install python3 with its modules pip or venv (python3-venv), \
                 or install CUDA 12.4 or newer and name it in CUDA_HOME"
            )
        })?;
    }
    Ok(with_pip(&own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda_toolkit::write_script;

    #[test]
    fn every_package_has_a_version_and_the_digests_of_two_machines() {
        let text = REQUIREMENTS.replace("\\\n", " ");
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines.len(), 8);
        for line in lines {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert!(words[0].contains("=="), "{line}");
            let digests: Vec<&str> =
                words[1..].iter().filter_map(|word| word.strip_prefix("--hash=sha256:")).collect();
            assert!(digests.len() == 2 && digests[0] != digests[1], "{line}");
            for digest in digests {
                assert!(digest.len() == 64 && digest.chars().all(|c| c.is_ascii_hexdigit()));
            }
        }
    }

    #[test]
    fn only_a_whole_installation_counts() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let none = |why: &str| assert_eq!(assembled(folder).unwrap(), None, "{why}");
        none("nothing is there");

        let packages = folder.join(PACKAGES);
        let root = packages.join("nvidia/cu13");
        fs::create_dir_all(root.join("bin")).unwrap();
        let nvcc = root.join("bin/nvcc");
        write_script(&nvcc, "echo release 13.0, V13.0.88");
        fs::write(packages.join("library"), "library").unwrap();
        none("it was never finished");
        assert_eq!(folder_of(&root), None);

        let stamp = measure(&packages).unwrap();
        assert_eq!((stamp.files, stamp.bytes), (2, 7 + fs::metadata(&nvcc).unwrap().len()));
        let write = |stamp: &Stamp| {
            fs::write(packages.join(STAMP), serde_json::to_vec(stamp).unwrap()).unwrap();
        };
        write(&stamp);
        let found = assembled(folder).unwrap().expect("it is whole");
        assert_eq!(found.version.to_string(), "13.0.88");
        assert_eq!(folder_of(&found.root), Some(fs::canonicalize(folder).unwrap()));

        write(&Stamp { requirements: "of other versions".to_owned(), ..stamp });
        none("the versions are others");
        write(&measure(&packages).unwrap());
        assert!(assembled(folder).unwrap().is_some());
        fs::write(packages.join("library"), "lib").unwrap();
        none("a file is cut short");
        fs::write(packages.join(STAMP), "{").unwrap();
        none("the stamp is cut short");
    }
}
