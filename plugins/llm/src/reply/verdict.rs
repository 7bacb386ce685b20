//! Reading what a critic says.

use super::json;
use crate::text;

/// What a critic said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opined {
    /// Whether the idea is refused.
    pub veto: bool,
    /// Why, as one line.
    pub reason: String,
}

/// Bytes of a reason that are kept.
const REASON: usize = 500;

/// Reads a verdict; `None` when there is none, so that nonsense vetoes nothing.
#[must_use]
pub fn read_verdict(answer: &str) -> Option<Opined> {
    if let Some(object) = json::object(answer, |object| object.contains_key("verdict")) {
        let words =
            |key: &str| object.get(key).and_then(|value| value.as_str()).unwrap_or_default();
        let reason = text::line(words("reason"), REASON);
        return Some(Opined { veto: decision(words("verdict"))?, reason });
    }
    let start = text::line(answer, 4 * REASON);
    // Further on the word may be denied: "I would not veto this".
    let veto = decision(start.split_whitespace().next()?)?;
    Some(Opined { veto, reason: text::line(&start, REASON) })
}

fn decision(word: &str) -> Option<bool> {
    let word = word.trim_matches(|c: char| !c.is_alphabetic()).to_lowercase();
    match word.as_str() {
        "veto" | "vetoed" | "reject" | "rejected" => Some(true),
        "accept" | "accepted" | "approve" | "approved" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read_leniently_and_nonsense_is_none() {
        let check = |answer: &str, expected: Option<(bool, &str)>| {
            let opined = read_verdict(answer);
            let opined = opined.as_ref().map(|opined| (opined.veto, opined.reason.as_str()));
            assert_eq!(opined, expected, "{answer}");
        };
        check(r#"{"verdict": "veto", "reason": "tried\n already"}"#, Some((true, "tried already")));
        check("```json\n{\"verdict\": \"Accept.\"}\n```", Some((false, "")));
        check("VETO: it was tried.", Some((true, "VETO: it was tried.")));
        check("**Accept** - fine", Some((false, "**Accept** - fine")));
        check(r#"{"verdict": "maybe"}"#, None);
        check(r#"{"verdict": 1}"#, None);
        check("I cannot say.", None);
        check("I would not veto this.", None);
        check("There is no reason to reject it: accept.", None);
        check("", None);
    }
}
