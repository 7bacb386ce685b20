//! One evaluation as JSON for scripts and as text for people.

use crate::chart::sparkline;
use crate::evidence::{by_severity, hooks, is_of_hook, ledger, probes};
use crate::number::{bytes, number, quantity};
use crate::profile::{columns, groups, operations, pad, sections};
use crate::sanitize;
use forerunner_core::{Evaluation, Finding, Objective, ProgramId, Slice, Verdict};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write as _};

/// Columns that a curve may take.
const CURVE_WIDTH: usize = 40;

/// An evaluation with what it was an evaluation of.
#[derive(Debug, Clone, Copy)]
pub struct EvaluationReport<'a> {
    /// The program.
    pub program: &'a ProgramId,
    /// The environment.
    pub environment: &'a str,
    /// The track within it.
    pub track: &'a str,
    /// The injected seed.
    pub seed: u64,
    /// The slice that decided.
    pub slice: Slice,
    /// What is improved, most important first; gives metrics their units.
    pub objectives: &'a [Objective],
    /// The result.
    pub evaluation: &'a Evaluation,
}

impl EvaluationReport<'_> {
    /// One JSON object. Every key is always there: `program`, `environment`, `track`, `seed`,
    /// `slice`, `verdict` (`accepted`, `rejected`, `unverified` or `failed`), `cause` (of a failure,
    /// else null), `findings` (each with `rule`, `severity`, `message` and, where known, `place`),
    /// `metrics`, `evidence` (`probes`, `ledger`, `artifacts`, `digest`), `hooks` (what each
    /// concluded, by name) and `telemetry` (`series`, `sections`, `operations`, `numbers`, `facts`).
    pub fn json(&self) -> Value {
        let Evaluation { verdict, findings, metrics, telemetry, evidence } = self.evaluation;
        let cause = match verdict {
            Verdict::Failed(cause) => Some(cause),
            Verdict::Accepted | Verdict::Rejected | Verdict::Unverified => None,
        };
        json!({
            "program": self.program,
            "environment": self.environment,
            "track": self.track,
            "seed": self.seed,
            "slice": self.slice,
            "verdict": verdict_word(*verdict),
            "cause": cause,
            "findings": findings,
            "metrics": metrics,
            "evidence": {
                "probes": evidence.probes,
                "ledger": evidence.ledger,
                "artifacts": evidence.artifacts,
                "digest": evidence.digest,
            },
            "hooks": hooks(telemetry).collect::<BTreeMap<_, _>>(),
            "telemetry": {
                "series": telemetry.series,
                "sections": telemetry.sections,
                "operations": telemetry.operations,
                "numbers": telemetry.numbers,
                "facts": telemetry.facts,
            },
        })
    }

    /// The same for people: verdict, findings (the gravest first), metrics, probes, hooks, ledger,
    /// curves, sections, operations, groups of parameters, numbers, facts.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "{}  program {}", verdict(self.evaluation.verdict), self.program);
        let _ = writeln!(
            text,
            "{}, seed {}, {} slice",
            environment(self.environment, self.track),
            self.seed,
            slice(self.slice)
        );
        for block in [
            findings(&self.evaluation.findings),
            self.metrics(),
            probes(&self.evaluation.evidence),
            self.hooks(),
            self.ledger(),
            self.curves(),
            sections(&self.evaluation.telemetry),
            operations(&self.evaluation.telemetry),
            groups(&self.evaluation.telemetry),
            self.numbers(),
            self.facts(),
        ] {
            if !block.is_empty() {
                text.push('\n');
                text.push_str(&block);
            }
        }
        text
    }

    /// Objectives first, in their order; then the rest by name.
    fn metrics(&self) -> String {
        let metrics = &self.evaluation.metrics;
        let unit = |name: &str| self.objectives.iter().find(|o| o.metric == name);
        let first = self.objectives.iter().filter(|o| metrics.contains_key(&o.metric));
        let rest = metrics.keys().filter(|name| unit(name).is_none());
        let names = first.map(|objective| &objective.metric).chain(rest);
        let rows = names.map(|name| {
            let unit = unit(name).map_or("", |objective| &objective.unit);
            (sanitize::line(name), quantity(metrics[name], &sanitize::line(unit)))
        });
        pairs("metrics", rows.collect())
    }

    fn hooks(&self) -> String {
        let hooks = hooks(&self.evaluation.telemetry);
        pairs("hooks", hooks.map(|(k, v)| (sanitize::line(k), sanitize::line(v))).collect())
    }

    fn ledger(&self) -> String {
        let rows = ledger(&self.evaluation.evidence).into_iter();
        pairs("evidence", rows.map(|(k, v)| (sanitize::line(&k), sanitize::line(&v))).collect())
    }

    fn curves(&self) -> String {
        // Those of a group of parameters have a table of their own.
        let series = &self.evaluation.telemetry.series;
        let of_run = series.iter().filter(|(name, _)| !name.contains('.'));
        let curves = of_run.filter_map(|(name, curve)| {
            let (first, last) = (curve.first()?, curve.last()?);
            let line = sparkline(curve, CURVE_WIDTH);
            let values = format!("{} -> {}", number(first.1), number(last.1));
            let steps = format!("steps {} to {}", first.0, last.0);
            Some((sanitize::line(name), format!("{line}  {values}, {steps}")))
        });
        pairs("curves", curves.collect())
    }

    fn numbers(&self) -> String {
        let numbers = self.evaluation.telemetry.numbers.iter().map(|(name, value)| {
            let value = if name.ends_with("_bytes") { bytes(*value) } else { number(*value) };
            (sanitize::line(name), value)
        });
        pairs("numbers", numbers.collect())
    }

    fn facts(&self) -> String {
        let facts = &self.evaluation.telemetry.facts;
        let facts = facts.iter().filter(|(name, _)| !is_of_hook(name));
        pairs("facts", facts.map(|(k, v)| (sanitize::line(k), sanitize::line(v))).collect())
    }
}

/// `accepted`, `rejected`, `unverified` or `failed`: the words of the JSON form.
pub(crate) fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Accepted => "accepted",
        Verdict::Rejected => "rejected",
        Verdict::Unverified => "unverified",
        Verdict::Failed(_) => "failed",
    }
}

/// The word, with the cause of a failure.
pub(crate) fn verdict(verdict: Verdict) -> String {
    match verdict {
        Verdict::Failed(cause) => format!("failed ({})", cause.as_str()),
        Verdict::Accepted | Verdict::Rejected | Verdict::Unverified => {
            verdict_word(verdict).to_owned()
        }
    }
}

/// The name of a slice.
pub(crate) fn slice(slice: Slice) -> &'static str {
    match slice {
        Slice::Dev => "dev",
        Slice::Val => "val",
        Slice::Vault => "vault",
    }
}

/// `nanogpt/cpu`, or the bare name of an environment without tracks.
pub(crate) fn environment(name: &str, track: &str) -> String {
    let (name, track) = (sanitize::line(name), sanitize::line(track));
    if track.is_empty() { name } else { format!("{name}/{track}") }
}

/// One finding on one line: `error source/no-unsafe main.rs:12: …`.
fn heading(finding: &Finding) -> String {
    let severity = finding.severity.as_str();
    let rule = sanitize::line(&finding.rule);
    match &finding.place {
        Some(place) => format!("{severity} {rule} at {}", sanitize::line(place)),
        None => format!("{severity} {rule}"),
    }
}

/// Findings with their messages indented; messages keep their lines (compilers draw in them).
fn findings(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in by_severity(findings) {
        let _ = writeln!(text, "{}", heading(finding));
        for line in sanitize::block(&finding.message).lines() {
            let _ = writeln!(text, "    {}", line.trim_end());
        }
    }
    text
}

/// A titled list of names and values in two columns; empty without rows.
fn pairs(title: &str, rows: Vec<(String, String)>) -> String {
    let Some(width) = rows.iter().map(|(name, _)| columns(name)).max() else {
        return String::new();
    };
    let mut text = format!("{title}\n");
    for (name, value) in rows {
        let _ = writeln!(text, "  {}  {value}", pad(&name, width));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use forerunner_core::{Cause, Probe, Program, Section};

    fn report(evaluation: &Evaluation, check: impl Fn(EvaluationReport<'_>)) {
        let objectives =
            [Objective::minimize("seconds", "s"), Objective::minimize("loss", "nats/byte")];
        check(EvaluationReport {
            program: &Program::single("main.rs", "fn main() {}").id(),
            environment: "nanogpt",
            track: "cpu",
            seed: 7,
            slice: Slice::Dev,
            objectives: &objectives,
            evaluation,
        });
    }

    fn accepted() -> Evaluation {
        let mut evaluation = Evaluation::accepted("seconds", 28.3141);
        evaluation.metrics.insert("loss".to_owned(), 1.898_76);
        evaluation.metrics.insert("bytes".to_owned(), 15_321.0);
        evaluation.findings.push(Finding::warning("source/long", "412 lines").at("main.rs:1"));
        let telemetry = &mut evaluation.telemetry;
        let curve =
            (0..=400).step_by(10).map(|step| (step, 2.0 + 3.5 / (1.0 + step as f64 / 40.0)));
        telemetry.series.insert("train_loss".to_owned(), curve.collect());
        telemetry.series.insert("empty".to_owned(), Vec::new());
        telemetry.sections = [("backward", 400, 15.5), ("forward", 800, 7.75), ("data", 0, 0.25)]
            .map(|(name, calls, seconds)| Section { calls, seconds, ..Section::named(name) })
            .to_vec();
        telemetry.numbers.insert("peak_memory_bytes".to_owned(), 54_321_000.0);
        telemetry.numbers.insert("tokens_per_second".to_owned(), 72_345.6);
        telemetry.facts.insert("sandbox".to_owned(), "landlock 7,\x1b[1m seccomp".to_owned());
        evaluation
    }

    #[test]
    fn an_accepted_program_shows_everything_that_was_measured() {
        report(&accepted(), |report| {
            insta::assert_snapshot!(report.text(), @"
        accepted  program 23d67b5f561add689cedc9482eb2a3de
        nanogpt/cpu, seed 7, dev slice

        warning source/long at main.rs:1
            412 lines

        metrics
          seconds  28.314 s
          loss     1.8988 nats/byte
          bytes    15,321

        curves
          train_loss  █▆▅▅▄▄▃▃▃▃▃▂▂▂▂▂▂▂▂▂▂▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁  5.5000 -> 2.3182, steps 0 to 400

        profile of 0:23
          section     total s    share      calls    mean ms
          backward     15.500   66.0 %        400     38.750  █████████████▎
          forward       7.750   33.0 %        800      9.688  ██████▋
          data          0.250    1.1 %          0          -  ▎
          all          23.500

        numbers
          peak_memory_bytes  51.8 MiB
          tokens_per_second  72,346

        facts
          sandbox  landlock 7, seccomp
        ")
        });
    }

    #[test]
    fn a_failed_program_shows_why_with_the_compilers_drawing() {
        let message = "mismatched types\n  |\n3 |     let x: u32 = \"a\";\n  |                  ^^^ expected `u32`";
        let finding = Finding::error("compile/error", message).at("main.rs:3");
        let evaluation = Evaluation::failed(Cause::Compile, finding);
        report(&evaluation, |report| {
            insta::assert_snapshot!(report.text(), @r#"
        failed (compile)  program 23d67b5f561add689cedc9482eb2a3de
        nanogpt/cpu, seed 7, dev slice

        error compile/error at main.rs:3
            mismatched types
              |
            3 |     let x: u32 = "a";
              |                  ^^^ expected `u32`
        "#)
        });
    }

    #[test]
    fn what_it_was_judged_by_stands_beside_what_was_measured() {
        let mut evaluation = Evaluation::accepted("seconds", 28.0);
        evaluation.verdict = Verdict::Unverified;
        evaluation.findings = vec![
            Finding::warning("leak-check/slow", "late probes"),
            Finding::error("verify/hook", "hook `spin` 0.1.0: verify: no end\x1b[2J"),
        ];
        let audit = Probe::new("audit", 1_024, 0).with("residual_probability", 1e-6);
        evaluation.evidence.probes = vec![Probe::new("causality", 32, 1), audit.with("gain", 0.5)];
        evaluation.evidence.ledger.insert("scored_tokens".to_owned(), 65_536);
        evaluation.evidence.digest = Some("abcd".to_owned());
        let facts = &mut evaluation.telemetry.facts;
        facts.insert("hook.leak-check".to_owned(), "accepted in 0.31 ms".to_owned());
        facts.insert("sandbox".to_owned(), "landlock 7".to_owned());
        report(&evaluation, |report| {
            insta::assert_snapshot!(report.text(), @"
            unverified  program 23d67b5f561add689cedc9482eb2a3de
            nanogpt/cpu, seed 7, dev slice

            error verify/hook
                hook `spin` 0.1.0: verify: no end
            warning leak-check/slow
                late probes

            metrics
              seconds  28 s

            probes
              probe         trials   failed
              causality         32        1
              audit           1024        0  gain 0.50000, residual_probability 1.0000e-6

            hooks
              leak-check  accepted in 0.31 ms

            evidence
              scored_tokens  65,536
              digest         abcd

            facts
              sandbox  landlock 7
            ");
            let json = report.json();
            assert_eq!(json["verdict"], "unverified");
            assert_eq!(json["evidence"]["probes"][1]["numbers"]["gain"], 0.5);
            assert_eq!(json["hooks"], json!({"leak-check": "accepted in 0.31 ms"}));
        });
    }

    #[test]
    fn json_has_every_key_whatever_happened() {
        let finding = Finding::error("compile/error", "mismatched types").at("main.rs:3");
        let failed = Evaluation::failed(Cause::Compile, finding);
        report(&failed, |report| {
            insta::assert_json_snapshot!(report.json(), @r#"
            {
              "program": "23d67b5f561add689cedc9482eb2a3de",
              "environment": "nanogpt",
              "track": "cpu",
              "seed": 7,
              "slice": "dev",
              "verdict": "failed",
              "cause": "compile",
              "findings": [
                {
                  "rule": "compile/error",
                  "severity": "error",
                  "message": "mismatched types",
                  "place": "main.rs:3"
                }
              ],
              "metrics": {},
              "evidence": {
                "probes": [],
                "ledger": {},
                "artifacts": {},
                "digest": null
              },
              "hooks": {},
              "telemetry": {
                "series": {},
                "sections": [],
                "operations": [],
                "numbers": {},
                "facts": {}
              }
            }
            "#)
        });
        let rejected = Evaluation { verdict: Verdict::Rejected, ..accepted() };
        report(&rejected, |report| {
            let json = report.json();
            assert_eq!((&json["verdict"], &json["cause"]), (&json!("rejected"), &Value::Null));
            assert_eq!(json["metrics"]["seconds"], json!(28.3141));
            assert_eq!(json["telemetry"]["series"]["train_loss"][0], json!([0, 5.5]));
        });
    }
}
