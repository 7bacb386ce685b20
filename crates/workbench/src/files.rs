//! The files of a program: changes to them, the paths they may have, and the way to disk.

use crate::patch;
use forerunner_core::{Change, Finding, Program};
use std::{collections::BTreeMap, io, path::Path};

/// Longest path in bytes; room for a few folders, far below what file systems allow.
const MAX_PATH_BYTES: usize = 128;
/// Most files in a program. Somewhat arbitrary: programs have one file, seldom ten.
const MAX_FILES: usize = 64;
/// Largest program in bytes that a change may make. Rules set a lower cap.
const MAX_PROGRAM_BYTES: usize = 1 << 20;

/// Makes a child program from `parent` and a mutator's change.
///
/// - [`Change::Patch`] holds search/replace blocks; text around them is ignored:
///
///   ```text
///   main.rs
///   <<<<<<< SEARCH
///   lines to find, copied from the program
///   =======
///   lines to put there instead
///   >>>>>>> REPLACE
///   ```
///
///   The line with the path may be left out when the program has one file or only one place
///   matches. Blocks apply in order. Lines must match exactly or, failing that, up to
///   indentation and trailing space, in which case the replacement is indented like the place
///   it lands on. An empty search part makes a new file.
/// - [`Change::Files`] replaces whole files or adds them; the others stay.
/// - [`Change::Program`] replaces everything.
///
/// # Errors
/// Findings with rules `patch/…` and `files/…` that quote the nearest text with line numbers
/// (all blocks are looked at, so that one repair can mend them all).
pub fn apply(parent: &Program, change: &Change) -> Result<Program, Vec<Finding>> {
    let child = match change {
        Change::Patch(text) => patch::apply(parent, text)?,
        Change::Files(files) => rewrite(parent, files)?,
        Change::Program(program) => program.clone(),
    };
    let findings = check_files(&child);
    if findings.is_empty() { Ok(child) } else { Err(findings) }
}

/// The file that holds `main`: `main.rs`, or else the only file there is.
pub fn root_file(program: &Program) -> Option<&str> {
    match program.files.get_key_value("main.rs") {
        Some((path, _)) => Some(path),
        None if program.files.len() == 1 => program.files.keys().next().map(String::as_str),
        None => None,
    }
}

fn rewrite(parent: &Program, files: &BTreeMap<String, String>) -> Result<Program, Vec<Finding>> {
    let mut child = parent.clone();
    for (path, text) in files {
        child.files.insert(path.clone(), text.clone());
    }
    if child == *parent {
        let message = "the files are those of the parent, so there is nothing to measure; \
                       change at least one line";
        return Err(vec![Finding::error("files/no-change", message)]);
    }
    Ok(child)
}

/// What is wrong with the paths, number and size of the files, if anything.
pub(crate) fn check_files(program: &Program) -> Vec<Finding> {
    let mut findings = Vec::new();
    if program.files.is_empty() {
        findings.push(Finding::error("files/none", "the program has no files"));
    }
    if program.files.len() > MAX_FILES {
        let message = format!("{} files; at most {MAX_FILES} are allowed", program.files.len());
        findings.push(Finding::error("files/number", message));
        return findings;
    }
    if program.len_bytes() > MAX_PROGRAM_BYTES {
        let bytes = program.len_bytes();
        let message = format!("{bytes} bytes of source; at most {MAX_PROGRAM_BYTES} are allowed");
        findings.push(Finding::error("files/size", message));
    }
    for path in program.files.keys() {
        if let Err(why) = check_path(path) {
            let shown: String = path.escape_default().take(MAX_PATH_BYTES).collect();
            let message = format!(
                "path `{shown}` {why}; a path is relative, of letters, digits, `_`, `-`, `.` and \
                 `/`, for example `model.rs` or `model/block.rs`"
            );
            findings.push(Finding::error("files/path", message));
        } else if let Some(folder) = folder_that_is_a_file(program, path) {
            let message = format!("`{folder}` is a file, so `{path}` cannot lie inside it");
            findings.push(Finding::error("files/path", message));
        }
    }
    findings
}

/// Whether `path` may name a file of a program; the error completes "path `…` …".
pub(crate) fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("is empty");
    }
    if path.len() > MAX_PATH_BYTES {
        return Err("is too long");
    }
    if path.starts_with('/') {
        return Err("is absolute");
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    if !path.chars().all(allowed) {
        return Err("has a character that is not allowed");
    }
    for part in path.split('/') {
        if part.is_empty() {
            return Err("has an empty part");
        }
        // Covers `.`, `..` and hidden files such as `.cargo`.
        if part.starts_with('.') {
            return Err("has a part that starts with `.`");
        }
        if part.starts_with('-') {
            return Err("has a part that starts with `-`, which tools take for an option");
        }
    }
    Ok(())
}

fn folder_that_is_a_file<'a>(program: &Program, path: &'a str) -> Option<&'a str> {
    path.match_indices('/')
        .map(|(end, _)| &path[..end])
        .find(|folder| program.files.contains_key(*folder))
}

/// Writes all files below `folder`, which must be empty. The paths must have been checked.
pub(crate) fn write(program: &Program, folder: &Path) -> io::Result<()> {
    for (path, text) in &program.files {
        let file = folder.join(path);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(file, text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parent() -> Program {
        Program::single("main.rs", "mod a;\n")
    }

    #[test]
    fn whole_files_replace_and_join() {
        let files = BTreeMap::from([
            ("main.rs".to_owned(), "mod b;\n".to_owned()),
            ("b.rs".to_owned(), String::new()),
        ]);
        let child = apply(&parent(), &Change::Files(files.clone())).unwrap();
        assert_eq!(child.files, files);
        let program = Program::single("x.rs", "fn main() {}");
        assert_eq!(apply(&parent(), &Change::Program(program.clone())), Ok(program));
    }

    #[test]
    fn a_rewrite_that_changes_nothing_is_a_finding() {
        let found = apply(&parent(), &Change::Files(parent().files)).unwrap_err();
        assert_eq!(found[0].rule, "files/no-change");
    }

    #[test]
    fn paths_are_checked() {
        let check = |path: &str, expected: Option<&str>| {
            let program = Program::single(path, "");
            let found = apply(&parent(), &Change::Program(program)).err();
            let message = found.map(|found| found[0].message.clone());
            match expected {
                None => assert_eq!(message, None, "{path}"),
                Some(why) => assert!(message.unwrap().contains(why), "{path}"),
            }
        };
        check("main.rs", None);
        check("model/block-2_a.rs", None);
        check("", Some("is empty"));
        check("/etc/passwd", Some("is absolute"));
        check("../main.rs", Some("starts with `.`"));
        check("a/../../main.rs", Some("starts with `.`"));
        check("./main.rs", Some("starts with `.`"));
        check(".cargo/config.toml", Some("starts with `.`"));
        check("a//b.rs", Some("empty part"));
        check("a/", Some("empty part"));
        check("-o/x.rs", Some("tools take for an option"));
        check("a\\b.rs", Some("not allowed"));
        check("a b.rs", Some("not allowed"));
        check("a\0.rs", Some("not allowed"));
        check("\u{202e}sr.niam", Some("not allowed"));
        check(&"a".repeat(200), Some("too long"));
    }

    #[test]
    fn a_file_is_no_folder() {
        let files = [("a", ""), ("a/b.rs", "")].map(|(path, text)| (path.into(), text.into()));
        let program = Program { files: BTreeMap::from(files) };
        let found = apply(&parent(), &Change::Program(program)).unwrap_err();
        insta::assert_snapshot!(found[0].message, @"`a` is a file, so `a/b.rs` cannot lie inside it");
    }

    #[test]
    fn number_and_size_are_capped() {
        let rule = |program: Program| apply(&parent(), &Change::Program(program)).unwrap_err();
        assert_eq!(rule(Program::default())[0].rule, "files/none");
        let many = (0..100).map(|i| (format!("f{i}.rs"), String::new())).collect();
        assert_eq!(rule(Program { files: many })[0].rule, "files/number");
        let large = Program::single("main.rs", " ".repeat(MAX_PROGRAM_BYTES + 1));
        assert_eq!(rule(large)[0].rule, "files/size");
    }

    #[test]
    fn the_root_is_main_or_the_only_file() {
        let program = |paths: &[&str]| Program {
            files: paths.iter().map(|path| ((*path).to_owned(), String::new())).collect(),
        };
        assert_eq!(root_file(&program(&["gpt.rs"])), Some("gpt.rs"));
        assert_eq!(root_file(&program(&["a.rs", "main.rs"])), Some("main.rs"));
        assert_eq!(root_file(&program(&["a.rs", "b.rs"])), None);
    }

    proptest! {
        /// A path that passes never leaves the folder it is joined to.
        #[test]
        fn a_checked_path_stays_inside(path in "[a-c./\\\\-]{0,12}|\\PC{0,8}") {
            if check_path(&path).is_ok() {
                let plain = |part| matches!(part, std::path::Component::Normal(_));
                prop_assert!(Path::new(&path).components().all(plain));
            }
        }
    }
}
