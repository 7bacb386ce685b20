//! Words and numbers of a digest: short, and harmless whatever they come from.

/// Characters of a name.
const NAME: usize = 28;

/// A name as one word of printable ASCII, cut to size.
pub(super) fn word(name: &str) -> String {
    let char = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let word: String = name.chars().take(NAME).map(char).collect();
    if word.is_empty() { "_".to_owned() } else { word }
}

/// A text as one line of printable ASCII, cut to size; runs of white space become one blank.
pub(super) fn line(text: &str, limit: usize) -> String {
    // What is cut is not looked at: a message may be long.
    let start: String = text.chars().take(4 * limit).collect();
    let words = start.split_whitespace().collect::<Vec<_>>().join(" ");
    let plain = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    let mut line: String = words.chars().take(limit).map(plain).collect();
    if words.chars().nth(limit).is_some() || text.chars().nth(4 * limit).is_some() {
        line.push_str("...");
    }
    line
}

/// A number with five significant digits, whole numbers below a million in full.
pub(super) fn number(value: f64) -> String {
    significant(value, 5)
}

/// A number with so many significant digits.
pub(super) fn significant(value: f64, digits: i32) -> String {
    let size = value.abs();
    if !value.is_finite() || size == 0.0 {
        return format!("{}", value + 0.0);
    }
    if !(1e-3..1e6).contains(&size) {
        let decimals = (digits - 2).max(0) as usize;
        return format!("{value:.decimals$e}");
    }
    if value.fract() == 0.0 {
        return format!("{value:.0}");
    }
    let decimals = (digits - 1 - size.log10().floor() as i32).max(0) as usize;
    format!("{value:.decimals$}")
}

/// A share in per cent.
pub(super) fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent.abs() < 1e4 { format!("{percent:.1} %") } else { format!("{percent:.0e} %") }
}

/// `, -5.3 %`: how much `after` differs from `before`; empty where that says nothing.
pub(super) fn change(before: f64, after: f64) -> String {
    let share = (after - before) / before.abs();
    if !share.is_finite() || share == 0.0 {
        return String::new();
    }
    let sign = if share > 0.0 { "+" } else { "" };
    format!(", {sign}{}", percent(share))
}
