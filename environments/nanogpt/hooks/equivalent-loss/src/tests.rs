//! Tests of the logic, natively.

use super::*;

const ROWS: usize = 6;
const VOCAB: usize = 50;

/// Logits without a pattern, between -4 and 4.
fn logits(count: usize) -> Vec<f32> {
    let mut state = 9_u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 * 8.0 - 4.0
    };
    (0..count).map(|_| next()).collect()
}

/// What a loss computed in f32 by finite differences of nothing, that is: by the textbook, answers.
fn honest() -> Claim {
    let logits = logits(ROWS * VOCAB);
    let targets: Vec<u32> = (0..ROWS as u32).map(|row| row * 7 % VOCAB as u32).collect();
    let (mut value, mut gradient) = (0.0_f32, Vec::new());
    for (row, target) in logits.chunks(VOCAB).zip(&targets) {
        let sum: f32 = row.iter().map(|logit| logit.exp()).sum();
        value += (sum.ln() - row[*target as usize]) / ROWS as f32;
        for (token, logit) in row.iter().enumerate() {
            let onehot = if token == *target as usize { 1.0 } else { 0.0 };
            gradient.push((logit.exp() / sum - onehot) / ROWS as f32);
        }
    }
    Claim { vocab: VOCAB, logits, targets, value, gradient }
}

fn bytes(claim: &Claim) -> Vec<u8> {
    let floats =
        |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
    let words =
        |values: &[u32]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
    let head = [claim.targets.len() as u32, claim.vocab as u32];
    [
        MAGIC.to_vec(),
        words(&head),
        floats(&claim.logits),
        words(&claim.targets),
        floats(&[claim.value]),
        floats(&claim.gradient),
    ]
    .concat()
}

/// How many objections there are after a change of an honest answer.
#[track_caller]
fn check(change: impl FnOnce(&mut Claim), expected: usize) {
    let mut claim = honest();
    change(&mut claim);
    let objections = claim.objections();
    assert_eq!(objections.len(), expected, "{objections:?}");
}

#[test]
fn honest_arithmetic_in_f32_passes() {
    check(|_| (), 0);
    // As much as rounding does, once in each direction.
    check(|c| c.gradient.iter_mut().for_each(|g| *g *= 1.00005), 0);
    check(|c| c.value *= 0.99995, 0);
}

#[test]
fn the_reference_gradient_is_the_derivative_of_the_reference_value() {
    let claim = honest();
    let (_, gradient) = claim.cross_entropy();
    for at in [0, 7, 49, 50, 299] {
        // Central differences; the step is exact in f32 at this size.
        let moved = |by: f32| {
            let mut claim = claim.clone();
            let before = f64::from(claim.logits[at]);
            claim.logits[at] += by;
            (f64::from(claim.logits[at]) - before, claim.cross_entropy().0)
        };
        let ((up, above), (down, below)) = (moved(1e-2), moved(-1e-2));
        let slope = (above - below) / (up - down);
        assert!((slope - gradient[at]).abs() < 1e-5, "{at}: {slope} {}", gradient[at]);
    }
}

/// In f32 a token that is nearly certain has a loss of exactly 0 and no gradient.
#[test]
fn certainty_leaves_nothing_but_rounding() {
    let certain = |value: f32, gradient: [f32; 2]| Claim {
        vocab: 2,
        logits: vec![20.0, 0.0],
        targets: vec![0],
        value,
        gradient: gradient.into(),
    };
    assert!(certain(0.0, [0.0; 2]).objections().is_empty());
    assert_eq!(certain(0.001, [0.0; 2]).objections().len(), 1);
    assert_eq!(certain(0.0, [-1e-5, 1e-5]).objections().len(), 1);
}

#[test]
fn other_losses_are_told_apart() {
    // Scaled, shifted, smoothed, clipped, with a row left out, of another sign, no number.
    check(|c| c.value *= 0.9, 1);
    check(|c| c.value = f32::NAN, 1);
    check(|c| c.gradient.iter_mut().for_each(|g| *g *= 1.01), 1);
    check(|c| c.gradient[..VOCAB].fill(0.0), 1);
    check(|c| c.gradient[3] = f32::NAN, 1);
    check(|c| c.gradient.iter_mut().for_each(|g| *g = g.clamp(-0.1, 0.1)), 1);
    check(
        |c| {
            c.value = -c.value;
            c.gradient.iter_mut().for_each(|g| *g = -*g);
        },
        2,
    );
}

#[test]
fn a_label_smoothed_loss_is_not_cross_entropy() {
    check(
        |c| {
            let even = 0.1 / VOCAB as f32;
            for (row, target) in c.gradient.chunks_mut(VOCAB).zip(&c.targets) {
                row.iter_mut().for_each(|g| *g -= even / ROWS as f32);
                row[*target as usize] += 0.1 / ROWS as f32;
            }
        },
        1,
    );
}

#[test]
fn artifacts_are_read_to_the_last_byte() {
    let good = bytes(&honest());
    assert_eq!(Claim::read(&good), Ok(honest()));
    let refused = |bytes: &[u8], part: &str| {
        let error = Claim::read(bytes).expect_err(part);
        assert!(error.contains(part), "{error}");
    };
    refused(b"", "FLOS");
    refused(b"FLOS", "head");
    refused(b"FLOS123", "multiple of four");
    refused(&good[..good.len() - 4], "instead of");
    refused(&[&good[..], &[0; 4]].concat(), "instead of");
    let with = |at: usize, word: u32| [&good[..at], &word.to_le_bytes(), &good[at + 4..]].concat();
    refused(&with(4, 0), "not between");
    refused(&with(4, u32::MAX), "not between");
    refused(&with(12, f32::NAN.to_bits()), "not finite");
    refused(&with(12 + 4 * ROWS * VOCAB, VOCAB as u32), "outside the vocabulary");
}
