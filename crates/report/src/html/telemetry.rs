//! Telemetry before and after: where the time went, operation by operation, and the curves.

use super::{
    curves,
    markup::{Element, Markup, el},
    material::Material,
    plot::percent as place,
    text::{Column, Section, code, fold, line, note, pairs, table},
};
use crate::evidence::is_of_hook;
use crate::number::{bytes, number, percent};
use crate::profile::rate;
use forerunner_core::{Section as Part, Telemetry};

/// Parts with a colour of their own; the rest is one.
const COLOURED: usize = 6;
/// Rows of a table.
const ROWS: usize = 24;
/// Characters of a name and of a fact.
const NAME: usize = 60;
const FACT: usize = 300;

/// The reference's telemetry, and the best program's where there is one.
struct Sides<'a> {
    before: Option<&'a Telemetry>,
    after: Option<&'a Telemetry>,
}

impl Sides<'_> {
    fn both(&self) -> impl Iterator<Item = (&'static str, &Telemetry)> {
        let before = self.before.map(|telemetry| ("reference", telemetry));
        before.into_iter().chain(self.after.map(|telemetry| ("best", telemetry)))
    }
}

pub(crate) fn section(material: &Material) -> Option<Section> {
    let sides = Sides {
        before: material.reference.as_ref().map(|one| &one.evaluation.telemetry),
        after: material.winner.as_ref().map(|one| &one.evaluation.telemetry),
    };
    let parts = [
        sections(&sides),
        operations(&sides),
        curves::curves(sides.before, sides.after),
        numbers(&sides),
        facts(&sides),
    ];
    if parts.iter().all(Markup::is_empty) {
        return None;
    }
    let text = match (&material.reference, &material.winner) {
        (Some(_), Some(winner)) => format!(
            "The reference beside the best program ({}), as the search measured them (dev).",
            winner.id.short()
        ),
        _ => "The reference, as the search measured it (dev).".to_owned(),
    };
    let body =
        Markup::all(std::iter::once(note(text).into()).chain(parts).chain([digests(material)]));
    Some(Section { id: "time", short: "Time", title: "Where the time went", body })
}

/// The page of text that mutators get.
fn digests(material: &Material) -> Markup {
    let Some(shown) = material.winner.as_ref().or(material.reference.as_ref()) else {
        return Markup::default();
    };
    let reference = material.reference.as_ref().filter(|reference| reference.id != shown.id);
    let against = reference.map(|reference| ("reference", &reference.evaluation));
    let text = forerunner_core::digest(&shown.evaluation, &material.objectives.0, against);
    fold(Markup::text("The same as a page of text, as mutators get it"), code(&text)).into()
}

/// Time by section: a bar for each program on a common scale, and the numbers.
fn sections(sides: &Sides<'_>) -> Markup {
    let total = |telemetry: &Telemetry| -> f64 {
        telemetry.sections.iter().map(|section| section.seconds.max(0.0)).sum()
    };
    let longest = sides.both().map(|(_, telemetry)| total(telemetry)).fold(0.0, f64::max);
    if longest <= 0.0 || !longest.is_finite() {
        return Markup::default();
    }
    let names = names(sides, |telemetry| &telemetry.sections, |part| (&part.name, part.seconds));
    let bars = sides.both().map(|(name, telemetry)| {
        let mut at = 0.0;
        let mut bar = el("svg").class("stack").attr("aria-hidden", "true");
        for (index, part) in names.iter().enumerate() {
            let seconds = seconds(&telemetry.sections, part);
            let width = seconds / longest;
            bar = bar.with(
                el("rect")
                    .class(colour(index))
                    .attr("x", place(at))
                    .attr("width", place(width))
                    .attr("height", "100%")
                    .with(el("title").text(format!("{name}: {part} {} s", number(seconds)))),
            );
            at += width;
        }
        el("div")
            .class("stack-row")
            .with(el("span").text(format!("{name}, {} s", number(total(telemetry)))))
            .with(bar)
    });
    let bars: Vec<Element> = bars.collect();
    let rows = names.iter().enumerate().map(|(index, part)| {
        let swatch = el("svg")
            .class("swatch")
            .attr("aria-hidden", "true")
            .with(el("rect").class(colour(index)).attr("width", "100%").attr("height", "100%"));
        let head = Markup::all([Markup::from(swatch), Markup::text(line(part, NAME))]);
        let mut row = vec![head];
        for (_, telemetry) in sides.both() {
            let seconds = seconds(&telemetry.sections, part);
            row.push(Markup::text(format!("{seconds:.3}")));
            row.push(Markup::text(percent(seconds / total(telemetry).max(f64::MIN_POSITIVE))));
        }
        row.extend(factor_cell(sides, |telemetry| seconds(&telemetry.sections, part)));
        row
    });
    let columns = columns("section", sides, &["s", "share"]);
    Markup::all([
        el("figure").class("stacks").with_all(bars),
        table("Seconds by section", &columns, rows.take(ROWS).collect()),
    ])
}

fn seconds(parts: &[Part], name: &str) -> f64 {
    let same = parts.iter().filter(|part| part.name == name);
    same.map(|part| part.seconds.max(0.0)).sum()
}

/// Names on either side, those with the most seconds first.
fn names<T>(
    sides: &Sides<'_>,
    parts: impl Fn(&Telemetry) -> &Vec<T>,
    of: impl Fn(&T) -> (&String, f64),
) -> Vec<String> {
    let mut most: Vec<(String, f64)> = Vec::new();
    for (_, telemetry) in sides.both() {
        for part in parts(telemetry) {
            let (name, seconds) = of(part);
            match most.iter_mut().find(|(known, _)| known == name) {
                Some((_, before)) => *before = before.max(seconds),
                None => most.push((name.clone(), seconds)),
            }
        }
    }
    most.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    most.into_iter().map(|(name, _)| name).collect()
}

fn colour(index: usize) -> &'static str {
    const COLOURS: [&str; COLOURED + 1] = ["c0", "c1", "c2", "c3", "c4", "c5", "rest"];
    COLOURS[index.min(COLOURED)]
}

/// The first column, those of each side, and one that compares when there are two.
fn columns(first: &str, sides: &Sides<'_>, units: &[&str]) -> Vec<Column> {
    let mut columns = vec![Column::text(first)];
    for (side, _) in sides.both() {
        columns.extend(units.iter().map(|unit| match *unit {
            "" => Column::number(side),
            unit => Column::number(format!("{side}, {unit}")),
        }));
    }
    if sides.before.is_some() && sides.after.is_some() {
        columns.push(Column::number("best / reference"));
    }
    columns
}

/// How much of the reference's value the best program has.
fn factor_cell(sides: &Sides<'_>, value: impl Fn(&Telemetry) -> f64) -> Option<Markup> {
    let (before, after) = (value(sides.before?), value(sides.after?));
    let factor = after / before;
    let text = if before > 0.0 && factor.is_finite() {
        format!("{factor:.2} ×")
    } else if after > 0.0 {
        "new".to_owned()
    } else {
        "–".to_owned()
    };
    Some(Markup::text(text))
}

/// What single operations cost, those with the most seconds first.
fn operations(sides: &Sides<'_>) -> Markup {
    let names = names(sides, |telemetry| &telemetry.operations, |one| (&one.name, one.seconds));
    if names.is_empty() {
        return Markup::default();
    }
    let find = |telemetry: &Telemetry, name: &str| {
        telemetry.operations.iter().find(|one| one.name == name).cloned()
    };
    let rows = names.iter().take(ROWS).map(|name| {
        let mut row = vec![Markup::text(line(name, NAME))];
        for (_, telemetry) in sides.both() {
            let operation = find(telemetry, name);
            let cell = |text: Option<String>| Markup::text(text.unwrap_or("–".to_owned()));
            row.push(cell(operation.as_ref().map(|one| format!("{:.3}", one.seconds))));
            let whole = telemetry.seconds().max(f64::MIN_POSITIVE);
            row.push(cell(operation.as_ref().map(|one| percent(one.seconds / whole))));
            row.push(cell(operation.and_then(|one| one.flops_per_second()).map(rate)));
        }
        let value = |telemetry: &Telemetry| {
            find(telemetry, name).map_or(0.0, |operation| operation.seconds)
        };
        row.extend(factor_cell(sides, value));
        row
    });
    let columns = columns("operation", sides, &["s", "share", "GFLOP/s"]);
    let caption = "Seconds by operation, and the rate of its matrix products";
    let mut body = Markup::from(table(caption, &columns, rows.collect()));
    let peaks: Vec<String> = sides
        .both()
        .filter_map(|(name, telemetry)| {
            Some(format!("{name} {} GFLOP/s", rate(telemetry.peak_flops()?)))
        })
        .collect();
    if !peaks.is_empty() {
        let text =
            format!("Highest rate of matrix products seen on the core: {}.", peaks.join(", "));
        body.push(note(text));
    }
    let summary = Markup::text(format!("Operation by operation ({})", names.len()));
    fold(summary, body).into()
}

/// Single numbers side by side.
fn numbers(sides: &Sides<'_>) -> Markup {
    let mut names: Vec<&String> =
        sides.both().flat_map(|(_, telemetry)| telemetry.numbers.keys()).collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        return Markup::default();
    }
    let rows = names.iter().take(ROWS).map(|name| {
        let mut row = vec![Markup::text(line(name, NAME))];
        for (_, telemetry) in sides.both() {
            let value = telemetry.numbers.get(*name);
            row.push(Markup::text(value.map_or("–".to_owned(), |value| {
                if name.ends_with("_bytes") { bytes(*value) } else { number(*value) }
            })));
        }
        let value = |telemetry: &Telemetry| telemetry.numbers.get(*name).copied().unwrap_or(0.0);
        row.extend(factor_cell(sides, value));
        row
    });
    let columns = columns("number", sides, &[""]);
    let table = table("Other numbers; units are in the names", &columns, rows.collect());
    fold(Markup::text("Memory, throughput and other numbers"), table).into()
}

/// Facts of the program that is shown last.
fn facts(sides: &Sides<'_>) -> Markup {
    let Some((name, telemetry)) = sides.both().last() else { return Markup::default() };
    if telemetry.facts.keys().all(|name| is_of_hook(name)) {
        return Markup::default();
    }
    let shown = telemetry.facts.iter().filter(|(name, _)| !is_of_hook(name));
    let (names, values): (Vec<String>, Vec<Markup>) =
        shown.map(|(name, fact)| (line(name, NAME), Markup::text(line(fact, FACT)))).unzip();
    let list = pairs(names.iter().map(String::as_str).zip(values).take(ROWS)).class("facts");
    fold(Markup::text(format!("How the {name} program was measured")), list).into()
}
