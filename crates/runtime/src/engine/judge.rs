//! Judging confirming measurements: pure functions from metrics to what may be claimed.

use crate::event::{Compared, DisguisePart, Finalist, ReplayPart};
use forerunner_core::{Cause, Direction, Evaluation, Metrics, Objective, ProgramId, Verdict};
use forerunner_stats::{Estimate, NoiseTest};

/// Probability that the disguise refuses an honest program, at most; shared among the objectives.
const DISGUISE_ALPHA: f64 = 0.01;

/// The metrics of an accepted evaluation; any other has none.
pub(super) fn believed(evaluation: &Evaluation) -> Metrics {
    if evaluation.is_accepted() { evaluation.metrics.clone() } else { Metrics::new() }
}

/// Whether worker or environment failed and not, as far as anybody can tell, the program. Such a
/// measurement is made once more and no oftener: a program may have brought its worker down.
pub(super) fn is_fault(evaluation: &Evaluation) -> bool {
    match evaluation.verdict {
        Verdict::Failed(Cause::Worker) => true,
        Verdict::Failed(Cause::Other) => evaluation
            .findings
            .iter()
            .any(|finding| finding.rule == super::slots::ENVIRONMENT_ERROR),
        _ => false,
    }
}

/// How often the same request was measured, and what of it counts.
#[derive(Debug, PartialEq)]
pub(super) enum Standing<'a> {
    /// Nothing counts yet.
    Missing {
        /// Whether a fault was counted, so that this is the last try.
        last_try: bool,
    },
    /// The last measurement counts, whatever it says.
    Done(&'a Evaluation),
}

impl<'a> Standing<'a> {
    /// `all` are the measurements of one request in the order in which they were made.
    pub(super) fn of(all: &[&'a Evaluation]) -> Self {
        match all {
            [] => Self::Missing { last_try: false },
            [only] if is_fault(only) => Self::Missing { last_try: true },
            [.., last] => Self::Done(last),
        }
    }
}

/// The values of a metric, when all measurements have it.
fn values(of: &[Metrics], name: &str) -> Option<Vec<f64>> {
    of.iter().map(|metrics| metrics.get(name).copied()).collect()
}

/// Compares a finalist with the reference on the leading objective; nothing is claimed unless all
/// measurements of both have it.
pub(super) fn claim(
    objectives: &[Objective],
    reference: &[Metrics],
    program: ProgramId,
    metrics: Vec<Metrics>,
    confidence: f64,
) -> Finalist {
    let leading = objectives.first();
    let metric = leading.map(|objective| objective.metric.clone()).unwrap_or_default();
    let gain = leading.and_then(|objective| {
        let (reference, program) = (values(reference, &metric)?, values(&metrics, &metric)?);
        match objective.direction {
            Direction::Minimize => Estimate::paired_log_ratio(&reference, &program, confidence),
            Direction::Maximize => Estimate::paired_log_ratio(&program, &reference, confidence),
        }
    });
    let holds = gain.is_some_and(|gain| gain.is_bounded() && gain.low > 0.0);
    Finalist { program, metrics, metric, gain, holds }
}

/// Compares a program in disguise with itself on every objective that it has undisguised. Not
/// only the leading one: what a program loses in disguise may show in its loss and not in its
/// time. `earlier` are undisguised measurements on another slice, which tell the noise of a seed.
pub(super) fn disguise(
    objectives: &[Objective],
    earlier: &[Metrics],
    plain: &[Metrics],
    disguised: Vec<Metrics>,
) -> DisguisePart {
    let present: Vec<&Objective> =
        objectives.iter().filter(|one| values(plain, &one.metric).is_some()).collect();
    let alpha = DISGUISE_ALPHA / present.len().max(1) as f64;
    let compared: Vec<Compared> = present
        .iter()
        .map(|objective| compare(objective, earlier, plain, &disguised, alpha))
        .collect();
    let within = |one: &Compared| one.test.is_some_and(|test| test.is_within_noise());
    let holds = !compared.is_empty() && compared.iter().all(within);
    DisguisePart { metrics: disguised, compared, holds }
}

fn compare(
    objective: &Objective,
    earlier: &[Metrics],
    plain: &[Metrics],
    disguised: &[Metrics],
    alpha: f64,
) -> Compared {
    let name = &objective.metric;
    let samples = [plain, earlier, disguised].map(|of| values(of, name));
    let positive = |values: &Vec<f64>| values.iter().all(|value| *value > 0.0);
    let logarithmic = samples.iter().flatten().all(positive);
    let sign = match objective.direction {
        Direction::Minimize => 1.0,
        Direction::Maximize => -1.0,
    };
    let scale = |value: f64| sign * if logarithmic { value.ln() } else { value };
    let scaled = samples
        .map(|values| -> Option<Vec<f64>> { Some(values?.into_iter().map(scale).collect()) });
    let test = match &scaled {
        [Some(plain), earlier, Some(disguised)] => {
            let others: Vec<&[f64]> = earlier.iter().map(Vec::as_slice).collect();
            NoiseTest::of(plain, disguised, &others, alpha)
        }
        _ => None,
    };
    Compared { metric: name.clone(), logarithmic, test }
}

/// Compares two measurements of the same request. Where the environment gives no digest there is
/// no second one, and nothing refuses.
pub(super) fn replay(first: Option<String>, again: Option<String>) -> ReplayPart {
    let holds = first == again;
    ReplayPart { first, again, holds }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forerunner_core::Finding;

    fn metrics(name: &str, values: &[f64]) -> Vec<Metrics> {
        values.iter().map(|value| Metrics::from([(name.to_owned(), *value)])).collect()
    }

    fn both(seconds: &[f64], loss: &[f64]) -> Vec<Metrics> {
        let mut all = metrics("seconds", seconds);
        for (one, loss) in all.iter_mut().zip(loss) {
            one.insert("loss".to_owned(), *loss);
        }
        all
    }

    #[test]
    fn a_gain_holds_only_when_its_interval_excludes_zero() {
        let objectives = [Objective::minimize("seconds", "s")];
        let check = |reference: &[f64], program: &[f64], expected: bool| {
            let (reference, program) = (metrics("seconds", reference), metrics("seconds", program));
            let one = claim(&objectives, &reference, ProgramId::default(), program, 0.95);
            assert_eq!(one.holds, expected, "{:?}", one.gain);
        };
        check(&[20.0, 21.0, 20.5], &[10.0, 10.4, 10.3], true);
        check(&[20.0, 21.0, 20.5], &[19.0, 22.0, 20.0], false);
        check(&[20.0, 21.0, 20.5], &[30.0, 31.0, 30.0], false);
    }

    #[test]
    fn a_measurement_without_the_metric_supports_no_claim() {
        let objectives = [Objective::minimize("seconds", "s")];
        let reference = metrics("seconds", &[20.0, 20.1, 20.2]);
        let mut program = metrics("seconds", &[10.0, 10.1, 10.2]);
        program[1].clear();
        let one = claim(&objectives, &reference, ProgramId::default(), program, 0.95);
        assert_eq!((one.gain, one.holds), (None, false));
    }

    #[test]
    fn only_faults_of_worker_and_environment_are_measured_again_and_only_once() {
        let good = Evaluation::accepted("seconds", 1.0);
        let failed = |cause, rule| Evaluation::failed(cause, Finding::error(rule, "why"));
        let lost = failed(Cause::Worker, "worker/lost");
        let refused = failed(Cause::Other, crate::engine::slots::ENVIRONMENT_ERROR);
        let crashed = failed(Cause::Crash, "program/crash");
        let other = failed(Cause::Other, "program/other");
        assert_eq!(Standing::of(&[]), Standing::Missing { last_try: false });
        for fault in [&lost, &refused] {
            assert_eq!(Standing::of(&[fault]), Standing::Missing { last_try: true });
            assert_eq!(Standing::of(&[fault, &good]), Standing::Done(&good));
            assert_eq!(Standing::of(&[fault, fault]), Standing::Done(fault), "and no third time");
        }
        for once in [&good, &crashed, &other] {
            assert_eq!(Standing::of(&[once]), Standing::Done(once));
        }
        let mut rejected = good.clone();
        rejected.verdict = Verdict::Unverified;
        assert_eq!(Standing::of(&[&rejected]), Standing::Done(&rejected));
        assert!(believed(&rejected).is_empty(), "what hooks could not verify never counts");
    }

    /// Whether a program that took about 10 s holds with `disguised`.
    fn disguised(disguised: Vec<Metrics>) -> DisguisePart {
        let objectives = [Objective::minimize("seconds", "s"), Objective::minimize("loss", "")];
        let earlier = both(&[10.0, 10.2, 9.9], &[1.60, 1.61, 1.59]);
        let plain = both(&[10.1, 9.9, 10.0], &[1.605, 1.595, 1.600]);
        disguise(&objectives, &earlier, &plain, disguised)
    }

    #[test]
    fn an_honest_program_does_as_well_in_disguise() {
        let part = disguised(both(&[10.2, 9.8, 10.1], &[1.61, 1.60, 1.59]));
        assert!(part.holds, "{part:?}");
        assert!(part.compared.iter().all(|one| one.logarithmic));
        let alpha = part.compared[0].test.expect("tested").alpha;
        assert!((alpha - 0.005).abs() < 1e-12, "two objectives share the error");
        assert!(disguised(both(&[5.0, 5.0, 5.0], &[1.5, 1.5, 1.5])).holds, "better is no crime");
    }

    #[test]
    fn knowledge_shows_in_any_objective() {
        let slower = disguised(both(&[14.0, 11.0, 19.0], &[1.60, 1.60, 1.60]));
        assert!(!slower.holds, "erratic runs hide nothing: {slower:?}");
        let worse = disguised(both(&[10.0, 10.0, 10.0], &[1.70, 1.71, 1.69]));
        assert_eq!(
            worse
                .compared
                .iter()
                .map(|one| one.test.expect("tested").is_within_noise())
                .collect::<Vec<_>>(),
            [true, false]
        );
        assert!(!worse.holds);
    }

    #[test]
    fn a_disguised_failure_refuses() {
        let mut failed = both(&[10.2, 9.8, 10.1], &[1.61, 1.60, 1.59]);
        failed[2].clear();
        assert!(!disguised(failed).holds);
        // The target is missed in disguise: there is a loss, and no time.
        let missed = disguised(metrics("loss", &[1.61, 1.60, 1.59]));
        assert!(!missed.holds && missed.compared[0].test.is_none(), "{missed:?}");
    }

    #[test]
    fn what_is_maximised_loses_downwards() {
        let objectives = [Objective::maximize("score", "")];
        let plain = metrics("score", &[-1.0, -1.1, -0.9]);
        let check = |values: &[f64], expected: bool| {
            let part = disguise(&objectives, &plain, &plain, metrics("score", values));
            assert_eq!(part.holds, expected, "{part:?}");
            assert!(!part.compared[0].logarithmic);
        };
        check(&[-1.05, -1.0, -0.95], true);
        check(&[-3.0, -3.0, -3.0], false);
    }

    #[test]
    fn a_replay_is_equal_or_refuses() {
        let some = |text: &str| Some(text.to_owned());
        assert!(replay(some("a"), some("a")).holds);
        assert!(!replay(some("a"), some("b")).holds);
        assert!(!replay(some("a"), None).holds, "the replay failed");
        assert!(replay(None, None).holds, "the environment gives no digests");
    }
}
