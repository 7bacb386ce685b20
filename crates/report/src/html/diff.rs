//! Differences between two programs, line by line.

use super::{
    markup::{Markup, el},
    text::{fold, line, note},
};
use crate::number::count;
use forerunner_core::Program;
use similar::{ChangeTag, TextDiff};
use std::collections::BTreeSet;

/// Lines around a change.
const CONTEXT: usize = 3;
/// Lines of a difference that needs no unfolding.
const SHORT: usize = 40;
/// Lines of a difference that are shown.
const MAX_LINES: usize = 800;
/// Bytes of a file that is compared line by line.
const MAX_BYTES: usize = 1 << 19;
/// Characters of a line, and of a path.
const LINE: usize = 400;
const PATH: usize = 120;

/// Which lines of which files changed.
pub(crate) struct Difference {
    lines: Vec<Markup>,
    /// Lines that are not shown.
    left_out: usize,
    added: usize,
    removed: usize,
    files: Vec<String>,
}

/// The difference from `parent` to `child` over all files, in the order of their paths.
pub(crate) fn difference(parent: &Program, child: &Program) -> Difference {
    let mut found =
        Difference { lines: Vec::new(), left_out: 0, added: 0, removed: 0, files: Vec::new() };
    let paths: BTreeSet<&String> = parent.files.keys().chain(child.files.keys()).collect();
    for path in paths {
        let (before, after) = (parent.files.get(path), child.files.get(path));
        if before != after {
            let path = line(path, PATH);
            found.file(&path, before, after);
            found.files.push(path);
        }
    }
    found
}

impl Difference {
    fn file(&mut self, path: &str, before: Option<&String>, after: Option<&String>) {
        let head = match (before, after) {
            (None, _) => format!("{path} (new)"),
            (_, None) => format!("{path} (removed)"),
            _ => path.to_owned(),
        };
        self.push("head", &head);
        let text = |side: Option<&String>| side.map_or("", String::as_str).to_owned();
        let (old, new) = (text(before), text(after));
        if old.len().max(new.len()) > MAX_BYTES {
            self.push("hunk", "too large to be compared here");
            return;
        }
        let diff = TextDiff::from_lines(&old, &new);
        for group in diff.grouped_ops(CONTEXT) {
            if let (Some(first), Some(last)) = (group.first(), group.last()) {
                let (old, new) = (first.old_range().start + 1, first.new_range().start + 1);
                let (to_old, to_new) = (last.old_range().end, last.new_range().end);
                self.push("hunk", &format!("lines {old} to {to_old}, now {new} to {to_new}"));
            }
            for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
                let text = change.value().trim_end_matches('\n');
                let (class, sign) = match change.tag() {
                    ChangeTag::Equal => ("same", ' '),
                    ChangeTag::Delete => ("gone", '-'),
                    ChangeTag::Insert => ("new", '+'),
                };
                self.removed += usize::from(class == "gone");
                self.added += usize::from(class == "new");
                let (text, missing) = super::text::block(text, LINE);
                let cut = match missing {
                    0 => String::new(),
                    missing => format!("… (cut, {missing} characters more)"),
                };
                self.push(class, &format!("{sign}{text}{cut}"));
            }
        }
    }

    fn push(&mut self, class: &str, text: &str) {
        if self.lines.len() == MAX_LINES {
            self.left_out += 1;
            return;
        }
        self.lines.push(el("span").class(class).text(text).text("\n").into());
    }

    /// A fold that says how much changed; open when there is little to read and `may_be_open`.
    pub(crate) fn render(self, command: &str, may_be_open: bool) -> Markup {
        if self.files.is_empty() {
            return note("No difference in the source.").into();
        }
        let summary = Markup::all([
            Markup::text(format!("Difference in {} ", self.files.join(", "))),
            el("span").class("new").text(format!("+{}", self.added)).into(),
            Markup::text(" "),
            el("span").class("gone").text(format!("−{}", self.removed)).into(),
        ]);
        let n_lines = self.lines.len();
        let mut body: Markup = el("pre")
            .class("diff")
            .attr("tabindex", 0)
            .with(el("code").with_all(self.lines))
            .into();
        if self.left_out > 0 {
            let left_out = count(self.left_out as u64, "further line");
            body.push(note(format!("Cut, {left_out}: `{command}` prints all.")));
        }
        let fold = fold(summary, body);
        if may_be_open && n_lines <= SHORT { fold.attr("open", "") } else { fold }.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(parent: &Program, child: &Program) -> String {
        let markup = Markup::all(difference(parent, child).lines).into_string();
        markup.replace("<span class=\"", "[").replace("\">", "] ").replace("\n</span>", "\n")
    }

    #[test]
    fn changed_lines_stand_in_their_context() {
        let lines = |rate: &str| format!("const A: u8 = 1;\nconst RATE: f64 = {rate};\n<b>\n");
        let (parent, mut child) =
            (Program::single("main.rs", lines("3e-4")), Program::single("main.rs", lines("6e-4")));
        child.files.insert("n.rs".to_owned(), "x\u{202e}\n".to_owned());
        insta::assert_snapshot!(shown(&parent, &child), @"
        [head] main.rs
        [hunk] lines 1 to 3, now 1 to 3
        [same]  const A: u8 = 1;
        [gone] -const RATE: f64 = 3e-4;
        [new] +const RATE: f64 = 6e-4;
        [same]  &lt;b&gt;
        [head] n.rs (new)
        [hunk] lines 1 to 0, now 1 to 1
        [new] +x⟨U+202E⟩
        ");
        assert!(difference(&parent, &parent).files.is_empty());
    }

    #[test]
    fn what_is_long_is_cut() {
        let (parent, child) = (Program::default(), Program::single("a", "line\n".repeat(2000)));
        let found = difference(&parent, &child);
        assert_eq!((found.lines.len(), found.added), (MAX_LINES, 2000));
        assert_eq!(found.left_out, 2 + 2000 - MAX_LINES);
        let long = Program::single("a", "x".repeat(1000));
        assert!(shown(&parent, &long).contains("… (cut, 600 characters more)"));
        let large = Program::single("a", "x\n".repeat(MAX_BYTES));
        assert!(shown(&parent, &large).contains("too large"));
    }
}
