//! `IDEA.md`: what the agent had in mind, read leniently.

use crate::text::{block, line};
use forerunner_sdk::{Idea, Interval};

/// Characters of a summary.
const SUMMARY: usize = 200;
/// Characters of any longer part.
const PART: usize = 2000;

/// What the file can say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Summary,
    Gain,
    Mechanism,
    Refutation,
}

/// Reads an idea. Whatever is missing stays empty; a text without any heading is a summary (its
/// first line) and a mechanism (the rest).
pub(crate) fn parse(text: &str) -> Idea {
    let mut parts: [String; 4] = Default::default();
    let mut current = None;
    for raw in text.lines().take(400) {
        let (part, rest) = match heading(raw) {
            Some((part, rest)) => (Some(part), rest),
            None => (current, raw),
        };
        // The first line without a heading is the summary, what follows it the mechanism.
        let part = part.unwrap_or(match parts[Part::Summary as usize].is_empty() {
            true => Part::Summary,
            false => Part::Mechanism,
        });
        if heading(raw).is_some() {
            current = Some(part);
        }
        let rest = rest.trim();
        if !(rest.is_empty() && parts[part as usize].is_empty()) {
            parts[part as usize].push_str(rest);
            parts[part as usize].push('\n');
        }
    }
    let [summary, gain, mechanism, refutation] = parts;
    let summary = line(summary.trim_start_matches(['#', '*', '-', ' ']), SUMMARY);
    Idea {
        summary: summary.trim_matches('*').trim().to_owned(),
        expected_gain: interval(&gain),
        mechanism: block(mechanism.trim(), PART),
        refutation: block(refutation.trim(), PART),
        ..Idea::default()
    }
}

/// The part that a line opens, with what follows on the same line.
fn heading(raw: &str) -> Option<(Part, &str)> {
    let plain = raw.trim_start_matches(['#', '*', '-', '_', ' ', '\t']);
    let marked = raw.trim_start().starts_with(['#', '*']);
    let (name, rest) = match plain.split_once(':') {
        Some((name, rest)) => (name, rest),
        None if marked => (plain, ""),
        None => return None,
    };
    let name = name.trim_matches(['*', '_', ' ']).to_ascii_lowercase();
    let part = match name.as_str() {
        "summary" | "idea" | "title" => Part::Summary,
        "gain" | "expected gain" | "expected_gain" | "expected" | "expectation" => Part::Gain,
        "mechanism" | "why" | "reason" | "rationale" => Part::Mechanism,
        "refutation" | "refuted by" | "what would refute it" | "falsification" => Part::Refutation,
        _ => return None,
    };
    Some((part, rest.trim_start_matches(['*', '_'])))
}

/// The first one or two numbers of a text as an interval of relative gains: percentages when it says
/// so, else shares. Numbers too large for shares are of something else, such as seconds.
fn interval(text: &str) -> Option<Interval> {
    let numbers = numbers(text.get(..text.floor_char_boundary(400)).unwrap_or(text));
    let first = *numbers.first()?;
    let second = numbers.get(1).copied().unwrap_or(first);
    let percent = text.contains('%') || text.contains("per cent") || text.contains("percent");
    if !percent && (first.abs() > 1.0 || second.abs() > 1.0) {
        return None;
    }
    let scale = if percent { 0.01 } else { 1.0 };
    let (low, high) = (first.min(second) * scale, first.max(second) * scale);
    ((-1.0..=10.0).contains(&low) && (-1.0..=10.0).contains(&high))
        .then_some(Interval { low, high })
}

/// Decimal numbers in order. A minus after a number or a per cent sign is a dash: `2-8 %`.
fn numbers(text: &str) -> Vec<f64> {
    let characters: Vec<char> = text.chars().collect();
    let digit = |at: usize| characters.get(at).is_some_and(char::is_ascii_digit);
    let mut found = Vec::new();
    let mut at = 0;
    while at < characters.len() && found.len() < 8 {
        if !digit(at) {
            at += 1;
            continue;
        }
        let before = &characters[..at];
        let minus = before.last().is_some_and(|c| matches!(c, '-' | '−'));
        let start_of_word = |c: &char| c.is_ascii_digit() || *c == '%';
        let dash =
            minus && before[..at - 1].iter().rev().find(|c| **c != ' ').is_some_and(start_of_word);
        let mut number = String::new();
        while digit(at)
            || characters.get(at) == Some(&'.') && digit(at + 1) && !number.contains('.')
        {
            number.push(characters[at]);
            at += 1;
        }
        if matches!(characters.get(at), Some('e' | 'E')) {
            let signed = usize::from(matches!(characters.get(at + 1), Some('-' | '+')));
            let end = (at + 1 + signed..).find(|at| !digit(*at)).unwrap_or(at);
            if end > at + 1 + signed {
                number.extend(&characters[at..end]);
                at = end;
            }
        }
        if let Ok(value) = number.parse::<f64>() {
            found.push(if minus && !dash { -value } else { value });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gain(text: &str) -> Option<(f64, f64)> {
        let round = |value: f64| (value * 1e9).round() / 1e9;
        interval(text).map(|interval| (round(interval.low), round(interval.high)))
    }

    #[test]
    fn gains_are_read_as_people_write_them() {
        for (text, expected) in [
            ("2% to 8%", Some((0.02, 0.08))),
            ("2-8 %", Some((0.02, 0.08))),
            ("2 – 8 per cent", Some((0.02, 0.08))),
            ("[0.02, 0.12]", Some((0.02, 0.12))),
            ("0.02..0.08", Some((0.02, 0.08))),
            ("-1% to 3%", Some((-0.01, 0.03))),
            ("8% - 2%", Some((0.02, 0.08))),
            ("about 5 %", Some((0.05, 0.05))),
            ("about 5", None),
            ("12 s to 10 s", None),
            ("0.5", Some((0.5, 0.5))),
            ("1e-3 to 2E-3", Some((0.001, 0.002))),
            ("5 elephants", None),
            ("1e309 or 5 %", None),
            ("999999 %", None),
            ("unknown", None),
            ("", None),
        ] {
            assert_eq!(gain(text), expected, "{text}");
        }
    }

    #[test]
    fn headings_come_in_many_forms() {
        for text in [
            "Summary: Faster\nExpected gain: 1 to 2 %\nMechanism: Less work.\nAnd again.\nRefutation: None.",
            "# Summary\nFaster\n\n## Expected gain\n1 % to 2 %\n## Mechanism\n\nLess work.\nAnd again.\n## Refutation\nNone.\n",
            "**Summary:** Faster\n**Expected gain:** 0.01 to 0.02\n**Why:** Less work.\nAnd again.\n- **Refuted by**: None.",
            "Faster\nLess work.\nAnd again.\nGain: 1-2%\nRefutation: None.",
        ] {
            let idea = parse(text);
            assert_eq!(idea.summary, "Faster", "{text}");
            assert_eq!(idea.mechanism, "Less work.\nAnd again.", "{text}");
            assert_eq!(idea.refutation, "None.", "{text}");
            assert_eq!(gain("1-2%"), Some((0.01, 0.02)));
            assert!(idea.expected_gain.is_some(), "{text}");
        }
        assert_eq!(parse(""), Idea::default());
        assert_eq!(parse("\u{1b}]0;evil\u{7}Faster").summary, "]0;evilFaster");
        assert!(parse(&"x".repeat(100_000)).summary.chars().count() <= SUMMARY + 1);
    }
}
