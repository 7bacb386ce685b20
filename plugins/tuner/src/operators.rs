//! Operators: ways to suggest a child.

use crate::{
    credit::{Credit, Success},
    space::{Setting, Space},
};
use forerunner_sdk::Random;

/// A suggested child.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Suggestion {
    pub(crate) operator: &'static str,
    pub(crate) settings: Vec<Setting>,
}

/// What operators draw on.
pub(crate) struct Operators<'a> {
    pub(crate) space: &'a Space<'a>,
    pub(crate) credit: &'a Credit,
    /// Settings of other good programs, best first.
    pub(crate) others: &'a [Vec<Setting>],
}

/// Standard deviation of the logarithm of a step around the length that was learnt.
const STEP_SPREAD: f64 = 0.3;

/// Standard deviation of a refinement, in units of the step's length.
const REFINEMENT: f64 = 0.4;

/// How far from the parent a refinement may lead, in units of the step's length.
const TRUST: f64 = 2.0;

impl Operators<'_> {
    /// One suggestion from an operator drawn at random. It may equal the parent or break rules.
    pub(crate) fn suggest(&self, random: &mut Random) -> Suggestion {
        let successes = f64::from(u8::from(!self.credit.successes.is_empty()));
        let others = f64::from(u8::from(!self.others.is_empty()));
        let several = f64::from(u8::from(self.space.len() > 1));
        match random.weighted(&[2.0, 3.0 * several, 2.0 * successes, others, others]) {
            0 => self.perturb(1, "perturb", random),
            1 => {
                let most = self.space.len().min(5);
                let n = 2 + random.index(most.max(2) - 1);
                self.perturb(n, "perturb several", random)
            }
            2 => self.repeat(random),
            3 => self.exchange(random),
            _ => self.difference(random),
        }
    }

    /// A suggestion near `base`: one constant moved a little, or put back as in the parent.
    pub(crate) fn refine(&self, base: &Suggestion, random: &mut Random) -> Suggestion {
        let mut settings = base.settings.clone();
        let moved: Vec<usize> =
            (0..settings.len()).filter(|idx| settings[*idx] != self.space.parent[*idx]).collect();
        if moved.len() > 1 && random.chance(0.25) {
            let idx = moved[random.index(moved.len())];
            settings[idx] = self.space.parent[idx];
        } else if moved.len() == settings.len() || (!moved.is_empty() && random.chance(0.6)) {
            let idx = moved[random.index(moved.len())];
            let step = REFINEMENT * self.credit.arms[idx][0].step * random.normal();
            let moved = self.space.moved(idx, settings[idx], step);
            if self.is_trusted(idx, moved, settings[idx]) {
                settings[idx] = moved;
            }
        } else {
            let (idx, up) = self.arm(&moved, random);
            settings[idx] = self.step(idx, up, settings[idx], random);
        }
        Suggestion { operator: base.operator, settings }
    }

    /// Whether a refined setting stays within reach of the parent, or comes back towards it. The
    /// surrogate knows little far away, and little known looks like much to gain.
    fn is_trusted(&self, idx: usize, refined: Setting, before: Setting) -> bool {
        let step = self.space.step(idx, self.space.parent[idx], refined);
        let step_before = self.space.step(idx, self.space.parent[idx], before);
        let length = self.credit.arms[idx][usize::from(step >= 0.0)].step;
        step.abs() <= (TRUST * length).max(step_before.abs())
    }

    /// `n` constants moved, those that promise most first.
    fn perturb(&self, n: usize, operator: &'static str, random: &mut Random) -> Suggestion {
        let mut settings = self.space.parent.clone();
        let mut moved = Vec::with_capacity(n);
        for _ in 0..n.min(self.space.len()) {
            let (idx, up) = self.arm(&moved, random);
            settings[idx] = self.step(idx, up, settings[idx], random);
            moved.push(idx);
        }
        Suggestion { operator, settings }
    }

    /// A success repeated from here, longer or shorter, perhaps together with another one.
    fn repeat(&self, random: &mut Random) -> Suggestion {
        let mut settings = self.space.parent.clone();
        let successes = &self.credit.successes;
        let gains: Vec<f64> = successes.iter().map(|success| success.gain).collect();
        let n = 1 + random.index(successes.len().min(3));
        let mut combined = false;
        for _ in 0..n {
            let success = &successes[random.weighted(&gains)];
            let stretch = random.between(0.5, 1.5);
            combined |= self.is_new(success, &settings);
            self.apply(success, stretch, &mut settings);
        }
        let operator = if combined && n > 1 { "combine" } else { "extrapolate" };
        Suggestion { operator, settings }
    }

    fn is_new(&self, success: &Success, settings: &[Setting]) -> bool {
        success.moves.iter().any(|(idx, _, to)| settings[*idx] != *to)
    }

    fn apply(&self, success: &Success, stretch: f64, settings: &mut [Setting]) {
        for (idx, from, to) in &success.moves {
            settings[*idx] = match to {
                Setting::Option(_) => *to,
                Setting::Number(_) => {
                    let step = stretch * self.space.step(*idx, *from, *to);
                    self.space.moved(*idx, settings[*idx], step)
                }
            };
        }
    }

    /// Some constants as they are in another good program.
    fn exchange(&self, random: &mut Random) -> Suggestion {
        let mut settings = self.space.parent.clone();
        let other = &self.others[random.index(self.others.len())];
        let mut differing: Vec<usize> =
            (0..settings.len()).filter(|idx| settings[*idx] != other[*idx]).collect();
        while !differing.is_empty() {
            let idx = differing.swap_remove(random.index(differing.len()));
            settings[idx] = other[idx];
            if random.chance(0.4) {
                break;
            }
        }
        Suggestion { operator: "crossover", settings }
    }

    /// The scaled difference of two programs, added to the parent (differential evolution).
    fn difference(&self, random: &mut Random) -> Suggestion {
        let mut settings = self.space.parent.clone();
        let n = self.others.len();
        let first_idx = random.index(n);
        // The second may be the parent itself: a step towards or away from the first.
        let second_idx = (first_idx + 1 + random.index(n)) % (n + 1);
        let at = |idx: usize| self.others.get(idx).unwrap_or(&self.space.parent);
        let (to, from) = (at(first_idx), at(second_idx));
        let stretch = random.between(0.4, 1.2);
        for (idx, setting) in settings.iter_mut().enumerate() {
            let step = stretch * self.space.step(idx, from[idx], to[idx]);
            if step != 0.0 {
                *setting = self.space.moved(idx, *setting, step);
            } else if from[idx] != to[idx] && random.chance(0.5) {
                *setting = to[idx];
            }
        }
        Suggestion { operator: "difference", settings }
    }

    /// A constant and a direction, by promise.
    fn arm(&self, excluded: &[usize], random: &mut Random) -> (usize, bool) {
        let weight = |idx: usize, up: bool| {
            if excluded.contains(&idx) || (!up && self.space.n_options(idx) > 0) {
                return 0.0;
            }
            self.credit.arms[idx][usize::from(up)].promise()
        };
        let weights: Vec<f64> =
            (0..2 * self.space.len()).map(|n| weight(n / 2, n % 2 == 1)).collect();
        // With everything excluded, any will do.
        let n = random.weighted(&weights);
        (n / 2, n % 2 == 1)
    }

    fn step(&self, idx: usize, up: bool, from: Setting, random: &mut Random) -> Setting {
        let n_options = self.space.n_options(idx);
        if n_options > 0 {
            return Setting::Option(random.index(n_options));
        }
        let length = self.credit.arms[idx][usize::from(up)].step;
        let length = length * (STEP_SPREAD * random.normal()).exp();
        self.space.moved(idx, from, if up { length } else { -length })
    }
}
