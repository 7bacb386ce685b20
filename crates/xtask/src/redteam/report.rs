//! What came of the red team: the judgement on every program, the table, the totals.

use super::{attack::Expected, bench::Measured};
use crate::console::print;
use anyhow::Result;
use serde::Serialize;
use serde_json::json;
use std::fmt::Write as _;

/// Rules that the table names; the rest is counted.
const MOST_RULES: usize = 2;

/// The whole red team.
pub(crate) struct Report {
    pub(crate) lines: Vec<Line>,
    /// Different programs measured.
    pub(crate) n_programs: usize,
    /// CPU seconds of all of them.
    pub(crate) cpu_seconds: f64,
}

/// One attack with its twin, or one honest program.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// Row of the catalogue; none for honest programs.
    pub(crate) row: Option<u32>,
    pub(crate) expected: Expected,
    /// The gaming program; none for honest programs.
    pub(crate) game: Option<Side>,
    /// The honest program.
    pub(crate) twin: Side,
}

/// A program, and whether it came out as it must.
#[derive(Debug, Serialize)]
pub(crate) struct Side {
    #[serde(flatten)]
    pub(crate) measured: Measured,
    /// Whether this is what was expected.
    pub(crate) as_expected: bool,
}

impl Side {
    /// A gaming program. One that is refused for a reason nobody expected may have been refused by
    /// accident, and counts as missed.
    pub(crate) fn game(measured: Measured, expected: &Expected, twin: &Measured) -> Self {
        let as_expected = match expected {
            Expected::Accepted => is_fine(&measured),
            Expected::Refused { rules } => {
                let is_expected = |found: &String| {
                    rules.iter().any(|rule| {
                        found == rule || (rule.ends_with('/') && found.starts_with(rule.as_str()))
                    })
                };
                measured.verdict != "accepted" && measured.rules.iter().any(is_expected)
            }
            Expected::GainsNothing { metric, within, .. } => {
                match (measured.metrics.get(metric), twin.metrics.get(metric)) {
                    (Some(game), Some(honest)) => is_fine(&measured) && *game >= honest - within,
                    _ => false,
                }
            }
        };
        Self { measured, as_expected }
    }

    /// An honest program.
    pub(crate) fn twin(measured: Measured) -> Self {
        Self { as_expected: is_fine(&measured), measured }
    }

    fn verdict(&self) -> String {
        let Measured { verdict, rules, .. } = &self.measured;
        let (shown, others) = rules.split_at(rules.len().min(MOST_RULES));
        let by = if shown.is_empty() { "" } else { " by " };
        let more = match others.len() {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        format!("{verdict}{by}{}{more}", shown.join(", "))
    }

    fn loss(&self) -> String {
        self.measured.metrics.get("loss").map_or_else(String::new, |loss| format!("{loss:.3}"))
    }
}

fn is_fine(measured: &Measured) -> bool {
    measured.verdict == "accepted" && measured.rules.is_empty()
}

impl Line {
    pub(crate) fn honest(name: &str, measured: Measured) -> Self {
        let expected = Expected::Accepted;
        Self { name: name.to_owned(), row: None, expected, game: None, twin: Side::twin(measured) }
    }

    fn cells(&self) -> [String; 9] {
        let row = self.row.map_or_else(String::new, |row| row.to_string());
        let side = self.game.as_ref().unwrap_or(&self.twin);
        let (twin, twin_loss) = match self.game {
            Some(_) => (self.twin.verdict(), self.twin.loss()),
            None => (String::new(), String::new()),
        };
        let outcome = match &self.game {
            Some(game) if !game.as_expected => "MISSED",
            _ if !self.twin.as_expected => "FALSE ALARM",
            Some(_) => "caught",
            None => "accepted",
        };
        [
            self.name.clone(),
            row,
            self.expected.to_string(),
            side.verdict(),
            side.loss(),
            twin,
            twin_loss,
            format!("{:.1}", side.measured.cpu_seconds),
            outcome.to_owned(),
        ]
    }
}

const HEADS: [&str; 9] = [
    "program",
    "row",
    "expected",
    "verdict",
    "loss",
    "honest twin",
    "its loss",
    "CPU s",
    "outcome",
];

impl Report {
    /// Gaming programs, those of them caught, and honest programs refused.
    fn totals(&self) -> (usize, usize, usize) {
        let games = || self.lines.iter().filter_map(|line| line.game.as_ref());
        let caught = games().filter(|game| game.as_expected).count();
        let refused = self.lines.iter().filter(|line| !line.twin.as_expected).count();
        (games().count(), caught, refused)
    }

    /// Whether nothing was missed and nobody honest was refused.
    pub(crate) fn is_clean(&self) -> bool {
        let (games, caught, refused) = self.totals();
        games == caught && refused == 0
    }

    /// Prints a table in Markdown, what went wrong, and the totals.
    pub(crate) fn print(&self) -> Result<()> {
        let mut rows = vec![HEADS.map(str::to_owned)];
        rows.extend(self.lines.iter().map(Line::cells));
        print(table(&rows))?;
        for line in &self.lines {
            for (what, side) in [("missed", line.game.as_ref()), ("false alarm", Some(&line.twin))]
            {
                if let Some(side) = side.filter(|side| !side.as_expected) {
                    let (verdict, message) = (side.verdict(), &side.measured.message);
                    print(format_args!("{what}: {}: {verdict}: {message}", line.name))?;
                }
            }
        }
        let (games, caught, refused) = self.totals();
        print(format_args!(
            "{games} gaming programs: {caught} caught, {} missed; {} honest programs and twins: \
             {refused} false alarms; {} different programs measured in {:.0} CPU seconds",
            games - caught,
            self.lines.len(),
            self.n_programs,
            self.cpu_seconds
        ))?;
        Ok(())
    }

    /// Prints everything as one JSON object.
    pub(crate) fn print_json(&self) -> Result<()> {
        let (games, caught, refused) = self.totals();
        let value = json!({
            "programs": self.lines,
            "games": games,
            "caught": caught,
            "missed": games - caught,
            "honest": self.lines.len(),
            "false_alarms": refused,
            "cpu_seconds": self.cpu_seconds,
        });
        print(value)?;
        Ok(())
    }
}

/// A Markdown table whose columns line up.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: Vec<usize> =
        (0..N).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for (idx, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
        if idx == 0 {
            widths.iter().for_each(|width| text += &format!("| {} ", "-".repeat(*width)));
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(verdict: &str, rules: &[&str], loss: Option<f64>) -> Measured {
        Measured {
            verdict: verdict.into(),
            rules: rules.iter().map(|rule| (*rule).to_owned()).collect(),
            message: String::new(),
            metrics: loss.map(|loss| ("loss".to_owned(), loss)).into_iter().collect(),
            cpu_seconds: 1.25,
        }
    }

    #[test]
    fn a_game_counts_as_caught_only_for_an_expected_reason() {
        let twin = measured("accepted", &[], Some(3.0));
        let check = |expected: &Expected, game: Measured, caught: bool| {
            assert_eq!(Side::game(game, expected, &twin).as_expected, caught, "{expected}");
        };
        let rules = ["source/std", "verify/"].map(str::to_owned).into();
        let refused = Expected::Refused { rules };
        check(&refused, measured("failed", &["source/std"], None), true);
        check(&refused, measured("rejected", &["other/x", "verify/repeat"], Some(1.0)), true);
        check(&refused, measured("failed", &["source/std-else"], None), false);
        check(&refused, measured("failed", &["compile/error"], None), false);
        check(&refused, measured("accepted", &[], Some(1.0)), false);
        let nothing =
            Expected::GainsNothing { metric: "loss".into(), within: 0.1, in_disguise: false };
        check(&nothing, measured("accepted", &[], Some(2.95)), true);
        check(&nothing, measured("accepted", &[], Some(2.85)), false);
        check(&nothing, measured("accepted", &[], None), false);
        check(&nothing, measured("rejected", &["verify/repeat"], Some(3.0)), false);
    }

    #[test]
    fn totals_and_table_show_what_went_wrong() {
        let refused = Expected::Refused { rules: vec!["a/b".into()] };
        let fine = measured("accepted", &[], Some(3.0));
        let line = |game: Measured, twin: &Measured| Line {
            name: "x".into(),
            row: Some(3),
            expected: refused.clone(),
            game: Some(Side::game(game, &refused, twin)),
            twin: Side::twin(twin.clone()),
        };
        let mut report = Report { lines: Vec::new(), n_programs: 0, cpu_seconds: 0.0 };
        report.lines.push(line(measured("failed", &["a/b"], None), &fine));
        report.lines.push(Line::honest("honest/y", fine.clone()));
        assert!(report.is_clean());
        let cells = report.lines[0].cells();
        assert_eq!(cells[1..4], ["3", "a/b", "failed by a/b"]);
        assert_eq!(cells[5..], ["accepted", "3.000", "1.2", "caught"]);
        let many = Side::twin(measured("rejected", &["a/b", "c/d", "e/f", "g/h"], None));
        assert_eq!(many.verdict(), "rejected by a/b, c/d and 2 more");
        report.lines.push(line(fine.clone(), &fine));
        report.lines.push(line(measured("failed", &["a/b"], None), &measured("failed", &[], None)));
        assert_eq!(report.totals(), (3, 2, 1));
        assert_eq!(report.lines[2].cells()[8], "MISSED");
        assert_eq!(report.lines[3].cells()[8], "FALSE ALARM");
        assert_eq!(table(&[["a".to_owned()], ["bc".to_owned()]]), "| a  |\n| -- |\n| bc |\n");
    }
}
