//! How well the tuner searches: fixed seeds, synthetic landscapes, thirty evaluations.

use crate::landscape::{Landscape, bowl, median_gain, time_to_target};
use forerunner_sdk::{Change, Cost, Host, Idea, Mutator, Proposal, ProposalRequest, Result, Seed};
use forerunner_tuner::{Config, Tuner};

/// Plain random search around the parent: each constant is multiplied with probability `share`
/// by a factor drawn log-normally with deviation `step`.
struct RandomSearch {
    share: f64,
    step: f64,
}

impl Mutator for RandomSearch {
    fn propose(&self, request: &ProposalRequest, _host: &dyn Host) -> Result<Proposal> {
        let seed = Seed(request.seed);
        let mut files = request.parent.program.files.clone();
        for text in files.values_mut() {
            let lines: Vec<String> = text
                .lines()
                .enumerate()
                .map(|(idx, line)| self.line(line, seed, idx as u64))
                .collect();
            *text = lines.join("\n") + "\n";
        }
        let idea = Idea::default();
        Ok(Proposal { change: Change::Files(files), idea, cost: Cost::default() })
    }
}

impl RandomSearch {
    fn line(&self, line: &str, seed: Seed, idx: u64) -> String {
        let Some((left, value)) = line.strip_prefix("const ").and_then(|l| l.split_once(" = "))
        else {
            return line.to_owned();
        };
        if seed.derive("whether", idx).unit() > self.share {
            return line.to_owned();
        }
        let value: f64 = value.trim_end_matches(';').replace('_', "").parse().expect("a number");
        let draws = (0..12).map(|n| seed.derive("factor", idx * 12 + n).unit());
        let factor = (self.step * (draws.sum::<f64>() - 6.0)).exp();
        let text = if left.contains("usize") {
            format!("{}", (value * factor).round().max(1.0))
        } else if value > 0.5 && value < 1.0 {
            format!("{:e}", 1.0 - ((1.0 - value) * factor).min(0.5))
        } else {
            format!("{:e}", value * factor)
        };
        format!("const {left} = {text};")
    }
}

fn tuner() -> Box<dyn Mutator> {
    Box::new(Tuner::new(Config { noise: 0.02, ..Config::default() }).expect("sound"))
}

/// Thirty evaluations, twenty seeds: the median gain of the tuner, and the best median among
/// random searches of several widths.
fn check(landscape: &Landscape, at_once: u64, at_least: f64) {
    let gain = median_gain(landscape, at_once, 0..20, &tuner);
    let random = [(0.3, 0.35), (0.15, 0.35), (1.0, 0.2), (1.0, 0.35)].map(|(share, step)| {
        median_gain(landscape, at_once, 0..20, &|| Box::new(RandomSearch { share, step }))
    });
    let best_random = random.into_iter().fold(0.0, f64::max);
    assert!(gain >= at_least, "gained {gain:.2}, random search {best_random:.2}");
    // Of the way from the reference, in logarithms.
    let lead = gain.ln() / best_random.ln().max(1e-9);
    assert!(lead > 1.2, "gained {gain:.2}, random search {best_random:.2}");
}

// The optimum of the bowl is a gain of 1.70.

#[test]
fn in_a_bowl_one_at_a_time() {
    check(&bowl(), 1, 1.55);
}

#[test]
fn in_a_bowl_ten_at_a_time() {
    check(&bowl(), 10, 1.5);
}

#[test]
fn towards_a_target_one_at_a_time() {
    check(&time_to_target(), 1, 1.7);
}

#[test]
fn towards_a_target_ten_at_a_time() {
    check(&time_to_target(), 10, 1.55);
}
