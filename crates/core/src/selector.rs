//! Selectors: what owns the population.

use crate::{
    Cost, EnvironmentSpec, Evaluation, Idea, Metrics, Program, ProgramId, Result, Verdict,
};
use serde::{Deserialize, Serialize};

/// Owns the population: archive, islands, migration. Chooses parents and inspirations.
///
/// A selector sees identities and metrics, never sources, so that its cost does not grow with
/// the size of programs. It keeps its state to itself; the host rebuilds it on resume by calling
/// [`Selector::insert`] again in the same order.
pub trait Selector: Send + Sync {
    /// Called once before anything else.
    ///
    /// # Errors
    /// When the environment does not suit the selector.
    fn start(&self, task: &EnvironmentSpec) -> Result<()> {
        let _ = task;
        Ok(())
    }

    /// Takes in an evaluated program. The first one is the reference.
    ///
    /// # Errors
    /// When the value makes no sense to the selector.
    fn insert(&self, standing: &Standing) -> Result<()>;

    /// Chooses the parents of the next `request.count` children.
    ///
    /// # Errors
    /// When the population is empty.
    fn select(&self, request: &Select) -> Result<Vec<Selection>>;

    /// A summary for people: islands, archive size, coverage.
    ///
    /// # Errors
    /// When it cannot be made.
    fn view(&self) -> Result<SelectorView> {
        Ok(SelectorView::default())
    }
}

/// A boxed selector is a selector.
impl<T: Selector + ?Sized> Selector for Box<T> {
    fn start(&self, task: &EnvironmentSpec) -> Result<()> {
        (**self).start(task)
    }
    fn insert(&self, standing: &Standing) -> Result<()> {
        (**self).insert(standing)
    }
    fn select(&self, request: &Select) -> Result<Vec<Selection>> {
        (**self).select(request)
    }
    fn view(&self) -> Result<SelectorView> {
        (**self).view()
    }
}

/// An evaluated program as a mutator sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// The program's identity.
    pub id: ProgramId,
    /// Its source.
    pub program: Program,
    /// How it did on the search slice. Curves of its telemetry are thinned to some dozens of points
    /// each, see [`crate::thinned`].
    pub evaluation: Evaluation,
    /// The idea that made it; `None` for the reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idea: Option<Idea>,
}

/// An evaluated program as a selector sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// The program's identity.
    pub id: ProgramId,
    /// The parent, unless this is the reference.
    pub parent: Option<ProgramId>,
    /// The iteration that made it; 0 for the reference.
    pub iteration: u64,
    /// The island it was selected for, as given in [`Selection::island`].
    pub island: u32,
    /// The outcome.
    pub verdict: Verdict,
    /// What was measured.
    pub metrics: Metrics,
    /// Size of the source in bytes.
    pub bytes: u64,
    /// What the proposal cost.
    #[serde(default)]
    pub cost: Cost,
}

/// A request for parents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Select {
    /// Number of the first child to come, from 1.
    pub iteration: u64,
    /// The generation, from 1.
    pub generation: u64,
    /// How many children.
    pub count: usize,
    /// The seed of all random choices of this call.
    pub seed: u64,
}

/// A parent with its inspirations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The program to change.
    pub parent: ProgramId,
    /// Others worth borrowing from, best first.
    pub inspirations: Vec<ProgramId>,
    /// The island the child belongs to.
    pub island: u32,
}

/// A population in numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SelectorView {
    /// Members per island.
    pub islands: Vec<u64>,
    /// Elites kept.
    pub elites: Vec<ProgramId>,
    /// Occupied share of the feature grid, in `0.0..=1.0`.
    pub coverage: f64,
}
