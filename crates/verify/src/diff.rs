//! The difference between two programs as a unified diff.

use forerunner_core::Program;
use similar::TextDiff;
use std::{collections::BTreeSet, fmt::Write};

/// Product of the numbers of lines beyond which two texts are not compared line by line: the
/// comparison takes time of that order, and hooks are not to wait for programs made of line breaks.
const MAX_LINE_PAIRS: usize = 4_000_000;

/// Unified diffs of all files that differ, in order of path, with three lines of context.
pub(crate) fn unified(old: &Program, new: &Program) -> String {
    let paths: BTreeSet<&String> = old.files.keys().chain(new.files.keys()).collect();
    let mut out = String::new();
    for path in paths {
        let (before, after) = (old.files.get(path), new.files.get(path));
        if before == after {
            continue;
        }
        let name = |side: &str, text: Option<&String>| match text {
            Some(_) => format!("{side}/{path}"),
            None => "/dev/null".to_owned(),
        };
        let header = (name("a", before), name("b", after));
        let text = |text: Option<&String>| text.map_or("", String::as_str).to_owned();
        one_file(&mut out, &header, &text(before), &text(after));
    }
    out
}

fn one_file(out: &mut String, header: &(String, String), before: &str, after: &str) {
    let n_pairs = before.lines().count().saturating_mul(after.lines().count());
    if n_pairs <= MAX_LINE_PAIRS {
        let diff = TextDiff::from_lines(before, after);
        let _ = write!(out, "{}", diff.unified_diff().header(&header.0, &header.1));
        return;
    }
    let (n_before, n_after) = (before.lines().count(), after.lines().count());
    let _ = writeln!(out, "--- {}\n+++ {}\n@@ -1,{n_before} +1,{n_after} @@", header.0, header.1);
    for (sign, text) in [('-', before), ('+', after)] {
        for line in text.lines() {
            out.push(sign);
            out.push_str(line);
            out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_differ_are_shown() {
        let old = Program {
            files: [("a.rs", "one\ntwo\n"), ("b.rs", "same\n"), ("c.rs", "gone\n")]
                .map(|(path, text)| (path.to_owned(), text.to_owned()))
                .into(),
        };
        let mut new = old.clone();
        new.files.insert("a.rs".into(), "one\n2\n".into());
        new.files.remove("c.rs");
        let expected = "--- a/a.rs\n+++ b/a.rs\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n\
                        --- a/c.rs\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n";
        assert_eq!(unified(&old, &new), expected);
        assert_eq!(unified(&old, &old), "");
    }

    #[test]
    fn huge_files_are_replaced_as_a_whole() {
        let n = 3_000;
        let diff =
            unified(&Program::single("a", "x\n".repeat(n)), &Program::single("a", "y\n".repeat(n)));
        assert!(diff.starts_with("--- a/a\n+++ b/a\n@@ -1,3000 +1,3000 @@\n-x\n"));
        assert_eq!(diff.lines().count(), 3 + 2 * n);
    }
}
