//! An evaluation in a page of text, for people and for models: what came out, where the time went,
//! how the loss fell, and what is different from another evaluation.

mod curve;
mod run;
mod text;
mod time;

use crate::{Evaluation, Finding, Objective, PEAK_FLOPS, Verdict};
use std::{borrow::Cow, fmt::Write as _};
use text::{change, line, number, word};

/// Most characters of a digest: under 2,000 tokens of a language model.
pub const MAX_DIGEST: usize = 4000;

const MAX_FINDINGS: usize = 2;
const MAX_METRICS: usize = 7;
const MAX_NUMBERS: usize = 10;
/// Characters of a finding's message.
const MESSAGE: usize = 140;

/// An evaluation in at most [`MAX_DIGEST`] characters of printable ASCII.
///
/// `objectives` come first among the metrics and give them units. `against` is another evaluation,
/// for example of the parent, with the word that it goes by. Both should come with their curves.
/// Names and messages inside come from programs; they are cut and made harmless, but they are data.
///
/// ```
/// use forerunner_core::{Evaluation, digest};
/// let parent = Evaluation::accepted("seconds", 20.0);
/// let child = Evaluation::accepted("seconds", 15.0);
/// let text = digest(&child, &[], Some(("parent", &parent)));
/// assert_eq!(text, "accepted\n\nmetrics\n  seconds 15 (parent 20, -25.0 %)\n");
/// ```
#[must_use]
pub fn digest(
    evaluation: &Evaluation,
    objectives: &[Objective],
    against: Option<(&str, &Evaluation)>,
) -> String {
    let other = against.map(|(name, evaluation)| Other { name: word(name), evaluation });
    let other = other.as_ref();
    // Each with the characters that are its own: long names must not crowd out what follows.
    let blocks = [
        (findings(&evaluation.findings), 380),
        (metrics(evaluation, objectives, other), 450),
        (curve::loss(evaluation, other), 1150),
        (time::sections(evaluation, other), 350),
        (time::operations(evaluation, other), 850),
        (run::phases(evaluation) + &run::memory(evaluation), 250),
        (run::groups(evaluation), 250),
        (numbers(evaluation), 200),
    ];
    let mut text = verdict(evaluation.verdict);
    text.push('\n');
    // What some leave goes to the first that need more.
    let lines_between = blocks.len();
    let taken: usize = blocks.iter().map(|(block, own)| block.len().min(*own)).sum();
    let mut left = MAX_DIGEST - text.len() - lines_between - taken;
    for (block, own) in blocks.iter().filter(|(block, _)| !block.is_empty()) {
        let more = block.len().saturating_sub(*own).min(left);
        left -= more;
        text.push('\n');
        text.push_str(&clipped(block, own + more));
    }
    debug_assert!(text.len() <= MAX_DIGEST, "the budgets leave room for the verdict");
    text
}

/// The lines of a block that fit the budget.
fn clipped(block: &str, budget: usize) -> Cow<'_, str> {
    const MORE: &str = "  ...\n";
    if block.len() <= budget {
        return block.into();
    }
    let room = budget - MORE.len();
    let lines = block.split_inclusive('\n').scan(0, |used, line| {
        *used += line.len();
        (*used <= room).then_some(line)
    });
    (lines.collect::<String>() + MORE).into()
}

/// What an evaluation is compared with.
struct Other<'a> {
    /// The word that it goes by.
    name: String,
    evaluation: &'a Evaluation,
}

fn verdict(verdict: Verdict) -> String {
    match verdict {
        Verdict::Accepted => "accepted".to_owned(),
        Verdict::Unverified => "unverified".to_owned(),
        Verdict::Rejected => "rejected".to_owned(),
        Verdict::Failed(cause) => format!("failed ({})", cause.as_str()),
    }
}

/// The gravest findings, each on a line.
fn findings(findings: &[Finding]) -> String {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let mut text = String::new();
    for finding in sorted.iter().take(MAX_FINDINGS) {
        let severity = finding.severity.as_str();
        let place = finding.place.as_deref().map(|place| format!(" at {}", word(place)));
        let (rule, message) = (word(&finding.rule), line(&finding.message, MESSAGE));
        let _ = writeln!(text, "{severity} {rule}{}: {message}", place.unwrap_or_default());
    }
    if findings.len() > MAX_FINDINGS {
        let _ = writeln!(text, "and {} more findings", findings.len() - MAX_FINDINGS);
    }
    text
}

/// Objectives first, in their order; then the rest by name.
fn metrics(evaluation: &Evaluation, objectives: &[Objective], other: Option<&Other<'_>>) -> String {
    let metrics = &evaluation.metrics;
    let objective = |name: &str| objectives.iter().find(|o| o.metric == name);
    let first = objectives.iter().map(|o| &o.metric).filter(|name| metrics.contains_key(*name));
    let rest = metrics.keys().filter(|name| objective(name).is_none());
    let mut text = String::new();
    for name in first.chain(rest).take(MAX_METRICS) {
        let value = metrics[name];
        let _ = write!(text, "  {} {}", word(name), number(value));
        if let Some(objective) = objective(name) {
            let unit = line(&objective.unit, 12);
            let _ = if unit.is_empty() { Ok(()) } else { write!(text, " {unit}") };
            if let Some(target) = objective.target {
                let _ = write!(text, ", target {}", number(target));
            }
        }
        if let Some(other) = other {
            let _ = match other.evaluation.metrics.get(name) {
                Some(before) => {
                    write!(text, " ({} {}{})", other.name, number(*before), change(*before, value))
                }
                None => write!(text, " ({} has none)", other.name),
            };
        }
        text.push('\n');
    }
    if text.is_empty() { text } else { format!("metrics\n{text}") }
}

/// Single numbers, those of the largest interest to whoever makes programs faster first.
fn numbers(evaluation: &Evaluation) -> String {
    const FIRST: [&str; 3] = ["tokens_per_cpu_second", "share_of_gemm_peak", PEAK_FLOPS];
    let numbers = &evaluation.telemetry.numbers;
    let shown = |name: &&str| !FIRST.contains(name) && !run::MEMORY.contains(name);
    let rest = numbers.keys().map(String::as_str).filter(shown);
    let names = FIRST.into_iter().filter(|name| numbers.contains_key(*name)).chain(rest);
    let shown: Vec<String> = names
        .take(MAX_NUMBERS)
        .map(|name| match numbers[name] {
            value if name.ends_with("_bytes") => {
                format!("{} {} MiB", word(name), number(value / f64::from(1 << 20)))
            }
            value => format!("{} {}", word(name), number(value)),
        })
        .collect();
    if shown.is_empty() { String::new() } else { format!("numbers\n  {}\n", shown.join("\n  ")) }
}

#[cfg(test)]
mod tests;
