//! Numbers as prompts show them.

/// A number with five significant digits.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() || size == 0.0 {
        return format!("{}", value + 0.0);
    }
    if !(1e-3..1e6).contains(&size) {
        return format!("{value:.3e}");
    }
    if value.fract() == 0.0 {
        return format!("{value:.0}");
    }
    let decimals = (4 - size.log10().floor() as i32).max(0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A share in per cent with its sign, for example `+3.1 %`.
pub(crate) fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent.abs() < 1e4 { format!("{percent:+.1} %") } else { format!("{percent:+.0e} %") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let check = |value: f64, expected: &str| assert_eq!(number(value), expected);
        check(0.0, "0");
        check(-0.0, "0");
        check(20.0, "20");
        check(3.25, "3.25");
        check(3.123_456_7, "3.1235");
        check(12_345.678, "12346");
        check(1.5e-7, "1.500e-7");
        check(f64::NAN, "NaN");
        assert_eq!((percent(0.031), percent(-2.0)), ("+3.1 %".to_owned(), "-200.0 %".to_owned()));
    }
}
