//! Verification: hooks judge every measurement, and only what all of them accept counts.
//!
//! Hooks are untrusted. They see the evidence that the environment grants and the operator allows,
//! each sees what the environment measured and nothing of the others, and one that misbehaves makes
//! the measurement unverified. Who may look at what is decided here; what a hook can do to the
//! host is the business of `forerunner-verify`.

mod judge;
mod load;

pub use load::{Hooks, VerificationError};

use forerunner_core::{Evaluation, Finding, Permission, Program, Severity, Slice, Verdict};
use forerunner_verify::{Report, Subject};
use judge::Judge;
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Rule of the finding that says why a measurement is unverified.
const UNVERIFIED: &str = "verify/hook";
/// Rule of the note that a hook computed another value than the environment.
const RECOMPUTED: &str = "verify/recomputed";
/// Seconds that all hooks took for one measurement.
const HOOK_SECONDS: &str = "hook_seconds";
/// Digits of a component's digest that are shown.
const SHOWN_DIGITS: usize = 16;

/// The hooks of a run, loaded, with what each may look at and do.
#[derive(Default)]
pub struct Verification {
    environment: String,
    track: String,
    seats: Vec<Seat>,
}

/// A hook with what it may look at and do.
struct Seat {
    judge: Box<dyn Judge>,
    permitted: BTreeSet<Permission>,
}

/// A measurement that a hook is to judge.
#[derive(Debug, Clone, Copy)]
pub struct Measured<'a> {
    /// What was measured.
    pub program: &'a Program,
    /// What it was made from.
    pub parent: Option<&'a Program>,
    /// The injected seed.
    pub seed: u64,
    /// The slice that decided.
    pub slice: Slice,
}

impl Verification {
    /// Whether there is nobody to ask.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// Name, version, digest and permissions of every hook: two results are comparable only when
    /// the same hooks judged them. Empty without hooks.
    pub fn identity(&self) -> String {
        let seats = self.seats.iter().map(|seat| {
            let permitted: Vec<_> = seat.permitted.iter().map(|one| one.as_str()).collect();
            let (name, version) = (seat.judge.name(), seat.judge.version());
            format!("{name} {version} {} ({})", seat.judge.digest(), permitted.join(", "))
        });
        seats.collect::<Vec<_>>().join("; ")
    }

    /// Asks every hook about a measurement and answers it with their findings. A program that
    /// could not be measured is nobody's to judge.
    ///
    /// A rejection by any hook rejects; a hook that fails or cannot tell makes the measurement
    /// unverified, unless it is rejected anyway. Metrics that hooks computed replace the
    /// environment's.
    #[must_use]
    pub fn verify(&self, measured: &Measured<'_>, evaluation: Evaluation) -> Evaluation {
        if self.is_empty() || !matches!(evaluation.verdict, Verdict::Accepted | Verdict::Rejected) {
            return evaluation;
        }
        let mut votes = Votes::default();
        for seat in &self.seats {
            let subject = Subject {
                environment: &self.environment,
                track: &self.track,
                program: measured.program,
                parent: measured.parent,
                seed: measured.seed,
                slice: measured.slice,
                evaluation: &evaluation,
            };
            // A bug of ours in one call must not cost the run its slot.
            let report =
                catch_unwind(AssertUnwindSafe(|| seat.judge.judge(&subject, &seat.permitted)))
                    .unwrap_or_else(|_| {
                        let (name, version) = (seat.judge.name(), seat.judge.version());
                        Err(format!("hook `{name}` {version}: its host panicked: a bug of ours"))
                    });
            votes.count(seat, report);
        }
        votes.applied_to(evaluation)
    }
}

/// What all hooks said.
#[derive(Default)]
struct Votes<'a> {
    findings: Vec<Finding>,
    rejected: bool,
    unverified: bool,
    seconds: f64,
    /// Who computed it, and what.
    metrics: BTreeMap<String, (&'a str, f64)>,
    facts: Vec<(String, String)>,
}

impl<'a> Votes<'a> {
    fn count(&mut self, seat: &'a Seat, report: Result<Report, String>) {
        let (name, version) = (seat.judge.name(), seat.judge.version());
        let word = match report {
            Err(cause) => {
                self.doubt(cause);
                "failed".to_owned()
            }
            Ok(report) => {
                self.seconds += report.usage.seconds;
                let usage = report.usage;
                let word = self.hear(name, version, report);
                let (seconds, fuel) = (usage.seconds * 1e3, usage.fuel);
                format!("{word} in {seconds:.2} ms with {fuel} units of fuel")
            }
        };
        let digest = seat.judge.digest();
        let digest = digest.get(..SHOWN_DIGITS).unwrap_or(digest);
        self.facts.push((format!("hook.{name}"), format!("{word}; {version}, sha256 {digest}")));
    }

    /// Takes in a report and answers its verdict in a word.
    fn hear(&mut self, name: &'a str, version: &str, report: Report) -> &'static str {
        let Report { verdict, findings, metrics, .. } = report;
        self.findings.extend(findings);
        for (metric, value) in metrics {
            let (other, before) = *self.metrics.entry(metric.clone()).or_insert((name, value));
            if before != value {
                self.doubt(format!(
                    "hooks `{other}` and `{name}` disagree on `{metric}`: {before} and {value}"
                ));
            }
        }
        match verdict {
            Verdict::Accepted => "accepted",
            Verdict::Rejected => {
                self.rejected = true;
                "rejected"
            }
            Verdict::Unverified | Verdict::Failed(_) => {
                self.doubt(format!("hook `{name}` {version} cannot tell from the evidence"));
                "undecided"
            }
        }
    }

    fn doubt(&mut self, why: String) {
        self.unverified = true;
        self.findings.push(Finding::error(UNVERIFIED, why));
    }

    fn applied_to(mut self, mut evaluation: Evaluation) -> Evaluation {
        for (metric, (name, value)) in self.metrics {
            let before = evaluation.metrics.insert(metric.clone(), value);
            if before != Some(value) {
                let before = before.map_or("none".to_owned(), |before| before.to_string());
                self.findings.push(Finding {
                    severity: Severity::Note,
                    ..Finding::error(
                        RECOMPUTED,
                        format!("`{metric}` is {value} by hook `{name}`; measured: {before}"),
                    )
                });
            }
        }
        if self.rejected {
            evaluation.verdict = Verdict::Rejected;
        } else if self.unverified && evaluation.verdict == Verdict::Accepted {
            evaluation.verdict = Verdict::Unverified;
        }
        evaluation.findings.append(&mut self.findings);
        evaluation.telemetry.numbers.insert(HOOK_SECONDS.to_owned(), self.seconds);
        evaluation.telemetry.facts.extend(self.facts);
        evaluation
    }
}

#[cfg(test)]
mod tests;
