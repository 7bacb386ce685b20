//! Ideas as models write them, well and badly.

use super::*;
use proptest::prelude::*;

fn check(answer: &str, summary: &str, mechanism: &str, gain: Option<(f64, f64)>) {
    let sketch = read_idea(answer).expect(answer);
    assert_eq!((sketch.summary.as_str(), sketch.mechanism.as_str()), (summary, mechanism));
    let found = sketch.expected_gain.map(|gain| (gain.low, gain.high));
    assert_eq!(found, gain, "{answer}");
}

#[test]
fn objects_are_read_with_their_usual_mistakes() {
    check(
        r#"{"summary": "s", "mechanism": "m", "expected_gain": [0.01, 0.04], "refutation": "r"}"#,
        "s",
        "m",
        Some((0.01, 0.04)),
    );
    check(
        "Here it is.\n```json\n{\"Summary\": \"two\nlines\", \"Mechanism\": \"m\",}\n```",
        "two lines",
        "m",
        None,
    );
    check(
        r#"{"x": 1} {"idea": "s", "why": ["a", "b"], "gain": {"low": "2 %", "high": "5 %"}}"#,
        "s",
        "a\nb",
        Some((0.02, 0.05)),
    );
    check(r#"{"summary": "s\u001b[31m", "mechanism": "m\u0007"}"#, "s", "m", None);
}

#[test]
fn paragraphs_with_headings_pass_as_well() {
    check(
        "**Summary:** use less\n**Mechanism**: it costs less\nthan before\n**Expected gain:** 1-3 %",
        "use less",
        "it costs less\nthan before",
        Some((0.01, 0.03)),
    );
    check(
        "## Idea\nuse less\n\n## Mechanism\ncosts less\n\n## Refutation\nno change",
        "use less",
        "costs less",
        None,
    );
    check(
        "<summary>use less</summary>\n<mechanism>\ncosts less\n</mechanism>\n",
        "use less",
        "costs less",
        None,
    );
}

#[test]
fn gains_are_read_in_many_forms() {
    let check = |text: &str, expected: Option<(f64, f64)>| {
        let value: Value = serde_json::from_str(text).expect(text);
        let found = interval(&value).map(|gain| (gain.low, gain.high));
        let close =
            |(a, b): (f64, f64), (c, d): (f64, f64)| (a - c).abs() < 1e-12 && (b - d).abs() < 1e-12;
        let same = match (found, expected) {
            (Some(found), Some(expected)) => close(found, expected),
            (found, expected) => found == expected,
        };
        assert!(same, "{text}: {found:?}");
    };
    check("[0.04, 0.01]", Some((0.01, 0.04)));
    check("0.02", Some((0.02, 0.02)));
    check("[1, 4]", Some((0.01, 0.04)));
    check("\"1% to 4%\"", Some((0.01, 0.04)));
    check("\"-0.01 to 0.05\"", Some((-0.01, 0.05)));
    check("\"0.01..0.05\"", Some((0.01, 0.05)));
    check("\"0.01 - 0.05\"", Some((0.01, 0.05)));
    check("\"1e-2, 5e-2\"", Some((0.01, 0.05)));
    check("\"about 5 percent\"", Some((0.05, 0.05)));
    check("{\"min\": 0.01, \"max\": 0.02}", Some((0.01, 0.02)));
    check("[\"1 %\", \"2 %\"]", Some((0.01, 0.02)));
    check("\"some\"", None);
    check("[]", None);
    check("null", None);
    check("[1e300, 1e308]", None);
}

#[test]
fn what_is_missing_is_named() {
    let why = |answer: &str| read_idea(answer).expect_err("nothing to read");
    assert!(why("").contains("`summary`"));
    assert!(why("I would rather not.").contains("`summary`"));
    assert!(why(r#"{"summary": ""}"#).contains("`summary`"));
    assert!(why(r#"{"summary": "s"}"#).contains("`mechanism`"));
}

proptest! {
    #[test]
    fn nothing_makes_the_reader_panic_and_everything_is_bounded(answer in "(?s).{0,400}") {
        if let Ok(sketch) = read_idea(&answer) {
            prop_assert!(sketch.summary.len() <= SUMMARY && !sketch.summary.contains('\n'));
            let escape = char::from(27);
            prop_assert!(!sketch.mechanism.contains(escape));
        }
    }

    #[test]
    fn broken_objects_are_no_trouble(
        parts in proptest::collection::vec(
            prop_oneof!["\"summary\":", "\"mechanism\":", "\\{", "\\}", "\\[", "\\]", ",", "\"", "\n",
                        "\\\\", "0\\.1", "Summary:", "<mechanism>", "[a-z ]{0,9}"],
            0..40,
        )
    ) {
        drop(read_idea(&parts.concat()));
    }

    #[test]
    fn intervals_are_sound(text in "[-0-9.e% to]{0,30}") {
        if let Some(gain) = interval(&Value::String(text)) {
            prop_assert!(gain.low.is_finite() && gain.high.is_finite() && gain.low <= gain.high);
        }
    }

    #[test]
    fn an_idea_that_is_written_well_is_read_back(
        summary in "[a-zA-Z][a-zA-Z0-9 {}\"]{0,60}[a-z]", mechanism in "[a-z][^\\p{C}]{0,60}[a-z]",
    ) {
        let answer = serde_json::json!({"summary": summary, "mechanism": mechanism}).to_string();
        let sketch = read_idea(&format!("Well:\n{answer}\nThat is it.")).expect("well written");
        prop_assert_eq!(sketch.summary, summary.split_whitespace().collect::<Vec<_>>().join(" "));
    }
}
