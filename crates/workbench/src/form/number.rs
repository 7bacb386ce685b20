//! Numbers, however they are spelt.

/// One spelling for all spellings of a number; other literals are left as they are.
///
/// Exact: a decimal fraction keeps all its digits, so that numbers are equal only when they are the
/// same before any rounding. The type that is written behind stays.
pub(super) fn plain(literal: &str) -> String {
    read(literal).unwrap_or_else(|| literal.to_owned())
}

fn read(literal: &str) -> Option<String> {
    if !literal.as_bytes().first()?.is_ascii_digit() {
        return None;
    }
    let text: String = literal.chars().filter(|c| *c != '_').collect();
    let radix = match text.get(..2) {
        Some("0x") => 16,
        Some("0o") => 8,
        Some("0b") => 2,
        _ => 10,
    };
    if radix != 10 {
        // `0x1f32` is a number of four digits; a type starts at the first `i` or `u`.
        let end = text.find(['i', 'u']).unwrap_or(text.len());
        let value = u128::from_str_radix(&text[2..end], radix).ok()?;
        return Some(format!("{value}{}", &text[end..]));
    }
    let end = text.find(['i', 'u', 'f']).unwrap_or(text.len());
    let (number, kind) = text.split_at(end);
    let whole = number.bytes().all(|byte| byte.is_ascii_digit());
    if whole && !kind.starts_with('f') {
        let digits = number.trim_start_matches('0');
        return Some(format!("{}{kind}", if digits.is_empty() { "0" } else { digits }));
    }
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i64 = exponent.parse().ok()?;
    let digits = format!("{before}{after}");
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let shortened = digits.trim_end_matches('0');
    let dropped = i64::try_from(digits.len() - shortened.len()).ok()?;
    let places = i64::try_from(after.len()).ok()?;
    let exponent = exponent.checked_sub(places)?.checked_add(dropped)?;
    match shortened.trim_start_matches('0') {
        "" => Some(format!("0.{kind}")),
        digits => Some(format!("{digits}e{exponent}.{kind}")),
    }
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn spellings_of_one_number_are_equal() {
        for equal in [
            &["1e-3", "0.001", "0.001_0", "1.0E-3", "10e-4", "0.00_1"][..],
            &["1.0", "1.", "1e0", "10e-1", "1_0.0e-1"],
            &["1000", "1_000", "0x3e8", "0b11_1110_1000", "0o1750", "001000"],
            &["1000u64", "1_000_u64", "0x3E8u64"],
            &["1.0f32", "1f32", "1_f32", "1e0_f32"],
            &["0.0", "0.", "0e5", "0.00"],
        ] {
            for other in equal {
                assert_eq!(plain(equal[0]), plain(other), "{other}");
            }
        }
    }

    #[test]
    fn numbers_that_differ_in_value_or_type_are_not() {
        let all = [
            "1",
            "1.0",
            "1f32",
            "1f64",
            "1u8",
            "10",
            "10.0",
            "0.1",
            "0x1f32",
            "0",
            "0.0",
            "1e400",
            "0.10000000000000000000000000001",
            "\"1\"",
            "'1'",
            "b'1'",
            "1e99999999999999999999",
        ];
        for (idx, one) in all.iter().enumerate() {
            for other in &all[idx + 1..] {
                assert_ne!(plain(one), plain(other), "{one} {other}");
            }
        }
        // Larger than any type: as written.
        let huge = "0xffff_ffff_ffff_ffff_ffff_ffff_ffff_ffff_ffff";
        assert_eq!(plain(huge), huge);
    }
}
