//! Reading a change: search/replace blocks, which the host applies, or a whole program.

use crate::text;
use forerunner_sdk::{Change, Program};
use std::collections::BTreeMap;

/// The form of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Search/replace blocks.
    Patch,
    /// A whole program.
    Program,
}

impl Form {
    /// The name in templates and details.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Patch => "patch",
            Self::Program => "program",
        }
    }
}

/// Reads a change out of an answer. The other form than the one asked for passes as well.
///
/// # Errors
/// What is missing, in words for the model.
pub fn read_change(answer: &str, form: Form, parent: &Program) -> Result<Change, String> {
    if let Some(blocks) = blocks(answer) {
        return Ok(Change::Patch(blocks.to_owned()));
    }
    let Fences { fences, open } = fences(answer);
    let files = files(&fences, parent);
    // Of a few lines in a fence nobody knows where they belong.
    let bytes: usize = files.values().map(String::len).sum();
    let whole = form == Form::Program || 2 * bytes >= parent.len_bytes();
    if files.is_empty() || !whole {
        let what = match form {
            Form::Patch => "there are no BLOCKS (`<<<<<<< SEARCH` ... `>>>>>>> REPLACE`) in it",
            Form::Program if open => "the last fenced code block has no end",
            Form::Program => "there is no fenced code block with the PROGRAM in it",
        };
        return Err(what.to_owned());
    }
    let own = |(path, text): (&String, &String)| parent.files.get(path) == Some(text);
    if files.iter().all(own) {
        return Err("the program in it is the one that is to be changed".to_owned());
    }
    Ok(Change::Files(files))
}

/// From the first block, or the line before that may name its file, to the end of the last.
fn blocks(answer: &str) -> Option<&str> {
    let mut start = None;
    let mut end = None;
    // Where the latest line starts that may name a file, and how many lines ago that was.
    let mut named: Option<(usize, u32)> = None;
    let mut position = 0;
    for line in answer.split_inclusive('\n') {
        if start.is_none() && is_marker(line, '<', "SEARCH") {
            start = Some(named.filter(|(_, ago)| *ago < 4).map_or(position, |(at, _)| at));
        }
        if start.is_some() && is_marker(line, '>', "REPLACE") {
            end = Some(position + line.len());
        }
        let noise = line.trim().is_empty() || fence(line).is_some();
        named = match named {
            _ if may_name_file(line) => Some((position, 0)),
            Some((at, ago)) if noise => Some((at, ago + 1)),
            _ => None,
        };
        position += line.len();
    }
    // Without an end the host says what is wrong with it.
    start.map(|start| &answer[start..end.unwrap_or(answer.len())])
}

/// Whether a line may be a path with decoration; whoever applies the blocks looks closer.
fn may_name_file(line: &str) -> bool {
    let mut words = line.split(|c: char| c.is_whitespace() || "`*:#".contains(c));
    let name = words.rfind(|word| !word.is_empty()).unwrap_or_default();
    let first = name.chars().next();
    name.contains('.') && first.is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// As tolerant as whoever applies the blocks.
fn is_marker(line: &str, sign: char, word: &str) -> bool {
    let line = line.trim();
    let rest = line.trim_start_matches(sign);
    (5..=9).contains(&(line.len() - rest.len())) && rest.trim() == word
}

/// Fenced code blocks of an answer.
struct Fences<'a> {
    /// The line before each, and what is in it.
    fences: Vec<(&'a str, String)>,
    /// Whether the last one has no end.
    open: bool,
}

fn fences(answer: &str) -> Fences<'_> {
    let mut fences = Vec::new();
    let mut before = "";
    let mut lines = answer.lines();
    while let Some(line) = lines.next() {
        let Some((sign, length)) = fence(line) else {
            if !line.trim().is_empty() {
                before = line;
            }
            continue;
        };
        let mut text = String::new();
        let closed = lines.by_ref().any(|line| {
            let end = fence(line).is_some_and(|(s, l)| s == sign && l >= length)
                && line.trim().trim_matches(sign).is_empty();
            if !end {
                text.push_str(line);
                text.push('\n');
            }
            end
        });
        if !closed {
            return Fences { fences, open: true };
        }
        fences.push((before, text));
        before = "";
    }
    Fences { fences, open: false }
}

fn fence(line: &str) -> Option<(char, usize)> {
    let line = line.trim_start();
    let sign = line.chars().next().filter(|sign| matches!(sign, '`' | '~'))?;
    let length = line.len() - line.trim_start_matches(sign).len();
    (length >= 3).then_some((sign, length))
}

/// The files that the fences hold: of a program of one file the largest fence, else those with the
/// path of one of its files on the line before.
fn files(fences: &[(&str, String)], parent: &Program) -> BTreeMap<String, String> {
    if let [path] = parent.files.keys().collect::<Vec<_>>()[..] {
        // The first of equals.
        let largest = fences.iter().rev().max_by_key(|(_, text)| text.len());
        return largest.map(|(_, text)| (path.clone(), text.clone())).into_iter().collect();
    }
    let named = fences
        .iter()
        .filter_map(|(before, text)| Some((named_file(before, parent)?.to_owned(), text.clone())));
    named.collect()
}

/// The file of a program of several that a line names.
fn named_file<'a>(line: &str, program: &'a Program) -> Option<&'a str> {
    let names = |path: &&String| {
        let mut words = line.split(|c: char| c.is_whitespace() || "`*:()\"'".contains(c));
        words.any(|word| word == path.as_str())
    };
    let several = program.files.len() > 1;
    program.files.keys().filter(|_| several).find(names).map(String::as_str)
}

/// What tells one change to a parent from another.
pub(crate) fn digest(parent: &Program, change: &Change) -> String {
    match change {
        Change::Patch(patch) => {
            // Blocks and the files that they are for; the words around them do not matter.
            let parent_id = parent.id().0;
            let mut parts = vec![parent_id.as_str()];
            let mut inside = false;
            for line in patch.lines() {
                inside |= is_marker(line, '<', "SEARCH");
                if inside {
                    parts.push(line.trim_end());
                } else {
                    parts.extend(named_file(line, parent));
                }
                inside &= !is_marker(line, '>', "REPLACE");
            }
            text::digest(&parts)
        }
        Change::Program(program) => program.id().0,
        Change::Files(files) => {
            let mut program = parent.clone();
            program.files.extend(files.iter().map(|(path, text)| (path.clone(), text.clone())));
            program.id().0
        }
    }
}

#[cfg(test)]
mod tests;
