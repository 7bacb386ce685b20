//! The selector: the population behind a lock.

use crate::{Config, population::Population};
use forerunner_sdk::{
    EnvironmentSpec, Error, Result, Select, Selection, Selector, SelectorView, Standing,
};
use std::sync::{Mutex, PoisonError};

pub use crate::population::Counts;

/// The selector `islands`. See the crate's page for what it does.
///
/// # Examples
///
/// ```
/// use forerunner_sdk::*;
/// use forerunner_islands::{Config, Islands};
///
/// let task = EnvironmentSpec::new("toy")
///     .objective(Objective::minimize("seconds", "s"))
///     .reference(Program::single("main.rs", "fn main() {}"));
/// let islands = Islands::new(Config::default())?;
/// islands.start(&task)?;
/// // Before the reference has been accepted there is no parent.
/// let request = Select { iteration: 1, generation: 1, count: 2, seed: 7 };
/// assert!(islands.select(&request).is_err());
/// islands.insert(&Standing {
///     id: task.reference.id(),
///     parent: None,
///     iteration: 0,
///     island: 0,
///     verdict: Verdict::Accepted,
///     metrics: Metrics::from([("seconds".to_owned(), 9.0)]),
///     bytes: 12,
///     cost: Cost::default(),
/// })?;
/// let selections = islands.select(&request)?;
/// assert_eq!(selections[0].parent, task.reference.id());
/// assert_eq!((selections[0].island, selections[1].island), (0, 1));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct Islands {
    config: Config,
    population: Mutex<Option<Population>>,
}

impl Islands {
    /// The selector with its configuration.
    ///
    /// # Errors
    /// When a value is out of range.
    pub fn new(config: Config) -> Result<Self> {
        Ok(Self { config: config.validated()?, population: Mutex::new(None) })
    }

    /// How many programs were inserted since the start, by outcome.
    pub fn counts(&self) -> Counts {
        self.with(|population| Ok(population.counts())).unwrap_or_default()
    }

    fn with<T>(&self, work: impl FnOnce(&mut Population) -> Result<T>) -> Result<T> {
        // A panic in an earlier call was reported by the host; the population itself is only
        // changed by steps that do not panic half-way.
        let mut population = self.population.lock().unwrap_or_else(PoisonError::into_inner);
        match population.as_mut() {
            Some(population) => work(population),
            None => Err(Error::Failed("the selector was used before it was started".into())),
        }
    }
}

impl Selector for Islands {
    fn start(&self, task: &EnvironmentSpec) -> Result<()> {
        let population = Population::new(self.config.clone(), task)?;
        *self.population.lock().unwrap_or_else(PoisonError::into_inner) = Some(population);
        Ok(())
    }

    fn insert(&self, standing: &Standing) -> Result<()> {
        self.with(|population| {
            population.insert(standing);
            Ok(())
        })
    }

    fn select(&self, request: &Select) -> Result<Vec<Selection>> {
        self.with(|population| population.select(request))
    }

    fn view(&self) -> Result<SelectorView> {
        self.with(|population| Ok(population.view()))
    }
}
