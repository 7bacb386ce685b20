//! How evenly the run went: time per token phase by phase, memory, and how far the groups of
//! parameters move in a step.

use super::text::{significant, word};
use crate::{
    ALLOCATIONS_PER_STEP, Evaluation, Group, SECONDS_PER_TOKEN, Series, TOKENS_PER_STEP, Telemetry,
    late_median, thinned,
};
use std::fmt::Write as _;

/// Most phases; there are not more of an honest environment.
const MAX_PHASES: usize = 10;
/// Phases differ when the slowest takes so many times as long as the fastest.
const UNEVEN: f64 = 1.1;
/// Allocations are many when the CPU does so few microseconds of work from one to the next; one
/// costs about a tenth of a microsecond.
const MANY_MICROSECONDS: f64 = 2.0;
/// Numbers that the line about memory tells.
pub(super) const MEMORY: [&str; 5] = [
    "peak_memory_bytes",
    "peak_allocated_bytes",
    "allocated_per_step_bytes",
    "allocations",
    ALLOCATIONS_PER_STEP,
];
/// Most groups of parameters.
const MAX_GROUPS: usize = 8;
/// An update is unusual when it is so many times as large as the median of the groups, or as small.
const UNUSUAL: f64 = 10.0;

/// Time per token over the run: one number where it is even, else one for each phase.
pub(super) fn phases(evaluation: &Evaluation) -> String {
    let all = &evaluation.telemetry.series;
    let Some(curve) = all.get(SECONDS_PER_TOKEN).filter(|curve| !curve.is_empty()) else {
        return String::new();
    };
    let curve = thinned(curve, MAX_PHASES);
    let tokens = all.get(TOKENS_PER_STEP).map(|tokens| thinned(tokens, MAX_PHASES));
    let tokens = tokens.unwrap_or_default();
    let (low, high) = range(&curve);
    let (fewest, most) = range(&tokens);
    if high <= UNEVEN * low && most <= fewest {
        let middle = significant(5e5 * (low + high), 4);
        return format!("time per token: even over the run, {middle} us\n");
    }
    let shown = |curve: &Series, unit: f64| {
        let values = curve.iter().map(|(_, value)| significant(value / unit, 3));
        values.collect::<Vec<_>>().join(" ")
    };
    let mut text = format!("us per token, first to last phase: {}\n", shown(&curve, 1e-6));
    if most > fewest {
        let _ = writeln!(text, "tokens per step: {}", shown(&tokens, 1.0));
    }
    text
}

/// Memory in one line.
pub(super) fn memory(evaluation: &Evaluation) -> String {
    let Telemetry { numbers, .. } = &evaluation.telemetry;
    let get = |name: &str| numbers.get(name).copied().filter(|value| value.is_finite());
    let mebibytes = |name: &str| {
        get(name).map(|bytes| format!("{} MiB", significant(bytes / f64::from(1 << 20), 4)))
    };
    let mut parts = Vec::new();
    parts.extend(mebibytes("peak_memory_bytes").map(|size| format!("peak {size} resident")));
    parts.extend(mebibytes("peak_allocated_bytes").map(|size| format!("{size} allocated")));
    if let Some(count) = get(ALLOCATIONS_PER_STEP) {
        let size = mebibytes("allocated_per_step_bytes").map(|size| format!(" of {size} in all"));
        let mut part = format!(
            "{} allocations a step{}",
            significant(count.round(), 4),
            size.unwrap_or_default()
        );
        let apart = get("cpu_seconds").zip(get("allocations")).map(|(cpu, n)| 1e6 * cpu / n);
        if let Some(apart) = apart.filter(|apart| *apart < MANY_MICROSECONDS) {
            let _ = write!(part, " (many: one each {} us)", significant(apart, 2));
        }
        parts.push(part);
    }
    if parts.is_empty() { String::new() } else { format!("memory: {}\n", parts.join(", ")) }
}

/// The relative size of the updates of each group of parameters in the second half of the run, with
/// what is unusual about it.
pub(super) fn groups(evaluation: &Evaluation) -> String {
    let groups = evaluation.telemetry.groups();
    let late = |series: Option<&Series>| series.and_then(|series| late_median(series));
    let updates: Vec<(&Group<'_>, f64)> =
        groups.iter().filter_map(|group| Some((group, late(group.relative)?))).collect();
    if updates.is_empty() {
        return String::new();
    }
    let mut sorted: Vec<f64> = updates.iter().map(|(_, update)| *update).collect();
    sorted.sort_by(f64::total_cmp);
    let usual = sorted[sorted.len() / 2];
    let mut text = "updates by group, second half: |dw|/|w| a step, gradient norm\n".to_owned();
    for (group, update) in updates.into_iter().take(MAX_GROUPS) {
        let gradient = late(group.gradient).map_or("-".to_owned(), |norm| significant(norm, 3));
        let _ = write!(text, "  {} {} {gradient}", word(group.name), significant(update, 3));
        let times = update / usual;
        text.push_str(match times {
            _ if update == 0.0 => " (does not move)",
            times if times > UNUSUAL => " (unusually large)",
            times if times < 1.0 / UNUSUAL => " (unusually small)",
            _ => "",
        });
        text.push('\n');
    }
    text
}

/// Least and greatest value.
fn range(curve: &Series) -> (f64, f64) {
    let values = || curve.iter().map(|(_, value)| *value);
    (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max))
}
