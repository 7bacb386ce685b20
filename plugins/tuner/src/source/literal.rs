//! Numeric literals: reading them, and writing another value in the same style.

/// How a literal was written, so that its replacement looks the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Style {
    /// Whether the value may have a fraction.
    pub(crate) float: bool,
    /// Whether it had an exponent.
    scientific: bool,
    /// Whether thousands were set apart with `_`.
    grouped: bool,
    /// The type suffix with its leading `_`, if any.
    suffix: String,
}

const SUFFIXES: [&str; 14] = [
    "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32", "u64", "u128",
    "usize",
];

/// Integers beyond this are not exact in an `f64`.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Reads the numeric literal at the start of `text`: its value, its style, its length in bytes.
pub(crate) fn read(text: &str) -> Option<(f64, Style, usize)> {
    let bytes = text.as_bytes();
    let at = |idx: usize| bytes.get(idx).copied().unwrap_or(0);
    let digits = |mut idx: usize| {
        let start = idx;
        while at(idx).is_ascii_digit() || (idx > start && at(idx) == b'_') {
            idx += 1;
        }
        idx
    };
    let start = usize::from(matches!(at(0), b'-' | b'+'));
    let mut end = digits(start);
    if end == start
        || (at(start) == b'0' && at(end).is_ascii_alphabetic() && end == start + 1) && {
            matches!(at(end), b'x' | b'b' | b'o' | b'X' | b'B' | b'O')
        }
    {
        return None;
    }
    let mut float = false;
    if at(end) == b'.' && at(end + 1) != b'.' {
        end = digits(end + 1);
        float = true;
    }
    let mut scientific = false;
    if matches!(at(end), b'e' | b'E') {
        let sign = usize::from(matches!(at(end + 1), b'-' | b'+'));
        let exponent_end = digits(end + 1 + sign);
        if exponent_end == end + 1 + sign {
            return None;
        }
        (end, float, scientific) = (exponent_end, true, true);
    }
    // A trailing `_` belongs to the suffix: `1_024_usize`.
    let mut core_end = end;
    while at(core_end - 1) == b'_' {
        core_end -= 1;
    }
    let name_start = core_end + text[core_end..].bytes().take_while(|b| *b == b'_').count();
    let name = SUFFIXES.iter().find(|suffix| text[name_start..].starts_with(**suffix));
    let end = name.map_or(end, |name| name_start + name.len());
    if at(end).is_ascii_alphanumeric() || at(end) == b'_' || at(end) == b'.' {
        return None;
    }
    let core = &text[..core_end];
    let value: f64 = core.replace('_', "").parse().ok()?;
    let float = float || name.is_some_and(|name| name.starts_with('f'));
    if !value.is_finite() || (!float && value.abs() > MAX_EXACT) {
        return None;
    }
    let suffix = name.map_or("", |_| &text[core_end..end]).to_owned();
    Some((value, Style { float, scientific, grouped: core.contains('_'), suffix }, end))
}

/// The value of a literal that is all of `text`.
pub(crate) fn read_whole(text: &str) -> Option<f64> {
    read(text).filter(|(_, _, end)| *end == text.len()).map(|(value, _, _)| value)
}

/// Writes `value` in `style`.
pub(crate) fn write(value: f64, style: &Style) -> String {
    let mut text = if !style.float {
        // Exact: the reader refuses integers that are not, and ranges are finite.
        format!("{}", value.round() as i128)
    } else if style.scientific || (value != 0.0 && !(1e-4..1e9).contains(&value.abs())) {
        format!("{value:e}")
    } else {
        format!("{value}")
    };
    if style.float && !text.contains(['.', 'e']) {
        text.push_str(".0");
    }
    if style.grouped && !text.contains(['.', 'e']) {
        text = grouped(&text);
    }
    text.push_str(&style.suffix);
    text
}

fn grouped(text: &str) -> String {
    let (sign, digits) = text.split_at(usize::from(text.starts_with('-')));
    let mut out = String::from(sign);
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            out.push('_');
        }
        out.push(digit);
    }
    out
}

/// The number next to `value` that has at most `digits` significant decimal digits.
pub(crate) fn round_significant(value: f64, digits: usize) -> f64 {
    format!("{value:.*e}", digits.saturating_sub(1)).parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, value: f64, other: f64, rewritten: &str) {
        let (read_value, style, end) = read(text).unwrap_or_else(|| panic!("`{text}` is a number"));
        assert_eq!((read_value, end), (value, text.len()), "{text}");
        assert_eq!(write(other, &style), rewritten, "{text}");
    }

    #[test]
    fn literals_keep_their_style() {
        check("3e-3", 3e-3, 4.1e-3, "4.1e-3");
        check("0.1", 0.1, 0.25, "0.25");
        check("0.1", 0.1, 2.5e-6, "2.5e-6");
        check("2.", 2.0, 3.0, "3.0");
        check("1_024", 1024.0, 2048.0, "2_048");
        check("1_024_usize", 1024.0, 512.0, "512_usize");
        check("64usize", 64.0, 96.0, "96usize");
        check("-2", -2.0, -3.0, "-3");
        check("1f32", 1.0, 1.5, "1.5f32");
        check("1.0_f64", 1.0, 2.0, "2.0_f64");
        check("0", 0.0, 7.0, "7");
        check("1e5", 1e5, 1_230_000.0, "1.23e6");
    }

    #[test]
    fn what_is_not_a_decimal_number_is_left_alone() {
        for text in
            ["", "-", "x", "0x10", "0b1", "1..2", "1.max(2)", "3e", "1e999", "1abc", "--1", "1.5.2"]
        {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read("99999999999999999999"), None, "not exact");
        assert_eq!(read("64;").expect("a number").2, 2);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-+0-9._eExfu64si]{0,12}|.{0,12}") {
            if let Some((value, style, end)) = read(&text) {
                let again = write(value, &style);
                let (same, _, all) = read(&again).expect("what is written can be read");
                prop_assert_eq!((same, all), (value, again.len()), "{} {}", &text[..end], again);
            }
        }
    }
}
