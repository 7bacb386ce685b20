//! Finding objects of JSON in free text, with the mistakes that models make in it.

use serde_json::{Deserializer, Map, Value};

/// Bytes of an answer in which objects are looked for.
const LOOKED_AT: usize = 64 << 10;
/// Opening braces that are tried.
const TRIES: usize = 24;

/// The first object in the text for which `fits`.
pub(super) fn object(
    text: &str,
    fits: impl Fn(&Map<String, Value>) -> bool,
) -> Option<Map<String, Value>> {
    let text = &text[..text.floor_char_boundary(LOOKED_AT)];
    let starts = text.match_indices('{').map(|(start, _)| start).take(TRIES);
    starts.map(|start| &text[start..]).find_map(|text| {
        let object = strict(text).or_else(|| strict(&mended(text)))?;
        fits(&object).then_some(object)
    })
}

fn strict(text: &str) -> Option<Map<String, Value>> {
    match Deserializer::from_str(text).into_iter().next() {
        Some(Ok(Value::Object(object))) => Some(object),
        _ => None,
    }
}

/// The object that a text begins with: line feeds within strings and unknown escapes are escaped,
/// commas before a closing bracket are left out.
fn mended(text: &str) -> String {
    let mut mended = String::with_capacity(text.len().min(8 << 10));
    let mut chars = text.chars().peekable();
    let (mut in_string, mut depth) = (false, 0_usize);
    while let Some(char) = chars.next() {
        match (in_string, char) {
            (true, '\\') => {
                mended.push('\\');
                match chars.next_if(|next| "\"\\/bfnrtu".contains(*next)) {
                    Some(next) => mended.push(next),
                    None => mended.push('\\'),
                }
            }
            (true, '\n') => mended.push_str("\\n"),
            (true, '\t') => mended.push_str("\\t"),
            (true, c) if c.is_control() => {}
            (_, '"') => {
                in_string = !in_string;
                mended.push('"');
            }
            (false, ',') => {
                while chars.next_if(|next| next.is_whitespace()).is_some() {}
                if !matches!(chars.peek(), Some('}' | ']')) {
                    mended.push(',');
                }
            }
            (false, '{' | '[') => {
                depth += 1;
                mended.push(char);
            }
            (false, '}' | ']') => {
                mended.push(char);
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    break;
                }
            }
            (_, c) => mended.push(c),
        }
    }
    mended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_in_prose_and_mended() {
        let check = |text: &str, expected: Option<&str>| {
            let found = object(text, |object| object.contains_key("a"));
            assert_eq!(found.map(|object| Value::Object(object).to_string()).as_deref(), expected);
        };
        check(r#"Sure: {"a": 1} done"#, Some(r#"{"a":1}"#));
        check(r#"fn f() { } then {"a": {"b": 2}}"#, Some(r#"{"a":{"b":2}}"#));
        check("{\"a\": \"two\nlines\",}", Some(r#"{"a":"two\nlines"}"#));
        check(r#"{"a": "\alpha", "b": [1, 2,]}"#, Some(r#"{"a":"\\alpha","b":[1,2]}"#));
        check(r#"{"b": 1} {"a": 2}"#, Some(r#"{"a":2}"#));
        check(r#"{"a": 1"#, None);
        check("no braces", None);
        check(&"{".repeat(100_000), None);
    }
}
