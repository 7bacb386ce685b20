//! Ideas as text.

use super::{By, Ideas, Order, Tried, View, group::Group, group::ModelUse};
use crate::{
    evaluation::{environment, verdict_word},
    number::{count, money, number, percent},
    sanitize,
    table::{Side, Table},
    terminal::shorten,
};
use forerunner_core::Verdict;
use forerunner_stats::{Calibration, Estimate, Proportion};
use std::{cmp::Ordering, fmt::Write as _};

/// Columns of an idea in the list.
const IDEA: usize = 70;
/// Columns of a name.
const NAME: usize = 30;

/// What every reader of a gain should know.
pub(super) const CAUTION: &str = "Gains are relative to the parent, in the most important objective \
    that both have, from one seed each on the search's slice (dev): part of every gain is luck.\n\
    Children of one parent share the luck of its measurement, which makes intervals too narrow.";

impl Ideas {
    /// The list, then what was expected against what came, success by group, and what models cost.
    pub fn text(&self, view: &View) -> String {
        let task = environment(&self.environment, &self.track);
        let n_expected = self.tried.iter().filter(|one| one.idea.expected_gain.is_some()).count();
        let mut text = format!(
            "{task}: {}, {n_expected} with an expected gain\n{CAUTION}\n",
            count(self.tried.len() as u64, "idea")
        );
        if self.tried.is_empty() {
            return text;
        }
        let groups = By::ALL.into_iter().filter(|by| view.by.is_none_or(|only| only == *by));
        let groups = groups.map(|by| {
            let groups = self.groups(by);
            // A group of all says nothing about groups, unless it was asked for.
            let tells = groups.len() > 1 || view.by.is_some() || by == By::Mutator;
            if tells { rates(&format!("by {}", by.as_str()), &groups) } else { String::new() }
        });
        let blocks = [self.list(view), calibration(Self::calibration(&self.all()))]
            .into_iter()
            .chain(groups)
            .chain([rates("critic", &self.critic()), models(&self.models())]);
        for block in blocks.filter(|block| !block.is_empty()) {
            text.push('\n');
            text.push_str(&block);
        }
        text
    }

    fn list(&self, view: &View) -> String {
        let mut tried = self.all();
        if view.order == Order::Gain {
            // Stable: ideas without a gain stay in their order.
            tried.sort_by(|a, b| match (a.gain, b.gain) {
                (Some(a), Some(b)) => b.total_cmp(&a),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => Ordering::Equal,
            });
        }
        let mut table = Table::new(&[
            ("#", Side::Right),
            ("gain", Side::Right),
            ("expected", Side::Right),
            ("", Side::Left),
            ("outcome", Side::Left),
            ("mutator", Side::Left),
            ("model", Side::Left),
            ("stage", Side::Left),
            ("island", Side::Right),
            ("idea", Side::Left),
        ]);
        for one in tried.iter().take(view.listed) {
            table.row(row(one));
        }
        table.without_constant(&["island"]);
        let title = match (view.order, tried.len() > view.listed) {
            (Order::Gain, false) => "ideas, best first".to_owned(),
            (Order::Iteration, false) => "ideas, as they came".to_owned(),
            (order, true) => {
                let which = if order == Order::Gain { "best" } else { "first" };
                format!("the {which} {} of {} ideas", view.listed, tried.len())
            }
        };
        format!("{title}\n{}", table.render())
    }
}

fn row(tried: &Tried) -> Vec<String> {
    let expected = tried.idea.expected_gain;
    let place = tried.forecast().map_or("", |forecast| {
        if forecast.hit() {
            "hit"
        } else if forecast.measured < forecast.low {
            "below"
        } else {
            "above"
        }
    });
    let outcome = match tried.verdict {
        _ if tried.duplicate => "same program as before".to_owned(),
        Verdict::Accepted if tried.improved => "better".to_owned(),
        Verdict::Accepted if tried.gain.is_none() => "accepted".to_owned(),
        Verdict::Accepted => "not better".to_owned(),
        Verdict::Failed(cause) => format!("failed ({})", cause.as_str()),
        verdict => verdict_word(verdict).to_owned(),
    };
    let summary = shorten(&sanitize::line(&tried.idea.summary), IDEA);
    vec![
        tried.iteration.to_string(),
        tried.gain.map(signed).unwrap_or_default(),
        expected.map_or_else(String::new, |expected| {
            format!("{} to {}", signed(expected.low), signed(expected.high))
        }),
        place.to_owned(),
        outcome,
        name(&tried.mutator),
        name(&tried.model),
        name(&tried.idea.stage),
        tried.island.to_string(),
        if summary.is_empty() { "(none given)".to_owned() } else { summary },
    ]
}

fn name(text: &str) -> String {
    shorten(&sanitize::line(text), NAME)
}

/// `+3.1 %`.
fn signed(share: f64) -> String {
    // Whoever expects more than a hundredfold is told so in few digits.
    let text =
        if share.abs() < 100.0 { percent(share) } else { format!("{} %", number(100.0 * share)) };
    if share > 0.0 && text != "0.0 %" { format!("+{text}") } else { text }
}

/// `60.0 % (42 to 75)`.
fn share(share: Option<Proportion>) -> String {
    let Some(share) = share else { return String::new() };
    let ends = |end: f64| format!("{:.0}", 100.0 * end);
    format!("{} ({} to {})", percent(share.rate), ends(share.low), ends(share.high))
}

/// `+3.1 % (-1.0 to +7.2, 4 ideas)`.
fn mean(gain: Estimate) -> String {
    let n = count(gain.n as u64, "idea");
    if !gain.is_bounded() {
        return format!("{} ({n})", signed(gain.mean));
    }
    let end = |end: f64| signed(end).trim_end_matches(" %").to_owned();
    format!("{} ({} to {}, {n})", signed(gain.mean), end(gain.low), end(gain.high))
}

fn calibration(found: Option<Calibration>) -> String {
    let Some(found) = found else {
        return "expected against measured: no idea has both an expected gain and a measured one\n"
            .to_owned();
    };
    let n = found.coverage.n;
    let hits = n - found.below - found.above;
    let should = percent(found.nominal);
    let of = |value: Option<f64>| value.map_or("unknown".to_owned(), |value| format!("{value:.2}"));
    let error = if found.error.is_bounded() {
        let (low, high) = (signed(found.error.low), signed(found.error.high));
        format!("{} (95 % interval {low} to {high})", signed(found.error.mean))
    } else {
        signed(found.error.mean)
    };
    let mut text = format!("expected against measured, {}\n", count(n, "idea"));
    let _ = writeln!(
        text,
        "  in the interval      {hits} of {n}: {} with 95 % confidence; \
         an interval is asked to hold {should}",
        share(Some(found.coverage))
    );
    let _ = writeln!(text, "  below / above it     {} / {}", found.below, found.above);
    let _ = writeln!(text, "  measured - expected  {error} on average");
    let _ = writeln!(
        text,
        "  correlation          {}, of ranks {}",
        of(found.correlation),
        of(found.rank_correlation)
    );
    let _ = writeln!(
        text,
        "  will it gain?        Brier score {:.3} (0 is a prophet, 0.25 a coin); \
         {:.3} for knowing only how many do",
        found.brier, found.brier_of_base_rate
    );
    text
}

fn rates(title: &str, groups: &[Group<'_>]) -> String {
    if groups.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        ("", Side::Left),
        ("ideas", Side::Right),
        ("valid", Side::Right),
        ("accepted", Side::Right),
        ("better than parent", Side::Right),
        ("in interval", Side::Right),
        ("measured - expected", Side::Right),
    ]);
    for group in groups {
        let calibration = group.calibration();
        let name = if group.name.is_empty() { "(none)".to_owned() } else { name(&group.name) };
        table.row(vec![
            name,
            group.tried.len().to_string(),
            share(group.share(Tried::is_valid)),
            share(group.share(Tried::is_accepted)),
            share(group.share(|tried| tried.improved)),
            share(calibration.map(|found| found.coverage)),
            calibration.map(|found| signed(found.error.mean)).unwrap_or_default(),
        ]);
    }
    format!("{title}, shares with their 95 % intervals\n{}", table.render())
}

fn models(models: &[ModelUse]) -> String {
    if models.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        ("", Side::Left),
        ("calls", Side::Right),
        ("failed", Side::Right),
        ("tokens in", Side::Right),
        ("out", Side::Right),
        ("cost", Side::Right),
        ("seconds a call", Side::Right),
        ("mean gain", Side::Left),
        ("gained", Side::Right),
        ("per dollar", Side::Right),
        ("per 1,000 tokens", Side::Right),
    ]);
    for model in models {
        table.row(vec![
            name(&model.model),
            model.calls.to_string(),
            model.failures.to_string(),
            number(model.cost.tokens_in as f64),
            number(model.cost.tokens_out as f64),
            money(model.cost.dollars),
            format!("{:.1}", model.seconds / model.calls.max(1) as f64),
            model.mean_gain().map(mean).unwrap_or_default(),
            percent(model.gained),
            model.gain_per_dollar().map(percent).unwrap_or_default(),
            model.gain_per_1000_tokens().map(percent).unwrap_or_default(),
        ]);
    }
    format!(
        "models; who had an idea has its gain, whoever wrote the program\n\
         mean gain: of its ideas that were measured, losses included, with its 95 % interval\n\
         gained: gains added up, losses left out, which grows with the number of tries\n{}",
        table.render()
    )
}
