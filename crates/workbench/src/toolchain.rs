//! The compiler: the real binary behind any rustup shim, and its exact version.

use crate::Error;
use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Command,
};

/// A compiler that can run where only named folders are readable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Toolchain {
    /// The compiler itself, not a shim.
    pub(crate) rustc: PathBuf,
    /// The folder with its libraries.
    pub(crate) sysroot: PathBuf,
    /// Everything `rustc -vV` prints: two compilers with equal text read each other's rlibs.
    pub(crate) version: String,
}

impl Toolchain {
    /// The compiler named by `RUSTC`, or else the one on the `PATH`.
    pub(crate) fn find() -> Result<Self, Error> {
        let named = std::env::var_os("RUSTC").filter(|rustc| !rustc.is_empty());
        Self::of(&named.unwrap_or_else(|| OsString::from("rustc")))
    }

    /// The compiler that prints `version`: the one named by `RUSTC`; when that is not set, the
    /// one in `sysroot` (where the harness was built), or else the one on the `PATH`.
    pub(crate) fn find_version(version: &str, sysroot: &Path) -> Result<Self, Error> {
        let is_named = std::env::var_os("RUSTC").is_some_and(|rustc| !rustc.is_empty());
        // Asking the binary itself spares the start of a rustup shim, and finds the right one
        // where a `rust-toolchain.toml` in the current folder would lead the shim elsewhere.
        if !is_named && let Some(toolchain) = Self::in_sysroot(sysroot, version) {
            return Ok(toolchain);
        }
        let toolchain = Self::find()?;
        if toolchain.version != version {
            let (wanted, found) = (short(version), short(&toolchain.version));
            return Err(Error::WrongCompiler { wanted, found });
        }
        Ok(toolchain)
    }

    fn in_sysroot(sysroot: &Path, version: &str) -> Option<Self> {
        let rustc = sysroot.join("bin/rustc");
        let found = rustc.is_file().then(|| ask(rustc.as_os_str(), &["-vV"]))?.ok()?;
        (found == version).then(|| Self { rustc, sysroot: sysroot.to_owned(), version: found })
    }

    fn of(rustc: &OsStr) -> Result<Self, Error> {
        let sysroot = PathBuf::from(ask(rustc, &["--print", "sysroot"])?);
        let binary = sysroot.join("bin/rustc");
        let version = ask(binary.as_os_str(), &["-vV"])?;
        Ok(Self { rustc: binary, sysroot, version })
    }
}

fn ask(rustc: &OsStr, arguments: &[&str]) -> Result<String, Error> {
    let fail = |why: &dyn std::fmt::Display| {
        Error::NoCompiler(format!("`{} {}` {why}", rustc.display(), arguments.join(" ")))
    };
    let output = Command::new(rustc)
        .args(arguments)
        .output()
        .map_err(|error| fail(&format!("failed: {error}")))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().next().unwrap_or_default();
        return Err(fail(&format!("failed: {line}")));
    }
    let text = String::from_utf8(output.stdout).map_err(|_| fail(&"printed no text"))?;
    Ok(text.trim().to_owned())
}

/// The first line of `rustc -vV` with the host, which is what people compare.
fn short(version: &str) -> String {
    let mut lines = version.lines();
    let name = lines.next().unwrap_or("an unknown compiler");
    match lines.find_map(|line| line.strip_prefix("host: ")) {
        Some(host) => format!("{name} for {host}"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_compiler_is_found() {
        let toolchain = Toolchain::find().unwrap();
        assert!(toolchain.rustc.starts_with(&toolchain.sysroot));
        assert!(toolchain.version.starts_with("rustc 1."));
        let again = Toolchain::find_version(&toolchain.version, &toolchain.sysroot).unwrap();
        assert_eq!(again.version, toolchain.version);
    }

    #[test]
    fn another_version_is_refused_with_a_hint() {
        let wanted = "rustc 1.2.3 (abc 2015-08-03)\nbinary: rustc\nhost: pdp11\nrelease: 1.2.3";
        let error = Toolchain::find_version(wanted, Path::new("/nowhere")).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with(
            "the harness was built with rustc 1.2.3 (abc 2015-08-03) for pdp11, \
             but the compiler here is rustc 1."
        ));
        assert!(text.contains("\nhint: "), "{text}");
    }

    #[test]
    fn a_missing_compiler_says_what_to_do() {
        let error = Toolchain::of(OsStr::new("/nowhere/rustc")).unwrap_err();
        insta::assert_snapshot!(error, @r"
        no usable rustc: `/nowhere/rustc --print sysroot` failed: No such file or directory (os error 2)
        hint: install Rust (https://rustup.rs), or set RUSTC to the path of a rustc
        ");
    }
}
