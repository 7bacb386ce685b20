//! Makes foreign text safe to show on a terminal.
//!
//! Programs, compilers and language models may say anything. An escape sequence in a finding could
//! rewrite what the terminal already shows, and bidirectional overrides could make a diff read as
//! other code than it is (CVE-2021-42574). What remains after these functions is printable text.

/// `text` as one line: escape sequences and control characters removed, every run of white space
/// one space, none at the ends.
///
/// ```
/// use forerunner_report::sanitize::line;
///
/// assert_eq!(line("step 1\r\x1b[2K\x1b[31mrecord!\x1b[0m\n"), "step 1 record!");
/// ```
pub fn line(text: &str) -> String {
    block(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `text` with its lines kept: escape sequences and control characters removed, tabs as four
/// spaces, `\r\n` and a lone `\r` as line ends.
pub fn block(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\x1b' => skip_escape(&mut chars),
            // C1 forms of CSI and of the sequences that end with ST.
            '\u{9b}' => skip_control_sequence(&mut chars),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => skip_string(&mut chars),
            '\r' => {
                chars.next_if_eq(&'\n');
                clean.push('\n');
            }
            '\n' | '\u{85}' | '\u{2028}' | '\u{2029}' => clean.push('\n'),
            '\t' => clean.push_str("    "),
            char if is_hidden(char) => {}
            char => clean.push(char),
        }
    }
    clean
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Skips what follows an escape character (ECMA-48, 5.3 to 5.6).
fn skip_escape(chars: &mut Chars<'_>) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            skip_control_sequence(chars);
        }
        Some('P' | 'X' | ']' | '^' | '_') => {
            chars.next();
            skip_string(chars);
        }
        Some(' '..='~') => {
            // Intermediate bytes, then one final byte.
            while chars.next_if(|char| (' '..='/').contains(char)).is_some() {}
            chars.next_if(|char| ('0'..='~').contains(char));
        }
        _ => {}
    }
}

/// Skips parameters, intermediate bytes and the final byte of a control sequence.
fn skip_control_sequence(chars: &mut Chars<'_>) {
    while chars.next_if(|char| (' '..='?').contains(char)).is_some() {}
    chars.next_if(|char| ('@'..='~').contains(char));
}

/// Skips a control string up to its terminator. An unterminated one ends with its line, so that
/// it cannot swallow the rest of a report.
fn skip_string(chars: &mut Chars<'_>) {
    while let Some(char) = chars.next_if(|char| !matches!(char, '\n' | '\r')) {
        match char {
            '\x07' | '\u{9c}' => return,
            '\x1b' => {
                chars.next_if_eq(&'\\');
                return;
            }
            _ => {}
        }
    }
}

/// Characters that show nothing themselves but change how others are shown.
pub(crate) fn is_hidden(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(block(text), expected, "{text:?}");
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        check("", "");
        check("let x = 1; // Größe → 3 %\n    x\n", "let x = 1; // Größe → 3 %\n    x\n");
        check("日本 🚀", "日本 🚀");
    }

    #[test]
    fn escape_sequences_go_as_a_whole() {
        check("a\x1b[31;1mred\x1b[0mb", "aredb");
        check("a\x1b[2J\x1b[1;1Hb", "ab");
        check("a\x1b]0;title\x07b", "ab");
        check("a\x1b]8;;https://x\x1b\\link\x1b]8;;\x1b\\b", "alinkb");
        check("a\x1b(0b\x1b7\x1b8\x1bcd", "abd");
        check("a\u{9b}31mb\u{9d}x\u{9c}c", "abc");
        check("a\x1b", "a");
        check("a\x1b]never ends\nnext", "a\nnext");
        check("a\x1b[12", "a");
        // Removing the inner sequence must not build an outer one.
        check("\x1b\x1b[0m[31mx", "[31mx");
    }

    #[test]
    fn control_characters_and_overrides_go() {
        check("a\0\x08\x7fb\u{202e}c\u{200b}\u{2066}d\u{feff}", "abcd");
        check("a\r\nb\rc\u{2028}d\te", "a\nb\nc\nd    e");
    }

    #[test]
    fn a_line_is_one_line() {
        assert_eq!(line("  two\n\n lines\tand\ra bit "), "two lines and a bit");
    }

    proptest! {
        #[test]
        fn nothing_dangerous_remains(text in any::<String>()) {
            let safe = |char: char| !is_hidden(char);
            prop_assert!(block(&text).chars().all(|char| char == '\n' || safe(char)));
            prop_assert!(line(&text).chars().all(safe));
        }

        #[test]
        fn nothing_dangerous_remains_of_sequences(text in "[\\x1b\\[\\]0-9;mP\\\\\\x07a\\n]{0,40}") {
            let clean = block(&text);
            prop_assert!(!clean.contains('\x1b') && !clean.contains('\x07'));
            prop_assert_eq!(block(&clean), clean.clone());
        }
    }
}
