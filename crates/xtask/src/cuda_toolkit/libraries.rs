//! Which of CUDA's libraries programs use, and where a toolkit keeps them.

use anyhow::{Context, Result};
use std::{
    io,
    path::{Path, PathBuf},
};

/// A library that programs open at run time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Library {
    /// As linkers are told.
    pub(super) name: &'static str,
    pub(super) from: Source,
}

/// What a library's functions are learned from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The library itself.
    Toolkit,
    /// Headers: the library comes with the driver, under the same name always.
    Driver,
}

/// What candle and cudarc link, but for the runtime, which is linked statically.
pub(super) const OPENED: [Library; 5] = [
    Library { name: "cuda", from: Source::Driver },
    Library { name: "cublas", from: Source::Toolkit },
    Library { name: "cublasLt", from: Source::Toolkit },
    Library { name: "curand", from: Source::Toolkit },
    Library { name: "nvrtc", from: Source::Toolkit },
];

/// The runtime, which candle's quantized kernels register with before `main`.
pub(super) const RUNTIME: &str = "libcudart_static.a";

/// What NVRTC opens itself, by a name with two numbers, and does not look for in its own folder.
const NVRTC_COMPANION: &str = "nvrtc-builtins";

/// Where libraries are below a toolkit's root: CUDA's installer, its packages, distributions.
const FOLDERS: [&str; 4] = ["lib64", "lib", "targets/x86_64-linux/lib", "lib/x86_64-linux-gnu"];

/// The folder of a toolkit's libraries.
pub(super) fn find(root: &Path) -> Result<PathBuf> {
    let has_them = |folder: &PathBuf| file_name(folder, "cublas").is_ok_and(|name| name.is_some());
    FOLDERS.iter().map(|folder| root.join(folder)).find(has_them).with_context(|| {
        format!(
            "the CUDA toolkit in {} has no libcublas\nhint: install it whole, or assemble the pinned one: \
             `cargo xtask cuda-toolkit --pinned`",
            root.display()
        )
    })
}

/// The name by which programs ask for a library, such as `libcublas.so.13`: that with one number.
pub(super) fn file_name(folder: &Path, library: &str) -> io::Result<Option<String>> {
    numbered(folder, library, 1)
}

/// The library that `library` opens by name, if there is one.
pub(super) fn companion(folder: &Path, library: &str) -> io::Result<Option<String>> {
    if library == "nvrtc" { numbered(folder, NVRTC_COMPANION, 2) } else { Ok(None) }
}

/// The name of a library that ends with so many numbers.
fn numbered(folder: &Path, library: &str, count: usize) -> io::Result<Option<String>> {
    let start = format!("lib{library}.so.");
    let fits = |name: &String| {
        let Some(end) = name.strip_prefix(&start) else { return false };
        let numbers: Vec<&str> = end.split('.').collect();
        numbers.len() == count && numbers.iter().all(|number| number.parse::<u32>().is_ok())
    };
    let entries = std::fs::read_dir(folder)?.flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(fits).collect();
    names.sort();
    Ok(names.pop())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_library_is_asked_for_by_the_name_with_one_number() {
        let folder = tempfile::tempdir().unwrap();
        let names =
            ["libcublas.so", "libcublas.so.12", "libcublas.so.12.4.5.8", "libcublasLt.so.13"];
        for name in names {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let check = |library: &str, expected: Option<&str>| {
            assert_eq!(file_name(folder.path(), library).unwrap().as_deref(), expected);
        };
        check("cublas", Some("libcublas.so.12"));
        check("cublasLt", Some("libcublasLt.so.13"));
        check("curand", None);
        let builtins = ["libnvrtc-builtins.so.12.4", "libnvrtc-builtins.so.12.4.131"];
        for name in builtins {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = |library| companion(folder.path(), library).unwrap();
        assert_eq!(found("nvrtc").as_deref(), Some(builtins[0]));
        assert_eq!(found("cublas"), None);
    }

    #[test]
    fn libraries_are_found_wherever_a_toolkit_keeps_them() {
        let root = tempfile::tempdir().unwrap();
        let error = find(root.path()).unwrap_err().to_string();
        assert!(error.contains("no libcublas\nhint: "), "{error}");
        for folder in ["targets/x86_64-linux/lib", "lib"] {
            let folder = root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("libcublas.so.13"), "").unwrap();
            assert_eq!(find(root.path()).unwrap(), folder);
        }
    }
}
