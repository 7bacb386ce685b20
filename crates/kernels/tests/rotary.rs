//! Norms and rotary codes of queries and keys against their definitions in double precision.
#![cfg(any(feature = "emulator", feature = "cuda"))]

mod support;

use forerunner_kernels::{
    Machine, QkSizes, RotarySizes, Type, qk_norm_backward, qk_norm_backward_in_place,
    qk_norm_forward, qk_norm_rotary_backward, qk_norm_rotary_backward_in_place,
    qk_norm_rotary_forward, rotary, rotary_in_place, rotary_table,
};
use support::{assert_close, machines, noise, rounded, rounded_all};

/// Results are rounded to bf16: at most 2⁻⁹ of each, about 1e-3 by norm.
const BF16: f64 = 3e-3;
const F32: f64 = 1e-5;
const EPSILON: f64 = 1e-6;
const BASE: f64 = 10_000.0;
const SCALE: f32 = 1.25;

/// Widths of the fast path with 1 to 32 threads for a head, all of them busy or not, and others.
const SIZES: [RotarySizes; 11] = [
    sizes(2, 3, 2, 16),
    sizes(1, 5, 3, 32),
    sizes(2, 9, 2, 48),
    sizes(3, 40, 4, 64),
    sizes(1, 7, 3, 96),
    sizes(2, 5, 1, 128),
    sizes(1, 2, 2, 512),
    sizes(1, 2, 1, 528),
    sizes(2, 3, 2, 2),
    sizes(1, 9, 3, 10),
    sizes(2, 3, 2, 40),
];

const fn sizes(batch: usize, length: usize, heads: usize, head_width: usize) -> RotarySizes {
    RotarySizes { batch, length, heads, head_width }
}

fn qk_sizes(RotarySizes { batch, length, heads, head_width }: RotarySizes) -> QkSizes {
    QkSizes { rows: batch * length, heads, head_width }
}

fn len(RotarySizes { batch, length, heads, head_width }: RotarySizes) -> usize {
    batch * length * 3 * heads * head_width
}

/// Applies `change(head, factor of the head, position)` to queries and keys.
fn change_heads(
    values: &[f64],
    sizes: RotarySizes,
    change: impl Fn(usize, &[f64], f64, usize) -> Vec<f64>,
) -> Vec<f64> {
    let RotarySizes { length, heads, head_width, .. } = sizes;
    let mut result = Vec::new();
    for (idx, head) in values.chunks_exact(head_width).enumerate() {
        let (row, slot) = (idx / (3 * heads), idx % (3 * heads));
        if slot < 2 * heads {
            let factor = if slot < heads { f64::from(SCALE) } else { 1.0 };
            result.extend(change(idx, head, factor, row % length));
        } else {
            result.extend(head);
        }
    }
    result
}

fn turned(head: &[f64], position: usize, sign: f64) -> Vec<f64> {
    let half = head.len() / 2;
    let pair = |i: usize| {
        let angle = sign * position as f64 * BASE.powf(-(i as f64) / half as f64);
        let (x, y) = (head[i], head[i + half]);
        (x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos())
    };
    (0..half).map(|i| pair(i).0).chain((0..half).map(|i| pair(i).1)).collect()
}

fn scale_of(head: &[f64]) -> f64 {
    let square = head.iter().map(|x| x * x).sum::<f64>() / head.len() as f64;
    1.0 / (square + EPSILON).sqrt()
}

fn normalised(head: &[f64], factor: f64) -> Vec<f64> {
    head.iter().map(|x| x * scale_of(head) * factor).collect()
}

/// The gradient of a head from that of what it was normalised to, by the Jacobian.
fn pulled_back(head: &[f64], slopes: &[f64], factor: f64) -> Vec<f64> {
    let scale = scale_of(head);
    let along: f64 = head.iter().zip(slopes).map(|(x, d)| x * d).sum();
    let tilt = along * scale.powi(3) / head.len() as f64;
    head.iter().zip(slopes).map(|(x, d)| factor * (d * scale - x * tilt)).collect()
}

fn input(sizes: RotarySizes, size: f32) -> Vec<f32> {
    noise(len(sizes), 1).iter().map(|x| rounded(size * (2.0 * x + 0.25))).collect()
}

fn heads_of(values: &[f64], sizes: RotarySizes, idx: usize) -> &[f64] {
    &values[idx * sizes.head_width..(idx + 1) * sizes.head_width]
}

#[test]
fn gradients_of_the_references_are_slopes() {
    let head: Vec<f64> = noise(6, 1).iter().map(|&x| x.into()).collect();
    let slopes: Vec<f64> = noise(6, 2).iter().map(|&x| x.into()).collect();
    let loss = |head: &[f64]| -> f64 {
        turned(&normalised(head, 1.25), 3, 1.0).iter().zip(&slopes).map(|(y, d)| y * d).sum()
    };
    let got = pulled_back(&head, &turned(&slopes, 3, -1.0), 1.25);
    for (idx, got) in got.into_iter().enumerate() {
        let moved = |by: f64| {
            let mut moved = head.clone();
            moved[idx] += by;
            loss(&moved)
        };
        assert!((got - (moved(1e-5) - moved(-1e-5)) / 2e-5).abs() < 1e-8);
    }
}

#[test]
fn tables_hold_the_angles() {
    let (length, width) = (2000, 64);
    let want: Vec<f64> = (0..length)
        .flat_map(|position| {
            let angle = move |i| f64::from(position) * BASE.powf(-f64::from(i) / 32.0);
            (0..32).map(move |i| angle(i).cos()).chain((0..32).map(move |i| angle(i).sin()))
        })
        .collect();
    let got = rotary_table(length as usize, width, BASE);
    let worst = got.iter().zip(&want).map(|(&got, want)| (f64::from(got) - want).abs());
    assert!(worst.fold(0.0, f64::max) < 1e-7);
}

#[test]
fn pairs_turn_and_turn_back() {
    for machine in machines() {
        for sizes in SIZES {
            let x = input(sizes, 1.0);
            let table = rotary_table(sizes.length, sizes.head_width, BASE);
            let on_x = machine.upload_f32(Type::Bf16, &x).unwrap();
            let table = machine.upload_f32(Type::F32, &table).unwrap();
            for (back, sign) in [(false, 1.0), (true, -1.0)] {
                let mut y = machine.scratch(Type::Bf16, x.len()).unwrap();
                let (table, from) = (&table.view(), &on_x.view());
                rotary(&machine, sizes, table, back, from, &mut y.view_mut()).unwrap();
                let want = change_heads(&rounded_all(&x), sizes, |_, head, _, position| {
                    turned(head, position, sign)
                });
                let got = machine.download(&y.view()).unwrap();
                assert_close(&format!("{sizes:?}"), &got, &want, BF16);
                let mut qkv = machine.upload_f32(Type::Bf16, &x).unwrap();
                rotary_in_place(&machine, sizes, table, back, &mut qkv.view_mut()).unwrap();
                assert_eq!(machine.download(&qkv.view()).unwrap(), got, "{sizes:?} in place");
            }
        }
    }
}

/// Forward and backward of the norm alone, or of the norm and the turn.
fn check_norms(machine: &Machine, sizes: RotarySizes, offset: usize, size: f32, turn: bool) {
    let what = |part: &str| format!("{part} of {sizes:?}, turned: {turn}");
    let upload = |values: &[f32]| {
        let values = [&vec![f32::NAN; offset], values].concat();
        machine.upload_f32(Type::Bf16, &values).unwrap()
    };
    let (x, dy) = (input(sizes, size), noise(len(sizes), 2));
    let (on_x, on_dy) = (upload(&x), upload(&dy));
    let all = offset..offset + x.len();
    let (on_x, on_dy) = (on_x.view().part(all.clone()), on_dy.view().part(all.clone()));
    let table = rotary_table(sizes.length, sizes.head_width, BASE);
    let table = machine.upload_f32(Type::F32, &table).unwrap();
    let [mut y, mut dx] = [(); 2].map(|()| machine.scratch(Type::Bf16, all.end).unwrap());
    let n_scales = sizes.batch * sizes.length * 2 * sizes.heads;
    let mut scales = machine.scratch(Type::F32, n_scales).unwrap();
    let (mut y_all, mut dx_all) = (y.view_mut(), dx.view_mut());
    let (y_to, dx_to) = (&mut y_all.part(all.clone()), &mut dx_all.part(all.clone()));
    let (table, scales_to) = (&table.view(), &mut scales.view_mut());
    if turn {
        qk_norm_rotary_forward(machine, sizes, SCALE, table, &on_x, y_to, scales_to).unwrap();
        let scales = &scales.view();
        qk_norm_rotary_backward(machine, sizes, SCALE, table, &on_x, scales, &on_dy, dx_to)
            .unwrap();
    } else {
        let sizes = qk_sizes(sizes);
        qk_norm_forward(machine, sizes, SCALE, &on_x, y_to, scales_to).unwrap();
        qk_norm_backward(machine, sizes, SCALE, &on_x, &scales.view(), &on_dy, dx_to).unwrap();
    }
    let dy_values = dy;
    let (x, dy) = (rounded_all(&x), rounded_all(&dy_values));
    let want = change_heads(&x, sizes, |_, head, factor, position| {
        let head = normalised(head, factor);
        if turn { turned(&head, position, 1.0) } else { head }
    });
    let got = machine.download(&y.view().part(all.clone())).unwrap();
    assert_close(&what("y"), &got, &want, BF16);
    let want = change_heads(&dy, sizes, |idx, slopes, factor, position| {
        let slopes = if turn { turned(slopes, position, -1.0) } else { slopes.to_vec() };
        pulled_back(heads_of(&x, sizes, idx), &slopes, factor)
    });
    let got = machine.download(&dx.view().part(all.clone())).unwrap();
    assert_close(&what("dx"), &got, &want, BF16);
    // The same where the gradient was.
    let mut dx = upload(&dy_values);
    let (mut dx_all, scales_view) = (dx.view_mut(), &scales.view());
    let dx_to = &mut dx_all.part(all.clone());
    if turn {
        qk_norm_rotary_backward_in_place(machine, sizes, SCALE, table, &on_x, scales_view, dx_to)
            .unwrap();
    } else {
        let sizes = qk_sizes(sizes);
        qk_norm_backward_in_place(machine, sizes, SCALE, &on_x, scales_view, dx_to).unwrap();
    }
    let in_place = machine.download(&dx.view().part(all)).unwrap();
    assert_eq!(in_place, got, "{}", what("dx in place"));
    let slots = x.chunks_exact(sizes.head_width).enumerate();
    let want: Vec<f64> = slots
        .filter(|(idx, _)| idx % (3 * sizes.heads) < 2 * sizes.heads)
        .map(|(_, head)| scale_of(head))
        .collect();
    assert_close(&what("scales"), &machine.download(&scales.view()).unwrap(), &want, F32);
}

#[test]
fn queries_and_keys_get_one_length() {
    for machine in machines() {
        for sizes in SIZES {
            check_norms(&machine, sizes, 0, 1.0, false);
            // So small that what is added to the mean square is seen.
            check_norms(&machine, sizes, 0, 1e-3, false);
        }
        check_norms(&machine, sizes(2, 3, 2, 16), 1, 1.0, false);
        // Only turning needs halves.
        check_norms(&machine, sizes(2, 3, 2, 5), 0, 1.0, false);
    }
}

#[test]
fn both_in_one_pass() {
    for machine in machines() {
        for sizes in SIZES {
            check_norms(&machine, sizes, 0, 1.0, true);
            // So small that what is added to the mean square is seen.
            check_norms(&machine, sizes, 0, 1e-3, true);
        }
        check_norms(&machine, sizes(2, 3, 2, 16), 1, 1.0, true);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    for machine in machines() {
        let x = machine.zeros(Type::Bf16, 180).unwrap();
        let mut y = machine.zeros(Type::Bf16, 180).unwrap();
        let mut refusal = |sizes, table: usize| {
            let table = machine.zeros(Type::F32, table).unwrap();
            let y = &mut y.view_mut();
            let error = rotary(&machine, sizes, &table.view(), false, &x.view(), y);
            error.unwrap_err().to_string()
        };
        assert_eq!(
            refusal(sizes(1, 4, 3, 5), 20),
            "rotary: the 5 channels of a head have no halves"
        );
        assert_eq!(
            refusal(sizes(1, 5, 2, 6), 24),
            "rotary: `table` has 24 values of F32 where 30 of F32 were expected"
        );
        assert_eq!(
            refusal(sizes(2, 5, 2, 6), 30),
            "rotary: `x` has 180 values of Bf16 where 360 of Bf16 were expected"
        );
    }
}
