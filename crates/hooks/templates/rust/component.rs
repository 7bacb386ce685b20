//! The component around the logic: says what the hook wants, fetches it, and answers.

use crate::{Metric, judge};
use forerunner::verify::{evidence, types::*};

wit_bindgen::generate!({ path: "wit", world: "hook" });

struct Hook;

impl Guest for Hook {
    fn describe() -> Manifest {
        Manifest {
            name: "@NAME@".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            // All that the hook will ever see. wit/verify.wit lists what there is.
            wants: vec![Permission::Metrics],
        }
    }

    fn verify(subject: Subject) -> Result<Report, String> {
        evidence::log(Level::Info, &format!("judging {}", subject.program));
        let metrics = evidence::metrics().map_err(|denied| format!("no metrics: {denied:?}"))?;
        let metrics: Vec<Metric> =
            metrics.into_iter().map(|m| Metric { name: m.name, value: m.value }).collect();
        let findings: Vec<Finding> = judge(&metrics)
            .into_iter()
            .map(|objection| Finding {
                rule: objection.rule.into(),
                severity: Severity::Error,
                message: objection.message,
                evidence: None,
            })
            .collect();
        let verdict = if findings.is_empty() { Verdict::Accept } else { Verdict::Reject };
        Ok(Report { verdict, findings, metrics: Vec::new() })
    }
}

export!(Hook);
