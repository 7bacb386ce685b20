//! Leaving out candle's CUDA kernels for quantized tensors.
//!
//! Nothing here uses them, and yet they are most of the work of a build for CUDA (nine CPU minutes) and most
//! of every program (tens of megabytes), and they alone need the CUDA runtime, before `main`. candle has no
//! feature that leaves them out. So the compiler that its build script is given makes empty objects of them,
//! and the archive that stands for the runtime has functions of their names that say so. Those of them that
//! candle loads when it needs them become an empty module, in which candle finds nothing, and says so.

use super::quoted;
use crate::{install, workspace};
use anyhow::{Context, Result, ensure};
use cargo_metadata::{CargoOpt, MetadataCommand};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// The package whose build script compiles them.
const PACKAGE: &str = "candle-kernels";

/// The source that becomes a module, loaded when it is first used.
const MODULE: &str = "quantized.cu";

/// The library that it makes of them, as linkers are told.
pub(super) const ARCHIVE: &str = "moe";

/// The functions that candle calls, by the sources of the locked version.
pub(super) fn functions() -> Result<BTreeSet<String>> {
    let metadata = MetadataCommand::new()
        .manifest_path(workspace::root().join("Cargo.toml"))
        .features(CargoOpt::AllFeatures)
        .exec()
        .context("cannot list the dependencies of builds for CUDA")?;
    let package = metadata.packages.iter().find(|package| package.name.as_str() == PACKAGE);
    let package = package.with_context(|| format!("the workspace does not depend on {PACKAGE}"))?;
    let folder = package.manifest_path.parent().context("a package in no folder")?;
    let path = folder.join("src/ffi.rs");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let functions = declared(&text);
    ensure!(!functions.is_empty(), "{path} declares no functions");
    Ok(functions)
}

/// The functions that a file of declarations declares.
fn declared(text: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let (name, _) = line.trim_start().strip_prefix("pub fn ")?.split_once('(')?;
        Some(name.to_owned())
    };
    text.lines().filter_map(name).collect()
}

/// Writes a compiler that leaves them out, and passes everything else on to `nvcc`. Returns its path below
/// `home`, where `include` is to be found beside its folder.
pub(super) fn compiler(home: &Path, nvcc: &Path) -> Result<PathBuf> {
    let tools = home.join("tools");
    let text = |path: &Path| path.to_str().map(quoted).context("the toolkit's path is not UTF-8");
    let script = script(&text(nvcc)?, &text(&tools)?);
    let path = tools.join("nvcc");
    for (path, text, mode) in [(tools.join(MODULE), "", 0o644), (path.clone(), &*script, 0o755)] {
        if !fs::read_to_string(&path).is_ok_and(|known| known == text) {
            let mode = fs::Permissions::from_mode(mode);
            install::replace(&path, text.as_bytes(), Some(mode))?;
        }
    }
    Ok(path)
}

/// What the build script of candle's kernels compiles with `-c` is for quantized tensors alone; of what
/// becomes PTX, one file is.
fn script(nvcc: &str, tools: &str) -> String {
    format!(
        r#"#!/bin/sh
# nvcc, but for candle's kernels for quantized tensors, which become empty objects and an empty module.
if [ "$CARGO_PKG_NAME" = {PACKAGE} ]; then
    compiles= out= before=
    for word; do
        shift
        [ "$word" = -c ] && compiles=yes
        [ "$before" = -o ] && out=$word
        before=$word
        case "$word" in
            */{MODULE}) word={tools}/{MODULE} ;;
        esac
        set -- "$@" "$word"
    done
    if [ "$compiles" ] && [ "$out" ]; then
        exec "${{CC:-cc}}" -x c -c -o "$out" /dev/null
    fi
fi
exec {nvcc} "$@"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda_toolkit::write_script;
    use std::process::Command;

    #[test]
    fn declarations_are_read() {
        let text = "extern \"C\" {\n    #[cfg(feature = \"x\")]\n    pub fn one(\n        a: *const u8,\n    );\n\
                    \n    pub fn two(b: i32);\n    // pub fn three(\n}\npub struct Fn;\n";
        let found: Vec<_> = declared(text).into_iter().collect();
        assert_eq!(found, ["one", "two"]);
    }

    #[test]
    fn only_candles_objects_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("it's nvcc");
        write_script(&real, "echo \"real: $*\"");
        let nvcc = compiler(folder.path(), &real).unwrap();
        let object = folder.path().join("a.o");
        let check = |package: &str, option: &str, source: &str, expected: &str| {
            // Read by a shell rather than started, for the reason that `write_script` has.
            let mut command = Command::new("sh");
            command.arg(&nvcc).args([option, "-o"]).arg(&object).arg(source);
            let output = command.env("CARGO_PKG_NAME", package).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
            assert_eq!(object.exists(), expected.is_empty(), "{package} {option}");
        };
        let passed_on = |option: &str, source: &str| {
            format!("real: {option} -o {} {source}\n", object.display())
        };
        let ours = "forerunner-kernels";
        check(PACKAGE, "--ptx", "src/a b.cu", &passed_on("--ptx", "src/a b.cu"));
        check(ours, "-c", "src/a b.cu", &passed_on("-c", "src/a b.cu"));
        check(ours, "--ptx", "src/quantized.cu", &passed_on("--ptx", "src/quantized.cu"));
        let empty = folder.path().join("tools/quantized.cu");
        assert_eq!(fs::read(&empty).unwrap(), b"");
        let empty = passed_on("--ptx", empty.to_str().unwrap());
        check(PACKAGE, "--ptx", "src/quantized.cu", &empty);
        check(PACKAGE, "-c", "src/a b.cu", "");
    }
}
