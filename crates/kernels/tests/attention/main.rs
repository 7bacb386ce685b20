//! Attention against its definition in double precision.
#![cfg(any(feature = "emulator", feature = "cuda"))]

mod case;
#[path = "../support/mod.rs"]
mod support;

use case::{Case, Measure, bits, sizes};
use forerunner_kernels::{Machine, Type, attention_forward};
use support::machines;

#[test]
fn heads_of_64_channels_follow_the_definition() {
    Case::random(sizes((3, 1, 1, 64), usize::MAX)).check(Measure::Terms);
    for shape in [(2, 17, 2, 64), (1, 64, 1, 64), (1, 65, 3, 64), (1, 257, 1, 64)] {
        Case::random(sizes(shape, usize::MAX)).check(Measure::Gradients);
    }
}

#[test]
fn heads_of_128_channels_follow_the_definition() {
    Case::random(sizes((2, 1, 1, 128), usize::MAX)).check(Measure::Terms);
    for shape in [(1, 17, 2, 128), (1, 65, 1, 128), (1, 200, 1, 128)] {
        Case::random(sizes(shape, usize::MAX)).check(Measure::Gradients);
    }
}

#[test]
fn other_heads_follow_the_definition() {
    let shapes = [(2, 17, 3, 8), (1, 65, 2, 5), (1, 40, 1, 33), (1, 200, 2, 16), (1, 20, 2, 256)];
    for shape in shapes {
        Case::random(sizes(shape, usize::MAX)).check(Measure::Gradients);
        Case::random(sizes(shape, 7)).check(Measure::Gradients);
    }
}

#[test]
fn long_sequences_follow_the_definition() {
    for width in [64, 128, 24] {
        Case::random(sizes((1, 1000, 2, width), usize::MAX)).check_on_devices();
        Case::random(sizes((1, 1024, 1, width), 300)).check_on_devices();
    }
}

#[test]
fn windows_follow_the_definition() {
    for shape in [(1, 257, 1, 64), (1, 200, 1, 128), (2, 65, 2, 12)] {
        // Where every position sees itself alone, queries and keys have no influence.
        Case::random(sizes(shape, 1)).check(Measure::Terms);
        // With 66, the last query that sees a tile of keys is the first of a tile of queries.
        for window in [7, 64, 66, 100] {
            Case::random(sizes(shape, window)).check(Measure::Gradients);
        }
    }
    Case::random(sizes((1, 130, 1, 32), 64)).check(Measure::Gradients);
}

/// Scores from -30 to 30 in an order: rising, each tile has a new largest one and all before vanishes
/// beside it; falling, the first ones outweigh all; and some of both.
#[test]
fn large_scores_are_no_trouble() {
    for shape in [(1, 200, 1, 64), (1, 200, 1, 128), (1, 100, 1, 16)] {
        let length = shape.1;
        let rising = |key: usize| 60.0 * key as f32 / length as f32 - 30.0;
        let falling = |key: usize| 30.0 - 60.0 * key as f32 / length as f32;
        let jumping = |key: usize| if key * 7 % 13 < 3 { 28.0 } else { -30.0 };
        Case::with_scores(sizes(shape, usize::MAX), rising).check(Measure::Terms);
        Case::with_scores(sizes(shape, usize::MAX), falling).check(Measure::Terms);
        Case::with_scores(sizes(shape, 70), jumping).check(Measure::Terms);
    }
}

#[test]
fn results_know_nothing_of_the_future_or_of_what_lies_before_the_window() {
    let window = 70;
    for shape in [(1, 150, 1, 64), (1, 150, 1, 128), (1, 150, 1, 12)] {
        let (_, length, heads, width) = shape;
        let case = Case::random(sizes(shape, window));
        let channels = heads * width;
        for (from, to) in [(100, length), (0, 40)] {
            // Positions `from..to` change; so may what sees them.
            let mut other = Case::random(sizes(shape, window));
            for value in &mut other.qkv[from * 3 * channels..to * 3 * channels] {
                *value = 1.5 - *value;
            }
            for machine in machines() {
                let (a, b) = (case.run(&machine), other.run(&machine));
                for row in (0..length).filter(|row| !(from..to - 1 + window).contains(row)) {
                    let y = row * channels..(row + 1) * channels;
                    assert_eq!(bits(&a.y[y.clone()]), bits(&b.y[y]), "row {row} of {shape:?}");
                    assert_eq!(a.log_sums[row].to_bits(), b.log_sums[row].to_bits());
                    let dq = row * 3 * channels..(row * 3 + 1) * channels;
                    assert_eq!(bits(&a.dqkv[dq.clone()]), bits(&b.dqkv[dq]), "dq of row {row}");
                }
                let changed = from * channels..to * channels;
                assert_ne!(bits(&a.y[changed.clone()]), bits(&b.y[changed]));
            }
        }
    }
}

#[test]
fn gradients_of_keys_come_from_those_who_see_them() {
    let window = 70;
    for shape in [(1, 150, 1, 64), (1, 150, 1, 128), (1, 150, 1, 12)] {
        let (_, length, heads, width) = shape;
        let channels = heads * width;
        let case = Case::random(sizes(shape, window));
        let mut other = Case::random(sizes(shape, window));
        let changed = 75..80;
        for value in &mut other.dy[changed.start * channels..changed.end * channels] {
            *value = 0.5 - *value;
        }
        for machine in machines() {
            let (a, b) = (case.run(&machine), other.run(&machine));
            for row in 0..length {
                let at =
                    |third: usize| (row * 3 + third) * channels..(row * 3 + third + 1) * channels;
                let same = |third: usize| bits(&a.dqkv[at(third)]) == bits(&b.dqkv[at(third)]);
                assert_eq!(same(0), !changed.contains(&row), "dq of row {row} of {shape:?}");
                let is_seen = row < changed.end && changed.start < row + window;
                assert_eq!(same(2), !is_seen, "dv of row {row} of {shape:?}");
                assert!(is_seen || same(1), "dk of row {row} of {shape:?}");
            }
        }
    }
}

#[test]
fn memory_that_starts_anywhere_is_read_value_by_value() {
    for shape in [(1, 70, 1, 64), (1, 33, 1, 128), (2, 17, 2, 8)] {
        let case = Case::random(sizes(shape, 50));
        let want = case.want();
        for machine in machines() {
            case.compare(&case.run_from(&machine, 1), &want, Measure::Gradients);
        }
    }
}

#[test]
fn nothing_is_done_for_no_sequences() {
    for machine in machines() {
        for shape in [(0, 5, 1, 64), (3, 0, 1, 64), (0, 5, 2, 8), (1, 0, 2, 8)] {
            assert!(Case::random(sizes(shape, usize::MAX)).run(&machine).dqkv.is_empty());
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let refusal = |machine: &Machine, shape, window: usize, values: usize| {
        let qkv = machine.zeros(Type::Bf16, 3 * values).unwrap();
        let mut y = machine.zeros(Type::Bf16, values).unwrap();
        let mut log_sums = machine.zeros(Type::F32, 6).unwrap();
        let (y, log_sums) = (&mut y.view_mut(), &mut log_sums.view_mut());
        let result = attention_forward(machine, sizes(shape, window), &qkv.view(), y, log_sums);
        result.unwrap_err().to_string()
    };
    for machine in machines() {
        assert_eq!(
            refusal(&machine, (1, 3, 2, 64), 9, 383),
            "attention_forward: `qkv` has 1149 values of Bf16 where 1152 of Bf16 were expected"
        );
        assert_eq!(
            refusal(&machine, (1, 3, 1, 64), 9, 192),
            "attention_forward: `log_sums` has 6 values of F32 where 3 of F32 were expected"
        );
        for (shape, window, reason) in [
            ((1, 3, 2, 0), 9, "a head has 1 to 256 channels"),
            ((1, 3, 2, 257), 9, "a head has 1 to 256 channels"),
            ((1, 3, 0, 8), 9, "there is at least one"),
            ((1, 3, 2, 64), 0, "in a window of 0 a position does not even see itself"),
            ((1, 1 << 26, 1, 64), 9, "2^31 values or more"),
            ((1 << 31, 1, 1, 8), 9, "more rows than blocks"),
        ] {
            let refusal = refusal(&machine, shape, window, 384);
            assert!(refusal.contains(reason), "{refusal}");
        }
    }
}
