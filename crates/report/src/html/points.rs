//! Evaluations as marks on plots: which ones are drawn, and what each says of itself.

use super::{
    markup::{Element, el},
    material::Material,
    plot::Place,
    search::{Trial, as_number},
    text::line,
};
use crate::gain::{against_reference, reading};
use crate::number::duration;
use forerunner_core::{ProgramId, Verdict};
use forerunner_runtime::store::{Store, StoreError, StoredIteration};
use std::collections::{BTreeMap, BTreeSet};

/// Evaluations that are drawn in a plot; of more, the important ones and every n-th of the others.
pub(crate) const MAX_DRAWN: usize = 1000;
/// Of each kind of important ones.
const MAX_IMPORTANT: usize = 200;
/// Characters of an idea and of a name.
const IDEA: usize = 100;
const NAME: usize = 40;

/// What is drawn of the evaluations, with their words.
#[derive(Default)]
pub(crate) struct Points {
    /// By index into [`Material::trials`].
    words: BTreeMap<usize, String>,
    /// The iteration that first made a program, among the drawn ones.
    made: BTreeMap<u64, u64>,
    pub(crate) lineage: BTreeSet<u64>,
    frontier: BTreeSet<u64>,
    winner: Option<u64>,
}

impl Points {
    /// Chooses what is drawn and reads what it says.
    ///
    /// # Errors
    /// When the store is damaged.
    pub(crate) fn read(store: &Store, material: &Material) -> Result<Self, StoreError> {
        let number = |(id, _): &(ProgramId, _)| as_number(id);
        let mut points = Self {
            lineage: material.lineage(),
            frontier: material.summary.frontier.iter().filter_map(number).collect(),
            winner: material.winner.as_ref().and_then(|winner| as_number(&winner.id)),
            ..Self::default()
        };
        let trials = &material.trials;
        for index in points.chosen(trials) {
            let Some(stored) = store.iteration(trials[index].iteration)? else { continue };
            points.words.insert(index, words(material, &trials[index], &stored));
            if let (Some(program), Verdict::Accepted) =
                (trials[index].program, trials[index].verdict)
            {
                let first = points.made.entry(program).or_insert(trials[index].iteration);
                *first = trials[index].iteration.min(*first);
            }
        }
        Ok(points)
    }

    fn chosen(&self, trials: &[Trial]) -> BTreeSet<usize> {
        if trials.len() <= MAX_DRAWN {
            return (0..trials.len()).collect();
        }
        let of = |is_kind: &dyn Fn(&Trial) -> bool| {
            let kind: Vec<usize> = (0..trials.len()).filter(|i| is_kind(&trials[*i])).collect();
            spread(&kind, MAX_IMPORTANT)
        };
        let mut chosen: BTreeSet<usize> = of(&|trial| self.lineage.contains(&trial.iteration));
        chosen.extend(of(&|trial| self.is_on_frontier(trial)));
        chosen.extend(of(&|trial| trial.is_best));
        let others: Vec<usize> =
            (0..trials.len()).filter(|index| !chosen.contains(index)).collect();
        chosen.extend(spread(&others, MAX_DRAWN - chosen.len()));
        chosen
    }

    /// The drawn ones, the important ones last, so that they lie on top.
    pub(crate) fn drawn<'a>(
        &'a self,
        material: &'a Material,
    ) -> impl Iterator<Item = (usize, &'a Trial)> {
        let of = move |rank: u8| {
            let all = self.words.keys().map(|index| (*index, &material.trials[*index]));
            all.filter(move |(_, trial)| self.rank(trial) == rank)
        };
        (0..=3).flat_map(of)
    }

    fn rank(&self, trial: &Trial) -> u8 {
        match () {
            () if self.is_winner(trial) => 3,
            () if self.lineage.contains(&trial.iteration) => 2,
            () if self.is_on_frontier(trial) || trial.is_best => 1,
            () => 0,
        }
    }

    pub(crate) fn is_on_frontier(&self, trial: &Trial) -> bool {
        !trial.duplicate && trial.program.is_some_and(|program| self.frontier.contains(&program))
    }

    pub(crate) fn is_winner(&self, trial: &Trial) -> bool {
        !trial.duplicate && trial.program.is_some() && trial.program == self.winner
    }

    /// A sentence when not all evaluations are drawn.
    pub(crate) fn left_out(&self, material: &Material) -> Option<String> {
        let (drawn, all) = (self.words.len(), material.trials.len());
        (drawn < all).then(|| {
            format!(
                "{} of {} evaluations, the reference among them, are drawn: lineage, frontier and bests, and an even \
                 selection of the others.",
                crate::number(drawn as f64),
                crate::number(all as f64)
            )
        })
    }

    /// The mark of an evaluation, which the script finds by its number.
    pub(crate) fn mark(&self, index: usize, trial: &Trial, place: Place) -> Element {
        let size = if self.rank(trial) > 1 { 5.5 } else { 4.0 };
        let mark = el("circle").attr("cx", place.left()).attr("cy", place.top()).attr("r", size);
        self.named(mark, index, trial)
    }

    /// The mark of an evaluation without a place, in a lane so many pixels from the upper edge.
    pub(crate) fn mark_in_lane(&self, index: usize, trial: &Trial, x: f64, lane: i64) -> Element {
        let x = super::plot::percent(x);
        let mark = match trial.verdict {
            Verdict::Accepted => el("circle").attr("cx", x).attr("cy", lane).attr("r", 3.5),
            _ => el("use").attr("href", "#cross").attr("x", x).attr("y", lane),
        };
        self.named(mark, index, trial)
    }

    fn named(&self, mark: Element, index: usize, trial: &Trial) -> Element {
        let mut classes = match trial.verdict {
            Verdict::Accepted => "ev".to_owned(),
            _ => "ev failed".to_owned(),
        };
        let kinds = [
            (trial.iteration == 0, " reference"),
            (self.is_on_frontier(trial), " front"),
            (self.lineage.contains(&trial.iteration) && trial.iteration > 0, " line"),
            (self.is_winner(trial), " winner"),
        ];
        kinds.iter().filter(|(is, _)| *is).for_each(|(_, class)| classes.push_str(class));
        let mark = mark.class(&classes).attr("data-i", trial.iteration);
        // The script follows these to show where a program came from.
        let parent = trial.parent.and_then(|parent| self.made.get(&parent));
        let mark = match parent {
            Some(parent) => mark.attr("data-from", parent),
            None => mark,
        };
        let words = self.words.get(&index).map_or("", String::as_str);
        mark.with(el("title").text(words))
    }
}

/// At most so many, evenly.
fn spread(from: &[usize], most: usize) -> BTreeSet<usize> {
    let n = from.len();
    if n <= most {
        return from.iter().copied().collect();
    }
    (0..most).map(|index| from[index * n / most]).collect()
}

/// What a mark says: which evaluation, what was measured, the idea.
fn words(material: &Material, trial: &Trial, stored: &StoredIteration) -> String {
    let made = &stored.iteration;
    let id = made.program.as_ref().map_or("no program", |id| id.short());
    let mut words = if made.iteration == 0 {
        format!("reference {id}")
    } else {
        format!("#{} {id}, by {}", made.iteration, line(&made.mutator, NAME))
    };
    let metrics = &stored.evaluation.metrics;
    let measured = match stored.evaluation.verdict {
        Verdict::Accepted if made.iteration == 0 => {
            against_reference(&material.objectives, metrics, None)
        }
        Verdict::Accepted => {
            against_reference(&material.objectives, metrics, Some(&material.summary.reference))
        }
        verdict => crate::evaluation::verdict(verdict),
    };
    words.push('\n');
    words.push_str(&measured);
    let leading = material.objectives.leading(metrics).map(|(objective, _)| &objective.metric);
    for objective in &material.axes {
        if Some(&objective.metric) != leading
            && let Some(value) = metrics.get(&objective.metric)
        {
            words.push('\n');
            words.push_str(&reading(objective, *value));
        }
    }
    let idea = line(&made.idea.summary, IDEA);
    if made.iteration > 0 && !idea.is_empty() {
        words.push('\n');
        words.push_str(&idea);
    }
    let mut about = format!("\ngeneration {}", made.generation);
    if trial.at.is_finite() {
        about.push_str(&format!(", complete after {}", duration(trial.at)));
    }
    if trial.duplicate {
        about.push_str(", a program measured before");
    }
    words + &about
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_even_and_keeps_short_lists() {
        assert_eq!(spread(&[3, 5, 9], 3), [3, 5, 9].into());
        let all: Vec<usize> = (0..100).collect();
        assert_eq!(spread(&all, 4), [0, 25, 50, 75].into());
        assert!(spread(&all, 0).is_empty());
    }
}
