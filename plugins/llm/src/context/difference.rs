//! How one program differs from another.

use super::view::NAME;
use crate::text::{line, stripped};
use forerunner_sdk::Program;
use similar::{Algorithm, TextDiff};
use std::collections::HashMap;

/// Share of common lines from which on a difference is shorter than the program, and is quick to
/// find.
const ALIKE: f64 = 0.75;
/// Lines of a file up to which differences are looked for.
const MAX_LINES: usize = 4_000;

/// How another program differs, where that is shorter than the program itself.
pub(super) fn changes(own: &Program, other: &Program) -> Option<String> {
    let mut changes = String::new();
    let paths = own.files.keys().chain(other.files.keys().filter(|p| !own.files.contains_key(*p)));
    for path in paths {
        let text =
            |program: &Program| program.files.get(path).map_or_else(String::new, |t| stripped(t));
        let (before, after) = (text(own), text(other));
        if before == after {
            continue;
        }
        if !alike(&before, &after) {
            return None;
        }
        let diff =
            TextDiff::configure().algorithm(Algorithm::Histogram).diff_lines(&before, &after);
        let path = line(path, NAME);
        let hunks = diff.unified_diff().context_radius(2).header(&path, &path).to_string();
        changes.push_str(&hunks);
    }
    (2 * changes.len() <= other.len_bytes() || changes.is_empty()).then_some(changes)
}

/// Whether so many lines are common that a difference is worth looking for.
fn alike(a: &str, b: &str) -> bool {
    let (n_a, n_b) = (a.lines().count(), b.lines().count());
    if n_a.max(n_b) > MAX_LINES {
        return false;
    }
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for line in a.lines() {
        *counts.entry(line).or_default() += 1;
    }
    let common = b.lines().filter(|line| {
        counts.get_mut(line).filter(|count| **count > 0).is_some_and(|count| {
            *count -= 1;
            true
        })
    });
    common.count() as f64 >= ALIKE * n_a.max(n_b) as f64
}
