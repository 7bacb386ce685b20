//! The progress curve: the leading objective of every evaluation, and the best so far.

use super::{
    markup::{Markup, el},
    material::Material,
    plot::{Axis, Place, Plot, lane, legend, named, polyline},
    points::Points,
    scale::Scale,
    search::Trial,
    text::{Section, note},
};
use forerunner_core::{Objective, Verdict};

/// `None` before anything was measured.
pub(crate) fn section(material: &Material, points: &Points) -> Option<Section> {
    let (objective, _) = material.objectives.leading(&material.summary.best_metrics)?;
    let index = material.axis(&objective.metric)?;
    let last = material.trials.len().saturating_sub(1).max(1);
    let label = "evaluations in order of completion, 0 is the reference";
    let x = Axis::plain(label, Scale::over([0.0, last as f64], false)?);
    let y = Axis::of(objective, points.drawn(material).filter_map(|(_, t)| t.value(index)))?;
    let place = |number: usize, value: f64| Place {
        x: x.scale.share(number as f64),
        y: y.scale.share(value),
    };

    let mut marks = Markup::default();
    marks.push(polyline(best_so_far(material, objective, index, &place), "line-best"));
    let lanes = lanes(material, index);
    for (number, trial) in points.drawn(material) {
        let mark = match trial.value(index) {
            Some(value) => points.mark(number, trial, place(number, value)),
            None => {
                let word = lane_of(trial);
                let row = lanes.iter().position(|name| *name == word).unwrap_or(0);
                points.mark_in_lane(number, trial, place(number, 0.0).x, lane(row))
            }
        };
        marks.push(mark);
    }
    let name = named(objective);
    let plot = Plot {
        id: "plot-progress",
        title: &format!("{name} by evaluation"),
        description: &format!(
            "{name} of every accepted evaluation in order of completion, with the best so far as a \
             line."
        ),
        x: &x,
        y: &y,
        marks,
        lanes: &lanes,
    };
    let mut keys = vec![
        ("line-best", "best so far"),
        ("ev line", "on the way to the best"),
        ("ev winner", "best"),
        ("ev", "other evaluation"),
    ];
    if material.frontier_axes.len() > 1 {
        keys.insert(3, ("ev front", "on the frontier"));
    }
    if lanes.contains(&FAILED) {
        keys.push(("ev failed", "failed or rejected"));
    }
    let mut text = format!("{name} on the search's own slice (dev), one seed for all.");
    if lanes.contains(&MISSING) {
        text.push_str(" Programs that have no value (in a race to a target: did not reach it) are above the plot.");
    }
    let body = Markup::all([
        Markup::from(note(text)),
        el("figure").with(plot.render()).with(legend(keys)).into(),
        Markup::from(points.left_out(material).map(note)),
    ]);
    Some(Section { id: "progress", short: "Progress", title: "Progress", body })
}

const FAILED: &str = "failed";
const MISSING: &str = "no value";

fn lane_of(trial: &Trial) -> &'static str {
    if trial.verdict == Verdict::Accepted { MISSING } else { FAILED }
}

/// The rows that are needed for what has no value.
fn lanes(material: &Material, index: usize) -> Vec<&'static str> {
    let without = || material.trials.iter().filter(|trial| trial.value(index).is_none());
    [MISSING, FAILED].into_iter().filter(|lane| without().any(|t| lane_of(t) == *lane)).collect()
}

/// A line with a step at every new best that has the objective.
fn best_so_far(
    material: &Material,
    objective: &Objective,
    index: usize,
    place: &dyn Fn(usize, f64) -> Place,
) -> Vec<Place> {
    let mut line: Vec<Place> = Vec::new();
    let mut best: Option<f64> = None;
    for (number, trial) in material.trials.iter().enumerate() {
        let Some(value) = trial.value(index) else { continue };
        if best.is_some_and(|best| objective.compare_values(value, best).is_ge()) {
            continue;
        }
        line.extend(best.map(|best| place(number, best)));
        line.push(place(number, value));
        best = Some(value);
    }
    line.extend(best.map(|best| place(material.trials.len().saturating_sub(1), best)));
    line
}
