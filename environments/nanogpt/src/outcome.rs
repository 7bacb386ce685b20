//! What a measurement amounts to: metrics, telemetry, evidence and remarks.

use crate::{
    Part,
    affinity::Pinned,
    clock::{Charge, Used},
    evaluator::Window,
    handover::HandOver,
    kernel::Kernel,
    measurement::Bench,
    process::Trouble,
    score::spread,
    scoring::{Scored, mean},
    shard::hex,
    stream::Ledger,
    telemetry::{Log, printable},
    track::{Clock, Track},
    trainer::Trained,
};
use forerunner_core::{
    ALLOCATIONS_PER_STEP, Error, EvaluationRequest, Evidence, Finding, Metrics, PEAK_FLOPS, Probe,
    Result, SECONDS_PER_TOKEN, Series, Severity, TOKENS_PER_STEP, Telemetry, late_median,
};
use forerunner_nanogpt_protocol::{Allocations, DeviceUse, Snapshot};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What the program says it trained on.
pub(crate) const TRAIN_LOSS: &str = "train_loss";
/// The injected loss on training text, in nats per token.
pub(crate) const TRAIN_LOSS_SCORED: &str = "train_loss_scored";
/// Windows of training text that are scored.
const TRAIN_WINDOWS: usize = 64;
/// Difference between the two that is remarked on, in nats per token: beyond the noise of a batch.
const OTHER_LOSS_NATS: f64 = 0.3;

/// Share of its time that a thread may wait for a core before a wall clock is doubted.
const MOST_DELAY: f64 = 0.03;

impl Bench<'_> {
    /// What hooks can judge the result by.
    pub(crate) fn evidence(
        &self,
        trained: &Trained,
        scored: &Scored,
        reported_gradients: u64,
        probes: Vec<Probe>,
    ) -> Evidence {
        let Ledger { batches, tokens, order } = trained.ledger;
        let scored_tokens = scored.losses.len() as u64;
        let windows = scored_tokens / self.track.context as u64;
        let ledger = [
            ("batches", batches),
            ("tokens", tokens),
            ("order", order),
            ("reported_gradients", reported_gradients),
            ("windows", windows),
            ("scored_tokens", scored_tokens),
            ("parameters", trained.snapshot.count() as u64),
        ];
        Evidence {
            probes,
            ledger: ledger.map(|(name, count)| (name.to_owned(), count)).into(),
            artifacts: BTreeMap::new(),
            digest: trained.snapshot.encode().ok().map(|bytes| hex(&Sha256::digest(bytes))),
        }
    }

    pub(crate) fn metrics(
        &self,
        request: &EvaluationRequest,
        trained: &Trained,
        scored: &Scored,
    ) -> Result<Metrics> {
        let seconds = trained.charge.seconds + scored.effort.charged(self.track, &trained.charge);
        let count = trained.snapshot.count() as f64;
        let tokens = trained.ledger.tokens as f64;
        let bytes = trained.snapshot.encode().map_err(Error::failed)?.len() as f64;
        let mut metrics: Metrics = [
            ("loss", scored.loss),
            ("seconds", seconds),
            ("steps", trained.ledger.batches as f64),
            ("tokens", tokens),
            ("parameters", count),
            ("snapshot_bytes", bytes),
            ("flops", flops(trained)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        if scored.loss <= self.track.target(request.slice, request.purpose) {
            metrics.insert("seconds_to_target".into(), seconds);
        }
        Ok(metrics)
    }

    /// The injected loss on training text, to stand beside what the program says it trained on.
    pub(crate) fn train_loss(&self, snapshot: &Snapshot, cores: &[usize]) -> Result<f64, Trouble> {
        let (context, train) = (self.track.context, self.text(Part::Train));
        let starts = spread(train.len(), context, TRAIN_WINDOWS).unwrap_or_else(|| vec![0]);
        let windows: Vec<Window> =
            starts.into_iter().map(|start| Window::read(train, start, context)).collect();
        Ok(mean(&self.losses_of(snapshot, &windows, cores)?.value))
    }

    /// A wall clock does not see who had the cores. The kernel knows how long the trainer was ready
    /// to run and had none; beyond a share the measurement is no good, which is said, not hidden.
    pub(crate) fn delays(&self, trained: &Trained) -> Option<Finding> {
        let wall = trained.charge.used.wall_seconds;
        let share = trained.delayed_seconds? / (wall * self.track.threads as f64);
        let by_wall = matches!(self.track.clock, Clock::Wall | Clock::Elapsed);
        (by_wall && share > MOST_DELAY).then(|| {
            let text = format!(
                "others used the cores: threads of the trainer waited {:.1} % of their time for one, \
                 more than {:.0} %; what the wall clock says is too long by something like that",
                share * 100.0,
                MOST_DELAY * 100.0
            );
            Finding::warning("clock/neighbours", text)
        })
    }

    pub(crate) fn facts(&self, request: &EvaluationRequest, cores: &[usize]) -> Telemetry {
        let mut telemetry = Telemetry::default();
        let mut fact = |name: &str, text: String| telemetry.facts.insert(name.into(), text);
        let manifest = self.dataset.manifest();
        fact("data", format!("{} {}", manifest.name, manifest.fingerprint()));
        fact("track", format!("{} {}", self.track.name, self.track.fingerprint(manifest)));
        fact("slice", Part::from(request.slice).name().into());
        if !cores.is_empty() {
            let cores: Vec<_> = cores.iter().map(usize::to_string).collect();
            fact("core", cores.join(" and "));
        }
        telemetry
    }
}

/// A remark on a program that trained on another loss than it is scored by: it may.
pub(crate) fn other_loss(reported: Option<&Series>, scored: f64) -> Option<Finding> {
    let reported = late_median(reported?)?;
    ((reported - scored).abs() > OTHER_LOSS_NATS).then(|| {
        let text = format!(
            "the program reports a training loss of {reported:.3} at the end, and is scored with \
             {scored:.3} on training text: it trains on another loss, which is allowed"
        );
        Finding { severity: Severity::Note, ..Finding::warning("loss/other", text) }
    })
}

/// Two operations per parameter and token forward, four backward (Kaplan et al., 2020).
fn flops(trained: &Trained) -> f64 {
    6.0 * trained.snapshot.count() as f64 * trained.ledger.tokens as f64
}

/// Highest rate of matrix products seen on each core, added up; on whichever core this runs, where
/// the system tells of none.
pub(crate) fn peak_flops(cores: &[usize]) -> f64 {
    let on = |cores: &[usize]| {
        let _pinned = Pinned::to(cores);
        Kernel::new().peak_flops()
    };
    if cores.is_empty() { on(cores) } else { cores.chunks(1).map(on).sum() }
}

pub(crate) fn describe_training(
    telemetry: &mut Telemetry,
    track: &Track,
    trained: &Trained,
    log: &Log,
    peak_flops: Option<f64>,
) {
    let Charge { seconds, used: Used { cpu_seconds, wall_seconds } } = trained.charge;
    let finished = &trained.finished;
    let mut number = |name: &str, value: f64| telemetry.numbers.insert(name.into(), value);
    number("seconds", seconds);
    number("cpu_seconds", cpu_seconds);
    number("wall_seconds", finished.wall.as_secs_f64());
    number("training_wall_seconds", wall_seconds);
    if let Some(seconds) = trained.delayed_seconds {
        number("delayed_seconds", seconds);
    }
    number("peak_memory_bytes", finished.peak_memory_bytes as f64);
    number("tokens_per_cpu_second", trained.ledger.tokens as f64 / cpu_seconds);
    let (startup, all_seconds) = match track.clock {
        Clock::Wall | Clock::Elapsed => ("startup_wall_seconds", wall_seconds),
        _ => ("startup_cpu_seconds", cpu_seconds),
    };
    let flops_per_second = flops(trained) / all_seconds;
    number("flops_per_second", flops_per_second);
    // On a GPU the peak is the harness's word, from its warm-up.
    let device = trained.hand_over.as_ref().map(|over| over.report.matmul_flops_per_second);
    if let Some(peak_flops) = peak_flops.or(device).filter(|flops| *flops > 0.0) {
        number(PEAK_FLOPS, peak_flops);
        number("share_of_gemm_peak", flops_per_second / peak_flops);
    }
    if let Some(HandOver { report, setup_seconds }) = &trained.hand_over {
        number("setup_seconds", *setup_seconds);
        number("device_memory_bytes", report.memory_bytes as f64);
    }
    if let Some(DeviceUse { peak_bytes, seconds, launches, .. }) = log.device() {
        number("device_peak_memory_bytes", *peak_bytes as f64);
        number("device_seconds", *seconds);
        number("device_launches", *launches as f64);
    }
    if let Some(counted) = log.counted_flops() {
        number("counted_flops", counted);
    }
    number(startup, trained.phases.startup_seconds);
    if let Some(Allocations { count, bytes, peak_bytes }) = log.allocations() {
        let steps = trained.ledger.batches.max(1) as f64;
        number("allocations", count as f64);
        number(ALLOCATIONS_PER_STEP, count as f64 / steps);
        number("allocated_per_step_bytes", bytes as f64 / steps);
        number("peak_allocated_bytes", peak_bytes as f64);
    }
    let phases = &trained.phases;
    telemetry.series.insert(SECONDS_PER_TOKEN.into(), phases.seconds_per_token());
    telemetry.series.insert(TOKENS_PER_STEP.into(), phases.tokens_per_step());
    telemetry.sections = log.sections(all_seconds);
    telemetry.operations = log.operations();
    let encoded = trained.snapshot.encode().unwrap_or_default();
    telemetry.facts.insert("snapshot_sha256".into(), hex(&Sha256::digest(encoded)));
    telemetry.facts.insert("sandbox".into(), finished.layers.to_string());
    if let Some(HandOver { report, .. }) = &trained.hand_over {
        let words = printable(&format!("{}, CUDA {}", report.name, report.driver), 80);
        let text = format!("{words}, {} multiprocessors", report.multiprocessors);
        telemetry.facts.insert("device".into(), text);
        telemetry.facts.insert("sections".into(), "seconds of the device, by events".into());
        let by = log.device().map_or("", |device| &device.timed_by);
        let by = printable(if by.is_empty() { "nothing" } else { by }, 80);
        let text = format!("seconds of the device, by {by}");
        telemetry.facts.insert("operations".into(), text);
        let graphs = log.device().map_or("", |device| &device.graphs);
        if !graphs.is_empty() {
            telemetry.facts.insert("graphs".into(), printable(graphs, 300));
        }
    }
}
