//! What the run cost, and which mutator did what.

use super::{
    markup::{Markup, el},
    material::{Material, State},
    text::{Column, Section, line, note, pairs, table},
};
use crate::number::{count, duration, money, number, percent};
use forerunner_runtime::event::EndReason;

/// Mutators and models that are listed, each.
const LISTED: usize = 30;
/// Characters of a name.
const NAME: usize = 60;

pub(crate) fn section(material: &Material) -> Section {
    let (summary, log) = (&material.summary, &material.log);
    let reason = match material.state {
        State::Open => "no end in the log: it still runs, or was killed",
        State::Ended(EndReason::Evaluations) => "the budget of evaluations is used up",
        State::Ended(EndReason::Dollars) => "the budget of money is used up",
        State::Ended(EndReason::Tokens) => "the budget of tokens is used up",
        State::Ended(EndReason::Mutators) => "no mutator makes proposals any more",
        State::Ended(EndReason::Time) => "the time is used up",
        State::Ended(EndReason::Interrupted) => "it was interrupted",
    };
    let sessions = match log.sessions {
        0 | 1 => String::new(),
        n => format!(" in {}", count(n, "session")),
    };
    let tally =
        |of: fn(&super::search::Tally) -> u64| -> u64 { material.mutators.values().map(of).sum() };
    let cost = material.mutators.values().fold((0, 0, 0.0), |sum, tally| {
        let cost = &tally.cost;
        (sum.0 + cost.tokens_in, sum.1 + cost.tokens_out, sum.2 + cost.dollars)
    });
    let mut facts = vec![
        ("wall time", format!("{}{sessions}", duration(log.seconds))),
        ("end", reason.to_owned()),
        (
            "evaluations",
            format!(
                "{}, {} accepted, {} measured before",
                number(summary.iterations as f64),
                number(summary.accepted as f64),
                number(tally(|tally| tally.duplicates) as f64)
            ),
        ),
        ("confirming measurements", number(log.confirmations as f64)),
        ("repairs of proposals", number(tally(|tally| tally.repairs) as f64)),
        (
            "language models",
            match cost {
                (0, 0, 0.0) => "none: 0 tokens, 0 dollars".to_owned(),
                (tokens_in, tokens_out, dollars) => format!(
                    "{} tokens in, {} out, {dollars:.2} dollars",
                    number(tokens_in as f64),
                    number(tokens_out as f64)
                ),
            },
        ),
    ];
    if let State::Ended(_) = material.state {
        let slots = count(material.config.run.slots as u64, "measuring slot");
        let text = format!("{slots}, busy {} of the time", percent(summary.slot_use));
        facts.insert(2, ("machine", text));
    }
    let facts = facts.into_iter().map(|(name, value)| (name, Markup::text(value)));
    let body = Markup::all([
        Markup::from(pairs(facts).class("facts")),
        mutators(material),
        models(material),
    ]);
    Section { id: "costs", short: "Costs", title: "What it cost", body }
}

fn mutators(material: &Material) -> Markup {
    if material.mutators.is_empty() {
        return Markup::default();
    }
    let steps = |name: &str| {
        material.steps.iter().filter(|step| step.stored.iteration.mutator == name).count()
    };
    let rows = material.mutators.iter().take(LISTED).map(|(name, tally)| {
        let failed = tally.proposals - tally.accepted;
        let numbers = [tally.proposals, tally.accepted, failed, tally.bests, steps(name) as u64];
        let numbers = numbers.into_iter().map(|n| Markup::text(number(n as f64)));
        let money = match tally.cost.tokens_in + tally.cost.tokens_out {
            0 => "–".to_owned(),
            tokens => format!("{} / ${:.2}", number(tokens as f64), tally.cost.dollars),
        };
        let head = Markup::from(el("b").text(line(name, NAME)));
        std::iter::once(head).chain(numbers).chain([Markup::text(money)]).collect()
    });
    let columns = [
        Column::text("mutator"),
        Column::number("proposals"),
        Column::number("accepted"),
        Column::number("failed"),
        Column::number("new bests"),
        Column::number("steps to the best"),
        Column::number("tokens / cost"),
    ];
    let mut body = Markup::from(table("Who proposed what", &columns, rows.collect()));
    if material.mutators.len() > LISTED {
        let more = count((material.mutators.len() - LISTED) as u64, "further mutator");
        body.push(note(format!("and {more}")));
    }
    body
}

/// What models were asked; nothing where there are none.
fn models(material: &Material) -> Markup {
    if material.models.is_empty() {
        return Markup::default();
    }
    let rows = material.models.iter().take(LISTED).map(|model| {
        let numbers = [model.calls, model.failures, model.cost.tokens_in, model.cost.tokens_out];
        let numbers = numbers.into_iter().map(|n| Markup::text(number(n as f64)));
        let mean = format!("{:.1}", model.seconds / model.calls.max(1) as f64);
        let head = Markup::from(el("b").text(line(&model.model, NAME)));
        let rest = [Markup::text(money(model.cost.dollars)), Markup::text(mean)];
        std::iter::once(head).chain(numbers).chain(rest).collect()
    });
    let columns = [
        Column::text("model"),
        Column::number("calls"),
        Column::number("without a reply"),
        Column::number("tokens in"),
        Column::number("tokens out"),
        Column::number("cost"),
        Column::number("seconds a call"),
    ];
    let mut body = Markup::from(table("What models were asked", &columns, rows.collect()));
    if material.models.len() > LISTED {
        let more = count((material.models.len() - LISTED) as u64, "further model");
        body.push(note(format!("and {more}")));
    }
    body
}
