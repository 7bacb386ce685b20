//! The answer: what got better, by how much, and how sure that is.

use super::{
    markup::{Element, Markup, el},
    material::{Material, State},
    plot::percent as place,
    text::{Column, identity, line, note, pairs, table},
};
use crate::gain::{change, estimated, interval};
use crate::number::{count, duration, number, percent};
use crate::record::{self, drawn, remarks};
use crate::summary::{answer, direction, spread};
use forerunner_core::{Direction, Metrics};
use forerunner_runtime::event::{Confirmation, EndReason, Finalist, Record};

/// Finalists that are listed.
const LISTED: usize = 10;
/// Characters of a name.
const NAME: usize = 60;

/// What the page says first.
pub(crate) struct Answer {
    /// In a few words, for the title of the page.
    pub(crate) title: String,
    big: String,
    rest: String,
    badge: (&'static str, &'static str),
    /// What came of an attempt at a record, when one was asked for.
    record: Option<&'static str>,
    sentences: String,
}

impl Answer {
    pub(crate) fn of(material: &Material) -> Self {
        let (summary, objectives) = (&material.summary, &material.objectives);
        let claim = summary.confirmation.as_ref().and_then(|claim| claim.finalists.first());
        let better = objectives.compare(&summary.best_metrics, &summary.reference).is_lt();
        let sentences = answer(summary, objectives);
        if material.reference.is_none() {
            return Self {
                title: "nothing measured yet".to_owned(),
                big: "Nothing measured yet".to_owned(),
                rest: "not even the reference".to_owned(),
                badge: ("open", "no result"),
                record: None,
                sentences: "The run has not measured its reference program.".to_owned(),
            };
        }
        let (big, rest) = match claim {
            _ if !better => ("No better program".to_owned(), "than the reference".to_owned()),
            Some(Finalist { gain: Some(gain), metric, .. }) => (
                estimated(direction(objectives, metric), gain),
                format!("in {} than the reference", line(metric, NAME)),
            ),
            _ => Self::unconfirmed(material),
        };
        let badge = match claim {
            Some(finalist) if finalist.holds => ("good", "confirmed"),
            _ if better => ("open", "not confirmed"),
            _ => ("open", "no gain"),
        };
        let record = summary.confirmation.as_ref().filter(|_| better).and_then(record::verdict);
        let title = format!("{big} {rest}, {}", record.unwrap_or(badge.1));
        Self { title, big, rest, badge, record, sentences }
    }

    /// What the search's own slice says of its best program.
    fn unconfirmed(material: &Material) -> (String, String) {
        let (summary, objectives) = (&material.summary, &material.objectives);
        let Some((objective, value)) = objectives.leading(&summary.best_metrics) else {
            return ("No result".to_owned(), String::new());
        };
        let name = line(&objective.metric, NAME);
        match summary.reference.get(&objective.metric) {
            Some(before) => {
                let change = change(objective, *before, value);
                let size = change.strip_suffix(" than").unwrap_or(&change).to_owned();
                (size, format!("in {name} than the reference, in the search alone"))
            }
            None => {
                let reached = crate::number::quantity(value, &line(&objective.unit, NAME));
                (reached, format!("in {name}, which the reference does not reach"))
            }
        }
    }

    pub(crate) fn render(self, material: &Material) -> Element {
        let mut sentences = self.sentences.lines();
        let first = sentences.next().unwrap_or_default();
        let others = sentences.map(|sentence| el("p").text(sentence));
        // What nobody confirmed is said in a quieter voice.
        let headline = el("h1")
            .class(self.badge.0)
            .attr("id", "answer-heading")
            .with(el("span").class("big").text(self.big))
            .text(" ")
            .with(el("span").class("rest").text(self.rest));
        let badge = el("p")
            .class("badges")
            .with(el("span").class(&format!("badge {}", self.badge.0)).text(self.badge.1))
            .with_all(self.record.map(|verdict| {
                let tone = if verdict == "record" { "good" } else { "open" };
                el("span").class(&format!("badge {tone}")).text(verdict)
            }));
        let confirmation = material.summary.confirmation.as_ref();
        let claims = confirmation.map(|c| {
            let attempt = c.record.as_ref().map(|record| self::attempt(material, record));
            Markup::all([finalists(material, c), how(c), attempt.unwrap_or_default()])
        });
        el("section")
            .attr("id", "answer")
            .attr("aria-labelledby", "answer-heading")
            .with(headline)
            .with(badge.with(state(material)))
            .with(el("p").class("lead").text(first))
            .with_all(others)
            .with(facts(material))
            .with(claims.unwrap_or_default())
    }
}

/// Where the run stands, when it has not simply ended.
fn state(material: &Material) -> Option<Element> {
    let text = match material.state {
        State::Open => "not finished",
        State::Ended(EndReason::Interrupted) => "interrupted",
        State::Ended(_) => return None,
    };
    Some(el("span").class("badge open").text(text))
}

/// The figures behind the answer, large.
fn facts(material: &Material) -> Element {
    let summary = &material.summary;
    let mut facts: Vec<(&str, Markup)> = Vec::new();
    let claim = summary.confirmation.as_ref().and_then(|c| Some((c, c.finalists.first()?)));
    if let Some((confirmation, finalist)) = claim {
        let unit = unit(material, &finalist.metric);
        let mean = |of: &[Metrics]| Markup::text(spread(of, &finalist.metric, unit));
        let range = finalist
            .gain
            .map(|gain| interval(direction(&material.objectives, &finalist.metric), &gain));
        if let Some((confidence, range)) = range.as_ref().and_then(|r| r.split_once(" interval ")) {
            let note = Markup::from(el("small").text(format!(" ({confidence})")));
            facts.push(("interval", Markup::all([Markup::text(range), note])));
        }
        facts.push(("reference, mean ± SD", mean(&confirmation.reference)));
        facts.push(("finalist, mean ± SD", mean(&finalist.metrics)));
        if let Some(gain) = finalist.gain.filter(|gain| gain.mean > 0.0) {
            let name = match direction(&material.objectives, &finalist.metric) {
                Direction::Minimize => "reference ÷ finalist, mean over seeds",
                Direction::Maximize => "finalist ÷ reference, mean over seeds",
            };
            facts.push((name, Markup::text(format!("{:.2} ×", gain.mean.exp()))));
        }
    }
    facts.push(("evaluations", Markup::text(number(summary.iterations as f64))));
    facts.push(("wall time", Markup::text(duration(material.log.seconds))));
    pairs(facts).class("facts-large")
}

fn unit<'a>(material: &'a Material, metric: &str) -> &'a str {
    let objective = material.objectives.0.iter().find(|objective| objective.metric == metric);
    objective.map_or("", |objective| &objective.unit)
}

/// Every finalist with its interval, drawn on a common scale.
fn finalists(material: &Material, confirmation: &Confirmation) -> Markup {
    let Some(first) = confirmation.finalists.first() else { return Markup::default() };
    let (metric, unit) = (&first.metric, unit(material, &first.metric));
    let direction = direction(&material.objectives, metric);
    let listed = || confirmation.finalists.iter().take(LISTED);
    // Half as far again as the widest estimate, so that a wild interval does not hide the others.
    let reach = listed()
        .filter_map(|finalist| finalist.gain)
        .flat_map(|gain| {
            [gain.mean, gain.low.max(-3.0 * gain.mean.abs()), gain.high.min(3.0 * gain.mean.abs())]
        })
        .fold((0.0_f64, 0.0_f64), |(low, high), gain| (low.min(gain), high.max(gain)));
    let margin = (reach.1 - reach.0).max(1e-9) * 0.08;
    let reach = (reach.0 - margin, reach.1 + margin);
    let reference = vec![
        Markup::text("reference"),
        Markup::text(spread(&confirmation.reference, metric, unit)),
        Markup::default(),
        Markup::default(),
        Markup::default(),
    ];
    let rows = listed().map(|finalist| {
        let (size, range, drawn) = match &finalist.gain {
            Some(gain) => (
                estimated(direction, gain),
                interval(direction, gain),
                Markup::from(whisker(gain, reach, finalist.holds)),
            ),
            None => ("no gain can be computed".to_owned(), String::new(), Markup::default()),
        };
        let (class, word) = match finalist.holds {
            true => ("badge good", "confirmed"),
            false => ("badge open", "not confirmed"),
        };
        vec![
            identity(&finalist.program).into(),
            Markup::text(spread(&finalist.metrics, metric, unit)),
            Markup::all([
                Markup::from(el("b").text(size)),
                Markup::from(el("span").class("note").text(range)),
            ]),
            drawn,
            el("span").class(class).text(word).into(),
        ]
    });
    let name = line(metric, NAME);
    let columns = [
        Column::text("program"),
        Column::number(format!("{name}, mean ± SD")),
        Column::text("gain"),
        Column::text("the gain drawn; dashed: none"),
        Column::text("claim"),
    ];
    let caption = format!(
        "The finalists on {} ({})",
        count(confirmation.reference.len() as u64, "fresh seed"),
        crate::evaluation::slice(confirmation.slice)
    );
    let rows = std::iter::once(reference).chain(rows).collect();
    let mut table = Markup::from(table(&caption, &columns, rows).class("stacked finalists"));
    if confirmation.finalists.len() > LISTED {
        let more = count((confirmation.finalists.len() - LISTED) as u64, "further finalist");
        table.push(note(format!("and {more}")));
    }
    table
}

/// The parts of an attempt at a record.
fn attempt(material: &Material, record: &Record) -> Markup {
    let rows = record::rows(record, &material.objectives).into_iter().map(|row| {
        let class = if row.holds == Some(true) { "badge good" } else { "badge open" };
        let badge = el("span").class(class).text(row.word()).into();
        vec![Markup::text(row.part.as_str()), badge, Markup::text(row.text)]
    });
    let columns = [Column::text("part"), Column::text("verdict"), Column::text("what was found")];
    let caption = format!(
        "The attempt at a record of {} ({})",
        record.plan.program.short(),
        crate::evaluation::slice(record.plan.slice)
    );
    Markup::all([
        Markup::from(table(&caption, &columns, rows.collect()).class("stacked")),
        note(remarks(record)).into(),
        note(drawn(&record.plan)).into(),
    ])
}

/// An estimate with its interval and the line of no gain.
fn whisker(gain: &forerunner_stats::Estimate, reach: (f64, f64), holds: bool) -> Element {
    let at = |gain: f64| place(((gain - reach.0) / (reach.1 - reach.0)).clamp(0.0, 1.0));
    let (low, mean, high) = (at(gain.low), at(gain.mean), at(gain.high));
    let line = |class: &'static str| el("line").class(class);
    el("svg")
        .class(if holds { "whisker good" } else { "whisker open" })
        .attr("aria-hidden", "true")
        .with(line("zero").attr("x1", at(0.0)).attr("x2", at(0.0)).attr("y2", "100%"))
        .with(line("range").attr("x1", low).attr("x2", high).attr("y1", "50%").attr("y2", "50%"))
        .with(el("circle").attr("cx", mean).attr("cy", "50%").attr("r", 5))
}

/// How a claim comes about.
fn how(confirmation: &Confirmation) -> Markup {
    use forerunner_core::Slice;
    let held_out = match confirmation.slice {
        Slice::Dev => "on the slice that the search used too",
        Slice::Val | Slice::Vault => "on a held-out slice that the search never saw",
    };
    let finalists = confirmation.finalists.len();
    let confidence = confirmation
        .finalists
        .first()
        .and_then(|finalist| finalist.gain)
        .map_or(String::new(), |gain| {
            let shared = if finalists > 1 {
                format!(", widened because the best of {finalists} is announced")
            } else {
                String::new()
            };
            format!(
                " Student's t interval of the mean logarithmic ratio over paired seeds, at {}{shared}.",
                percent(gain.confidence)
            )
        });
    let text = format!(
        "After the search, finalists and reference were measured again on fresh seeds, {held_out}, \
         in alternating order.{confidence}"
    );
    note(text).into()
}
