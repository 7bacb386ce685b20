//! One measured run of one program, and why it counts or does not.

use crate::{Evidence, Metrics, Telemetry};
use serde::{Deserialize, Serialize};

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; changes nothing.
    Note,
    /// Suspicious; shown, does not reject.
    Warning,
    /// Rejects the program.
    Error,
}

impl Severity {
    /// The name in stores and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One reason for a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable name of the rule, for example `source/no-unsafe` or `compile/error`.
    pub rule: String,
    /// How much it weighs.
    pub severity: Severity,
    /// What was found, and what an honest author does instead. Program output inside is data.
    pub message: String,
    /// File and line in the program, where one applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

impl Finding {
    /// A finding that rejects.
    pub fn error(rule: impl Into<String>, message: impl Into<String>) -> Self {
        Self { rule: rule.into(), severity: Severity::Error, message: message.into(), place: None }
    }

    /// A finding that only warns.
    pub fn warning(rule: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(rule, message) }
    }

    /// The same finding at `file:line`.
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }
}

/// Why an evaluation failed, coarse enough to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// A patch did not apply.
    Patch,
    /// A source rule refused the program.
    Rule,
    /// The compiler refused the program.
    Compile,
    /// The program ended with an error or a panic.
    Crash,
    /// A time limit was reached.
    Timeout,
    /// A memory limit was reached.
    Memory,
    /// The program broke the protocol: nonsense, wrong shapes, early exit.
    Protocol,
    /// A number that is not finite.
    NotFinite,
    /// The worker process died; the program may or may not be to blame.
    Worker,
    /// The mutator could not make a proposal.
    Mutator,
    /// Measured, and not believed: a rule or a verification hook refused the result, or a hook
    /// could not tell. Tells mutators why an attempt came to nothing; an evaluation of this kind
    /// has [`Verdict::Rejected`] or [`Verdict::Unverified`].
    Verification,
    /// Anything else.
    Other,
}

impl Cause {
    /// The name used in stores and summaries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Patch => "patch",
            Self::Rule => "rule",
            Self::Compile => "compile",
            Self::Crash => "crash",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::Protocol => "protocol",
            Self::NotFinite => "not_finite",
            Self::Worker => "worker",
            Self::Mutator => "mutator",
            Self::Verification => "verification",
            Self::Other => "other",
        }
    }
}

/// What an evaluation amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", content = "cause", rename_all = "snake_case")]
pub enum Verdict {
    /// Measured, and believed.
    Accepted,
    /// Measured, and refused by a rule; the findings name it.
    Rejected,
    /// Could not be measured.
    Failed(Cause),
    /// Measured, but a verification hook could not do its work; the findings name hook and cause.
    /// Counts no more than a rejected one.
    Unverified,
}

/// One measured run of one program with one seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The outcome.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Reasons and remarks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// What was measured. Empty unless accepted or rejected.
    #[serde(default)]
    pub metrics: Metrics,
    /// Everything else that was measured.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// What a verification hook can judge the result by.
    #[serde(default, skip_serializing_if = "Evidence::is_empty")]
    pub evidence: Evidence,
}

impl Evaluation {
    /// An accepted evaluation with one metric.
    ///
    /// ```
    /// let evaluation = forerunner_core::Evaluation::accepted("distance", 0.5);
    /// assert_eq!(evaluation.metrics["distance"], 0.5);
    /// ```
    pub fn accepted(metric: impl Into<String>, value: f64) -> Self {
        Self {
            verdict: Verdict::Accepted,
            findings: Vec::new(),
            metrics: Metrics::from([(metric.into(), value)]),
            telemetry: Telemetry::default(),
            evidence: Evidence::default(),
        }
    }

    /// A program that could not be measured, with the finding that says why.
    pub fn failed(cause: Cause, finding: Finding) -> Self {
        Self::refused(cause, vec![finding])
    }

    /// A program that could not be measured, with everything that was found.
    pub fn refused(cause: Cause, findings: Vec<Finding>) -> Self {
        Self {
            verdict: Verdict::Failed(cause),
            findings,
            metrics: Metrics::new(),
            telemetry: Telemetry::default(),
            evidence: Evidence::default(),
        }
    }

    /// Whether it counts.
    pub fn is_accepted(&self) -> bool {
        self.verdict == Verdict::Accepted
    }

    /// Turns an accepted evaluation with a number that is not finite into a failed one, so that
    /// no such number ever reaches a comparison or the store.
    #[must_use]
    pub fn finite(mut self) -> Self {
        if let Some((name, value)) = self.metrics.iter().find(|(_, value)| !value.is_finite()) {
            let finding = Finding::error("metric/not-finite", format!("`{name}` is {value}"));
            self.findings.push(finding);
            self.verdict = Verdict::Failed(Cause::NotFinite);
            self.metrics.clear();
        }
        self.telemetry.numbers.retain(|_, value| value.is_finite());
        self.telemetry.sections.retain(|section| section.seconds.is_finite());
        self.telemetry.operations.retain(|operation| operation.seconds.is_finite());
        for series in self.telemetry.series.values_mut() {
            series.retain(|(_, value)| value.is_finite());
        }
        for probe in &mut self.evidence.probes {
            probe.numbers.retain(|_, value| value.is_finite());
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_not_finite_fail_the_evaluation() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let evaluation = Evaluation::accepted("loss", value).finite();
            assert_eq!(evaluation.verdict, Verdict::Failed(Cause::NotFinite));
            assert!(evaluation.metrics.is_empty());
        }
        let mut good = Evaluation::accepted("loss", 1.0);
        let probe = crate::Probe::new("audit", 8, 0).with("gain", f64::NAN).with("cuts", 4.0);
        good.evidence.probes.push(probe);
        let good = good.finite();
        assert!(good.is_accepted());
        assert_eq!(good.evidence.probes[0].numbers, [("cuts".to_owned(), 4.0)].into());
    }

    #[test]
    fn evaluations_survive_json() {
        let mut one = Evaluation::accepted("loss", 1.25);
        one.telemetry.series.insert("train_loss".into(), vec![(0, 5.5), (10, 2.0)]);
        let two =
            Evaluation::failed(Cause::Compile, Finding::error("compile/error", "x").at("a:1"));
        for evaluation in [one, two] {
            let text = serde_json::to_string(&evaluation).expect("plain data");
            assert_eq!(serde_json::from_str::<Evaluation>(&text).expect("own text"), evaluation);
        }
    }
}
