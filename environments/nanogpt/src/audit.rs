//! The blind audit: does the score come from what a program can know?
//!
//! The scored process has seen whole windows, the token after each position included, and nothing
//! that runs in it is believed: memory can be corrupted even from safe Rust. So once its losses are
//! committed, a fresh process is shown, for secretly chosen positions, the true text up to the
//! position and other text behind it, in the same shape, and must give the same loss to the last
//! bit. The token that follows never enters that process before it has answered: positions of a
//! window are asked for from left to right, never two of a window in one frame. What this process
//! answers is a prediction from the past by construction, whatever its code does; where nothing
//! differs, so is the score, up to the probability that [`Audit`] states.
//!
//! On a GPU answers agree when they lie within the track's tolerance. A forger can use it up at every
//! position without being found, which gains at most the tolerance per token, whatever the program
//! does: everything that the audit states is stated for gains beyond it.

use crate::{
    evaluator::{Answered, Evaluator, Window, frame_windows, with_evaluator},
    probe::{Differences, Kind, Tally, frames, shuffled},
    process::{Process, Stop, Trouble},
    scoring::Exam,
    stream::below,
    text::Text,
    trainer::Task,
};
use forerunner_core::{Finding, Probe};
use forerunner_nanogpt_protocol::Snapshot;
use forerunner_stats::Audit;
use rand_chacha::rand_core::Rng;

/// Name of the probe.
const NAME: &str = "blind-audit";
/// Residual probability for which the smallest gain that is found is stated.
const SURE: f64 = 1e-6;

/// What the audit compares with, and how much of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Commitment<'a> {
    /// The windows that were scored.
    pub(crate) exam: Exam<'a>,
    /// Their losses, position by position.
    pub(crate) losses: &'a [f64],
    /// Text that the program may know, to put behind positions.
    pub(crate) filler: Text<'a>,
    /// Which positions to ask for.
    pub(crate) audit: &'a Audit,
    /// Windows that are asked for once more as a whole, after the audit.
    pub(crate) n_again: usize,
}

/// What came of an audit.
#[derive(Debug)]
pub(crate) struct Audited {
    /// Audited positions.
    n_positions: usize,
    /// Those that came out otherwise.
    n_differing: usize,
    /// How far they lay apart.
    differences: Differences,
    /// How far they may, in nats.
    tolerance: f64,
    /// Windows that the fresh process scored again as a whole.
    tally: Tally,
}

impl Audited {
    /// The reasons to reject.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut findings = self.tally.findings();
        if self.n_differing > 0 {
            let text = "in a process that had not seen the following tokens, the model gave other \
                        losses than those it was scored by; `logits` at a position must depend on the \
                        parameters and on the tokens up to it alone";
            findings.push(Finding::error(format!("verify/{NAME}"), text));
        }
        findings
    }

    /// The same as evidence, with what may have slipped through. `deviation` is that of the
    /// track's loss from seed to seed.
    pub(crate) fn evidence(&self, audit: &Audit, deviation: f64) -> Vec<Probe> {
        // Forging every position by less than the tolerance adds as much to any other forgery.
        let sure = audit.smallest_gain(SURE) + self.tolerance;
        let mut blind = Probe::new(NAME, self.n_positions as u64, self.n_differing as u64)
            .with("largest_gain_per_token", audit.largest_gain())
            .with("one_deviation", deviation)
            .with("residual_for_one_deviation", audit.residual(deviation))
            .with("gain_found_all_but_once_in_a_million", sure);
        if self.tolerance > 0.0 {
            // The residual is that of a gain of one deviation and the tolerance together.
            blind = blind.with("most_gain_per_token_within_tolerance", self.tolerance);
        }
        let blind = self.differences.add_to(blind, self.tolerance);
        self.tally.evidence().chain([blind]).collect()
    }
}

/// Audits committed losses in `process`, which must be a fresh one.
pub(crate) fn blind<P: Process>(
    process: P,
    task: Task<'_>,
    snapshot: &Snapshot,
    commitment: Commitment<'_>,
    random: &mut impl Rng,
) -> Result<Answered<Audited>, Trouble> {
    let context = task.track.context;
    let width = frame_windows(task.track, task.vocab).min(commitment.exam.starts.len());
    let chosen = choose(commitment, context, random);
    with_evaluator(process, task, snapshot, |evaluator| {
        let (mut n_differing, mut differences) = (0, Differences::default());
        let tolerance = task.track.tolerance;
        for frame in rounds(&chosen, width) {
            for (known, now) in ask(evaluator, commitment, &frame, (context, width), random)? {
                n_differing += usize::from(!differences.agree(known, now, tolerance));
            }
        }
        let tally = Tally::within(tolerance);
        let tally = again(evaluator, commitment, (context, width), random, tally)?;
        let n_positions = chosen.iter().map(Vec::len).sum();
        Ok(Audited { n_positions, n_differing, differences, tolerance, tally })
    })
}

/// The positions to ask for in each window, from left to right.
fn choose(commitment: Commitment<'_>, context: usize, random: &mut impl Rng) -> Vec<Vec<usize>> {
    let uniform = |random: &mut dyn FnMut() -> u64| (random() >> 11) as f64 / (1_u64 << 53) as f64;
    let mut is_chosen =
        |index| uniform(&mut || random.next_u64()) < commitment.audit.probability(index);
    (0..commitment.exam.starts.len())
        .map(|window| (0..context).filter(|at| is_chosen(window * context + at)).collect())
        .collect()
}

/// Frames of (window, position), at most `width` in one and each window at most once: first the
/// leftmost position of every window, then the next one.
fn rounds(chosen: &[Vec<usize>], width: usize) -> Vec<Vec<(usize, usize)>> {
    let most = chosen.iter().map(Vec::len).max().unwrap_or(0);
    let mut frames: Vec<Vec<(usize, usize)>> = Vec::new();
    for round in 0..most {
        for (window, positions) in chosen.iter().enumerate() {
            let Some(&position) = positions.get(round) else { continue };
            match frames.last_mut() {
                Some(frame) if frame.len() < width && frame.iter().all(|(w, _)| *w != window) => {
                    frame.push((window, position));
                }
                _ => frames.push(vec![(window, position)]),
            }
        }
    }
    frames
}

/// Asks for one frame: the losses that were committed and those that come out now.
fn ask<P: Process>(
    evaluator: &mut Evaluator<'_, P>,
    commitment: Commitment<'_>,
    frame: &[(usize, usize)],
    (context, width): (usize, usize),
    random: &mut impl Rng,
) -> Result<Vec<(f64, f64)>, Stop> {
    let Commitment { exam, losses, filler, .. } = commitment;
    let mut elsewhere = |length: usize| below(random, filler.len() - length);
    let mut windows: Vec<Window> = Vec::with_capacity(width);
    for &(window, position) in frame {
        let mut shown = exam.window(window, context);
        let behind = context - (position + 1);
        shown.replace(position + 1, filler, elsewhere(behind));
        windows.push(shown);
    }
    while windows.len() < width {
        windows.push(Window::read(filler, elsewhere(context), context));
    }
    // What fills the frame up is asked for like the rest.
    let mut positions: Vec<usize> = frame.iter().map(|&(_, position)| position).collect();
    while positions.len() < width {
        positions.push(below(random, context));
    }
    let answers = evaluator.losses_at(&windows, &positions)?;
    let known = frame.iter().map(|&(window, position)| losses[window * context + position]);
    Ok(known.zip(answers).collect())
}

/// Asks for some windows as a whole, in a new order.
fn again<P: Process>(
    evaluator: &mut Evaluator<'_, P>,
    commitment: Commitment<'_>,
    (context, width): (usize, usize),
    random: &mut impl Rng,
    mut tally: Tally,
) -> Result<Tally, Stop> {
    let Commitment { exam, losses, n_again, .. } = commitment;
    let mut order = shuffled(exam.starts.len(), random);
    order.truncate(n_again.max(width));
    for frame in frames(Kind::Fresh, &order, context, width, random) {
        let windows: Vec<Window> =
            frame.rows.iter().map(|row| exam.window(row.window, context)).collect();
        let answers = evaluator.losses(&windows)?;
        for (row, now) in frame.rows.iter().zip(answers.chunks_exact(context)) {
            let known = &losses[row.window * context..][..context];
            tally.compare(frame.kind, row.cut, known, now);
        }
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        probe::secret,
        score::spread,
        scoring::{
            score,
            tests::{VOCAB, peaked, serve, snapshot},
        },
        scripted::{Fixture, Script, Scripted},
    };

    /// Scores with one script and audits with another, as if a program behaved so.
    fn audited(scored: Script, blinded: Script, n: f64) -> (Audited, Audit) {
        audited_on(&Fixture::new(), scored, blinded, n)
    }

    fn audited_on(fixture: &Fixture, scored: Script, blinded: Script, n: f64) -> (Audited, Audit) {
        let starts = spread(fixture.shard.len(), 8, 40).unwrap();
        let text = Text::new(&fixture.shard, None);
        let exam = Exam { text, starts: &starts };
        let (task, random) = (fixture.task(), &mut secret().unwrap());
        let process = Scripted::start(scored);
        let scored = score(process, task, &snapshot(), exam, random).unwrap().value;
        let audit = Audit::expecting(&scored.losses, VOCAB, 0.05, n);
        let losses = &scored.losses;
        let commitment = Commitment { exam, losses, filler: text, audit: &audit, n_again: 16 };
        let process = Scripted::start(blinded);
        let audited = blind(process, task, &snapshot(), commitment, random).unwrap().value;
        (audited, audit)
    }

    fn rules(audited: &Audited) -> Vec<String> {
        audited.findings().into_iter().map(|finding| finding.rule).collect()
    }

    const HONEST: Script =
        |pipe| serve(pipe, |window, position, _| peaked(window[position], 2.0 + position as f32));
    /// Knows the next token wherever the window shows it.
    const FORGER: Script = |pipe| {
        serve(pipe, |window, position, _| match window.get(position + 1) {
            Some(&next) => peaked(next, 20.0),
            None => vec![0.0; VOCAB],
        })
    };

    #[test]
    fn an_honest_program_is_believed_and_told_what_may_slip_through() {
        let (audited, audit) = audited(HONEST, HONEST, 100.0);
        assert_eq!(rules(&audited), [""; 0]);
        assert!((60..140).contains(&audited.n_positions), "{}", audited.n_positions);
        let evidence = audited.evidence(&audit, 0.05);
        assert_eq!((evidence[0].name.as_str(), evidence[0].failures), ("fresh-process", 0));
        let numbers = &evidence[1].numbers;
        assert!(numbers["residual_for_one_deviation"] < 1.0);
        assert!(numbers["largest_gain_per_token"] > 5.0);
    }

    #[test]
    fn what_the_future_was_needed_for_cannot_be_repeated() {
        let (audited, _) = audited(FORGER, FORGER, 30.0);
        assert!(rules(&audited).contains(&"verify/blind-audit".to_owned()));
        assert!(audited.n_differing > audited.n_positions / 2);
    }

    #[test]
    fn on_a_gpu_rounding_is_forgiven_and_forgery_is_not() {
        let fixture = Fixture::on_gpu();
        // Losses that were summed in f32 there, and in f64 here.
        let (honest, audit) = audited_on(&fixture, HONEST, HONEST, 100.0);
        assert_eq!(rules(&honest), [""; 0]);
        let evidence = honest.evidence(&audit, 0.05);
        let numbers = &evidence[1].numbers;
        let tolerance = fixture.track.tolerance;
        assert!(numbers["largest_difference"] > 0.0 && numbers["largest_difference"] < 1e-4);
        assert_eq!(numbers["most_gain_per_token_within_tolerance"], tolerance);
        let sure = audit.smallest_gain(SURE) + tolerance;
        assert_eq!(numbers["gain_found_all_but_once_in_a_million"], sure);
        // What no probe sees where losses are handed over, one token ahead.
        let (forged, _) = audited_on(&fixture, FORGER, FORGER, 30.0);
        assert!(rules(&forged).contains(&"verify/blind-audit".to_owned()));
        assert!(forged.n_differing > forged.n_positions / 2);
        // Losses below the tolerance pass, and above it they do not.
        let slightly: Script =
            |pipe| serve(pipe, |window, at, _| peaked(window[at], 2.0 + 1e-4 + at as f32));
        let (passed, _) = audited_on(&fixture, slightly, HONEST, 1e6);
        assert_eq!(rules(&passed), [""; 0]);
        let more: Script =
            |pipe| serve(pipe, |window, at, _| peaked(window[at], 2.0 + 0.1 + at as f32));
        let (found, _) = audited_on(&fixture, more, HONEST, 1e6);
        assert!(rules(&found).contains(&"verify/blind-audit".to_owned()));
    }

    #[test]
    fn forgeries_at_a_few_positions_are_found_when_all_are_asked_for() {
        let rare: Script = |pipe| {
            serve(pipe, |window, position, _| match window.get(position + 1) {
                Some(&next) if window[0] % 64 == 7 => peaked(next, 20.0),
                _ => vec![0.0; VOCAB],
            })
        };
        let (audited, _) = audited(rare, rare, 1e6);
        assert_eq!(audited.n_positions, 320, "all of them");
        assert!(rules(&audited).contains(&"verify/blind-audit".to_owned()));
    }

    #[test]
    fn a_second_process_that_disagrees_is_found() {
        let other: Script = |pipe| serve(pipe, |window, position, _| peaked(window[position], 3.0));
        let (audited, _) = audited(HONEST, other, 10.0);
        assert!(rules(&audited).contains(&"verify/fresh-process".to_owned()));
    }

    #[test]
    fn no_window_is_shown_further_before_its_position_is_answered() {
        let chosen = vec![vec![1, 3, 7], vec![], vec![0], vec![2, 3]];
        let mut shown = [0; 4];
        for frame in rounds(&chosen, 2) {
            assert!(frame.len() <= 2);
            let mut windows: Vec<usize> = frame.iter().map(|(window, _)| *window).collect();
            windows.dedup();
            assert_eq!(windows.len(), frame.len());
            for (window, position) in frame {
                assert!(position >= shown[window], "{position} of {window}");
                shown[window] = position + 1;
            }
        }
        assert_eq!(shown, [8, 0, 1, 4]);
    }
}
