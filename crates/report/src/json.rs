//! JSON that is safe to look at.
//!
//! JSON itself escapes only what lies below U+0020. Texts in it come from programs, compilers and
//! models, and who lets a terminal show them must be as safe as a reader of our own text: whatever
//! [`sanitize`](crate::sanitize) would remove is written as `\uXXXX`, which reads back as the same.

use crate::sanitize::is_hidden;
use serde::Serialize;
use serde_json::{
    Serializer,
    ser::{CompactFormatter, Formatter},
};
use std::io::{self, Write};

/// `value` as JSON on one line, without a line end and without characters that a terminal would
/// obey or that hide what is around them.
///
/// ```
/// let text = forerunner_report::to_json("a\u{9b}31mb").unwrap();
/// assert_eq!(text, r#""a\u009b31mb""#);
/// ```
///
/// # Errors
/// When `value` cannot be JSON, such as a map with keys that are no strings.
pub fn to_json<T: Serialize + ?Sized>(value: &T) -> io::Result<String> {
    let mut text = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut text, Visible(CompactFormatter)))?;
    String::from_utf8(text).map_err(io::Error::other)
}

/// Whether a character stands in JSON as it is. Separators of lines would end a line for some readers.
fn is_plain(char: char) -> bool {
    !is_hidden(char) && !matches!(char, '\u{2028}' | '\u{2029}')
}

/// Compact, and escapes what is hidden.
struct Visible(CompactFormatter);

impl Formatter for Visible {
    fn write_string_fragment<W: Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|char| !is_plain(char)) {
            let (plain, hidden) = rest.split_at(at);
            self.0.write_string_fragment(writer, plain)?;
            let mut chars = hidden.chars();
            if let Some(char) = chars.next() {
                // Above U+FFFF in two parts, as RFC 8259 (section 7) has it.
                for unit in char.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
            rest = chars.as_str();
        }
        self.0.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn what_is_hidden_is_written_out() {
        let value =
            json!({"\u{202e}key": ["a\u{9b}2Jb\u{7f}", "\u{e0041}🚀 日本", "\"\\\u{1b}\n"]});
        let text = to_json(&value).expect("JSON");
        insta::assert_snapshot!(text, @r#"{"\u202ekey":["a\u009b2Jb\u007f","\udb40\udc41🚀 日本","\"\\\u001b\n"]}"#);
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), value);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_hidden(text in any::<String>(), number in any::<f64>()) {
            let value = json!({ text.clone(): [text, number] });
            let written = to_json(&value).expect("JSON");
            prop_assert!(written.chars().all(is_plain));
            prop_assert_eq!(serde_json::from_str::<Value>(&written).expect("JSON"), value);
        }
    }
}
