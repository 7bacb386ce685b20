//! `cargo xtask tidy`: rules of our own that neither rustfmt nor clippy can check.

mod manifest;
mod rust;
mod text;
pub(crate) mod tokens;

use crate::{
    command,
    console::{plural, say},
    workspace,
};
use anyhow::{Context, Result, bail};
use forerunner_runtime::config::RunFile;
use std::{collections::BTreeSet, fmt};

/// A rule that a file breaks.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    rule: &'static str,
    file: String,
    /// From 1; 0 is the file as a whole.
    line: usize,
    message: String,
    remedy: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, file, line, message, remedy } = self;
        write!(f, "{file}:{line}: [{rule}] {message}\n    remedy: {remedy}")
    }
}

/// A file of the repository.
#[derive(Debug, Clone, Copy)]
struct File<'a> {
    /// Path from the root, with `/`.
    path: &'a str,
    text: &'a str,
}

impl File<'_> {
    fn finding(
        &self,
        rule: &'static str,
        line: usize,
        message: impl Into<String>,
        remedy: &'static str,
    ) -> Finding {
        Finding { rule, file: self.path.to_owned(), line, message: message.into(), remedy }
    }
}

pub(crate) fn run() -> Result<()> {
    let paths = files()?;
    let mut findings = layout(&paths);
    let mut n_files = 0;
    for path in &paths {
        // What is not text (a data sample, a picture) has no rules here.
        let Ok(text) = std::fs::read_to_string(workspace::root().join(path)) else { continue };
        n_files += 1;
        findings.extend(check(File { path, text: &text }));
    }
    findings.sort_by(|a, b| (&a.file, a.line, a.rule).cmp(&(&b.file, b.line, b.rule)));
    for finding in &findings {
        say(finding);
    }
    if !findings.is_empty() {
        bail!("{}", plural(findings.len(), "untidy place"));
    }
    say(format_args!("tidy: {} checked", plural(n_files, "file")));
    Ok(())
}

fn check(file: File<'_>) -> Vec<Finding> {
    let mut findings = text::check(file);
    if file.path.ends_with(".rs") {
        findings.extend(rust::check(file));
    }
    if file.path.ends_with("Cargo.toml") {
        findings.extend(manifest::check(file));
    }
    if is_preset(file.path) {
        findings.extend(preset(file));
    }
    findings
}

/// Every file that is, or would be, in the repository.
fn files() -> Result<BTreeSet<String>> {
    let options = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = command::in_root("git").args(options).output();
    if let Ok(output) = listed
        && output.status.success()
    {
        let text = String::from_utf8(output.stdout).context("a file name that is not UTF-8")?;
        let exists = |path: &&str| workspace::root().join(path).is_file();
        let paths = text.split('\0').filter(|path| !path.is_empty());
        return Ok(paths.filter(exists).map(str::to_owned).collect());
    }
    say("tidy: not a git checkout, looking at every file");
    let skipped = ["target", "runs", ".git"];
    let root = workspace::root();
    let entries = walkdir::WalkDir::new(&root).into_iter().filter_entry(|entry| {
        entry.depth() != 1 || !skipped.contains(&&*entry.file_name().to_string_lossy())
    });
    let mut paths = BTreeSet::new();
    for entry in entries {
        let entry = entry.context("cannot list the files of the workspace")?;
        if entry.file_type().is_file() {
            let path = entry.path().strip_prefix(&root)?;
            paths.insert(path.to_string_lossy().into_owned());
        }
    }
    Ok(paths)
}

/// The top level is fixed, so that a newcomer sees it whole.
fn layout(paths: &BTreeSet<String>) -> Vec<Finding> {
    const FOLDERS: &[&str] = &["crates", "environments", "plugins", "wit", "tests", "docs"];
    const FILES: &[&str] = &[
        "Cargo.toml",
        "Cargo.lock",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "SECURITY.md",
    ];
    let mut seen = BTreeSet::new();
    let mut findings = Vec::new();
    for path in paths {
        let (first, known) = match path.split_once('/') {
            Some((folder, _)) => (folder, FOLDERS),
            None => (&**path, FILES),
        };
        if !first.starts_with('.') && !known.contains(&first) && seen.insert(first) {
            let message = format!("`{first}` does not belong to the top level");
            findings.push(Finding {
                rule: "layout",
                file: path.clone(),
                line: 0,
                message,
                remedy: "move it below one of the folders, remove it, or have git ignore it",
            });
        }
    }
    findings
}

fn is_preset(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    matches!(&parts[..], ["environments", _, "runs", file] if file.ends_with(".toml"))
}

/// A shipped preset must be a run file.
fn preset(file: File<'_>) -> Vec<Finding> {
    match RunFile::parse(file.path, file.text, &[]) {
        Ok(_) => Vec::new(),
        Err(error) => {
            let remedy = "mend the preset; `forerunner run --help` shows a run file";
            vec![file.finding("preset", 0, error.to_string(), remedy)]
        }
    }
}

/// Asserts which rules a sample breaks, and where: `rule:line`.
#[cfg(test)]
#[track_caller]
fn assert_findings(path: &str, text: &str, expected: &[&str]) {
    let found = check(File { path, text });
    let short: Vec<_> = found.iter().map(|f| format!("{}:{}", f.rule, f.line)).collect();
    assert_eq!(short, expected, "{found:#?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_must_parse() {
        let good = "[environment]\nname = \"x\"\n[[mutator]]\nname = \"y\"\n[selector]\nname = \"z\"\n[budget]\nevaluations = 1\n";
        assert_findings("environments/x/runs/a.toml", good, &[]);
        let bad = good.replace("evaluations", "evalutions");
        assert_findings("environments/x/runs/a.toml", &bad, &["preset:0"]);
        assert_findings("environments/x/a.toml", &bad, &[]);
    }

    #[test]
    fn the_top_level_is_fixed() {
        let check =
            |paths: &[&str]| layout(&paths.iter().map(|&path| path.to_owned()).collect()).len();
        assert_eq!(check(&["Cargo.toml", ".ci/run", "crates/core/src/lib.rs", "README.md"]), 0);
        assert_eq!(check(&["misc/a", "misc/b"]), 1);
        assert_eq!(check(&["notes.txt"]), 1);
    }

    #[test]
    fn a_finding_names_rule_file_line_and_remedy() {
        let file = File { path: "a.rs", text: "" };
        let shown = file.finding("head", 3, "no head", "write one").to_string();
        assert_eq!(shown, "a.rs:3: [head] no head\n    remedy: write one");
    }
}
