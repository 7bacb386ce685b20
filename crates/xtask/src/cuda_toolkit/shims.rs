//! Archives that stand for CUDA's libraries when a program is linked, and open them when it runs.
//!
//! candle links CUDA's libraries the usual way; then the loader refuses to start a program where one of
//! them is missing, before it can say anything. In an archive of ours every function of a library is an entry of a
//! few instructions (`entry.S`) that finds the real one at its first call (`bind.c`). Where there is none the
//! program ends with one line, a hint, and exit code 69; one that wants to go on asks the loader first.
//! Functions that are left out altogether (`absent.c`) have entries too.

use crate::install;
use anyhow::{Context, Result, anyhow, bail, ensure};
use forerunner_hook_tools::sha256;
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const ENTRIES: &str = include_str!("entry.S");
const BIND: &str = include_str!("bind.c");
const ABSENT: &str = include_str!("absent.c");

/// Headers that declare the driver's functions.
const DRIVER_HEADERS: [&str; 5] =
    ["cuda.h", "cudaEGL.h", "cudaGL.h", "cudaVDPAU.h", "cudaProfilerTypedefs.h"];

/// An archive to make.
#[derive(Debug)]
pub(super) struct Shim {
    /// As linkers are told.
    pub(super) name: &'static str,
    pub(super) functions: BTreeSet<String>,
    pub(super) calls: Calls,
}

/// What becomes of calls.
#[derive(Debug)]
pub(super) enum Calls {
    /// They reach a library that is opened then, after one that it needs and would not find.
    Open { file: String, companion: Option<String>, hint: &'static str },
    /// They are refused. What is in the archive at this path is in this one too.
    Refuse { others: Option<PathBuf> },
}

/// The functions that a shared library offers.
pub(super) fn exported(library: &Path) -> Result<BTreeSet<String>> {
    let mut nm = Command::new("nm");
    nm.args(["-D", "--defined-only", "--format=posix"]).arg(library);
    let table = output(&mut nm)
        .map_err(|error| anyhow!("{error:#}\nhint: install binutils, which come with gcc"))?;
    let functions = functions(&table);
    ensure!(!functions.is_empty(), "{} offers no functions", library.display());
    Ok(functions)
}

/// Functions in a table of `nm --format=posix`: `NAME@@VERSION TYPE VALUE SIZE`.
fn functions(table: &str) -> BTreeSet<String> {
    let function = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, kind) = (words.next()?, words.next()?);
        let name = name.split('@').next()?;
        matches!(kind, "T" | "W" | "i").then(|| name.to_owned())
    };
    table.lines().filter_map(function).collect()
}

/// The driver's functions, by the toolkit's headers.
pub(super) fn declared(include: &Path) -> Result<BTreeSet<String>> {
    let mut functions = BTreeSet::new();
    for name in DRIVER_HEADERS {
        let path = include.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => functions.extend(driver_functions(&text)),
            // Distributions leave out what belongs to other interfaces.
            Err(_) if name != DRIVER_HEADERS[0] => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        }
    }
    Ok(functions)
}

/// Whatever a header calls `cu` and a capital: names of functions, and a few of types and parameters, for
/// which an entry too many does no harm. Functions have a second name for streams of threads, which the
/// header pieces together.
fn driver_functions(header: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_function = |name: &str| {
        name.strip_prefix("cu")
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
    };
    let mut found = BTreeSet::new();
    for name in header.split(|c| !is_part(c)).filter(|name| is_function(name)) {
        found.insert(name.to_owned());
    }
    for (marker, ending) in [("__CUDA_API_PTDS(", "_ptds"), ("__CUDA_API_PTSZ(", "_ptsz")] {
        for rest in header.split(marker).skip(1) {
            let name: &str = rest.split(|c| !is_part(c)).next().unwrap_or_default();
            if is_function(name) {
                found.insert(format!("{name}{ending}"));
            }
        }
    }
    found
}

/// The assembler source of a library's entries.
fn entries(functions: &BTreeSet<String>) -> Result<String> {
    let mut text = ENTRIES.to_owned();
    for function in functions {
        writeln!(text, "    FUNCTION {function}")?;
    }
    Ok(text)
}

/// Builds `lib*.a` in `folder` unless they are there from the same sources.
pub(super) fn build(shims: &[Shim], folder: &Path) -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        bail!(
            "programs for CUDA are linked on x86-64 alone: the entries of its libraries are written for it"
        );
    }
    let mut all = format!("{BIND}{ABSENT}");
    for Shim { name, functions, calls } in shims {
        write!(all, "{name} {calls:?}\n{}", entries(functions)?)?;
    }
    let digest = sha256(all.as_bytes());
    let stamp = folder.join("sources.sha256");
    let archive = |shim: &Shim| folder.join(format!("lib{}.a", shim.name));
    let same = fs::read_to_string(&stamp).is_ok_and(|known| known == digest);
    if same && shims.iter().all(|shim| archive(shim).is_file()) {
        return Ok(());
    }
    let scratch = tempfile::tempdir().context("cannot make a folder")?;
    for shim in shims {
        let bytes = compile(shim, scratch.path())
            .with_context(|| format!("cannot make an archive for lib{}", shim.name))?;
        install::replace(&archive(shim), &bytes, None)?;
    }
    install::replace(&stamp, digest.as_bytes(), None)
}

/// The archive of one library.
fn compile(shim: &Shim, scratch: &Path) -> Result<Vec<u8>> {
    let path = |ending: &str| scratch.join(format!("{}{ending}", shim.name));
    // Archives are linked together: what they share by name would clash.
    let mut definitions = vec![format!("-DBIND=forerunner_bind_{}", shim.name)];
    let bind = match &shim.calls {
        Calls::Open { file, companion, hint } => {
            definitions.extend([format!("-DLIBRARY=\"{file}\""), format!("-DHINT=\"{hint}\"")]);
            definitions.extend(companion.iter().map(|name| format!("-DCOMPANION=\"{name}\"")));
            BIND
        }
        Calls::Refuse { others } => {
            if let Some(others) = others {
                let copied = fs::copy(others, path(".a"));
                copied.with_context(|| format!("cannot copy {}", others.display()))?;
            }
            ABSENT
        }
    };
    fs::write(path(".S"), entries(&shim.functions)?)?;
    fs::write(path(".c"), bind)?;
    let objects = [(path(".S"), path("-entry.o")), (path(".c"), path("-bind.o"))];
    for (source, object) in &objects {
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let mut cc = Command::new(compiler);
        cc.args(["-O2", "-fPIC", "-c"]).args(&definitions).arg(source).arg("-o").arg(object);
        output(&mut cc).map_err(|error| {
            anyhow!("{error:#}\nhint: install a C compiler with its binutils, such as gcc")
        })?;
    }
    let mut ar = Command::new("ar");
    ar.arg("rcs").arg(path(".a")).args(objects.iter().map(|(_, object)| object));
    output(&mut ar)?;
    fs::read(path(".a")).context("the archive is missing")
}

/// What a command that succeeds says.
fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests;
