//! One measurement: train in one process, score in another, and say what was seen.

use crate::{
    Dataset, Part,
    affinity::{Pinned, default_core},
    blame::too_large,
    clock::{Charge, Meter},
    evaluator::{Exam, Scored, score},
    kernel::Kernel,
    metronome::Metronome,
    probe::secret,
    process::{Place, Sandboxed, Trouble},
    score::spread,
    shard::hex,
    stream::Stream,
    telemetry::Log,
    track::{Clock, Track},
    trainer::{Task, Trained, Trainer},
};
use forerunner_core::{
    Cause, Error, Evaluation, EvaluationRequest, Finding, Host, Metrics, PEAK_FLOPS, Purpose,
    Result, Series, Severity, Slice, Telemetry, Verdict,
};
use forerunner_nanogpt_protocol::Snapshot;
use sha2::{Digest, Sha256};
use std::path::Path;

/// CPU seconds of an evaluator; the reference takes one.
const EVALUATION_CPU_SECONDS: f64 = 60.0;
/// One window in so many is scored for the points of the dev curve.
const CURVE_SHARE: usize = 8;
/// Batches of a smoke test: the second shows that a whole step works.
const SMOKE_BATCHES: u64 = 2;
/// CPU seconds of a smoke test; a program that needs more is measured, not refused.
const SMOKE_CPU_SECONDS: f64 = 10.0;

/// How much better than an even guess an untrained model may be, in nats per token. Most honest ones
/// are 0.0 to 0.2 worse, but a head tied to a widely spread embedding repeats its input and gains
/// up to 0.6 where text repeats bytes. Knowing nothing but how frequent bytes are gains over 2.
const FOREKNOWLEDGE_NATS: f64 = 1.0;

/// Everything a measurement needs but the request.
pub(crate) struct Bench<'a> {
    /// The setting.
    pub(crate) track: &'a Track,
    /// The data.
    pub(crate) dataset: &'a Dataset,
    /// The compiled program.
    pub(crate) binary: &'a Path,
    /// The compiled reference program, where the clock is calibrated by it.
    pub(crate) metronome: Option<&'a Path>,
    /// Whether to do without a sandbox.
    pub(crate) unsafe_no_sandbox: bool,
    /// The host.
    pub(crate) host: &'a dyn Host,
}

impl Bench<'_> {
    /// Measures the program with the request's seed on the request's slice.
    pub(crate) fn measure(&self, request: &EvaluationRequest) -> Result<Evaluation> {
        let core = request.slot.or_else(default_core);
        let mut telemetry = self.facts(request, core);
        let peak_flops = {
            let _pinned = core.and_then(Pinned::to);
            Kernel::new().peak_flops()
        };
        let mut log = Log::default();
        let mut note = String::new();
        let trained = self.with_meter(core, |mut meter| {
            let trained = self.train(request.seed, core, &mut meter, &mut log);
            note = meter.note();
            trained
        });
        telemetry.series = log.series();
        telemetry.facts.insert("clock".into(), note);
        let result = trained.and_then(|trained| {
            describe_training(&mut telemetry, &trained, &log, peak_flops);
            self.validate(&trained.snapshot)?;
            let scored = self.score(&trained.snapshot, Part::from(request.slice), core)?;
            let mut findings = scored.findings.clone();
            let curve = self.curve(request, &trained, &scored, core)?;
            findings.extend(self.foreknowledge(&curve));
            telemetry.series.insert("dev_loss".into(), curve);
            if request.purpose == Purpose::Confirm {
                let bytes = trained.snapshot.encode().map_err(Error::failed)?;
                self.host.store(&format!("snapshot-{}.bin", request.seed), &bytes)?;
            }
            telemetry.numbers.insert("evaluation_cpu_seconds".into(), scored.cpu_seconds);
            telemetry.numbers.insert("probe_frames".into(), scored.n_probes as f64);
            Ok((self.metrics(request, &trained, &scored)?, findings))
        });
        let (verdict, findings, metrics) = match result {
            Ok((metrics, findings)) => {
                let rejected = findings.iter().any(|f| f.severity >= Severity::Error);
                let verdict = if rejected { Verdict::Rejected } else { Verdict::Accepted };
                (verdict, findings, metrics)
            }
            Err(Trouble::Host(error)) => return Err(error),
            Err(Trouble::Program(cause, finding)) => {
                (Verdict::Failed(cause), vec![finding], Metrics::new())
            }
        };
        Ok(Evaluation { verdict, findings, metrics, telemetry }.finite())
    }

    /// Trains for two batches and scores a few windows of training text: finds most programs that
    /// would fail later, for little. A program that is merely slow passes.
    pub(crate) fn smoke(&self) -> Result<Option<(Cause, Finding)>> {
        let mut meter = Meter::new(Clock::Steps);
        let mut log = Log::default();
        let train = self.dataset.part(Part::Train);
        let task = self.task(0);
        let place = Place { cpu_seconds: SMOKE_CPU_SECONDS, ..self.place(None) };
        let trained = Sandboxed::with(&place, "train", self.host, |process| {
            Trainer::new(process, task, Stream::new(train, 0), &mut meter, &mut log, self.host)
                .stop_after(SMOKE_BATCHES)
                .run()
        });
        let result = trained.and_then(|trained| {
            self.validate(&trained.snapshot)?;
            let starts = spread(train.len(), self.track.context, 2).unwrap_or_default();
            self.exam(&trained.snapshot, Exam { shard: train, starts: &starts, secret: None }, None)
        });
        match result {
            Ok(_) | Err(Trouble::Program(Cause::Timeout, _)) => Ok(None),
            Err(Trouble::Program(cause, finding)) => Ok(Some((cause, finding))),
            Err(Trouble::Host(error)) => Err(error),
        }
    }

    /// Calls `work` with the track's clock. A calibrated one has its metronome beside it, in a
    /// sandbox of its own on the same core.
    fn with_meter<T>(
        &self,
        core: Option<usize>,
        work: impl FnOnce(Meter<'_>) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let Some(binary) = self.metronome else {
            return work(Meter::new(self.track.clock));
        };
        let place = Place { binary, ..self.place(core) };
        Sandboxed::with(&place, "train", self.host, |process| {
            let mut metronome = Metronome::start(process)?;
            let beat = Box::new(move || metronome.beat());
            work(Meter::with_beats(self.track.seconds_per_beat, beat))
        })
    }

    fn train(
        &self,
        seed: u64,
        core: Option<usize>,
        meter: &mut Meter<'_>,
        log: &mut Log,
    ) -> Result<Trained, Trouble> {
        let stream = Stream::new(self.dataset.part(Part::Train), seed);
        Sandboxed::with(&self.place(core), "train", self.host, |process| {
            // Not sooner: the sandbox's threads and processes would inherit it.
            let _pinned = core.and_then(Pinned::to);
            Trainer::new(process, self.task(seed), stream, meter, log, self.host).run()
        })
    }

    fn score(
        &self,
        snapshot: &Snapshot,
        part: Part,
        core: Option<usize>,
    ) -> Result<Scored, Trouble> {
        let shard = self.dataset.part(part);
        let starts = self.windows(part)?;
        self.exam(snapshot, Exam { shard, starts: &starts, secret: Some(secret()?) }, core)
    }

    fn exam(
        &self,
        snapshot: &Snapshot,
        exam: Exam<'_>,
        core: Option<usize>,
    ) -> Result<Scored, Trouble> {
        let place = Place { cpu_seconds: EVALUATION_CPU_SECONDS, ..self.place(core) };
        Sandboxed::with(&place, "evaluate", self.host, |process| {
            score(process, self.task(0), snapshot, exam)
        })
    }

    /// Scores the looks on the way on some windows of dev; val and vault are not read for it.
    fn curve(
        &self,
        request: &EvaluationRequest,
        trained: &Trained,
        scored: &Scored,
        core: Option<usize>,
    ) -> Result<Series, Trouble> {
        let starts = self.windows(Part::Dev)?;
        let some: Vec<usize> = starts.into_iter().step_by(CURVE_SHARE).collect();
        let shard = self.dataset.part(Part::Dev);
        let mut curve = Vec::new();
        for checkpoint in &trained.checkpoints {
            let exam = Exam { shard, starts: &some, secret: None };
            match self.exam(&checkpoint.snapshot, exam, core) {
                Ok(point) => curve.push((checkpoint.step, point.loss)),
                Err(Trouble::Host(error)) => return Err(error.into()),
                // A look that cannot be scored is a gap in a curve, nothing more.
                Err(Trouble::Program(..)) => {}
            }
        }
        if request.slice == Slice::Dev {
            let same: Vec<f64> = scored.windows.iter().copied().step_by(CURVE_SHARE).collect();
            let loss = same.iter().sum::<f64>() / same.len() as f64;
            curve.push((trained.ledger.batches, loss));
        }
        Ok(curve)
    }

    /// A model that has seen nothing cannot do better than guess evenly; one that does brought
    /// knowledge about the data with it.
    fn foreknowledge(&self, curve: &Series) -> Option<Finding> {
        let (_, loss) = curve.first().filter(|(step, _)| *step == 0)?;
        let even = (self.dataset.manifest().vocab as f64).ln();
        (*loss < even - FOREKNOWLEDGE_NATS).then(|| {
            let text = format!(
                "the loss is {loss:.3} before a single token was served, less than the {even:.3} of \
                 an even guess; what is known about the data must be learned on the clock"
            );
            Finding::error("verify/foreknowledge", text)
        })
    }

    fn windows(&self, part: Part) -> Result<Vec<usize>, Trouble> {
        let Track { context, windows, .. } = *self.track;
        let len = self.dataset.part(part).len();
        spread(len, context, windows).ok_or_else(|| {
            Trouble::Host(Error::Failed(format!("{windows} windows do not fit {len} tokens")))
        })
    }

    fn validate(&self, snapshot: &Snapshot) -> Result<(), Trouble> {
        let (count, most) = (snapshot.count(), self.track.max_parameters);
        if count > most {
            return Err(too_large("the snapshot has", count, most));
        }
        if count == 0 {
            let text = "the snapshot has no values; declare the model's parameters";
            return Err(Trouble::program(Cause::Protocol, "snapshot/empty", text));
        }
        if !snapshot.is_finite() {
            let text = "a trained parameter is not finite; training diverged";
            return Err(Trouble::program(Cause::NotFinite, "snapshot/not-finite", text));
        }
        Ok(())
    }

    fn metrics(
        &self,
        request: &EvaluationRequest,
        trained: &Trained,
        scored: &Scored,
    ) -> Result<Metrics> {
        let Charge { seconds, .. } = trained.charge;
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

    fn task(&self, seed: u64) -> Task<'_> {
        Task { track: self.track, vocab: self.dataset.manifest().vocab, seed }
    }

    fn place(&self, cpu: Option<usize>) -> Place<'_> {
        Place {
            binary: self.binary,
            cpu,
            unsafe_no_sandbox: self.unsafe_no_sandbox,
            cpu_seconds: self.track.cpu_seconds,
            wall_seconds: self.track.wall_seconds,
            memory_bytes: self.track.memory_bytes,
        }
    }

    fn facts(&self, request: &EvaluationRequest, core: Option<usize>) -> Telemetry {
        let mut telemetry = Telemetry::default();
        let mut fact = |name: &str, text: String| telemetry.facts.insert(name.into(), text);
        let manifest = self.dataset.manifest();
        fact("data", format!("{} {}", manifest.name, manifest.fingerprint()));
        fact("track", format!("{} {}", self.track.name, self.track.fingerprint(manifest)));
        fact("slice", Part::from(request.slice).name().into());
        if let Some(core) = core {
            fact("core", core.to_string());
        }
        telemetry
    }
}

/// Two operations per parameter and token forward, four backward (Kaplan et al., 2020).
fn flops(trained: &Trained) -> f64 {
    6.0 * trained.snapshot.count() as f64 * trained.ledger.tokens as f64
}

fn describe_training(telemetry: &mut Telemetry, trained: &Trained, log: &Log, peak_flops: f64) {
    let Charge { seconds, cpu_seconds } = trained.charge;
    let finished = &trained.finished;
    let mut number = |name: &str, value: f64| telemetry.numbers.insert(name.into(), value);
    number("seconds", seconds);
    number("cpu_seconds", cpu_seconds);
    number("wall_seconds", finished.wall.as_secs_f64());
    number("peak_memory_bytes", finished.peak_memory_bytes as f64);
    number("tokens_per_cpu_second", trained.ledger.tokens as f64 / cpu_seconds);
    number("flops_per_second", flops(trained) / cpu_seconds);
    number(PEAK_FLOPS, peak_flops);
    number("share_of_gemm_peak", flops(trained) / cpu_seconds / peak_flops);
    if let Some(counted) = log.counted_flops() {
        number("counted_flops", counted);
    }
    telemetry.sections = log.sections(cpu_seconds);
    telemetry.operations = log.operations();
    let encoded = trained.snapshot.encode().unwrap_or_default();
    telemetry.facts.insert("snapshot_sha256".into(), hex(&Sha256::digest(encoded)));
    telemetry.facts.insert("sandbox".into(), finished.layers.to_string());
}
