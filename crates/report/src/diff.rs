//! What a change did to a program.

use crate::sanitize;
use forerunner_core::Program;
use similar::TextDiff;
use std::collections::BTreeSet;

/// The unified diff from `parent` to `child` over all files, in the order of their paths, with
/// three lines of context. A file that one side lacks is compared with `/dev/null`. Empty when
/// the programs are equal. Safe to show on a terminal.
///
/// It is for reading: [`sanitize::block`] may have removed what `patch` would need.
pub fn diff(parent: &Program, child: &Program) -> String {
    let paths: BTreeSet<&String> = parent.files.keys().chain(child.files.keys()).collect();
    paths.into_iter().map(|path| file_diff(path, parent, child)).collect()
}

fn file_diff(path: &str, parent: &Program, child: &Program) -> String {
    let (before, after) = (parent.files.get(path), child.files.get(path));
    if before == after {
        return String::new();
    }
    let shown = sanitize::line(path);
    let header = |side: &str, text: Option<&String>| match text {
        Some(_) => format!("{side}/{shown}"),
        None => "/dev/null".to_owned(),
    };
    let clean = |text: Option<&String>| text.map(|text| sanitize::block(text)).unwrap_or_default();
    let (old, new) = (clean(before), clean(after));
    let headers = (header("a", before), header("b", after));
    let text = TextDiff::from_lines(&old, &new)
        .unified_diff()
        .context_radius(3)
        .header(&headers.0, &headers.1)
        .to_string();
    if text.is_empty() {
        // A file came or went empty, or differs only in characters that are not shown.
        return format!("--- {}\n+++ {}\n(no visible difference)\n", headers.0, headers.1);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_lines_stand_in_their_context() {
        let lines = |rate: &str| {
            format!(
                "const STEPS: u32 = 400;\nconst RATE: f64 = {rate};\nconst SEED: u64 = 1;\nfn main() {{}}\n"
            )
        };
        let (parent, child) =
            (Program::single("main.rs", lines("3e-4")), Program::single("main.rs", lines("6e-4")));
        insta::assert_snapshot!(diff(&parent, &child), @"
        --- a/main.rs
        +++ b/main.rs
        @@ -1,4 +1,4 @@
         const STEPS: u32 = 400;
        -const RATE: f64 = 3e-4;
        +const RATE: f64 = 6e-4;
         const SEED: u64 = 1;
         fn main() {}
        ");
        assert_eq!(diff(&parent, &parent), "");
    }

    #[test]
    fn files_come_and_go() {
        let mut parent = Program::single("a.rs", "one\n");
        parent.files.insert("same.rs".to_owned(), "same\n".to_owned());
        let mut child = Program::single("b.rs", "two");
        child.files.insert("same.rs".to_owned(), "same\n".to_owned());
        child.files.insert("empty.rs".to_owned(), String::new());
        insta::assert_snapshot!(diff(&parent, &child), @r"
        --- a/a.rs
        +++ /dev/null
        @@ -1 +0,0 @@
        -one
        --- /dev/null
        +++ b/b.rs
        @@ -0,0 +1 @@
        +two
        \ No newline at end of file
        --- /dev/null
        +++ b/empty.rs
        (no visible difference)
        ");
    }

    #[test]
    fn a_program_cannot_speak_to_the_terminal() {
        let parent = Program::single("a.rs", "let admin = false;\n");
        let child = Program::single("a.rs", "let admin\u{202e} = true;\x1b[2K\n");
        let text = diff(&parent, &child);
        assert!(text.contains("+let admin = true;\n"), "{text}");
        let hidden = Program::single("a.rs", "let admin = false;\u{200b}\n");
        assert!(diff(&parent, &hidden).contains("(no visible difference)"));
    }
}
