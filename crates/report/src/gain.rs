//! How much better one set of metrics is than another, in words.

use crate::number::{percent, quantity};
use crate::sanitize;
use forerunner_core::{Direction, Metrics, Objective, Objectives};
use forerunner_stats::Estimate;

/// `seconds 28.314 s`.
pub(crate) fn reading(objective: &Objective, value: f64) -> String {
    let unit = sanitize::line(&objective.unit);
    format!("{} {}", sanitize::line(&objective.metric), quantity(value, &unit))
}

/// The leading objective that `metrics` has, and how it compares: `seconds 28.314 s, 11.8 %
/// better than the reference`. Without a reference only the reading.
pub(crate) fn against_reference(
    objectives: &Objectives,
    metrics: &Metrics,
    reference: Option<&Metrics>,
) -> String {
    let Some((objective, value)) = objectives.leading(metrics) else {
        return "no objective was measured".to_owned();
    };
    let reading = reading(objective, value);
    let Some(reference) = reference else { return reading };
    match reference.get(&objective.metric) {
        Some(before) => {
            let change = change(objective, *before, value);
            format!("{reading}, {change} the reference")
        }
        None => format!("{reading}, which the reference does not reach"),
    }
}

/// `11.8 % better than`, `3.0 % worse than` or `equal to`. Absolute where a ratio says nothing.
pub(crate) fn change(objective: &Objective, before: f64, after: f64) -> String {
    let gain = match objective.direction {
        Direction::Minimize => before - after,
        Direction::Maximize => after - before,
    };
    if gain == 0.0 {
        return "equal to".to_owned();
    }
    let word = if gain > 0.0 { "better" } else { "worse" };
    let size = if before * after > 0.0 {
        percent((gain / before).abs())
    } else {
        quantity(gain.abs(), &sanitize::line(&objective.unit))
    };
    format!("{size} {word} than")
}

/// A logarithmic gain as a share: what is saved of a cost, or added to a score.
fn share(direction: Direction, gain: f64) -> f64 {
    match direction {
        Direction::Minimize => -(-gain).exp_m1(),
        Direction::Maximize => gain.exp_m1(),
    }
}

/// `10.9 % better`, or `2.0 % worse`.
pub(crate) fn estimated(direction: Direction, gain: &Estimate) -> String {
    let share = share(direction, gain.mean);
    format!("{} {}", percent(share.abs()), if share >= 0.0 { "better" } else { "worse" })
}

/// `95 % interval 8.1 % to 13.7 %`, in the same sense as [`estimated`] where better is positive.
pub(crate) fn interval(direction: Direction, gain: &Estimate) -> String {
    if !gain.is_bounded() {
        return "one seed gives no interval".to_owned();
    }
    let end = |gain: f64| percent(share(direction, gain));
    // 95, or 98.3 when several finalists share the error.
    let confidence = (gain.confidence * 1000.0).round() / 10.0;
    format!("{confidence} % interval {} to {}", end(gain.low), end(gain.high))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(objective: &Objective, before: f64, after: f64, expected: &str) {
        assert_eq!(change(objective, before, after), expected);
    }

    #[test]
    fn better_means_better_in_either_direction() {
        let (cost, score) = (Objective::minimize("s", "s"), Objective::maximize("r", ""));
        check(&cost, 32.0, 28.0, "12.5 % better than");
        check(&cost, 28.0, 28.28, "1.0 % worse than");
        check(&score, 2.0, 2.5, "25.0 % better than");
        check(&score, -2.0, -2.5, "25.0 % worse than");
        check(&score, 2.0, 2.0, "equal to");
        check(&cost, 0.0, 0.5, "0.50000 s worse than");
        check(&score, -1.0, 1.0, "2 better than");
    }

    #[test]
    fn logarithms_become_shares() {
        let gain = Estimate {
            mean: (32.0_f64 / 28.0).ln(),
            low: -0.01,
            high: 0.3,
            sd: 0.1,
            n: 5,
            confidence: 0.95,
        };
        assert_eq!(estimated(Direction::Minimize, &gain), "12.5 % better");
        assert_eq!(estimated(Direction::Maximize, &gain), "14.3 % better");
        let text = interval(Direction::Minimize, &gain);
        assert_eq!(text, "95 % interval -1.0 % to 25.9 %");
        let worse = Estimate { mean: -0.1, ..gain };
        assert_eq!(estimated(Direction::Minimize, &worse), "10.5 % worse");
        let single = Estimate::of_mean(&[0.1], 0.95).expect("one value");
        assert_eq!(interval(Direction::Minimize, &single), "one seed gives no interval");
    }

    #[test]
    fn a_target_that_the_reference_misses_is_said_so() {
        let objectives =
            Objectives(vec![Objective::minimize("seconds", "s"), Objective::minimize("loss", "")]);
        let metrics = |m: &[(&str, f64)]| m.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        let (reference, child) = (metrics(&[("loss", 2.0)]), metrics(&[("seconds", 9.5)]));
        let text = |metrics, reference| against_reference(&objectives, metrics, reference);
        let expected = "seconds 9.5000 s, which the reference does not reach";
        assert_eq!(text(&child, Some(&reference)), expected);
        assert_eq!(text(&reference, Some(&reference)), "loss 2, equal to the reference");
        assert_eq!(text(&reference, None), "loss 2");
        assert_eq!(text(&Metrics::new(), None), "no objective was measured");
    }
}
