//! One measurement: train in one process, score in another, and say what was seen.

use crate::{
    Dataset, Part,
    affinity::{Pinned, default_cores},
    blame::too_large,
    clock::Meter,
    evaluator::{Answered, Window, frame_windows, with_evaluator},
    gpu::{SCRUB, Seen, Session, Watching},
    metronome::Metronome,
    outcome::{TRAIN_LOSS, TRAIN_LOSS_SCORED, describe_training, other_loss, peak_flops},
    probe::secret,
    process::{Place, Sandboxed, Trouble},
    score::spread,
    scoring::{Exam, Scored, losses, mean, score},
    stream::Stream,
    telemetry::{DEV_LOSS, Log},
    text::Disguise,
    track::{Clock, Track},
    trainer::{Task, Trained, Trainer},
};
use forerunner_core::{
    Cause, Error, Evaluation, EvaluationRequest, Evidence, Finding, Host, Metrics, Purpose, Result,
    Series, Severity, Slice, Verdict,
};
use forerunner_nanogpt_protocol::{Collect, Device, Snapshot};
use std::{cell::RefCell, path::Path};

/// CPU seconds of an evaluator; the reference takes one.
const EVALUATION_CPU_SECONDS: f64 = 60.0;
/// One window in so many is scored for the points of the dev curve.
const CURVE_SHARE: usize = 8;
/// Batches of a smoke test: the second shows that a whole step works.
const SMOKE_BATCHES: u64 = 2;
/// CPU seconds of a smoke test; a program that needs more is measured, not refused.
const SMOKE_CPU_SECONDS: f64 = 10.0;

/// CPU seconds of the scored process, probes left out.
const SCORING_CPU_SECONDS: &str = "scoring_cpu_seconds";
/// CPU seconds that verification took, of the program's processes and of the supervisor.
const VERIFICATION_CPU_SECONDS: &str = "verification_cpu_seconds";

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
    /// Other names for all tokens, where the request asks for them.
    pub(crate) disguise: Option<&'a Disguise>,
    /// Whether to do without a sandbox.
    pub(crate) unsafe_no_sandbox: bool,
    /// The GPU of a track that is measured on one, held for this measurement.
    pub(crate) gpu: Option<Session>,
    /// The host.
    pub(crate) host: &'a dyn Host,
}

impl Bench<'_> {
    /// Measures the program with the request's seed on the request's slice.
    pub(crate) fn measure(self, request: &EvaluationRequest) -> Result<Evaluation> {
        let cores = &self.cores(request)?;
        let mut telemetry = self.facts(request, cores);
        let peak_flops = match &self.gpu {
            None => Some(peak_flops(cores)),
            Some(session) => session.matmul_flops_per_second(self.host)?.ok(),
        };
        let mut log = Log::default();
        let mut evidence = Evidence::default();
        let (mut note, mut seen) = (String::new(), None);
        let trained = self.with_meter(cores, |mut meter| {
            let trained = self.train(request.seed, cores, &mut meter, &mut log, &mut seen);
            note = meter.note();
            trained
        });
        telemetry.series = log.series();
        telemetry.facts.insert("clock".into(), note);
        let result = trained.and_then(|trained| {
            describe_training(&mut telemetry, self.track, &trained, &log, peak_flops);
            self.validate(&trained.snapshot)?;
            let scored = self.score(&trained.snapshot, Part::from(request.slice), cores)?;
            let verified = self.verify(request, &trained, &scored, cores)?;
            evidence = self.evidence(&trained, &scored.value, log.gradients(), verified.probes);
            let curve = self.curve(request, &trained, &scored.value, cores)?;
            let mut findings = verified.findings;
            findings.extend(self.delays(&trained));
            findings.extend(self.claimed_loss(request.seed, cores)?);
            let scored_loss = self.train_loss(&trained.snapshot, cores)?;
            telemetry.numbers.insert(TRAIN_LOSS_SCORED.into(), scored_loss);
            findings.extend(other_loss(telemetry.series.get(TRAIN_LOSS), scored_loss));
            telemetry.series.insert(DEV_LOSS.into(), curve);
            if request.purpose == Purpose::Confirm {
                let bytes = trained.snapshot.encode().map_err(Error::failed)?;
                self.host.store(&format!("snapshot-{}.bin", request.seed), &bytes)?;
            }
            let scoring = scored.cpu_seconds * (1.0 - scored.value.probe_share);
            telemetry.numbers.insert(SCORING_CPU_SECONDS.into(), scoring);
            telemetry.numbers.insert(VERIFICATION_CPU_SECONDS.into(), verified.cpu_seconds);
            Ok((self.metrics(request, &trained, &scored.value)?, findings))
        });
        let wall_clock = self.track.clock == Clock::Elapsed;
        let finish = |session: Session| session.finish(seen, wall_clock, &mut telemetry);
        let remarks = self.gpu.map(finish).unwrap_or_default();
        let remarks = remarks.into_iter().map(|remark| graver(remark, self.track.custom_kernels));
        let (verdict, findings, metrics) = match result {
            Ok((metrics, mut findings)) => {
                findings.extend(remarks);
                let rejected = findings.iter().any(|f| f.severity >= Severity::Error);
                let verdict = if rejected { Verdict::Rejected } else { Verdict::Accepted };
                (verdict, findings, metrics)
            }
            Err(Trouble::Host(error)) => return Err(error),
            Err(Trouble::Program(cause, finding)) => {
                let findings = std::iter::once(finding).chain(remarks).collect();
                (Verdict::Failed(cause), findings, Metrics::new())
            }
        };
        Ok(Evaluation { verdict, findings, metrics, telemetry, evidence }.finite())
    }

    /// Trains for two batches and scores a few windows of training text: finds most programs that
    /// would fail later, for little. A program that is merely slow passes.
    pub(crate) fn smoke(&self) -> Result<Option<(Cause, Finding)>> {
        let mut meter = Meter::new(Clock::Steps);
        let mut log = Log::default();
        let train = self.text(Part::Train);
        let task = self.task(0);
        let cpu_seconds = match self.track.device {
            Device::Cpu => SMOKE_CPU_SECONDS,
            // The driver's start, and a thread that looks for the end of kernels all the time.
            Device::Cuda => 2.0 * (self.track.setup_seconds + SMOKE_CPU_SECONDS),
        };
        let place = Place { cpu_seconds, ..self.place(&[]) };
        let trained = Sandboxed::with(&place, "train", self.host, |process| {
            let stream = Stream::new(train, 0).aligned(self.track.stream);
            Trainer::new(process, task, stream, &mut meter, &mut log, self.host)
                .stop_after(SMOKE_BATCHES)
                .run()
        });
        let result = trained.and_then(|trained| {
            self.validate(&trained.snapshot)?;
            let starts = spread(train.len(), self.track.context, 2).unwrap_or_else(|| vec![0]);
            let read = |&start| Window::read(train, start, self.track.context);
            let windows: Vec<Window> = starts.iter().map(read).collect();
            self.losses_of(&trained.snapshot, &windows, &[])
        });
        match result {
            Ok(_) | Err(Trouble::Program(Cause::Timeout, _)) => Ok(None),
            Err(Trouble::Program(cause, finding)) => Ok(Some((cause, finding))),
            Err(Trouble::Host(error)) => Err(error),
        }
    }

    /// Calls `work` with the track's clock. A calibrated one has its metronome beside it, in a
    /// sandbox of its own on the same cores.
    fn with_meter<T>(
        &self,
        cores: &[usize],
        work: impl FnOnce(Meter<'_>) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let Some(binary) = self.metronome else {
            return work(Meter::new(self.track.clock));
        };
        let place = Place { binary, ..self.place(cores) };
        Sandboxed::with(&place, "train", self.host, |process| {
            let mut metronome = Metronome::start(process, self.track.clock)?;
            work(Meter::with_beats(self.track, Box::new(move || metronome.beat())))
        })
    }

    fn train(
        &self,
        seed: u64,
        cores: &[usize],
        meter: &mut Meter<'_>,
        log: &mut Log,
        seen: &mut Option<Seen>,
    ) -> Result<Trained, Trouble> {
        let watching = RefCell::new(None);
        let watch = || watching.replace(self.gpu.as_ref().map(Session::watch));
        let on_cpu = self.track.device == Device::Cpu;
        let stream = Stream::new(self.text(Part::Train), seed).aligned(self.track.stream);
        let trained = std::thread::scope(|scope| {
            // A GPU's clock goes on while the trainer waits for tokens. One thread more would disturb
            // the cores of a CPU track, whose clock stands still meanwhile.
            let stream = if on_cpu { stream } else { stream.reading_ahead(scope) };
            Sandboxed::with(&self.place(cores), "train", self.host, |process| {
                // Not sooner: the sandbox's threads and processes would inherit it. Where the work is
                // done on a GPU, the core is left to the thread that feeds it.
                let _pinned = on_cpu.then(|| Pinned::to(cores));
                Trainer::new(process, self.task(seed), stream, meter, log, self.host)
                    .when_handed_over(watch)
                    .run()
            })
        });
        *seen = watching.into_inner().map(Watching::finish);
        trained
    }

    fn score(
        &self,
        snapshot: &Snapshot,
        part: Part,
        cores: &[usize],
    ) -> Result<Answered<Scored>, Trouble> {
        let starts = self.windows(part)?;
        let exam = Exam { text: self.text(part), starts: &starts };
        let random = &mut secret()?;
        self.evaluator(cores, |process| score(process, self.task(0), snapshot, exam, random))
    }

    /// Losses of a snapshot on some windows, position by position, without probes.
    pub(crate) fn losses_of(
        &self,
        snapshot: &Snapshot,
        windows: &[Window],
        cores: &[usize],
    ) -> Result<Answered<Vec<f64>>, Trouble> {
        let task = self.task(0);
        let width = frame_windows(self.track, task.vocab);
        self.evaluator(cores, |process| {
            with_evaluator(process, task, snapshot, |evaluator| losses(evaluator, windows, width))
        })
    }

    /// Calls `talk` with a fresh evaluator.
    pub(crate) fn evaluator<T>(
        &self,
        cores: &[usize],
        talk: impl FnOnce(Sandboxed) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        self.long_evaluator(1.0, cores, talk)
    }

    /// The same with so many times the time that scoring may take.
    pub(crate) fn long_evaluator<T>(
        &self,
        times: f64,
        cores: &[usize],
        talk: impl FnOnce(Sandboxed) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let place = self.place(cores);
        let cpu_seconds = times
            * match self.track.device {
                Device::Cpu => EVALUATION_CPU_SECONDS,
                Device::Cuda => self.track.cpu_seconds,
            };
        let place = Place { cpu_seconds, wall_seconds: times * place.wall_seconds, ..place };
        Sandboxed::with(&place, "evaluate", self.host, talk)
    }

    /// Scores the looks on the way on some windows of dev; val and vault are not read for it.
    fn curve(
        &self,
        request: &EvaluationRequest,
        trained: &Trained,
        scored: &Scored,
        cores: &[usize],
    ) -> Result<Series, Trouble> {
        let (context, dev) = (self.track.context, self.text(Part::Dev));
        let starts = self.windows(Part::Dev)?;
        let some: Vec<Window> = starts
            .iter()
            .step_by(CURVE_SHARE)
            .map(|&start| Window::read(dev, start, context))
            .collect();
        let mut curve = Vec::new();
        for checkpoint in &trained.checkpoints {
            match self.losses_of(&checkpoint.snapshot, &some, cores) {
                Ok(point) => curve.push((checkpoint.step, mean(&point.value))),
                Err(Trouble::Host(error)) => return Err(error.into()),
                // A look that cannot be scored is a gap in a curve, nothing more.
                Err(Trouble::Program(..)) => {}
            }
        }
        if request.slice == Slice::Dev {
            let windows = scored.losses.chunks_exact(context).step_by(CURVE_SHARE);
            let same: Vec<f64> = windows.flatten().copied().collect();
            curve.push((trained.ledger.batches, mean(&same)));
        }
        Ok(curve)
    }

    pub(crate) fn windows(&self, part: Part) -> Result<Vec<usize>, Trouble> {
        let (context, windows) = (self.track.context, self.track.windows_of(part));
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

    pub(crate) fn task(&self, seed: u64) -> Task<'_> {
        let vocab = self.dataset.manifest().vocab;
        Task { track: self.track, vocab, seed, collect: Collect::All }
    }

    /// The cores of a measurement: those that the host gave, or any.
    fn cores(&self, request: &EvaluationRequest) -> Result<Vec<usize>> {
        let threads = self.track.threads;
        let cores: Vec<usize> = match request.slot {
            Some(first) => std::iter::once(first).chain(request.more_cores.clone()).collect(),
            None => default_cores(threads),
        };
        if cores.len() < threads && threads > 1 {
            return Err(Error::Failed(format!(
                "the track `{}` measures {threads} threads by the wall clock, which takes as many \
                 cores; there {} {}\nhint: use the track `cpu`, or a machine with more cores",
                self.track.name,
                if cores.len() == 1 { "is" } else { "are" },
                cores.len()
            )));
        }
        Ok(cores)
    }

    pub(crate) fn place<'p>(&'p self, cores: &'p [usize]) -> Place<'p> {
        Place {
            binary: self.binary,
            cores,
            threads: self.track.threads,
            unsafe_no_sandbox: self.unsafe_no_sandbox,
            cpu_seconds: self.track.cpu_seconds,
            wall_seconds: self.track.wall_seconds + self.track.setup_seconds_before_go(),
            gpu: self.gpu.as_ref(),
            memory_bytes: self.track.memory_bytes,
        }
    }
}

/// What is a remark elsewhere rejects where programs bring kernels: those can read what an earlier
/// process left in the device's memory, and a forged score stays unseen as long as none can.
fn graver(remark: Finding, custom_kernels: bool) -> Finding {
    if custom_kernels && remark.rule == SCRUB {
        return Finding { severity: Severity::Error, ..remark };
    }
    remark
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_left_over_matters_where_kernels_are_brought() {
        let severity = |rule: &str, custom_kernels| {
            graver(Finding::warning(rule, "why"), custom_kernels).severity
        };
        assert_eq!(severity(SCRUB, true), Severity::Error);
        assert_eq!(severity(SCRUB, false), Severity::Warning);
        assert_eq!(severity("gpu/clock", true), Severity::Warning);
    }
}
