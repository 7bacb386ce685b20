//! What a program reports about itself, cut to size. Shown to people and mutators, never scored:
//! names and numbers here are the program's words.

use forerunner_core::{Operation, SECONDS_PER_TOKEN, Section, Series, TOKENS_PER_STEP, thinned};
use forerunner_nanogpt_protocol::{Allocations, DeviceUse, Record, Summary};
use std::collections::BTreeMap;

/// Series that are measured from outside: nothing that a program says may look like them.
const OF_THE_SUPERVISOR: [&str; 3] = [DEV_LOSS, SECONDS_PER_TOKEN, TOKENS_PER_STEP];
/// What the names of all series begin with that are read off a GPU; they are measured likewise.
const OF_THE_GPU: &str = "gpu_";
/// Name of the curve of losses on held-out text.
pub(crate) const DEV_LOSS: &str = "dev_loss";
/// Most points that are kept of a series while it grows.
const MAX_POINTS: usize = 8192;
/// Series of the run as a whole: the most that are kept, and the points of each that are passed on.
const OF_RUN: (usize, usize) = (16, 512);
/// The same of series of a group of parameters, `NAME.GROUP`; the harness makes three of each group.
const OF_GROUP: (usize, usize) = (48, 128);
/// Most sections of one program.
const MAX_SECTIONS: usize = 24;
/// Most operations of one program; the harness has about forty.
const MAX_OPERATIONS: usize = 64;
/// Most characters of a name.
const MAX_NAME: usize = 40;

/// The reports of one training run.
#[derive(Debug, Default)]
pub(crate) struct Log {
    series: BTreeMap<String, Series>,
    sections: Vec<Section>,
    operations: Vec<Operation>,
    counted_flops: Option<f64>,
    allocations: Option<Allocations>,
    gradients: u64,
    device: Option<DeviceUse>,
}

impl Log {
    /// Takes in one point. Points out of order, beyond the limits or not finite are dropped.
    pub(crate) fn record(&mut self, record: &Record) {
        let name = name(&record.series);
        if OF_THE_SUPERVISOR.contains(&name.as_str()) || name.starts_with(OF_THE_GPU) {
            return;
        }
        if !record.value.is_finite() || !(self.series.contains_key(&name) || self.room(&name)) {
            return;
        }
        let series = self.series.entry(name).or_default();
        if series.len() < MAX_POINTS && series.last().is_none_or(|(step, _)| *step < record.step) {
            series.push((record.step, record.value));
        }
    }

    /// Whether there is room for one more series of this kind.
    fn room(&self, name: &str) -> bool {
        let same_kind = |other: &&String| is_of_group(other) == is_of_group(name);
        self.series.keys().filter(same_kind).count() < limits(name).0
    }

    /// Takes in the profile; a later one replaces an earlier one.
    pub(crate) fn summary(&mut self, summary: &Summary) {
        self.counted_flops = Some(summary.flops).filter(|flops| flops.is_finite());
        self.allocations = summary.allocations;
        self.gradients = summary.gradients;
        self.device = summary.device.clone();
        self.sections = summary
            .sections
            .iter()
            .filter(|section| section.cpu_seconds.is_finite() && section.cpu_seconds >= 0.0)
            .take(MAX_SECTIONS)
            .map(|section| Section {
                name: name(&section.name),
                calls: section.calls,
                seconds: section.cpu_seconds,
                bytes: section.bytes,
                flops: section.flops,
            })
            .collect();
        self.operations = summary
            .operations
            .iter()
            .filter(|operation| operation.seconds.is_finite() && operation.seconds >= 0.0)
            .take(MAX_OPERATIONS)
            .map(|operation| Operation {
                name: name(&operation.name),
                calls: operation.calls,
                seconds: operation.seconds,
                bytes: operation.bytes,
                flops: operation.flops,
            })
            .collect();
        self.operations.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    }

    /// The last value of a series.
    pub(crate) fn last(&self, series: &str) -> Option<f64> {
        self.series.get(series).and_then(|points| points.last()).map(|(_, value)| *value)
    }

    /// Floating-point operations as the harness counted them in the program's process.
    pub(crate) fn counted_flops(&self) -> Option<f64> {
        self.counted_flops
    }

    /// How often gradients were computed, as the harness counted it.
    pub(crate) fn gradients(&self) -> u64 {
        self.gradients
    }

    /// What the device was used for, as the harness counted it.
    pub(crate) fn device(&self) -> Option<&DeviceUse> {
        self.device.as_ref()
    }

    /// Memory that the program's process asked for, as the harness counted it.
    pub(crate) fn allocations(&self) -> Option<Allocations> {
        self.allocations
    }

    /// What the operations cost, largest first.
    pub(crate) fn operations(&self) -> Vec<Operation> {
        self.operations.clone()
    }

    /// The curves, thinned.
    pub(crate) fn series(&self) -> BTreeMap<String, Series> {
        let thin = |name: &str, points: &Series| thinned(points, limits(name).1);
        self.series.iter().map(|(name, points)| (name.clone(), thin(name, points))).collect()
    }

    /// The profile, largest first, with the rest of `cpu_seconds` as `other`.
    pub(crate) fn sections(&self, cpu_seconds: f64) -> Vec<Section> {
        let mut sections = self.sections.clone();
        let named: f64 = sections.iter().map(|section| section.seconds).sum();
        if !sections.is_empty() && cpu_seconds > named {
            sections.retain(|section| section.name != "other");
            let seconds = cpu_seconds - named;
            sections.push(Section { calls: 1, seconds, ..Section::named("other") });
        }
        sections.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        sections
    }
}

/// Whether a series is of a group of parameters: `NAME.GROUP`.
fn is_of_group(name: &str) -> bool {
    name.contains('.')
}

/// How many series of the kind of this one are kept, and how many points of each are passed on.
fn limits(name: &str) -> (usize, usize) {
    if is_of_group(name) { OF_GROUP } else { OF_RUN }
}

/// A name made of harmless characters.
fn name(text: &str) -> String {
    let harmless = |c: char| if c.is_ascii_alphanumeric() || "_-./".contains(c) { c } else { '_' };
    let name: String = text.chars().take(MAX_NAME).map(harmless).collect();
    if name.is_empty() { "_".into() } else { name }
}

/// Text of a program without control characters, cut to `limit` characters.
pub(crate) fn printable(text: &str, limit: usize) -> String {
    let plain = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    let mut short: String = text.chars().take(limit).map(plain).collect();
    if text.chars().nth(limit).is_some() {
        short.push_str(" …");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(series: &str, step: u64, value: f64) -> Record {
        Record { series: series.into(), step, value }
    }

    #[test]
    fn curves_are_bounded_ordered_and_finite() {
        let mut log = Log::default();
        for step in 0..20_000 {
            log.record(&record("train_loss", step, 1.0));
        }
        log.record(&record("x", 5, 1.0));
        log.record(&record("x", 5, 2.0));
        log.record(&record("x", 4, 3.0));
        log.record(&record("x", 6, f64::NAN));
        for index in 0..100 {
            log.record(&record(&format!("spam {index}\n"), 0, 0.0));
            for step in 0..300 {
                log.record(&record(&format!("norm.{index}"), step, 0.0));
            }
        }
        let mut series = log.series();
        let of_groups = series.extract_if(.., |name, _| is_of_group(name)).collect::<Vec<_>>();
        assert_eq!((series.len(), of_groups.len()), (OF_RUN.0, OF_GROUP.0));
        assert!(of_groups.iter().all(|(_, points)| points.len() == OF_GROUP.1));
        assert_eq!(series["x"], [(5, 1.0)]);
        assert_eq!(series["train_loss"].len(), OF_RUN.1);
        assert_eq!(series["train_loss"].last().unwrap().0, MAX_POINTS as u64 - 1);
        assert!(series.contains_key("spam_0_"));
        assert_eq!(log.last("x"), Some(1.0));
    }

    #[test]
    fn a_program_cannot_draw_the_supervisors_curves() {
        let mut log = Log::default();
        let drawn = [DEV_LOSS, SECONDS_PER_TOKEN, TOKENS_PER_STEP, "gpu_watts_by_ms", "train_loss"];
        for series in drawn {
            log.record(&record(series, 1, 0.001));
        }
        assert_eq!(log.series().into_keys().collect::<Vec<_>>(), ["train_loss"]);
    }

    #[test]
    fn the_profile_adds_up() {
        let mut log = Log::default();
        let section = |name: &str, cpu_seconds| forerunner_nanogpt_protocol::Section {
            name: name.into(),
            calls: 2,
            cpu_seconds,
            bytes: 8,
            flops: 6,
        };
        log.summary(&Summary {
            sections: vec![section("data", 1.0), section("forward", 3.0), section("x", f64::NAN)],
            ..Summary::default()
        });
        let sections = log.sections(6.0);
        let names: Vec<_> = sections.iter().map(|s| (s.name.as_str(), s.seconds)).collect();
        assert_eq!(names, [("forward", 3.0), ("other", 2.0), ("data", 1.0)]);
        assert_eq!((sections[0].bytes, sections[0].flops, sections[1].flops), (8, 6, 0));
        assert!(Log::default().sections(6.0).is_empty());
    }

    #[test]
    fn operations_are_bounded_finite_and_sorted() {
        let mut log = Log::default();
        let operation = |name: &str, seconds| forerunner_nanogpt_protocol::Operation {
            name: name.into(),
            calls: u64::MAX,
            seconds,
            bytes: 8,
            flops: 2,
        };
        let mut operations = vec![operation("nan", f64::NAN), operation("back", -1.0)];
        operations.extend((0..999).map(|index| operation("a\x1b[2J", f64::from(index))));
        log.summary(&Summary { operations, ..Summary::default() });
        let operations = log.operations();
        assert_eq!(operations.len(), MAX_OPERATIONS);
        assert!(operations.iter().all(|o| o.name == "a__2J" && o.seconds >= 0.0));
        assert_eq!((operations[0].seconds, operations[63].seconds), (63.0, 0.0));
        assert_eq!(
            (operations[0].calls, operations[0].bytes, operations[0].flops),
            (u64::MAX, 8, 2)
        );
    }

    #[test]
    fn program_text_is_made_harmless() {
        assert_eq!(printable("a\x1b[2Jb\nü", 99), "a?[2Jb??");
        assert_eq!(printable("abcdef", 3), "abc …");
        assert_eq!(name(""), "_");
        assert_eq!(name(&"long".repeat(99)).len(), MAX_NAME);
    }
}
