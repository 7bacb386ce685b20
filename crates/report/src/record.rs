//! An attempt at a record in words: what was shown, on what, and how sure that is.

use crate::gain::{estimated, interval};
use crate::number::{count, percent, quantity};
use crate::sanitize;
use crate::summary::{direction, spread};
use forerunner_core::{Direction, Metrics, Objectives};
use forerunner_runtime::{
    config::Level,
    event::{
        Compared, Confirmation, DisguisePart, Record, RecordPart, RecordPlan, ReplayPart, VaultPart,
    },
};
use std::fmt::Write as _;

/// Characters of a digest that are shown.
const DIGEST: usize = 16;

/// One part of a record, for a table.
pub(crate) struct Row {
    pub(crate) part: RecordPart,
    /// Whether it holds; `None` when it was not tried.
    pub(crate) holds: Option<bool>,
    /// What was found, in a sentence without full stop.
    pub(crate) text: String,
}

impl Row {
    /// `holds`, `refuses` or `not tried`.
    pub(crate) fn word(&self) -> &'static str {
        word(self.holds)
    }
}

pub(crate) fn word(holds: Option<bool>) -> &'static str {
    match holds {
        Some(true) => "holds",
        Some(false) => "refuses",
        None => "not tried",
    }
}

/// What came of it in two words: `record`, `no record`, or `no record yet`. `None` when no record
/// was asked for.
pub(crate) fn verdict(confirmation: &Confirmation) -> Option<&'static str> {
    match (&confirmation.record, confirmation.level) {
        (Some(record), _) if record.holds => Some("record"),
        (Some(record), _) if record.refused_by().is_none() => Some("no record yet"),
        (Some(_), _) | (None, Level::Record) => Some("no record"),
        (None, Level::Claim) => None,
    }
}

/// The sentence about the attempt, when a record was asked for.
pub(crate) fn sentence(confirmation: &Confirmation, objectives: &Objectives) -> Option<String> {
    let verdict = verdict(confirmation)?;
    let Some(record) = &confirmation.record else {
        return Some("No record: no claim holds, so the vault was not touched.".to_owned());
    };
    let id = record.plan.program.short();
    let rows = rows(record, objectives);
    let text = match verdict {
        "record" => {
            let vault = rows.first().map_or("", |row| &row.text);
            let disguise = match record.disguise {
                Some(_) => "in disguise it loses no more than noise explains",
                None => "this environment offers no disguise",
            };
            let replay = match record.replay.as_ref().is_some_and(|part| part.first.is_some()) {
                true => "its replay is equal bit for bit",
                false => "this environment offers no replay",
            };
            format!("Record: on the vault {id} is {vault}; {disguise}; {replay}.")
        }
        "no record" => {
            let refused = rows.iter().find(|row| row.holds == Some(false));
            let why =
                refused.map(|row| format!("the {} refuses {id}: {}", row.part.as_str(), row.text));
            format!("No record: {}.", why.unwrap_or_default())
        }
        _ => format!("No record yet: measurements of {id} are missing."),
    };
    Some(text)
}

/// Every part with what was found.
pub(crate) fn rows(record: &Record, objectives: &Objectives) -> Vec<Row> {
    let RecordPlan { disguise, .. } = record.plan;
    let untried = || match record.refused_by() {
        Some(_) => "another part refused before".to_owned(),
        None => "measurements are missing".to_owned(),
    };
    let vault = record.vault.as_ref().map(|part| (part.finalist.holds, vault(part, objectives)));
    let disguised = match (&record.disguise, disguise) {
        (Some(part), _) => Some((part.holds, self::disguise(part, objectives))),
        (None, Some(_)) => None,
        (None, None) => {
            Some((true, "not possible: the environment cannot disguise its data".to_owned()))
        }
    };
    let replay = record.replay.as_ref().map(|part| (part.holds, replay(part)));
    [(RecordPart::Vault, vault), (RecordPart::Disguise, disguised), (RecordPart::Replay, replay)]
        .into_iter()
        .map(|(part, found)| match found {
            Some((holds, text)) => Row { part, holds: Some(holds), text },
            None => Row { part, holds: None, text: untried() },
        })
        .collect()
}

fn vault(part: &VaultPart, objectives: &Objectives) -> String {
    let (metric, finalist) = (&part.finalist.metric, &part.finalist);
    let name = sanitize::line(metric);
    let Some(gain) = &finalist.gain else {
        let measured = |seeds: &[Metrics]| {
            let n = seeds.iter().filter(|metrics| metrics.contains_key(metric)).count();
            format!("{n} of {}", count(seeds.len() as u64, "seed"))
        };
        return format!(
            "a value of {name} on {}, the reference on {}",
            measured(&finalist.metrics),
            measured(&part.reference)
        );
    };
    let direction = direction(objectives, metric);
    let unit = unit(objectives, metric);
    format!(
        "{} than the reference in {name}, {}, {}: {} against {}",
        estimated(direction, gain),
        interval(direction, gain),
        count(gain.n as u64, "seed"),
        spread(&finalist.metrics, metric, unit),
        spread(&part.reference, metric, unit)
    )
}

fn disguise(part: &DisguisePart, objectives: &Objectives) -> String {
    let compared: Vec<String> =
        part.compared.iter().map(|one| compared(one, part, objectives)).collect();
    compared.join("; ")
}

fn compared(one: &Compared, part: &DisguisePart, objectives: &Objectives) -> String {
    let name = sanitize::line(&one.metric);
    let Some(test) = &one.test else {
        let missing =
            part.metrics.iter().filter(|metrics| !metrics.contains_key(&one.metric)).count();
        let seeds = count(part.metrics.len() as u64, "seed");
        return format!("in disguise no value of {name} on {missing} of {seeds}");
    };
    let direction = direction(objectives, &one.metric);
    let size = |loss: f64| match (one.logarithmic, direction) {
        (true, Direction::Minimize) => percent(loss.exp_m1()),
        (true, Direction::Maximize) => percent(-(-loss).exp_m1()),
        (false, _) => quantity(loss, &sanitize::line(unit(objectives, &one.metric))),
    };
    let found = if test.excess >= 0.0 {
        format!("{} worse", size(test.excess))
    } else {
        format!("{} better", size(test.excess).trim_start_matches('-'))
    };
    format!(
        "{name} {found} in disguise, noise explains up to {} (false alarms {}, a loss of {} is \
         noticed 9 times in 10)",
        size(test.threshold),
        percent(test.alpha),
        size(test.detectable)
    )
}

fn replay(part: &ReplayPart) -> String {
    let short = |digest: &str| sanitize::line(digest).chars().take(DIGEST).collect::<String>();
    match (&part.first, &part.again) {
        (None, _) => "not possible: the environment gives no digests".to_owned(),
        (Some(first), Some(again)) if first == again => {
            format!("the first measurement again, with the same digest {}", short(first))
        }
        (Some(first), Some(again)) => {
            format!("digest {} the first time, {} the second", short(first), short(again))
        }
        (Some(_), None) => "the second measurement was not accepted".to_owned(),
    }
}

/// What the error of the interval on the vault is shared with, and how the measuring went.
pub(crate) fn remarks(record: &Record) -> String {
    let mut text = format!(
        "Attempt {} of this run, which may err on the vault with {}, all its attempts together with 5 %.",
        record.plan.attempt,
        percent(1.0 - record.plan.confidence)
    );
    if record.sessions > 1 {
        let _ = write!(text, " Interrupted {}.", count(record.sessions - 1, "time"));
    }
    if record.repeated > 0 {
        let repeated = count(record.repeated, "measurement");
        let _ = write!(text, " Repeated because worker or environment failed: {repeated}.");
    }
    text
}

/// The attempt as a block of lines for a terminal.
pub(crate) fn block(record: &Record, objectives: &Objectives) -> String {
    let verdict = match (record.holds, record.refused_by()) {
        (true, _) => "holds",
        (false, Some(_)) => "refused",
        (false, None) => "not finished",
    };
    let mut text = format!("Record of {}: {verdict}\n", record.plan.program.short());
    for row in rows(record, objectives) {
        let _ = writeln!(text, "  {:8}  {:9}  {}", row.part.as_str(), row.word(), row.text);
    }
    let _ = writeln!(text, "  {}", remarks(record));
    let _ = writeln!(text, "  {}", drawn(&record.plan));
    text
}

/// The numbers that anybody needs to repeat it.
pub(crate) fn drawn(plan: &RecordPlan) -> String {
    let seeds: Vec<String> = plan.seeds.iter().map(u64::to_string).collect();
    let disguise = plan.disguise.map_or(String::new(), |number| format!("; disguise {number}"));
    format!("Drawn for it: seeds {}{disguise}", seeds.join(", "))
}

fn unit<'a>(objectives: &'a Objectives, metric: &str) -> &'a str {
    let objective = objectives.0.iter().find(|objective| objective.metric == metric);
    objective.map_or("", |objective| &objective.unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use forerunner_core::{Objective, ProgramId, Slice};
    use forerunner_runtime::event::Finalist;
    use forerunner_stats::{Estimate, NoiseTest};

    fn objectives() -> Objectives {
        Objectives(vec![Objective::minimize("seconds", "s")])
    }

    fn metrics(seconds: &[f64]) -> Vec<Metrics> {
        seconds.iter().map(|value| Metrics::from([("seconds".to_owned(), *value)])).collect()
    }

    /// A record that holds, with all its parts.
    pub(crate) fn record() -> Record {
        let (reference, plain) = ([32.3, 32.6, 31.9], [28.7, 29.1, 28.5]);
        let logarithms = |values: &[f64]| values.iter().map(|v| v.ln()).collect::<Vec<_>>();
        let disguised = [28.9, 29.0, 28.7];
        let test = NoiseTest::of(&logarithms(&plain), &logarithms(&disguised), &[], 0.01);
        let finalist = Finalist {
            program: ProgramId("a".repeat(32)),
            metrics: metrics(&plain),
            metric: "seconds".to_owned(),
            gain: Estimate::paired_log_ratio(&reference, &plain, 0.97),
            holds: true,
        };
        let compared = Compared { metric: "seconds".to_owned(), logarithmic: true, test };
        Record {
            plan: RecordPlan {
                attempt: 1,
                program: ProgramId("a".repeat(32)),
                reference: ProgramId("0".repeat(32)),
                slice: Slice::Vault,
                seeds: vec![11, 12, 13],
                disguise: Some(99),
                earlier: Vec::new(),
                confidence: 0.97,
            },
            vault: Some(VaultPart { reference: metrics(&reference), finalist }),
            disguise: Some(DisguisePart {
                metrics: metrics(&disguised),
                compared: vec![compared],
                holds: true,
            }),
            replay: Some(ReplayPart {
                first: Some("0123456789abcdef0123".to_owned()),
                again: Some("0123456789abcdef0123".to_owned()),
                holds: true,
            }),
            sessions: 1,
            repeated: 0,
            holds: true,
        }
    }

    fn say(record: Option<Record>, level: Level) -> String {
        let confirmation = Confirmation {
            slice: Slice::Val,
            reference: Vec::new(),
            finalists: Vec::new(),
            level,
            record,
        };
        sentence(&confirmation, &objectives()).unwrap_or("nothing".to_owned())
    }

    #[test]
    fn a_record_says_what_was_shown_on_what_and_how_sure() {
        insta::assert_snapshot!(say(Some(record()), Level::Record), @"Record: on the vault aaaaaaaa is 10.8 % better than the reference in seconds, 97 % interval 10.0 % to 11.7 %, 3 seeds: 28.77 ± 0.31 s against 32.27 ± 0.35 s; in disguise it loses no more than noise explains; its replay is equal bit for bit.");
        insta::assert_snapshot!(block(&record(), &objectives()), @"
        Record of aaaaaaaa: holds
          vault     holds      10.8 % better than the reference in seconds, 97 % interval 10.0 % to 11.7 %, 3 seeds: 28.77 ± 0.31 s against 32.27 ± 0.35 s
          disguise  holds      seconds 0.4 % worse in disguise, noise explains up to 6.2 % (false alarms 1.0 %, a loss of 8.0 % is noticed 9 times in 10)
          replay    holds      the first measurement again, with the same digest 0123456789abcdef
          Attempt 1 of this run, which may err on the vault with 3.0 %, all its attempts together with 5 %.
          Drawn for it: seeds 11, 12, 13; disguise 99
        ");
    }

    #[test]
    fn a_refusal_names_its_part() {
        let mut one = record();
        one.holds = false;
        one.replay = Some(ReplayPart {
            first: Some("0123456789abcdef0123".to_owned()),
            again: Some("ff".to_owned()),
            holds: false,
        });
        insta::assert_snapshot!(say(Some(one.clone()), Level::Record), @"No record: the replay refuses aaaaaaaa: digest 0123456789abcdef the first time, ff the second.");
        one.replay = None;
        let part = one.disguise.as_mut().expect("there");
        part.metrics[1].clear();
        (part.compared[0].test, part.holds) = (None, false);
        (one.sessions, one.repeated, one.plan.attempt) = (3, 1, 2);
        one.plan.confidence = 0.9924;
        insta::assert_snapshot!(block(&one, &objectives()), @"
        Record of aaaaaaaa: refused
          vault     holds      10.8 % better than the reference in seconds, 97 % interval 10.0 % to 11.7 %, 3 seeds: 28.77 ± 0.31 s against 32.27 ± 0.35 s
          disguise  refuses    in disguise no value of seconds on 1 of 3 seeds
          replay    not tried  another part refused before
          Attempt 2 of this run, which may err on the vault with 0.8 %, all its attempts together with 5 %. Interrupted 2 times. Repeated because worker or environment failed: 1 measurement.
          Drawn for it: seeds 11, 12, 13; disguise 99
        ");
    }

    #[test]
    fn what_was_not_tried_is_not_said_to_hold() {
        insta::assert_snapshot!(say(None, Level::Record), @"No record: no claim holds, so the vault was not touched.");
        assert_eq!(say(None, Level::Claim), "nothing");
        let mut one = record();
        (one.holds, one.vault, one.disguise, one.replay) = (false, None, None, None);
        insta::assert_snapshot!(say(Some(one.clone()), Level::Record), @"No record yet: measurements of aaaaaaaa are missing.");
        insta::assert_snapshot!(block(&one, &objectives()), @"
        Record of aaaaaaaa: not finished
          vault     not tried  measurements are missing
          disguise  not tried  measurements are missing
          replay    not tried  measurements are missing
          Attempt 1 of this run, which may err on the vault with 3.0 %, all its attempts together with 5 %.
          Drawn for it: seeds 11, 12, 13; disguise 99
        ");
        let mut bare = record();
        (bare.plan.disguise, bare.disguise) = (None, None);
        bare.replay = Some(ReplayPart { first: None, again: None, holds: true });
        insta::assert_snapshot!(say(Some(bare), Level::Record), @"Record: on the vault aaaaaaaa is 10.8 % better than the reference in seconds, 97 % interval 10.0 % to 11.7 %, 3 seeds: 28.77 ± 0.31 s against 32.27 ± 0.35 s; this environment offers no disguise; this environment offers no replay.");
    }
}
