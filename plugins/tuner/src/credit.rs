//! Credit: what past trials say about constants, directions and operators.

use crate::{
    history::Trial,
    space::{Setting, Space},
};
use forerunner_sdk::{Direction, Metrics, Objective, Objectives};
use std::{cmp::Ordering, collections::BTreeMap};

/// A success makes the next step in its direction longer, a failure makes it shorter: with these
/// factors step sizes stand still at about three successes in eight trials, a little more eager
/// than the one in five of evolution strategies, because a run is short.
const LONGER: f64 = 1.35;
const SHORTER: f64 = 0.6;

/// Steps stay between these bounds: at most a factor of 3.3 at once.
const STEP_RANGE: (f64, f64) = (0.04, 1.2);

/// The gain with which reaching a target for the first time is credited.
const REACHED: f64 = 0.3;

/// How a child did beside its parent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Grade {
    /// Better by this relative gain, in the leading objective or, when that stands still within
    /// its noise, in the next one.
    Better(f64),
    /// No difference beyond the noise.
    Same,
    /// Worse by this relative loss.
    Worse(f64),
}

/// Relative gain of `child` over `parent` in one objective: positive is better.
pub(crate) fn gain(objective: &Objective, parent: f64, child: f64) -> f64 {
    let smaller_is_better = match objective.direction {
        Direction::Minimize => 1.0,
        Direction::Maximize => -1.0,
    };
    let size = parent.abs().max(child.abs());
    let decrease = if parent > 0.0 && child > 0.0 {
        (parent / child).ln()
    } else if size > 0.0 {
        (parent - child) / size
    } else {
        0.0
    };
    smaller_is_better * decrease
}

/// Grades a child; `noise` is that of the leading and of the lower objectives.
pub(crate) fn grade(
    objectives: &Objectives,
    parent: &Metrics,
    child: Option<&Metrics>,
    noise: (f64, f64),
) -> Grade {
    let Some(child) = child else { return Grade::Worse(REACHED) };
    let mut noise_floor = noise.0;
    for objective in &objectives.0 {
        let value = |metrics: &Metrics| metrics.get(&objective.metric).copied();
        match (value(parent), value(child)) {
            (None, Some(_)) => return Grade::Better(REACHED),
            (Some(_), None) => return Grade::Worse(REACHED),
            (None, None) => {}
            (Some(parent), Some(child)) => {
                let gain = gain(objective, parent, child);
                if gain.abs() > noise_floor {
                    return if gain > 0.0 { Grade::Better(gain) } else { Grade::Worse(-gain) };
                }
                noise_floor = noise.1;
            }
        }
    }
    Grade::Same
}

/// What is known of one constant in one direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Arm {
    /// Length of the next step.
    pub(crate) step: f64,
    n_trials: f64,
    total_gain: f64,
}

impl Arm {
    /// How much trying it again promises: its mean gain, and more the less it was tried.
    pub(crate) fn promise(&self) -> f64 {
        let mean = self.total_gain / (self.n_trials + 1.0);
        (mean + 0.1 / (1.0 + self.n_trials).sqrt()).max(0.01)
    }
}

/// A move that made a child better.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Success {
    /// For each constant that moved: index, from, to.
    pub(crate) moves: Vec<(usize, Setting, Setting)>,
    pub(crate) gain: f64,
}

/// All credit, seen from one parent.
#[derive(Debug)]
pub(crate) struct Credit {
    /// For each constant: down and up. Options are all counted as up.
    pub(crate) arms: Vec<[Arm; 2]>,
    /// Most recent last.
    pub(crate) successes: Vec<Success>,
    /// Trials and successes by operator.
    operators: BTreeMap<String, (f64, f64)>,
}

impl Credit {
    pub(crate) fn new<'a>(
        space: &Space<'_>,
        objectives: &Objectives,
        trials: impl Iterator<Item = &'a Trial>,
        first_step: f64,
        noise: (f64, f64),
    ) -> Self {
        let arm = Arm { step: first_step, n_trials: 0.0, total_gain: 0.0 };
        let mut credit = Self {
            arms: vec![[arm; 2]; space.len()],
            successes: Vec::new(),
            operators: BTreeMap::new(),
        };
        let index: BTreeMap<&str, usize> =
            (0..space.len()).map(|idx| (space.constant(idx).key.as_str(), idx)).collect();
        for trial in trials {
            let grade = grade(objectives, &trial.parent, trial.child.as_ref(), noise);
            credit.take_in(space, &index, trial, grade);
        }
        credit
    }

    fn take_in(
        &mut self,
        space: &Space<'_>,
        index: &BTreeMap<&str, usize>,
        trial: &Trial,
        grade: Grade,
    ) {
        let (n_trials, n_successes) = self.operators.entry(trial.operator.clone()).or_default();
        *n_trials += 1.0;
        *n_successes += f64::from(u8::from(matches!(grade, Grade::Better(_))));
        let moves: Vec<_> = trial
            .changes
            .iter()
            .filter_map(|change| {
                let idx = *index.get(change.name.as_str())?;
                let at = |text: &str| space.setting(idx, text);
                Some((idx, at(&change.from), at(&change.to)))
            })
            .collect();
        // What several constants did together is shared out among them.
        let share = 1.0 / moves.len().max(1) as f64;
        for (idx, from, to) in &moves {
            let direction = usize::from(space.step(*idx, *from, *to) >= 0.0);
            let arm = &mut self.arms[*idx][direction];
            arm.n_trials += share;
            let (gain, factor) = match grade {
                Grade::Better(gain) => (gain, LONGER),
                Grade::Same => (0.0, 1.0),
                Grade::Worse(loss) => (-loss.min(REACHED), SHORTER),
            };
            arm.total_gain += share * gain;
            arm.step = (arm.step * factor.powf(share)).clamp(STEP_RANGE.0, STEP_RANGE.1);
        }
        if let Grade::Better(gain) = grade
            && !moves.is_empty()
        {
            self.successes.push(Success { moves, gain });
        }
    }

    /// How well an operator did, as a factor around 1.
    pub(crate) fn operator_weight(&self, operator: &str) -> f64 {
        let rate = |(n_trials, n_successes): (f64, f64)| (n_successes + 1.0) / (n_trials + 3.0);
        let all = self.operators.values().fold((0.0, 0.0), |sum, n| (sum.0 + n.0, sum.1 + n.1));
        let own = self.operators.get(operator).copied().unwrap_or_default();
        // An operator without a past is as good as the average.
        let smoothed = (rate(own) * (own.0 + 1.0) + 4.0 * rate(all)) / (own.0 + 5.0);
        (smoothed / rate(all)).clamp(0.5, 2.0)
    }
}

/// Orders by merit: `Less` is better, and not being accepted is worst.
pub(crate) fn compare(
    objectives: &Objectives,
    a: Option<&Metrics>,
    b: Option<&Metrics>,
) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => objectives.compare(a, b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}
