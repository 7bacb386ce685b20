//! Tracks that require a training loss equivalent to cross-entropy: the loss that a program claims
//! to be that is called on random logits, in a process of its own, and compared here.
//!
//! What it proves: the function that the program states is cross-entropy, in value and in gradient.
//! What it does not: that training calls this function. A process cannot be made to tell; whoever
//! reads the program sees it.

use crate::{
    handover::greet,
    measurement::Bench,
    probe::secret,
    process::{Process, Sandboxed, Stop, Trouble},
    stream::below,
    trainer::Task,
};
use forerunner_core::{Cause, Finding};
use forerunner_nanogpt_protocol::{FromProgram, FromSupervisor, LossAnswer, LossCase};
use rand_chacha::rand_core::Rng;

/// Name of this process in findings.
const STAGE: &str = "the claimed loss";
/// CPU seconds for all cases.
const CPU_SECONDS: f64 = 10.0;
/// First bytes of the artifact.
const MAGIC: &[u8] = b"FLOS";
/// Most rows of a case, and most logits: what a hook looks at must fit into its memory.
const MOST_ROWS: usize = 32;
const MOST_LOGITS: usize = 1 << 19;
/// Difference that passes: of the value relative to it (or to one nat, where it is less), of the
/// gradient relative to its norm. A careful computation in f32 differs from f64 by a few 1e-7 for
/// each rounding of an entry, and by up to 1e-5 where long rows are summed carelessly. Leaving out
/// one row of 32 changes the gradient's norm by 0.18 of itself, a temperature of 1.001 by 1e-3.
const TOLERANCE: f64 = 1e-4;
/// Norm of a gradient below which it is not told from rounding: only that of a single row whose
/// token is nearly certain.
const LEAST_NORM: f64 = 1e-3;

/// How logits of a case are drawn, and for how many rows.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// As of an untrained model: normal, with deviation 1.
    Usual,
    /// As of a trained one: normal, with deviation 8, each row shifted by up to 30.
    Sharp,
    /// Evenly between -80 and 80: the exponentials still fit into f32.
    Extreme,
    /// All the same.
    Even,
}

/// The first one is kept for hooks.
const CASES: [(Kind, usize); 6] = [
    (Kind::Usual, MOST_ROWS),
    (Kind::Usual, 1),
    (Kind::Sharp, 7),
    (Kind::Sharp, MOST_ROWS),
    (Kind::Extreme, 5),
    (Kind::Even, 3),
];

impl Bench<'_> {
    /// What speaks against the loss that the program claims to be equivalent to cross-entropy, where
    /// the track requires one. Keeps a case with its answer as `claimed-loss-SEED.bin`.
    ///
    /// # Errors
    /// When the program does not answer.
    pub(crate) fn claimed_loss(
        &self,
        seed: u64,
        cores: &[usize],
    ) -> Result<Option<Finding>, Trouble> {
        if !self.track.require_equivalent_loss {
            return Ok(None);
        }
        // Setting a device up takes CPU time of the driver's threads, too.
        let cpu_seconds = CPU_SECONDS + 2.0 * self.track.setup_seconds_before_go();
        let place = crate::process::Place { cpu_seconds, ..self.place(cores) };
        let random = &mut secret()?;
        let task = self.task(0);
        let cases: Vec<LossCase> =
            CASES.iter().map(|(kind, rows)| case(*kind, *rows, task.vocab, random)).collect();
        let answers =
            Sandboxed::with(&place, "loss", self.host, |process| ask(process, task, &cases))?;
        if let (Some(case), Some(answer)) = (cases.first(), answers.first()) {
            self.host.store(&format!("claimed-loss-{seed}.bin"), &artifact(case, answer))?;
        }
        let objection =
            cases.iter().zip(&answers).find_map(|(case, answer)| objection(case, answer));
        Ok(objection.map(|objection| {
            let text = format!(
                "{objection}; this track requires a training loss that is equivalent to \
                 cross-entropy: state yours as `claimed_loss` of the model, with the same value and \
                 the same gradient, or leave it out and train on `cross_entropy`"
            );
            Finding::error("loss/not-equivalent", text)
        }))
    }
}

/// What hooks read: the magic, the case, the answer.
fn artifact(case: &LossCase, answer: &LossAnswer) -> Vec<u8> {
    [MAGIC, &case.encode(), &answer.encode()].concat()
}

/// Asks a fresh process for the claimed loss of every case.
fn ask<P: Process>(
    mut process: P,
    task: Task<'_>,
    cases: &[LossCase],
) -> Result<Vec<LossAnswer>, Trouble> {
    let mut converse = || -> Result<Vec<LossAnswer>, Stop> {
        greet(&mut process, &task, STAGE, |_| ())?;
        cases.iter().map(|case| answer(&mut process, case)).collect()
    };
    match converse() {
        Ok(answers) => {
            process.kill()?;
            Ok(answers)
        }
        Err(stop) => Err(process.stopped(STAGE, task.track.max_parameters, stop)),
    }
}

fn answer(process: &mut impl Process, case: &LossCase) -> Result<LossAnswer, Stop> {
    process.tell(&FromSupervisor::LossCase(case.clone()))?;
    let limit = 4 * (1 + case.logits.len() as u64);
    let refuse =
        |text: String| -> Stop { Trouble::program(Cause::Protocol, "protocol/frame", text).into() };
    match process.receive(limit)? {
        FromProgram::Loss(answer) if answer.gradient.len() == case.logits.len() => Ok(answer),
        FromProgram::Loss(answer) => Err(refuse(format!(
            "{STAGE} has {} gradients for {} logits",
            answer.gradient.len(),
            case.logits.len()
        ))),
        _ => Err(refuse(format!("{STAGE} was answered with something else"))),
    }
}

fn case(kind: Kind, rows: usize, vocab: usize, random: &mut impl Rng) -> LossCase {
    let rows = rows.min(MOST_LOGITS / vocab.max(1)).max(1);
    let mut logits = Vec::with_capacity(rows * vocab);
    for _ in 0..rows {
        let shift = 60.0 * uniform(random) - 30.0;
        let mut draw = || match kind {
            Kind::Usual => normal(random),
            Kind::Sharp => 8.0 * normal(random) + shift,
            Kind::Extreme => 160.0 * uniform(random) - 80.0,
            Kind::Even => shift,
        };
        logits.extend((0..vocab).map(|_| draw() as f32));
    }
    let targets = (0..rows).map(|_| below(random, vocab) as u32).collect();
    LossCase { rows: rows as u32, vocab: vocab as u32, logits, targets }
}

/// In `[0, 1)`.
fn uniform(random: &mut impl Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Box and Muller, 1958.
fn normal(random: &mut impl Rng) -> f64 {
    let radius = (-2.0 * (1.0 - uniform(random)).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(random)).cos()
}

/// Why an answer is not that of cross-entropy, if it is not.
fn objection(case: &LossCase, answer: &LossAnswer) -> Option<String> {
    let (value, gradient) = cross_entropy(case);
    let claimed = f64::from(answer.value);
    // Not `>`: what is no number does not agree either.
    let agrees = (claimed - value).abs() <= TOLERANCE * value.abs().max(1.0);
    if !agrees {
        return Some(format!(
            "the claimed loss of random logits is {claimed:.5} where cross-entropy is {value:.5}"
        ));
    }
    let claimed = answer.gradient.iter().map(|value| f64::from(*value));
    let difference = norm(claimed.zip(&gradient).map(|(claimed, value)| claimed - value));
    let norm = norm(gradient.iter().copied()).max(LEAST_NORM);
    let agrees = difference <= TOLERANCE * norm;
    (!agrees).then(|| {
        format!(
            "the gradient of the claimed loss by random logits differs from that of cross-entropy \
             by {:.1e} of its norm",
            difference / norm
        )
    })
}

/// The mean of `ln Σ exp(logits) - logits[target]` over rows and its gradient, in f64.
fn cross_entropy(case: &LossCase) -> (f64, Vec<f64>) {
    let (rows, vocab) = (f64::from(case.rows), case.vocab as usize);
    let mut value = 0.0;
    let mut gradient = Vec::with_capacity(case.logits.len());
    for (row, target) in case.logits.chunks_exact(vocab).zip(&case.targets) {
        let target = *target as usize;
        let largest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let shares = || row.iter().map(|logit| (f64::from(*logit) - largest).exp());
        let sum: f64 = shares().sum();
        value += sum.ln() + largest - f64::from(row[target]);
        let start = gradient.len();
        gradient.extend(shares().map(|share| share / sum / rows));
        gradient[start + target] -= 1.0 / rows;
    }
    (value / rows, gradient)
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    fn cases(vocab: usize) -> Vec<LossCase> {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        CASES.iter().map(|(kind, rows)| case(*kind, *rows, vocab, &mut random)).collect()
    }

    /// What an honest program answers, each number rounded to f32.
    fn honest(case: &LossCase) -> LossAnswer {
        let (value, gradient) = cross_entropy(case);
        let gradient = gradient.into_iter().map(|value| value as f32).collect();
        LossAnswer { value: value as f32, gradient }
    }

    /// How many cases object to what `change` makes of the honest answer.
    fn objections(change: impl Fn(&LossCase, &mut LossAnswer)) -> usize {
        let objects = |case: &LossCase| {
            let mut answer = honest(case);
            change(case, &mut answer);
            objection(case, &answer).is_some()
        };
        [7, 256, 50_257].into_iter().flat_map(cases).filter(objects).count()
    }

    #[test]
    fn cross_entropy_is_cross_entropy() {
        assert_eq!(objections(|_, _| ()), 0);
        // Two rows by hand: ln(1 + e) - 1 with shares 1/(1+e), e/(1+e), and ln 2.
        let logits = vec![0.0, 1.0, 3.0, 3.0];
        let (value, gradient) =
            cross_entropy(&LossCase { rows: 2, vocab: 2, logits, targets: vec![1, 0] });
        let e = 1.0_f64.exp();
        assert!((value - ((1.0 + e).ln() - 1.0 + 2.0_f64.ln()) / 2.0).abs() < 1e-12);
        let expected = [0.5 / (1.0 + e), -0.5 / (1.0 + e), -0.25, 0.25];
        assert!(gradient.iter().zip(expected).all(|(is, should)| (is - should).abs() < 1e-12));
    }

    #[test]
    fn the_artifact_has_the_layout_that_hooks_know() {
        let case = LossCase { rows: 1, vocab: 2, logits: vec![1.0, 2.0], targets: vec![1] };
        let answer = LossAnswer { value: 0.5, gradient: vec![3.0, -3.0] };
        let words: [u32; 8] = [
            1,
            2,
            1.0_f32.to_bits(),
            2.0_f32.to_bits(),
            1,
            0.5_f32.to_bits(),
            3.0_f32.to_bits(),
            (-3.0_f32).to_bits(),
        ];
        let expected = words.iter().flat_map(|word| word.to_le_bytes());
        let expected: Vec<u8> = b"FLOS".iter().copied().chain(expected).collect();
        assert_eq!(artifact(&case, &answer), expected);
    }

    #[test]
    fn the_gradient_is_that_of_the_value() {
        let case = &cases(7)[3];
        let (_, gradient) = cross_entropy(case);
        for (index, gradient) in gradient.iter().enumerate() {
            let at = |step: f32| {
                let mut case = case.clone();
                case.logits[index] += step;
                (cross_entropy(&case).0, f64::from(case.logits[index]))
            };
            let ((low, x0), (high, x1)) = (at(-0.01), at(0.01));
            assert!(((high - low) / (x1 - x0) - gradient).abs() < 1e-5);
        }
    }

    #[test]
    fn whatever_is_not_equivalent_meets_an_objection() {
        let all = 3 * CASES.len();
        assert_eq!(objections(|_, answer| answer.value = answer.value * 1.001 + 0.001), all);
        assert_eq!(objections(|_, answer| answer.gradient.fill(0.0)), all);
        assert_eq!(objections(|_, answer| answer.value = f32::NAN), all);
        assert_eq!(objections(|_, answer| answer.gradient[3] = f32::INFINITY), all);
        let scaled = |_: &LossCase, answer: &mut LossAnswer| {
            answer.gradient.iter_mut().for_each(|value| *value *= 0.5);
        };
        assert_eq!(objections(scaled), all);
        let last_row_forgotten = |case: &LossCase, answer: &mut LossAnswer| {
            let start = case.logits.len() - case.vocab as usize;
            answer.gradient[start..].fill(0.0);
        };
        // A row whose token is nearly certain has no gradient to forget; one of these has such a
        // row at its end. Rows are many, and another case has others.
        assert_eq!(objections(last_row_forgotten), all - 1);
    }

    #[test]
    fn cases_stay_within_what_hooks_can_hold() {
        for vocab in [7, 256, 50_257] {
            for case in cases(vocab) {
                assert!(case.logits.len() <= MOST_LOGITS && case.rows >= 1);
                assert!(case.logits.iter().all(|logit| logit.is_finite()));
                assert!(case.targets.iter().all(|target| (*target as usize) < vocab));
            }
        }
    }
}
