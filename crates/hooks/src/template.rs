//! A folder with a small hook that works, to start from.

use crate::WIT;
use std::{
    io,
    path::{Path, PathBuf},
};

/// A language that a hook can be written in from a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Needs the target `wasm32-unknown-unknown`.
    Rust,
    /// Needs a clang that knows wasm32.
    C,
}

impl Language {
    /// The files of the template; `@NAME@` in them stands for the hook's name.
    fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Rust => &[
                ("Cargo.toml", include_str!("../templates/rust/Cargo.template.toml")),
                ("README.md", include_str!("../templates/rust/README.template.md")),
                ("src/lib.rs", include_str!("../templates/rust/lib.rs")),
                ("src/component.rs", include_str!("../templates/rust/component.rs")),
                (".gitignore", "/target\n"),
            ],
            Self::C => &[
                ("README.md", include_str!("../templates/c/README.template.md")),
                ("judge.h", include_str!("../templates/c/judge.h")),
                ("hook.c", include_str!("../templates/c/hook.c")),
                ("forerunner.h", include_str!("../templates/c/forerunner.h")),
                ("test.c", include_str!("../templates/c/test.c")),
                (".gitignore", "/test\n"),
            ],
        }
    }

    /// The file that a person opens first.
    pub fn first_file(self) -> &'static str {
        match self {
            Self::Rust => "src/lib.rs",
            Self::C => "judge.h",
        }
    }
}

/// Why there is no new hook.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The last part of the path is no name for a hook.
    #[error(
        "`{0}` is no name for a hook\nhint: use lowercase letters, digits and `-`, a letter first, \
         at most 40 characters"
    )]
    Name(String),
    /// Something of that name is there.
    #[error("{} exists already, and nothing is overwritten\nhint: choose another name", .0.display())]
    Exists(PathBuf),
    /// Something cannot be written.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Makes the folder `path` with a hook of the same name, and answers its files.
///
/// # Errors
/// When the name is none, something of that name exists, or it cannot be written.
pub fn create(path: &Path, language: Language) -> Result<Vec<PathBuf>, TemplateError> {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    if !is_name(&name) {
        return Err(TemplateError::Name(name.into_owned()));
    }
    std::fs::create_dir(path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => TemplateError::Exists(path.to_owned()),
        _ => TemplateError::Write { path: path.to_owned(), source },
    })?;
    let files = language.files().iter().map(|(file, text)| (*file, text.replace("@NAME@", &name)));
    let interface = [("wit/verify.wit", WIT.to_owned())];
    let mut written = Vec::new();
    for (file, text) in files.chain(interface) {
        let file = path.join(file);
        write(&file, &text)
            .map_err(|source| TemplateError::Write { path: file.clone(), source })?;
        written.push(file);
    }
    Ok(written)
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    io::Write::write_all(&mut std::fs::File::create_new(file)?, text.as_bytes())
}

fn is_name(name: &str) -> bool {
    name.len() <= 40
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_hook_is_complete_and_bears_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, language) in [("one", Language::Rust), ("two", Language::C)] {
            let path = folder.path().join(name);
            let files = create(&path, language).expect("a good name");
            assert!(files.contains(&path.join(language.first_file())));
            for file in &files {
                let text = std::fs::read_to_string(file).expect("written");
                assert!(!text.contains("@NAME@"), "{}", file.display());
            }
            let wit = std::fs::read_to_string(path.join("wit/verify.wit")).expect("written");
            assert_eq!(wit, WIT);
        }
        let read = |file: &str| std::fs::read_to_string(folder.path().join(file)).expect("there");
        assert!(read("one/Cargo.toml").contains("name = \"one\""));
        assert!(read("two/hook.c").contains("TEXT(\"two\")"));
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mine");
        std::fs::write(&path, "precious").expect("written");
        let error = create(&path, Language::C).expect_err("it exists");
        assert!(matches!(error, TemplateError::Exists(_)), "{error}");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "precious");
    }

    #[test]
    fn a_name_is_checked_before_anything_is_made() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["", "9lives", "Upper", "under_score", "dot.dot", "-", &"x".repeat(41)] {
            let error = create(&folder.path().join(format!("{name} ")), Language::Rust);
            assert!(matches!(error, Err(TemplateError::Name(_))), "{name}");
            assert!(!is_name(name), "{name}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 0);
        assert!(is_name("a") && is_name("loss-2"));
    }
}
