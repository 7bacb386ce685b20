//! Norms of rows against their definitions in double precision.
#![cfg(any(feature = "emulator", feature = "cuda"))]

mod support;

use forerunner_kernels::{
    Buffer, Machine, Type, View, layer_norm_backward, layer_norm_forward, rms_norm_backward,
    rms_norm_forward,
};
use support::{assert_close, machines, noise, rounded, rounded_all};

/// Large, so that it is seen in the results.
const EPSILON: f32 = 1e-2;
/// Results are rounded to bf16: at most 2⁻⁹ of each, about 1e-3 by norm.
const BF16: f64 = 3e-3;
/// Sums in single precision of numbers that cancel in part.
const F32: f64 = 1e-5;

/// What is kept of rows, and gradients, by the definitions. Without a mean it is an RMS norm.
struct Reference {
    y: Vec<f64>,
    stats: Vec<f64>,
    dx: Vec<f64>,
    dgain: Vec<f64>,
    dbias: Vec<f64>,
}

fn reference(x: &[f64], gain: &[f64], bias: Option<&[f64]>, dy: &[f64]) -> Reference {
    let channels = gain.len();
    let mut result = Reference {
        y: Vec::new(),
        stats: Vec::new(),
        dx: Vec::new(),
        dgain: vec![0.0; channels],
        dbias: vec![0.0; channels],
    };
    for (x, dy) in x.chunks_exact(channels).zip(dy.chunks_exact(channels)) {
        let average = |sum: f64| sum / channels as f64;
        let mean = if bias.is_some() { average(x.iter().sum()) } else { 0.0 };
        let square = average(x.iter().map(|x| (x - mean).powi(2)).sum());
        let scale = 1.0 / (square + f64::from(EPSILON)).sqrt();
        let normal: Vec<f64> = x.iter().map(|x| (x - mean) * scale).collect();
        let slopes: Vec<f64> = dy.iter().zip(gain).map(|(dy, gain)| dy * gain).collect();
        let shift = if bias.is_some() { average(slopes.iter().sum()) } else { 0.0 };
        let tilt = average(slopes.iter().zip(&normal).map(|(d, n)| d * n).sum());
        for c in 0..channels {
            result.y.push(normal[c] * gain[c] + bias.map_or(0.0, |bias| bias[c]));
            result.dx.push((slopes[c] - shift - normal[c] * tilt) * scale);
            result.dgain[c] += dy[c] * normal[c];
            result.dbias[c] += dy[c];
        }
        result.stats.extend(bias.map(|_| mean).into_iter().chain([scale]));
    }
    result
}

#[test]
fn gradients_of_the_references_are_slopes() {
    let (rows, channels) = (2, 9);
    let wide = |seed| noise(rows * channels, seed).iter().map(|&x| f64::from(x)).collect();
    let [x, dy]: [Vec<f64>; 2] = [wide(1), wide(2)];
    let gain: Vec<f64> = noise(channels, 3).iter().map(|&x| f64::from(x)).collect();
    let bias = vec![0.5; channels];
    for bias in [None, Some(&*bias)] {
        let loss = |x: &[f64], gain: &[f64]| -> f64 {
            reference(x, gain, bias, &dy).y.iter().zip(&dy).map(|(y, dy)| y * dy).sum()
        };
        let slope = |of: &[f64], idx: usize, loss: &dyn Fn(&[f64]) -> f64| {
            let moved = |by: f64| {
                let mut moved = of.to_vec();
                moved[idx] += by;
                loss(&moved)
            };
            (moved(1e-5) - moved(-1e-5)) / 2e-5
        };
        let got = reference(&x, &gain, bias, &dy);
        for idx in 0..x.len() {
            assert!((got.dx[idx] - slope(&x, idx, &|x| loss(x, &gain))).abs() < 1e-6);
        }
        for idx in 0..channels {
            assert!((got.dgain[idx] - slope(&gain, idx, &|gain| loss(&x, gain))).abs() < 1e-6);
        }
    }
}

/// Inputs of one case; `offset` values before each of them spoil the alignment.
struct Case {
    rows: usize,
    channels: usize,
    offset: usize,
}

impl Case {
    fn upload(&self, machine: &Machine, type_: Type, values: &[f32]) -> Buffer {
        let values = [&vec![f32::NAN; self.offset], values].concat();
        machine.upload_f32(type_, &values).unwrap()
    }

    fn view<'a>(&self, buffer: &'a Buffer) -> View<'a> {
        buffer.view().part(self.offset..buffer.len())
    }

    fn room(&self, machine: &Machine, type_: Type, len: usize) -> Buffer {
        machine.scratch(type_, len + self.offset).unwrap()
    }

    fn download(&self, machine: &Machine, buffer: &Buffer) -> Vec<f32> {
        machine.download(&self.view(buffer)).unwrap()
    }
}

macro_rules! to {
    ($case:expr, $buffer:expr, $len:expr) => {
        &mut $buffer.view_mut().part($case.offset..$case.offset + $len)
    };
}

/// Rows of both paths and of every width that there is a kernel for, full and not; many rows, so that
/// blocks take several.
const SIZES: [(usize, usize); 22] = [
    (5, 1),
    (4, 7),
    (70, 13),
    (3, 33),
    (1, 8),
    (140, 24),
    (3, 256),
    (45, 264),
    (3, 512),
    (9, 520),
    (70, 768),
    (4, 1000),
    (2, 1024),
    (55, 1032),
    (3, 2048),
    (3, 2056),
    (10, 4096),
    (1, 4104),
    (6, 8192),
    (2, 8200),
    (2, 1028),
    (0, 16),
];

fn each_case(check: impl Fn(&Machine, &Case)) {
    for machine in machines() {
        for (rows, channels) in SIZES {
            check(&machine, &Case { rows, channels, offset: 0 });
        }
        check(&machine, &Case { rows: 3, channels: 40, offset: 1 });
    }
}

#[test]
fn layer_norms_follow_the_definition() {
    each_case(|machine, case| {
        let &Case { rows, channels, .. } = case;
        let what = |part: &str| format!("{part} of [{rows}, {channels}]");
        let len = rows * channels;
        let x: Vec<f32> = noise(len, 1).iter().map(|x| rounded(2.0 * x + 0.5)).collect();
        let other: Vec<f32> = noise(len, 2).iter().map(|&x| rounded(x)).collect();
        let (gain, bias) = (noise(channels, 3), noise(channels, 4));
        let (dy, dsum) = (noise(len, 5), noise(len, 6));
        let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|&x| x.into()).collect() };
        let [on_x, on_other] = [&x, &other].map(|v| case.upload(machine, Type::Bf16, v));
        let [on_gain, on_bias] = [&gain, &bias].map(|v| case.upload(machine, Type::F32, v));
        let [on_dy, on_dsum] = [&dy, &dsum].map(|v| case.upload(machine, Type::Bf16, v));
        for with_others in [false, true] {
            let normalised: Vec<f32> = if with_others {
                x.iter().zip(&other).map(|(x, other)| rounded(x + other)).collect()
            } else {
                x.clone()
            };
            let mut want =
                reference(&wide(&normalised), &wide(&gain), Some(&wide(&bias)), &rounded_all(&dy));
            if with_others {
                want.dx.iter_mut().zip(rounded_all(&dsum)).for_each(|(dx, dsum)| *dx += dsum);
            }
            let [mut y, mut sum, mut dx] = [(); 3].map(|()| case.room(machine, Type::Bf16, len));
            let mut stats = case.room(machine, Type::F32, 2 * rows);
            let [mut dgain, mut dbias] = [(); 2].map(|()| case.room(machine, Type::F32, channels));
            layer_norm_forward(
                machine,
                (rows, channels),
                &case.view(&on_x),
                with_others.then_some((&case.view(&on_other), to!(case, sum, len))),
                &case.view(&on_gain),
                &case.view(&on_bias),
                EPSILON,
                to!(case, y, len),
                to!(case, stats, 2 * rows),
            )
            .unwrap();
            if with_others {
                assert_eq!(case.download(machine, &sum), normalised, "{}", what("sum"));
            }
            assert_close(&what("y"), &case.download(machine, &y), &want.y, BF16);
            assert_close(&what("stats"), &case.download(machine, &stats), &want.stats, F32);
            layer_norm_backward(
                machine,
                (rows, channels),
                &case.view(if with_others { &sum } else { &on_x }),
                &case.view(&on_gain),
                &case.view(&stats),
                &case.view(&on_dy),
                with_others.then_some(&case.view(&on_dsum)),
                to!(case, dx, len),
                to!(case, dgain, channels),
                to!(case, dbias, channels),
            )
            .unwrap();
            assert_close(&what("dx"), &case.download(machine, &dx), &want.dx, BF16);
            assert_close(&what("dgain"), &case.download(machine, &dgain), &want.dgain, F32);
            assert_close(&what("dbias"), &case.download(machine, &dbias), &want.dbias, F32);
        }
    });
}

#[test]
fn rms_norms_follow_the_definition() {
    each_case(|machine, case| {
        let &Case { rows, channels, .. } = case;
        let what = |part: &str| format!("{part} of [{rows}, {channels}]");
        let len = rows * channels;
        let x: Vec<f32> = noise(len, 1).iter().map(|x| rounded(2.0 * x + 0.5)).collect();
        let other: Vec<f32> = noise(len, 2).iter().map(|&x| rounded(x)).collect();
        let (dy, dsum) = (noise(len, 5), noise(len, 6));
        let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|&x| x.into()).collect() };
        let [on_x, on_other] = [&x, &other].map(|v| case.upload(machine, Type::Bf16, v));
        let [on_dy, on_dsum] = [&dy, &dsum].map(|v| case.upload(machine, Type::Bf16, v));
        for (with_gain, with_others) in [(false, false), (false, true), (true, false), (true, true)]
        {
            let gain = if with_gain { noise(channels, 3) } else { vec![1.0; channels] };
            let on_gain = case.upload(machine, Type::F32, &gain);
            let normalised: Vec<f32> = if with_others {
                x.iter().zip(&other).map(|(x, other)| rounded(x + other)).collect()
            } else {
                x.clone()
            };
            let mut want = reference(&wide(&normalised), &wide(&gain), None, &rounded_all(&dy));
            if with_others {
                want.dx.iter_mut().zip(rounded_all(&dsum)).for_each(|(dx, dsum)| *dx += dsum);
            }
            let [mut y, mut sum, mut dx] = [(); 3].map(|()| case.room(machine, Type::Bf16, len));
            let mut scales = case.room(machine, Type::F32, rows);
            let mut dgain = case.room(machine, Type::F32, channels);
            rms_norm_forward(
                machine,
                (rows, channels),
                &case.view(&on_x),
                with_others.then_some((&case.view(&on_other), to!(case, sum, len))),
                with_gain.then_some(&case.view(&on_gain)),
                EPSILON,
                to!(case, y, len),
                to!(case, scales, rows),
            )
            .unwrap();
            if with_others {
                assert_eq!(case.download(machine, &sum), normalised, "{}", what("sum"));
            }
            assert_close(&what("y"), &case.download(machine, &y), &want.y, BF16);
            assert_close(&what("scales"), &case.download(machine, &scales), &want.stats, F32);
            rms_norm_backward(
                machine,
                (rows, channels),
                &case.view(if with_others { &sum } else { &on_x }),
                with_gain.then_some(&case.view(&on_gain)),
                &case.view(&scales),
                &case.view(&on_dy),
                with_others.then_some(&case.view(&on_dsum)),
                to!(case, dx, len),
                with_gain.then_some(to!(case, dgain, channels)),
            )
            .unwrap();
            // The only channel of a row is of constant size, so nothing but rounding is left of dx.
            let bound = if channels == 1 { f64::INFINITY } else { BF16 };
            assert_close(&what("dx"), &case.download(machine, &dx), &want.dx, bound);
            if with_gain {
                assert_close(&what("dgain"), &case.download(machine, &dgain), &want.dgain, F32);
            }
        }
    });
}

#[cfg(feature = "emulator")]
#[test]
fn no_bit_depends_on_the_order_of_threads() {
    let (rows, channels) = (150, 264);
    let run = |seed| {
        let machine = Machine::emulated(seed);
        let upload = |type_, len, seed| machine.upload_f32(type_, &noise(len, seed)).unwrap();
        let (x, dy) =
            (upload(Type::Bf16, rows * channels, 1), upload(Type::Bf16, rows * channels, 2));
        let (gain, bias) = (upload(Type::F32, channels, 3), upload(Type::F32, channels, 4));
        let [mut y, mut dx] =
            [(); 2].map(|()| machine.scratch(Type::Bf16, rows * channels).unwrap());
        let mut stats = machine.scratch(Type::F32, 2 * rows).unwrap();
        let [mut dgain, mut dbias] =
            [(); 2].map(|()| machine.scratch(Type::F32, channels).unwrap());
        layer_norm_forward(
            &machine,
            (rows, channels),
            &x.view(),
            None,
            &gain.view(),
            &bias.view(),
            EPSILON,
            &mut y.view_mut(),
            &mut stats.view_mut(),
        )
        .unwrap();
        layer_norm_backward(
            &machine,
            (rows, channels),
            &x.view(),
            &gain.view(),
            &stats.view(),
            &dy.view(),
            None,
            &mut dx.view_mut(),
            &mut dgain.view_mut(),
            &mut dbias.view_mut(),
        )
        .unwrap();
        [y, stats, dx, dgain, dbias]
            .map(|buffer| machine.download(&buffer.view()).unwrap())
            .concat()
            .iter()
            .map(|value| value.to_bits())
            .collect::<Vec<u32>>()
    };
    let first = run(1);
    for seed in 2..6 {
        assert_eq!(run(seed), first, "seed {seed}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    for machine in machines() {
        let x = machine.zeros(Type::Bf16, 24).unwrap();
        let mut y = machine.zeros(Type::Bf16, 24).unwrap();
        let mut scales = machine.zeros(Type::F32, 3).unwrap();
        let gain = machine.zeros(Type::F32, 8).unwrap();
        let mut forward = |sizes, gain: Option<&Buffer>| {
            let gain = gain.map(Buffer::view);
            let (y, scales) = (&mut y.view_mut(), &mut scales.view_mut());
            rms_norm_forward(&machine, sizes, &x.view(), None, gain.as_ref(), 1e-5, y, scales)
                .map_err(|error| error.to_string())
        };
        assert_eq!(forward((3, 8), Some(&gain)), Ok(()));
        let refusals = [
            (
                (4, 6),
                Some(&gain),
                "rms_norm_forward: `stats` has 3 values of F32 where 4 of F32 were expected",
            ),
            (
                (3, 9),
                None,
                "rms_norm_forward: `x` has 24 values of Bf16 where 27 of Bf16 were expected",
            ),
            (
                (3, 8),
                Some(&x),
                "rms_norm_forward: `gain` has 24 values of Bf16 where 8 of F32 were expected",
            ),
        ];
        for (sizes, gain, message) in refusals {
            assert_eq!(forward(sizes, gain), Err(message.to_owned()));
        }
        let (mut dx, mut dgain) =
            (machine.zeros(Type::Bf16, 24).unwrap(), machine.zeros(Type::F32, 8).unwrap());
        let error = rms_norm_backward(
            &machine,
            (3, 8),
            &x.view(),
            None,
            &scales.view(),
            &y.view(),
            None,
            &mut dx.view_mut(),
            Some(&mut dgain.view_mut()),
        );
        let message = "rms_norm_backward: a gain and its gradient come together";
        assert_eq!(error.unwrap_err().to_string(), message);
    }
}
