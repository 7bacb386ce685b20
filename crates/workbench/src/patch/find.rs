//! Finding the lines that a block means, and saying what is nearest when there are none.

use super::block::Block;
use forerunner_core::{Finding, Program};
use std::{collections::HashMap, ops::Range};

/// Lines of a file.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: String,
    /// Line indices, from 0.
    pub(super) range: Range<usize>,
    /// Whether the lines are equal to the last space.
    pub(super) exact: bool,
    /// How many blank lines at the start of the search part were left out to match.
    pub(super) skipped: usize,
}

/// Most places named when several match.
const MAX_PLACES: usize = 10;
/// Most lines quoted of the nearest text.
const MAX_QUOTED_LINES: usize = 12;
/// Longest quoted line in characters, and the part of a line that is compared for nearness.
const MAX_LINE_CHARS: usize = 160;
/// Lines of a search part that are compared for nearness, so that the cost stays linear.
const MAX_COMPARED_LINES: usize = 40;

/// The one place in `paths` that the search part of `block` means.
pub(super) fn find(program: &Program, paths: &[&str], block: &Block<'_>) -> Result<Place, Finding> {
    let skipped = block.search.iter().take_while(|line| line.trim().is_empty()).count();
    let end = block.search.len()
        - block.search.iter().rev().take_while(|line| line.trim().is_empty()).count();
    let exact = |a: &str, b: &str| a == b;
    let tolerant = |a: &str, b: &str| a.trim() == b.trim();
    // The caller has seen a line that is not blank, so `skipped < end`.
    let core = &block.search[skipped..end];

    let mut places = Vec::new();
    for path in paths {
        let lines: Vec<&str> = program.files[*path].split('\n').collect();
        places.extend(matches(&lines, &block.search, exact).map(|start| Place {
            path: (*path).to_owned(),
            range: start..start + block.search.len(),
            exact: true,
            skipped: 0,
        }));
    }
    if places.is_empty() {
        for path in paths {
            let lines: Vec<&str> = program.files[*path].split('\n').collect();
            places.extend(matches(&lines, core, tolerant).map(|start| Place {
                path: (*path).to_owned(),
                range: start..start + core.len(),
                exact: false,
                skipped,
            }));
        }
    }
    match places.len() {
        1 => Ok(places.remove(0)),
        0 => Err(unmatched(program, paths, block, core)),
        _ => Err(ambiguous(&places, block)),
    }
}

fn matches<'a>(
    lines: &'a [&'a str],
    search: &'a [&'a str],
    equal: impl Fn(&str, &str) -> bool + 'a,
) -> impl Iterator<Item = usize> + 'a {
    lines
        .windows(search.len())
        .enumerate()
        .filter(move |(_, window)| window.iter().zip(search).all(|(a, b)| equal(a, b)))
        .map(|(start, _)| start)
}

/// The replacement, indented like the place it lands on.
pub(super) fn indent_like(place: &Place, block: &Block<'_>, lines: &[&str]) -> Vec<String> {
    let own = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
    if place.exact {
        return own(&block.replace);
    }
    // Blank lines that the search part had too many at its ends are taken off both parts.
    let blank = |line: &&&str| line.trim().is_empty();
    let trailing = block.search.iter().rev().take_while(blank).count();
    let front = block.replace.iter().take_while(blank).count().min(place.skipped);
    let rest = &block.replace[front..];
    let back = rest.iter().rev().take_while(blank).count().min(trailing);
    let rest = &rest[..rest.len() - back];

    let there = indent(lines[place.range.start]);
    let here = indent(block.search[place.skipped]);
    let carriage_return = lines[place.range.start].ends_with('\r');
    rest.iter()
        .map(|line| {
            let mut line = shift(line, here, there);
            if carriage_return && !line.ends_with('\r') {
                line.push('\r');
            }
            line
        })
        .collect()
}

fn indent(line: &str) -> &str {
    &line[..line.len() - line.trim_start().len()]
}

/// Moves a line from indentation `here` to indentation `there`.
fn shift(line: &str, here: &str, there: &str) -> String {
    if line.trim().is_empty() {
        return String::new();
    }
    if let Some(rest) = line.strip_prefix(here) {
        return format!("{there}{rest}");
    }
    // Less indented than the first searched line: take off or add the difference.
    let body = line.trim_start();
    let depth = indent(line).len() + there.len();
    let keep = depth.saturating_sub(here.len());
    let unit = if there.contains('\t') || indent(line).contains('\t') { '\t' } else { ' ' };
    format!("{}{body}", unit.to_string().repeat(keep))
}

fn ambiguous(places: &[Place], block: &Block<'_>) -> Finding {
    let mut shown: Vec<String> = places
        .iter()
        .take(MAX_PLACES)
        .map(|place| format!("{}:{}", place.path, place.range.start + 1))
        .collect();
    if places.len() > MAX_PLACES {
        shown.push(format!("{} more", places.len() - MAX_PLACES));
    }
    let place = shown[0].clone();
    let message = format!(
        "the search part matches {} places ({}); add neighbouring lines until it matches one",
        places.len(),
        shown.join(", ")
    );
    block.finding("patch/ambiguous", message).at(place)
}

fn unmatched(program: &Program, paths: &[&str], block: &Block<'_>, core: &[&str]) -> Finding {
    let compared = &core[..core.len().min(MAX_COMPARED_LINES)];
    let wanted: Vec<Bigrams> = compared.iter().map(|line| Bigrams::of(line)).collect();
    let mut nearest: Option<(f64, &str, usize)> = None;
    for path in paths {
        let lines: Vec<Bigrams> = program.files[*path].split('\n').map(Bigrams::of).collect();
        for start in 0..lines.len() {
            let score: f64 = wanted.iter().zip(&lines[start..]).map(|(a, b)| a.similarity(b)).sum();
            if score > nearest.map_or(0.0, |(best, ..)| best) {
                nearest = Some((score, path, start));
            }
        }
    }
    let first = quote_line(core[0].trim());
    let Some((_, path, start)) = nearest else {
        let message = format!(
            "the search part, which starts with `{first}`, resembles nothing in {}; quote lines \
             as they stand in the program",
            paths.join(", ")
        );
        return block.finding("patch/unmatched", message);
    };
    let n_quoted = core.len().min(MAX_QUOTED_LINES);
    let quoted: Vec<String> = program.files[path]
        .split('\n')
        .enumerate()
        .skip(start)
        .take(n_quoted)
        .map(|(idx, line)| format!("{:>5} | {}", idx + 1, quote_line(line)))
        .collect();
    let message = format!(
        "the search part, which starts with `{first}`, is not in the program; the nearest text \
         is {path}:{}:\n{}\nhint: copy the lines as they stand there",
        start + 1,
        quoted.join("\n")
    );
    block.finding("patch/unmatched", message).at(format!("{path}:{}", start + 1))
}

fn quote_line(line: &str) -> String {
    let line = line.trim_end();
    let mut quoted: String = line.chars().take(MAX_LINE_CHARS).collect();
    if quoted.len() < line.len() {
        quoted.push_str("...");
    }
    quoted
}

/// The pairs of neighbouring characters of a line, counted.
struct Bigrams {
    counts: HashMap<(char, char), u32>,
    total: u32,
}

impl Bigrams {
    fn of(line: &str) -> Self {
        let chars: Vec<char> =
            line.chars().filter(|c| !c.is_whitespace()).take(MAX_LINE_CHARS).collect();
        let mut counts = HashMap::new();
        for pair in chars.windows(2) {
            *counts.entry((pair[0], pair[1])).or_insert(0) += 1;
        }
        let total = u32::try_from(chars.len().saturating_sub(1)).unwrap_or(u32::MAX);
        Self { counts, total }
    }

    /// Dice's coefficient, in `0.0..=1.0`; 0 for lines without a pair.
    fn similarity(&self, other: &Self) -> f64 {
        if self.total == 0 || other.total == 0 {
            return 0.0;
        }
        let common = |(pair, count): (&(char, char), &u32)| {
            other.counts.get(pair).map_or(0, |theirs| *count.min(theirs))
        };
        let shared: u32 = self.counts.iter().map(common).sum();
        2.0 * f64::from(shared) / f64::from(self.total + other.total)
    }
}
