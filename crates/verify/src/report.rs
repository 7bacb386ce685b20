//! What a hook concludes, after the host has looked through it.

use crate::{
    Usage,
    manifest::{MAX_NAME, Manifest},
    text::{clean, is_made_of, is_name},
};
use forerunner_core::{Finding, Metrics, Permission, Severity, Verdict};
use serde::{Deserialize, Serialize};

/// Most findings of a report; more are a misbehaviour.
pub const MAX_FINDINGS: usize = 100;
/// Longest message of a finding, of a log line, and of a hook that declines, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 1_000;
/// Most metrics of a report; more are a misbehaviour.
const MAX_METRICS: usize = 1_000;
/// Longest name within a finding's place, in bytes.
const MAX_PLACE_NAME: usize = 200;

/// What a hook concludes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`Verdict::Accepted`], [`Verdict::Rejected`] or [`Verdict::Unverified`] (the evidence does
    /// not suffice); never failed. Rejected exactly when a finding is an error.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Reasons, with the rule `hook-name/rule`.
    pub findings: Vec<Finding>,
    /// Metrics that replace the environment's of the same name. Empty without the permission
    /// [`Permission::Recompute`]; finite.
    pub metrics: Metrics,
    /// What the hook logged.
    pub log: Vec<LogLine>,
    /// What the call used.
    pub usage: Usage,
}

/// One line of a hook's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// How important it is.
    pub level: Level,
    /// Its text, without control characters.
    pub message: String,
}

/// How important a line of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For the hook's author.
    Debug,
    /// For those who want to know how it went.
    Info,
    /// Suspicious.
    Warning,
    /// Wrong.
    Error,
}

/// A report as the hook gave it.
pub(crate) struct RawReport {
    pub(crate) verdict: RawVerdict,
    pub(crate) findings: Vec<RawFinding>,
    pub(crate) metrics: Vec<(String, f64)>,
}

/// A verdict as the hook gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RawVerdict {
    Accept,
    Reject,
    Undecided,
}

/// A finding as the hook gave it.
pub(crate) struct RawFinding {
    pub(crate) rule: String,
    pub(crate) severity: Severity,
    pub(crate) message: String,
    pub(crate) place: Option<Place>,
}

/// A place in the evidence.
pub(crate) enum Place {
    Line(String, u32),
    Metric(String),
    Point(String, u64),
    Probe(String),
    Artifact(String, u64),
}

impl Place {
    fn shown(&self) -> String {
        let name = |text: &str| clean(text, MAX_PLACE_NAME);
        match self {
            Self::Line(path, line) => format!("{}:{line}", name(path)),
            Self::Metric(metric) => format!("metric `{}`", name(metric)),
            Self::Point(series, step) => format!("series `{}` at step {step}", name(series)),
            Self::Probe(probe) => format!("probe `{}`", name(probe)),
            Self::Artifact(artifact, byte) => {
                format!("artifact `{}` at byte {byte}", name(artifact))
            }
        }
    }
}

/// The report without log and usage, or why it is unusable.
///
/// A report that contradicts itself is settled on the safe side: an error among the findings
/// rejects whatever the verdict, and a rejection without an error gets one.
pub(crate) fn judge(raw: RawReport, manifest: &Manifest) -> Result<Report, String> {
    if raw.findings.len() > MAX_FINDINGS {
        return Err(format!("{} findings (at most {MAX_FINDINGS})", raw.findings.len()));
    }
    let metrics = metrics(raw.metrics, manifest)?;
    let mut findings = Vec::with_capacity(raw.findings.len() + 1);
    for finding in raw.findings {
        findings.push(checked(finding, manifest)?);
    }
    let has_error = findings.iter().any(|finding| finding.severity == Severity::Error);
    let verdict = match raw.verdict {
        _ if has_error => Verdict::Rejected,
        RawVerdict::Accept => Verdict::Accepted,
        RawVerdict::Undecided => Verdict::Unverified,
        RawVerdict::Reject => {
            let message = "the hook rejected the program without saying why";
            findings.push(Finding::error(format!("{}/rejected", manifest.name), message));
            Verdict::Rejected
        }
    };
    Ok(Report { verdict, findings, metrics, log: Vec::new(), usage: Usage::default() })
}

fn checked(raw: RawFinding, manifest: &Manifest) -> Result<Finding, String> {
    if !is_name(&raw.rule, MAX_NAME) {
        return Err(format!(
            "a finding of the rule `{}` (must be 1 to {MAX_NAME} letters, digits and `-`)",
            clean(&raw.rule, MAX_NAME)
        ));
    }
    Ok(Finding {
        rule: format!("{}/{}", manifest.name, raw.rule),
        severity: raw.severity,
        message: clean(&raw.message, MAX_MESSAGE_BYTES),
        place: raw.place.map(|place| place.shown()),
    })
}

fn metrics(raw: Vec<(String, f64)>, manifest: &Manifest) -> Result<Metrics, String> {
    if !raw.is_empty() && !manifest.wants.contains(&Permission::Recompute) {
        return Err("metrics without the permission `recompute`".to_owned());
    }
    if raw.len() > MAX_METRICS {
        return Err(format!("{} metrics (at most {MAX_METRICS})", raw.len()));
    }
    let mut metrics = Metrics::new();
    for (name, value) in raw {
        let shown = clean(&name, MAX_NAME);
        if !is_made_of(&name, MAX_NAME, |byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "a metric named `{shown}` (must be 1 to {MAX_NAME} ASCII characters)"
            ));
        }
        if !value.is_finite() {
            return Err(format!("the metric `{shown}` is {value}"));
        }
        if metrics.insert(name, value).is_some() {
            return Err(format!("the metric `{shown}` twice"));
        }
    }
    Ok(metrics)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn manifest(wants: &[Permission]) -> Manifest {
        let wants: BTreeSet<Permission> = wants.iter().copied().collect();
        Manifest::checked("check", "1.0.0", wants).expect("plain")
    }

    fn finding(rule: &str, severity: Severity) -> RawFinding {
        RawFinding { rule: rule.to_owned(), severity, message: "a\u{7}b".to_owned(), place: None }
    }

    fn report(verdict: RawVerdict, findings: Vec<RawFinding>) -> Result<Report, String> {
        judge(RawReport { verdict, findings, metrics: Vec::new() }, &manifest(&[]))
    }

    #[test]
    fn contradictions_are_settled_on_the_safe_side() {
        use RawVerdict::{Accept, Reject, Undecided};
        let check = |verdict, severity: Option<Severity>, expected, n_findings| {
            let findings = severity.map(|severity| finding("r", severity)).into_iter().collect();
            let report = report(verdict, findings).expect("usable");
            assert_eq!(report.verdict, expected, "{verdict:?} {severity:?}");
            assert_eq!(report.findings.len(), n_findings, "{verdict:?} {severity:?}");
        };
        check(Accept, None, Verdict::Accepted, 0);
        check(Accept, Some(Severity::Warning), Verdict::Accepted, 1);
        check(Accept, Some(Severity::Error), Verdict::Rejected, 1);
        check(Undecided, None, Verdict::Unverified, 0);
        check(Undecided, Some(Severity::Error), Verdict::Rejected, 1);
        check(Reject, Some(Severity::Error), Verdict::Rejected, 1);
        check(Reject, None, Verdict::Rejected, 1);
        check(Reject, Some(Severity::Note), Verdict::Rejected, 2);
    }

    #[test]
    fn findings_are_named_after_the_hook_and_cleaned() {
        let report = report(RawVerdict::Accept, vec![finding("r", Severity::Note)]).expect("fine");
        assert_eq!(report.findings[0].rule, "check/r");
        assert_eq!(report.findings[0].message, "ab");
        let many = |n| (0..n).map(|_| finding("r", Severity::Note)).collect();
        assert!(super::tests::report(RawVerdict::Accept, many(MAX_FINDINGS)).is_ok());
        assert!(super::tests::report(RawVerdict::Accept, many(MAX_FINDINGS + 1)).is_err());
        for rule in ["", "a b", "other-hook/rule", "x\u{1b}[2J"] {
            let odd = vec![finding(rule, Severity::Note)];
            let problem = super::tests::report(RawVerdict::Accept, odd).expect_err(rule);
            assert!(!problem.contains('\u{1b}'), "{problem:?}");
        }
    }

    #[test]
    fn places_are_words() {
        let check = |place: Place, expected: &str| assert_eq!(place.shown(), expected);
        check(Place::Line("main.rs".into(), 3), "main.rs:3");
        check(Place::Metric("loss".into()), "metric `loss`");
        check(Place::Point("lr\n".into(), 7), "series `lr ` at step 7");
        check(Place::Probe("causality".into()), "probe `causality`");
        check(Place::Artifact("a.bin".into(), 9), "artifact `a.bin` at byte 9");
    }

    #[test]
    fn metrics_need_permission_and_finite_values() {
        let check = |wants: &[Permission], metrics: &[(&str, f64)]| {
            let metrics =
                metrics.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
            let raw = RawReport { verdict: RawVerdict::Accept, findings: Vec::new(), metrics };
            judge(raw, &manifest(wants))
        };
        let may = [Permission::Recompute];
        assert_eq!(check(&may, &[("loss", 1.5)]).expect("fine").metrics["loss"], 1.5);
        assert!(check(&[], &[("loss", 1.5)]).is_err());
        assert!(check(&may, &[("loss", f64::NAN)]).is_err());
        assert!(check(&may, &[("loss", f64::INFINITY)]).is_err());
        assert!(check(&may, &[("loss", 1.0), ("loss", 2.0)]).is_err());
        assert!(check(&may, &[("", 1.0)]).is_err());
        assert!(check(&may, &[("a\nb", 1.0)]).is_err());
    }
}
