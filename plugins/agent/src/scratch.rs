//! The scratch folder: what lies there before the agent starts, and what is read from it afterwards.

use crate::harvest::{
    MAX_ENTRIES, Wanted, by_descriptor, is_reserved, open_below, open_file, open_folder,
};
use forerunner_sdk::{Error, Program, Result};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use tempfile::TempDir;

/// A scratch folder. Removed when it is dropped, when everything that used it must have ended.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// Holds the folder, and beside it what the agent may only read.
    outer: TempDir,
    /// The folder, however it may be called by now.
    folder: File,
    path: PathBuf,
}

impl Scratch {
    /// A folder with the program's files and these documents.
    ///
    /// # Errors
    /// When it cannot be written, or the program has a file by a reserved name.
    pub(crate) fn new(program: &Program, documents: &[(String, String)]) -> Result<Self> {
        let failed = |error: std::io::Error| Error::failed(format!("no scratch folder: {error}"));
        let outer =
            tempfile::Builder::new().prefix("forerunner-agent-").tempdir().map_err(failed)?;
        let path = outer.path().canonicalize().map_err(failed)?.join("folder");
        for name in ["folder", "folder/.check", "folder/.tmp", "answers"] {
            fs::DirBuilder::new().mode(0o700).create(outer.path().join(name)).map_err(failed)?;
        }
        if let Some(taken) = program.files.keys().find(|file| is_reserved(file)) {
            return Err(Error::failed(format!(
                "the program has a file `{taken}`, a name that the agent's folder needs itself"
            )));
        }
        for (name, text) in program.files.iter().chain(documents.iter().map(|(n, t)| (n, t))) {
            let relative = Path::new(name);
            if relative.components().any(|part| !matches!(part, Component::Normal(_))) {
                return Err(Error::failed(format!("`{}` is no path", name.escape_default())));
            }
            let file = path.join(relative);
            fs::create_dir_all(file.parent().unwrap_or(&path)).map_err(failed)?;
            fs::write(&file, text).map_err(failed)?;
        }
        let folder = open_folder(&path).map_err(failed)?;
        Ok(Self { outer, folder, path })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Beside it, where the agent may read and, if it is confined, not write.
    pub(crate) fn answers(&self) -> PathBuf {
        self.path.with_file_name("answers")
    }

    /// Adds a script to it.
    pub(crate) fn add_script(&self, name: &str, text: &str) -> Result<()> {
        let file = self.path.join(name);
        fs::write(&file, text)
            .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(0o755)))
            .map_err(Error::failed)
    }

    /// The program as it lies there.
    ///
    /// # Errors
    /// In words for the agent: what there is refused, and what to do about it.
    pub(crate) fn program(&self, wanted: &Wanted) -> Result<Program, String> {
        wanted.read(&self.folder)
    }

    /// The text of a file at the top of the folder, if there is an ordinary one; at most `limit`
    /// bytes of it.
    pub(crate) fn text(&self, name: &str, limit: u64) -> Option<String> {
        let mut bytes = Vec::new();
        let file = open_file(&self.folder, name).ok()?;
        file.metadata().ok()?.is_file().then_some(())?;
        file.take(limit).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The names in `.check`, in order.
    pub(crate) fn requests(&self) -> Vec<String> {
        let Ok(folder) = open_below(&self.folder, ".check") else { return Vec::new() };
        let Ok(entries) = fs::read_dir(by_descriptor(&folder)) else { return Vec::new() };
        let names = entries.take(MAX_ENTRIES).flatten().map(|entry| entry.file_name());
        let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The agent may have closed folders even to us; what then cannot be removed stays.
        if fs::remove_dir_all(&self.path).is_err() {
            open_all(&self.path, 0);
        }
        _ = fs::remove_dir_all(self.outer.path());
    }
}

/// Lets us into all folders below, so that they can be removed. Nothing runs in there any more.
fn open_all(folder: &Path, depth: usize) {
    _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|_| depth < 64) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_all(&entry.path(), depth + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use std::os::unix::fs::symlink;

    fn scratch() -> (Scratch, Wanted) {
        let mut program = Program::single("main.rs", "one");
        program.files.insert("parts/deep/more.rs".to_owned(), "two".to_owned());
        let scratch = Scratch::new(&program, &[("BRIEF.md".to_owned(), "Do it.".to_owned())])
            .expect("a scratch folder");
        let wanted = Wanted::new(&Config::default(), &program, &program);
        (scratch, wanted)
    }

    #[test]
    fn a_program_is_read_as_it_was_written() {
        let (scratch, wanted) = scratch();
        let program = scratch.program(&wanted).expect("a program");
        assert_eq!(program.files.len(), 2);
        assert_eq!(program.files["parts/deep/more.rs"], "two");
        assert_eq!(scratch.text("BRIEF.md", 5).as_deref(), Some("Do it"));
        let outer = scratch.outer.path().to_owned();
        drop(scratch);
        assert!(!outer.exists());
    }

    #[test]
    fn only_what_may_join_joins() {
        let (scratch, wanted) = scratch();
        let path = scratch.path();
        for name in ["new.rs", "notes.txt", ".hidden.rs", "inspirations.rs", "IDEA.md"] {
            fs::write(path.join(name), "three").expect("written");
        }
        for folder in ["target", ".git", "inspirations", "extra"] {
            fs::create_dir_all(path.join(folder)).expect("made");
            fs::write(path.join(folder).join("x.rs"), "four").expect("written");
        }
        symlink("/etc", path.join("elsewhere")).expect("linked");
        fs::remove_file(path.join("main.rs")).expect("removed");
        let program = scratch.program(&wanted).expect("a program");
        let names: Vec<_> = program.files.keys().map(String::as_str).collect();
        assert_eq!(names, ["extra/x.rs", "inspirations.rs", "new.rs", "parts/deep/more.rs"]);
    }

    #[test]
    fn what_is_no_ordinary_file_is_refused() {
        let refusal = |change: &dyn Fn(&Path)| {
            let (scratch, wanted) = scratch();
            change(scratch.path());
            scratch.program(&wanted).expect_err("refused")
        };
        let replaced = |make: &dyn Fn(&Path)| {
            refusal(&|path| {
                fs::remove_file(path.join("main.rs")).expect("removed");
                make(&path.join("main.rs"));
            })
        };
        assert!(
            replaced(&|file| symlink("/etc/passwd", file).expect("linked")).contains("no ordinary")
        );
        let pipe = replaced(&|file| {
            nix::unistd::mkfifo(file, nix::sys::stat::Mode::S_IRWXU).expect("made");
        });
        assert!(pipe.contains("no ordinary"), "{pipe}");
        let link = refusal(&|path| {
            fs::remove_dir_all(path.join("parts")).expect("removed");
            symlink("/etc", path.join("parts")).expect("linked");
        });
        assert!(link.contains("`parts` is no ordinary"), "{link}");
        let new = refusal(&|path| symlink("/etc/passwd", path.join("new.rs")).expect("linked"));
        assert!(new.contains("`new.rs` is no ordinary"), "{new}");
        let huge = replaced(&|file| {
            File::create(file).and_then(|file| file.set_len(1 << 40)).expect("made");
        });
        assert!(huge.contains("larger than 512 KiB"), "{huge}");
        let binary = replaced(&|file| fs::write(file, [0xff, 0xfe]).expect("written"));
        assert!(binary.contains("no UTF-8"), "{binary}");
        let many = refusal(&|path| {
            for number in 0..70 {
                fs::write(path.join(format!("{number}.rs")), "").expect("written");
            }
        });
        assert!(many.contains("more than 64 files"), "{many}");
    }

    #[test]
    fn a_program_cannot_take_our_names() {
        let error =
            Scratch::new(&Program::single("inspirations/a.rs", ""), &[]).expect_err("taken");
        assert!(error.to_string().contains("inspirations/a.rs"), "{error}");
        assert!(Scratch::new(&Program::single("../a.rs", ""), &[]).is_err());
    }
}
