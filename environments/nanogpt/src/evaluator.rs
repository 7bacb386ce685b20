//! The evaluator's conversation: parameters and windows in, logits out, the loss computed here.

use crate::{
    Shard,
    probe::{Frame, compare, perturb, plan},
    process::{Process, Stop, Trouble},
    score::{bits_hash, nll},
    trainer::Task,
};
use forerunner_core::{Cause, Finding};
use forerunner_nanogpt_protocol::{FromProgram, FromSupervisor, Snapshot, Windows};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// Name of this process in findings.
const STAGE: &str = "the evaluator";
/// Most bytes of logits in one answer; large vocabularies get fewer windows in a frame.
const FRAME_BYTES: usize = 8 << 20;
/// Most windows in one frame.
const FRAME_WINDOWS: usize = 16;

/// A scored snapshot.
#[derive(Debug)]
pub(crate) struct Scored {
    /// Mean negative log-likelihood in nats per token, every token once.
    pub(crate) loss: f64,
    /// The same for each window.
    pub(crate) windows: Vec<f64>,
    /// What the probes found; any finding rejects.
    pub(crate) findings: Vec<Finding>,
    /// How many probe frames there were.
    pub(crate) n_probes: usize,
    /// CPU seconds of the evaluator.
    pub(crate) cpu_seconds: f64,
}

/// What is scored.
pub(crate) struct Exam<'a> {
    /// The slice.
    pub(crate) shard: &'a Shard,
    /// First positions of the windows.
    pub(crate) starts: &'a [usize],
    /// Secret randomness for probes; none for the points of a curve.
    pub(crate) secret: Option<ChaCha8Rng>,
}

/// Scores `snapshot` in a fresh process. `task.seed` should be 0: nothing of the training run is
/// carried over but the snapshot.
pub(crate) fn score<P: Process>(
    mut process: P,
    task: Task<'_>,
    snapshot: &Snapshot,
    exam: Exam<'_>,
) -> Result<Scored, Trouble> {
    match talk(&mut process, task, snapshot, exam) {
        Ok(mut scored) => {
            let cpu_seconds = process.cpu_seconds();
            let finished = process.kill()?;
            scored.cpu_seconds = cpu_seconds.unwrap_or(finished.cpu.as_secs_f64());
            Ok(scored)
        }
        Err(stop) => Err(process.stopped(STAGE, task.track.max_parameters, stop)),
    }
}

fn talk<P: Process>(
    process: &mut P,
    task: Task<'_>,
    snapshot: &Snapshot,
    mut exam: Exam<'_>,
) -> Result<Scored, Stop> {
    process.tell(&task.start())?;
    process.tell(&FromSupervisor::Parameters(snapshot.clone()))?;
    let context = task.track.context;
    let frames: Vec<&[usize]> = exam.starts.chunks(frame_windows(context, task.vocab)).collect();
    let sizes: Vec<usize> = frames.iter().map(|frame| frame.len()).collect();
    let plan = match &mut exam.secret {
        Some(random) => plan(&sizes, context, random),
        None => (0..frames.len()).map(Frame::Scored).collect(),
    };
    let probed: Vec<usize> = plan.iter().filter(|f| is_probe(f)).map(Frame::scored).collect();
    let mut hashes: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    let mut windows: Vec<f64> = Vec::with_capacity(exam.starts.len());
    let mut findings: Vec<Finding> = Vec::new();
    for frame in &plan {
        let starts = frames[frame.scored()];
        let mut tokens: Vec<u16> =
            starts.iter().flat_map(|&start| exam.shard.tokens(start..start + context)).collect();
        if let (Frame::Suffix(_, cuts), Some(random)) = (frame, &mut exam.secret) {
            perturb(&mut tokens, context, cuts, exam.shard, random);
        }
        let logits = answer(process, tokens, starts.len(), task)?;
        let rows = logits.chunks_exact(task.vocab);
        if is_probe(frame) {
            let is: Vec<u64> = rows.map(bits_hash).collect();
            let was = &hashes[&frame.scored()];
            if let Some(finding) = compare(frame, was, &is, context)
                && findings.iter().all(|known| known.rule != finding.rule)
            {
                findings.push(finding);
            }
            continue;
        }
        if probed.contains(&frame.scored()) {
            hashes.insert(frame.scored(), rows.clone().map(bits_hash).collect());
        }
        let targets =
            starts.iter().flat_map(|&start| exam.shard.tokens(start + 1..start + context + 1));
        let losses: Vec<f64> = rows.zip(targets).map(|(row, target)| nll(row, target)).collect();
        windows.extend(losses.chunks_exact(context).map(mean));
    }
    let loss = mean(&windows);
    if windows.len() != exam.starts.len() || !loss.is_finite() {
        let text = format!("the loss over {} windows is {loss}", windows.len());
        return Err(Trouble::program(Cause::NotFinite, "score/not-finite", text).into());
    }
    // Leaks cannot be told from answers that are not reproducible in the first place.
    if findings.iter().any(|finding| finding.rule == "verify/repeat") {
        findings.retain(|finding| finding.rule == "verify/repeat");
    }
    Ok(Scored { loss, windows, findings, n_probes: probed.len(), cpu_seconds: 0.0 })
}

/// Sends one frame and checks the answer's shape and values.
fn answer<P: Process>(
    process: &mut P,
    tokens: Vec<u16>,
    n_windows: usize,
    task: Task<'_>,
) -> Result<Vec<f32>, Stop> {
    let length = task.track.context;
    let expected = n_windows * length * task.vocab;
    let windows = Windows { batch: n_windows as u32, length: length as u32, tokens };
    process.tell(&FromSupervisor::Windows(windows))?;
    let FromProgram::Logits(logits) = process.receive(4 * expected as u64)? else {
        let text = format!("{STAGE} answered windows with something else than logits");
        return Err(Trouble::program(Cause::Protocol, "protocol/frame", text).into());
    };
    if logits.len() != expected {
        let text = format!(
            "{} logits for {n_windows} windows of {length} positions and a vocabulary of {}; \
             {expected} were asked for",
            logits.len(),
            task.vocab
        );
        return Err(Trouble::program(Cause::Protocol, "score/count", text).into());
    }
    if let Some(at) = logits.iter().position(|logit| !logit.is_finite()) {
        let text = format!(
            "a logit is {} (position {} of a window); all logits must be finite",
            logits[at],
            at / task.vocab % length
        );
        return Err(Trouble::program(Cause::NotFinite, "score/not-finite", text).into());
    }
    Ok(logits)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn is_probe(frame: &Frame) -> bool {
    !matches!(frame, Frame::Scored(_))
}

/// Windows in a frame: depends on the track alone, so that every program sees the same shapes.
fn frame_windows(context: usize, vocab: usize) -> usize {
    (FRAME_BYTES / (4 * context * vocab)).clamp(1, FRAME_WINDOWS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        probe::secret,
        score::spread,
        scripted::{Fixture, Script, Scripted, assert_blamed},
    };
    use forerunner_nanogpt_protocol::Spec;
    use forerunner_sandbox::Outcome;
    use std::os::unix::net::UnixStream;

    const VOCAB: usize = 256;

    /// Answers every frame by `logits(tokens of one window, position, frame number)`.
    fn serve(pipe: &mut UnixStream, logits: impl Fn(&[u16], usize, usize) -> Vec<f32>) -> Outcome {
        let mut number = 0;
        loop {
            match FromSupervisor::read(pipe) {
                Ok(FromSupervisor::Windows(Windows { length, tokens, .. })) => {
                    let windows = tokens.chunks(length as usize);
                    let answer = windows.flat_map(|window| {
                        (0..window.len()).flat_map(|position| logits(window, position, number))
                    });
                    if FromProgram::Logits(answer.collect()).write(pipe).is_err() {
                        return Outcome::Signalled(9);
                    }
                    number += 1;
                }
                Ok(_) => {}
                Err(_) => return Outcome::Signalled(9),
            }
        }
    }

    fn peaked(at: u16, height: f32) -> Vec<f32> {
        let mut row = vec![0.0; VOCAB];
        row[at as usize] = height;
        row
    }

    fn exam(script: Script) -> Result<Scored, Trouble> {
        let fixture = Fixture::new();
        let spec = Spec { name: "w".into(), shape: vec![1] };
        let snapshot = Snapshot::round([(spec, [1.0].as_slice())]).unwrap();
        let starts = spread(fixture.shard.len(), 8, 40).unwrap();
        let exam = Exam { shard: &fixture.shard, starts: &starts, secret: Some(secret()?) };
        score(Scripted::start(script), fixture.task(), &snapshot, exam)
    }

    #[test]
    fn an_honest_model_gets_its_loss() {
        let uniform = exam(|pipe| serve(pipe, |_, _, _| vec![0.0; VOCAB])).unwrap();
        assert!((uniform.loss - (VOCAB as f64).ln()).abs() < 1e-12);
        assert_eq!(uniform.findings, []);
        assert_eq!(uniform.n_probes, 6);
        // The text counts up by seven: knowing that is learning it.
        let knowing = exam(|pipe| {
            serve(pipe, |window, position, _| peaked((window[position] + 7) % 256, 20.0))
        });
        let knowing = knowing.unwrap();
        assert!(knowing.loss < 1e-5, "{}", knowing.loss);
        assert_eq!(knowing.findings, []);
    }

    #[test]
    fn looking_ahead_is_found() {
        let scored = exam(|pipe| {
            serve(pipe, |window, position, _| match window.get(position + 1) {
                Some(&next) => peaked(next, 20.0),
                None => vec![0.0; VOCAB],
            })
        })
        .unwrap();
        let rules: Vec<_> = scored.findings.iter().map(|f| f.rule.as_str()).collect();
        assert_eq!(rules, ["verify/causality"]);
    }

    #[test]
    fn state_between_calls_is_found() {
        let scored = exam(|pipe| serve(pipe, |_, _, number| peaked(0, number as f32))).unwrap();
        let rules: Vec<_> = scored.findings.iter().map(|f| f.rule.as_str()).collect();
        assert_eq!(rules, ["verify/repeat"]);
    }

    #[test]
    fn whatever_an_evaluator_does_wrong_is_one_finding() {
        let check = |script: Script, cause: Cause, text: &str| {
            assert_blamed(exam(script).unwrap_err(), cause, text);
        };
        check(|_| Outcome::Exited(0), Cause::Protocol, "the evaluator ended before");
        check(
            |pipe| serve(pipe, |_, _, _| vec![0.0; VOCAB - 1]),
            Cause::Protocol,
            "logits for 16 windows of 8 positions and a vocabulary of 256",
        );
        check(
            |pipe| serve(pipe, |_, _, _| vec![0.0; VOCAB + 1]),
            Cause::Protocol,
            "more than the limit",
        );
        for script in [
            (|pipe| {
                serve(pipe, |_, position, _| peaked(0, if position == 3 { f32::NAN } else { 0.0 }))
            }) as Script,
            |pipe| {
                serve(pipe, |_, position, _| {
                    peaked(0, if position == 3 { f32::NEG_INFINITY } else { 0.0 })
                })
            },
            |pipe| {
                serve(pipe, |_, position, _| {
                    peaked(0, if position == 3 { f32::INFINITY } else { 0.0 })
                })
            },
        ] {
            check(script, Cause::NotFinite, "(position 3 of a window)");
        }
    }
}
