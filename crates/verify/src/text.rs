//! Text from hooks is data: without control characters, and never longer than agreed.

/// `text` with everything that could move a cursor, reverse or hide text taken out, in at most
/// `limit` bytes. Line breaks and tabs become spaces; text that was cut ends with `…`.
pub(crate) fn clean(text: &str, limit: usize) -> String {
    const CUT: char = '…';
    let mut out = String::with_capacity(text.len().min(limit));
    for character in text.chars() {
        let character = match character {
            '\n' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
            other if is_invisible(other) => continue,
            other => other,
        };
        if out.len() + character.len_utf8() > limit {
            while out.len() + CUT.len_utf8() > limit && out.pop().is_some() {}
            if out.len() + CUT.len_utf8() <= limit {
                out.push(CUT);
            }
            break;
        }
        out.push(character);
    }
    out
}

/// Control characters, and the format characters that reorder, join or hide what stands near them.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Whether `text` is 1 to `limit` bytes of ASCII letters, digits and `-`.
pub(crate) fn is_name(text: &str, limit: usize) -> bool {
    is_made_of(text, limit, |byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Whether `text` is 1 to `limit` bytes, each of which `allowed` accepts.
pub(crate) fn is_made_of(text: &str, limit: usize, allowed: impl Fn(u8) -> bool) -> bool {
    (1..=limit).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_go_and_line_breaks_become_spaces() {
        let check = |text: &str, expected: &str| assert_eq!(clean(text, 100), expected, "{text:?}");
        check("plain text, ünïcode 中", "plain text, ünïcode 中");
        check("\u{1b}[31mred\u{1b}[0m", "[31mred[0m");
        check("one\ntwo\r\nthree\tfour", "one two three four");
        check("a\0b\u{7f}c\u{9b}d", "abcd");
        check("user\u{202e}txt.exe\u{2066}x\u{200b}y\u{feff}", "usertxt.exexy");
        check("a\u{2028}b\u{2029}c", "a b c");
        check("", "");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(clean("abcdef", 6), "abcdef");
        assert_eq!(clean("abcdefg", 6), "abc…");
        assert_eq!(clean("üüüü", 7), "üü…");
        assert_eq!(clean("üüüü", 8), "üüüü");
        assert_eq!(clean("abcdef", 2), "");
        for limit in 0..20 {
            assert!(clean(&"ü中a".repeat(10), limit).len() <= limit, "{limit}");
        }
    }

    #[test]
    fn names_are_letters_digits_and_hyphens() {
        for good in ["a", "loss-check", "A9"] {
            assert!(is_name(good, 10), "{good}");
        }
        for bad in ["", "a b", "a/b", "a_b", "ä", "a\n", "elevenbytes"] {
            assert!(!is_name(bad, 10), "{bad}");
        }
    }
}
