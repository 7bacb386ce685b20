//! Reading an idea: an object of JSON, or paragraphs with headings.

use super::json;
use crate::text;
use forerunner_sdk::{Idea, Interval};
use serde_json::{Map, Value};

/// Bytes of a summary, and of each other part, that are kept.
const SUMMARY: usize = 240;
const PART: usize = 2_000;
/// Gains beyond this cannot be meant.
const LARGEST_GAIN: f64 = 1e6;

/// An idea as a model wrote it, cleaned.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sketch {
    /// One line.
    pub summary: String,
    /// Why it should help.
    pub mechanism: String,
    /// Why it should help in this program.
    pub why_here: String,
    /// Relative gain that is expected.
    pub expected_gain: Option<Interval>,
    /// What would show that it does not help.
    pub refutation: String,
}

impl Sketch {
    /// Mechanism, and why it should help here, in one text.
    #[must_use]
    pub fn reasons(&self) -> String {
        match (self.mechanism.is_empty(), self.why_here.is_empty()) {
            (_, true) => self.mechanism.clone(),
            (true, false) => self.why_here.clone(),
            (false, false) => format!("{}\n{}", self.mechanism, self.why_here),
        }
    }

    /// The idea of this model, without stage and details.
    pub(crate) fn idea(&self, model: String) -> Idea {
        Idea {
            summary: self.summary.clone(),
            expected_gain: self.expected_gain,
            mechanism: self.reasons(),
            refutation: self.refutation.clone(),
            stage: String::new(),
            model,
            details: Value::Null,
        }
    }
}

/// The parts of an idea, with the names that models give them.
const PARTS: [(Part, &[&str]); 5] = [
    (Part::Summary, &["summary", "idea", "title", "change"]),
    (Part::Mechanism, &["mechanism", "why it helps", "why", "rationale"]),
    (Part::WhyHere, &["why_here", "why here", "why it helps here", "here"]),
    (Part::Gain, &["expected_gain", "expected gain", "gain", "expected"]),
    (Part::Refutation, &["refutation", "what would refute it", "refuted by", "refute"]),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Summary,
    Mechanism,
    WhyHere,
    Gain,
    Refutation,
}

/// Reads an idea out of an answer.
///
/// # Errors
/// What is missing, in words for the model.
pub fn read_idea(answer: &str) -> Result<Sketch, String> {
    let named = |object: &Map<String, Value>, part| {
        let names = PARTS.iter().find(|(known, _)| *known == part).map_or(&[][..], |(_, n)| n);
        let key = |key: &str| key.trim().to_lowercase().replace('-', "_");
        let mut entries = object.iter();
        entries.find(|(k, _)| names.contains(&key(k).as_str())).map(|(_, value)| value.clone())
    };
    let is_idea = |object: &Map<String, Value>| named(object, Part::Summary).is_some();
    let part: Box<dyn Fn(Part) -> Option<Value>> = match json::object(answer, is_idea) {
        Some(object) => Box::new(move |part| named(&object, part)),
        None => {
            let found = headed(answer);
            Box::new(move |part| {
                let text = found.iter().find(|(known, _)| *known == part);
                text.map(|(_, text)| Value::String(text.clone()))
            })
        }
    };
    let words = |part_name| part(part_name).map(|value| words(&value)).unwrap_or_default();
    let sketch = Sketch {
        summary: text::line(&words(Part::Summary), SUMMARY),
        mechanism: text::capped(words(Part::Mechanism).trim(), PART),
        why_here: text::capped(words(Part::WhyHere).trim(), PART),
        expected_gain: part(Part::Gain).as_ref().and_then(interval),
        refutation: text::capped(words(Part::Refutation).trim(), PART),
    };
    if sketch.summary.is_empty() {
        return Err(
            "there is no `summary` in it: no JSON object with the keys of an IDEA could be \
                    read"
                .to_owned(),
        );
    }
    if sketch.mechanism.is_empty() {
        return Err("the `mechanism` is missing".to_owned());
    }
    Ok(sketch)
}

/// A value in words.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(words).collect::<Vec<_>>().join("\n"),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Paragraphs under headings such as `**Mechanism:** ...`, `## Summary` or `<summary>`.
fn headed(answer: &str) -> Vec<(Part, String)> {
    let mut parts: Vec<(Part, String)> = Vec::new();
    for line in answer.lines().take(2_000) {
        let trimmed = line.trim();
        if trimmed.starts_with("<<<<<") || trimmed.starts_with("```") || trimmed.starts_with("</") {
            // What follows is a change, or the end of a part, and no idea.
            if !trimmed.starts_with("</") && !parts.is_empty() {
                break;
            }
            continue;
        }
        match heading(trimmed) {
            Some((part, rest)) if parts.iter().all(|(known, _)| *known != part) => {
                parts.push((part, rest.to_owned()));
            }
            _ => {
                if let Some((_, text)) = parts.last_mut().filter(|(_, text)| text.len() < PART) {
                    text.push('\n');
                    text.push_str(line);
                }
            }
        }
    }
    for (_, text) in &mut parts {
        if let Some(end) = text.find("</") {
            text.truncate(end);
        }
    }
    parts
}

fn heading(line: &str) -> Option<(Part, &str)> {
    let decoration = |c: char| "#*_-<> `0123456789.".contains(c);
    let bare = line.trim_start_matches(decoration);
    let is_heading = bare.len() < line.len();
    PARTS.iter().flat_map(|(part, names)| names.iter().map(move |name| (*part, *name))).find_map(
        |(part, name)| {
            let start = bare.get(..name.len())?;
            if !start.eq_ignore_ascii_case(name) {
                return None;
            }
            let rest = bare[name.len()..].trim_start_matches(['*', '_', '`', ' ', '>']);
            match rest.strip_prefix(':') {
                Some(rest) => Some((part, rest.trim_start_matches(['*', '_', ' ']))),
                None if is_heading && (rest.is_empty() || line.starts_with('<')) => {
                    Some((part, rest))
                }
                None => None,
            }
        },
    )
}

/// A gain: two numbers, one number, an object with two, or words with numbers in them.
fn interval(value: &Value) -> Option<Interval> {
    let (numbers, percent) = match value {
        Value::Number(number) => (vec![number.as_f64()?], false),
        Value::String(text) => numbers(text),
        Value::Array(values) => several(values.iter()),
        Value::Object(object) => {
            let keys = ["low", "lower", "min", "from", "high", "upper", "max", "to"];
            several(keys.iter().filter_map(|key| object.get(*key)))
        }
        _ => return None,
    };
    let (low, high) = match numbers[..] {
        [one] => (one, one),
        [low, high, ..] => (low.min(high), low.max(high)),
        [] => return None,
    };
    // Nothing gets better by more than all of it: who writes 5 means five per cent.
    let scale = if percent || low.abs().max(high.abs()) > 1.5 { 0.01 } else { 1.0 };
    let sound = |value: f64| value.is_finite() && value.abs() <= LARGEST_GAIN;
    (sound(low) && sound(high)).then_some(Interval { low: low * scale, high: high * scale })
}

fn several<'a>(values: impl Iterator<Item = &'a Value>) -> (Vec<f64>, bool) {
    let mut all = (Vec::new(), false);
    for value in values.take(4) {
        match value {
            Value::Number(number) => all.0.extend(number.as_f64()),
            Value::String(text) => {
                let (found, percent) = numbers(text);
                all.0.extend(found.first());
                all.1 |= percent;
            }
            _ => {}
        }
    }
    all
}

/// The first two numbers in a text, and whether they are per cent.
fn numbers(text: &str) -> (Vec<f64>, bool) {
    let text = &text[..text.floor_char_boundary(200)];
    let mut found = Vec::new();
    let bytes = text.as_bytes();
    let mut idx = 0;
    while idx < bytes.len() && found.len() < 2 {
        if !bytes[idx].is_ascii_digit() {
            idx += 1;
            continue;
        }
        let start = idx;
        while idx < bytes.len() && bytes[idx].is_ascii_digit() {
            idx += 1;
        }
        // A point belongs to the number when a digit follows: `0.1..0.2` has two.
        if bytes.get(idx) == Some(&b'.') && bytes.get(idx + 1).is_some_and(u8::is_ascii_digit) {
            idx += 1;
            while idx < bytes.len() && bytes[idx].is_ascii_digit() {
                idx += 1;
            }
        }
        if bytes.get(idx).is_some_and(|byte| matches!(byte, b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(idx + 1), Some(b'-' | b'+')));
            if bytes.get(idx + 1 + sign).is_some_and(u8::is_ascii_digit) {
                idx += 1 + sign;
                while idx < bytes.len() && bytes[idx].is_ascii_digit() {
                    idx += 1;
                }
            }
        }
        // A minus right after a number, as in `1-3 %`, is a dash.
        let before = text[..start].trim_end_matches('-');
        let minus = text[..start].ends_with('-')
            && !before.ends_with(|c: char| c.is_ascii_digit() || c == '%' || c == '.');
        if let Ok(number) = text[start..idx].parse::<f64>() {
            found.push(if minus { -number } else { number });
        }
    }
    (found, text.contains('%') || text.contains("per cent") || text.contains("percent"))
}

#[cfg(test)]
mod tests;
