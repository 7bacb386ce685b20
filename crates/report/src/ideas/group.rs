//! Ideas in groups, and what models cost.

use super::{CONFIDENCE, Ideas, SUBMISSION, Tried, is_failure};
use forerunner_core::Cost;
use forerunner_runtime::store::StoredCall;
use forerunner_stats::{Calibration, Estimate, Proportion, wilson};
use std::collections::BTreeMap;

/// A way to group ideas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// By the mutator that proposed them.
    Mutator,
    /// By the model whose ideas they are.
    Model,
    /// By the way they came about.
    Stage,
    /// By island.
    Island,
}

impl By {
    /// All ways, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Mutator, Self::Model, Self::Stage, Self::Island];

    /// The name in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mutator => "mutator",
            Self::Model => "model",
            Self::Stage => "stage",
            Self::Island => "island",
        }
    }

    /// The group of an idea; empty where there is none.
    pub(super) fn of(self, tried: &Tried) -> String {
        match self {
            Self::Mutator => tried.mutator.clone(),
            Self::Model => tried.model.clone(),
            Self::Stage => tried.idea.stage.clone(),
            Self::Island => tried.island.to_string(),
        }
    }
}

/// Ideas that have something in common.
pub(super) struct Group<'a> {
    pub(super) name: String,
    pub(super) tried: Vec<&'a Tried>,
}

impl Group<'_> {
    /// Share of the ideas that pass a test.
    pub(super) fn share(&self, test: fn(&Tried) -> bool) -> Option<Proportion> {
        let passed = self.tried.iter().filter(|one| test(one)).count() as u64;
        wilson(passed, self.tried.len() as u64, CONFIDENCE)
    }

    pub(super) fn calibration(&self) -> Option<Calibration> {
        Ideas::calibration(&self.tried)
    }
}

/// The groups by name; numbers count as such.
pub(super) fn groups<'a>(named: impl Iterator<Item = (String, &'a Tried)>) -> Vec<Group<'a>> {
    let mut groups: BTreeMap<(u64, String), Vec<&Tried>> = BTreeMap::new();
    for (name, tried) in named {
        groups.entry((name.parse().unwrap_or(0), name)).or_default().push(tried);
    }
    groups.into_iter().map(|((_, name), tried)| Group { name, tried }).collect()
}

/// What a model was asked, what it cost, and what its ideas gained.
#[derive(Default)]
pub(crate) struct ModelUse {
    pub(crate) model: String,
    pub(crate) calls: u64,
    pub(crate) failures: u64,
    pub(crate) cost: Cost,
    /// Wall seconds of all calls.
    pub(crate) seconds: f64,
    /// Sum of the gains of its ideas over their parents, losses left out.
    pub(crate) gained: f64,
    /// Every gain of its ideas over their parents, losses included.
    gains: Vec<f64>,
}

impl ModelUse {
    /// The mean gain of its ideas, losses included; `None` without any that was measured.
    pub(crate) fn mean_gain(&self) -> Option<Estimate> {
        Estimate::of_mean(&self.gains, CONFIDENCE)
    }

    /// Gain for a dollar; `None` when it cost nothing.
    pub(crate) fn gain_per_dollar(&self) -> Option<f64> {
        (self.cost.dollars > 0.0).then(|| self.gained / self.cost.dollars)
    }

    /// Gain for 1,000 tokens in and out; `None` without tokens.
    pub(crate) fn gain_per_1000_tokens(&self) -> Option<f64> {
        let tokens = self.cost.tokens_in.saturating_add(self.cost.tokens_out);
        (tokens > 0).then(|| self.gained / (tokens as f64 / 1000.0))
    }
}

/// Every model that was called or had an idea, by name. A model is credited with the gains of its
/// ideas, whoever wrote them down as programs. Submissions are no calls: the credit is their client's.
pub(crate) fn models(calls: &[StoredCall], tried: &[Tried]) -> Vec<ModelUse> {
    let mut models: BTreeMap<&str, ModelUse> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.call.purpose != SUBMISSION) {
        let model = models.entry(&call.call.model).or_default();
        model.calls += 1;
        model.failures += u64::from(is_failure(call));
        model.cost += call.answer.cost;
        model.seconds += call.answer.seconds;
    }
    for one in tried.iter().filter(|one| !one.model.is_empty()) {
        let model = models.entry(&one.model).or_default();
        model.gained += one.gain.unwrap_or(0.0).max(0.0);
        model.gains.extend(one.gain);
    }
    let named = |(name, model): (&str, ModelUse)| ModelUse { model: name.to_owned(), ..model };
    models.into_iter().map(named).collect()
}
