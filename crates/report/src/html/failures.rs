//! Failures by cause: how many, for which reasons, and what the last one said.

use super::{
    markup::{Markup, el},
    material::Material,
    plot::bar,
    text::{Column, Section, line, note, table},
};
use crate::number::{count, number, percent};
use forerunner_core::{Evaluation, Severity, Verdict};
use forerunner_runtime::event::{Event, EventKind};
use std::collections::BTreeMap;

/// Different rules that are told apart; further ones count as one. Names of rules come from
/// plugins and are not trusted to be few.
const MAX_RULES: usize = 500;
/// Rules that are listed for a cause.
const LISTED: usize = 4;
/// Characters of a rule's name and of a message.
const RULE: usize = 60;
const MESSAGE: usize = 320;

/// Why evaluations came to nothing, by cause and rule.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failures {
    causes: BTreeMap<&'static str, BTreeMap<String, Reason>>,
    n_rules: usize,
    /// Checks that a proposal failed; some were repaired.
    pub(crate) failed_checks: u64,
}

#[derive(Debug, Clone, Default)]
struct Reason {
    n: u64,
    /// Of the last time.
    iteration: u64,
    message: String,
}

impl Failures {
    pub(crate) fn take_in(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Evaluated(evaluated) => {
                self.evaluation(evaluated.iteration, &evaluated.evaluation);
            }
            EventKind::CheckFailed { .. } => self.failed_checks += 1,
            _ => {}
        }
    }

    fn evaluation(&mut self, iteration: u64, evaluation: &Evaluation) {
        let cause = match evaluation.verdict {
            Verdict::Accepted => return,
            Verdict::Rejected => "rejected",
            Verdict::Unverified => "unverified",
            Verdict::Failed(cause) => cause.as_str(),
        };
        // The gravest finding decides; of equals the first.
        let gravest = evaluation.findings.iter().rev().max_by_key(|finding| finding.severity);
        let rule = gravest.map_or("no reason recorded", |finding| &finding.rule);
        let rules = self.causes.entry(cause).or_default();
        let rule = if self.n_rules >= MAX_RULES && !rules.contains_key(rule) {
            "further rules"
        } else {
            rule
        };
        let rule = line(rule, RULE);
        self.n_rules += usize::from(!rules.contains_key(&rule));
        let reason = rules.entry(rule).or_default();
        reason.n += 1;
        reason.iteration = iteration;
        reason.message = gravest.map(message).unwrap_or_default();
    }
}

fn message(finding: &forerunner_core::Finding) -> String {
    let message = line(&finding.message, MESSAGE);
    let place = finding.place.as_ref().map(|place| format!("{}: ", line(place, RULE)));
    let weight = if finding.severity == Severity::Error { "" } else { "(no error) " };
    format!("{weight}{}{message}", place.unwrap_or_default())
}

/// What a cause means.
fn meaning(cause: &str) -> &'static str {
    match cause {
        "patch" => "the change did not apply to its parent",
        "rule" => "a rule of the source or the track refused the program",
        "compile" => "the compiler refused the program",
        "crash" => "the program ended with an error or a panic",
        "timeout" => "a time limit was reached",
        "memory" => "a memory limit was reached",
        "protocol" => "the program broke the protocol of measuring",
        "not_finite" => "a number that is not finite",
        "worker" => "the measuring process died",
        "mutator" => "the mutator could make no proposal",
        "rejected" => "measured, and refused by a rule",
        "unverified" => "measured, and a hook could not tell whether to believe it",
        _ => "anything else",
    }
}

pub(crate) fn section(material: &Material) -> Section {
    let summary = &material.summary;
    let failed: u64 = summary.failures.values().sum();
    let body = if failed == 0 {
        note(format!("None of {} failed.", count(summary.iterations, "evaluation"))).into()
    } else {
        let share = failed as f64 / summary.iterations.max(1) as f64;
        let intro = format!(
            "{} of {} came to nothing ({}). They are telemetry too: mutators see them.",
            number(failed as f64),
            count(summary.iterations, "evaluation"),
            percent(share)
        );
        Markup::all([Markup::from(note(intro)), causes(material, failed)])
    };
    let mut body = body;
    let checks = material.failures.failed_checks;
    if checks > 0 {
        let text = format!(
            "{} failed before measuring; a mutator may repair its proposal and try again.",
            count(checks, "check")
        );
        body.push(note(text));
    }
    body.push(troubles(material));
    Section { id: "failures", short: "Failures", title: "Failures by cause", body }
}

/// A row for each cause with its commonest reasons.
fn causes(material: &Material, failed: u64) -> Markup {
    let mut causes: Vec<(&String, &u64)> = material.summary.failures.iter().collect();
    causes.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let rows = causes.into_iter().map(|(cause, n)| {
        let share = *n as f64 / failed as f64;
        let name = Markup::all([
            Markup::from(el("b").text(line(cause, RULE))),
            el("span").class("note").text(meaning(cause)).into(),
        ]);
        let bar = Markup::all([Markup::text(number(*n as f64)), bar(share, "bad").into()]);
        vec![name, bar, reasons(material, cause)]
    });
    let columns =
        [Column::text("cause"), Column::number("evaluations"), Column::text("commonest reasons")];
    let caption = "Failures by cause, with the last message of each reason";
    table(caption, &columns, rows.collect()).class("stacked failed-by").into()
}

fn reasons(material: &Material, cause: &str) -> Markup {
    let Some(rules) = material.failures.causes.get(cause) else { return Markup::default() };
    let mut rules: Vec<(&String, &Reason)> = rules.iter().collect();
    rules.sort_by(|a, b| b.1.n.cmp(&a.1.n).then(a.0.cmp(b.0)));
    let listed = rules.iter().take(LISTED).map(|(rule, reason)| {
        let last = format!(" (#{}) {}", reason.iteration, reason.message);
        el("li")
            .with(el("code").text(rule.as_str()))
            .text(format!(" {} ×", number(reason.n as f64)))
            .with(el("span").class("note").text(last))
    });
    let mut list = el("ul").class("reasons").with_all(listed);
    if rules.len() > LISTED {
        let more = format!("and {} more", count((rules.len() - LISTED) as u64, "reason"));
        list = list.with(el("li").class("note").text(more));
    }
    list.into()
}

/// Lost workers and warnings.
fn troubles(material: &Material) -> Markup {
    let log = &material.log;
    let all = log.workers_lost + log.n_warnings;
    if all == 0 {
        return Markup::default();
    }
    let text = format!(
        "{} and {} are in the log.",
        count(log.workers_lost, "lost worker"),
        count(log.n_warnings, "warning")
    );
    let quotes = log.quotes.iter().map(|quote| el("li").text(quote));
    let mut parts: Vec<Markup> =
        vec![note(text).into(), el("ul").class("reasons").with_all(quotes).into()];
    if all > log.quotes.len() as u64 {
        parts.push(note("The first of them; `forerunner log` has all.").into());
    }
    Markup::all(parts)
}
