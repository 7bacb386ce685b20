//! Probes: what is asked of an evaluator beside the score, to see whether its answers depend on
//! nothing but the parameters and the tokens before.
//!
//! Every window is scored once, in a secret order and in secret company; between the scored frames,
//! at secret places, come frames of the same shape and the same kind of text that ask for known
//! windows again. On CPU honest models answer them bit for bit alike, so the tolerance is zero; on a
//! GPU it is the track's, and what differed most is noted beside it.

use crate::stream::below;
use forerunner_core::{Error, Finding, Probe};
use getrandom::SysRng;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// Frames that ask for a scored frame again, unchanged.
const REPEATS: usize = 2;
/// Frames that ask for scored windows in other company and in other rows.
const ROWS: usize = 2;
/// Frames that ask for a scored frame with other tokens at the end of each window.
const SUFFIXES: usize = 4;

/// Why a frame is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// To be scored.
    Scored,
    /// A scored frame again.
    Repeat,
    /// Scored windows, each with other tokens from a position on.
    Suffix,
    /// Scored windows in other rows, beside other windows.
    Rows,
    /// Scored windows in a process that has not seen them before.
    Fresh,
}

impl Kind {
    /// Name of the probe, as in findings and evidence.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scored | Self::Repeat => "repeat",
            Self::Suffix => "causality",
            Self::Rows => "rows",
            Self::Fresh => "fresh-process",
        }
    }

    /// What a program did whose answers differ. Says nothing about where it was seen.
    fn finding(self) -> Finding {
        let text = match self {
            Self::Suffix => {
                "logits changed when only tokens behind their position were changed; a position may \
                 use its own token and earlier ones of the same window, so check masks, shifts and \
                 every mean, norm or mixture over time"
            }
            Self::Rows => {
                "logits of a window changed with the other windows of the batch, or with its place \
                 among them; rows must not see each other, so take no statistics over a batch"
            }
            Self::Fresh => {
                "the same windows gave other logits in a second process; `logits` must depend on its \
                 tokens and the parameters alone"
            }
            Self::Scored | Self::Repeat => {
                "the same windows gave other logits the second time; `logits` must depend on its \
                 tokens and the parameters alone, so keep no state between calls"
            }
        };
        Finding::error(format!("verify/{}", self.name()), text)
    }
}

/// A window in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// Which window.
    pub(crate) window: usize,
    /// From this position on the tokens are others; the length of a window when none are.
    pub(crate) cut: usize,
}

/// One frame of an evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Why.
    pub(crate) kind: Kind,
    /// Its windows, in order.
    pub(crate) rows: Vec<Row>,
}

/// Randomness that no program can foresee: from the operating system, not from the run's seed,
/// which the trainer knows. Only probes use it; a score never depends on it.
pub(crate) fn secret() -> Result<ChaCha8Rng, Error> {
    ChaCha8Rng::try_from_rng(&mut SysRng).map_err(|error| {
        Error::Failed(format!("the operating system gives no random numbers: {error}"))
    })
}

/// The numbers `0..n` in random order.
pub(crate) fn shuffled(n: usize, random: &mut impl Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        order.swap(last, below(random, last + 1));
    }
    order
}

/// Frames of `kind` that show each of `windows` once, whole, `width` of them in a frame. The last
/// frame is filled up with windows that were shown before, so that all have the same shape.
pub(crate) fn frames(
    kind: Kind,
    windows: &[usize],
    context: usize,
    width: usize,
    random: &mut impl Rng,
) -> Vec<Frame> {
    let whole = |window: usize| Row { window, cut: context };
    let mut frames: Vec<Frame> = windows
        .chunks(width)
        .map(|some| Frame { kind, rows: some.iter().map(|&window| whole(window)).collect() })
        .collect();
    if let Some(last) = frames.last_mut() {
        let n_shown = windows.len() - last.rows.len();
        while last.rows.len() < width && n_shown > 0 {
            last.rows.push(whole(windows[below(random, n_shown)]));
        }
    }
    frames
}

/// All `n` windows in a secret order, and probes at secret places behind the frames they are about.
pub(crate) fn plan(n: usize, context: usize, width: usize, random: &mut impl Rng) -> Vec<Frame> {
    let mut plan = frames(Kind::Scored, &shuffled(n, random), context, width, random);
    // Every position is the first of a changed end in its turn, as far as there are windows for it.
    let mut cuts = shuffled(context - 1, random).into_iter().cycle().map(|cut| cut + 1);
    let mut kinds = [vec![Kind::Repeat; REPEATS], vec![Kind::Suffix; SUFFIXES]].concat();
    if plan[0].rows.len() > 1 {
        kinds.extend([Kind::Rows; ROWS]);
    }
    if context < 2 {
        kinds.retain(|kind| *kind != Kind::Suffix);
    }
    for kind in kinds {
        // Behind at least two frames where there are two, so that something comes between.
        let first = plan.len().min(2);
        let place = first + below(random, plan.len() + 1 - first);
        let scored: Vec<usize> =
            (0..place).filter(|&index| plan[index].kind == Kind::Scored).collect();
        let far = &scored[..(scored.len() - 1).max(1)];
        let mut rows = plan[far[below(random, far.len())]].rows.clone();
        match kind {
            Kind::Suffix => {
                rows.iter_mut().for_each(|row| row.cut = cuts.next().unwrap_or(context))
            }
            Kind::Rows => rows = other_company(&rows, &plan, &scored, random),
            _ => {}
        }
        plan.insert(place, Frame { kind, rows });
    }
    plan
}

/// Half of the rows in other places, the others replaced by windows of other frames.
fn other_company(
    rows: &[Row],
    plan: &[Frame],
    scored: &[usize],
    random: &mut impl Rng,
) -> Vec<Row> {
    let order = shuffled(rows.len(), random);
    let mut moved: Vec<Row> = order.iter().map(|&index| rows[index]).collect();
    for row in moved.iter_mut().step_by(2) {
        let frame = &plan[scored[below(random, scored.len())]];
        *row = frame.rows[below(random, frame.rows.len())];
    }
    moved
}

/// What the probes have seen so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// How far losses may lie apart, in nats.
    tolerance: f64,
    seen: Vec<Seen>,
}

/// What the probes of a kind have seen.
#[derive(Debug)]
struct Seen {
    kind: Kind,
    trials: u64,
    failures: u64,
    differences: Differences,
}

/// How far losses lay apart that should be the same: what a tolerance is to be judged by.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Differences {
    count: u64,
    /// Those that were not the same to the last bit.
    unequal: u64,
    sum: f64,
    squares: f64,
    largest: f64,
}

impl Differences {
    /// Takes in two losses of one position, in nats, and says whether they agree within `tolerance`:
    /// to the last bit, when that is 0.
    pub(crate) fn agree(&mut self, known: f64, now: f64, tolerance: f64) -> bool {
        let difference = now - known;
        self.count += 1;
        self.sum += difference;
        self.squares += difference * difference;
        self.largest = self.largest.max(difference.abs());
        let equal = known.to_bits() == now.to_bits();
        self.unequal += u64::from(!equal);
        equal || tolerance > 0.0 && difference.abs() <= tolerance
    }

    /// Adds what was seen to a probe's numbers, where there is a tolerance to be judged.
    pub(crate) fn add_to(&self, probe: Probe, tolerance: f64) -> Probe {
        if tolerance <= 0.0 || self.count == 0 {
            return probe;
        }
        let count = self.count as f64;
        probe
            .with("tolerance", tolerance)
            .with("largest_difference", self.largest)
            .with("mean_difference", self.sum / count)
            .with("deviation_of_differences", (self.squares / count).sqrt())
            .with("share_unequal", self.unequal as f64 / count)
    }
}

impl Tally {
    /// A tally that lets losses lie so many nats apart; 0 means to the last bit.
    pub(crate) fn within(tolerance: f64) -> Self {
        Self { tolerance, seen: Vec::new() }
    }

    /// Compares the losses of a window, one for each position, with those known, up to the row's
    /// cut.
    pub(crate) fn compare(&mut self, kind: Kind, cut: usize, known: &[f64], now: &[f64]) {
        let kind = if kind == Kind::Scored { Kind::Repeat } else { kind };
        let at = self.seen.iter().position(|seen| seen.kind == kind).unwrap_or_else(|| {
            let differences = Differences::default();
            self.seen.push(Seen { kind, trials: 0, failures: 0, differences });
            self.seen.len() - 1
        });
        let (tolerance, seen) = (self.tolerance, &mut self.seen[at]);
        let mut same = true;
        for (known, now) in known[..cut].iter().zip(&now[..cut]) {
            same &= seen.differences.agree(*known, *now, tolerance);
        }
        seen.trials += 1;
        seen.failures += u64::from(!same);
    }

    /// The reasons to reject. A program whose answers change by themselves is told only that: leaks
    /// cannot be told from it.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut failed: Vec<Kind> =
            self.seen.iter().filter(|seen| seen.failures > 0).map(|seen| seen.kind).collect();
        failed.sort_unstable();
        if failed.contains(&Kind::Repeat) {
            failed = vec![Kind::Repeat];
        }
        failed.into_iter().map(Kind::finding).collect()
    }

    /// The same as evidence.
    pub(crate) fn evidence(&self) -> impl Iterator<Item = Probe> {
        self.seen.iter().map(|Seen { kind, trials, failures, differences }| {
            let probe = Probe::new(kind.name(), *trials, *failures);
            differences.add_to(probe, self.tolerance)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(frame: &Frame, context: usize) -> bool {
        frame.rows.iter().all(|row| row.cut == context)
    }

    #[test]
    fn every_window_is_scored_in_a_secret_order_and_probes_follow_theirs() {
        let mut orders = Vec::new();
        for seed in 0..50 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let plan = plan(14, 8, 4, &mut random);
            assert_eq!(plan.len(), 4 + REPEATS + SUFFIXES + ROWS);
            assert!(plan.iter().all(|frame| frame.rows.len() == 4), "one shape for all");
            let mut scored = Vec::new();
            for frame in &plan {
                match frame.kind {
                    Kind::Scored => {
                        assert!(whole(frame, 8));
                        scored.extend(frame.rows.iter().map(|row| row.window));
                    }
                    kind => {
                        assert!(frame.rows.iter().all(|row| scored.contains(&row.window)));
                        assert_eq!(whole(frame, 8), kind != Kind::Suffix);
                        assert!(frame.rows.iter().all(|row| (1..=8).contains(&row.cut)));
                    }
                }
            }
            orders.push(scored.clone());
            scored.sort_unstable();
            scored.dedup();
            assert!(scored.into_iter().eq(0..14));
        }
        assert_ne!(orders[0], orders[1]);
        assert!(secret().unwrap().next_u64() != secret().unwrap().next_u64());
    }

    #[test]
    fn every_cut_is_tried() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let plan = plan(64, 64, 16, &mut random);
        let suffixes = plan.iter().filter(|frame| frame.kind == Kind::Suffix);
        let mut cuts: Vec<usize> = suffixes.flat_map(|f| &f.rows).map(|row| row.cut).collect();
        cuts.sort_unstable();
        cuts.dedup();
        assert!(cuts.into_iter().eq(1..64), "64 windows for 63 cuts");
    }

    #[test]
    fn rows_change_company_and_place() {
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let plan = plan(64, 8, 16, &mut random);
        for frame in plan.iter().filter(|frame| frame.kind == Kind::Rows) {
            let is_scored = |other: &&Frame| other.kind == Kind::Scored && other.rows == frame.rows;
            assert!(!plan.iter().any(|other| is_scored(&other)));
        }
        // One window in a frame has no company, one or two windows in all give small plans.
        for (n, width) in [(1, 1), (2, 16), (3, 1), (1, 16)] {
            let plan = super::plan(n, 8, width, &mut random);
            assert!(plan.iter().all(|frame| frame.rows.len() == plan[0].rows.len()), "{plan:?}");
        }
    }

    #[test]
    fn a_difference_before_the_cut_counts_and_one_behind_it_does_not() {
        let check = |kind, cut, now: [f64; 4], rules: &[&str]| {
            let mut tally = Tally::default();
            tally.compare(kind, cut, &[1.0; 4], &now);
            let found: Vec<String> = tally.findings().into_iter().map(|f| f.rule).collect();
            assert_eq!(found, rules);
            let evidence: Vec<Probe> = tally.evidence().collect();
            assert_eq!((evidence[0].trials, evidence[0].failures), (1, rules.len() as u64));
        };
        check(Kind::Suffix, 2, [1.0, 1.0, 9.0, 9.0], &[]);
        check(Kind::Suffix, 3, [1.0, 1.0, 1.0 + f64::EPSILON, 9.0], &["verify/causality"]);
        check(Kind::Rows, 4, [1.0, 1.0, 1.0, 2.0], &["verify/rows"]);
        check(Kind::Scored, 4, [1.0, 1.0, 1.0, 2.0], &["verify/repeat"]);
        check(Kind::Fresh, 4, [1.0; 4], &[]);
    }

    #[test]
    fn a_tolerance_lets_rounding_through_and_says_how_much_there_was() {
        let mut tally = Tally::within(1e-3);
        tally.compare(Kind::Rows, 2, &[1.0, 2.0], &[1.0, 2.0 - 5e-4]);
        assert_eq!(tally.findings(), []);
        let numbers = tally.evidence().next().unwrap().numbers;
        let check = |name: &str, expected: f64| {
            assert!((numbers[name] - expected).abs() < 1e-12, "{name}: {}", numbers[name]);
        };
        check("tolerance", 1e-3);
        check("largest_difference", 5e-4);
        check("mean_difference", -2.5e-4);
        check("deviation_of_differences", 5e-4 / 2f64.sqrt());
        check("share_unequal", 0.5);
        tally.compare(Kind::Rows, 2, &[1.0, 2.0], &[1.0, 2.0 - 2e-3]);
        assert_eq!(tally.findings().len(), 1);
        // Without a tolerance nothing is said, as ever.
        let mut exact = Tally::default();
        exact.compare(Kind::Rows, 1, &[1.0], &[1.0]);
        assert!(exact.evidence().next().unwrap().numbers.is_empty());
    }

    #[test]
    fn state_hides_what_else_was_found() {
        let mut tally = Tally::default();
        for kind in [Kind::Suffix, Kind::Repeat, Kind::Rows] {
            tally.compare(kind, 1, &[1.0], &[2.0]);
        }
        let rules: Vec<String> = tally.findings().into_iter().map(|f| f.rule).collect();
        assert_eq!(rules, ["verify/repeat"]);
    }
}
