//! Operators: which recipes a child gets or loses, and with which budget.

use crate::{
    Library, Status,
    budget::Budget,
    constant::{Constant, Rescaled},
    knowledge::{Knowledge, Note, Use, World, relative_gain},
};
use forerunner_sdk::{Interval, Member, Program, ProgramId, ProposalRequest, Random};

/// How many worlds are drawn in search of a proposal that is new.
const ATTEMPTS: usize = 24;

/// The first proposals believe more in the library's authors than in chance.
const OPENINGS: usize = 4;
const OPENING_WIDTH: f64 = 0.4;

/// How often recipes are combined, in the opening and later.
const COMBINED: (f64, f64) = (0.75, 0.6);

/// How often an inspiration's recipes are taken over, and a bad recipe removed, when there are any.
const RECOMBINED: f64 = 0.3;
const REMOVED: f64 = 0.3;

/// An inspiration that is worse by more than this log-gain is not worth borrowing from.
const ABOUT_AS_GOOD: f64 = 0.05;

/// What a recipe of a good inspiration may seem to cost and still be taken over.
const TOLERATED: f64 = -0.1;

/// A parent that reaches its target with less to spare than this is not trimmed.
const WORTH_TRIMMING: f64 = 0.03;

/// A recipe is removed when it is believed to cost at least this, and not to gain anything.
const CLEARLY_BAD: f64 = -0.03;

/// A proposal that can be made.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) program: Program,
    pub(crate) rescaled: Option<Rescaled>,
    pub(crate) expected_gain: Interval,
    pub(crate) note: Note,
}

/// Recipes that go in or out, and the program that comes of it.
struct Draft {
    operator: &'static str,
    added: Vec<usize>,
    removed: Vec<usize>,
    program: Program,
}

/// Everything that a choice depends on.
pub(crate) struct Chooser<'a> {
    library: &'a Library,
    knowledge: &'a Knowledge,
    request: &'a ProposalRequest,
    most: usize,
    statuses: Vec<Status>,
    present: Vec<bool>,
    /// The recipes of each inspiration that is worth borrowing from.
    others: Vec<Vec<usize>>,
    slack: Option<f64>,
}

impl<'a> Chooser<'a> {
    pub(crate) fn new(
        library: &'a Library,
        knowledge: &'a Knowledge,
        request: &'a ProposalRequest,
        most: usize,
    ) -> Self {
        let parent = &request.parent;
        let statuses = library.statuses(&parent.program);
        let present: Vec<bool> = statuses.iter().map(|status| *status == Status::Present).collect();
        let good = request.inspirations.iter().filter(|other| is_as_good(library, request, other));
        let others = good.map(|other| library.present(&other.program));
        let lacking = |has: Vec<bool>| {
            let lacks = |idx: &usize| has[*idx] && !present[*idx] && library.used[*idx];
            (0..present.len()).filter(lacks).collect()
        };
        let others = others.map(lacking).filter(|others: &Vec<usize>| !others.is_empty()).collect();
        let budget = library.budget.as_ref().filter(|_| parent.evaluation.is_accepted());
        let slack = budget
            .and_then(|budget| budget.slack(&request.task.objectives, &parent.evaluation.metrics));
        Self { library, knowledge, request, most, statuses, present, others, slack }
    }

    /// Whether there is any recipe that this parent could get.
    pub(crate) fn has_any(&self) -> bool {
        let applies =
            |idx: usize| self.library.used[idx] && self.statuses[idx] == Status::Applicable;
        (0..self.statuses.len()).any(applies)
    }

    /// A proposal that was not made before, if there is one.
    pub(crate) fn choose(&self, random: &mut Random) -> Option<Choice> {
        let opening = self.knowledge.n_proposed() < OPENINGS;
        for attempt in 0..ATTEMPTS {
            // Where the first draws are spent, wider ones bring something new.
            let width = if opening && attempt < ATTEMPTS / 2 { OPENING_WIDTH } else { 1.0 };
            let world = self.knowledge.draw(self.library, width, random);
            let draft = self.draft(&world, opening, random);
            if let Some(choice) = draft.and_then(|draft| self.finish(draft, &world)) {
                return Some(choice);
            }
        }
        self.last_resort(&self.knowledge.draw(self.library, 0.0, random))
    }

    fn draft(&self, world: &World, opening: bool, random: &mut Random) -> Option<Draft> {
        let ranked = self.ranked(world);
        let promised: f64 =
            ranked.iter().take(self.most).map(|idx| world.scores[*idx].max(0.0)).sum();
        let slack = self.slack.unwrap_or_default();
        if slack > WORTH_TRIMMING && random.chance(slack / (slack + promised)) {
            return Some(self.rescaling("trim"));
        }
        let bad = self.bad();
        if !bad.is_empty() && random.chance(REMOVED) {
            return self.removal(bad[random.index(bad.len())]);
        }
        if !self.others.is_empty() && random.chance(RECOMBINED) {
            let mut other = self.others[random.index(self.others.len())].clone();
            self.sort(&mut other, world);
            return self.gather("recombine", &other, self.most, TOLERATED, world);
        }
        if self.most >= 2 && random.chance(if opening { COMBINED.0 } else { COMBINED.1 }) {
            let fewer = if opening { 0 } else { random.index(self.most - 1) };
            let combined = self.gather("combine", &ranked, self.most - fewer, 0.0, world);
            if combined.as_ref().is_some_and(|draft| draft.added.len() >= 2) {
                return combined;
            }
        }
        let applies = |idx: &usize| self.statuses[*idx] == Status::Applicable;
        let single: Vec<usize> = ranked.into_iter().filter(applies).take(1).collect();
        self.gather("single", &single, 1, f64::NEG_INFINITY, world)
    }

    /// One recipe after the other, then two, then the budget alone, whatever they promise.
    fn last_resort(&self, world: &World) -> Option<Choice> {
        let ranked = self.ranked(world);
        let gather = |operator, recipes: &[usize]| {
            self.gather(operator, recipes, self.most, f64::NEG_INFINITY, world)
        };
        let singles = ranked.iter().filter_map(|idx| gather("single", &[*idx]));
        let pairs = ranked.iter().enumerate().flat_map(|(rank, second)| {
            ranked[..rank].iter().filter_map(move |first| gather("combine", &[*first, *second]))
        });
        let removals = self.bad().into_iter().filter_map(|idx| self.removal(idx));
        let operator = if self.slack.unwrap_or_default() < 0.0 { "extend" } else { "trim" };
        let rescaling = self.slack.filter(|slack| slack.abs() > WORTH_TRIMMING);
        let rescaling = rescaling.map(|_| self.rescaling(operator));
        let mut drafts = singles.chain(pairs).chain(removals).chain(rescaling);
        drafts.find_map(|draft| self.finish(draft, world))
    }

    /// The recipes in use that the parent lacks, best first.
    fn ranked(&self, world: &World) -> Vec<usize> {
        let lacks = |idx: &usize| self.library.used[*idx] && !self.present[*idx];
        let mut ranked: Vec<usize> = (0..self.present.len()).filter(lacks).collect();
        self.sort(&mut ranked, world);
        ranked
    }

    fn sort(&self, recipes: &mut [usize], world: &World) {
        recipes.sort_by(|a, b| world.scores[*b].total_cmp(&world.scores[*a]));
    }

    /// Applies recipes in turn, each with those that it requires, as far as they promise more
    /// than `least` and apply one after the other, up to `most`.
    fn gather(
        &self,
        operator: &'static str,
        ranked: &[usize],
        most: usize,
        least: f64,
        world: &World,
    ) -> Option<Draft> {
        let mut draft = Draft {
            operator,
            added: Vec::new(),
            removed: Vec::new(),
            program: self.request.parent.program.clone(),
        };
        let mut present = self.present.clone();
        for idx in ranked {
            let mut unit = Vec::new();
            if !self.collect(*idx, &present, &mut unit) {
                continue;
            }
            let score: f64 = unit.iter().map(|idx| world.scores[*idx]).sum();
            if unit.is_empty() || draft.added.len() + unit.len() > most || score <= least {
                continue;
            }
            let (mut program, mut then_present) = (draft.program.clone(), present.clone());
            let applies = unit.iter().all(|idx| {
                let edited =
                    self.library.edited(&program, *idx, &then_present, &world.values[*idx]);
                then_present[*idx] = true;
                edited.map(|edited| program = edited).is_ok()
            });
            if applies {
                draft.added.extend(unit);
                (draft.program, present) = (program, then_present);
            }
        }
        (!draft.added.is_empty()).then_some(draft)
    }

    /// Adds a recipe to `unit`, those that it requires first; `false` when one is not in use, or
    /// requires itself.
    fn collect(&self, idx: usize, present: &[bool], unit: &mut Vec<usize>) -> bool {
        fn visit(
            library: &Library,
            idx: usize,
            present: &[bool],
            open: &mut Vec<usize>,
            unit: &mut Vec<usize>,
        ) -> bool {
            if present[idx] || unit.contains(&idx) {
                return true;
            }
            if !library.used[idx] || open.contains(&idx) {
                return false;
            }
            open.push(idx);
            let mut others = library.recipes[idx].requires.iter();
            let complete = others.all(|name| {
                library.index(name).is_some_and(|idx| visit(library, idx, present, open, unit))
            });
            unit.push(idx);
            complete
        }
        visit(self.library, idx, present, &mut Vec::new(), unit)
    }

    /// Recipes of the parent that seem to cost more than they gain, and that no other one needs.
    fn bad(&self) -> Vec<usize> {
        let needed = |idx: usize| {
            let others = self.library.recipes.iter().zip(&self.present);
            let mut others = others.filter(|(_, present)| **present);
            others.any(|(other, _)| other.requires.contains(&self.library.recipes[idx].name))
        };
        let is_bad = |idx: &usize| {
            let (mean, deviation) = self.knowledge.gain(*idx);
            self.present[*idx] && mean < CLEARLY_BAD && mean + deviation < 0.0 && !needed(*idx)
        };
        (0..self.present.len()).filter(|idx| self.library.used[*idx]).filter(is_bad).collect()
    }

    fn removal(&self, idx: usize) -> Option<Draft> {
        let program = self.library.undone(&self.request.parent.program, idx)?;
        Some(Draft { operator: "remove", added: Vec::new(), removed: vec![idx], program })
    }

    fn rescaling(&self, operator: &'static str) -> Draft {
        let program = self.request.parent.program.clone();
        Draft { operator, added: Vec::new(), removed: Vec::new(), program }
    }

    /// Gives a draft its budget; `None` when it repeats something.
    fn finish(&self, draft: Draft, world: &World) -> Option<Choice> {
        let Draft { operator, added, removed, mut program } = draft;
        let name = |idx: &usize| self.library.recipes[*idx].name.clone();
        let used = |idx: &usize| Use { name: name(idx), values: world.values[*idx].clone() };
        let mut note = Note {
            library: self.library.name.clone(),
            operator: operator.to_owned(),
            recipes: added.iter().map(used).collect(),
            removed: removed.iter().map(name).collect(),
            child: ProgramId::default(),
            factor: 1.0,
            objectives: self.request.task.objectives.clone(),
        };
        let (mean, deviation) = self.knowledge.expected(self.library, &note);
        // Units of the constant get cheaper or dearer; what is gained beyond that is fewer units.
        let unit_costs = |recipes: &[usize]| -> f64 {
            recipes.iter().map(|idx| self.knowledge.unit_cost(*idx)).sum()
        };
        let fewer = mean + unit_costs(&added) - unit_costs(&removed);
        let rescaled = self.rescale(&mut program, fewer);
        note.child = program.id();
        note.factor = rescaled.as_ref().map_or(1.0, |rescaled| rescaled.factor);
        let parent = &self.request.parent;
        let mut members = [parent].into_iter().chain(&self.request.inspirations);
        if members.any(|member| member.id == note.child)
            || self.knowledge.repeats(&parent.id, &note)
        {
            return None;
        }
        // What the parent has to spare is gained as well.
        let spare = if rescaled.is_some() { self.slack.unwrap_or_default().max(0.0) } else { 0.0 };
        let saving = |gain: f64| 1.0 - (-gain).exp();
        let expected_gain = Interval {
            low: saving(mean + spare - deviation),
            high: saving(mean + spare + deviation),
        };
        Some(Choice { program, rescaled, expected_gain, note })
    }

    fn rescale(&self, program: &mut Program, fewer: f64) -> Option<Rescaled> {
        let budget = self.library.budget.as_ref()?;
        if !self.request.parent.evaluation.is_accepted() {
            return None;
        }
        let factor = Budget::factor(self.slack.unwrap_or_default(), fewer);
        Constant::find(program, &budget.constant)?.rescale(program, factor)
    }
}

/// Whether an inspiration is better than the parent, or about as good.
fn is_as_good(library: &Library, request: &ProposalRequest, other: &Member) -> bool {
    if !other.evaluation.is_accepted() {
        return false;
    }
    let (parent, other) = (&request.parent.evaluation.metrics, &other.evaluation.metrics);
    let level = |metrics| library.budget.as_ref()?.level(metrics);
    if let (Some(parent), Some(other)) = (level(parent), level(other)) {
        return other <= parent + ABOUT_AS_GOOD;
    }
    let objectives = &request.task.objectives;
    let near = objectives.leading(parent).is_some_and(|(objective, value)| {
        let other = other.get(&objective.metric);
        other.is_some_and(|other| relative_gain(objective, value, *other) >= -ABOUT_AS_GOOD)
    });
    near || objectives.compare(other, parent).is_lt()
}
