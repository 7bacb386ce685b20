//! Where the time went: by section and by operation.

use super::{
    Other,
    text::{percent, significant, word},
};
use crate::{Evaluation, Operation, Telemetry};
use std::fmt::Write as _;

const MAX_SECTIONS: usize = 6;
const MAX_OPERATIONS: usize = 9;
/// Operations that only the other evaluation has.
const MAX_GONE: usize = 3;

pub(super) fn sections(evaluation: &Evaluation, other: Option<&Other<'_>>) -> String {
    let telemetry = &evaluation.telemetry;
    let total: f64 = telemetry.sections.iter().map(|section| section.seconds).sum();
    if telemetry.sections.is_empty() || total <= 0.0 {
        return String::new();
    }
    let mut sections: Vec<_> = telemetry.sections.iter().collect();
    sections.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let mut text = format!("time by section, of {} s\n", significant(total, 4));
    for section in sections.into_iter().take(MAX_SECTIONS) {
        let same = |other: &Other<'_>| {
            other.evaluation.telemetry.sections.iter().find(|s| s.name == section.name).cloned()
        };
        let before = other.map(|other| before(other, same(other).map(|s| s.seconds)));
        let _ = writeln!(
            text,
            "  {} {} s, {}, {} x {} ms{}{}",
            word(&section.name),
            significant(section.seconds, 4),
            percent(section.seconds / total),
            section.calls,
            significant(1e3 * section.seconds / section.calls.max(1) as f64, 3),
            rate(section.flops_per_second(), telemetry),
            before.unwrap_or_default()
        );
    }
    text
}

/// `, 80 GFLOP/s = 80 % of peak`; empty of what has no matrix products.
fn rate(flops_per_second: Option<f64>, telemetry: &Telemetry) -> String {
    let Some(rate) = flops_per_second else { return String::new() };
    let of_peak = telemetry.peak_flops().map(|peak| format!(" = {} of peak", percent(rate / peak)));
    format!(", {} GFLOP/s{}", significant(rate / 1e9, 3), of_peak.unwrap_or_default())
}

/// The costliest operations, with their share of the whole and of the peak of matrix products.
pub(super) fn operations(evaluation: &Evaluation, other: Option<&Other<'_>>) -> String {
    let telemetry = &evaluation.telemetry;
    let (whole, counted) = (telemetry.seconds(), telemetry.operation_seconds());
    if telemetry.operations.is_empty() || counted <= 0.0 {
        return String::new();
    }
    let mut text = format!(
        "costliest operations; all counted ones take {}, the rest is between them\n",
        percent(counted / whole)
    );
    let mut operations: Vec<_> = telemetry.operations.iter().collect();
    operations.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    for operation in operations.into_iter().take(MAX_OPERATIONS) {
        let Operation { name, calls, seconds, .. } = operation;
        let _ = write!(
            text,
            "  {} {} s, {}, {calls} x {} us{}",
            word(name),
            significant(*seconds, 4),
            percent(seconds / whole),
            significant(1e6 * seconds / (*calls).max(1) as f64, 3),
            rate(operation.flops_per_second(), telemetry)
        );
        if let Some(other) = other {
            let same = other.evaluation.telemetry.operations.iter().find(|o| o.name == *name);
            text.push_str(&before(other, same.map(|o| o.seconds)));
        }
        text.push('\n');
    }
    if let Some(other) = other {
        text.push_str(&gone(evaluation, other));
    }
    text
}

/// ` (parent 3.2 s)`, or that it is new.
fn before(other: &Other<'_>, seconds: Option<f64>) -> String {
    match seconds {
        Some(seconds) => format!(" ({} {} s)", other.name, significant(seconds, 4)),
        None => " (new)".to_owned(),
    }
}

/// The costliest operations that only the other evaluation has.
fn gone(evaluation: &Evaluation, other: &Other<'_>) -> String {
    let now = &evaluation.telemetry.operations;
    let mut gone: Vec<_> = other.evaluation.telemetry.operations.iter().collect();
    gone.retain(|before| !now.iter().any(|one| one.name == before.name));
    gone.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let names: Vec<String> = gone
        .iter()
        .take(MAX_GONE)
        .map(|one| format!("{} {} s", word(&one.name), significant(one.seconds, 4)))
        .collect();
    match names.len() {
        0 => String::new(),
        _ => format!("  only in {}: {}\n", other.name, names.join(", ")),
    }
}
