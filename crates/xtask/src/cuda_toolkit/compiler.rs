//! Finding an installed nvcc.

use crate::console::say;
use anyhow::{Context, Result, bail, ensure};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The oldest that our kernels are written for.
const OLDEST: (u32, u32) = (12, 4);

/// The newest that cudarc has bindings for; it refuses others.
const NEWEST: (u32, u32) = (13, 4);

/// Where CUDA's own installer puts it, without putting it on PATH.
const USUAL: &str = "/usr/local/cuda";

/// A version, such as 13.0.88.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { major, minor, patch } = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl Version {
    /// Out of what `nvcc --version` says: the word that starts with `V` after `release`.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once("release ")?;
        let word = rest.split_whitespace().find_map(|word| word.strip_prefix('V'))?;
        let mut numbers = word.split('.').map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Self { major: next()?, minor: next()?, patch: next()? })
    }

    /// Why a compiler of this version cannot be used.
    fn problem(self) -> Option<String> {
        let release = (self.major, self.minor);
        let shown = |(major, minor): (u32, u32)| format!("{major}.{minor}");
        if release < OLDEST {
            Some(format!("too old ({} or newer is needed)", shown(OLDEST)))
        } else if release > NEWEST {
            Some(format!("too new (cudarc knows none after {})", shown(NEWEST)))
        } else {
            None
        }
    }
}

/// An nvcc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compiler {
    /// Without links in its path.
    pub(crate) nvcc: PathBuf,
    /// The folder that holds `bin`, `include` and the libraries.
    pub(crate) root: PathBuf,
    pub(crate) version: Version,
}

impl Compiler {
    /// Asks the compiler at `nvcc` what it is.
    pub(super) fn at(nvcc: &Path) -> Result<Self> {
        let nvcc = fs::canonicalize(nvcc)
            .with_context(|| format!("cannot find the compiler {}", nvcc.display()))?;
        let root = nvcc.ancestors().nth(2).context("a compiler in no folder")?.to_owned();
        let output = Command::new(&nvcc)
            .arg("--version")
            .output()
            .with_context(|| format!("cannot start {}", nvcc.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{} fails ({})", nvcc.display(), output.status);
        let Some(version) = Version::parse(&text) else {
            bail!("{} does not say which version it is", nvcc.display());
        };
        Ok(Self { nvcc, root, version })
    }

    /// The folder to have on PATH.
    pub(super) fn folder(&self) -> PathBuf {
        self.root.join("bin")
    }
}

/// The first usable compiler of `CUDA_HOME`, PATH and the usual place. Others are named aloud.
pub(super) fn installed() -> Result<Option<Compiler>> {
    let home = std::env::var_os("CUDA_HOME").filter(|home| !home.is_empty());
    let homes = home.map(|home| PathBuf::from(home).join("bin"));
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let usual = Path::new(USUAL).join("bin");
    let folders = homes.into_iter().chain(std::env::split_paths(&paths)).chain([usual]);
    first_usable(folders.map(|folder| folder.join("nvcc")))
}

fn first_usable(candidates: impl IntoIterator<Item = PathBuf>) -> Result<Option<Compiler>> {
    for nvcc in candidates.into_iter().filter(|nvcc| nvcc.is_file()) {
        match Compiler::at(&nvcc) {
            Ok(compiler) => match compiler.version.problem() {
                None => return Ok(Some(compiler)),
                Some(why) => say(format_args!(
                    "not used: the CUDA compiler {} {} is {why}",
                    compiler.nvcc.display(),
                    compiler.version
                )),
            },
            Err(error) => say(format_args!("not used: {error:#}")),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda_toolkit::write_script;

    const SAYS: &str = "nvcc: NVIDIA (R) Cuda compiler driver\n\
        Copyright (c) 2005-2025 NVIDIA Corporation\n\
        Built on Wed_Aug_20_01:58:59_PM_PDT_2025\n\
        Cuda compilation tools, release 13.0, V13.0.88\n\
        Build cuda_13.0.r13.0/compiler.36424714_0\n";

    #[test]
    fn versions_are_read() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(Version::parse(text).map(|v| v.to_string()).as_deref(), expected, "{text}");
        };
        check(SAYS, Some("13.0.88"));
        check("Cuda compilation tools, release 12.4, V12.4.131", Some("12.4.131"));
        check("Cuda compilation tools, release 12.4", None);
        check("release 12.4, V12", None);
        check("gcc (Debian 12.2.0) 12.2.0", None);
        check("", None);
    }

    #[test]
    fn only_versions_that_work_are_used() {
        let check = |major, minor, expected: Option<&str>| {
            let problem = Version { major, minor, patch: 1 }.problem();
            assert_eq!(problem.as_deref(), expected);
        };
        check(12, 3, Some("too old (12.4 or newer is needed)"));
        check(11, 8, Some("too old (12.4 or newer is needed)"));
        check(12, 4, None);
        check(13, 4, None);
        check(13, 5, Some("too new (cudarc knows none after 13.4)"));
    }

    #[test]
    fn the_first_compiler_that_can_be_used_is() {
        let folder = tempfile::tempdir().unwrap();
        let compiler = |name: &str, script: &str| {
            let bin = folder.path().join(name).join("bin");
            fs::create_dir_all(&bin).unwrap();
            let nvcc = bin.join("nvcc");
            write_script(&nvcc, script);
            nvcc
        };
        let broken = compiler("broken", "exit 1");
        let mute = compiler("mute", "true");
        let old = compiler("old", "echo release 11.8, V11.8.89");
        let good = compiler("good", "echo release 12.8, V12.8.93");
        let also = compiler("also", "echo release 13.0, V13.0.88");
        let missing = folder.path().join("missing/bin/nvcc");
        let found = first_usable([missing, broken, mute, old, good.clone(), also]).unwrap();
        let found = found.expect("there is a good one");
        let good = fs::canonicalize(good).unwrap();
        assert_eq!(found.root, good.ancestors().nth(2).unwrap());
        assert_eq!((found.nvcc, &*found.version.to_string()), (good, "12.8.93"));
    }
}
