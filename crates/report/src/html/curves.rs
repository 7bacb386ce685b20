//! Curves of the reference and the best program, one small plot for each.

use super::{
    markup::{Element, Markup, el},
    plot::{Axis, Place, Plot, legend, polyline},
    scale::Scale,
    text::{fold, line},
};
use crate::number::number;
use forerunner_core::{Series, Telemetry};

/// Curves that are drawn at once, and in a fold.
const OPEN: usize = 2;
const FOLDED: usize = 18;
/// Points of a curve; of more, each is the mean of its neighbours.
const POINTS: usize = 160;
/// Characters of a name.
const NAME: usize = 40;

/// The curves of both, losses first.
pub(crate) fn curves(before: Option<&Telemetry>, after: Option<&Telemetry>) -> Markup {
    let sides = || [("line-reference", before), ("line-winner", after)];
    let mut names: Vec<&String> =
        sides().into_iter().filter_map(|(_, side)| side).flat_map(|t| t.series.keys()).collect();
    // A dot stands before the name of a part, for example a group of parameters.
    names.sort_by_key(|name| (!name.contains("loss"), name.contains('.'), *name));
    names.dedup();
    let mut plots =
        names.into_iter().take(OPEN + FOLDED).enumerate().filter_map(|(index, name)| {
            let of = |(class, side): (&'static str, Option<&Telemetry>)| {
                Some((class, thinned(side?.series.get(name)?)))
            };
            curve(
                &format!("plot-curve-{index}"),
                name,
                sides().into_iter().filter_map(of).collect(),
            )
        });
    let open: Vec<Element> = plots.by_ref().take(OPEN).collect();
    let folded: Vec<Element> = plots.collect();
    if open.is_empty() {
        return Markup::default();
    }
    let keys =
        [before.map(|_| ("line-reference", "reference")), after.map(|_| ("line-winner", "best"))];
    let grid = |plots: Vec<Element>| el("div").class("curves").with_all(plots);
    let mut body =
        Markup::from(el("figure").with(grid(open)).with(legend(keys.into_iter().flatten())));
    if !folded.is_empty() {
        body.push(fold(Markup::text(format!("Further curves ({})", folded.len())), grid(folded)));
    }
    body
}

fn curve(id: &str, name: &str, lines: Vec<(&'static str, Vec<(f64, f64)>)>) -> Option<Element> {
    let all = || lines.iter().flat_map(|(_, points)| points);
    let name = line(name, NAME);
    let x = Axis::plain("step", Scale::over(all().map(|(step, _)| *step), false)?);
    let y = Axis::plain(&name, Scale::over(all().map(|(_, value)| *value), true)?);
    let place =
        |(step, value): &(f64, f64)| Place { x: x.scale.share(*step), y: y.scale.share(*value) };
    let ends: Vec<String> = lines
        .iter()
        .filter_map(|(class, points)| {
            let (first, last) = (points.first()?, points.last()?);
            let who = class.trim_start_matches("line-");
            Some(format!("{who} from {} to {}", number(first.1), number(last.1)))
        })
        .collect();
    let drawn = lines.iter().map(|(class, points)| polyline(points.iter().map(place), class));
    let plot = Plot {
        id,
        title: &format!("{name} by step"),
        description: &ends.join(", "),
        x: &x,
        y: &y,
        marks: Markup::all(drawn),
        lanes: &[],
    };
    Some(plot.render())
}

/// A curve in few points: where it begins, then the mean of each equal share of its values.
fn thinned(series: &Series) -> Vec<(f64, f64)> {
    let points: Vec<(f64, f64)> = series
        .iter()
        .filter(|(_, value)| value.is_finite())
        .map(|(step, value)| (*step as f64, *value))
        .collect();
    if points.len() <= POINTS {
        return points;
    }
    let mean = |share: &[(f64, f64)]| {
        let n = share.len() as f64;
        let sum = share.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / n, sum.1 / n)
    };
    let n = points.len();
    let shares = (0..POINTS).map(|index| &points[index * n / POINTS..(index + 1) * n / POINTS]);
    std::iter::once(points[0]).chain(shares.map(mean)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_becomes_means_and_keeps_its_start() {
        let long: Series = (0..1600).map(|step| (step, step as f64)).collect();
        let thin = thinned(&long);
        assert_eq!(thin.len(), POINTS + 1);
        assert_eq!((thin[0], thin[1], thin[POINTS]), ((0.0, 0.0), (4.5, 4.5), (1594.5, 1594.5)));
        let short: Series = vec![(0, 1.0), (1, f64::NAN), (2, 3.0)];
        assert_eq!(thinned(&short), [(0.0, 1.0), (2.0, 3.0)]);
    }
}
