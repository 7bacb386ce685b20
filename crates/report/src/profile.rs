//! Where the time went, as tables: by section and by operation; and how far the parameters moved.

use crate::chart::{bar, sparkline};
use crate::number::{duration, number, percent};
use crate::sanitize;
use forerunner_core::{Operation, Series, Telemetry, late_median};
use std::fmt::Write as _;

/// Columns that a share bar may take.
const BAR_WIDTH: usize = 20;
/// Columns that a curve of norms may take.
const NORM_WIDTH: usize = 20;

/// Time by section, with a bar for each share of the whole; traffic and products where they were
/// counted.
pub(crate) fn sections(telemetry: &Telemetry) -> String {
    let Telemetry { sections, .. } = telemetry;
    let total: f64 = sections.iter().map(|section| section.seconds).sum();
    if total <= 0.0 || !total.is_finite() {
        return String::new();
    }
    let counted = sections.iter().any(|section| section.bytes > 0 || section.flops > 0);
    let names: Vec<String> = sections.iter().map(|section| sanitize::line(&section.name)).collect();
    let width = width("section", &names);
    let head = format!(
        "  {}  {:>9}  {:>7}  {:>9}  {:>9}",
        pad("section", width),
        "total s",
        "share",
        "calls",
        "mean ms"
    );
    let mut text = format!("{head}{}\n", if counted { WORK_HEAD } else { "" });
    for (section, name) in sections.iter().zip(names) {
        let share = section.seconds / total;
        let mean = mean(section.seconds, section.calls, 1e3);
        let (bytes, flops, rate) = (section.bytes, section.flops, section.flops_per_second());
        let row = format!(
            "  {}  {:>9.3}  {:>7}  {:>9}  {mean:>9}{}  {}",
            pad(&name, width),
            section.seconds,
            percent(share),
            number(section.calls as f64),
            if counted { work(bytes, flops, rate, telemetry) } else { String::new() },
            bar(share, BAR_WIDTH)
        );
        let _ = writeln!(text, "{}", row.trim_end());
    }
    let _ = writeln!(text, "  {}  {total:>9.3}", pad("all", width));
    format!("profile of {}\n{text}", duration(total))
}

/// Time by operation: share of the whole, traffic, and products with their rate and its share of the
/// peak. The last row is what the sections have beyond the operations.
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
        "operations\n  {}  {:>9}  {:>7}  {:>9}  {:>9}{WORK_HEAD}\n",
        pad("operation", width),
        "total s",
        "share",
        "calls",
        "mean µs",
    );
    for (operation, name) in operations.iter().zip(names) {
        let Operation { calls, seconds, bytes, flops, .. } = *operation;
        let row = format!(
            "  {}  {seconds:>9.3}  {:>7}  {:>9}  {:>9}{}",
            pad(&name, width),
            percent(seconds / whole),
            number(calls as f64),
            mean(seconds, calls, 1e6),
            work(bytes, flops, operation.flops_per_second(), telemetry)
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

/// Heads of the columns of [`work`].
const WORK_HEAD: &str = "        GB    GFLOP  GFLOP/s  of peak";

/// What was read and written, and what was multiplied: totals, rate, and share of the peak rate.
fn work(bytes: u64, flops: u64, rate: Option<f64>, telemetry: &Telemetry) -> String {
    let billions = |value: u64| if value > 0 { self::rate(value as f64) } else { String::new() };
    let of_peak = rate.zip(telemetry.peak_flops()).map(|(rate, peak)| percent(rate / peak));
    format!(
        "  {:>8}  {:>7}  {:>7}  {:>7}",
        billions(bytes),
        billions(flops),
        rate.map(self::rate).unwrap_or_default(),
        of_peak.unwrap_or_default()
    )
}

/// The groups of parameters: how large gradients and updates are in the second half of the run, and
/// how the relative size of the updates went.
pub(crate) fn groups(telemetry: &Telemetry) -> String {
    let groups = telemetry.groups();
    if groups.is_empty() {
        return String::new();
    }
    let names: Vec<String> = groups.iter().map(|group| sanitize::line(group.name)).collect();
    let width = width("group", &names);
    let mut text = format!(
        "parameters, norms in a step (medians of the second half)\n  {}  {:>10}  {:>10}  {:>10}\n",
        pad("group", width),
        "gradient",
        "update",
        "of values"
    );
    for (group, name) in groups.iter().zip(names) {
        let late = |series: Option<&Series>| match series.and_then(|series| late_median(series)) {
            Some(value) => format!("{value:>10.2e}"),
            None => format!("{:>10}", "-"),
        };
        let row = format!(
            "  {}  {}  {}  {}  {}",
            pad(&name, width),
            late(group.gradient),
            late(group.update),
            late(group.relative),
            group.relative.map(|curve| sparkline(curve, NORM_WIDTH)).unwrap_or_default()
        );
        let _ = writeln!(text, "{}", row.trim_end());
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

/// In units of 1e9, also a second.
pub(crate) fn rate(value: f64) -> String {
    format!("{:.1}", value / 1e9)
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
    use forerunner_core::{PEAK_FLOPS, Section};

    fn operation(name: &str, calls: u64, seconds: f64, bytes: u64, flops: u64) -> Operation {
        Operation { name: name.to_owned(), calls, seconds, bytes, flops }
    }

    fn telemetry() -> Telemetry {
        let mut telemetry = Telemetry {
            sections: vec![
                Section {
                    calls: 100,
                    seconds: 15.0,
                    bytes: 81_400_000_000,
                    flops: 640_000_000_000,
                    ..Section::named("backward")
                },
                Section { calls: 100, seconds: 5.0, ..Section::named("data") },
            ],
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
          operation             total s    share      calls    mean µs        GB    GFLOP  GFLOP/s  of peak
          linear.backward         8.000   40.0 %     25,200      317.5      80.0    640.0     80.0   80.0 %
          gelu.forward            0.700    3.5 %       5600      125.0       1.4
          idle                    0.000    0.0 %          0          -
          between operations     11.300   56.5 %
        ");
    }

    #[test]
    fn sections_have_rates_where_they_were_counted() {
        insta::assert_snapshot!(sections(&telemetry()), @"
        profile of 0:20
          section     total s    share      calls    mean ms        GB    GFLOP  GFLOP/s  of peak
          backward     15.000   75.0 %        100    150.000      81.4    640.0     42.7   42.7 %  ███████████████
          data          5.000   25.0 %        100     50.000                                       █████
          all          20.000
        ");
    }

    #[test]
    fn groups_show_how_far_they_move() {
        let mut telemetry = telemetry();
        let mut curve = |name: &str, values: [f64; 4]| {
            telemetry.series.insert(name.to_owned(), (0..).zip(values).collect());
        };
        curve("gradient_norm.block0", [4.0, 2.0, 1.0, 0.5]);
        curve("update_norm.block0", [0.1, 0.2, 0.2, 0.1]);
        curve("relative_update.block0", [0.01, 0.02, 0.02, 0.01]);
        curve("gradient_norm.he\x1b[2Jad", [4e-9, 2.0, 1.0, 3.0]);
        curve("train_loss", [4.0, 2.0, 1.0, 0.5]);
        insta::assert_snapshot!(groups(&telemetry), @"
        parameters, norms in a step (medians of the second half)
          group     gradient      update   of values
          block0      1.00e0     2.00e-1     2.00e-2  ▁██▁
          head        3.00e0           -           -
        ");
        assert_eq!(groups(&Telemetry::default()), "");
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
