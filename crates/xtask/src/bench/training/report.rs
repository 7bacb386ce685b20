//! What both sides came to, beside the goals.

use super::{
    core::Cores,
    ours,
    setting::{HEADS, LAYERS, SETTINGS, Setting},
    theirs,
};
use crate::{
    bench::{Goal, Machine},
    table::Table,
};
use anyhow::{Context, Result, bail};
use serde::Serialize;

/// Losses of so many steps make the last loss.
const LAST: usize = 4;

/// How far from `ln V` a loss may begin, and how far it must fall, in nats.
const NEAR: f64 = 0.1;
const FALL: f64 = 0.5;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) cores: Cores,
    /// What time is: `CPU` for one thread, `wall` for several.
    pub(super) clock: &'static str,
    pub(super) pairs: u32,
    /// Version and instruction set.
    pub(super) pytorch: Option<String>,
    pub(super) rows: Vec<Row>,
    pub(super) goals: Vec<Goal>,
}

#[derive(Debug, Serialize)]
pub(super) struct Row {
    setting: &'static str,
    vocabulary: usize,
    width: usize,
    layers: usize,
    heads: usize,
    batch: usize,
    length: usize,
    steps: usize,
    ours: Side,
    theirs: Option<Side>,
    /// PyTorch's time over ours, pair by pair.
    speed: Option<Spread>,
    /// Our peak memory over PyTorch's.
    memory: Option<f64>,
    /// Most MiB that PyTorch had resident before there was a model.
    loaded_mib: Option<f64>,
    gflops: f64,
    /// The most that matrix products reach on these cores.
    peak_gflops: f64,
    share_of_peak: f64,
}

/// One side of a row.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Side {
    ms_per_step: Spread,
    peak_mib: f64,
    first_loss: f64,
    last_loss: f64,
}

/// Median, least and most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    median: f64,
    low: f64,
    high: f64,
}

impl Spread {
    fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let (half, last) = (values.len() / 2, values.len().saturating_sub(1));
        let median = if values.len().is_multiple_of(2) {
            (at(half.saturating_sub(1)) + at(half)) / 2.0
        } else {
            at(half)
        };
        Self { median, low: at(0), high: at(last) }
    }

    fn shown(self, unit: &str) -> String {
        let Self { median, low, high } = self;
        format!("{median:.2}{unit} ({low:.2}..{high:.2})")
    }
}

/// Milliseconds of a step, from the beginning of the first that is timed to that of the last.
pub(super) fn step_ms(setting: &Setting, stamps: &[f64]) -> Result<f64> {
    let (first, last) = (setting.skipped, setting.steps - 1);
    let (Some(from), Some(to)) = (stamps.get(first), stamps.get(last)) else {
        bail!("{} steps of {} were taken", stamps.len(), setting.steps);
    };
    Ok((to - from) * 1e3 / (last - first) as f64)
}

pub(super) fn row(
    setting: &Setting,
    ours: &[ours::Run],
    theirs: &[theirs::Run],
    peak: f64,
) -> Result<Row> {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let times = |stamps: &mut dyn Iterator<Item = &Vec<f64>>| {
        stamps.map(|stamps| step_ms(setting, stamps)).collect::<Result<Vec<f64>>>()
    };
    let side = |times: &[f64], peaks: &mut dyn Iterator<Item = u64>, losses: &[f64]| {
        let last = &losses[losses.len().saturating_sub(LAST)..];
        Side {
            ms_per_step: Spread::of(times.iter().copied()),
            peak_mib: Spread::of(peaks.map(mib)).median,
            first_loss: losses.first().copied().unwrap_or(f64::NAN),
            last_loss: last.iter().sum::<f64>() / last.len() as f64,
        }
    };
    let our_times = times(&mut ours.iter().map(|run| &run.stamps))?;
    let first = ours.first().context("there was no run")?;
    let our_side = side(&our_times, &mut ours.iter().map(|run| run.peak_memory), &first.losses);
    let (their_side, speed) = match theirs.first() {
        None => (None, None),
        Some(first) => {
            let their_times = times(&mut theirs.iter().map(|run| &run.stamps))?;
            let peaks = &mut theirs.iter().map(|run| run.peak_memory);
            let pairs = our_times.iter().zip(&their_times).map(|(ours, theirs)| theirs / ours);
            (Some(side(&their_times, peaks, &first.losses)), Some(Spread::of(pairs)))
        }
    };
    let rate = first.flops / setting.steps as f64 / our_side.ms_per_step.median * 1e3;
    Ok(Row {
        setting: setting.name,
        vocabulary: setting.vocabulary,
        width: setting.width,
        layers: LAYERS,
        heads: HEADS,
        batch: setting.batch,
        length: setting.length,
        steps: setting.steps,
        speed,
        memory: their_side.as_ref().map(|theirs| our_side.peak_mib / theirs.peak_mib),
        loaded_mib: theirs.first().map(|run| mib(run.loaded_memory)),
        ours: our_side,
        theirs: their_side,
        gflops: rate * 1e-9,
        peak_gflops: peak * 1e-9,
        share_of_peak: rate / peak,
    })
}

pub(super) fn goals(rows: &[Row]) -> Vec<Goal> {
    let mut goals = Vec::new();
    for row in rows {
        let setting = SETTINGS.iter().find(|setting| setting.name == row.setting);
        let wanted = setting.and_then(|setting| setting.goal);
        let (Some(speed), Some(wanted)) = (row.speed, wanted) else { continue };
        goals.push(Goal {
            goal: if row.vocabulary == 256 {
                "at least 1.0x PyTorch's speed at vocabulary 256"
            } else {
                "at least 1.4x PyTorch's speed at vocabulary 50,257"
            },
            measured: speed.shown("x"),
            met: speed.median >= wanted,
        });
    }
    let memory = rows.iter().filter_map(|row| row.memory).reduce(f64::max);
    goals.extend(memory.map(|memory| Goal {
        goal: "peak memory at most a third of PyTorch's",
        measured: format!("{memory:.2}x"),
        met: memory <= 1.0 / 3.0,
    }));
    let learns = |row: &Row, side: &Side| {
        let ignorance = (row.vocabulary as f64).ln();
        (side.first_loss - ignorance).abs() <= NEAR && side.last_loss <= side.first_loss - FALL
    };
    let sides = rows
        .iter()
        .flat_map(|row| std::iter::once(&row.ours).chain(&row.theirs).map(move |side| (row, side)));
    let sides: Vec<_> = sides.map(|(row, side)| learns(row, side)).collect();
    let learning = sides.iter().filter(|learns| **learns).count();
    goals.push(Goal {
        goal: "every side starts at ln V and learns",
        measured: format!("{learning} of {}", sides.len()),
        met: learning == sides.len(),
    });
    goals
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = format!("{} ms/step", self.clock);
        let mut times = Table::new([
            "setting", "V", "C", "B x T", &unit, "PyTorch", "speed", "Gflop/s", "of peak",
        ]);
        let mut others =
            Table::new(["setting", "peak MiB", "PyTorch", "ratio", "loaded", "loss", "PyTorch"]);
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        for row in &self.rows {
            times.row([
                row.setting.to_owned(),
                row.vocabulary.to_string(),
                row.width.to_string(),
                format!("{} x {}", row.batch, row.length),
                row.ours.ms_per_step.shown(""),
                or_dash(row.theirs.as_ref().map(|side| side.ms_per_step.shown(""))),
                or_dash(row.speed.map(|speed| speed.shown("x"))),
                format!("{:.1}", row.gflops),
                format!("{:.0} %", row.share_of_peak * 100.0),
            ]);
            let loss = |side: &Side| format!("{:.2} to {:.2}", side.first_loss, side.last_loss);
            others.row([
                row.setting.to_owned(),
                format!("{:.0}", row.ours.peak_mib),
                or_dash(row.theirs.as_ref().map(|side| format!("{:.0}", side.peak_mib))),
                or_dash(row.memory.map(|memory| format!("{memory:.2}x"))),
                or_dash(row.loaded_mib.map(|mib| format!("{mib:.0}"))),
                loss(&row.ours),
                or_dash(row.theirs.as_ref().map(loss)),
            ]);
        }
        let mut goals = Table::new(["goal", "measured", ""]);
        for goal in &self.goals {
            goals.row(goal.row());
        }
        let Self { machine, cores, pairs, .. } = self;
        let pytorch = self.pytorch.as_deref().unwrap_or("absent");
        let peak = self.rows.iter().map(|row| row.peak_gflops).fold(0.0, f64::max);
        write!(
            f,
            "{LAYERS} layers, {HEADS} heads, {cores}, {pairs} pairs of runs in turn: \
             median (least..most); PyTorch {pytorch}; matrix products reach {peak:.1} Gflop/s; \
             {machine}\n\n{times}\n{others}\n{goals}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(ms: f64, mib: u64) -> ours::Run {
        let stamps = (0..=SETTINGS[0].steps).map(|step| step as f64 * ms * 1e-3).collect();
        let losses = vec![5.55, 4.0, 4.0, 4.0, 4.0];
        ours::Run { stamps, losses, flops: 301e9, peak_memory: mib << 20 }
    }

    fn theirs(ms: f64, mib: u64) -> theirs::Run {
        let ours::Run { stamps, losses, peak_memory, .. } = ours(ms, mib);
        theirs::Run { stamps, losses, loaded_memory: 1 << 20, peak_memory }
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        let ours = [ours(10.0, 30), ours(20.0, 30), ours(10.0, 30)];
        let theirs = [theirs(11.0, 120), theirs(30.0, 120), theirs(9.0, 120)];
        let row = row(&SETTINGS[0], &ours, &theirs, 200e9).unwrap();
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} is not {b}");
        let speed = row.speed.unwrap();
        close(speed.median, 1.1);
        close(speed.low, 0.9);
        close(speed.high, 1.5);
        close(row.memory.unwrap(), 0.25);
        close(row.ours.ms_per_step.median, 10.0);
        close(row.share_of_peak, 0.5);
        let met: Vec<bool> = goals(&[row]).iter().map(|goal| goal.met).collect();
        assert_eq!(met, [true; 3]);
    }

    #[test]
    fn misses_are_seen() {
        let lazy = ours::Run { losses: vec![5.55; 5], ..ours(10.0, 50) };
        let row = row(&SETTINGS[0], &[lazy], &[theirs(9.0, 120)], 200e9).unwrap();
        let met: Vec<bool> = goals(&[row]).iter().map(|goal| goal.met).collect();
        assert_eq!(met, [false; 3]);
    }

    #[test]
    fn our_side_alone_has_no_ratios() {
        let row = row(&SETTINGS[0], &[ours(10.0, 30)], &[], 200e9).unwrap();
        assert!(row.speed.is_none() && row.memory.is_none() && row.theirs.is_none());
        assert_eq!(goals(&[row]).len(), 1);
        assert!(super::row(&SETTINGS[0], &[], &[], 200e9).is_err());
    }

    #[test]
    fn a_median_lies_in_the_middle() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, low: 1.0, high: 3.0 });
        assert_eq!(Spread::of([3.0, 1.0]).median, 2.0);
        assert_eq!(Spread::of([4.0]).shown("x"), "4.00x (4.00..4.00)");
    }
}
