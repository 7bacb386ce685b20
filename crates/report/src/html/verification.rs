//! Why the results are believed: probes, hooks, and what they found.

use super::{
    markup::{Markup, el},
    material::{Material, Profile},
    text::{Column, Section, line, note, pairs, table},
};
use crate::evidence::{by_severity, figures, hooks, ledger};
use crate::number::{count, number};
use forerunner_core::Verdict;

/// Rows of a table and findings of a program.
const ROWS: usize = 24;
/// Characters of a name and of a message.
const NAME: usize = 60;
const MESSAGE: usize = 320;

/// `None` where nothing was tried, nobody was asked, and nothing was found.
pub(crate) fn section(material: &Material) -> Option<Section> {
    let parts = [probes(material), judges(material), given(material), findings(material)];
    let refused = |verdict| material.trials.iter().filter(|trial| trial.verdict == verdict).count();
    let (rejected, unverified) = (refused(Verdict::Rejected), refused(Verdict::Unverified));
    if rejected + unverified == 0 && parts.iter().all(Markup::is_empty) {
        return None;
    }
    let text = format!(
        "{} measured and refused by a rule, {} measured and left unverified because a hook could \
         not tell. Neither counts. What was tried on the programs shown here:",
        count(rejected as u64, "program"),
        number(unverified as f64)
    );
    let body = Markup::all(std::iter::once(Markup::from(note(text))).chain(parts));
    Some(Section {
        id: "verification",
        short: "Verification",
        title: "Why the results are believed",
        body,
    })
}

/// The reference, and the best program where there is one.
fn shown(material: &Material) -> impl Iterator<Item = (&'static str, &Profile)> {
    let reference = material.reference.as_ref().map(|one| ("reference", one));
    reference.into_iter().chain(material.winner.as_ref().map(|one| ("best", one)))
}

/// A row for each kind of probe of each program.
fn probes(material: &Material) -> Markup {
    let rows: Vec<Vec<Markup>> = shown(material)
        .flat_map(|(side, profile)| {
            profile.evaluation.evidence.probes.iter().map(move |probe| {
                vec![
                    Markup::text(line(&probe.name, NAME)),
                    Markup::text(side),
                    Markup::text(number(probe.trials as f64)),
                    Markup::text(number(probe.failures as f64)),
                    Markup::text(line(&figures(probe), MESSAGE)),
                ]
            })
        })
        .take(ROWS)
        .collect();
    if rows.is_empty() {
        return Markup::default();
    }
    let columns = [
        Column::text("probe"),
        Column::text("program"),
        Column::number("trials"),
        Column::number("failed"),
        Column::text("figures"),
    ];
    table("What was tried to find cheating, and what came of it", &columns, rows).into()
}

/// The hooks that ran.
fn judges(material: &Material) -> Markup {
    let rows: Vec<(String, Markup)> = shown(material)
        .flat_map(|(side, profile)| {
            hooks(&profile.evaluation.telemetry).map(move |(name, fact)| {
                (format!("hook {}, {side}", line(name, NAME)), Markup::text(line(fact, MESSAGE)))
            })
        })
        .take(ROWS)
        .collect();
    if rows.is_empty() {
        return Markup::default();
    }
    pairs(rows.iter().map(|(name, value)| (name.as_str(), value.clone()))).class("facts").into()
}

/// What the program that is shown last was given, and what was asked of it.
fn given(material: &Material) -> Markup {
    let Some((side, profile)) = shown(material).last() else { return Markup::default() };
    let rows = ledger(&profile.evaluation.evidence);
    if rows.is_empty() {
        return Markup::default();
    }
    let rows: Vec<_> =
        rows.into_iter().take(ROWS).map(|(k, v)| (line(&k, NAME), line(&v, MESSAGE))).collect();
    let list = pairs(rows.iter().map(|(name, value)| (name.as_str(), Markup::text(value))));
    let text = format!("What the {side} program was given, and what it left behind");
    super::text::fold(Markup::text(text), list.class("facts")).into()
}

/// What was found on the programs that are shown, the gravest first.
fn findings(material: &Material) -> Markup {
    let mut items = Vec::new();
    for (side, profile) in shown(material) {
        for finding in by_severity(&profile.evaluation.findings) {
            let place = finding.place.as_ref().map(|place| format!(" at {}", line(place, NAME)));
            items.push(
                el("li")
                    .text(format!("{} ", finding.severity.as_str()))
                    .with(el("code").text(line(&finding.rule, NAME)))
                    .text(format!("{}, {side} ", place.unwrap_or_default()))
                    .with(el("span").class("note").text(line(&finding.message, MESSAGE))),
            );
        }
    }
    if items.is_empty() {
        return Markup::default();
    }
    let more = items.len().saturating_sub(ROWS);
    items.truncate(ROWS);
    let mut body = Markup::from(el("ul").class("reasons").with_all(items));
    if more > 0 {
        body.push(note(format!("and {} more", count(more as u64, "finding"))));
    }
    body
}
