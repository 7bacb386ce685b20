//! A file of the red team: one text that holds a gaming program and its honest twin.
//!
//! ```text
//! //! What is attempted, and why it would pay.
//! //!
//! //! row: 16
//! //! game: refused by verify/causality, verify/audit
//!
//! // game {
//! let x = (x + ahead)?;
//! // } honest {
//! let x = (x + behind)?;
//! // }
//! ```
//!
//! The twin has what stands between `honest {` and `}` in place of what stands before; the part may
//! be missing. `// game 900 times {` repeats the lines. The documentation at the head belongs to
//! neither program.

use super::bench::Job;
use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;
use std::fmt;

/// A gaming program, its honest twin, and what must become of them.
#[derive(Debug)]
pub(crate) struct Attack {
    /// Name of the file, without its ending.
    pub(crate) name: String,
    /// Row of the catalogue; 0 for honest programs.
    pub(crate) row: u32,
    pub(crate) expected: Expected,
    pub(crate) game: String,
    pub(crate) twin: String,
}

/// What must become of a program.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub(crate) enum Expected {
    /// Accepted, without a finding that rejects.
    Accepted,
    /// Not accepted, for one of these rules. A rule that ends in `/` stands for all that begin so.
    Refused { rules: Vec<String> },
    /// Accepted, and by this metric, of which less is better, no further below its twin than this;
    /// both measured with other names for all tokens, as records are, where that is said.
    GainsNothing { metric: String, within: f64, in_disguise: bool },
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => write!(f, "accepted"),
            Self::Refused { rules } => write!(f, "{}", rules.join(" or ")),
            Self::GainsNothing { metric, within, in_disguise } => {
                let disguise = if *in_disguise { " in disguise" } else { "" };
                write!(f, "no gain in {metric} > {within}{disguise}")
            }
        }
    }
}

impl Expected {
    /// Reads what stands behind `game:`.
    fn read(text: &str) -> Result<Self> {
        if let Some(rules) = text.strip_prefix("refused by ") {
            let rules: Vec<String> = rules.split(',').map(|rule| rule.trim().to_owned()).collect();
            ensure!(rules.iter().all(|rule| rule.contains('/')), "`{text}` names no rules");
            return Ok(Self::Refused { rules });
        }
        if let Some(gain) = text.strip_prefix("gains nothing in ") {
            let (metric, within) = gain.split_once(" within ").context("no ` within `")?;
            let plain = within.strip_suffix(" in disguise");
            let (in_disguise, within) = (plain.is_some(), plain.unwrap_or(within).parse()?);
            return Ok(Self::GainsNothing { metric: metric.into(), within, in_disguise });
        }
        bail!(
            "`game: {text}`: say `refused by RULE, RULE` or `gains nothing in METRIC within X`, with \
             ` in disguise` behind it where only a record's disguise shows it"
        )
    }

    /// Whether the program and its twin are measured in disguise.
    pub(crate) fn in_disguise(&self) -> bool {
        matches!(self, Self::GainsNothing { in_disguise: true, .. })
    }
}

/// Which programs a line belongs to.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Both,
    Game { times: usize },
    Honest,
}

impl Attack {
    /// Reads a file of the red team.
    pub(crate) fn read(name: &str, text: &str) -> Result<Self> {
        let key = |key: &str| {
            let prefix = format!("//! {key}: ");
            let found = text.lines().find_map(|line| line.strip_prefix(prefix.as_str()));
            found.with_context(|| format!("the head has no line `{}…`", prefix))
        };
        let row = key("row")?.parse().context("`row:` is no number")?;
        let expected = Expected::read(key("game")?)?;
        let (game, twin) = split(text)?;
        Ok(Self { name: name.to_owned(), row, expected, game, twin })
    }

    /// Reads an honest program.
    pub(crate) fn honest(name: &str, text: &str) -> Result<Self> {
        let (game, twin) = split(text)?;
        ensure!(game == twin, "an honest program has no gaming lines");
        Ok(Self { name: name.to_owned(), row: 0, expected: Expected::Accepted, game, twin })
    }

    /// The honest program to be measured, and the gaming one if there is one.
    pub(crate) fn jobs(&self) -> (Job<'_>, Option<Job<'_>>) {
        let in_disguise = self.expected.in_disguise();
        let game = Job { text: &self.game, in_disguise };
        let is_game = self.expected != Expected::Accepted;
        (Job { text: &self.twin, in_disguise }, is_game.then_some(game))
    }
}

/// The gaming program and the honest one.
fn split(text: &str) -> Result<(String, String)> {
    let (mut game, mut twin, mut block) = (String::new(), String::new(), String::new());
    let mut part = Part::Both;
    for (idx, line) in text.lines().enumerate() {
        let place = || format!("line {}", idx + 1);
        let marker = line.trim().strip_prefix("// ").unwrap_or_default();
        let next = match (part, marker) {
            (Part::Both, "game {") => Some(Part::Game { times: 1 }),
            (Part::Both, _) if marker.starts_with("game ") && marker.ends_with(" times {") => {
                let times = marker["game ".len()..marker.len() - " times {".len()].parse();
                Some(Part::Game { times: times.with_context(place)? })
            }
            (Part::Game { .. }, "} honest {") => Some(Part::Honest),
            (Part::Game { .. } | Part::Honest, "}") => Some(Part::Both),
            (Part::Game { .. } | Part::Honest, _) if marker.starts_with("game ") => {
                bail!("{}: a part within a part", place())
            }
            _ => None,
        };
        if let Some(next) = next {
            if let Part::Game { times } = part {
                game += &block.repeat(times);
                block.clear();
            }
            part = next;
        } else if !(part == Part::Both && line.starts_with("//!")) {
            match part {
                Part::Both => {
                    game += &format!("{line}\n");
                    twin += &format!("{line}\n");
                }
                Part::Game { .. } => block += &format!("{line}\n"),
                Part::Honest => twin += &format!("{line}\n"),
            }
        }
    }
    ensure!(part == Part::Both, "a part is not closed by `// }}`");
    let trimmed = |text: String| text.trim_start().to_owned();
    Ok((trimmed(game), trimmed(twin)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "//! Steals.\n//!\n//! row: 4\n//! game: refused by source/std, verify/\n\n";

    fn read(body: &str) -> Result<Attack> {
        Attack::read("theft", &format!("{HEAD}{body}"))
    }

    #[test]
    fn both_programs_are_in_one_text() {
        let attack = read(
            "a();\n    // game {\n    b();\n    // } honest {\n    c();\n    // }\nd(); // }\n\
             // game {\ne();\n// }\n",
        )
        .unwrap();
        assert_eq!((attack.row, attack.name.as_str()), (4, "theft"));
        assert_eq!(attack.game, "a();\n    b();\nd(); // }\ne();\n");
        assert_eq!(attack.twin, "a();\n    c();\nd(); // }\n");
        let padded = read("// game 3 times {\nx();\n// }\n").unwrap();
        assert_eq!((padded.game.as_str(), padded.twin.as_str()), ("x();\nx();\nx();\n", ""));
    }

    #[test]
    fn what_is_expected_is_read_and_shown() {
        let check = |text: &str, expected: Expected, shown: &str| {
            let read = Expected::read(text).unwrap();
            assert_eq!((&read, read.to_string().as_str()), (&expected, shown));
        };
        let rules = vec!["source/std".to_owned(), "verify/".to_owned()];
        let shown = "source/std or verify/";
        check("refused by source/std, verify/", Expected::Refused { rules }, shown);
        check(
            "gains nothing in loss within 0.02",
            Expected::GainsNothing { metric: "loss".into(), within: 0.02, in_disguise: false },
            "no gain in loss > 0.02",
        );
        check(
            "gains nothing in loss within 0.1 in disguise",
            Expected::GainsNothing { metric: "loss".into(), within: 0.1, in_disguise: true },
            "no gain in loss > 0.1 in disguise",
        );
        for wrong in ["", "refused by nobody", "gains nothing in loss", "accepted"] {
            assert!(Expected::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_that_are_not_well_formed_are_refused() {
        let fails = |text: &str, why: &str| {
            let error = format!("{:#}", Attack::read("x", text).unwrap_err());
            assert!(error.contains(why), "{error}");
        };
        fails("//! game: refused by a/b\n", "row");
        fails("//! row: 1\n", "game");
        fails(&format!("{HEAD}// game {{\nx();\n"), "not closed");
        fails(&format!("{HEAD}// game {{\n// game {{\n// }}\n// }}\n"), "line 7");
        fails(&format!("{HEAD}// game many times {{\n// }}\n"), "line 6");
        assert!(Attack::honest("x", "// game {\na();\n// }\n").is_err());
        assert_eq!(Attack::honest("x", "//! Fine.\n\na();\n").unwrap().twin, "a();\n");
    }
}
