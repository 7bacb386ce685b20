//! A harness: prebuilt rlibs that programs are compiled against, with a manifest.

mod install;

use crate::{Error, toolchain::Toolchain};
use install::{Artifacts, needed_files, replace};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    io::BufRead,
    path::{Path, PathBuf},
};

/// Version of the manifest; others are refused.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
/// The edition programs are written in.
const EDITION: &str = "2024";

/// A prebuilt set of rlibs that programs are compiled against.
///
/// In its folder lie `manifest.json`, the rlibs of the harness crate and of everything it depends
/// on, the procedural macros whose names those rlibs mention, and archives of native libraries that
/// the rlibs want to be linked with and the system does not have.
#[derive(Debug, Clone)]
pub struct Harness {
    dir: PathBuf,
    manifest: Manifest,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    /// Name under which a program uses the harness.
    extern_crate: String,
    /// The rlib of that crate, one of `files`.
    library: String,
    edition: String,
    /// What `rustc -vV` printed.
    rustc: String,
    /// Where that compiler was; only the first place to look, not part of the identity.
    sysroot: PathBuf,
    /// More compiler flags, for example `-Ctarget-cpu=x86-64-v3`.
    #[serde(default)]
    flags: Vec<String>,
    /// Archives among `files`, in which the linker looks for native libraries first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    archives: Vec<String>,
    files: BTreeMap<String, FileFacts>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileFacts {
    bytes: u64,
    sha256: String,
}

impl Harness {
    /// Opens the harness in `dir`. Sizes are compared with the manifest, contents are not: see
    /// [`Harness::verify`].
    ///
    /// # Errors
    /// When there is no harness, or files are missing or of another size.
    pub fn load(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(MANIFEST);
        if !path.exists() {
            return Err(Error::NoHarness(dir.to_owned()));
        }
        // The sandbox wants absolute paths without links.
        let dir = dir.canonicalize().map_err(Error::io("open", dir))?;
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let bad = |why: String| Error::BadHarness { dir: dir.clone(), why };
        let manifest: Manifest =
            serde_json::from_str(&text).map_err(|error| bad(format!("{MANIFEST}: {error}")))?;
        if manifest.format != FORMAT {
            return Err(bad(format!("format {} (known: {FORMAT})", manifest.format)));
        }
        if !manifest.files.contains_key(&manifest.library) {
            return Err(bad(format!("`{}` is not among its files", manifest.library)));
        }
        if let Some(name) = manifest.archives.iter().find(|n| !manifest.files.contains_key(*n)) {
            return Err(bad(format!("`{name}` is not among its files")));
        }
        for (name, facts) in &manifest.files {
            if Path::new(name).file_name() != Some(name.as_ref()) {
                return Err(bad(format!("`{name}` is not a file name")));
            }
            match fs::metadata(dir.join(name)) {
                Ok(found) if found.len() == facts.bytes => {}
                Ok(found) => {
                    let (bytes, wanted) = (found.len(), facts.bytes);
                    return Err(bad(format!("`{name}` has {bytes} bytes instead of {wanted}")));
                }
                Err(error) => return Err(bad(format!("`{name}`: {error}"))),
            }
        }
        Ok(Self { dir, manifest })
    }

    /// Reads every file and compares its hash with the manifest.
    ///
    /// # Errors
    /// When a file differs or cannot be read.
    pub fn verify(&self) -> Result<(), Error> {
        for (name, facts) in &self.manifest.files {
            if facts_of(&self.dir.join(name))? != *facts {
                let why = format!("`{name}` is not the file that was installed");
                return Err(Error::BadHarness { dir: self.dir.clone(), why });
            }
        }
        Ok(())
    }

    /// Copies the rlibs named in the messages of `cargo build --release --message-format=json`
    /// into `dir`, replacing what was there, and writes the manifest.
    ///
    /// The compiler is found as at run time (`RUSTC`, or else the `PATH`) and must be the one
    /// that cargo used. Of the rlibs, those that a program using the harness needs are kept.
    ///
    /// # Errors
    /// When no library called `extern_crate` is among the messages, or files cannot be copied.
    pub fn install(
        cargo_messages: impl BufRead,
        extern_crate: &str,
        dir: &Path,
    ) -> Result<Self, Error> {
        Self::install_with(cargo_messages, extern_crate, dir, &[])
    }

    /// As [`Harness::install`], with more compiler flags for every program, for example
    /// `-Ctarget-cpu=x86-64-v3`. They are part of the harness's identity and are given before
    /// the workbench's own flags, which they cannot loosen.
    ///
    /// # Errors
    /// As [`Harness::install`], and when a flag could loosen what the workbench forbids.
    pub fn install_with(
        cargo_messages: impl BufRead,
        extern_crate: &str,
        dir: &Path,
        flags: &[&str],
    ) -> Result<Self, Error> {
        Self::install_linked(cargo_messages, extern_crate, dir, flags, &[])
    }

    /// As [`Harness::install_with`], with archives of native libraries (`libNAME.a`), which are copied
    /// beside the rlibs. Every program is linked with those that the rlibs name (which rlibs remember;
    /// where the libraries were they do not), and finds them here before any of the system's, shared
    /// ones included. Nothing of the machine that built the harness is needed.
    ///
    /// # Errors
    /// As [`Harness::install_with`], and when an archive is not called `libNAME.a`.
    pub fn install_linked(
        cargo_messages: impl BufRead,
        extern_crate: &str,
        dir: &Path,
        flags: &[&str],
        archives: &[PathBuf],
    ) -> Result<Self, Error> {
        let is_archive = |name: &str| name.starts_with("lib") && name.ends_with(".a");
        if let Some(path) = archives.iter().find(|path| !is_archive(&file_name(path))) {
            let why = format!("`{}` is not an archive called `libNAME.a`", path.display());
            return Err(Error::BadMessages(why));
        }
        if let Some(flag) = flags.iter().find(|flag| !flag.starts_with("-C")) {
            let why = format!("flag `{flag}` is not a code generation flag (`-C…` in one word)");
            return Err(Error::BadMessages(why));
        }
        let toolchain = Toolchain::find()?;
        let artifacts = Artifacts::read(cargo_messages, extern_crate)?;

        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        let staging =
            tempfile::tempdir_in(parent).map_err(Error::io("create a folder in", parent))?;
        for path in &artifacts.files {
            let to = staging.path().join(file_name(path));
            fs::copy(path, &to).map_err(Error::io("copy", path))?;
        }
        let library = file_name(&artifacts.library);
        let needed = needed_files(&toolchain, staging.path(), extern_crate, &library)?;
        let mut files = BTreeMap::new();
        for path in &artifacts.files {
            let name = file_name(path);
            let copy = staging.path().join(&name);
            if needed.contains(&name) {
                files.insert(name, facts_of(&copy)?);
            } else {
                fs::remove_file(&copy).map_err(Error::io("remove", &copy))?;
            }
        }
        for path in archives {
            // A link is followed: what it leads to need not be on the machine that links programs.
            let copy = staging.path().join(file_name(path));
            fs::copy(path, &copy).map_err(Error::io("copy", path))?;
            files.insert(file_name(path), facts_of(&copy)?);
        }
        let manifest = Manifest {
            format: FORMAT,
            extern_crate: extern_crate.to_owned(),
            library,
            edition: EDITION.to_owned(),
            rustc: toolchain.version,
            sysroot: toolchain.sysroot,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            archives: archives.iter().map(file_name).collect(),
            files,
        };
        let text = serde_json::to_string_pretty(&manifest)
            .map_err(|error| Error::BadMessages(error.to_string()))?;
        let path = staging.path().join(MANIFEST);
        fs::write(&path, text + "\n").map_err(Error::io("write", &path))?;
        replace(dir, staging)?;
        Self::load(dir)
    }

    /// The folder with the rlibs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Name under which a program uses the harness.
    pub fn extern_crate(&self) -> &str {
        &self.manifest.extern_crate
    }

    /// Content address of everything that a program is compiled against: the rlibs, the compiler
    /// and the flags. In hex.
    pub fn hash(&self) -> String {
        let Manifest { extern_crate, library, edition, rustc, flags, files, archives, .. } =
            &self.manifest;
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        for text in [extern_crate, library, edition, rustc] {
            add(text);
        }
        for flag in flags {
            add(flag);
        }
        for archive in archives {
            add(archive);
        }
        for (name, facts) in files {
            add(name);
            add(&facts.sha256);
        }
        hex(&hash.finalize())
    }

    pub(crate) fn library(&self) -> PathBuf {
        self.dir.join(&self.manifest.library)
    }

    pub(crate) fn edition(&self) -> &str {
        &self.manifest.edition
    }

    pub(crate) fn flags(&self) -> &[String] {
        &self.manifest.flags
    }

    /// Where the linker is to look for native libraries before it looks into the system's folders.
    pub(crate) fn native_dir(&self) -> Option<&Path> {
        (!self.manifest.archives.is_empty()).then_some(self.dir.as_path())
    }

    /// The compiler that built this harness.
    pub(crate) fn toolchain(&self) -> Result<Toolchain, Error> {
        Toolchain::find_version(&self.manifest.rustc, &self.manifest.sysroot)
    }
}

fn file_name(path: impl AsRef<Path>) -> String {
    path.as_ref().file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn facts_of(path: &Path) -> Result<FileFacts, Error> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    Ok(FileFacts { bytes: bytes.len() as u64, sha256: hex(&Sha256::digest(&bytes)) })
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_folder_is_no_harness() {
        let dir = tempfile::tempdir().unwrap();
        let text = Harness::load(dir.path()).unwrap_err().to_string();
        let text = text.replace(&dir.path().display().to_string(), "DIR");
        insta::assert_snapshot!(text, @r"
        no harness in `DIR`: manifest.json is missing
        hint: run `cargo xtask install` to build and install it
        ");
    }

    #[test]
    fn messages_without_the_library_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let messages = "noise\n{\"reason\":\"build-finished\",\"success\":true}\n";
        let error = Harness::install(messages.as_bytes(), "harness", &dir.path().join("h"));
        insta::assert_snapshot!(error.unwrap_err(), @r"
        cannot make a harness from cargo's messages: no library called `harness` is among them
        hint: they come from `cargo build --release --message-format=json -p PACKAGE`
        ");
    }

    #[test]
    fn archives_are_called_as_the_linker_looks_for_them() {
        let archive = PathBuf::from("/usr/lib/libcuda.so");
        let error = Harness::install_linked("".as_bytes(), "h", Path::new("/x/y"), &[], &[archive]);
        let text = error.unwrap_err().to_string();
        assert!(text.contains("`/usr/lib/libcuda.so` is not an archive called"), "{text}");
    }

    #[test]
    fn flags_cannot_loosen_the_rules() {
        let error =
            Harness::install_with("".as_bytes(), "h", Path::new("/x/y"), &["--cap-lints=allow"]);
        assert!(error.unwrap_err().to_string().contains("is not a code generation flag"));
    }
}
