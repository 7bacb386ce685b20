//! The frontier: every accepted evaluation on the first two axes, and the programs that none beats.

use super::{
    markup::{Markup, el},
    material::Material,
    plot::{Axis, Place, Plot, legend, named, polyline},
    points::Points,
    text::{Column, Section, fold, identity, line, note, table},
};
use crate::number::{count, quantity};
use forerunner_core::{Direction, Objective};

/// Members of the frontier that are listed.
const LISTED: usize = 50;
/// Characters of a unit.
const UNIT: usize = 20;

/// `None` where there is nothing to weigh against each other: a single axis, or no values.
pub(crate) fn section(material: &Material, points: &Points) -> Option<Section> {
    let [first, second, more @ ..] = &material.frontier_axes[..] else { return None };
    let (x_index, y_index) = (material.axis(&first.metric)?, material.axis(&second.metric)?);
    let placed = || {
        points.drawn(material).filter_map(|(index, trial)| {
            Some((index, trial, trial.value(x_index)?, trial.value(y_index)?))
        })
    };
    let x = Axis::of(first, placed().map(|(.., x, _)| x))?;
    let y = Axis::of(&with_target(material, second), placed().map(|(.., y)| y))?;
    let place = |(a, b): (f64, f64)| Place { x: x.scale.share(a), y: y.scale.share(b) };

    let mut marks = Markup::default();
    if more.is_empty() {
        marks.push(stairs(material, first, second, &place));
    }
    let way: Vec<Place> = material
        .trials
        .iter()
        .filter(|trial| points.lineage.contains(&trial.iteration))
        .filter_map(|trial| Some(place((trial.value(x_index)?, trial.value(y_index)?))))
        .collect();
    marks.push(polyline(way, "line-way"));
    for (index, trial, a, b) in placed() {
        marks.push(points.mark(index, trial, place((a, b))));
    }

    let (x_name, y_name) = (named(first), named(second));
    let on_it = count(material.summary.frontier.len() as u64, "program");
    let description = format!(
        "Scatter plot of {y_name} against {x_name} for {}. {on_it} on the frontier.",
        count(placed().count() as u64, "accepted evaluation")
    );
    let plot = Plot {
        id: "plot-frontier",
        title: &format!("{y_name} against {x_name}"),
        description: &description,
        x: &x,
        y: &y,
        marks,
        lanes: &[],
    };
    let mut text = format!(
        "Each mark is an evaluation on the search's own slice (dev). {on_it} on the frontier: none \
         is better in everything than another."
    );
    if !more.is_empty() {
        text.push_str(" The frontier has more axes than the two that are shown.");
    }
    let keys = [
        ("ev front", "on the frontier"),
        ("ev", "other evaluation"),
        ("ev reference", "reference"),
        ("ev line", "on the way to the best"),
        ("ev winner", "best"),
    ];
    let body = Markup::all([
        Markup::from(note(text)),
        el("figure").with(plot.render()).with(legend(keys)).into(),
        Markup::from(points.left_out(material).map(note)),
        members(material),
    ]);
    Some(Section { id: "frontier", short: "Frontier", title: "The frontier", body })
}

/// An axis with the target that the objective of the same name has.
fn with_target(material: &Material, axis: &Objective) -> Objective {
    let same = material.objectives.0.iter().find(|objective| objective.metric == axis.metric);
    Objective { target: axis.target.or(same.and_then(|same| same.target)), ..axis.clone() }
}

/// The edge of what was reached, as a line with a corner between two neighbours.
fn stairs(
    material: &Material,
    first: &Objective,
    second: &Objective,
    place: &dyn Fn((f64, f64)) -> Place,
) -> Markup {
    let mut corners: Vec<(f64, f64)> = material
        .summary
        .frontier
        .iter()
        .filter_map(|(_, metrics)| {
            Some((*metrics.get(&first.metric)?, *metrics.get(&second.metric)?))
        })
        .collect();
    corners.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut line: Vec<Place> = Vec::new();
    for pair in corners.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        // What a small x buys holds to the right of it, what a large one buys to the left.
        let corner = match first.direction {
            Direction::Minimize => (to.0, from.1),
            Direction::Maximize => (from.0, to.1),
        };
        line.extend([from, corner, to].map(place));
    }
    polyline(line, "line-front").into()
}

fn members(material: &Material) -> Markup {
    let frontier = &material.summary.frontier;
    if frontier.is_empty() {
        return Markup::default();
    }
    let names: Vec<String> = material.frontier_axes.iter().map(named).collect();
    let columns: Vec<Column> =
        std::iter::once(Column::text("program")).chain(names.iter().map(Column::number)).collect();
    let rows = frontier.iter().take(LISTED).map(|(id, metrics)| {
        let values = material.frontier_axes.iter().map(|axis| {
            let value = metrics.get(&axis.metric);
            Markup::text(value.map_or("–".to_owned(), |v| quantity(*v, &line(&axis.unit, UNIT))))
        });
        std::iter::once(identity(id).into()).chain(values).collect()
    });
    let table = table("Programs on the frontier (dev)", &columns, rows.collect());
    let mut body = Markup::from(table);
    if frontier.len() > LISTED {
        let more = count((frontier.len() - LISTED) as u64, "further program");
        body.push(note(format!("and {more}")));
    }
    let summary = format!("The {}", count(frontier.len() as u64, "program"));
    fold(Markup::text(summary), body).into()
}
