//! The score of a snapshot, with the probes that are mixed into it.

use crate::{
    effort::Effort,
    evaluator::{Answered, Evaluator, Window, frame_windows, with_evaluator},
    probe::{Frame, Kind, Tally, plan},
    process::{Process, Stop, Trouble},
    stream::below,
    text::Text,
    trainer::Task,
};
use forerunner_core::{Cause, Finding};
use forerunner_nanogpt_protocol::Snapshot;
use rand_chacha::rand_core::Rng;

/// What is scored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exam<'a> {
    /// The slice.
    pub(crate) text: Text<'a>,
    /// First positions of the windows.
    pub(crate) starts: &'a [usize],
}

impl Exam<'_> {
    /// One of the windows.
    pub(crate) fn window(&self, index: usize, context: usize) -> Window {
        Window::read(self.text, self.starts[index], context)
    }
}

/// A scored snapshot.
#[derive(Debug)]
pub(crate) struct Scored {
    /// Mean negative log-likelihood in nats per token, every token once.
    pub(crate) loss: f64,
    /// The same for every position of every window: the commitment that is audited.
    pub(crate) losses: Vec<f64>,
    /// What the probes saw.
    pub(crate) tally: Tally,
    /// Whether the evaluator's parameters were still those it was given.
    pub(crate) kept_parameters: bool,
    /// What answering took.
    pub(crate) effort: Effort,
    /// Share of the frames that were probes.
    pub(crate) probe_share: f64,
}

impl Scored {
    /// The reasons to reject.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut findings = self.tally.findings();
        if !self.kept_parameters {
            let text =
                "parameters changed while the model was evaluated; evaluation is forward only";
            findings.push(Finding::error("verify/parameters", text));
        }
        findings
    }
}

/// Scores `snapshot` in a fresh process, every window once in an order that `random` decides, and
/// probes it on the way. The score does not depend on `random`.
pub(crate) fn score<P: Process>(
    process: P,
    task: Task<'_>,
    snapshot: &Snapshot,
    exam: Exam<'_>,
    random: &mut impl Rng,
) -> Result<Answered<Scored>, Trouble> {
    let context = task.track.context;
    let plan = plan(exam.starts.len(), context, frame_windows(task.track, task.vocab), random);
    with_evaluator(process, task, snapshot, |evaluator| {
        let mut tally = Tally::within(task.track.tolerance);
        let mut losses: Vec<Option<Vec<f64>>> = vec![None; exam.starts.len()];
        let mut frames: Vec<f64> = Vec::with_capacity(plan.len());
        // On a GPU the clock of an evaluation starts with it, too.
        let mut used = 0.0;
        for Frame { kind, rows } in &plan {
            let mut windows = Vec::with_capacity(rows.len());
            for row in rows {
                let mut window = exam.window(row.window, context);
                // Text from elsewhere in the slice: the probe looks like any other window.
                let start = below(random, exam.text.len() + 1 - (context - row.cut));
                window.replace(row.cut, exam.text, start);
                windows.push(window);
            }
            let answers = evaluator.losses(&windows)?;
            let now = evaluator.seconds();
            frames.push(now - std::mem::replace(&mut used, now));
            for (row, now) in rows.iter().zip(answers.chunks_exact(context)) {
                match &mut losses[row.window] {
                    Some(known) => {
                        tally.compare(*kind, evaluator.comparable(row.cut), known, now);
                    }
                    unknown => *unknown = Some(now.to_vec()),
                }
            }
        }
        let kept_parameters = evaluator.parameters()? == *snapshot;
        let losses: Vec<f64> = losses.into_iter().flatten().flatten().collect();
        let n_probes = plan.iter().filter(|frame| frame.kind != Kind::Scored).count();
        let probe_share = n_probes as f64 / plan.len() as f64;
        let effort = Effort::of(&frames, plan[0].rows.len() * context);
        let loss = finite_mean(&losses)?;
        Ok(Scored { loss, losses, tally, kept_parameters, effort, probe_share })
    })
}

/// Losses of all positions of all `windows`, in as many frames as it takes; no probes.
pub(crate) fn losses<P: Process>(
    evaluator: &mut Evaluator<'_, P>,
    windows: &[Window],
    width: usize,
) -> Result<Vec<f64>, Stop> {
    let mut losses = Vec::new();
    for some in windows.chunks(width) {
        losses.extend(evaluator.losses(some)?);
    }
    finite_mean(&losses)?;
    Ok(losses)
}

/// The mean of losses, which must be finite.
fn finite_mean(losses: &[f64]) -> Result<f64, Stop> {
    let loss = mean(losses);
    if loss.is_finite() {
        return Ok(loss);
    }
    let text = format!("the loss over {} positions is {loss}", losses.len());
    Err(Trouble::program(Cause::NotFinite, "score/not-finite", text).into())
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        handover::tests::report,
        probe::secret,
        score::spread,
        scripted::{Fixture, Script, Scripted, assert_blamed},
    };
    use forerunner_nanogpt_protocol::{Device, FromProgram, FromSupervisor, Rows, Spec, Windows};
    use forerunner_sandbox::Outcome;
    use std::os::unix::net::UnixStream;

    pub(crate) const VOCAB: usize = 256;

    /// Answers every frame by `logits(tokens of one window, position, frame number)`.
    pub(crate) fn serve(
        pipe: &mut UnixStream,
        logits: impl Fn(&[u16], usize, usize) -> Vec<f32>,
    ) -> Outcome {
        let mut number = 0;
        let mut snapshot = None;
        loop {
            let answer = match FromSupervisor::read(pipe) {
                Ok(FromSupervisor::Windows(Windows { length, tokens, .. })) => {
                    let windows = tokens.chunks(length as usize);
                    let answer = windows.flat_map(|window| {
                        (0..window.len()).flat_map(|position| logits(window, position, number))
                    });
                    let answer = FromProgram::Logits(answer.collect());
                    number += 1;
                    answer
                }
                Ok(FromSupervisor::Start(start)) => {
                    if start.device == Device::Cpu {
                        continue;
                    }
                    FromProgram::Ready(report())
                }
                Ok(FromSupervisor::Score(Windows { length, tokens, .. })) => {
                    let losses = tokens.chunks(length as usize).flat_map(|window| {
                        let (inputs, targets) = (&window[..window.len() - 1], &window[1..]);
                        let each = targets.iter().enumerate().map(|(position, target)| {
                            // In f32, as on a device.
                            let logits = logits(inputs, position, number);
                            let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
                            sum.ln() - logits[*target as usize]
                        });
                        each.collect::<Vec<f32>>()
                    });
                    let answer = FromProgram::Losses(losses.collect());
                    number += 1;
                    answer
                }
                Ok(FromSupervisor::Rows(Rows { windows, positions })) => {
                    let windows = windows.tokens.chunks(windows.length as usize);
                    let asked = windows.zip(positions);
                    let row = |(window, at): (&[u16], u32)| logits(window, at as usize, number);
                    let answer = FromProgram::Logits(asked.flat_map(row).collect());
                    number += 1;
                    answer
                }
                Ok(FromSupervisor::Parameters(given)) => {
                    snapshot = Some(given);
                    continue;
                }
                Ok(FromSupervisor::Peek) => FromProgram::Checkpoint(snapshot.clone().unwrap()),
                Ok(_) => continue,
                Err(_) => return Outcome::Signalled(9),
            };
            if answer.write(pipe).is_err() {
                return Outcome::Signalled(9);
            }
        }
    }

    pub(crate) fn peaked(at: u16, height: f32) -> Vec<f32> {
        let mut row = vec![0.0; VOCAB];
        row[at as usize] = height;
        row
    }

    pub(crate) fn snapshot() -> Snapshot {
        let spec = Spec { name: "w".into(), shape: vec![1] };
        Snapshot::round([(spec, [1.0].as_slice())]).unwrap()
    }

    fn exam(script: Script) -> Result<Scored, Trouble> {
        exam_on(&Fixture::new(), script)
    }

    fn exam_on(fixture: &Fixture, script: Script) -> Result<Scored, Trouble> {
        let starts = spread(fixture.shard.len(), 8, 40).unwrap();
        let exam = Exam { text: Text::new(&fixture.shard, None), starts: &starts };
        let process = Scripted::start(script);
        let answered = score(process, fixture.task(), &snapshot(), exam, &mut secret()?)?;
        Ok(answered.value)
    }

    fn rules(scored: &Scored) -> Vec<String> {
        scored.findings().into_iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn an_honest_model_gets_its_loss() {
        let uniform = exam(|pipe| serve(pipe, |_, _, _| vec![0.0; VOCAB])).unwrap();
        assert!((uniform.loss - (VOCAB as f64).ln()).abs() < 1e-12);
        assert_eq!(uniform.losses.len(), 320);
        assert_eq!(rules(&uniform), [""; 0]);
        let probes: Vec<_> = uniform.tally.evidence().map(|p| (p.name, p.failures)).collect();
        let named = |name: &str| probes.contains(&(name.to_owned(), 0));
        assert!(named("repeat") && named("causality") && named("rows"), "{probes:?}");
        // The text counts up by seven: knowing that is learning it.
        let knowing = exam(|pipe| {
            serve(pipe, |window, position, _| peaked((window[position] + 7) % 256, 20.0))
        });
        let knowing = knowing.unwrap();
        assert!(knowing.loss < 1e-5, "{}", knowing.loss);
        assert_eq!(rules(&knowing), [""; 0]);
    }

    #[test]
    fn on_a_gpu_the_harness_computes_the_losses() {
        let on_gpu = |script| exam_on(&Fixture::on_gpu(), script);
        let scored =
            on_gpu(|pipe| serve(pipe, |window, position, _| peaked(window[position], 3.0)));
        let scored = scored.unwrap();
        let same = exam(|pipe| serve(pipe, |window, at, _| peaked(window[at], 3.0))).unwrap();
        assert!((scored.loss - same.loss).abs() < 1e-5, "{} and {}", scored.loss, same.loss);
        assert_eq!(rules(&scored), [""; 0]);
        // Two tokens ahead: one ahead is what the blind audit finds.
        let scored = on_gpu(|pipe| {
            serve(pipe, |window, position, _| match window.get(position + 2) {
                Some(&next) => peaked(next.wrapping_sub(7) % 256, 20.0),
                None => vec![0.0; VOCAB],
            })
        });
        assert_eq!(rules(&scored.unwrap()), ["verify/causality"]);
        let scored = on_gpu(|pipe| serve(pipe, |_, _, number| peaked(0, number as f32)));
        assert_eq!(rules(&scored.unwrap()), ["verify/repeat"]);
        let check = |script: Script, cause: Cause, text: &str| {
            assert_blamed(on_gpu(script).unwrap_err(), cause, text);
        };
        check(
            |pipe| serve(pipe, |_, at, _| peaked(0, if at == 3 { f32::NAN } else { 0.0 })),
            Cause::NotFinite,
            "a loss is NaN",
        );
        check(
            |pipe| {
                crate::handover::tests::set_up(pipe);
                let _ = FromSupervisor::read(pipe);
                let _ = FromSupervisor::read(pipe);
                FromProgram::Losses(vec![0.0; 3]).write(pipe).unwrap();
                Outcome::Exited(0)
            },
            Cause::Protocol,
            "3 losses for ",
        );
        // A single position far below zero would buy what an audit of some positions hardly finds.
        check(
            |pipe| {
                crate::handover::tests::set_up(pipe);
                let _ = FromSupervisor::read(pipe);
                let Ok(FromSupervisor::Score(Windows { batch, length, .. })) =
                    FromSupervisor::read(pipe)
                else {
                    unreachable!()
                };
                let mut losses = vec![5.0; (batch * (length - 1)) as usize];
                losses[7] = -1e6;
                FromProgram::Losses(losses).write(pipe).unwrap();
                Outcome::Exited(0)
            },
            Cause::Rule,
            "a loss is -1000000, below zero",
        );
    }

    #[test]
    fn looking_ahead_is_found() {
        let scored = exam(|pipe| {
            serve(pipe, |window, position, _| match window.get(position + 1) {
                Some(&next) => peaked(next, 20.0),
                None => vec![0.0; VOCAB],
            })
        });
        assert_eq!(rules(&scored.unwrap()), ["verify/causality"]);
    }

    #[test]
    fn looking_ahead_at_one_position_only_is_found() {
        // Every cut is tried, so the last position that can look ahead does not escape.
        let scored = exam(|pipe| {
            serve(pipe, |window, position, _| match position {
                6 => peaked(window[7], 20.0),
                _ => vec![0.0; VOCAB],
            })
        });
        assert_eq!(rules(&scored.unwrap()), ["verify/causality"]);
    }

    #[test]
    fn state_between_calls_is_found() {
        let scored = exam(|pipe| serve(pipe, |_, _, number| peaked(0, number as f32))).unwrap();
        assert_eq!(rules(&scored), ["verify/repeat"]);
    }

    #[test]
    fn parameters_that_change_are_found() {
        let scored = exam(|pipe| {
            let Ok(FromSupervisor::Start(_)) = FromSupervisor::read(pipe) else { unreachable!() };
            loop {
                let answer = match FromSupervisor::read(pipe) {
                    Ok(FromSupervisor::Windows(Windows { batch, length, .. })) => {
                        FromProgram::Logits(vec![0.0; (batch * length) as usize * VOCAB])
                    }
                    Ok(FromSupervisor::Peek) => {
                        let spec = Spec { name: "w".into(), shape: vec![1] };
                        let other = Snapshot::round([(spec, [2.0].as_slice())]).unwrap();
                        FromProgram::Checkpoint(other)
                    }
                    Ok(_) => continue,
                    Err(_) => return Outcome::Signalled(9),
                };
                answer.write(pipe).unwrap();
            }
        });
        assert_eq!(rules(&scored.unwrap()), ["verify/parameters"]);
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
            check(script, Cause::NotFinite, "all logits must be finite");
        }
    }
}
