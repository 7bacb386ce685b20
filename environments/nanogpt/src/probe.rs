//! Probes: frames mixed into the scored ones that show whether logits depend on nothing but the
//! tokens before them. On one CPU core honest models answer bit for bit alike when shapes are
//! kept, so the tolerance is zero.

use crate::{Shard, stream::below};
use forerunner_core::{Error, Finding};
use getrandom::SysRng;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// Scored frames that are sent a second time, unchanged.
const REPEATS: usize = 2;
/// Scored frames that are sent a second time with other tokens at the end of each window.
const SUFFIXES: usize = 4;

/// One frame of the evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Windows that are scored, by frame number.
    Scored(usize),
    /// The same windows again.
    Repeat(usize),
    /// The same windows, each with other tokens from a position on.
    Suffix(usize, Vec<usize>),
}

impl Frame {
    /// Number of the scored frame that this one is about.
    pub(crate) fn scored(&self) -> usize {
        let (Self::Scored(index) | Self::Repeat(index) | Self::Suffix(index, _)) = self;
        *index
    }
}

/// Randomness that no program can foresee: from the operating system, not from the run's seed,
/// which the trainer knows. Only probes use it; a score never depends on it.
pub(crate) fn secret() -> Result<ChaCha8Rng, Error> {
    ChaCha8Rng::try_from_rng(&mut SysRng).map_err(|error| {
        Error::Failed(format!("the operating system gives no random numbers: {error}"))
    })
}

/// All scored frames in order, with probes at secret places behind the frames they repeat.
/// `sizes` are the numbers of windows in each frame.
pub(crate) fn plan(sizes: &[usize], context: usize, random: &mut impl Rng) -> Vec<Frame> {
    let mut plan: Vec<Frame> = (0..sizes.len()).map(Frame::Scored).collect();
    for number in 0..REPEATS + SUFFIXES {
        let index = below(random, sizes.len());
        let frame = if number < REPEATS {
            Frame::Repeat(index)
        } else if context < 2 {
            continue;
        } else {
            let cuts = (0..sizes[index]).map(|_| 1 + below(random, context - 1)).collect();
            Frame::Suffix(index, cuts)
        };
        let original = plan.iter().position(|f| *f == Frame::Scored(index)).unwrap_or(0);
        let place = original + 1 + below(random, plan.len() - original);
        plan.insert(place, frame);
    }
    plan
}

/// Replaces the tokens of each window from its cut on by text from elsewhere in the slice, so that
/// the probe looks like any other window.
pub(crate) fn perturb(
    tokens: &mut [u16],
    context: usize,
    cuts: &[usize],
    shard: &Shard,
    random: &mut impl Rng,
) {
    for (window, &cut) in tokens.chunks_mut(context).zip(cuts) {
        let length = context - cut;
        let start = below(random, shard.len() + 1 - length);
        let other = shard.tokens(start..start + length);
        window[cut..].iter_mut().zip(other).for_each(|(token, new)| *token = new);
    }
}

/// Compares the answers to a probe with those to the original, position by position.
///
/// `probe` and `original` hold one hash for each position of each window.
pub(crate) fn compare(
    frame: &Frame,
    original: &[u64],
    probe: &[u64],
    context: usize,
) -> Option<Finding> {
    let windows = original.chunks(context).zip(probe.chunks(context));
    for (window, (was, is)) in windows.enumerate() {
        let until = match frame {
            Frame::Suffix(_, cuts) => cuts[window],
            _ => context,
        };
        let Some(position) = (0..until).find(|&position| was[position] != is[position]) else {
            continue;
        };
        return Some(match frame {
            Frame::Suffix(..) => Finding::error(
                "verify/causality",
                format!(
                    "the logits at position {position} of a window changed when only tokens from \
                     position {until} on were changed; a position may use itself and earlier ones \
                     of its own window"
                ),
            ),
            _ => Finding::error(
                "verify/repeat",
                format!(
                    "the same windows gave other logits the second time (position {position}); \
                     `logits` must depend on its tokens and the parameters alone"
                ),
            ),
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ShardWriter;

    #[test]
    fn every_frame_is_scored_once_in_order_and_probes_follow_theirs() {
        for seed in 0..50 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let plan = plan(&[4, 4, 4, 2], 8, &mut random);
            assert_eq!(plan.len(), 4 + REPEATS + SUFFIXES);
            let scored: Vec<_> =
                plan.iter().filter(|f| matches!(f, Frame::Scored(_))).map(Frame::scored).collect();
            assert_eq!(scored, [0, 1, 2, 3]);
            for (place, frame) in plan.iter().enumerate() {
                let original = plan.iter().position(|f| *f == Frame::Scored(frame.scored()));
                assert!(original.unwrap() <= place);
                if let Frame::Suffix(index, cuts) = frame {
                    assert_eq!(cuts.len(), [4, 4, 4, 2][*index]);
                    assert!(cuts.iter().all(|cut| (1..8).contains(cut)));
                }
            }
        }
        assert!(secret().unwrap().next_u64() != secret().unwrap().next_u64());
    }

    #[test]
    fn only_tokens_from_the_cut_on_are_changed() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = ShardWriter::create(&dir.path().join("x")).unwrap();
        writer.push(100..200).unwrap();
        let shard = writer.finish().unwrap();
        let mut tokens = vec![7; 12];
        let mut random = ChaCha8Rng::seed_from_u64(1);
        perturb(&mut tokens, 4, &[1, 2, 3], &shard, &mut random);
        let changed: Vec<bool> = tokens.iter().map(|&token| token != 7).collect();
        assert_eq!(
            changed,
            [[false, true, true, true], [false, false, true, true], [false, false, false, true]]
                .concat()
        );
    }

    #[test]
    fn a_difference_before_the_cut_is_a_leak_and_one_behind_it_is_not() {
        let check = |frame: &Frame, probe: [u64; 8], rule: Option<&str>| {
            let finding = compare(frame, &[1; 8], &probe, 4);
            assert_eq!(finding.map(|finding| finding.rule).as_deref(), rule);
        };
        let suffix = Frame::Suffix(0, vec![2, 3]);
        check(&suffix, [1, 1, 9, 9, 1, 1, 1, 9], None);
        check(&suffix, [1, 1, 9, 9, 1, 1, 9, 9], Some("verify/causality"));
        check(&suffix, [9, 1, 1, 1, 1, 1, 1, 1], Some("verify/causality"));
        check(&Frame::Repeat(0), [1; 8], None);
        check(&Frame::Repeat(0), [1, 1, 1, 1, 1, 1, 1, 9], Some("verify/repeat"));
    }
}
