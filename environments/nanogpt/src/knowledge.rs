//! Knowledge that a program brings with it: tokens under other names must be the same to it.
//!
//! A program that learns treats no token specially until it has seen text. So an untrained model is
//! no better on text than on the same text with renamed tokens, and the first steps of training come
//! as far either way. A table in the source shows in the first comparison; one that is brought into
//! play later, behind a gate that training opens, in the second.

use crate::{
    Part,
    evaluator::{Window, frame_windows},
    measurement::Bench,
    probe::secret,
    process::Trouble,
    scoring::mean,
    text::{Disguise, Text},
    verification::Verified,
};
use forerunner_core::{Finding, Probe};
use forerunner_nanogpt_protocol::Snapshot;
use rand_chacha::rand_core::Rng;

/// How much better than an even guess an untrained model may be, in nats per token. Most honest ones
/// are 0.0 to 0.2 worse, but a head tied to a widely spread embedding repeats its input and gains
/// up to 0.6 where text repeats bytes. Knowing nothing but how frequent bytes are gains over 2.
const EVEN_GUESS_NATS: f64 = 1.0;
/// Disguises in which an untrained model is scored.
const DISGUISES: usize = 8;
/// Disguises beyond those where the model stands out. Eight may happen to lie close together, and then
/// say little about the spread: an honest program with wide random logits was refused once.
const MORE_DISGUISES: usize = 24;
/// How much better than in disguise an untrained model may be without suspicion, in nats per token,
const DISGUISE_NATS: f64 = 0.15;
/// and in standard deviations from disguise to disguise beyond that. Honest models treat no token
/// specially: without the allowance, one in 20,000 would pass eight deviations of seven degrees of
/// freedom.
const DISGUISE_DEVIATIONS: f64 = 8.0;
/// How much further the first steps may come than in disguise, on average so far, without a closer
/// look, in nats per token. Honest programs differ by 0.05 to 0.1 from one disguise to the next.
const SUSPICIOUS_NATS: f64 = 0.10;
/// Disguises of a closer look, if it does not end before.
const CLOSER_DISGUISES: usize = 20;
/// In a closer look the first steps must have come further than half of the disguised ones by this
/// much, in nats per token,
const CLOSER_NATS: f64 = 0.05;
/// and by so many times the distance from that half to the best of them beyond it. Only the better
/// side is a measure of chance: wrong knowledge hurts one disguise more than another, and would hide
/// behind a deviation. A test simulates how often honest programs are refused.
const CLOSER_TIMES: f64 = 1.7;

impl Bench<'_> {
    /// An untrained model knows nothing: it can do no better than guess evenly, by much, and tokens
    /// under other names are the same to it.
    pub(crate) fn knowledge(
        &self,
        untrained: &Snapshot,
        cores: &[usize],
        verified: &mut Verified,
    ) -> Result<f64, Trouble> {
        let (context, vocab) = (self.track.context, self.dataset.manifest().vocab);
        let plain = self.few_windows(self.text(Part::Dev))?;
        let mut random = secret()?;
        let mut in_disguise = |mut windows: Vec<Window>, disguises: usize| {
            for _ in 0..disguises {
                let names = Disguise::new(random.next_u64(), vocab);
                windows.extend(plain.iter().map(|window| window.renamed(&names)));
            }
            let answered = self.losses_of(untrained, &windows, cores)?;
            let losses = answered.value.chunks_exact(plain.len() * context).map(mean);
            Ok::<(Vec<f64>, f64), Trouble>((losses.collect(), answered.cpu_seconds))
        };
        let (mut losses, mut cpu_seconds) = in_disguise(plain.clone(), DISGUISES)?;
        let loss = losses.remove(0);
        if stands_out(loss, &losses) {
            let (more, seconds) = in_disguise(Vec::new(), MORE_DISGUISES)?;
            losses.extend(more);
            cpu_seconds += seconds;
        }
        let finding = foreknowledge(loss, &losses, vocab);
        let probe = Probe::new("foreknowledge", losses.len() as u64, u64::from(finding.is_some()))
            .with("loss", loss)
            .with("loss_in_disguise", mean(&losses));
        verified.add(finding.into_iter().collect(), [probe]);
        Ok(cpu_seconds)
    }

    /// Compares how far the first steps come with tokens as they are and under other names. One
    /// disguise is enough for most; only where the difference is suspicious more are tried.
    pub(crate) fn disguised_start(
        &self,
        seed: u64,
        known: &Snapshot,
        cores: &[usize],
        verified: &mut Verified,
    ) -> Result<f64, Trouble> {
        let plain = self.few_windows(self.text(Part::Dev))?;
        let answered = self.losses_of(known, &plain, cores)?;
        let (loss, mut cpu_seconds) = (mean(&answered.value), answered.cpu_seconds);
        let mut random = secret()?;
        let mut disguised = Vec::new();
        while goes_on(loss, &disguised) {
            let names = Disguise::new(random.next_u64(), self.dataset.manifest().vocab);
            // In place of the request's own disguise, where there is one.
            let text = |part| Text::new(self.dataset.part(part), Some(&names));
            let start = self.first_steps(text(Part::Train), seed, cores)?;
            let windows = self.few_windows(text(Part::Dev))?;
            let answered = self.losses_of(&start.snapshot, &windows, cores)?;
            cpu_seconds += start.charge.used.cpu_seconds + answered.cpu_seconds;
            disguised.push(mean(&answered.value));
        }
        let suspicious = disguised.len() == CLOSER_DISGUISES && is_ahead(loss, &disguised);
        let finding = suspicious.then(|| {
            let text = format!(
                "after the first steps the loss is {loss:.3}, but {:.3} when tokens go by other \
                 names: the program knows some of them; what is known about the data must be learned \
                 on the clock",
                mean(&disguised)
            );
            Finding::error("verify/disguise", text)
        });
        let probe = Probe::new("disguise", disguised.len() as u64, u64::from(finding.is_some()))
            .with("loss", loss)
            .with("loss_in_disguise", mean(&disguised));
        verified.add(finding.into_iter().collect(), [probe]);
        Ok(cpu_seconds)
    }

    /// A frame of windows, or four where a frame has fewer, from all over dev, which is `text`.
    fn few_windows(&self, text: Text<'_>) -> Result<Vec<Window>, Trouble> {
        let (context, vocab) = (self.track.context, self.dataset.manifest().vocab);
        let n_windows = frame_windows(self.track, vocab).max(4);
        let starts = self.windows(Part::Dev)?;
        let some = starts.iter().step_by((starts.len() / n_windows).max(1)).take(n_windows);
        Ok(some.map(|&start| Window::read(text, start, context)).collect())
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
    stands_out(loss, disguised).then(|| {
        let text = format!(
            "before a single token was served the loss is {loss:.3}, but {:.3} when tokens go by \
             other names: the program knows some of them; what is known about the data must be \
             learned on the clock",
            mean(disguised)
        );
        Finding::error(rule, text)
    })
}

/// Whether another disguise is needed to judge the first steps.
fn goes_on(loss: f64, disguised: &[f64]) -> bool {
    disguised.is_empty()
        || mean(disguised) - loss > SUSPICIOUS_NATS && disguised.len() < CLOSER_DISGUISES
}

/// Whether the first steps came further than chance lets them, by losses in disguise.
fn is_ahead(loss: f64, disguised: &[f64]) -> bool {
    let mut sorted = disguised.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (best, middle) = (sorted[0], sorted[sorted.len() / 2]);
    middle - loss > CLOSER_NATS + CLOSER_TIMES * (middle - best)
}

/// Whether the loss of an untrained model is lower than those in disguise, beyond their spread and the
/// uncertainty of their mean.
fn stands_out(loss: f64, disguised: &[f64]) -> bool {
    let (n, middle) = (disguised.len() as f64, mean(disguised));
    let squares: f64 = disguised.iter().map(|loss| (loss - middle).powi(2)).sum();
    let deviation = (squares / (n - 1.0) * (1.0 + 1.0 / n)).sqrt();
    middle - loss > DISGUISE_NATS + DISGUISE_DEVIATIONS * deviation
}

impl Window {
    /// The same window with tokens under other names.
    fn renamed(&self, names: &Disguise) -> Self {
        let rename = |tokens: &[u16]| tokens.iter().map(|&token| names.of(token)).collect();
        Self { inputs: rename(&self.inputs), targets: rename(&self.targets) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    #[test]
    fn a_head_start_is_told_from_a_lucky_one() {
        let check = |loss: f64, worst: f64, expected: bool| {
            // Losses in disguise from 3.0 to 3.2, and a few that knowledge of other tokens spoils.
            let mut disguised: Vec<f64> =
                (0..18).map(|n| 3.0 + 0.2 * f64::from(n) / 17.0).collect();
            disguised.extend([worst; 2]);
            assert_eq!(is_ahead(loss, &disguised), expected, "{loss}");
        };
        check(3.0, 3.2, false);
        check(2.9, 3.2, false);
        check(2.8, 3.2, true);
        check(2.8, 6.7, true);
    }

    #[test]
    fn honest_programs_are_seldom_refused_by_chance() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut uniform = move || (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let mut normal = move || {
            (-2.0 * (1.0 - uniform()).ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()
        };
        for deviation in [0.05, 0.1, 0.2] {
            let n_refused = (0..20_000)
                .filter(|_| {
                    let loss = deviation * normal();
                    let mut disguised = Vec::new();
                    while goes_on(loss, &disguised) {
                        disguised.push(deviation * normal());
                    }
                    disguised.len() == CLOSER_DISGUISES && is_ahead(loss, &disguised)
                })
                .count();
            assert!(n_refused <= 80, "{n_refused} of 20,000 with noise {deviation}");
        }
    }

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
        // Eight that happen to lie close together; what 24 more say of the spread decides.
        let close: Vec<f64> = (0..8).map(|n| 7.5 + 0.02 * f64::from(n)).collect();
        let with = |spread: f64| -> Vec<f64> {
            let more = (0..24).map(|n| 7.5 + spread * (f64::from(n) / 23.0 - 0.5));
            close.iter().copied().chain(more).collect()
        };
        check(6.2, &close, true);
        check(6.2, &with(2.0), false);
        check(6.2, &with(0.2), true);
    }
}
