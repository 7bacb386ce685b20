//! Where the time went, as tables: by section and by operation.

use crate::chart::bar;
use crate::number::{duration, number, percent};
use crate::sanitize;
use forerunner_core::{Operation, Section, Telemetry};
use std::fmt::Write as _;

/// Columns that a share bar may take.
const BAR_WIDTH: usize = 20;

/// Time by section, with a bar for each share of the whole.
pub(crate) fn sections(sections: &[Section]) -> String {
    let total: f64 = sections.iter().map(|section| section.seconds).sum();
    if total <= 0.0 || !total.is_finite() {
        return String::new();
    }
    let names: Vec<String> = sections.iter().map(|section| sanitize::line(&section.name)).collect();
    let width = width("section", &names);
    let mut text = format!(
        "  {}  {:>9}  {:>7}  {:>9}  {:>9}\n",
        pad("section", width),
        "total s",
        "share",
        "calls",
        "mean ms"
    );
    for (section, name) in sections.iter().zip(names) {
        let share = section.seconds / total;
        let mean = mean(section.seconds, section.calls, 1e3);
        let row = format!(
            "  {}  {:>9.3}  {:>7}  {:>9}  {mean:>9}  {}",
            pad(&name, width),
            section.seconds,
            percent(share),
            number(section.calls as f64),
            bar(share, BAR_WIDTH)
        );
        let _ = writeln!(text, "{}", row.trim_end());
    }
    let _ = writeln!(text, "  {}  {total:>9.3}", pad("all", width));
    format!("profile of {}\n{text}", duration(total))
}

/// Time by operation: share of the whole, traffic, and rate and share of the peak of those that are
/// matrix products. The last row is what the sections have beyond the operations.
pub(crate) fn operations(telemetry: &Telemetry) -> String {
    const BETWEEN: &str = "between operations";
    let Telemetry { operations, .. } = telemetry;
    let (whole, counted) = (telemetry.seconds(), telemetry.operation_seconds());
    if counted <= 0.0 || !whole.is_finite() {
        return String::new();
    }
    let names: Vec<String> = operations.iter().map(|one| sanitize::line(&one.name)).collect();
    let width = width(BETWEEN, &names);
    let mut text = format!(
        "operations\n  {}  {:>9}  {:>7}  {:>9}  {:>9}  {:>7}  {:>8}  {:>7}\n",
        pad("operation", width),
        "total s",
        "share",
        "calls",
        "mean µs",
        "GB/s",
        "GFLOP/s",
        "of peak"
    );
    for (operation, name) in operations.iter().zip(names) {
        let Operation { calls, seconds, bytes, .. } = *operation;
        let traffic = if seconds > 0.0 { rate(bytes as f64 / seconds) } else { "-".to_owned() };
        let flops = operation.flops_per_second();
        let of_peak = flops.zip(telemetry.peak_flops()).map(|(flops, peak)| percent(flops / peak));
        let row = format!(
            "  {}  {seconds:>9.3}  {:>7}  {:>9}  {:>9}  {traffic:>7}  {:>8}  {:>7}",
            pad(&name, width),
            percent(seconds / whole),
            number(calls as f64),
            mean(seconds, calls, 1e6),
            flops.map(rate).unwrap_or_default(),
            of_peak.unwrap_or_default()
        );
        let _ = writeln!(text, "{}", row.trim_end());
    }
    if whole > counted {
        let rest = whole - counted;
        let _ =
            writeln!(text, "  {}  {rest:>9.3}  {:>7}", pad(BETWEEN, width), percent(rest / whole));
    }
    text
}

/// `seconds` per call in a unit of which a second has `per_second`.
fn mean(seconds: f64, calls: u64, per_second: f64) -> String {
    match calls {
        0 => "-".to_owned(),
        // Microseconds are counted in tenths, milliseconds in thousandths.
        calls if per_second > 1e3 => format!("{:.1}", seconds * per_second / calls as f64),
        calls => format!("{:.3}", seconds * per_second / calls as f64),
    }
}

/// In units of 1e9 a second.
fn rate(per_second: f64) -> String {
    format!("{:.1}", per_second / 1e9)
}

fn width(heading: &str, names: &[String]) -> usize {
    names.iter().map(|name| columns(name)).max().unwrap_or(0).max(columns(heading))
}

/// Columns of a terminal that a text takes.
pub(crate) fn columns(text: &str) -> usize {
    unicode_width::UnicodeWidthStr::width(text)
}

/// A text filled with blanks to so many columns.
pub(crate) fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(columns(text))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use forerunner_core::PEAK_FLOPS;

    fn operation(name: &str, calls: u64, seconds: f64, bytes: u64, flops: u64) -> Operation {
        Operation { name: name.to_owned(), calls, seconds, bytes, flops }
    }

    fn telemetry() -> Telemetry {
        let mut telemetry = Telemetry {
            sections: vec![Section { name: "all".to_owned(), calls: 1, seconds: 20.0 }],
            operations: vec![
                operation("linear.backward", 25_200, 8.0, 80_000_000_000, 640_000_000_000),
                operation("gelu.\x1b[2Jforward", 5600, 0.7, 1_400_000_000, 0),
                operation("idle", 0, 0.0, 0, 0),
            ],
            ..Telemetry::default()
        };
        telemetry.numbers.insert(PEAK_FLOPS.to_owned(), 100e9);
        telemetry
    }

    #[test]
    fn operations_have_rates_and_a_rest() {
        insta::assert_snapshot!(operations(&telemetry()), @"
        operations
          operation             total s    share      calls    mean µs     GB/s   GFLOP/s  of peak
          linear.backward         8.000   40.0 %     25,200      317.5     10.0      80.0   80.0 %
          gelu.forward            0.700    3.5 %       5600      125.0      2.0
          idle                    0.000    0.0 %          0          -        -
          between operations     11.300   56.5 %
        ");
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        assert_eq!(operations(&Telemetry::default()), "");
        let mut telemetry = telemetry();
        telemetry.numbers.clear();
        telemetry.sections.clear();
        let text = operations(&telemetry);
        assert!(!text.contains("between") && text.contains("92.0 %"), "{text}");
        let row = text.lines().find(|line| line.contains("linear")).unwrap();
        assert!(row.ends_with("80.0"), "no share of an unknown peak: {row}");
    }
}
