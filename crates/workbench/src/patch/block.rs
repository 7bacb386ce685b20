//! Reading search/replace blocks out of free text.

use crate::files::check_path;
use forerunner_core::Finding;

/// One search/replace block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block<'a> {
    /// Line of the patch on which it starts, from 1.
    pub(super) line: usize,
    /// The file named on the line before, if any.
    pub(super) path: Option<&'a str>,
    /// Lines to find.
    pub(super) search: Vec<&'a str>,
    /// Lines to put there.
    pub(super) replace: Vec<&'a str>,
}

impl Block<'_> {
    /// A finding about this block.
    pub(super) fn finding(&self, rule: &str, message: impl AsRef<str>) -> Finding {
        at_patch_line(rule, self.line, message.as_ref())
    }
}

/// What was read out of a patch.
#[derive(Debug, Default)]
pub(super) struct Parsed<'a> {
    pub(super) blocks: Vec<Block<'a>>,
    pub(super) findings: Vec<Finding>,
}

fn at_patch_line(rule: &str, line: usize, message: &str) -> Finding {
    Finding::error(rule, format!("block at line {line} of the patch: {message}"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Marker {
    Search,
    Divider,
    Replace,
}

/// Models miscount, so five to nine signs pass for seven.
fn marker(line: &str) -> Option<Marker> {
    let line = line.trim();
    let run = |sign: char| {
        let rest = line.trim_start_matches(sign);
        (5..=9).contains(&(line.len() - rest.len())).then_some(rest.trim())
    };
    if run('<') == Some("SEARCH") {
        Some(Marker::Search)
    } else if run('=') == Some("") {
        Some(Marker::Divider)
    } else if run('>') == Some("REPLACE") {
        Some(Marker::Replace)
    } else {
        None
    }
}

/// Reads all blocks; text around them is ignored.
pub(super) fn parse(text: &str) -> Parsed<'_> {
    let lines: Vec<&str> =
        text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
    let mut parsed = Parsed::default();
    let mut path = None;
    let mut idx = 0;
    // Start of the text since the last block, in which a path may stand.
    let mut since = 0;
    while idx < lines.len() {
        match marker(lines[idx]) {
            Some(Marker::Search) => {
                path = path_before(&lines[since..idx]).or(path);
                idx = read_block(&lines, idx, path, &mut parsed);
                since = idx;
            }
            Some(Marker::Replace) => {
                let message = "`>>>>>>> REPLACE` without `<<<<<<< SEARCH` before it";
                parsed.findings.push(at_patch_line("patch/malformed", idx + 1, message));
                idx += 1;
            }
            // A row of equals signs outside a block is decoration.
            Some(Marker::Divider) | None => idx += 1,
        }
    }
    parsed
}

/// Reads the block that starts at line `start` (from 0); returns the line after it.
fn read_block<'a>(
    lines: &[&'a str],
    start: usize,
    path: Option<&'a str>,
    parsed: &mut Parsed<'a>,
) -> usize {
    let mut divider = None;
    for idx in start + 1..lines.len() {
        let problem = match (marker(lines[idx]), divider) {
            (None, _) => continue,
            (Some(Marker::Divider), None) => {
                divider = Some(idx);
                continue;
            }
            (Some(Marker::Replace), Some(divider)) => {
                let (search, replace) = (&lines[start + 1..divider], &lines[divider + 1..idx]);
                let (search, replace) = (search.to_vec(), replace.to_vec());
                parsed.blocks.push(Block { line: start + 1, path, search, replace });
                return idx + 1;
            }
            (Some(Marker::Divider), Some(_)) => "a second `=======` inside the block",
            (Some(Marker::Replace), None) => "no `=======` between search and replacement",
            (Some(Marker::Search), _) => "no `>>>>>>> REPLACE` before the next block",
        };
        parsed.findings.push(at_patch_line("patch/malformed", start + 1, problem));
        let next_block_starts_here = marker(lines[idx]) == Some(Marker::Search);
        return if next_block_starts_here { idx } else { idx + 1 };
    }
    let problem = "no `>>>>>>> REPLACE` at its end";
    parsed.findings.push(at_patch_line("patch/malformed", start + 1, problem));
    lines.len()
}

/// The path on the last line that is neither blank nor a code fence, if it is one.
fn path_before<'a>(lines: &[&'a str]) -> Option<&'a str> {
    let is_noise = |line: &&&str| line.trim().is_empty() || line.trim().starts_with("```");
    let line = lines.iter().rev().take(4).find(|line| !is_noise(line))?;
    let line = line.trim().trim_start_matches(['#', '*', '`', ' ']);
    let line = line.trim_end_matches(['*', '`', ':', ' ']);
    let line = ["File:", "file:", "Path:", "path:"]
        .iter()
        .find_map(|label| line.strip_prefix(label))
        .unwrap_or(line)
        .trim_matches(['`', '*', ' ']);
    let name = line.rsplit('/').next().unwrap_or(line);
    let has_extension = name
        .rsplit_once('.')
        .is_some_and(|(stem, extension)| !stem.is_empty() && (1..=8).contains(&extension.len()));
    (has_extension && check_path(line).is_ok()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_stand_before_a_block() {
        let check = |before: &str, expected: Option<&str>| {
            let lines: Vec<&str> = before.split('\n').collect();
            assert_eq!(path_before(&lines), expected, "{before}");
        };
        check("main.rs", Some("main.rs"));
        check("### `model/block.rs`:", Some("model/block.rs"));
        check("**File: main.rs**", Some("main.rs"));
        check("main.rs\n\n```rust", Some("main.rs"));
        check("I change the rate in main.rs:", None);
        check("That is all.", None);
        check("/etc/passwd.rs", None);
        check("../main.rs", None);
        check("main.rs\nand now prose", None);
        check("", None);
    }
}
