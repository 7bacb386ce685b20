//! The population: islands, archive, migration. Grows by insertion alone.

use crate::{
    Config,
    grid::Grid,
    island::Island,
    ranking::{Archive, Entry, order},
};
use forerunner_sdk::{
    EnvironmentSpec, Error, Metrics, Objectives, Random, Result, Select, Selection, SelectorView,
    Standing, Verdict,
};
use std::sync::Arc;

/// How many random draws an inspiration may take before it is given up: the draw may hit the
/// parent or one that is already chosen.
const DRAWS_PER_INSPIRATION: usize = 4;

/// Everything the selector knows.
#[derive(Debug)]
pub(crate) struct Population {
    config: Config,
    objectives: Objectives,
    grid: Grid,
    islands: Vec<Island>,
    archive: Archive,
    counts: Counts,
}

/// How many programs were inserted, by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Measured and believed.
    pub accepted: u64,
    /// Measured and refused by a rule.
    pub rejected: u64,
    /// Not measurable.
    pub failed: u64,
}

impl Counts {
    /// All of them.
    pub fn inserted(self) -> u64 {
        self.accepted + self.rejected + self.failed
    }
}

impl Population {
    pub(crate) fn new(config: Config, task: &EnvironmentSpec) -> Result<Self> {
        if task.objectives.0.is_empty() {
            return Err(Error::Failed(format!("environment `{}` has no objective", task.name)));
        }
        let grid = Grid::new(&task.features, config.size_bins, task.reference.len_bytes())?;
        let islands = (0..config.islands).map(|_| Island::default()).collect();
        let archive = Archive::new(config.elites);
        let objectives = task.objectives.clone();
        Ok(Self { config, objectives, grid, islands, archive, counts: Counts::default() })
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn insert(&mut self, standing: &Standing) {
        match standing.verdict {
            Verdict::Accepted => {
                self.counts.accepted += 1;
                self.admit(standing);
            }
            Verdict::Rejected | Verdict::Unverified => self.counts.rejected += 1,
            Verdict::Failed(_) => self.counts.failed += 1,
        }
        let every = self.config.migration_every;
        if every > 0 && self.counts.inserted().is_multiple_of(every) {
            self.migrate();
        }
    }

    fn admit(&mut self, standing: &Standing) {
        let entry = Arc::new(Entry {
            id: standing.id.clone(),
            iteration: standing.iteration,
            cell: self.grid.cell(&standing.metrics, standing.bytes),
            metrics: self.objective_metrics(&standing.metrics),
        });
        let (objectives, capacity) = (&self.objectives, self.config.capacity);
        self.archive.offer(objectives, &entry);
        let home = standing.island as usize % self.islands.len();
        for (idx, island) in self.islands.iter_mut().enumerate() {
            // A program without a parent is the reference: every island starts from it.
            if idx == home || standing.parent.is_none() {
                island.offer(objectives, &entry, capacity);
            }
        }
    }

    fn objective_metrics(&self, metrics: &Metrics) -> Metrics {
        let named = self.objectives.0.iter().filter_map(|o| metrics.get_key_value(&o.metric));
        named.map(|(name, value)| (name.clone(), *value)).collect()
    }

    /// Copies the best of every island to the next one of the ring.
    fn migrate(&mut self) {
        let share = self.config.migration_share;
        if self.islands.len() < 2 || share == 0.0 {
            return;
        }
        let leaving = |island: &Island| {
            let members = island.members();
            let n = (members.len() as f64 * share).ceil() as usize;
            members[..n.min(members.len())].to_vec()
        };
        // All travellers are chosen before any arrives.
        let travellers: Vec<_> = self.islands.iter().map(leaving).collect();
        for (idx, group) in travellers.iter().enumerate() {
            let target = (idx + 1) % self.islands.len();
            for entry in group {
                self.islands[target].offer(&self.objectives, entry, self.config.capacity);
            }
        }
    }

    pub(crate) fn select(&self, request: &Select) -> Result<Vec<Selection>> {
        if self.archive.entries().is_empty() {
            let counts = self.counts;
            return Err(Error::Failed(format!(
                "no accepted program to select a parent from ({} failed, {} rejected)\n\
                 hint: the reference program must be accepted; evaluate it alone to see why it is not",
                counts.failed, counts.rejected
            )));
        }
        let mut random = Random::new(request.seed);
        let first = request.iteration.saturating_sub(1);
        let islands = self.islands.len() as u64;
        let child_island = |child_idx: u64| ((first % islands) + child_idx) % islands;
        Ok((0..request.count as u64)
            .map(|child_idx| self.select_one(child_island(child_idx) as u32, &mut random))
            .collect())
    }

    fn select_one(&self, island: u32, random: &mut Random) -> Selection {
        let parent = self.parent(island, random);
        let inspirations = self.inspirations(island, &parent, random);
        Selection {
            parent: parent.id.clone(),
            inspirations: inspirations.iter().map(|entry| entry.id.clone()).collect(),
            island,
        }
    }

    fn parent(&self, island: u32, random: &mut Random) -> Arc<Entry> {
        let draw = random.unit();
        let members = self.members_or_elites(island);
        let elites = self.archive.entries();
        let Config { exploration, exploitation, pressure, .. } = self.config;
        if draw < exploration {
            Arc::clone(&members[random.index(members.len())])
        } else if draw < exploration + exploitation {
            Arc::clone(&elites[random.ranked(elites.len(), pressure)])
        } else {
            Arc::clone(&members[random.ranked(members.len(), pressure)])
        }
    }

    /// The best elite, then by turns one from the island (any), one from the elites (by rank) and one
    /// from another island (any), where there is one.
    fn inspirations(&self, island: u32, parent: &Entry, random: &mut Random) -> Vec<Arc<Entry>> {
        let wanted = self.config.inspirations;
        let mut chosen: Vec<Arc<Entry>> = Vec::with_capacity(wanted);
        let members = self.members_or_elites(island);
        let elites = self.archive.entries();
        let others: Vec<usize> = (0..self.islands.len())
            .filter(|other| *other != island as usize && !self.islands[*other].members().is_empty())
            .collect();
        let best = elites.iter().take(2).find(|entry| entry.id != parent.id);
        chosen.extend(best.filter(|_| wanted > 0).cloned());
        for draw_idx in 0..wanted * DRAWS_PER_INSPIRATION {
            if chosen.len() >= wanted {
                break;
            }
            let turns = if others.is_empty() { 2 } else { 3 };
            let entry = match draw_idx % turns {
                0 => &members[random.index(members.len())],
                1 => &elites[random.ranked(elites.len(), self.config.pressure)],
                _ => {
                    let strangers = self.islands[others[random.index(others.len())]].members();
                    &strangers[random.index(strangers.len())]
                }
            };
            if entry.id != parent.id && chosen.iter().all(|other| other.id != entry.id) {
                chosen.push(Arc::clone(entry));
            }
        }
        chosen.sort_by(|a, b| order(&self.objectives, a, b));
        chosen
    }

    fn members_or_elites(&self, island: u32) -> &[Arc<Entry>] {
        let members = self.islands[island as usize].members();
        if members.is_empty() { self.archive.entries() } else { members }
    }

    pub(crate) fn view(&self) -> SelectorView {
        let islands: Vec<u64> =
            self.islands.iter().map(|island| island.members().len() as u64).collect();
        let occupied: u64 = islands.iter().sum();
        let cells = self.grid.n_cells() as f64 * islands.len() as f64;
        SelectorView {
            islands,
            elites: self.archive.entries().iter().map(|entry| entry.id.clone()).collect(),
            coverage: occupied as f64 / cells,
        }
    }
}
