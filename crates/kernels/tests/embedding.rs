//! Table look-up and sums by token against the definition.
#![cfg(any(feature = "emulator", feature = "cuda"))]

mod support;

use forerunner_kernels::{Machine, Type, embedding_backward, embedding_forward};
use support::{assert_close, machines, noise, rounded, rounded_all};

/// `count` tokens below `rows`, most of them few, some rows without any.
fn drawn(count: usize, rows: usize, seed: u64) -> Vec<u32> {
    let skewed = |x: f32| (f64::from(x).powi(4) * rows as f64) as u32;
    noise(count, seed).into_iter().map(skewed).collect()
}

#[test]
fn rows_are_those_of_the_tokens() {
    for machine in machines() {
        for (rows, channels, count) in [(1, 1, 3), (5, 7, 77), (300, 24, 33), (11, 264, 129)] {
            let table = noise(rows * channels, 1);
            let tokens = drawn(count, rows, 2);
            let want: Vec<f32> = tokens
                .iter()
                .flat_map(|&token| &table[token as usize * channels..][..channels])
                .map(|&x| rounded(x))
                .collect();
            for type_ in [Type::Bf16, Type::F32] {
                let table = machine.upload_f32(type_, &table).unwrap();
                let tokens = machine.upload_u32(&tokens).unwrap();
                let mut y = machine.scratch(Type::Bf16, count * channels).unwrap();
                let (table, tokens) = (table.view(), tokens.view());
                let sizes = (rows, channels);
                embedding_forward(&machine, sizes, &table, &tokens, &mut y.view_mut()).unwrap();
                assert_eq!(machine.download(&y.view()).unwrap(), want, "{sizes:?} of {type_:?}");
            }
        }
    }
}

fn gradient(
    machine: &Machine,
    (rows, channels): (usize, usize),
    tokens: &[u32],
    dy: &[f32],
    old: Option<&[f32]>,
) -> Vec<f32> {
    let tokens = machine.upload_u32(tokens).unwrap();
    let dy = machine.upload_f32(Type::Bf16, dy).unwrap();
    let mut dtable = match old {
        Some(old) => machine.upload_f32(Type::F32, old).unwrap(),
        None => machine.upload_f32(Type::F32, &vec![f32::NAN; rows * channels]).unwrap(),
    };
    let (tokens, dy) = (tokens.view(), dy.view());
    let dtable_view = &mut dtable.view_mut();
    embedding_backward(machine, (rows, channels), &tokens, &dy, dtable_view, old.is_some())
        .unwrap();
    machine.download(&dtable.view()).unwrap()
}

fn check(machine: &Machine, (rows, channels): (usize, usize), tokens: &[u32]) {
    let dy = noise(tokens.len() * channels, 5);
    let old = noise(rows * channels, 6);
    let mut want = vec![0.0; rows * channels];
    let mut is_met = vec![false; rows];
    for (&token, row) in tokens.iter().zip(rounded_all(&dy).chunks_exact(channels)) {
        is_met[token as usize] = true;
        let of_token = &mut want[token as usize * channels..][..channels];
        of_token.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    // Sums of f32: each addition rounds by 6e-8.
    let what = format!("{} tokens, {rows} rows, {channels} channels", tokens.len());
    let got = gradient(machine, (rows, channels), tokens, &dy, None);
    assert_close(&what, &got, &want, 2e-6);
    for (row, sums) in got.chunks_exact(channels).enumerate() {
        assert!(is_met[row] || sums.iter().all(|&x| x == 0.0), "{what}: row {row} has no token");
    }
    let more: Vec<f64> = want.iter().zip(&old).map(|(sum, &old)| sum + f64::from(old)).collect();
    let added = gradient(machine, (rows, channels), tokens, &dy, Some(&old));
    assert_close(&what, &added, &more, 2e-6);
}

#[test]
fn gradients_are_summed_by_token() {
    for machine in machines() {
        for (rows, channels, count) in [
            (1, 1, 1),
            (5, 7, 77),
            (3, 24, 33),
            // Two digits, three digits; several tiles; several slabs of channels.
            (300, 40, 1025),
            (70_000, 1, 2500),
            (9, 1160, 65),
        ] {
            check(&machine, (rows, channels), &drawn(count, rows, 7));
        }
    }
}

#[test]
fn frequent_tokens_are_cut_into_pieces() {
    for machine in machines() {
        // All alike, in one piece and in many; then runs that end and begin at the ends of pieces.
        check(&machine, (4, 16), &[2; 31]);
        check(&machine, (4, 16), &[3; 701]);
        check(&machine, (1, 130), &[0; 320]);
        let runs = [(0, 32), (1, 1), (2, 63), (4, 64), (5, 31), (6, 33), (7, 96)];
        let tokens: Vec<u32> =
            runs.iter().flat_map(|&(token, length)| std::iter::repeat_n(token, length)).collect();
        check(&machine, (9, 8), &tokens);
        let shuffled: Vec<u32> = (0..320).map(|i| tokens[i * 77 % 320]).collect();
        check(&machine, (9, 8), &shuffled);
    }
}

#[test]
fn pieces_grow_with_the_number_of_tokens() {
    for machine in machines() {
        check(&machine, (50, 1), &drawn(33_001, 50, 3));
    }
}

#[test]
fn sums_are_in_the_order_of_positions() {
    // 2^30 and then -2^30 leave what comes after them; in any other order something would be lost.
    let values = [1_073_741_824.0, -1_073_741_824.0, 1.0, 1.0];
    // In one strip of a warp, in two; in two warps; in two and three tiles of the sort.
    for positions in [[3, 7, 8, 31], [3, 40, 50, 70], [130, 260, 400, 401], [9, 1030, 1031, 2900]] {
        let mut tokens: Vec<u32> = (0..3000).map(|i| 1 + i % 600).collect();
        let mut dy = vec![0.0; 3000];
        for (&position, value) in positions.iter().zip(values) {
            tokens[position] = 0;
            dy[position] = value;
        }
        for machine in machines() {
            let got = gradient(&machine, (601, 1), &tokens, &dy, None);
            assert_eq!(got[0], 2.0, "{positions:?}");
            assert!(got[1..].iter().all(|&x| x == 0.0), "{positions:?}");
        }
    }
}

#[test]
fn schedules_do_not_show() {
    let (rows, channels) = (40, 16);
    let tokens = drawn(3000, rows, 9);
    let dy = noise(tokens.len() * channels, 5);
    for machine in machines() {
        let run = || gradient(&machine, (rows, channels), &tokens, &dy, None);
        assert_eq!(run(), run());
    }
}

#[test]
fn unknown_tokens_are_not_read() {
    for machine in machines() {
        let table = machine.upload_f32(Type::F32, &noise(3 * 8, 1)).unwrap();
        let tokens = machine.upload_u32(&[0, 3, u32::MAX, 2]).unwrap();
        let mut y = machine.zeros(Type::Bf16, 4 * 8).unwrap();
        let (table, tokens) = (table.view(), tokens.view());
        embedding_forward(&machine, (3, 8), &table, &tokens, &mut y.view_mut()).unwrap();
        let y = machine.download(&y.view()).unwrap();
        for (position, row) in y.chunks_exact(8).enumerate() {
            let is_unknown = [1, 2].contains(&position);
            assert!(row.iter().all(|x| x.is_nan() == is_unknown), "position {position}");
        }
        let dtable = gradient(&machine, (3, 8), &[0, 3, u32::MAX, 1], &noise(32, 2), None);
        assert!(dtable[..16].iter().all(|x| x.is_finite()));
        assert!(dtable[16..].iter().all(|x| x.is_nan()));
    }
}

#[test]
fn no_tokens_have_no_gradient() {
    for machine in machines() {
        assert_eq!(gradient(&machine, (2, 3), &[], &[], None), [0.0; 6]);
        let old = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(gradient(&machine, (2, 3), &[], &[], Some(&old)), old);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    for machine in machines() {
        let tokens = machine.upload_u32(&[0, 1]).unwrap();
        let dy = machine.zeros(Type::Bf16, 7).unwrap();
        let mut dtable = machine.zeros(Type::F32, 8).unwrap();
        let mut refusal = |sizes| {
            let (tokens, dy) = (tokens.view(), dy.view());
            embedding_backward(&machine, sizes, &tokens, &dy, &mut dtable.view_mut(), true)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refusal((2, 4)),
            "embedding_backward: `dy` has 7 values of Bf16 where 8 of Bf16 were expected"
        );
        assert_eq!(
            refusal((0, 4)),
            "embedding_backward: 2 tokens, 0 rows and 4 channels, where 1 to 2147483647 can be used"
        );
    }
}
