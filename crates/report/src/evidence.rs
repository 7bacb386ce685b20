//! What a measurement was judged by, as text: probes, hooks, and what the program was given.

use crate::number::number;
use crate::profile::{columns, pad};
use crate::sanitize;
use forerunner_core::{Evidence, Finding, Probe, Telemetry};
use std::fmt::Write as _;

/// Before the name of a hook among the facts, which tell what it concluded.
const HOOK: &str = "hook.";

/// Whether a fact is that of a hook, which has a place of its own.
pub(crate) fn is_of_hook(fact: &str) -> bool {
    fact.starts_with(HOOK)
}

/// The hooks that ran, with what each concluded and what it cost.
pub(crate) fn hooks(telemetry: &Telemetry) -> impl Iterator<Item = (&str, &str)> {
    let facts = telemetry.facts.iter();
    facts.filter_map(|(name, fact)| Some((name.strip_prefix(HOOK)?, fact.as_str())))
}

/// Findings, the gravest first; those of equal weight in their order.
pub(crate) fn by_severity(findings: &[Finding]) -> Vec<&Finding> {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    sorted
}

/// The figures of a probe in words: `audited 64, residual 1.0000e-6`. Their names are foreign text.
pub(crate) fn figures(probe: &Probe) -> String {
    let figures = probe.numbers.iter().map(|(name, value)| format!("{name} {}", number(*value)));
    figures.collect::<Vec<_>>().join(", ")
}

/// A table of the probes; empty without any.
pub(crate) fn probes(evidence: &Evidence) -> String {
    let names: Vec<String> = evidence.probes.iter().map(|p| sanitize::line(&p.name)).collect();
    let Some(width) = names.iter().map(|name| columns(name)).max() else { return String::new() };
    let width = width.max("probe".len());
    let mut text = format!("probes\n  {}  {:>9}  {:>7}\n", pad("probe", width), "trials", "failed");
    for (probe, name) in evidence.probes.iter().zip(names) {
        let (trials, failures) = (number(probe.trials as f64), number(probe.failures as f64));
        let figures = sanitize::line(&figures(probe));
        let row = format!("  {}  {trials:>9}  {failures:>7}  {figures}", pad(&name, width));
        let _ = writeln!(text, "{}", row.trim_end());
    }
    text
}

/// What the program was given and what was asked of it, what it left behind, and the digest of it:
/// foreign text.
pub(crate) fn ledger(evidence: &Evidence) -> Vec<(String, String)> {
    let counts = evidence.ledger.iter().map(|(name, n)| (name.clone(), number(*n as f64)));
    let artifacts =
        evidence.artifacts.iter().map(|(name, path)| (name.clone(), path.display().to_string()));
    let digest = evidence.digest.iter().map(|text| ("digest".to_owned(), text.clone()));
    counts.chain(artifacts).chain(digest).collect()
}
