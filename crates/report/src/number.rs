//! Numbers and times for people.

/// A number with five significant digits: `28.314`, `0.00030000`, `131,072`, `1.2346e-7`.
/// Integers show no decimals, and digits before the point are never rounded away.
///
/// ```
/// assert_eq!(forerunner_report::number(28.3141), "28.314");
/// assert_eq!(forerunner_report::number(131072.0), "131,072");
/// ```
pub fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return value.to_string();
    }
    if size != 0.0 && !(1e-4..1e12).contains(&size) {
        return format!("{value:.4e}");
    }
    if value.fract() == 0.0 || size >= 1e4 {
        return grouped(value.round() as i64);
    }
    // 0.3 has an exponent of -1 and shows 5 decimals; 28.3 has one of 1 and shows 3.
    let decimals = (4 - size.log10().floor() as i32).max(0) as usize;
    format!("{value:.decimals$}")
}

/// A number with its unit, when it has one.
pub(crate) fn quantity(value: f64, unit: &str) -> String {
    if unit.is_empty() { number(value) } else { format!("{} {unit}", number(value)) }
}

/// A share in per cent with one decimal: `11.8 %`.
pub(crate) fn percent(share: f64) -> String {
    // Adding zero turns a negative zero into a positive one.
    let rounded = (share * 1000.0).round() / 10.0 + 0.0;
    format!("{rounded:.1} %")
}

/// US dollars: `$1.25`, `$0.0042`; two digits after the point, four below a dime.
pub(crate) fn money(dollars: f64) -> String {
    if dollars != 0.0 && dollars.abs() < 0.1 {
        format!("${dollars:.4}")
    } else {
        format!("${dollars:.2}")
    }
}

/// `32.27 ± 0.35`: two significant digits of the spread, and as many decimals of the mean.
pub(crate) fn mean_and_sd(mean: f64, sd: f64) -> String {
    if !(1e-6..1e6).contains(&sd) || mean.abs() >= 1e12 {
        return format!("{} ± {}", number(mean), number(sd));
    }
    let decimals = (1 - sd.log10().floor() as i32).max(0) as usize;
    format!("{mean:.decimals$} ± {sd:.decimals$}")
}

/// Seconds as `m:ss`, or `h:mm:ss` from an hour on; rounded down, never negative.
///
/// ```
/// assert_eq!(forerunner_report::duration(83.9), "1:23");
/// assert_eq!(forerunner_report::duration(7384.0), "2:03:04");
/// ```
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

/// Bytes in binary units: `1.5 MiB`.
pub(crate) fn bytes(value: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = (value.abs().max(1.0).log2() / 10.0).floor().min(4.0);
    let scaled = value / 1024_f64.powf(power);
    if power == 0.0 {
        format!("{scaled:.0} B")
    } else {
        format!("{scaled:.1} {}", units[power as usize])
    }
}

/// `1 program`, `2 programs`.
pub(crate) fn count(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(n as i64), if n == 1 { "" } else { "s" })
}

fn grouped(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::from(if value < 0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        // Four digits read well without a separator.
        if index > 0 && digits.len() > 4 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_five_digits() {
        let rows = [
            (0.0, "0"),
            (3.0, "3"),
            (-3.0, "-3"),
            (0.0003, "0.00030000"),
            (0.3, "0.30000"),
            (1.23456, "1.2346"),
            (28.3141, "28.314"),
            (999.99999, "1000.00"),
            (1024.0, "1024"),
            (9999.9, "9999.9"),
            (12_345.678, "12,346"),
            (-1_234_567.0, "-1,234,567"),
            (1.234_56e-7, "1.2346e-7"),
            (6.4e13, "6.4000e13"),
            (f64::INFINITY, "inf"),
        ];
        for (value, expected) in rows {
            assert_eq!(number(value), expected);
        }
        assert_eq!(quantity(28.3141, "s"), "28.314 s");
    }

    #[test]
    fn shares_times_and_sizes() {
        assert_eq!(percent(0.1184), "11.8 %");
        assert_eq!(percent(-0.0001), "0.0 %");
        assert_eq!(
            (money(0.0), money(0.0042), money(12.345)),
            ("$0.00".into(), "$0.0042".into(), "$12.35".into())
        );
        assert_eq!(mean_and_sd(32.267, 0.3512), "32.27 ± 0.35");
        assert_eq!(mean_and_sd(1.898, 0.001_25), "1.8980 ± 0.0013");
        assert_eq!(mean_and_sd(15_321.4, 312.0), "15321 ± 312");
        assert_eq!(mean_and_sd(2.0, 0.0), "2 ± 0");
        assert_eq!(duration(-1.0), "0:00");
        assert_eq!(duration(59.99), "0:59");
        assert_eq!(duration(3600.0), "1:00:00");
        assert_eq!(bytes(512.0), "512 B");
        assert_eq!(bytes(0.0), "0 B");
        assert_eq!(bytes(1.5 * 1024.0 * 1024.0), "1.5 MiB");
        assert_eq!(count(1, "seed"), "1 seed");
        assert_eq!(count(12_000, "seed"), "12,000 seeds");
    }
}
