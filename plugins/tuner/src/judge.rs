//! The judge: what a child promises, before it is measured.

use crate::surrogate::{Point, Prediction, Surrogate};
use forerunner_sdk::{Direction, Metrics, Objective, Objectives};

/// How far beyond the worst known success a target may reasonably lie, as long as no failure
/// marks its other side; relative, in the objective that decides.
const UNMARKED_MARGIN: f64 = 0.01;

/// Share of the surrogate's deviation that counts as promise where a target must be reached at the
/// least cost. All constants have one prior, and the few that set the cost make it wide for all;
/// taken at its word, every unknown direction would promise more than a known gain.
const CAUTION: f64 = 0.5;

/// Distance at which a failure no longer frightens.
const FAILURE_REACH: f64 = 0.5;

/// A program with what is known of it.
#[derive(Debug, Clone)]
pub(crate) struct Known<'a> {
    pub(crate) point: Point,
    /// `None`: not accepted.
    pub(crate) metrics: Option<&'a Metrics>,
}

/// What a child promises.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Promise {
    /// What to maximise: expected improvement times the probability that the child counts.
    pub(crate) score: f64,
    /// Predicted logarithm of the leading objective over the parent's, smaller is better; `None`
    /// when the leading objective was never measured.
    pub(crate) change: Option<Prediction>,
}

/// Surrogates of the objectives that matter now.
#[derive(Debug)]
pub(crate) struct Judge {
    leading: Option<Surrogate>,
    /// Best level that the leading surrogate believes in.
    best: f64,
    parent_level: f64,
    /// The next objective with the level that must be reached: mean and deviation.
    target: Option<(Surrogate, f64, f64)>,
    /// Programs that do not count, and those that do.
    outcomes: Vec<(Vec<f64>, bool)>,
}

impl Judge {
    /// Learns from what is `known`, the parent first. `open` are proposals being measured.
    pub(crate) fn new(
        objectives: &Objectives,
        known: &[Known<'_>],
        open: &[Point],
        noise: (f64, f64),
    ) -> Self {
        let has = |objective: &&Objective, known: &Known<'_>| {
            known.metrics.is_some_and(|metrics| metrics.contains_key(&objective.metric))
        };
        // The objective that anything here has at all; those above it are out of sight.
        let mut in_sight = objectives.0.iter().skip_while(|o| !known.iter().any(|k| has(o, k)));
        let (first, second) = (in_sight.next(), in_sight.next());
        let fitted = |objective: Option<&Objective>, noise: f64| {
            let (points, values) = levels(objective?, known);
            if points.is_empty() {
                return None;
            }
            Some(Surrogate::fit(&points, &values, noise).believing(open))
        };
        let leading = fitted(first, noise.0);
        let target = second.and_then(|second| {
            let surrogate = fitted(Some(second), noise.1)?;
            let (mean, sd) = target_level(first?, second, known, noise.1)?;
            Some((surrogate, mean, sd))
        });
        let believed = |known: &Known<'_>| Some(leading.as_ref()?.predict(&known.point).mean);
        let best = known
            .iter()
            .filter(|known| first.is_some_and(|first| has(&first, known)))
            .filter_map(believed)
            .fold(f64::INFINITY, f64::min);
        let parent_level = known.first().and_then(believed).unwrap_or(0.0);
        // Without a next objective to tell how near a miss was, a miss is a failure as any other.
        let counts = |known: &Known<'_>| {
            known.metrics.is_some()
                && (target.is_some() || first.is_none_or(|first| has(&first, known)))
        };
        let outcomes = known.iter().map(|known| (known.point.x.clone(), counts(known))).collect();
        Self { leading, best, parent_level, target, outcomes }
    }

    /// Whether the objective that decides exists only for programs that reach a target.
    pub(crate) fn has_target(&self) -> bool {
        self.target.is_some()
    }

    /// What the child at `point` promises.
    pub(crate) fn promise(&self, point: &Point) -> Promise {
        let counts = self.probability_to_count(&point.x) * self.probability_of_target(point);
        let Some(leading) = &self.leading else {
            return Promise { score: counts, change: None };
        };
        let prediction = leading.predict(point);
        let caution = if self.has_target() { CAUTION } else { 1.0 };
        let cautious = Prediction { sd: caution * prediction.sd, ..prediction };
        let score = expected_improvement(self.best, cautious) * counts;
        let change = Prediction { mean: prediction.mean - self.parent_level, ..prediction };
        Promise { score, change: Some(change) }
    }

    fn probability_of_target(&self, point: &Point) -> f64 {
        let Some((surrogate, level, sd)) = &self.target else { return 1.0 };
        let prediction = surrogate.predict(point);
        normal_cdf((level - prediction.mean) / prediction.sd.hypot(*sd))
    }

    /// Share of successes around `x`, nearer ones counting more.
    fn probability_to_count(&self, x: &[f64]) -> f64 {
        let (mut good, mut bad) = (0.3, 0.0);
        for (other, counts) in &self.outcomes {
            let squared: f64 = x.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum();
            let weight = (-squared / (2.0 * FAILURE_REACH * FAILURE_REACH)).exp();
            *(if *counts { &mut good } else { &mut bad }) += weight;
        }
        good / (good + bad)
    }
}

/// Points with their level in one objective: a logarithm where signs allow, smaller is better.
///
/// A program that missed its target lacks the objective, and yet what it cost says what that change
/// costs: see [`stand_in`].
fn levels(objective: &Objective, known: &[Known<'_>]) -> (Vec<Point>, Vec<f64>) {
    let other = stand_in(objective, known);
    let value = |metrics: &Metrics| {
        let own = metrics.get(&objective.metric);
        own.or_else(|| metrics.get(other?)).copied().filter(|value| value.is_finite())
    };
    let measured: Vec<(&Point, f64)> =
        known.iter().filter_map(|known| Some((&known.point, value(known.metrics?)?))).collect();
    let scale = scale(objective, known);
    measured.into_iter().map(|(point, value)| (point.clone(), scale.level(value))).unzip()
}

/// A metric that equals the objective wherever the objective is, as "seconds" does "seconds to
/// target": it stands in for it where the objective is missing.
fn stand_in<'a>(objective: &Objective, known: &[Known<'a>]) -> Option<&'a str> {
    let mut with = known
        .iter()
        .filter_map(|known| known.metrics)
        .filter_map(|metrics| Some((metrics, *metrics.get(&objective.metric)?)));
    let (first, value) = with.clone().next()?;
    let equal = |metrics: &Metrics, name: &str, value: f64| metrics.get(name) == Some(&value);
    first
        .iter()
        .filter(|(name, own)| **name != objective.metric && **own == value)
        .map(|(name, _)| name.as_str())
        .find(|name| with.all(|(metrics, value)| equal(metrics, name, value)))
}

/// How values of an objective become levels.
#[derive(Debug, Clone, Copy)]
struct Scale {
    sign: f64,
    /// `None`: logarithmic.
    unit: Option<f64>,
}

impl Scale {
    fn level(self, value: f64) -> f64 {
        self.sign * self.unit.map_or_else(|| value.ln(), |unit| value / unit)
    }
}

fn scale(objective: &Objective, known: &[Known<'_>]) -> Scale {
    let values = known.iter().filter_map(|known| known.metrics?.get(&objective.metric));
    let (least, largest) = values.fold((f64::INFINITY, 0.0_f64), |(least, largest), value| {
        (least.min(*value), largest.max(value.abs()))
    });
    let sign = match objective.direction {
        Direction::Minimize => 1.0,
        Direction::Maximize => -1.0,
    };
    Scale { sign, unit: (least <= 0.0).then_some(largest.max(f64::MIN_POSITIVE)) }
}

/// Where the target lies, or seems to lie when the environment does not say: the level of `second`
/// up to which `first` is present. `None` when nothing says that there is one.
fn target_level(
    first: &Objective,
    second: &Objective,
    known: &[Known<'_>],
    noise: f64,
) -> Option<(f64, f64)> {
    let scale = scale(second, known);
    if let Some(target) = second.target {
        return Some((scale.level(target), noise));
    }
    let (mut reached, mut missed) = (f64::NEG_INFINITY, f64::INFINITY);
    for metrics in known.iter().filter_map(|known| known.metrics) {
        let Some(level) = metrics.get(&second.metric).map(|value| scale.level(*value)) else {
            continue;
        };
        if metrics.contains_key(&first.metric) {
            reached = reached.max(level);
        } else {
            missed = missed.min(level);
        }
    }
    match (reached.is_finite(), missed.is_finite()) {
        (true, true) => {
            let sd = (missed - reached).abs() / 4.0;
            Some(((reached + missed) / 2.0, sd.max(noise)))
        }
        (true, false) => Some((reached + UNMARKED_MARGIN, UNMARKED_MARGIN.max(noise))),
        _ => None,
    }
}

/// Expected amount by which a normal variable falls below `best`.
fn expected_improvement(best: f64, prediction: Prediction) -> f64 {
    let Prediction { mean, sd } = prediction;
    if sd < 1e-12 {
        return (best - mean).max(0.0);
    }
    let z = (best - mean) / sd;
    let density = (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
    (sd * (z * normal_cdf(z) + density)).max(0.0)
}

/// The normal distribution function, to about 1e-7 (Abramowitz and Stegun, 26.2.17).
fn normal_cdf(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let poly = t
        * (0.319_381_530
            + t * (-0.356_563_782
                + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let upper = poly * (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
    if z >= 0.0 { 1.0 - upper } else { upper }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_distribution_is_right() {
        for (z, expected) in [(0.0, 0.5), (1.0, 0.841_344_7), (-1.96, 0.024_997_9), (9.0, 1.0)] {
            assert!((normal_cdf(z) - expected).abs() < 1e-6, "{z}");
        }
        let certain = Prediction { mean: 1.0, sd: 0.0 };
        assert_eq!(expected_improvement(1.5, certain), 0.5);
        let unit = Prediction { mean: 0.0, sd: 1.0 };
        assert!((expected_improvement(0.0, unit) - 0.398_942_3).abs() < 1e-6);
    }

    #[test]
    fn what_a_miss_cost_is_learnt_from_the_metric_that_stands_in() {
        let objectives = Objectives(vec![
            Objective::minimize("to_target", "s"),
            Objective::minimize("loss", ""),
        ]);
        let metrics = |pairs: &[(&str, f64)]| -> Metrics {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
        };
        let hit = metrics(&[("to_target", 20.0), ("seconds", 20.0), ("loss", 1.4)]);
        let miss = metrics(&[("seconds", 14.0), ("loss", 1.5)]);
        let at = |x: &[f64]| Point { x: x.to_vec(), skeleton: 0 };
        let known = [
            Known { point: at(&[0.0]), metrics: Some(&hit) },
            Known { point: at(&[-0.35]), metrics: Some(&miss) },
        ];
        assert_eq!(stand_in(&objectives.0[0], &known), Some("seconds"));
        assert_eq!(stand_in(&objectives.0[1], &known), None);
        let judge = Judge::new(&objectives, &known, &[], (0.01, 0.003));
        let change = judge.promise(&at(&[-0.1])).change.expect("a prediction");
        assert!(change.mean < -0.05, "shorter is faster: {change:?}");
    }

    #[test]
    fn the_target_lies_between_hits_and_misses() {
        let objectives =
            Objectives(vec![Objective::minimize("seconds", "s"), Objective::minimize("loss", "")]);
        let metrics = |seconds: Option<f64>, loss: f64| {
            let seconds = seconds.map(|seconds| ("seconds".to_owned(), seconds));
            seconds.into_iter().chain([("loss".to_owned(), loss)]).collect::<Metrics>()
        };
        let (hit, miss) = (metrics(Some(20.0), 1.40), metrics(None, 1.50));
        let at = |x: &[f64]| Point { x: x.to_vec(), skeleton: 0 };
        let known = [
            Known { point: at(&[0.0, 0.0]), metrics: Some(&hit) },
            Known { point: at(&[-1.0, 0.0]), metrics: Some(&miss) },
        ];
        let (level, sd) =
            target_level(&objectives.0[0], &objectives.0[1], &known, 0.001).expect("a target");
        assert!((level - 1.449_f64.ln()).abs() < 1e-3 && sd < 0.02, "{level} {sd}");
        let judge = Judge::new(&objectives, &known, &[], (0.01, 0.003));
        let far = judge.promise(&at(&[-1.2, 0.0])).score;
        let near = judge.promise(&at(&[-0.3, 0.0])).score;
        assert!(near > 3.0 * far, "{near} {far}");
    }
}
