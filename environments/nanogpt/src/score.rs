//! The score: injected windows, log-softmax in f64, every token once. Fixed, do not modify:
//! programs hand over logits and never see this side.

/// Start positions of `count` windows of `context` inputs, spread evenly over `len` tokens so that
/// no token is in two windows, be it to be seen or to be predicted: showing one window gives nothing
/// away about another. `None` when they do not fit.
pub(crate) fn spread(len: usize, context: usize, count: usize) -> Option<Vec<usize>> {
    let stride = len.checked_sub(1)? / count;
    (stride > context && context > 0).then(|| (0..count).map(|index| index * stride).collect())
}

/// Tokens that [`spread`] needs.
pub(crate) fn tokens_needed(context: usize, count: usize) -> usize {
    (context + 1) * count + 1
}

/// Negative log-likelihood of `target` in nats, from one position's logits.
///
/// A logit that is NaN or +inf makes the result not finite; -inf need not. Callers check both.
pub(crate) fn nll(logits: &[f32], target: u16) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - f64::from(max)).exp()).sum();
    // A NaN logit is skipped by `max` but not by the sum; an infinite one makes it NaN.
    sum.ln() + f64::from(max) - f64::from(logits[target as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_the_slice_without_overlap() {
        let check = |len, context, count, expected: Option<&[usize]>| {
            assert_eq!(spread(len, context, count).as_deref(), expected);
        };
        check(101, 10, 4, Some(&[0, 25, 50, 75]));
        check(45, 10, 4, Some(&[0, 11, 22, 33]));
        check(44, 10, 4, None);
        check(0, 10, 4, None);
        assert!(spread(tokens_needed(64, 1024), 64, 1024).is_some());
        assert!(spread(tokens_needed(64, 1024) - 1, 64, 1024).is_none());
        for len in 66_561..66_700 {
            let starts = spread(len, 64, 1024).unwrap();
            assert!(starts.last().unwrap() + 65 <= len);
        }
    }

    #[test]
    fn the_loss_is_log_softmax() {
        let check = |logits: &[f32], target, expected: f64| {
            let loss = nll(logits, target);
            assert!((loss - expected).abs() < 1e-12, "{loss}");
        };
        check(&[0.0; 256], 7, 256f64.ln());
        check(&[1e4, 1e4, -1e4], 0, 2f64.ln());
        check(&[f32::MAX, 0.0], 0, 0.0);
        check(&[1.0, 2.0, 3.0], 2, 0.407_605_964_444_380_2);
    }

    #[test]
    fn no_logit_that_is_not_finite_gives_a_finite_loss() {
        for bad in [f32::NAN, f32::INFINITY] {
            for position in 0..3 {
                let mut logits = [0.5_f32; 3];
                logits[position] = bad;
                assert!(!nll(&logits, 1).is_finite(), "{bad} at {position}");
            }
        }
        // The exception, which callers therefore look for in the logits themselves.
        assert!(nll(&[f32::NEG_INFINITY, 0.5], 1).is_finite());
        assert!(!nll(&[f32::NEG_INFINITY; 2], 1).is_finite());
    }
}
