//! What the parts of a training cost: named sections, and every operation within them.

use std::time::{Duration, Instant};

use forerunner_nanogpt_protocol::{Operation, Section};
use forerunner_train_ops::profile;

use crate::process::cpu_time;

/// A part of training that has begun.
#[derive(Clone, Copy)]
pub(crate) struct Began {
    pub(crate) cpu: Duration,
    /// Bytes and floating-point operations counted by then.
    counts: (u64, u64),
}

impl Began {
    pub(crate) fn now() -> Self {
        Self { cpu: cpu_time(), counts: profile::totals() }
    }
}

/// The costs so far.
#[derive(Default)]
pub(crate) struct Sections {
    sections: Vec<Section>,
    /// CPU and wall time of work between batches, and when the work under way began.
    work: (Duration, Duration),
    work_since: Option<(Duration, Instant)>,
}

impl Sections {
    /// Adds what was spent since `began` to the section `name`; returns the CPU time now.
    pub(crate) fn charge(&mut self, name: &str, began: Began) -> Duration {
        let Began { cpu, counts: (bytes, flops) } = Began::now();
        let idx = self.sections.iter().position(|section| section.name == name);
        let idx = idx.unwrap_or_else(|| {
            let name = name.to_owned();
            self.sections.push(Section { name, calls: 0, cpu_seconds: 0.0, bytes: 0, flops: 0 });
            self.sections.len() - 1
        });
        let section = &mut self.sections[idx];
        section.calls += 1;
        section.cpu_seconds += (cpu - began.cpu).as_secs_f64();
        section.bytes += bytes - began.counts.0;
        section.flops += flops - began.counts.1;
        cpu
    }

    /// Work on a batch begins, at this CPU time.
    pub(crate) fn begin_work(&mut self, now: Duration) {
        self.work_since = Some((now, Instant::now()));
    }

    /// Adds up the work since the last batch, at this CPU time.
    pub(crate) fn end_work(&mut self, now: Duration) {
        if let Some((cpu, wall)) = self.work_since.take() {
            self.work.0 += now - cpu;
            self.work.1 += wall.elapsed();
        }
    }

    /// The sections in order of first use.
    pub(crate) fn take(&mut self) -> Vec<Section> {
        std::mem::take(&mut self.sections)
    }

    /// What the fused operations cost so far on this thread, which is the one that trains. A program
    /// cannot ask for it: it would be a clock.
    ///
    /// Operations are timed by the wall clock, which is cheap to read; on a core that others use too
    /// all of them are scaled by the share of it that the work between batches got.
    pub(crate) fn operations(&self) -> Vec<Operation> {
        let (cpu, wall) = self.work;
        let share = if cpu.is_zero() { 1.0 } else { cpu.as_secs_f64() / wall.as_secs_f64() };
        let operation = |cost: &profile::Cost| Operation {
            name: cost.name(),
            calls: cost.calls,
            seconds: cost.time.as_secs_f64() * share.min(1.0),
            bytes: cost.bytes,
            flops: cost.flops,
        };
        profile::costs().iter().map(operation).collect()
    }
}
