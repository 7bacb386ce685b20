//! Search/replace blocks: the form in which mutators write small changes.

mod block;
mod find;

use block::{Block, Parsed};
use forerunner_core::{Finding, Program};

/// Largest patch in bytes; more than any program may have.
const MAX_PATCH_BYTES: usize = 2 << 20;

/// Applies the blocks of `text` to `parent`, in order.
pub(crate) fn apply(parent: &Program, text: &str) -> Result<Program, Vec<Finding>> {
    if text.len() > MAX_PATCH_BYTES {
        let message = format!("{} bytes; at most {MAX_PATCH_BYTES} are allowed", text.len());
        return Err(vec![Finding::error("patch/size", message)]);
    }
    let Parsed { blocks, mut findings } = block::parse(text);
    if blocks.is_empty() && findings.is_empty() {
        let message = "no search/replace block found; write\n\
                       <<<<<<< SEARCH\nlines of the program\n=======\nlines instead\n\
                       >>>>>>> REPLACE";
        return Err(vec![Finding::error("patch/empty", message)]);
    }
    let mut child = parent.clone();
    for block in &blocks {
        if let Err(finding) = apply_block(&mut child, block) {
            findings.push(finding);
        }
    }
    if findings.is_empty() && child == *parent {
        let message = "every block puts back what it found, so there is nothing to measure; \
                       change at least one line";
        findings.push(Finding::error("patch/no-change", message));
    }
    if findings.is_empty() { Ok(child) } else { Err(findings) }
}

fn apply_block(program: &mut Program, block: &Block<'_>) -> Result<(), Finding> {
    let (path, text) = match target(program, block)? {
        Target::New(path) => (path, join(&block.replace)),
        Target::Old(place) => {
            let mut lines: Vec<&str> = program.files[&place.path].split('\n').collect();
            let replacement = find::indent_like(&place, block, &lines);
            lines.splice(place.range, replacement.iter().map(String::as_str));
            (place.path, lines.join("\n"))
        }
    };
    program.files.insert(path, text);
    Ok(())
}

/// Where a block goes.
enum Target {
    /// A file that does not exist yet, or holds nothing.
    New(String),
    /// Lines of a file that does.
    Old(find::Place),
}

fn target(program: &Program, block: &Block<'_>) -> Result<Target, Finding> {
    let named = named_file(program, block)?;
    if block.search.iter().all(|line| line.trim().is_empty()) {
        return match (named, &block.path) {
            (Some(path), _) if program.files[path].trim().is_empty() => {
                Ok(Target::New(path.to_owned()))
            }
            (None, Some(path)) => Ok(Target::New((*path).to_owned())),
            _ => Err(block.finding(
                "patch/empty-search",
                "the search part is empty, so there is no place to change; quote the lines to \
                 replace, or name a new file on the line before the block",
            )),
        };
    }
    let paths: Vec<&str> = match named {
        Some(path) => vec![path],
        None => program.files.keys().map(String::as_str).collect(),
    };
    find::find(program, &paths, block).map(Target::Old)
}

/// The file a block names or can only mean; `None` when it may be any or a new one.
fn named_file<'a>(program: &'a Program, block: &Block<'_>) -> Result<Option<&'a str>, Finding> {
    let Some(path) = block.path else {
        let only = (program.files.len() == 1).then(|| program.files.keys().next());
        return Ok(only.flatten().map(String::as_str));
    };
    if let Some((known, _)) = program.files.get_key_value(path) {
        return Ok(Some(known));
    }
    let makes_file = block.search.iter().all(|line| line.trim().is_empty());
    match (makes_file, program.files.len()) {
        (true, _) => Ok(None),
        // A program of one file leaves no doubt, whatever the mutator calls it.
        (false, 1) => Ok(program.files.keys().next().map(String::as_str)),
        (false, _) => {
            let known: Vec<&str> = program.files.keys().map(String::as_str).collect();
            let message = format!("no file `{path}` (known: {})", known.join(", "));
            Err(block.finding("patch/unknown-file", message))
        }
    }
}

fn join(lines: &[&str]) -> String {
    let mut text = lines.join("\n");
    // Files end with a line feed; a replacement that already ends so is left alone.
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
