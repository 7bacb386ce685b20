//! Muon against its definition in double precision.
#![cfg(any(feature = "emulator", feature = "cuda"))]

mod support;

use std::sync::LazyLock;

use forerunner_kernels::{
    Buffer, Machine, MuonSettings, MuonTensor, Schedule, StepTables, Type, View, muon,
};
use support::{assert_close, machines, noise, rounded};

const SCALE: f32 = 0.6;

/// Three roundings of up to 2⁻⁹ in each of five iterations, that of `G` times a coefficient of -4.8.
const BOUND: f64 = 0.03;

/// The iteration of Jordan et al. 2024, and the first ones of Amsel et al., arXiv 2505.16932, section 4, with
/// their safety factor.
const QUINTIC: [[f64; 3]; 5] = [[3.4445, -4.7750, 2.0315]; 5];
static POLAR_EXPRESS: LazyLock<Vec<[f64; 3]>> = LazyLock::new(|| {
    let listed = [
        [8.28721201814563, -23.595886519098837, 17.300387312530933],
        [4.107059111542203, -2.9478499167379106, 0.5448431082926601],
        [3.9486908534822946, -2.908902115962949, 0.5518191394370137],
        [3.3184196573706015, -2.488488024314874, 0.51004894012372],
        [2.300652019954817, -1.6689039845747493, 0.4188073119525673],
        [1.891301407787398, -1.2679958271945868, 0.37680408948524835],
        [1.8750014808534479, -1.2500016453999487, 0.3750001645474248],
    ];
    let safe = |[a, b, c]: [f64; 3]| [a / 1.01, b / 1.01f64.powi(3), c / 1.01f64.powi(5)];
    listed.map(safe).into_iter().chain([[1.875, -1.25, 0.375]]).collect()
});

const SETTINGS: MuonSettings<'static> = MuonSettings {
    learning_rate: 0.02,
    momentum: 0.95,
    nesterov: true,
    weight_decay: 0.1,
    iterations: &QUINTIC,
    parts: 1,
};

/// Of every shape, and several of some; the fourth, in three parts, makes three more squares, and the
/// parts of the last start at odd addresses.
const SHAPES: [(usize, usize, usize); 11] = [
    (32, 32, 1),
    (64, 24, 1),
    (24, 64, 1),
    (96, 32, 3),
    (33, 17, 1),
    (1, 16, 1),
    (9, 1, 1),
    (64, 130, 1),
    (24, 64, 1),
    (1, 1, 1),
    (15, 5, 3),
];

/// A matrix by rows.
#[derive(Clone)]
struct Matrix {
    rows: usize,
    columns: usize,
    values: Vec<f64>,
}

impl Matrix {
    fn at(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.columns + column]
    }

    fn turned(&self) -> Self {
        let at = |i: usize| self.at(i % self.rows, i / self.rows);
        let values = (0..self.values.len()).map(at).collect();
        Self { rows: self.columns, columns: self.rows, values }
    }

    fn times(&self, other: &Self) -> Self {
        let at = |i: usize| {
            let (row, column) = (i / other.columns, i % other.columns);
            (0..self.columns).map(|k| self.at(row, k) * other.at(k, column)).sum()
        };
        let values = (0..self.rows * other.columns).map(at).collect();
        Self { rows: self.rows, columns: other.columns, values }
    }

    fn plus(&self, own: f64, factor: f64, other: &Self) -> Self {
        let sum = |(a, b): (&f64, &f64)| own * a + factor * b;
        Self { values: self.values.iter().zip(&other.values).map(sum).collect(), ..*self }
    }

    fn norm(&self) -> f64 {
        squares(&self.values).sqrt()
    }

    /// By rotations of pairs of columns until all are at right angles.
    fn singular_values(&self) -> Vec<f64> {
        let mut rows = if self.rows > self.columns { self.turned() } else { self.clone() };
        for _ in 0..30 {
            for i in 0..rows.rows {
                for j in 0..i {
                    rows.rotate(i, j);
                }
            }
        }
        rows.values.chunks(rows.columns).map(|row| squares(row).sqrt()).collect()
    }

    fn rotate(&mut self, i: usize, j: usize) {
        let (mut ii, mut jj, mut ij) = (0.0, 0.0, 0.0);
        for k in 0..self.columns {
            let (a, b) = (self.at(i, k), self.at(j, k));
            (ii, jj, ij) = (ii + a * a, jj + b * b, ij + a * b);
        }
        if ij == 0.0 {
            return;
        }
        let angle = 0.5 * f64::atan2(2.0 * ij, ii - jj);
        let (sin, cos) = angle.sin_cos();
        for k in 0..self.columns {
            let (a, b) = (self.at(i, k), self.at(j, k));
            self.values[i * self.columns + k] = cos * a + sin * b;
            self.values[j * self.columns + k] = cos * b - sin * a;
        }
    }

    fn orthogonalized(&self, iterations: &[[f64; 3]]) -> Self {
        if self.rows > self.columns {
            return self.turned().orthogonalized(iterations).turned();
        }
        let mut x = self.plus(1.0 / (self.norm() + 1e-7), 0.0, self);
        for &[a, b, c] in iterations {
            let gram = x.times(&x.turned());
            let factor = gram.plus(b, c, &gram.times(&gram));
            x = x.plus(a, 1.0, &factor.times(&x));
        }
        x
    }
}

struct State {
    parameter: Buffer,
    momentum: Buffer,
    shadow: Option<Buffer>,
    want: Vec<f64>,
    want_momentum: Vec<f64>,
}

impl State {
    fn new(machine: &Machine, idx: usize, size: usize) -> Self {
        let values = noise(size, 100 + idx as u64);
        Self {
            parameter: machine.upload_f32(Type::F32, &values).unwrap(),
            momentum: machine.zeros(Type::F32, size).unwrap(),
            shadow: idx.is_multiple_of(2).then(|| machine.scratch(Type::Bf16, size).unwrap()),
            want: values.iter().copied().map(f64::from).collect(),
            want_momentum: vec![0.0; size],
        }
    }
}

/// One step on all matrices; returns the sums.
fn step(
    machine: &Machine,
    tables: &mut StepTables,
    states: &mut [State],
    gradients: &[View<'_>],
    settings: impl Fn(usize) -> MuonSettings<'static>,
    is_scheduled: bool,
) -> Vec<f32> {
    let scale = machine.upload_f32(Type::F32, &[SCALE]).unwrap();
    let mut sums = machine.scratch(Type::F32, 3 * states.len()).unwrap();
    let mut tensors: Vec<MuonTensor<'_>> = states
        .iter_mut()
        .zip(gradients)
        .enumerate()
        .map(|(idx, (state, gradient))| MuonTensor {
            parameter: state.parameter.view_mut(),
            gradient: *gradient,
            momentum: state.momentum.view_mut(),
            shadow: state.shadow.as_mut().map(Buffer::view_mut),
            rows: SHAPES[idx].0,
            columns: SHAPES[idx].1,
            settings: match is_scheduled {
                true => {
                    let settings = settings(idx);
                    MuonSettings { learning_rate: 4.0 * settings.learning_rate, ..settings }
                }
                false => settings(idx),
            },
        })
        .collect();
    let numbers = machine.upload_f32(Type::F32, &[0.25, 3.0]).unwrap();
    let at = |idx| numbers.view().part(idx..idx + 1);
    let schedule = is_scheduled.then(|| Schedule { rate: at(0), step: at(1) });
    let (scale, sums_to) = (&scale.view(), &mut sums.view_mut());
    muon(machine, tables, &mut tensors, scale, schedule.as_ref(), Some(sums_to)).unwrap();
    machine.download(&sums.view()).unwrap()
}

fn exact(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

fn squares(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum()
}

/// The definition's step; returns how far it moves the parameter.
fn by_definition(
    state: &mut State,
    gradient: &[f64],
    (rows, columns, parts): (usize, usize, usize),
    settings: &MuonSettings<'_>,
) -> Vec<f64> {
    let decay = settings.momentum;
    let mut update = Vec::new();
    for (m, g) in state.want_momentum.iter_mut().zip(gradient) {
        let g = g * f64::from(SCALE);
        *m = decay * *m + (1.0 - decay) * g;
        update.push(if settings.nesterov { decay * *m + (1.0 - decay) * g } else { *m });
    }
    let rows = rows / parts;
    let stretch = (rows as f64 / columns as f64).max(1.0).sqrt();
    let before = state.want.clone();
    let orthogonal: Vec<f64> = update
        .chunks(rows * columns)
        .flat_map(|part| {
            let part = Matrix { rows, columns, values: part.to_vec() };
            part.orthogonalized(settings.iterations).values
        })
        .collect();
    let MuonSettings { learning_rate, weight_decay, .. } = *settings;
    for (p, x) in state.want.iter_mut().zip(&orthogonal) {
        *p = *p * (1.0 - learning_rate * weight_decay) - learning_rate * stretch * x;
    }
    state.want.iter().zip(&before).map(|(after, before)| after - before).collect()
}

fn settings_of(idx: usize) -> MuonSettings<'static> {
    MuonSettings {
        nesterov: !idx.is_multiple_of(3),
        weight_decay: if idx.is_multiple_of(2) { 0.0 } else { 0.1 },
        learning_rate: 0.02 / (idx + 1) as f64,
        parts: SHAPES[idx].2,
        // The second matrix of 24 x 64 goes another way than the first.
        iterations: if idx == 8 { &POLAR_EXPRESS[..5] } else { &QUINTIC },
        ..SETTINGS
    }
}

#[test]
fn muon_follows_the_definition() {
    let mut results = Vec::new();
    for machine in machines() {
        let mut tables = StepTables::new();
        let mut states: Vec<State> = SHAPES
            .iter()
            .enumerate()
            .map(|(idx, (rows, columns, _))| State::new(&machine, idx, rows * columns))
            .collect();
        for time in 0..2 {
            let types = |idx: usize| if idx % 3 == 1 { Type::Bf16 } else { Type::F32 };
            let values: Vec<Vec<f32>> = SHAPES
                .iter()
                .enumerate()
                .map(|(idx, (rows, columns, _))| noise(rows * columns, 1000 * time + idx as u64))
                .collect();
            let gradients: Vec<Buffer> = values
                .iter()
                .enumerate()
                .map(|(idx, values)| machine.upload_f32(types(idx), values).unwrap())
                .collect();
            let views: Vec<View<'_>> = gradients.iter().map(Buffer::view).collect();
            let before: Vec<Vec<f32>> = states
                .iter()
                .map(|state| machine.download(&state.parameter.view()).unwrap())
                .collect();
            let sums = step(&machine, &mut tables, &mut states, &views, settings_of, time == 1);
            for (idx, state) in states.iter_mut().enumerate() {
                let what = format!("{:?} in step {time}", SHAPES[idx]);
                let round = |x: f32| if types(idx) == Type::Bf16 { rounded(x) } else { x };
                let gradient: Vec<f64> = values[idx].iter().map(|&x| f64::from(round(x))).collect();
                let changes = by_definition(state, &gradient, SHAPES[idx], &settings_of(idx));
                let after = machine.download(&state.parameter.view()).unwrap();
                let moves: Vec<f32> =
                    after.iter().zip(&before[idx]).map(|(after, before)| after - before).collect();
                assert_close(&what, &moves, &changes, BOUND);
                let momentum = machine.download(&state.momentum.view()).unwrap();
                assert_close(&what, &momentum, &state.want_momentum, 1e-6);
                // Sums are of what was done, not of what bf16 should have done.
                let want = [&gradient, &exact(&moves), &exact(&before[idx])].map(|x| squares(x));
                for (got, want) in sums[3 * idx..].iter().zip(want) {
                    assert_close(&format!("sum of {what}"), &[*got], &[want], 1e-5);
                }
                if let Some(shadow) = &state.shadow {
                    let want: Vec<f32> = after.iter().map(|&value| rounded(value)).collect();
                    assert_eq!(machine.download(&shadow.view()).unwrap(), want, "{what}: shadow");
                }
            }
        }
        let download = |state: &State| machine.download(&state.parameter.view()).unwrap();
        results.push(states.iter().map(download).collect::<Vec<_>>());
    }
    if cfg!(feature = "emulator") {
        assert_eq!(results[0], results[1], "the order of threads shows");
    }
}

/// A matrix whose singular values fall from 1 to `least` in equal ratios.
fn falling(rows: usize, columns: usize, least: f64, seed: u64) -> Matrix {
    let short = rows.min(columns);
    let basis = |size: usize, seed| {
        // Orthonormal rows, by Gram and Schmidt.
        let values = noise(short * size, seed).into_iter().map(f64::from).collect();
        let mut basis = Matrix { rows: short, columns: size, values };
        for i in 0..short {
            for j in 0..i {
                let along: f64 = (0..size).map(|k| basis.at(i, k) * basis.at(j, k)).sum();
                for k in 0..size {
                    basis.values[i * size + k] -= along * basis.at(j, k);
                }
            }
            let row = &mut basis.values[i * size..(i + 1) * size];
            let norm = squares(row).sqrt();
            row.iter_mut().for_each(|x| *x /= norm);
        }
        basis
    };
    let (left, mut right) = (basis(rows, seed), basis(columns, seed + 1));
    for i in 0..short {
        let value = least.powf(i as f64 / (short - 1) as f64);
        right.values[i * columns..(i + 1) * columns].iter_mut().for_each(|x| *x *= value);
    }
    left.turned().times(&right)
}

/// The update of one matrix with a gradient alone, without learning rate and stretch.
fn update(machine: &Machine, gradient: &Matrix, settings: MuonSettings<'_>) -> Matrix {
    let &Matrix { rows, columns, ref values } = gradient;
    let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    let gradient = machine.upload_f32(Type::F32, &values).unwrap();
    let mut parameter = machine.zeros(Type::F32, values.len()).unwrap();
    let mut momentum = machine.zeros(Type::F32, values.len()).unwrap();
    let scale = machine.upload_f32(Type::F32, &[1.0]).unwrap();
    let tensor = MuonTensor {
        parameter: parameter.view_mut(),
        gradient: gradient.view(),
        momentum: momentum.view_mut(),
        shadow: None,
        rows,
        columns,
        settings,
    };
    muon(machine, &mut StepTables::new(), &mut [tensor], &scale.view(), None, None).unwrap();
    let stretch = (rows as f64 / columns as f64).max(1.0).sqrt();
    let factor = -1.0 / (settings.learning_rate * stretch);
    let moved = machine.download(&parameter.view()).unwrap();
    Matrix { rows, columns, values: moved.iter().map(|&p| factor * f64::from(p)).collect() }
}

#[test]
fn singular_values_land_where_the_polynomial_takes_them() {
    for machine in machines() {
        for (name, iterations, interval) in [
            ("quintic", &QUINTIC[..], 0.68..1.21),
            ("five of Polar Express", &POLAR_EXPRESS[..5], 0.84..1.13),
            ("Polar Express", &POLAR_EXPRESS[..], 1.0..1.0),
        ] {
            for (rows, columns) in [(32, 32), (24, 56), (56, 24)] {
                let gradient = falling(rows, columns, 0.02, 7);
                let settings = MuonSettings { iterations, ..SETTINGS };
                let values = update(&machine, &gradient, settings).singular_values();
                let what = format!("{name}, {rows} x {columns}");
                // Two roundings of 2⁻⁹ each remain of the last iteration.
                let interval = interval.start - 0.01..interval.end + 0.01;
                assert!(values.iter().all(|s| interval.contains(s)), "{what}: {values:?}");
            }
        }
    }
}

#[test]
fn nothing_comes_of_a_gradient_of_zeros() {
    for machine in machines() {
        let zeros = Matrix { rows: 16, columns: 8, values: vec![0.0; 128] };
        assert_eq!(update(&machine, &zeros, SETTINGS).norm(), 0.0);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    for machine in machines() {
        let scale = machine.zeros(Type::F32, 1).unwrap();
        let refused = |rows, columns, settings| {
            let mut memory = [0; 3].map(|_| machine.zeros(Type::F32, 12).unwrap());
            let [parameter, gradient, momentum] = &mut memory;
            let tensor = MuonTensor {
                parameter: parameter.view_mut(),
                gradient: gradient.view(),
                momentum: momentum.view_mut(),
                shadow: None,
                rows,
                columns,
                settings,
            };
            let mut tables = StepTables::new();
            let result = muon(&machine, &mut tables, &mut [tensor], &scale.view(), None, None);
            result.unwrap_err().to_string()
        };
        let with = |parts, n: usize| MuonSettings { parts, iterations: &QUINTIC[..n], ..SETTINGS };
        let message =
            "muon: `parameter of tensor 0` has 12 values of F32 where 20 of F32 were expected";
        assert_eq!(refused(4, 5, SETTINGS), message);
        assert_eq!(refused(4, 3, with(3, 5)), "muon: tensor 0: 4 rows do not split into 3 parts");
        assert_eq!(refused(4, 3, with(0, 5)), "muon: tensor 0: 4 rows do not split into 0 parts");
        assert_eq!(refused(0, 3, SETTINGS), "muon: tensor 0: a matrix of 0 x 3 is empty");
        let message = "muon: tensor 0: nothing becomes orthogonal in 0 iterations";
        assert_eq!(refused(4, 3, with(1, 0)), message);
    }
}
