//! Everything that is tried on a trained program before its score is believed.

use crate::{
    Part,
    audit::{Commitment, blind},
    clock::Meter,
    effort::Effort,
    evaluator::{Answered, Window, frame_windows},
    kernel::thread_cpu_seconds,
    measurement::Bench,
    probe::secret,
    process::{Sandboxed, Trouble},
    scoring::{Exam, Scored, mean},
    stream::Stream,
    telemetry::Log,
    text::{Disguise, Text},
    track::Clock,
    trainer::{SECOND_PEEK, Trained, Trainer},
};
use forerunner_core::{EvaluationRequest, Finding, Probe, Purpose};
use forerunner_nanogpt_protocol::Snapshot;
use forerunner_stats::Audit;
use rand_chacha::rand_core::Rng;

/// Highest probability that a forgery of one seed deviation in one evaluation of a claim is missed.
/// A claim has at least three, and a forgery in all of them is missed in all with the product.
const CLAIM_RESIDUAL: f64 = 0.01;
/// In a search one window in so many is scored again by the fresh process; in a claim all are.
const AGAIN_SHARE: usize = 8;

/// How much better than an even guess an untrained model may be, in nats per token. Most honest ones
/// are 0.0 to 0.2 worse, but a head tied to a widely spread embedding repeats its input and gains
/// up to 0.6 where text repeats bytes. Knowing nothing but how frequent bytes are gains over 2.
const EVEN_GUESS_NATS: f64 = 1.0;
/// Disguises in which an untrained model is scored.
const DISGUISES: usize = 8;
/// How much better than in disguise an untrained model may be without suspicion, in nats per token,
const DISGUISE_NATS: f64 = 0.15;
/// and in standard deviations from disguise to disguise beyond that. Honest models treat no token
/// specially: without the allowance, one in 20,000 would pass eight deviations of seven degrees of
/// freedom.
const DISGUISE_DEVIATIONS: f64 = 8.0;

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
    fn add(&mut self, findings: Vec<Finding>, probes: impl IntoIterator<Item = Probe>) {
        self.findings.extend(findings);
        self.probes.extend(probes);
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
        let (used, tokens) = (trained.charge.used, trained.ledger.tokens);
        let finding = effort.finding(used.cpu_seconds, tokens, self.dataset.manifest().vocab);
        let probe = Probe::new(Effort::NAME, 1, u64::from(finding.is_some()))
            .with("once_cpu_seconds", effort.once)
            .with("cpu_seconds_per_token", effort.per_position);
        verified.add(finding.into_iter().collect(), [probe]);
        children += self.audit(request, &trained.snapshot, &scored.value, cores, &mut verified)?;
        if let Some(first) = trained.checkpoints.first().filter(|first| first.step == 0) {
            children += self.knowledge(&first.snapshot, cores, &mut verified)?;
        }
        children += self.replay(request, trained, cores, &mut verified)?;
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
        let Answered { value: audited, cpu_seconds } = self.evaluator(cores, |process| {
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

    /// An untrained model knows nothing: it can do no better than guess evenly, by much, and tokens
    /// under other names are the same to it.
    fn knowledge(
        &self,
        untrained: &Snapshot,
        cores: &[usize],
        verified: &mut Verified,
    ) -> Result<f64, Trouble> {
        let (context, vocab) = (self.track.context, self.dataset.manifest().vocab);
        let n_windows = frame_windows(context, vocab).max(4);
        let text = self.text(Part::Dev);
        let starts = self.windows(Part::Dev)?;
        let step = (starts.len() / n_windows).max(1);
        let plain: Vec<Window> = starts
            .iter()
            .step_by(step)
            .take(n_windows)
            .map(|&start| Window::read(text, start, context))
            .collect();
        let mut random = secret()?;
        let mut windows = plain.clone();
        for _ in 0..DISGUISES {
            let names = Disguise::new(random.next_u64(), vocab);
            windows.extend(plain.iter().map(|window| window.renamed(&names)));
        }
        let answered = self.losses_of(untrained, &windows, cores)?;
        let losses: Vec<f64> =
            answered.value.chunks_exact(plain.len() * context).map(mean).collect();
        let finding = foreknowledge(losses[0], &losses[1..], vocab);
        let probe = Probe::new("foreknowledge", DISGUISES as u64, u64::from(finding.is_some()))
            .with("loss", losses[0])
            .with("loss_in_disguise", mean(&losses[1..]));
        verified.add(finding.into_iter().collect(), [probe]);
        Ok(answered.cpu_seconds)
    }

    /// Trains the first steps again: the same seed must give the same parameters to the last bit,
    /// and in a claim another seed must not.
    fn replay(
        &self,
        request: &EvaluationRequest,
        trained: &Trained,
        cores: &[usize],
        verified: &mut Verified,
    ) -> Result<f64, Trouble> {
        let Some(known) = trained.checkpoints.iter().find(|look| look.step == SECOND_PEEK) else {
            return Ok(0.0);
        };
        let same = match self.first_steps(request.seed, cores) {
            Ok(again) => again,
            Err(Trouble::Program(_, finding)) => {
                let text = format!(
                    "a second training from the same seed ended otherwise than the first: {}",
                    finding.message
                );
                verified.add(vec![Finding::error("verify/reproducible", text)], []);
                return Ok(0.0);
            }
            Err(host) => return Err(host),
        };
        let differs = same.snapshot != known.snapshot;
        if differs {
            let text = "a second training from the same seed gave other parameters; randomness comes \
                        from the harness, so use `run.rng` and nothing that changes from process to \
                        process, such as the order of a `HashMap`";
            verified.add(vec![Finding::error("verify/reproducible", text)], []);
        }
        verified.probes.push(Probe::new("reproducible", 1, u64::from(differs)));
        let mut cpu_seconds = same.charge.used.cpu_seconds;
        if request.purpose == Purpose::Confirm {
            let other = self.first_steps(request.seed ^ 1, cores)?;
            let ignores = other.snapshot == known.snapshot;
            if ignores {
                let text = "another seed gave the same parameters to the last bit; initial values and \
                            data come from the run's seed";
                verified.add(vec![Finding::error("verify/seed", text)], []);
            }
            verified.probes.push(Probe::new("seed", 1, u64::from(ignores)));
            cpu_seconds += other.charge.used.cpu_seconds;
        }
        Ok(cpu_seconds)
    }

    fn first_steps(&self, seed: u64, cores: &[usize]) -> Result<Trained, Trouble> {
        let mut meter = Meter::new(Clock::Steps);
        let mut log = Log::default();
        let stream = Stream::new(self.text(Part::Train), seed);
        Sandboxed::with(&self.place(cores), "train", self.host, |process| {
            Trainer::new(process, self.task(seed), stream, &mut meter, &mut log, self.host)
                .stop_after(SECOND_PEEK)
                .run()
        })
    }
}

/// Judges the losses of an untrained model on text as it is and in disguises.
fn foreknowledge(loss: f64, disguised: &[f64], vocab: usize) -> Option<Finding> {
    let even = (vocab as f64).ln();
    let rule = "verify/foreknowledge";
    if loss < even - EVEN_GUESS_NATS {
        let text = format!(
            "the loss is {loss:.3} before a single token was served, less than the {even:.3} of an \
             even guess; what is known about the data must be learned on the clock"
        );
        return Some(Finding::error(rule, text));
    }
    let (n, middle) = (disguised.len() as f64, mean(disguised));
    let squares: f64 = disguised.iter().map(|loss| (loss - middle).powi(2)).sum();
    let deviation = (squares / (n - 1.0) * (1.0 + 1.0 / n)).sqrt();
    (middle - loss > DISGUISE_NATS + DISGUISE_DEVIATIONS * deviation).then(|| {
        let text = format!(
            "before a single token was served the loss is {loss:.3}, but {middle:.3} when tokens go \
             by other names: the program knows some of them; what is known about the data must be \
             learned on the clock"
        );
        Finding::error(rule, text)
    })
}

impl Window {
    /// The same window with tokens under other names.
    fn renamed(&self, names: &Disguise) -> Self {
        let rename = |tokens: &[u16]| tokens.iter().map(|&token| names.of(token)).collect();
        Self { inputs: rename(&self.inputs), targets: rename(&self.targets) }
    }
}

impl<'a> Bench<'a> {
    /// A part of the data, in disguise where the request asks for one.
    pub(crate) fn text(&self, part: Part) -> Text<'a> {
        Text::new(self.dataset.part(part), self.disguise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knowledge_is_told_from_chance() {
        let check = |loss: f64, disguised: &[f64], expected: bool| {
            assert_eq!(foreknowledge(loss, disguised, 256).is_some(), expected, "{loss}");
        };
        let even = [5.545; 8];
        check(5.545, &even, false);
        check(5.40, &even, false);
        check(5.38, &even, true);
        check(6.9, &[7.0, 7.2, 7.1, 6.9, 7.3, 7.0, 7.1, 7.2], false);
        // Wide random logits differ from disguise to disguise; half a nat says nothing then.
        check(5.9, &[6.2, 6.6, 6.3, 6.8, 6.1, 6.5, 6.4, 6.7], false);
        check(4.6, &[6.2, 6.6, 6.3, 6.8, 6.1, 6.5, 6.4, 6.7], false);
        check(4.5, &even, true);
        check(4.5, &[4.5; 8], true);
    }
}
