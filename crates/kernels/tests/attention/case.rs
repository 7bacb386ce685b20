//! One attention: its inputs, its definition in double precision, and a machine's results.

use forerunner_kernels::{
    AttentionSizes, Machine, Type, ViewMut, attention_backward, attention_forward,
};

use crate::support::{assert_close, machines, noise, rounded_all};

/// Bounds of relative norms, from what roundings make of them. A result is rounded to bf16, whose steps
/// are 2⁻⁸ to 2⁻⁷ of a value: errors even within half a step either way, 1.7e-3 of it on average. The
/// shares that meet values are rounded likewise, independently of each other, so that little is added.
const OF_RESULTS: f64 = 3e-3;
/// Gradients are rounded three times, as slopes, as results, and by the rounded y that slopes use.
const OF_GRADIENTS: f64 = 5e-3;
/// Sums of exponentials are f32 all the way; a device's own exponentials are good to 2⁻²².
const OF_LOG_SUMS: f64 = 1e-5;

/// What an error of gradients is compared with.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Measure {
    /// The gradients themselves.
    Gradients,
    /// The absolute values of their terms, where these cancel each other: a gradient of queries is
    /// the difference of keys, and that of equal keys is nothing but roundings.
    Terms,
}

pub(crate) struct Case {
    pub(crate) sizes: AttentionSizes,
    pub(crate) qkv: Vec<f32>,
    pub(crate) dy: Vec<f32>,
}

pub(crate) struct Outcome<T> {
    pub(crate) y: Vec<T>,
    pub(crate) log_sums: Vec<T>,
    pub(crate) dqkv: Vec<T>,
    /// Sums of the absolute values of what `dqkv` is the sum of; no part of a run's outcome.
    terms: Vec<T>,
}

pub(crate) fn sizes(
    (batch, length, heads, head_width): (usize, usize, usize, usize),
    window: usize,
) -> AttentionSizes {
    AttentionSizes { batch, length, heads, head_width, window }
}

impl Case {
    pub(crate) fn random(sizes: AttentionSizes) -> Self {
        let values = sizes.batch * sizes.length * sizes.heads * sizes.head_width;
        // Scores that matter: their standard deviation is about 4/3.
        let qkv = noise(3 * values, 1).iter().map(|x| 2.0 * x).collect();
        Self { sizes, qkv, dy: noise(values, 2) }
    }

    /// Random but for scores, which are about `score(key)` for all queries.
    pub(crate) fn with_scores(sizes: AttentionSizes, score: impl Fn(usize) -> f32) -> Self {
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
    pub(crate) fn want(&self) -> Outcome<f64> {
        let AttentionSizes { batch, length, heads, head_width: width, window } = self.sizes;
        let channels = heads * width;
        let (qkv, dy) = (rounded_all(&self.qkv), rounded_all(&self.dy));
        let mut y = vec![0.0; dy.len()];
        let mut log_sums = vec![0.0; batch * heads * length];
        let mut dqkv = vec![0.0; qkv.len()];
        let mut terms = vec![0.0; qkv.len()];
        let sizes_of = |values: &[f64]| values.iter().map(|x| x.abs()).collect::<Vec<_>>();
        let (qkv_sizes, dy_sizes) = (sizes_of(&qkv), sizes_of(&dy));
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
                    let of_share = dot(&dy[plain(query)], &qkv[packed(2, key)]);
                    let slope = share * (of_share - own) * scale;
                    add(&mut dqkv[packed(0, query)], slope, &qkv[packed(1, key)]);
                    add(&mut dqkv[packed(1, key)], slope, &qkv[packed(0, query)]);
                    add(&mut dqkv[packed(2, key)], share, &dy[plain(query)]);
                    let size = share * (of_share.abs() + own.abs()) * scale;
                    add(&mut terms[packed(0, query)], size, &qkv_sizes[packed(1, key)]);
                    add(&mut terms[packed(1, key)], size, &qkv_sizes[packed(0, query)]);
                    add(&mut terms[packed(2, key)], share, &dy_sizes[plain(query)]);
                }
            }
        }
        Outcome { y, log_sums, dqkv, terms }
    }

    pub(crate) fn run(&self, machine: &Machine) -> Outcome<f32> {
        self.run_from(machine, 0)
    }

    /// With all bf16 memory from the value `start` of a buffer on: not aligned unless zero.
    pub(crate) fn run_from(&self, machine: &Machine, start: usize) -> Outcome<f32> {
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
            terms: Vec::new(),
        }
    }

    #[track_caller]
    pub(crate) fn check(&self, measure: Measure) {
        self.check_on(&machines(), measure);
    }

    /// On devices only: too much for the emulator.
    #[expect(clippy::print_stderr, reason = "what is skipped says so")]
    pub(crate) fn check_on_devices(&self) {
        let machines = machines();
        let devices: Vec<Machine> =
            machines.into_iter().filter(|machine| machine.name() != "emulator").collect();
        if devices.is_empty() {
            eprintln!("skipped without a device: {:?}", self.sizes);
        } else {
            self.check_on(&devices, Measure::Gradients);
        }
    }

    #[track_caller]
    fn check_on(&self, machines: &[Machine], measure: Measure) {
        let want = self.want();
        let mut emulated: Option<Outcome<f32>> = None;
        for machine in machines {
            let got = self.run(machine);
            self.compare(&got, &want, measure);
            if machine.name() == "emulator" {
                if let Some(other) = &emulated {
                    self.assert_same(&got, other);
                }
                emulated = Some(got);
            } else {
                self.assert_same(&got, &self.run(machine));
            }
        }
    }

    /// To the last bit: under another schedule, or again on the same device.
    #[track_caller]
    fn assert_same(&self, one: &Outcome<f32>, other: &Outcome<f32>) {
        let what = format!("results differ for {:?}", self.sizes);
        assert_eq!(bits(&one.y), bits(&other.y), "y: {what}");
        assert_eq!(bits(&one.log_sums), bits(&other.log_sums), "log_sums: {what}");
        assert_eq!(bits(&one.dqkv), bits(&other.dqkv), "dqkv: {what}");
    }

    #[track_caller]
    pub(crate) fn compare(&self, got: &Outcome<f32>, want: &Outcome<f64>, measure: Measure) {
        let of = |what: &str| format!("{what} of {:?}", self.sizes);
        assert_close(&of("y"), &got.y, &want.y, OF_RESULTS);
        assert_close(&of("log_sums"), &got.log_sums, &want.log_sums, OF_LOG_SUMS);
        let channels = self.sizes.heads * self.sizes.head_width;
        for (third, name) in ["dq", "dk", "dv"].into_iter().enumerate() {
            let part = |values: &[f64]| pick(values, third, channels);
            let (got, want_all) = (pick(&got.dqkv, third, channels), part(&want.dqkv));
            // Values are only added up.
            if measure == Measure::Gradients || name == "dv" {
                assert_close(&of(name), &got, &want_all, OF_GRADIENTS);
            } else {
                let error = norm(got.iter().zip(&want_all).map(|(&a, b)| f64::from(a) - b))
                    / norm(part(&want.terms).into_iter());
                assert!(error <= OF_GRADIENTS, "{}: {error:.2e} of the terms", of(name));
            }
        }
    }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

fn pick<T: Copy>(values: &[T], third: usize, channels: usize) -> Vec<T> {
    let rows = values.chunks_exact(3 * channels);
    rows.flat_map(|row| row[third * channels..][..channels].iter().copied()).collect()
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
