//! The mutator: what is remembered, behind a lock, and how a proposal comes about.

use crate::{
    Config,
    credit::{Credit, compare},
    hash::Hash,
    history::{History, Move, Note},
    judge::{Judge, Known, Promise},
    operators::{Operators, Suggestion},
    source::{self, Scan},
    space::{Setting, Space, Values},
    surrogate::Point,
};
use forerunner_sdk::{
    Change, Cost, Error, Host, Idea, Interval, Member, Mutator, Outcome, ProgramId, Proposal,
    ProposalRequest, Random, Result,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

/// How many measured programs a surrogate learns from: the best, and the latest.
const MAX_POINTS: usize = 32;
const MAX_BEST_POINTS: usize = 12;

/// From how many of the latest trials credit is drawn.
const MAX_TRIALS: usize = 64;

/// How many open proposals it takes into account, latest first.
const MAX_OPEN_POINTS: usize = 16;

/// How many scans are kept, so that a parent or inspiration is read once, not each time.
const MAX_SCANS: usize = 64;

/// Share of the candidates that refine the best one so far.
const REFINED_SHARE: f64 = 0.5;

/// How often a suggestion that was made before is replaced by another, per candidate.
const ATTEMPTS_PER_CANDIDATE: usize = 4;

/// How many proposals open a search.
const OPENINGS: usize = 2;

/// How many changes a summary spells out.
const MAX_SPELT_OUT: usize = 4;

/// The mutator `tuner`. See the crate's page for what it does.
#[derive(Debug)]
pub struct Tuner {
    config: Config,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    history: History,
    /// With the number of the look-up that asked for it last.
    scans: BTreeMap<ProgramId, (u64, Arc<Scan>)>,
    n_lookups: u64,
}

impl Tuner {
    /// The mutator with its configuration.
    ///
    /// # Errors
    /// When a value is out of range.
    pub fn new(config: Config) -> Result<Self> {
        Ok(Self { config: config.validated()?, state: Mutex::default() })
    }

    fn noise(&self) -> (f64, f64) {
        (self.config.noise, self.config.noise_secondary)
    }
}

impl Mutator for Tuner {
    fn propose(&self, request: &ProposalRequest, _host: &dyn Host) -> Result<Proposal> {
        // A panic in an earlier call was reported by the host; what is remembered stays usable.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let scan = state.scan(&request.parent);
        if scan.constants.is_empty() {
            return Err(nothing_to_tune(&scan));
        }
        let space = Space::new(&scan);
        let inspirations: Vec<(&Member, Arc<Scan>)> =
            request.inspirations.iter().map(|member| (member, state.scan(member))).collect();
        let known = known(request, &scan, &space, &inspirations, &state.history);
        let open: Vec<Point> = state
            .history
            .open()
            .take(MAX_OPEN_POINTS)
            .map(|(skeleton, values)| point(&space, &space.settings(values), *skeleton))
            .collect();
        let objectives = &request.task.objectives;
        let judge = Judge::new(objectives, &known, &open, self.noise());
        let trials = state.history.latest_trials(MAX_TRIALS);
        let credit = Credit::new(&space, objectives, trials, self.config.step, self.noise());
        let others: Vec<Vec<Setting>> =
            inspirations.iter().map(|(_, scan)| space.settings(&values(scan))).collect();
        let operators = Operators { space: &space, credit: &credit, others: &others };
        let search = Search { space: &space, scan: &scan, operators, judge, credit: &credit };
        let mut random = Random::new(request.seed);
        let (suggestion, promise) = search
            .best(&state.history, most_moves(&known), self.config.candidates, &mut random)
            .ok_or_else(|| exhausted(&space))?;
        let note = search.note(&suggestion);
        let proposal = proposal(request, &space, &suggestion, &promise, &note)?;
        state.history.propose(request.iteration, &note);
        Ok(proposal)
    }

    fn observe(&self, outcome: &Outcome) -> Result<()> {
        // Details in another form are another mutator's, or another version's.
        if let Ok(note) = serde_json::from_value::<Note>(outcome.idea.details.clone()) {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.history.observe(outcome, note);
        }
        Ok(())
    }
}

impl State {
    fn scan(&mut self, member: &Member) -> Arc<Scan> {
        self.n_lookups += 1;
        if let Some((last_used, scan)) = self.scans.get_mut(&member.id) {
            *last_used = self.n_lookups;
            return Arc::clone(scan);
        }
        let scan = Arc::new(source::scan(&member.program));
        if self.scans.len() >= MAX_SCANS {
            let oldest = self.scans.iter().min_by_key(|(_, (last_used, _))| *last_used);
            if let Some(id) = oldest.map(|(id, _)| id.clone()) {
                self.scans.remove(&id);
            }
        }
        self.scans.insert(member.id.clone(), (self.n_lookups, Arc::clone(&scan)));
        scan
    }
}

/// One look for the best child.
struct Search<'a> {
    space: &'a Space<'a>,
    scan: &'a Scan,
    operators: Operators<'a>,
    judge: Judge,
    credit: &'a Credit,
}

impl Search<'_> {
    /// The most promising of about `n_candidates` children that were not proposed before.
    fn best(
        &self,
        history: &History,
        most_moves: usize,
        n_candidates: usize,
        random: &mut Random,
    ) -> Option<(Suggestion, Promise)> {
        if let Some(opening) = self.opening(history) {
            return Some(opening);
        }
        let mut best: Option<(Suggestion, Promise, f64)> = None;
        let mut tried = BTreeSet::new();
        let n_first = (n_candidates as f64 * (1.0 - REFINED_SHARE)).ceil() as usize;
        for _ in 0..n_candidates * ATTEMPTS_PER_CANDIDATE {
            if tried.len() >= n_candidates {
                break;
            }
            let mut suggestion = match &best {
                Some((base, _, _)) if tried.len() >= n_first => self.operators.refine(base, random),
                _ => self.operators.suggest(random),
            };
            if !self.space.settle(&mut suggestion.settings)
                || suggestion.settings == self.space.parent
                || self.moves(&suggestion.settings) > most_moves
            {
                continue;
            }
            let child = self.child(&suggestion.settings);
            if history.was_proposed(child) || !tried.insert(child) {
                continue;
            }
            let point = point(self.space, &suggestion.settings, self.scan.skeleton);
            let promise = self.judge.promise(&point);
            let score = promise.score * self.credit.operator_weight(suggestion.operator);
            if best.as_ref().is_none_or(|(_, _, best)| score > *best) {
                best = Some((suggestion, promise, score));
            }
        }
        best.map(|(suggestion, promise, _)| (suggestion, promise))
    }

    /// Where a target must be reached at the least cost, the first proposals lower one number each, in
    /// the order in which the program introduces them: authors begin with what decides cost and
    /// outcome, and a surrogate that knows how those trade against each other makes good use of
    /// everything that follows.
    fn opening(&self, history: &History) -> Option<(Suggestion, Promise)> {
        let n_proposed = history.n_proposed();
        if n_proposed >= OPENINGS || !self.judge.has_target() {
            return None;
        }
        let is_number = |idx: &usize| self.space.parent[*idx].number().is_some();
        let idx = (0..self.space.len()).filter(is_number).nth(n_proposed)?;
        let mut settings = self.space.parent.clone();
        settings[idx] = self.space.moved(idx, settings[idx], -self.credit.arms[idx][0].step);
        let settled = self.space.settle(&mut settings) && settings != self.space.parent;
        if !settled || history.was_proposed(self.child(&settings)) {
            return None;
        }
        let promise = self.judge.promise(&point(self.space, &settings, self.scan.skeleton));
        Some((Suggestion { operator: "probe", settings }, promise))
    }

    /// How many constants differ from the parent.
    fn moves(&self, settings: &[Setting]) -> usize {
        settings.iter().zip(&self.space.parent).filter(|(child, own)| child != own).count()
    }

    /// Names a child, whichever parent it has.
    fn child(&self, settings: &[Setting]) -> u64 {
        let mut hash = Hash::default();
        hash.number(self.scan.skeleton);
        for (idx, setting) in settings.iter().enumerate() {
            match setting {
                Setting::Number(value) => hash.number(value.to_bits()),
                Setting::Option(_) => hash.bytes(self.space.text(idx, *setting).as_bytes()),
            }
        }
        hash.finish()
    }

    fn note(&self, suggestion: &Suggestion) -> Note {
        let moved = |(idx, setting): (usize, &Setting)| {
            let constant = self.space.constant(idx);
            (*setting != self.space.parent[idx]).then(|| Move {
                name: constant.key.clone(),
                from: constant.text.clone(),
                to: self.space.text(idx, *setting),
            })
        };
        Note {
            operator: suggestion.operator.to_owned(),
            changes: suggestion.settings.iter().enumerate().filter_map(moved).collect(),
            values: values(self.scan),
            skeleton: self.scan.skeleton,
            child: self.child(&suggestion.settings),
        }
    }
}

fn proposal(
    request: &ProposalRequest,
    space: &Space<'_>,
    suggestion: &Suggestion,
    promise: &Promise,
    note: &Note,
) -> Result<Proposal> {
    let texts: BTreeMap<usize, String> = suggestion
        .settings
        .iter()
        .enumerate()
        .filter(|(idx, setting)| **setting != space.parent[*idx])
        .map(|(idx, setting)| (idx, space.text(idx, *setting)))
        .collect();
    let files = source::patch(&request.parent.program, space.scan(), &texts);
    // One standard deviation either way; a level is a logarithm, smaller is better.
    let expected_gain = promise.change.map(|change| Interval {
        low: 1.0 - (change.mean + change.sd).exp(),
        high: 1.0 - (change.mean - change.sd).exp(),
    });
    let idea = Idea {
        summary: summary(note),
        expected_gain,
        details: serde_json::to_value(note).map_err(Error::failed)?,
        ..Idea::default()
    };
    Ok(Proposal { change: Change::Files(files), idea, cost: Cost::default() })
}

fn summary(note: &Note) -> String {
    let spelt = note.changes.iter().take(MAX_SPELT_OUT);
    let mut parts: Vec<String> =
        spelt.map(|change| format!("{} {} → {}", change.name, change.from, change.to)).collect();
    if note.changes.len() > MAX_SPELT_OUT {
        parts.push(format!("{} more", note.changes.len() - MAX_SPELT_OUT));
    }
    format!("{} ({})", parts.join(", "), note.operator)
}

/// The programs to learn from, the parent first: the best and the latest of those measured, and
/// the inspirations.
fn known<'a>(
    request: &'a ProposalRequest,
    scan: &Scan,
    space: &Space<'_>,
    inspirations: &'a [(&'a Member, Arc<Scan>)],
    history: &'a History,
) -> Vec<Known<'a>> {
    let accepted =
        |member: &'a Member| member.evaluation.is_accepted().then_some(&member.evaluation.metrics);
    let mut known = vec![Known {
        point: point(space, &space.parent, scan.skeleton),
        metrics: accepted(&request.parent),
    }];
    let mut seen = BTreeSet::from([&request.parent.id]);
    for (member, scan) in inspirations {
        if seen.insert(&member.id) {
            let point = point(space, &space.settings(&values(scan)), scan.skeleton);
            known.push(Known { point, metrics: accepted(member) });
        }
    }
    let objectives = &request.task.objectives;
    let mut measured: Vec<_> = history.measured().filter(|(id, _)| !seen.contains(id)).collect();
    let mut latest = Vec::new();
    if measured.len() > MAX_BEST_POINTS {
        // Ages differ, so the order is total and the choice is one.
        measured.select_nth_unstable_by(MAX_BEST_POINTS, |(_, a), (_, b)| {
            compare(objectives, a.metrics.as_ref(), b.metrics.as_ref()).then(b.age.cmp(&a.age))
        });
        latest = measured.split_off(MAX_BEST_POINTS);
        measured.sort_by_key(|(_, measured)| std::cmp::Reverse(measured.age));
    }
    latest.sort_by_key(|(_, measured)| std::cmp::Reverse(measured.age));
    latest.truncate(MAX_POINTS.saturating_sub(known.len() + measured.len()));
    known.extend(measured.into_iter().chain(latest).map(|(_, measured)| Known {
        point: point(space, &space.settings(&measured.values), measured.skeleton),
        metrics: measured.metrics.as_ref(),
    }));
    known
}

/// How many constants a child may move. Where little is known much seems to be gained far away, and
/// a program that somebody tuned is a poor place for leaps: the reach grows with what was measured.
fn most_moves(known: &[Known<'_>]) -> usize {
    2 + known.iter().filter(|known| known.metrics.is_some()).count() / 5
}

fn point(space: &Space<'_>, settings: &[Setting], skeleton: u64) -> Point {
    Point { x: space.position(settings), skeleton }
}

fn values(scan: &Scan) -> Values {
    let constants = scan.constants.iter();
    constants.map(|constant| (constant.key.clone(), constant.text.clone())).collect()
}

fn nothing_to_tune(scan: &Scan) -> Error {
    let senseless: String =
        scan.senseless.iter().map(|place| format!("\nannotation at {place}")).collect();
    Error::Failed(format!(
        "the program has no constant to tune{senseless}\n\
         hint: write `/// tune: log 1e-4 1e-1` above `const LEARNING_RATE: f64 = 3e-3;`"
    ))
}

fn exhausted(space: &Space<'_>) -> Error {
    Error::Failed(format!(
        "every child within reach of this parent was proposed before ({} constants)\n\
         hint: annotate more constants, or widen their ranges",
        space.len()
    ))
}
