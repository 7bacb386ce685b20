//! How the loss fell.

use super::{
    Other,
    text::{number, significant, word},
};
use crate::{Evaluation, GRADIENT_NORM, SECONDS_PER_TOKEN, Series, TOKENS_PER_STEP, thinned};
use std::{collections::BTreeMap, fmt::Write as _};

/// Where the curve is looked at, as shares of its steps: denser at the start, where it bends.
const SHARES: [f64; 9] = [0.01, 0.03, 0.08, 0.16, 0.3, 0.45, 0.6, 0.8, 1.0];
/// A point is the mean of the steps within this share of its own step.
const NEARBY: f64 = 0.1;
/// Curves of the program's own that stand beside the loss.
const BESIDE: usize = 3;
/// Points of the held-out loss.
const HELD_OUT: usize = 8;
/// Differences beyond so many standard errors are told apart from noise.
const BEYOND_NOISE: f64 = 2.0;
/// Values on each side of one whose median it is compared with.
const NEIGHBOURS: usize = 4;
/// Times the usual distance from that median from which on a value is a spike...
const SPIKE: f64 = 8.0;
/// ...if it also is so much of the range of all values.
const SPIKE_RANGE: f64 = 0.03;

/// A smoothed point of a curve.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    step: u64,
    mean: f64,
    /// Standard error of the mean; unknown for a single value.
    error: Option<f64>,
}

/// The curve of the loss with what stands beside it, its slope, stalls and spikes.
pub(super) fn loss(evaluation: &Evaluation, other: Option<&Other<'_>>) -> String {
    let all = &evaluation.telemetry.series;
    let mut text = String::new();
    if let Some((name, curve)) = training_loss(all) {
        let others = other.and_then(|other| training_loss(&other.evaluation.telemetry.series));
        text.push_str(&table(all, name, curve, other.zip(others.map(|(_, curve)| curve))));
        let points = points(curve);
        text.push_str(&slopes(&points));
        text.push_str(&stalls(&points));
        text.push_str(&spikes(curve));
    }
    if let Some(curve) = all.get(HELD_OUT_LOSS).filter(|curve| !curve.is_empty()) {
        let points = thinned(curve, HELD_OUT);
        let shown = points.iter().map(|(step, loss)| format!("{step}:{}", number(*loss)));
        let shown = shown.collect::<Vec<_>>().join(" ");
        let _ = writeln!(text, "{HELD_OUT_LOSS} by step: {shown}");
    }
    text
}

const TRAINING_LOSS: &str = "train_loss";
const HELD_OUT_LOSS: &str = "dev_loss";

/// The series of the training loss: by its name, else the first that is called some loss.
fn training_loss(series: &BTreeMap<String, Series>) -> Option<(&str, &Series)> {
    let usual = series.get_key_value(TRAINING_LOSS);
    let any = || series.iter().find(|(name, _)| name.ends_with("loss") && *name != HELD_OUT_LOSS);
    usual
        .or_else(any)
        .filter(|(_, curve)| curve.len() > 1)
        .map(|(name, curve)| (name.as_str(), curve))
}

fn table(
    all: &BTreeMap<String, Series>,
    name: &str,
    curve: &Series,
    other: Option<(&Other<'_>, &Series)>,
) -> String {
    let beside = beside(all, name);
    let mut text = format!(
        "{} (means of nearby steps, +- standard error; fall is per e-fold of steps)\n  step {} +- fall",
        word(name),
        word(name)
    );
    for (name, _) in &beside {
        let _ = write!(text, " {}", word(name));
    }
    if let Some((other, _)) = other {
        let _ = write!(text, " vs_{} (* beyond noise)", other.name);
    }
    text.push('\n');
    let points = points(curve);
    for (idx, point) in points.iter().enumerate() {
        let unknown = || "-".to_owned();
        let before = idx.checked_sub(1).map(|before| points[before]);
        let _ = write!(
            text,
            "  {} {} {} {}",
            point.step,
            number(point.mean),
            point.error.map_or_else(unknown, |error| significant(error, 2)),
            before.map_or_else(unknown, |before| significant(fall(before, *point), 3))
        );
        for (_, series) in &beside {
            let _ = write!(text, " {}", significant(nearest(series, point.step), 3));
        }
        if let Some((_, other)) = other {
            let _ = write!(text, " {}", difference(*point, other));
        }
        text.push('\n');
    }
    text
}

/// Rates and norms first, then other curves of the run by name. Those of groups of parameters and
/// phases have lines of their own.
fn beside<'a>(all: &'a BTreeMap<String, Series>, loss: &str) -> Vec<(&'a str, &'a Series)> {
    const USUAL: [&str; 2] = ["learning_rate", GRADIENT_NORM];
    const ELSEWHERE: [&str; 3] = [HELD_OUT_LOSS, SECONDS_PER_TOKEN, TOKENS_PER_STEP];
    let shown = |name: &str, curve: &Series| {
        let known = name == loss || USUAL.contains(&name) || ELSEWHERE.contains(&name);
        !curve.is_empty() && !known && !name.contains('.')
    };
    let usual = USUAL.into_iter().filter_map(|name| Some((name, all.get(name)?)));
    let usual = usual.filter(|(_, curve)| !curve.is_empty());
    let rest = all.iter().filter(|(name, curve)| shown(name, curve));
    usual.chain(rest.map(|(name, curve)| (name.as_str(), curve))).take(BESIDE).collect()
}

fn points(curve: &Series) -> Vec<Point> {
    let last = curve.last().map_or(0, |(step, _)| *step);
    let mut points: Vec<Point> = Vec::new();
    for share in SHARES {
        let step = ((last as f64 * share).round() as u64).max(1);
        if points.last().is_none_or(|before| before.step < step)
            && let Some(point) = point(curve, step)
        {
            points.push(point);
        }
    }
    points
}

/// The mean around a step; of the nearest value where none is near.
fn point(curve: &Series, step: u64) -> Option<Point> {
    let reach = step as f64 * NEARBY;
    let near = |&&(at, _): &&(u64, f64)| at.abs_diff(step) as f64 <= reach;
    let values: Vec<f64> = curve.iter().filter(near).map(|(_, value)| *value).collect();
    if values.is_empty() {
        let mean = (!curve.is_empty()).then(|| nearest(curve, step))?;
        return Some(Point { step, mean, error: None });
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    // From differences of neighbours, so that a slope does not count as noise.
    let squares: f64 = values.windows(2).map(|pair| (pair[1] - pair[0]).powi(2)).sum();
    let error = (values.len() > 1).then(|| (squares / (2.0 * (n - 1.0)) / n).sqrt());
    Some(Point { step, mean, error })
}

fn nearest(curve: &Series, step: u64) -> f64 {
    let nearest = curve.iter().min_by_key(|(at, _)| at.abs_diff(step));
    nearest.map_or(f64::NAN, |(_, value)| *value)
}

/// How much the loss falls while the number of steps grows by a factor of e.
fn fall(from: Point, to: Point) -> f64 {
    (from.mean - to.mean) / (to.step as f64 / from.step as f64).ln()
}

/// Standard error of a difference.
fn noise(a: Point, b: Point) -> Option<f64> {
    Some(a.error?.hypot(b.error?))
}

/// By how much the loss is above the other curve's at the same step.
fn difference(point: Point, other: &Series) -> String {
    let last = other.last().map_or(0, |(step, _)| *step);
    let there =
        Some(point.step).filter(|step| *step <= last).and_then(|step| self::point(other, step));
    let Some(there) = there else { return "-".to_owned() };
    let difference = point.mean - there.mean;
    let beyond = noise(point, there).is_some_and(|noise| difference.abs() > BEYOND_NOISE * noise);
    let star = if beyond { "*" } else { "" };
    if difference.abs() < 1e4 {
        format!("{difference:+.3}{star}")
    } else {
        format!("{difference:+.1e}{star}")
    }
}

fn slopes(points: &[Point]) -> String {
    let [first, .., last] = points else { return String::new() };
    let near = |share: f64| {
        let step = last.step as f64 * share;
        let distance = |point: &&Point| (point.step as f64 / step).ln().abs();
        points.iter().min_by(|a, b| distance(a).total_cmp(&distance(b))).copied()
    };
    let part = |name: &str, from: Point, to: Point| {
        let fall = significant(fall(from, to), 3);
        format!("{name} {fall} (steps {} to {})", from.step, to.step)
    };
    let parts: Vec<String> = [("early", Some(*first), near(0.1)), ("late", near(0.5), Some(*last))]
        .into_iter()
        .filter_map(|(name, from, to)| Some((name, from?, to?)))
        .filter(|(_, from, to)| from.step < to.step)
        .map(|(name, from, to)| part(name, from, to))
        .collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!("fall per e-fold: {}\n", parts.join(", "))
    }
}

/// Between which points the loss does not fall by more than its noise.
fn stalls(points: &[Point]) -> String {
    let stalled = |pair: &&[Point]| {
        let fall = pair[0].mean - pair[1].mean;
        fall <= noise(pair[0], pair[1]).map_or(0.0, |noise| BEYOND_NOISE * noise)
    };
    let stalls: Vec<String> = points
        .windows(2)
        .filter(stalled)
        .map(|pair| format!("{} to {}", pair[0].step, pair[1].step))
        .collect();
    match stalls.len() {
        0 => "stalls: none\n".to_owned(),
        _ => format!("no fall beyond noise: steps {}\n", stalls.join(", ")),
    }
}

/// Single values far above their neighbours.
fn spikes(curve: &Series) -> String {
    let above: Vec<(u64, f64, f64)> = curve
        .windows(2 * NEIGHBOURS + 1)
        .map(|near| {
            let (step, value) = near[NEIGHBOURS];
            (step, value, value - median(near.iter().map(|(_, value)| *value)))
        })
        .collect();
    let usual = median(above.iter().map(|(_, _, above)| above.abs()));
    let low = curve.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
    let high = curve.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
    let least = (SPIKE * usual).max(SPIKE_RANGE * (high - low));
    let spikes: Vec<_> = above.iter().filter(|(_, _, above)| *above > least).collect();
    let Some((step, value, above)) = spikes.iter().max_by(|a, b| a.2.total_cmp(&b.2)) else {
        return "spikes: none\n".to_owned();
    };
    format!(
        "spikes: {}, the largest at step {step}: {}, {} above its neighbours\n",
        spikes.len(),
        number(*value),
        number(*above)
    )
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
