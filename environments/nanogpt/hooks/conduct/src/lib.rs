//! The hook `conduct`: does the evidence of a NanoGPT evaluation hang together?
//!
//! The environment decides most by itself. This hook looks once more, from outside, at what must
//! hold whatever the environment's code does: numbers that are numbers, accounts that add up, probes
//! that were made and passed. Contradictions are errors and reject. What is only unusual is a
//! warning: a person should look, and an honest program loses nothing by it.

mod suspicion;

#[cfg(target_arch = "wasm32")]
mod component;

use std::collections::BTreeMap;

/// Name of the probe that the score rests on.
const AUDIT: &str = "blind-audit";
/// Tokens per step, phase by phase, as the environment counted them.
pub const TOKENS_PER_STEP: &str = "tokens_per_step";
/// The loss on held-out text on the way, measured by the environment.
pub const DEV_LOSS: &str = "dev_loss";

/// What the hook looks at.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// The track.
    pub track: String,
    /// Every metric.
    pub metrics: BTreeMap<String, f64>,
    /// What the program was given and what was asked of it.
    pub ledger: BTreeMap<String, u64>,
    /// The series [`TOKENS_PER_STEP`] and [`DEV_LOSS`], where there are such.
    pub series: BTreeMap<String, Vec<(u64, f64)>>,
    /// What was probed.
    pub probes: Vec<Probe>,
}

/// One kind of probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Its name.
    pub name: String,
    /// How often it was made.
    pub trials: u64,
    /// How often the program failed it.
    pub failures: u64,
}

/// Something to say about an evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objection {
    /// The rule.
    pub rule: &'static str,
    /// Whether it rejects; otherwise it only warns.
    pub rejects: bool,
    /// What was found, and what an honest author does instead.
    pub message: String,
    /// What it rests on.
    pub place: Place,
}

/// A place in the evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A metric.
    Metric(&'static str),
    /// The last point of a series.
    EndOf(&'static str),
    /// A probe.
    Probe(String),
}

impl Objection {
    fn error(rule: &'static str, place: Place, message: String) -> Self {
        Self { rule, rejects: true, message, place }
    }

    fn warning(rule: &'static str, place: Place, message: String) -> Self {
        Self { rejects: false, ..Self::error(rule, place, message) }
    }
}

/// Everything that is to be said: contradictions, and where there are none what is only unusual.
pub fn judge(account: &Account) -> Vec<Objection> {
    let mut objections = numbers(account);
    objections.extend(tokens(account));
    objections.extend(probes(account));
    if objections.is_empty() {
        objections = suspicion::all(account);
    }
    objections
}

/// The metrics that the ranking rests on are numbers, positive and of one mind.
fn numbers(account: &Account) -> Vec<Objection> {
    let mut objections = Vec::new();
    for name in ["loss", "seconds"] {
        let problem = match account.metrics.get(name) {
            None => "was not measured".to_owned(),
            // A loss of zero is certainty about every token of a text that was never seen.
            Some(value) if !value.is_finite() || *value <= 0.0 => format!("is {value}"),
            Some(_) => continue,
        };
        let message = format!("`{name}` {problem}; a result needs a positive, finite `{name}`");
        objections.push(Objection::error("no-measurement", Place::Metric(name), message));
    }
    let to_target = account.metrics.get("seconds_to_target");
    if let (Some(all), Some(to_target)) = (account.metrics.get("seconds"), to_target)
        && all != to_target
    {
        let place = Place::Metric("seconds_to_target");
        let message = format!("seconds to the target ({to_target}) are not all seconds ({all})");
        objections.push(Objection::error("seconds-disagree", place, message));
    }
    objections
}

/// What was served and scored adds up, wherever it was counted.
fn tokens(account: &Account) -> Vec<Objection> {
    let entry = |name: &str| account.ledger.get(name).copied();
    let disagrees = |metric: &'static str, message: String| {
        Objection::error("ledger-disagrees", Place::Metric(metric), message)
    };
    let mut objections = Vec::new();
    let pairs = [("tokens", "tokens"), ("steps", "batches"), ("parameters", "parameters")];
    for (metric, name) in pairs {
        if let (Some(measured), Some(counted)) = (account.metrics.get(metric), entry(name))
            && *measured != counted as f64
        {
            let message = format!("the metric `{metric}` is {measured}, the ledger has {counted}");
            objections.push(disagrees(metric, message));
        }
    }
    if let (Some(tokens), Some(batches)) = (entry("tokens"), entry("batches"))
        && tokens < batches
    {
        let message = format!("{batches} batches cannot hold fewer tokens ({tokens})");
        objections.push(disagrees("tokens", message));
    }
    if let (Some(served), Some(tokens)) = (served(account), entry("tokens"))
        // Rates were divided and are multiplied again: a few roundings, never half a token in 10^9.
        && (served - tokens as f64).abs() > 0.5 + tokens as f64 * 1e-9
    {
        let message = format!(
            "the phases of the training add up to {served:.0} tokens, the ledger has {tokens}"
        );
        objections.push(disagrees("tokens", message));
    }
    match (entry("scored_tokens"), entry("windows")) {
        (Some(0), _) => {
            let message = "no token was scored".to_owned();
            objections.push(Objection::error("nothing-scored", Place::Metric("loss"), message));
        }
        // Every window has as many tokens.
        (Some(scored), Some(windows)) if windows == 0 || scored % windows != 0 => {
            let message = format!("{scored} scored tokens are not {windows} whole windows");
            objections.push(disagrees("loss", message));
        }
        _ => {}
    }
    objections
}

/// Tokens served, from the rates of the phases: each point ends a phase.
fn served(account: &Account) -> Option<f64> {
    let phases = account.series.get(TOKENS_PER_STEP).filter(|phases| !phases.is_empty())?;
    let starts = std::iter::once(0).chain(phases.iter().map(|(end, _)| *end));
    let tokens = phases.iter().zip(starts).map(|((end, rate), start)| {
        // Phases that run backwards give a sum that no ledger agrees with.
        (*end as f64 - start as f64) * rate
    });
    Some(tokens.sum())
}

/// The audit was made, and nothing that was tried failed.
fn probes(account: &Account) -> Vec<Objection> {
    let mut objections = Vec::new();
    let failed: Vec<&str> = account
        .probes
        .iter()
        .filter(|probe| probe.failures > 0)
        .map(|probe| probe.name.as_str())
        .collect();
    // One for all: the environment has a finding of its own for each.
    if let Some(first) = failed.first() {
        let message = format!(
            "the program failed `{}`; a result counts only when every probe is passed",
            failed.join("`, `")
        );
        let place = Place::Probe((*first).to_owned());
        objections.push(Objection::error("probe-failed", place, message));
    }
    let audited = account.probes.iter().any(|probe| probe.name == AUDIT && probe.trials > 0);
    if !audited {
        let place = Place::Probe(AUDIT.to_owned());
        let message =
            "the score was not audited blind; measure again with an environment that does";
        objections.push(Objection::error("no-audit", place, message.to_owned()));
    }
    objections
}

#[cfg(test)]
mod tests;
