//! Everything that is tried on a trained program before its score is believed.

use crate::{
    Part,
    audit::{Commitment, blind},
    clock::Meter,
    effort::Effort,
    evaluator::Answered,
    kernel::thread_cpu_seconds,
    measurement::Bench,
    probe::secret,
    process::{Sandboxed, Trouble},
    scoring::{Exam, Scored},
    stream::Stream,
    telemetry::Log,
    text::Text,
    track::Clock,
    trainer::{SECOND_PEEK, Trained, Trainer},
};
use forerunner_core::{EvaluationRequest, Finding, Probe, Purpose};
use forerunner_nanogpt_protocol::{Device, Snapshot};
use forerunner_stats::Audit;

/// Highest probability that a forgery of one seed deviation in one evaluation of a claim is missed.
/// A claim has at least two seeds, and a forgery in all of them is missed in all with the product: at
/// most one in a million.
const CLAIM_RESIDUAL: f64 = 0.001;
/// In a search one window in so many is scored again by the fresh process; in a claim all are.
const AGAIN_SHARE: usize = 8;

/// What was found, and what it took.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    /// Reasons to reject, and remarks.
    pub(crate) findings: Vec<Finding>,
    /// What was tried.
    pub(crate) probes: Vec<Probe>,
    /// CPU seconds of programs and of this process.
    pub(crate) cpu_seconds: f64,
}

impl Verified {
    /// Adds findings and the probes behind them.
    pub(crate) fn add(&mut self, findings: Vec<Finding>, probes: impl IntoIterator<Item = Probe>) {
        self.findings.extend(findings);
        self.probes.extend(probes);
    }

    /// The CPU seconds of a trial; one that the program did not survive is a reason to reject.
    fn tried(
        &mut self,
        probe: &str,
        what: &str,
        result: Result<f64, Trouble>,
    ) -> Result<f64, Trouble> {
        match result {
            Err(Trouble::Program(_, Finding { message, .. })) => {
                let text = format!("{what}, which went well before or could have: {message}");
                self.findings.push(Finding::error(format!("verify/{probe}"), text));
                Ok(0.0)
            }
            other => other,
        }
    }
}

impl Bench<'_> {
    /// Tries a trained and scored program in every way that there is.
    pub(crate) fn verify(
        &self,
        request: &EvaluationRequest,
        trained: &Trained,
        scored: &Answered<Scored>,
        cores: &[usize],
    ) -> Result<Verified, Trouble> {
        let started = thread_cpu_seconds();
        let mut verified = Verified::default();
        let kept = u64::from(!scored.value.kept_parameters);
        verified.add(scored.value.findings(), scored.value.tally.evidence());
        verified.probes.push(Probe::new("parameters", 1, kept));
        let mut children = scored.cpu_seconds * scored.value.probe_share;
        let Scored { effort, .. } = &scored.value;
        // Serving few tokens must not make the ratio generous.
        let tokens = trained.ledger.tokens.max(self.track.scored_tokens() as u64);
        let (device, used) = (self.track.device, trained.charge.used);
        let finding = effort.finding(device, used, tokens, self.dataset.manifest().vocab);
        let (once, per_token) = match device {
            Device::Cpu => ("once_cpu_seconds", "cpu_seconds_per_token"),
            Device::Cuda => ("once_wall_seconds", "wall_seconds_per_token"),
        };
        let probe = Probe::new(Effort::NAME, 1, u64::from(finding.is_some()))
            .with(once, effort.once)
            .with(per_token, effort.per_position);
        verified.add(finding.into_iter().collect(), [probe]);
        let audit = self.audit(request, &trained.snapshot, &scored.value, cores, &mut verified);
        children += verified.tried("blind-audit", "a second evaluation", audit)?;
        // A program that never asked for a token handed over an untrained model.
        let first = trained.checkpoints.first().filter(|first| first.step == 0);
        let untrained = first.map_or(&trained.snapshot, |first| &first.snapshot);
        let knowledge = self.knowledge(untrained, cores, &mut verified);
        children += verified.tried("foreknowledge", "evaluating the untrained model", knowledge)?;
        let replay = self.replay(request, trained, cores, &mut verified);
        children += verified.tried("reproducible", "training the first steps again", replay)?;
        verified.cpu_seconds = children + thread_cpu_seconds() - started;
        Ok(verified)
    }

    /// The blind audit, and a second look at whole windows.
    fn audit(
        &self,
        request: &EvaluationRequest,
        snapshot: &Snapshot,
        scored: &Scored,
        cores: &[usize],
        verified: &mut Verified,
    ) -> Result<f64, Trouble> {
        let (losses, deviation) = (&scored.losses, self.track.seed_deviation);
        let vocab = self.dataset.manifest().vocab;
        let starts = self.windows(Part::from(request.slice))?;
        let claim = request.purpose == Purpose::Confirm;
        let audit = if claim {
            Audit::bounding(losses, vocab, deviation, CLAIM_RESIDUAL)
        } else {
            Audit::expecting(losses, vocab, deviation, self.track.audited_positions as f64)
        };
        let commitment = Commitment {
            exam: Exam { text: self.text(Part::from(request.slice)), starts: &starts },
            losses,
            filler: self.text(Part::Train),
            audit: &audit,
            n_again: if claim { starts.len() } else { starts.len() / AGAIN_SHARE },
        };
        let random = &mut secret()?;
        // Each position takes a window, as many of which were scored.
        let share = (audit.expected() + commitment.n_again as f64) / starts.len() as f64;
        let Answered { value: audited, cpu_seconds } =
            self.long_evaluator(1.0 + share, cores, |process| {
                blind(process, self.task(0), snapshot, commitment, random)
            })?;
        let known: Vec<String> = verified.findings.iter().map(|f| f.rule.clone()).collect();
        let mut findings = audited.findings();
        if known.iter().any(|rule| rule == "verify/repeat") {
            // A program whose answers change by themselves cannot repeat them blind either.
            findings.clear();
        }
        verified.add(findings, audited.evidence(&audit, deviation));
        Ok(cpu_seconds)
    }

    /// Trains the first steps again: the same seed must give the same parameters to the last bit, and
    /// in a claim another seed must not. Under other names of the tokens they must come as far.
    fn replay(
        &self,
        request: &EvaluationRequest,
        trained: &Trained,
        cores: &[usize],
        verified: &mut Verified,
    ) -> Result<f64, Trouble> {
        let looks = &trained.checkpoints;
        let known = looks.iter().find(|look| look.step == SECOND_PEEK);
        let known = known.map_or(&trained.snapshot, |look| &look.snapshot);
        let text = self.text(Part::Train);
        let same = self.first_steps(text, request.seed, cores)?;
        let mut cpu_seconds = same.charge.used.cpu_seconds;
        let differs = same.snapshot != *known;
        if differs {
            let text = "a second training from the same seed gave other parameters; randomness comes \
                        from the harness, so use `run.rng` and nothing that changes from process to \
                        process, such as the order of a `HashMap`";
            verified.add(vec![Finding::error("verify/reproducible", text)], []);
        }
        verified.probes.push(Probe::new("reproducible", 1, u64::from(differs)));
        if request.purpose == Purpose::Confirm {
            let other = self.first_steps(text, request.seed ^ 1, cores)?;
            let ignores = other.snapshot == *known;
            if ignores {
                let text = "another seed gave the same parameters to the last bit; initial values and \
                            data come from the run's seed";
                verified.add(vec![Finding::error("verify/seed", text)], []);
            }
            verified.probes.push(Probe::new("seed", 1, u64::from(ignores)));
            cpu_seconds += other.charge.used.cpu_seconds;
        }
        Ok(cpu_seconds + self.disguised_start(request.seed, known, cores, verified)?)
    }

    /// Trains for the first steps on `text`, or to the end where that comes before.
    pub(crate) fn first_steps(
        &self,
        text: Text<'_>,
        seed: u64,
        cores: &[usize],
    ) -> Result<Trained, Trouble> {
        let mut meter = Meter::new(Clock::Steps);
        let mut log = Log::default();
        let stream = Stream::new(text, seed).aligned(self.track.stream);
        Sandboxed::with(&self.place(cores), "train", self.host, |process| {
            Trainer::new(process, self.task(seed), stream, &mut meter, &mut log, self.host)
                .stop_after(SECOND_PEEK)
                .run()
        })
    }
}

impl<'a> Bench<'a> {
    /// A part of the data, in disguise where the request asks for one.
    pub(crate) fn text(&self, part: Part) -> Text<'a> {
        Text::new(self.dataset.part(part), self.disguise)
    }
}
