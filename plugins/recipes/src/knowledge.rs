//! What outcomes teach about the recipes of a library. All of it is bounded.

use crate::{
    Library,
    belief::Belief,
    recipe::{Recipe, Values},
    remembered::Remembered,
};
use forerunner_sdk::{
    Cause, Direction, Metrics, Objective, Objectives, Outcome, ProgramId, Random, Verdict,
};
use serde::{Deserialize, Serialize};

/// Deviations of a normal distribution between which two thirds of it lie.
const TWO_THIRDS: f64 = 0.967;

/// What another value of a parameter than the default, for which a recipe's gain holds, is expected
/// to change: mean and deviation of the log-gain.
const OTHER_VALUE: (f64, f64) = (-0.05, 0.1);

/// Deviation of what a recipe does to the cost per unit of the budget's constant.
const UNIT_COST_DEVIATION: f64 = 0.15;

/// Measured log-gains and log-costs are this uncertain, times the square root of how many recipes
/// they belong to: recipes do not add up exactly.
const GAIN_NOISE: f64 = 0.05;
const UNIT_COST_NOISE: f64 = 0.03;

/// Gains beyond this say no more than that something is very good or bad.
const LARGEST_GAIN: f64 = 1.5;

/// What reaching the leading objective for the first time is worth, where nothing else is known.
const REACHED: f64 = 0.3;

/// A recipe is believed to work as if it had been seen to work so often, and to fail so often.
const WORKED_BEFORE: (f64, f64) = (2.0, 0.15);

/// How heavily a success weighs for each recipe of a proposal, and a failure for all together. What
/// worked once will hardly be to blame for a later failure.
const SUCCESS_WEIGHT: f64 = 10.0;
const FAILURE_WEIGHT: f64 = 2.0;

/// What a failed proposal costs, in log-gain.
const FAILURE_COST: f64 = 0.3;

/// A recipe as it was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Use {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "Values::is_empty")]
    pub(crate) values: Values,
}

/// What travels with a proposal, in the details of its idea, and comes back with its outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Note {
    pub(crate) library: String,
    pub(crate) operator: String,
    /// In the order in which they were applied.
    pub(crate) recipes: Vec<Use>,
    /// Recipes that were taken out.
    pub(crate) removed: Vec<String>,
    pub(crate) child: ProgramId,
    /// The budget's constant, over the parent's.
    pub(crate) factor: f64,
    /// The task's, since outcomes do not repeat them.
    pub(crate) objectives: Objectives,
}

impl Note {
    /// Names the attempt: which recipes, on which parent.
    fn attempt(&self, parent: &ProgramId) -> String {
        let added = self.recipes.iter().map(|used| format!("+{}", used.name));
        let removed = self.removed.iter().map(|name| format!("-{name}"));
        let mut names: Vec<String> = added.chain(removed).collect();
        names.sort();
        format!("{parent} {}", names.join(" "))
    }

    /// Names the attempt with the values of all parameters.
    fn exact_attempt(&self, parent: &ProgramId) -> String {
        let values: Vec<String> = self
            .recipes
            .iter()
            .filter(|used| !used.values.is_empty())
            .map(|used| format!("{}{:?}", used.name, used.values))
            .collect();
        format!("{} {}", self.attempt(parent), values.join(" "))
    }
}

/// Recipes as they may be: one draw from what is believed.
#[derive(Debug, Clone)]
pub(crate) struct World {
    /// Log-gain of each recipe, less what its failures cost.
    pub(crate) scores: Vec<f64>,
    /// The best values of each recipe's parameters.
    pub(crate) values: Vec<Values>,
}

/// What is known.
#[derive(Debug)]
pub(crate) struct Knowledge {
    /// Log-gains of the recipes, then of the values of their parameters, as a difference.
    gains: Belief,
    /// What each recipe does to the logarithm of the cost per unit of the budget's constant.
    unit_costs: Belief,
    /// How often each recipe worked, and failed.
    works: Vec<(f64, f64)>,
    proposed: Remembered,
    attempts: Remembered,
    failures: Remembered,
}

impl Knowledge {
    pub(crate) fn new(library: &Library) -> Self {
        let recipes = &library.recipes;
        let mut gains: Vec<_> = recipes.iter().map(prior).collect();
        for parameter in recipes.iter().flat_map(|recipe| &recipe.parameters) {
            gains.push((0.0, 0.0));
            gains.resize(gains.len() + parameter.values.len() - 1, OTHER_VALUE);
        }
        Self {
            gains: Belief::new(&gains),
            unit_costs: Belief::new(&vec![(0.0, UNIT_COST_DEVIATION); recipes.len()]),
            works: vec![WORKED_BEFORE; recipes.len()],
            proposed: Remembered::default(),
            attempts: Remembered::default(),
            failures: Remembered::default(),
        }
    }

    /// How many programs were proposed, as far as is remembered.
    pub(crate) fn n_proposed(&self) -> usize {
        self.proposed.len()
    }

    /// Whether a proposal would repeat another one, or one that failed.
    pub(crate) fn repeats(&self, parent: &ProgramId, note: &Note) -> bool {
        self.proposed.has(&note.child.0)
            || self.failures.has(&note.attempt(parent))
            || self.attempts.has(&note.exact_attempt(parent))
    }

    /// Remembers a proposal that is being made.
    pub(crate) fn propose(&mut self, parent: &ProgramId, note: &Note) {
        self.proposed.add(note.child.0.clone());
        self.attempts.add(note.exact_attempt(parent));
    }

    /// Takes in what became of a proposal.
    pub(crate) fn observe(&mut self, library: &Library, outcome: &Outcome, note: &Note) {
        self.propose(&outcome.parent, note);
        let Some(sum) = self.sum_of(library, note) else { return };
        let recipes: Vec<(usize, f64)> =
            sum.iter().copied().filter(|(idx, _)| *idx < library.recipes.len()).collect();
        if !outcome.evaluation.is_accepted() {
            // Unverified: it is a hook that could not do its work.
            let [worker, mutator] = [Cause::Worker, Cause::Mutator].map(Verdict::Failed);
            if ![worker, mutator, Verdict::Unverified].contains(&outcome.evaluation.verdict) {
                self.failures.add(note.attempt(&outcome.parent));
                self.blame(&recipes);
            }
            return;
        }
        for (idx, _) in &recipes {
            self.works[*idx].0 += SUCCESS_WEIGHT;
        }
        if recipes.is_empty() || !outcome.parent_evaluation.is_accepted() {
            return;
        }
        let (parent, child) = (&outcome.parent_evaluation.metrics, &outcome.evaluation.metrics);
        let spread = (recipes.len() as f64).sqrt();
        if let Some(gain) = gain(library, &note.objectives, parent, child) {
            let gain = gain.clamp(-LARGEST_GAIN, LARGEST_GAIN);
            self.gains.learn(&sum, gain, GAIN_NOISE * spread);
        }
        let cost = |metrics: &Metrics| {
            metrics.get(&library.budget.as_ref()?.cost).copied().filter(|cost| *cost > 0.0)
        };
        if let (Some(parent), Some(child)) = (cost(parent), cost(child)) {
            let change = (child / parent / note.factor).ln();
            let change = change.clamp(-LARGEST_GAIN, LARGEST_GAIN);
            self.unit_costs.learn(&recipes, change, UNIT_COST_NOISE * spread);
        }
    }

    /// Draws a world; `width` as for [`Belief::draw`].
    pub(crate) fn draw(&self, library: &Library, width: f64, random: &mut Random) -> World {
        let drawn = self.gains.draw(width, random);
        let (mut scores, mut values) = (Vec::new(), Vec::new());
        let mut next = library.recipes.len();
        for (idx, recipe) in library.recipes.iter().enumerate() {
            let (mut gain, mut best_values) = (drawn[idx], Values::new());
            for parameter in &recipe.parameters {
                let effects = &drawn[next..next + parameter.values.len()];
                next += parameter.values.len();
                let best = (0..effects.len()).max_by(|a, b| {
                    // Among equals the first.
                    effects[*a].total_cmp(&effects[*b]).then(b.cmp(a))
                });
                let best = best.unwrap_or_default();
                gain += effects[best];
                best_values.insert(parameter.name.clone(), parameter.values[best].clone());
            }
            let works = self.probability(idx);
            scores.push(works * gain - (1.0 - works) * FAILURE_COST);
            values.push(best_values);
        }
        World { scores, values }
    }

    /// Mean and standard deviation of the log-gain that a proposal is expected to bring.
    pub(crate) fn expected(&self, library: &Library, note: &Note) -> (f64, f64) {
        self.sum_of(library, note).map_or((0.0, 0.0), |sum| self.gains.of(&sum))
    }

    /// Mean and standard deviation of a recipe's log-gain.
    pub(crate) fn gain(&self, idx: usize) -> (f64, f64) {
        self.gains.of(&[(idx, 1.0)])
    }

    /// What a recipe is believed to do to the logarithm of the cost per unit of the constant.
    pub(crate) fn unit_cost(&self, idx: usize) -> f64 {
        self.unit_costs.of(&[(idx, 1.0)]).0
    }

    /// How probably a recipe works at all.
    pub(crate) fn probability(&self, idx: usize) -> f64 {
        let (worked, failed) = self.works[idx];
        worked / (worked + failed)
    }

    /// The effects that a proposal adds up: its recipes and their values. `None` when it names
    /// something that the library does not have.
    fn sum_of(&self, library: &Library, note: &Note) -> Option<Vec<(usize, f64)>> {
        let mut sum = Vec::new();
        for used in &note.recipes {
            let recipe_idx = library.index(&used.name)?;
            sum.push((recipe_idx, 1.0));
            let mut next = library.recipes.len();
            for (idx, recipe) in library.recipes.iter().enumerate() {
                for parameter in &recipe.parameters {
                    if idx == recipe_idx {
                        let value = used.values.get(&parameter.name)?;
                        let known = parameter.values.iter().position(|known| known == value)?;
                        sum.push((next + known, 1.0));
                    }
                    next += parameter.values.len();
                }
            }
        }
        for name in &note.removed {
            sum.push((library.index(name)?, -1.0));
        }
        Some(sum)
    }

    /// Shares a failure out: those that are doubted already get more of it.
    fn blame(&mut self, recipes: &[(usize, f64)]) {
        let doubts: Vec<f64> =
            recipes.iter().map(|(idx, _)| 1.0 - self.probability(*idx)).collect();
        let total: f64 = doubts.iter().sum();
        for ((idx, _), doubt) in recipes.iter().zip(&doubts) {
            self.works[*idx].1 += FAILURE_WEIGHT * doubt / total;
        }
    }
}

/// Mean and standard deviation of the log-gain that a recipe's author expects.
fn prior(recipe: &Recipe) -> (f64, f64) {
    let (low, high) = (-(1.0 - recipe.gain.0).ln(), -(1.0 - recipe.gain.1).ln());
    ((low + high) / 2.0, (high - low) / (2.0 * TWO_THIRDS))
}

/// How much better a child is, as a difference of logarithms: of costs at equal quality where the
/// library has a budget, of the leading objective otherwise.
fn gain(
    library: &Library,
    objectives: &Objectives,
    parent: &Metrics,
    child: &Metrics,
) -> Option<f64> {
    let level = |metrics| library.budget.as_ref()?.level(metrics);
    if let (Some(parent), Some(child)) = (level(parent), level(child)) {
        return Some(parent - child);
    }
    objectives.0.iter().find_map(|objective| {
        match (parent.get(&objective.metric), child.get(&objective.metric)) {
            (Some(parent), Some(child)) => Some(relative_gain(objective, *parent, *child)),
            (None, Some(_)) => Some(REACHED),
            (Some(_), None) => Some(-REACHED),
            (None, None) => None,
        }
    })
}

/// Relative gain of `child` over `parent`: positive is better.
pub(crate) fn relative_gain(objective: &Objective, parent: f64, child: f64) -> f64 {
    let sign = if objective.direction == Direction::Minimize { 1.0 } else { -1.0 };
    let size = parent.abs().max(child.abs());
    sign * if parent > 0.0 && child > 0.0 {
        (parent / child).ln()
    } else if size > 0.0 {
        (parent - child) / size
    } else {
        0.0
    }
}
