//! How the best program came about: each step with its measured effect and its difference.

use super::{
    diff::difference,
    markup::{Element, Markup, el},
    material::Material,
    plot::{bar, named},
    text::{Section, code, fold, identity, line, note},
};
use crate::gain::{change, reading};
use crate::number::{count, percent, quantity};
use crate::summary::shell_word;
use forerunner_core::{Metrics, Objective};
use forerunner_runtime::lineage::Made;
use std::cmp::Ordering;

/// Steps shown of a long lineage, from its start and to its end.
const FIRST: usize = 10;
const LAST: usize = 40;
/// Characters of names and ideas.
const NAME: usize = 60;
const IDEA: usize = 400;
/// Characters of a unit.
const UNIT: usize = 20;
/// Characters of a program's source.
const SOURCE: usize = 100_000;

pub(crate) fn section(material: &Material) -> Option<Section> {
    let winner = material.winner.as_ref()?;
    let steps = &material.steps;
    let n = steps.len();
    let text = format!(
        "{} from the reference to {}. Every effect is a single measurement of child and parent on \
         the same seed and slice (dev): small ones may be luck.",
        count(n as u64, "step"),
        winner.id.short()
    );
    let mut body = Markup::from(note(text));
    body.push(chart(material));
    let left_out = n.saturating_sub(FIRST + LAST);
    let mut list = el("ol").class("steps");
    for (index, step) in steps.iter().enumerate() {
        if left_out > 0 && index == FIRST {
            let text = format!(
                "{} left out here: `forerunner show {} --diff` prints all.",
                count(left_out as u64, "step"),
                shell_word(&line(&material.run, IDEA))
            );
            list =
                list.with(el("li").class("gap").attr("value", index + left_out).with(note(text)));
        }
        if index < FIRST || index >= FIRST + left_out {
            list = list.with(one(material, index, step));
        }
    }
    body.push(list);
    body.push(source(material));
    Some(Section {
        id: "lineage",
        short: "Lineage",
        title: "How the best program came about",
        body,
    })
}

/// The leading objective after each step, as bars.
fn chart(material: &Material) -> Markup {
    let Some((objective, _)) = material.objectives.leading(&material.summary.best_metrics) else {
        return Markup::default();
    };
    let value = |metrics: &Metrics| metrics.get(&objective.metric).copied();
    let first = ("reference".to_owned(), value(&material.summary.reference));
    let steps = material.steps.iter().enumerate().map(|(index, step)| {
        (format!("step {}", index + 1), value(&step.stored.evaluation.metrics))
    });
    let rows: Vec<(String, Option<f64>)> = std::iter::once(first).chain(steps).collect();
    let most = rows.iter().filter_map(|(_, value)| *value).fold(0.0, f64::max);
    let positive = rows.iter().all(|(_, value)| value.is_none_or(|value| value > 0.0));
    if rows.len() > FIRST + LAST || !positive || most == 0.0 {
        return Markup::default();
    }
    let n = rows.len();
    let rows = rows.into_iter().enumerate().map(|(index, (name, value))| {
        let class = match index {
            0 => "reference",
            index if index + 1 == n => "winner",
            _ => "line",
        };
        let shown = value
            .map_or("no value".to_owned(), |value| quantity(value, &line(&objective.unit, UNIT)));
        el("tr")
            .with(el("th").attr("scope", "row").text(name))
            .with(el("td").class("num").text(shown))
            .with(el("td").class("wide").with(bar(value.unwrap_or(0.0) / most, class)))
    });
    el("table")
        .class("bars")
        .with(el("caption").text(format!("{} after each step", named(objective))))
        .with(el("tbody").with_all(rows))
        .into()
}

fn one(material: &Material, index: usize, step: &Made) -> Element {
    let made = &step.stored.iteration;
    let id = made.program.clone().unwrap_or_default();
    let idea = line(&made.idea.summary, IDEA);
    let idea = if idea.is_empty() { "(no idea given)".to_owned() } else { idea };
    let about = el("p").class("about").with(identity(&id)).text(format!(
        " iteration {}, by {}",
        made.iteration,
        line(&made.mutator, NAME)
    ));
    let objectives = &material.objectives.0;
    // Only the objective that decided is coloured: the next one may fall as long as it does.
    let leading = material.objectives.leading(&step.stored.evaluation.metrics);
    let decides = |o: &Objective| leading.is_some_and(|(leading, _)| leading.metric == o.metric);
    let mut effects: Vec<Element> =
        objectives.iter().filter_map(|o| effect(o, step, decides(o))).collect();
    if let Some(expected) = made.idea.expected_gain {
        let text = format!("{} to {}", percent(expected.low), percent(expected.high));
        effects.push(row("expected gain", Markup::text(text)).class("note"));
    }
    if effects.is_empty() {
        effects.push(row("measured", Markup::text("no objective")));
    }
    let command =
        format!("forerunner show {} {} --diff", shell_word(&line(&material.run, IDEA)), id.short());
    el("li")
        .attr("value", index + 1)
        .attr("id", format!("step-{}", index + 1))
        .attr("data-i", made.iteration)
        .with(el("h3").text(idea))
        .with(about)
        .with(el("dl").class("effects").with_all(effects))
        .with(difference(&step.parent, &step.child).render(&command, material.steps.len() <= FIRST))
}

fn row(name: &str, value: Markup) -> Element {
    el("div").with(el("dt").text(name)).with(el("dd").with(value))
}

/// What a step did to an objective.
fn effect(objective: &Objective, step: &Made, decides: bool) -> Option<Element> {
    let after = *step.stored.evaluation.metrics.get(&objective.metric)?;
    let unit = line(&objective.unit, UNIT);
    let name = line(&objective.metric, NAME);
    let Some(before) = step.before.get(&objective.metric).copied() else {
        let text = format!("{}, which its parent did not reach", quantity(after, &unit));
        return Some(row(&name, Markup::text(text)));
    };
    let better = objective.compare_values(after, before);
    let class = match better {
        Ordering::Less if decides => "change good",
        Ordering::Greater if decides => "change bad",
        _ => "change",
    };
    let change = change(objective, before, after);
    let change = change.strip_suffix(" than").or(change.strip_suffix(" to")).unwrap_or(&change);
    let value = Markup::all([
        Markup::text(format!("{} → {} ", quantity(before, &unit), quantity(after, &unit))),
        el("span").class(class).text(change).into(),
    ]);
    Some(row(&name, value))
}

/// The winner as a whole.
fn source(material: &Material) -> Markup {
    let Some(winner) = &material.winner else { return Markup::default() };
    let files = winner.program.files.iter().map(|(path, text)| {
        let (shown, missing) = super::text::block(text, SOURCE);
        let mut file =
            Markup::all([Markup::from(el("h3").text(line(path, NAME))), code(shown).into()]);
        if missing > 0 {
            file.push(note(format!("Cut, {missing} characters more.")));
        }
        file
    });
    let leading = material.objectives.leading(&winner.evaluation.metrics);
    let value = leading.map(|(objective, value)| format!(": {}", reading(objective, value)));
    let summary = format!("The whole program {}{}", winner.id.short(), value.unwrap_or_default());
    fold(Markup::text(summary), Markup::all(files)).into()
}
