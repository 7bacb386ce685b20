//! Attention against its definition in double precision.
#![cfg(any(feature = "emulator", feature = "cuda"))]

mod support;

use forerunner_kernels::{
    AttentionSizes, Machine, Type, ViewMut, attention_backward, attention_forward,
};
use support::{assert_close, machines, noise, rounded_all};

/// Bounds of relative norms. Results are rounded to bf16, whose steps are 2⁻⁸ of a value: errors are
/// even within ± half a step, 2⁻⁹ / √3 = 1.1e-3 at the lower end of a power of two and less above.
/// Shares are rounded likewise before they meet values, and errors of many average out.
const OF_RESULTS: f64 = 4e-3;
/// Gradients are sums of rounded slopes that cancel each other in part, and use results that were
/// rounded; so errors of the same kind weigh more.
const OF_GRADIENTS: f64 = 1e-2;
/// Sums of exponentials are f32 all the way; a device's own exponentials are good to 2⁻²².
const OF_LOG_SUMS: f64 = 1e-5;

struct Case {
    sizes: AttentionSizes,
    qkv: Vec<f32>,
    dy: Vec<f32>,
}

struct Outcome<T> {
    y: Vec<T>,
    log_sums: Vec<T>,
    dqkv: Vec<T>,
}

fn sizes(
    (batch, length, heads, head_width): (usize, usize, usize, usize),
    window: usize,
) -> AttentionSizes {
    AttentionSizes { batch, length, heads, head_width, window }
}

impl Case {
    fn random(sizes: AttentionSizes) -> Self {
        let values = sizes.batch * sizes.length * sizes.heads * sizes.head_width;
        // Scores that matter: their standard deviation is about 4/3.
        let qkv = noise(3 * values, 1).iter().map(|x| 2.0 * x).collect();
        Self { sizes, qkv, dy: noise(values, 2) }
    }

    /// Random but for scores, which are about `score(key)` for all queries.
    fn with_scores(sizes: AttentionSizes, score: impl Fn(usize) -> f32) -> Self {
        let mut case = Self::random(sizes);
        let channels = sizes.heads * sizes.head_width;
        for (row_idx, row) in case.qkv.chunks_exact_mut(3 * channels).enumerate() {
            let (queries, others) = row.split_at_mut(channels);
            let key = score(row_idx % sizes.length) / (sizes.head_width as f32).sqrt();
            for (channel, (query, other)) in queries.iter_mut().zip(others).enumerate() {
                let sign = if channel % 2 == 0 { 1.0 } else { -1.0 };
                *query = sign + 0.2 * *query;
                *other = sign * key + 0.2 * *other;
            }
        }
        case
    }

    /// The definition.
    fn want(&self) -> Outcome<f64> {
        let AttentionSizes { batch, length, heads, head_width: width, window } = self.sizes;
        let channels = heads * width;
        let (qkv, dy) = (rounded_all(&self.qkv), rounded_all(&self.dy));
        let mut y = vec![0.0; dy.len()];
        let mut log_sums = vec![0.0; batch * heads * length];
        let mut dqkv = vec![0.0; qkv.len()];
        let scale = 1.0 / (width as f64).sqrt();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let add = |to: &mut [f64], share: f64, from: &[f64]| {
            for (to, from) in to.iter_mut().zip(from) {
                *to += share * from;
            }
        };
        for pair in 0..batch * heads {
            let (sequence, head) = (pair / heads, pair % heads);
            let packed = |third: usize, row: usize| {
                let at = ((sequence * length + row) * 3 + third) * channels + head * width;
                at..at + width
            };
            let plain = |row: usize| {
                let at = (sequence * length + row) * channels + head * width;
                at..at + width
            };
            for query in 0..length {
                let keys = (query + 1).saturating_sub(window)..query + 1;
                let of = &qkv[packed(0, query)];
                let scores: Vec<f64> =
                    keys.clone().map(|key| dot(of, &qkv[packed(1, key)]) * scale).collect();
                let top = scores.iter().copied().fold(f64::MIN, f64::max);
                let total: f64 = scores.iter().map(|score| (score - top).exp()).sum();
                let log_sum = top + total.ln();
                log_sums[pair * length + query] = log_sum;
                let shares: Vec<f64> = scores.iter().map(|score| (score - log_sum).exp()).collect();
                for (key, &share) in keys.clone().zip(&shares) {
                    add(&mut y[plain(query)], share, &qkv[packed(2, key)]);
                }
                let own = dot(&dy[plain(query)], &y[plain(query)]);
                for (key, &share) in keys.zip(&shares) {
                    let slope = dot(&dy[plain(query)], &qkv[packed(2, key)]) - own;
                    let slope = share * slope * scale;
                    add(&mut dqkv[packed(0, query)], slope, &qkv[packed(1, key)]);
                    add(&mut dqkv[packed(1, key)], slope, &qkv[packed(0, query)]);
                    add(&mut dqkv[packed(2, key)], share, &dy[plain(query)]);
                }
            }
        }
        Outcome { y, log_sums, dqkv }
    }

    fn run(&self, machine: &Machine) -> Outcome<f32> {
        self.run_from(machine, 0)
    }

    /// With all bf16 memory from the value `start` of a buffer on: not aligned unless zero.
    fn run_from(&self, machine: &Machine, start: usize) -> Outcome<f32> {
        let up = |values: &[f32]| {
            let padded = [vec![f32::NAN; start], values.to_vec()].concat();
            machine.upload_f32(Type::Bf16, &padded).unwrap()
        };
        let rows = self.sizes.batch * self.sizes.heads * self.sizes.length;
        let (qkv, dy) = (up(&self.qkv), up(&self.dy));
        let mut y = machine.scratch(Type::Bf16, dy.len()).unwrap();
        let mut log_sums = machine.scratch(Type::F32, rows).unwrap();
        let mut dqkv = machine.scratch(Type::Bf16, qkv.len()).unwrap();
        let qkv = qkv.view().part(start..qkv.len());
        let dy = dy.view().part(start..dy.len());
        let end = y.len();
        let mut y_view = y.view_mut();
        let mut y_view: ViewMut<'_> = y_view.part(start..end);
        let mut log_sums = log_sums.view_mut();
        attention_forward(machine, self.sizes, &qkv, &mut y_view, &mut log_sums).unwrap();
        let (y, log_sums) = (y_view.as_view(), log_sums.as_view());
        let end = dqkv.len();
        let mut dqkv = dqkv.view_mut();
        let mut dqkv = dqkv.part(start..end);
        attention_backward(machine, self.sizes, &qkv, &y, &log_sums, &dy, &mut dqkv).unwrap();
        Outcome {
            y: machine.download(&y).unwrap(),
            log_sums: machine.download(&log_sums).unwrap(),
            dqkv: machine.download(&dqkv.as_view()).unwrap(),
        }
    }

    #[track_caller]
    fn check(&self) {
        let want = self.want();
        let mut emulated: Option<Outcome<f32>> = None;
        for machine in machines() {
            let got = self.run(&machine);
            self.compare(&got, &want);
            if machine.name() == "emulator" {
                if let Some(other) = emulated {
                    let what = format!("schedules differ for {:?}", self.sizes);
                    assert_eq!(bits(&got.y), bits(&other.y), "{what}");
                    assert_eq!(bits(&got.log_sums), bits(&other.log_sums), "{what}");
                    assert_eq!(bits(&got.dqkv), bits(&other.dqkv), "{what}");
                }
                emulated = Some(got);
            }
        }
    }

    #[track_caller]
    fn compare(&self, got: &Outcome<f32>, want: &Outcome<f64>) {
        let of = |what: &str| format!("{what} of {:?}", self.sizes);
        assert_close(&of("y"), &got.y, &want.y, OF_RESULTS);
        assert_close(&of("log_sums"), &got.log_sums, &want.log_sums, OF_LOG_SUMS);
        let channels = self.sizes.heads * self.sizes.head_width;
        // Where every position sees itself alone, queries and keys have no influence.
        let thirds = if self.sizes.window.min(self.sizes.length) == 1 { 2..3 } else { 0..3 };
        for third in thirds {
            let name = ["dq", "dk", "dv"][third];
            let (got, want) = (pick(&got.dqkv, third, channels), pick(&want.dqkv, third, channels));
            assert_close(&of(name), &got, &want, OF_GRADIENTS);
        }
        let all = if self.sizes.window.min(self.sizes.length) == 1 { 0..2 } else { 0..0 };
        for third in all {
            let largest = pick(&got.dqkv, third, channels).iter().fold(0.0, largest);
            // The difference of dy · v and dy · y, which are equal but for roundings.
            assert!(largest <= 0.1, "{}: {largest}", of("gradient without influence"));
        }
    }
}

fn largest(so_far: f32, &value: &f32) -> f32 {
    if value.is_nan() { f32::INFINITY } else { so_far.max(value.abs()) }
}

fn pick<T: Copy>(values: &[T], third: usize, channels: usize) -> Vec<T> {
    let rows = values.chunks_exact(3 * channels);
    rows.flat_map(|row| row[third * channels..][..channels].iter().copied()).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn heads_of_64_channels_follow_the_definition() {
    for shape in [(1, 1, 1, 64), (2, 17, 2, 64), (1, 64, 1, 64), (1, 65, 3, 64), (1, 257, 1, 64)] {
        Case::random(sizes(shape, usize::MAX)).check();
    }
}

#[test]
fn heads_of_128_channels_follow_the_definition() {
    for shape in [(2, 1, 1, 128), (1, 17, 2, 128), (1, 65, 1, 128), (1, 200, 1, 128)] {
        Case::random(sizes(shape, usize::MAX)).check();
    }
}

#[test]
fn other_heads_follow_the_definition() {
    let shapes = [(2, 17, 3, 8), (1, 65, 2, 5), (1, 40, 1, 33), (1, 200, 2, 16), (1, 20, 2, 256)];
    for shape in shapes {
        Case::random(sizes(shape, usize::MAX)).check();
        Case::random(sizes(shape, 7)).check();
    }
}

#[test]
fn windows_follow_the_definition() {
    for window in [1, 7, 64, 100] {
        Case::random(sizes((1, 257, 1, 64), window)).check();
    }
    for window in [1, 7, 64, 100] {
        Case::random(sizes((1, 200, 1, 128), window)).check();
    }
    Case::random(sizes((2, 65, 2, 12), 1)).check();
    Case::random(sizes((1, 130, 1, 32), 64)).check();
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
        Case::with_scores(sizes(shape, usize::MAX), rising).check();
        Case::with_scores(sizes(shape, usize::MAX), falling).check();
        Case::with_scores(sizes(shape, 70), jumping).check();
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
            case.compare(&case.run_from(&machine, 1), &want);
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
