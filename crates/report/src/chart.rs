//! Bars and curves in a line of text.

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/// A bar of `width` columns filled to `share` (clamped to `0.0..=1.0`), padded with blanks.
///
/// ```
/// assert_eq!(forerunner_report::bar(0.625, 4), "██▌ ");
/// ```
pub fn bar(share: f64, width: usize) -> String {
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let eighths = (share * width as f64 * 8.0).round() as usize;
    let (full, rest) = (eighths / 8, eighths % 8);
    let mut bar = "█".repeat(full);
    if full < width {
        bar.push(EIGHTHS[rest]);
        bar.push_str(&" ".repeat(width - full - 1));
    }
    bar
}

/// A curve of (step, value) in at most `width` characters, each the mean of its share of the
/// steps; steps without a value repeat the one before. Values that are not finite are left out.
/// Empty when nothing is left.
///
/// ```
/// let curve = [(0, 4.0), (1, 3.0), (2, 2.0), (3, 1.0)];
/// assert_eq!(forerunner_report::sparkline(&curve, 40), "█▆▃▁");
/// ```
pub fn sparkline(curve: &[(u64, f64)], width: usize) -> String {
    let points: Vec<(u64, f64)> =
        curve.iter().copied().filter(|(_, value)| value.is_finite()).collect();
    let columns = width.min(points.len());
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return String::new();
    };
    if columns == 0 {
        return String::new();
    }
    let span = last.0.saturating_sub(first.0) as f64 + 1.0;
    let mut sums = vec![(0.0, 0_u32); columns];
    for (step, value) in &points {
        let share = step.saturating_sub(first.0) as f64 / span;
        let sum = &mut sums[((share * columns as f64) as usize).min(columns - 1)];
        *sum = (sum.0 + value, sum.1 + 1);
    }
    let mut before = first.1;
    let means: Vec<f64> = sums
        .into_iter()
        .map(|(sum, n)| {
            before = if n == 0 { before } else { sum / f64::from(n) };
            before
        })
        .collect();
    let low = means.iter().copied().fold(f64::INFINITY, f64::min);
    let high = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let range = if high > low { high - low } else { 1.0 };
    means.into_iter().map(|mean| LEVELS[((mean - low) / range * 7.0).round() as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bars_fill_in_eighths() {
        for (share, expected) in
            [(0.0, "    "), (1.0, "████"), (0.5, "██  "), (0.03, "▏   "), (7.0, "████")]
        {
            assert_eq!(bar(share, 4), expected);
        }
        assert_eq!(bar(f64::NAN, 2), "  ");
        assert_eq!(bar(0.5, 0), "");
    }

    #[test]
    fn curves_of_any_length_fit() {
        assert_eq!(sparkline(&[], 10), "");
        assert_eq!(sparkline(&[(0, f64::NAN)], 10), "");
        assert_eq!(sparkline(&[(7, 1.0)], 10), "▁");
        assert_eq!(sparkline(&[(0, 1.0), (1, 2.0)], 0), "");
        // A gap in the steps repeats the last value.
        assert_eq!(sparkline(&[(0, 2.0), (1, 2.0), (9, 1.0)], 3), "██▁");
        let long: Vec<(u64, f64)> = (0..1000).map(|step| (step, -(step as f64))).collect();
        assert_eq!(sparkline(&long, 8), "█▇▆▅▄▃▂▁");
    }

    proptest! {
        #[test]
        fn charts_never_exceed_their_width(
            values in prop::collection::vec(any::<f64>(), 0..50), width in 0_usize..20,
        ) {
            let curve: Vec<(u64, f64)> = (0..).zip(values).collect();
            prop_assert!(sparkline(&curve, width).chars().count() <= width);
            for (_, value) in curve {
                prop_assert_eq!(bar(value, width).chars().count(), width);
            }
        }
    }
}
