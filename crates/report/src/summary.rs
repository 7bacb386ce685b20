//! The result of a run, answer first.

use crate::evaluation::slice;
use crate::gain::{against_reference, estimated, interval};
use crate::number::{count, duration, mean_and_sd, percent, quantity};
use crate::{record, sanitize};
use forerunner_core::{Direction, Metrics, Objective, Objectives};
use forerunner_runtime::event::{Confirmation, EndReason, Finalist, Record, Summary};
use std::{cmp::Ordering, fmt::Write as _};

/// Frontier members and finalists that are listed; the rest is counted.
const LISTED: usize = 10;

/// What got better, by how much and how sure; then what it rests on, the frontier, the effort,
/// and the commands to look closer and to go on. `objectives` are those of the run's environment.
pub fn summary(summary: &Summary, objectives: &Objectives) -> String {
    let mut text = answer(summary, objectives);
    let blocks = [
        summary.confirmation.as_ref().map(|confirmation| finalists(confirmation, objectives)),
        record_of(summary).map(|record| record::block(record, objectives)),
        frontier(summary, objectives),
        Some(effort(summary)),
        Some(commands(summary)),
    ];
    for block in blocks.into_iter().flatten() {
        text.push('\n');
        text.push_str(&block);
    }
    text
}

/// The sentences about what was found, the claim first.
pub(crate) fn answer(summary: &Summary, objectives: &Objectives) -> String {
    let Summary { reference, best_metrics, .. } = summary;
    let before = objectives
        .leading(best_metrics)
        .and_then(|(leading, _)| Some(quantity(*reference.get(&leading.metric)?, &leading.unit)))
        .map(|value| format!(" ({})", sanitize::line(&value)));
    let search = against_reference(objectives, best_metrics, Some(reference))
        + before.as_deref().unwrap_or_default();
    if objectives.compare(best_metrics, reference) != Ordering::Less {
        let reference = against_reference(objectives, reference, None);
        return format!("No better program was found. The reference stands: {reference}.\n");
    }
    let claim = summary.confirmation.as_ref().and_then(|c| Some((c, c.finalists.first()?)));
    let Some((confirmation, winner)) = claim else {
        return format!(
            "{} is better on the search's own slice: {search}.\n\
             Not confirmed on fresh seeds: part of this is luck.\n",
            summary.best.short()
        );
    };
    let mut text = String::new();
    if let Some(sentence) = record::sentence(confirmation, objectives) {
        let _ = writeln!(text, "{sentence}");
    }
    text.push_str(&confirmed(confirmation, winner, objectives));
    if winner.program == summary.best {
        let _ = writeln!(text, "In the search (dev): {search}.");
    } else {
        let best = summary.best.short();
        let _ = writeln!(text, "In the search (dev) {best} was ahead: {search}.");
    }
    text
}

fn record_of(summary: &Summary) -> Option<&Record> {
    summary.confirmation.as_ref()?.record.as_ref()
}

/// The sentence about the winner on fresh seeds.
fn confirmed(confirmation: &Confirmation, winner: &Finalist, objectives: &Objectives) -> String {
    let (id, slice) = (winner.program.short(), slice(confirmation.slice));
    let metric = sanitize::line(&winner.metric);
    let Some(gain) = &winner.gain else {
        let measured = |seeds: &[Metrics]| {
            let n = seeds.iter().filter(|metrics| metrics.contains_key(&winner.metric)).count();
            format!("{n} of {}", count(seeds.len() as u64, "fresh seed"))
        };
        return format!(
            "Not confirmed: {id} has a value of {metric} on {} ({slice}), the reference on {}.\n",
            measured(&winner.metrics),
            measured(&confirmation.reference)
        );
    };
    let direction = direction(objectives, &winner.metric);
    let size = estimated(direction, gain);
    let interval = interval(direction, gain);
    let seeds = count(gain.n as u64, "fresh seed");
    if winner.holds {
        format!("{id} is {size} than the reference in {metric}: {interval}, {seeds} ({slice}).\n")
    } else {
        format!(
            "Not confirmed: {id} is {size} than the reference in {metric} on {seeds} ({slice}), \
             and that may be luck: {interval}.\n"
        )
    }
}

/// The finalists beside the reference, each with its mean on the fresh seeds.
fn finalists(confirmation: &Confirmation, objectives: &Objectives) -> String {
    let Some(metric) = confirmation.finalists.first().map(|finalist| &finalist.metric) else {
        return String::new();
    };
    let objective = objectives.0.iter().find(|objective| &objective.metric == metric);
    let unit = objective.map_or("", |objective| &objective.unit);
    let seeds = count(confirmation.reference.len() as u64, "fresh seed");
    let metric_shown = sanitize::line(metric);
    let mut text = format!(
        "{metric_shown} on {seeds} ({}), mean ± SD\n  reference  {}\n",
        slice(confirmation.slice),
        spread(&confirmation.reference, metric, unit)
    );
    for finalist in confirmation.finalists.iter().take(LISTED) {
        let gain = finalist.gain.as_ref().map_or("no gain can be computed".to_owned(), |gain| {
            let direction = direction(objectives, metric);
            format!("{}, {}", estimated(direction, gain), interval(direction, gain))
        });
        let word = if finalist.holds { "confirmed" } else { "not confirmed" };
        let _ = writeln!(
            text,
            "  {}   {}  {word}: {gain}",
            finalist.program.short(),
            spread(&finalist.metrics, metric, unit)
        );
    }
    more(&mut text, confirmation.finalists.len());
    text
}

/// `28.914 ± 0.2140 s`, with the failures beside it.
pub(crate) fn spread(seeds: &[Metrics], metric: &str, unit: &str) -> String {
    let values: Vec<f64> =
        seeds.iter().filter_map(|metrics| metrics.get(metric).copied()).collect();
    let missing = seeds.len() - values.len();
    let mut text = match forerunner_stats::Estimate::of_mean(&values, 0.95) {
        None => "never measured".to_owned(),
        Some(mean) if mean.n == 1 => quantity(mean.mean, &sanitize::line(unit)),
        Some(mean) => format!("{} {}", mean_and_sd(mean.mean, mean.sd), sanitize::line(unit))
            .trim_end()
            .to_owned(),
    };
    if missing > 0 && !values.is_empty() {
        let _ = write!(text, " (missing on {})", count(missing as u64, "seed"));
    }
    text
}

fn frontier(summary: &Summary, objectives: &Objectives) -> Option<String> {
    if summary.frontier.len() < 2 {
        return None;
    }
    let programs = count(summary.frontier.len() as u64, "program");
    let mut text = format!("Frontier (dev): {programs}, none better in everything than another\n");
    for (program, metrics) in summary.frontier.iter().take(LISTED) {
        let readings: Vec<String> = objectives
            .0
            .iter()
            .filter_map(|o| Some(crate::gain::reading(o, *metrics.get(&o.metric)?)))
            .collect();
        let mark = if *program == summary.best { "  (best)" } else { "" };
        let _ = writeln!(text, "  {}  {}{mark}", program.short(), readings.join(", "));
    }
    more(&mut text, summary.frontier.len());
    Some(text)
}

fn more(text: &mut String, n: usize) {
    if n > LISTED {
        let _ = writeln!(text, "  and {} more", n - LISTED);
    }
}

fn effort(summary: &Summary) -> String {
    let failures: Vec<String> = summary
        .failures
        .iter()
        .map(|(cause, n)| format!("{} {n}", sanitize::line(cause)))
        .collect();
    let failures = match failures.as_slice() {
        [] => String::new(),
        failures => format!("; the others: {}", failures.join(", ")),
    };
    let reason = match summary.reason {
        EndReason::Evaluations => "the budget of evaluations is used up",
        EndReason::Dollars => "the budget of money is used up",
        EndReason::Tokens => "the budget of tokens is used up",
        EndReason::Mutators => "no mutator makes proposals any more",
        EndReason::Time => "the time is used up",
        EndReason::Interrupted => "it was interrupted",
    };
    format!(
        "{} in {}, {} accepted{failures}.\nThe search ended because {reason}. \
         Measuring slots were busy {} of the time.\n",
        count(summary.iterations, "iteration"),
        duration(summary.seconds),
        summary.accepted,
        percent(summary.slot_use)
    )
}

/// The one place in this crate that names commands. More of the same takes twice the budget.
pub(crate) fn commands(summary: &Summary) -> String {
    let run = shell_word(&sanitize::line(&summary.run));
    let budget = match summary.reason {
        EndReason::Interrupted | EndReason::Mutators => String::new(),
        EndReason::Evaluations => {
            format!(" --set budget.evaluations={}", 2 * summary.iterations.max(1))
        }
        EndReason::Dollars => {
            format!(" --set budget.dollars={:.2}", (2.0 * summary.cost.dollars).max(0.01))
        }
        EndReason::Tokens => {
            let tokens = summary.cost.tokens_in.saturating_add(summary.cost.tokens_out);
            format!(" --set budget.tokens={}", tokens.saturating_mul(2))
        }
        EndReason::Time => {
            format!(" --set budget.seconds={}", 2 * summary.seconds.ceil().max(1.0) as u64)
        }
    };
    // A replay is not searched on: the run that it repeats is.
    let goes_on = summary
        .replay_of
        .as_deref()
        .map_or_else(|| run.clone(), |recorded| shell_word(&sanitize::line(recorded)));
    format!(
        "What changed:  forerunner show {run}\nSearch on:     forerunner run --resume {goes_on}{budget}\n"
    )
}

/// Quoted for a POSIX shell where that is needed, so that the line can be pasted.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "/._-+:@%=".contains(char);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Which way of a metric is better.
pub(crate) fn direction(objectives: &Objectives, metric: &str) -> Direction {
    let found = objectives.0.iter().find(|objective: &&Objective| objective.metric == metric);
    found.map_or(Direction::Minimize, |objective| objective.direction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use forerunner_core::{ProgramId, Slice};
    use forerunner_stats::Estimate;

    fn objectives() -> Objectives {
        Objectives(vec![Objective::minimize("seconds", "s"), Objective::minimize("loss", "")])
    }

    fn metrics(seconds: f64, loss: f64) -> Metrics {
        Metrics::from([("seconds".to_owned(), seconds), ("loss".to_owned(), loss)])
    }

    fn id(letter: char) -> ProgramId {
        ProgramId(letter.to_string().repeat(32))
    }

    fn finalist(letter: char, seconds: &[f64]) -> Finalist {
        let reference = [32.3, 32.6, 31.9];
        let gain = Estimate::paired_log_ratio(&reference, seconds, 0.95);
        Finalist {
            program: id(letter),
            metrics: seconds.iter().map(|seconds| metrics(*seconds, 1.9)).collect(),
            metric: "seconds".to_owned(),
            gain,
            holds: gain.is_some_and(|gain| gain.is_positive()),
        }
    }

    fn run(finalists: Option<Vec<Finalist>>) -> Summary {
        Summary {
            reason: EndReason::Time,
            run: "runs/quickstart".to_owned(),
            iterations: 42,
            accepted: 35,
            failures: [("compile".to_owned(), 4), ("rejected".to_owned(), 3)].into(),
            reference: metrics(32.1, 1.9),
            best: id('a'),
            best_metrics: metrics(28.3, 1.898),
            frontier: vec![(id('a'), metrics(28.3, 1.898)), (id('b'), metrics(29.0, 1.85))],
            confirmation: finalists.map(|finalists| Confirmation {
                slice: Slice::Val,
                reference: [32.3, 32.6, 31.9].map(|seconds| metrics(seconds, 1.9)).to_vec(),
                finalists,
                level: forerunner_runtime::config::Level::Claim,
                record: None,
            }),
            slot_use: 0.973,
            cost: Default::default(),
            replay_of: None,
            seconds: 360.4,
        }
    }

    fn show(run: &Summary) -> String {
        summary(run, &objectives())
    }

    #[test]
    fn a_replay_is_not_searched_on() {
        let replay = Summary {
            run: "runs/again".to_owned(),
            replay_of: Some("runs/first".to_owned()),
            ..run(None)
        };
        let text = show(&replay);
        assert!(text.contains("forerunner show runs/again\n"), "{text}");
        assert!(text.contains("forerunner run --resume runs/first --set"), "{text}");
    }

    #[test]
    fn a_confirmed_gain_comes_first() {
        let finalists =
            vec![finalist('a', &[28.7, 29.1, 28.5]), finalist('b', &[30.0, 33.0, 31.0])];
        insta::assert_snapshot!(show(&run(Some(finalists))), @"
        aaaaaaaa is 10.8 % better than the reference in seconds: 95 % interval 10.2 % to 11.5 %, 3 fresh seeds (val).
        In the search (dev): seconds 28.300 s, 11.8 % better than the reference (32.100 s).

        seconds on 3 fresh seeds (val), mean ± SD
          reference  32.27 ± 0.35 s
          aaaaaaaa   28.77 ± 0.31 s  confirmed: 10.8 % better, 95 % interval 10.2 % to 11.5 %
          bbbbbbbb   31.3 ± 1.5 s  not confirmed: 3.0 % better, 95 % interval -8.0 % to 12.8 %

        Frontier (dev): 2 programs, none better in everything than another
          aaaaaaaa  seconds 28.300 s, loss 1.8980  (best)
          bbbbbbbb  seconds 29 s, loss 1.8500

        42 iterations in 6:00, 35 accepted; the others: compile 4, rejected 3.
        The search ended because the time is used up. Measuring slots were busy 97.3 % of the time.

        What changed:  forerunner show runs/quickstart
        Search on:     forerunner run --resume runs/quickstart --set budget.seconds=722
        ");
    }

    #[test]
    fn a_gain_that_fresh_seeds_do_not_confirm_is_called_so() {
        let mut run = run(Some(vec![finalist('b', &[30.0, 33.0, 31.0])]));
        run.reason = EndReason::Interrupted;
        run.run = "runs/it's mine".to_owned();
        insta::assert_snapshot!(show(&run), @r"
        Not confirmed: bbbbbbbb is 3.0 % better than the reference in seconds on 3 fresh seeds (val), and that may be luck: 95 % interval -8.0 % to 12.8 %.
        In the search (dev) aaaaaaaa was ahead: seconds 28.300 s, 11.8 % better than the reference (32.100 s).

        seconds on 3 fresh seeds (val), mean ± SD
          reference  32.27 ± 0.35 s
          bbbbbbbb   31.3 ± 1.5 s  not confirmed: 3.0 % better, 95 % interval -8.0 % to 12.8 %

        Frontier (dev): 2 programs, none better in everything than another
          aaaaaaaa  seconds 28.300 s, loss 1.8980  (best)
          bbbbbbbb  seconds 29 s, loss 1.8500

        42 iterations in 6:00, 35 accepted; the others: compile 4, rejected 3.
        The search ended because it was interrupted. Measuring slots were busy 97.3 % of the time.

        What changed:  forerunner show 'runs/it'\''s mine'
        Search on:     forerunner run --resume 'runs/it'\''s mine'
        ");
    }

    #[test]
    fn a_finalist_that_failed_on_a_seed_is_not_confirmed() {
        let mut failed = finalist('a', &[28.7, 29.1, 28.5]);
        failed.metrics[1].clear();
        (failed.gain, failed.holds) = (None, false);
        let text = show(&run(Some(vec![failed])));
        insta::assert_snapshot!(text.lines().take(5).collect::<Vec<_>>().join("\n"), @"
        Not confirmed: aaaaaaaa has a value of seconds on 2 of 3 fresh seeds (val), the reference on 3 of 3 fresh seeds.
        In the search (dev): seconds 28.300 s, 11.8 % better than the reference (32.100 s).

        seconds on 3 fresh seeds (val), mean ± SD
          reference  32.27 ± 0.35 s
        ");
    }

    #[test]
    fn without_confirmation_luck_is_named() {
        let text = show(&run(None));
        insta::assert_snapshot!(text.lines().take(2).collect::<Vec<_>>().join("\n"), @"
        aaaaaaaa is better on the search's own slice: seconds 28.300 s, 11.8 % better than the reference (32.100 s).
        Not confirmed on fresh seeds: part of this is luck.
        ");
    }

    #[test]
    fn nothing_better_is_said_plainly() {
        let mut run = run(None);
        run.best_metrics = run.reference.clone();
        run.frontier.truncate(1);
        run.failures.clear();
        (run.iterations, run.accepted) = (1, 1);
        insta::assert_snapshot!(show(&run), @"
        No better program was found. The reference stands: seconds 32.100 s.

        1 iteration in 6:00, 1 accepted.
        The search ended because the time is used up. Measuring slots were busy 97.3 % of the time.

        What changed:  forerunner show runs/quickstart
        Search on:     forerunner run --resume runs/quickstart --set budget.seconds=722
        ");
    }
}
