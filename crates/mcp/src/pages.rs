//! What clients read: each page starts with lines of the form `key: value`, and what others wrote
//! comes after that, marked as data.

use crate::{
    desk::Budget,
    text::{self, clean, data, line},
};
use forerunner_core::{
    Check, Cost, Direction, EnvironmentSpec, Evaluation, Finding, Idea, Metrics, Objective,
    Objectives, Outcome, Program, ProgramId, ProposalRequest, Series, Verdict, digest, thinned,
};
use forerunner_report::number;
use forerunner_runtime::store::{Store, StoreError, StoredIteration};
use forerunner_stats::Frontier;
use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    ops::RangeInclusive,
};

/// Most programs of a frontier that are listed.
const FRONTIER: usize = 30;
/// Most names of curves that are listed.
const NAMES: usize = 60;

/// The task in words. Brief and manual are the environment's own, which is trusted.
pub(crate) fn brief(task: &EnvironmentSpec) -> String {
    let mut page = format!("# {} {}\n", line(&task.name, 100), line(&task.track, 100));
    let mut part = |title: &str, body: &str| {
        if !body.trim().is_empty() {
            let body = text::capped(clean(body), text::MAX_PAGE);
            let _ = write!(page, "\n## {title}\n\n{}\n", body.trim());
        }
    };
    part("In a sentence", &task.summary);
    part("The task", &task.brief);
    part("What programs are made of", &task.manual);
    let objectives: String = task.objectives.0.iter().map(objective).collect();
    let order = "A program that has a metric beats one that lacks it; then the better value wins; \
                 where neither has it, the next one decides.\n";
    part("What is improved, most important first", &format!("{objectives}\n{order}"));
    let noise: String = task
        .noise
        .iter()
        .map(|(name, value)| format!("- {} {}\n", line(name, 100), number(*value)))
        .collect();
    part("How much metrics differ by chance (standard deviation between seeds)", &noise);
    let rules = "Every submission is checked, measured in a sandbox on data that it cannot see, and \
                 judged by verification hooks. A result that is rejected, or that nobody can \
                 verify, counts for nothing. The best programs of the search are measured again on \
                 fresh seeds and held-out data; only that is announced.";
    part("How results come about", rules);
    page
}

fn objective(objective: &Objective) -> String {
    let way = match objective.direction {
        Direction::Minimize => "smaller is better",
        Direction::Maximize => "larger is better",
    };
    let unit = line(&objective.unit, 40);
    let unit = if unit.is_empty() { String::new() } else { format!(" in {unit}") };
    let target = objective.target.map(|target| format!(", target {}", number(target)));
    format!("- {}{unit}, {way}{}\n", line(&objective.metric, 100), target.unwrap_or_default())
}

/// The program on offer.
pub(crate) fn parent(offer: &ProposalRequest) -> String {
    let member = &offer.parent;
    let mut page = format!("parent: {}\nbytes: {}\n", member.id, member.program.len_bytes());
    page += &format!("metrics:{}\n", metrics(&offer.task.objectives, &member.evaluation));
    if let Some(made_by) = &member.idea {
        page += &idea("idea that made it", made_by);
    }
    if !offer.inspirations.is_empty() {
        page.push_str("worth borrowing from (see `program`):\n");
    }
    for other in &offer.inspirations {
        let measured = metrics(&offer.task.objectives, &other.evaluation);
        let _ = writeln!(page, "- {}{measured}", other.id);
    }
    for attempt in &offer.failures {
        let _ = writeln!(page, "an attempt on it that failed ({}):", attempt.cause.as_str());
        page += &idea("its idea", &attempt.idea);
        page += &text::findings(&attempt.findings);
    }
    let digest = digest(&member.evaluation, &offer.task.objectives.0, None);
    page += &data("digest of its measurement", &digest, text::MAX_PAGE);
    page + &text::source(&member.program)
}

/// An idea in a block of its own.
fn idea(what: &str, idea: &Idea) -> String {
    let mut body = format!("{}\n", idea.summary);
    let parts =
        [("mechanism", &idea.mechanism), ("refutation", &idea.refutation), ("by", &idea.model)];
    for (name, part) in parts {
        if !part.is_empty() {
            let _ = writeln!(body, "{name}: {part}");
        }
    }
    data(what, &body, 6_000)
}

/// ` seconds 12.5 s, loss 1.9` for the objectives that were measured.
pub(crate) fn metrics(objectives: &Objectives, evaluation: &Evaluation) -> String {
    let known = |objective: &Objective| {
        let value = evaluation.metrics.get(&objective.metric)?;
        let unit = line(&objective.unit, 40);
        Some(format!(" {} {} {unit}", line(&objective.metric, 100), number(*value)))
    };
    let all: Vec<String> =
        objectives.0.iter().filter_map(known).map(|one| one.trim_end().to_owned()).collect();
    if all.is_empty() { " none".to_owned() } else { all.join(",") }
}

/// `+12.50 %`.
fn percent(share: f64) -> String {
    format!("{:+.2} %", 100.0 * share)
}

fn expected(idea: &Idea) -> String {
    match idea.expected_gain {
        Some(gain) => format!("{} to {}", percent(gain.low), percent(gain.high)),
        None => "not said".to_owned(),
    }
}

fn verdict(verdict: Verdict) -> String {
    match verdict {
        Verdict::Accepted => "accepted".to_owned(),
        Verdict::Rejected => "rejected".to_owned(),
        Verdict::Unverified => "unverified".to_owned(),
        Verdict::Failed(cause) => format!("failed ({})", cause.as_str()),
    }
}

/// The gain that counts: none for a result that does not.
fn gain(objectives: &Objectives, before: &Metrics, child: &Evaluation) -> Option<f64> {
    child.is_accepted().then(|| objectives.gain(before, &child.metrics)).flatten()
}

fn gain_line(gain: Option<f64>) -> String {
    gain.map_or_else(|| "none".to_owned(), percent)
}

/// How a stored program stands.
pub(crate) fn standing(
    objectives: &Objectives,
    id: &ProgramId,
    made: &StoredIteration,
    before: Option<&Evaluation>,
) -> String {
    let StoredIteration { iteration, evaluation, .. } = made;
    let parent = iteration.parent.as_ref().map_or("none".to_owned(), |parent| parent.0.clone());
    let mut page = format!("program: {id}\niteration: {}\nparent: {parent}\n", iteration.iteration);
    if let Some(before) = before {
        let gain = gain(objectives, &before.metrics, evaluation);
        page += &format!("gain over the parent: {}\n", gain_line(gain));
    }
    page += &format!("verdict: {}\n", verdict(evaluation.verdict));
    page += &format!("metrics:{}\n", metrics(objectives, evaluation));
    if iteration.iteration > 0 {
        page += &format!("proposed by: {}\n", line(&iteration.mutator, 60));
        page += &format!("expected gain: {}\n", expected(&iteration.idea));
        page += &idea("idea", &iteration.idea);
    }
    page + &text::findings(&evaluation.findings)
}

/// What the mutators spent, and may: nothing where nobody asks a model for money.
pub(crate) fn spent(budget: &Budget, spent: &Cost) -> String {
    let tokens = spent.tokens_in.saturating_add(spent.tokens_out);
    let mut page = String::new();
    match budget.dollars {
        Some(limit) => page += &format!("dollars: {:.2} of {limit:.2} spent\n", spent.dollars),
        None if spent.dollars > 0.0 => page += &format!("dollars: {:.2} spent\n", spent.dollars),
        None => {}
    }
    match budget.tokens {
        Some(limit) => page += &format!("tokens: {tokens} of {limit} used\n"),
        None if tokens > 0 => page += &format!("tokens: {tokens} used\n"),
        None => {}
    }
    page
}

fn author(mutator: &str, idea: &Idea) -> String {
    let mutator = line(mutator, 60);
    match line(&idea.model, 60) {
        model if model.is_empty() => mutator,
        model => format!("{mutator} ({model})"),
    }
}

/// What a check found.
pub(crate) fn checked(id: &ProgramId, program: &Program, check: &Check) -> String {
    let result = match (check.passed(), check.cause) {
        (true, _) => "passed".to_owned(),
        (false, Some(cause)) => format!("refused ({})", cause.as_str()),
        (false, None) => "refused".to_owned(),
    };
    let bytes = program.len_bytes();
    format!("check: {result}\nprogram: {id}\nbytes: {bytes}\n{}", text::findings(&check.findings))
}

/// A change that makes no program.
pub(crate) fn not_applied(base: &ProgramId, findings: &[Finding]) -> String {
    format!(
        "check: refused (patch)\nthe change does not apply to {base}; nothing was used up\nhint: \
         quote the lines of that program exactly, or name another `base`\n{}",
        text::findings(findings)
    )
}

/// What became of a submission.
pub(crate) fn outcome(objectives: &Objectives, outcome: &Outcome, duplicate: bool) -> String {
    let Outcome { iteration, idea, parent, parent_evaluation, program, evaluation } = outcome;
    let program = program.as_ref().map_or("none".to_owned(), |id| id.0.clone());
    let gain = gain(objectives, &parent_evaluation.metrics, evaluation);
    let mut page = format!(
        "verdict: {}\niteration: {iteration}\nprogram: {program}\nparent: {parent}\n\
         gain over the parent: {}\nexpected gain: {}\nmetrics:{}\nparent's metrics:{}\n",
        verdict(evaluation.verdict),
        gain_line(gain),
        expected(idea),
        metrics(objectives, evaluation),
        metrics(objectives, parent_evaluation)
    );
    if duplicate {
        page += "a program like this was measured before, and its result was taken\n";
    }
    page + &text::findings(&evaluation.findings)
}

/// Which curves there are.
pub(crate) fn series_names(series: &[(String, Series)]) -> String {
    if series.is_empty() {
        return "curves: none\n".to_owned();
    }
    let names: Vec<String> = series
        .iter()
        .take(NAMES)
        .map(|(name, points)| format!("{} ({} points)", line(name, 100), points.len()))
        .collect();
    format!("curves: {}\n{}", series.len(), data("names of curves", &names.join("\n"), 20_000))
}

/// The part of a curve in a range of steps.
pub(crate) fn curve(
    id: &ProgramId,
    name: &str,
    curve: &[(u64, f64)],
    range: RangeInclusive<u64>,
    points: usize,
) -> String {
    let within: Series = curve.iter().copied().filter(|(step, _)| range.contains(step)).collect();
    let shown = thinned(&within, points);
    let mut body = "step value\n".to_owned();
    for (step, value) in &shown {
        let _ = writeln!(body, "{step} {value}");
    }
    let what = format!("{} of {}", line(name, 100), id.short());
    let (of, shown) = (within.len(), shown.len());
    format!("points: {shown} of {of} in the range, {} in all\n", curve.len())
        + &data(&what, &body, text::MAX_PAGE)
}

/// The latest attempts, oldest first.
pub(crate) fn history(
    store: &Store,
    objectives: &Objectives,
    last: usize,
) -> Result<String, StoreError> {
    let mut known: BTreeMap<ProgramId, Metrics> = BTreeMap::new();
    let mut lines = VecDeque::new();
    let mut number = 0_u64;
    store.each_iteration(&mut |one| {
        let StoredIteration { iteration, evaluation, .. } = one;
        let before = iteration.parent.as_ref().and_then(|parent| known.get(parent));
        let gain = before.and_then(|before| gain(objectives, before, &evaluation));
        if iteration.iteration > 0 {
            number += 1;
            if lines.len() == last {
                lines.pop_front();
            }
            let short = |id: &Option<ProgramId>| {
                id.as_ref().map_or("none".to_owned(), |id| id.short().to_owned())
            };
            lines.push_back(format!(
                "#{} {} from {} by {}: {}, gain {}, expected {}: {}",
                iteration.iteration,
                short(&iteration.program),
                short(&iteration.parent),
                author(&iteration.mutator, &iteration.idea),
                verdict(evaluation.verdict),
                gain_line(gain),
                expected(&iteration.idea),
                line(&iteration.idea.summary, 200)
            ));
        }
        if let (Some(id), true) = (iteration.program, evaluation.is_accepted()) {
            known.insert(id, evaluation.metrics);
        }
    })?;
    if lines.is_empty() {
        return Ok("attempts: 0\n".to_owned());
    }
    let shown = lines.len();
    let body = lines.into_iter().collect::<Vec<_>>().join("\n");
    Ok(format!("attempts: {number}, the latest {shown} shown\n")
        + &data("attempts with gain over their parent, and their ideas", &body, 100_000))
}

/// The programs that no other is better than on all axes.
pub(crate) fn frontier(store: &Store, axes: &[Objective]) -> Result<String, StoreError> {
    let mut frontier = Frontier::over(axes);
    store.each_iteration(&mut |one| {
        if let (Some(id), true) = (one.iteration.program, one.evaluation.is_accepted()) {
            let point = forerunner_stats::place(axes, &one.evaluation.metrics);
            frontier.insert((id, one.evaluation), &point);
        }
    })?;
    let mut page = format!("frontier: {} programs\n", frontier.len());
    let axes = Objectives(axes.to_vec());
    for ((id, evaluation), _) in frontier.iter().take(FRONTIER) {
        let _ = writeln!(page, "- {id}{}", metrics(&axes, evaluation));
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_is_said_where_it_matters() {
        let cost = Cost { tokens_in: 900, tokens_out: 100, dollars: 0.126 };
        let budget = Budget { dollars: Some(2.0), tokens: Some(5_000), ..Budget::default() };
        let page = spent(&budget, &cost);
        assert_eq!(page, "dollars: 0.13 of 2.00 spent\ntokens: 1000 of 5000 used\n");
        let page = spent(&Budget::default(), &cost);
        assert_eq!(page, "dollars: 0.13 spent\ntokens: 1000 used\n");
        assert_eq!(spent(&Budget::default(), &Cost::default()), "");
    }
}
