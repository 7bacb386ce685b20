//! The folder that cargo is pointed at: the compiler's own tools and headers, our archives for linking.
//!
//! ```text
//! FOLDER/home/bin, include, nvvm     links to the compiler's
//! FOLDER/home/lib/lib*.a             what programs link against
//! FOLDER/home/tools/nvcc             the compiler, without candle's kernels for quantized tensors
//! ```
//!
//! Nothing else is in `lib`. So no linker finds CUDA's shared libraries, neither the compiler's nor those of
//! the system, which come later in its search.

use super::{
    compiler::Compiler,
    libraries::{self, Library, OPENED, RUNTIME, Source},
    quantized,
    shims::{self, Calls, Shim},
};
use anyhow::{Context, Result, bail};
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// What to do about a driver that is missing.
const NO_DRIVER: &str =
    "this program needs an NVIDIA GPU and its driver on the machine that it runs on";

/// What to do about another library that is missing.
const NO_LIBRARY: &str = "name the folder of CUDA's libraries in FORERUNNER_CUDA_LIBS";

/// What cargo is pointed at.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) folder: PathBuf,
    /// For build scripts.
    pub(super) nvcc: PathBuf,
}

/// Makes `FOLDER/home`; quick when nothing changed.
pub(super) fn make(folder: &Path, compiler: &Compiler, libraries: &Path) -> Result<Home> {
    let home = folder.join("home");
    let lib = home.join("lib");
    fs::create_dir_all(&lib).with_context(|| format!("cannot make {}", lib.display()))?;
    for name in ["bin", "include", "nvvm"] {
        let target = compiler.root.join(name);
        // A distribution's compiler has its parts elsewhere, and finds them itself.
        if target.exists() {
            link(&target, &home.join(name))?;
        }
    }
    let shims = OPENED.iter().map(|&library| opened(library, compiler, libraries));
    let mut shims = shims.collect::<Result<Vec<_>>>()?;
    shims.extend([runtime(libraries)?, quantized()]);
    shims::build(&shims, &lib)?;
    let nvcc = quantized::compiler(&home, &compiler.nvcc)?;
    Ok(Home { folder: home, nvcc })
}

fn opened(library: Library, compiler: &Compiler, libraries: &Path) -> Result<Shim> {
    let Library { name, from } = library;
    let (file, functions) = match from {
        Source::Driver => {
            // Called so on every Linux.
            ("libcuda.so.1".to_owned(), shims::declared(&compiler.root.join("include"))?)
        }
        Source::Toolkit => {
            let file = libraries::file_name(libraries, name)?
                .with_context(|| format!("no lib{name} is in {}", libraries.display()))?;
            let functions = shims::exported(&libraries.join(&file))?;
            (file, functions)
        }
    };
    let hint = match from {
        Source::Driver => NO_DRIVER,
        Source::Toolkit => NO_LIBRARY,
    };
    let companion = libraries::companion(libraries, name)?;
    Ok(Shim { name, functions, calls: Calls::Open { file, companion, hint } })
}

/// The runtime is linked statically where anything needs it, which only candle's kernels for quantized
/// tensors do: they register with it before `main`. It opens the driver when it is first used.
fn runtime(libraries: &Path) -> Result<Shim> {
    let others = libraries.join(RUNTIME);
    if !others.exists() {
        bail!(
            "{} is missing\nhint: install the toolkit whole, or assemble the pinned one: \
             `cargo xtask cuda-toolkit --pinned`",
            others.display()
        );
    }
    Ok(Shim {
        name: "cudart",
        functions: quantized::functions()?,
        calls: Calls::Refuse { others: Some(others) },
    })
}

/// What candle's build script makes, for programs that are linked without it. The functions are in the
/// archive of the runtime, which is linked in either case.
fn quantized() -> Shim {
    let calls = Calls::Refuse { others: None };
    Shim { name: quantized::ARCHIVE, functions: BTreeSet::new(), calls }
}

/// Has `link` lead to `target`.
fn link(target: &Path, link: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|known| known == target) {
        return Ok(());
    }
    match fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace {}", link.display()));
        }
        _ => {}
    }
    std::os::unix::fs::symlink(target, link)
        .with_context(|| format!("cannot link {} to {}", link.display(), target.display()))
}
