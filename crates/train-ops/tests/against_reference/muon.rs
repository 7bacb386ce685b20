//! Muon against its formula in plain `f64` loops, and the singular values of its updates.

use candle_core::{DType, Device, Tensor, Var};
use forerunner_train_ops as ops;

use crate::check::noise;
use crate::optimizers::{follow, values};

/// A row-major matrix in `f64`: rows, columns, values.
#[derive(Clone)]
struct Matrix(usize, usize, Vec<f64>);

impl Matrix {
    fn transposed(&self) -> Self {
        let Self(rows, columns, values) = self;
        let at = |i: usize| values[i % rows * columns + i / rows];
        Self(*columns, *rows, (0..rows * columns).map(at).collect())
    }

    fn times(&self, other: &Self) -> Self {
        assert_eq!(self.1, other.0);
        let mut values = vec![0.0; self.0 * other.1];
        for i in 0..self.0 {
            for l in 0..self.1 {
                for j in 0..other.1 {
                    values[i * other.1 + j] += self.2[i * self.1 + l] * other.2[l * other.1 + j];
                }
            }
        }
        Self(self.0, other.1, values)
    }

    /// `factor · self + other_factor · other`.
    fn mixed(&self, factor: f64, other: &Self, other_factor: f64) -> Self {
        let values = self.2.iter().zip(&other.2).map(|(a, b)| factor * a + other_factor * b);
        Self(self.0, self.1, values.collect())
    }

    /// The largest size of an eigenvalue of a symmetric matrix, by power iteration.
    fn spectral_norm(&self) -> f64 {
        let mut x = Self(self.1, 1, (0..self.1).map(|i| (i as f64 + 1.0).sin()).collect());
        let mut norm = 0.0;
        for _ in 0..1000 {
            let y = self.times(&x);
            norm = y.2.iter().map(|v| v * v).sum::<f64>().sqrt();
            x = y.mixed(1.0 / norm, &y, 0.0);
        }
        norm
    }
}

/// Newton-Schulz iterations as published, one after the other.
fn orthogonalized(x: Matrix, coefficients: impl Iterator<Item = [f64; 3]>) -> Matrix {
    if x.0 > x.1 {
        return orthogonalized(x.transposed(), coefficients).transposed();
    }
    let norm = x.2.iter().map(|v| v * v).sum::<f64>().sqrt();
    coefficients.fold(x.mixed(1.0 / (norm + 1e-7), &x, 0.0), |x, [a, b, c]| {
        let gram = x.times(&x.transposed());
        let polynomial = gram.mixed(b, &gram.times(&gram), c);
        x.mixed(a, &polynomial.times(&x), 1.0)
    })
}

fn coefficients(polynomial: ops::Polynomial, iterations: usize) -> Vec<[f64; 3]> {
    match polynomial {
        ops::Polynomial::Quintic => vec![[3.4445, -4.7750, 2.0315]; iterations],
        // The coefficients of arXiv 2505.16932, which are divided by 1.01, 1.01³ and 1.01⁵.
        ops::Polynomial::PolarExpress => [
            [8.28721201814563, -23.595886519098837, 17.300387312530933],
            [4.107059111542203, -2.9478499167379106, 0.5448431082926601],
            [3.9486908534822946, -2.908902115962949, 0.5518191394370137],
            [3.3184196573706015, -2.488488024314874, 0.51004894012372],
            [2.300652019954817, -1.6689039845747493, 0.4188073119525673],
            [1.891301407787398, -1.2679958271945868, 0.37680408948524835],
            [1.8750014808534479, -1.2500016453999487, 0.3750001645474248],
        ]
        .map(|[a, b, c]| [a / 1.01, b / 1.01f64.powi(3), c / 1.01f64.powi(5)])
        .into_iter()
        .chain(std::iter::repeat([1.875, -1.25, 0.375]))
        .take(iterations)
        .collect(),
    }
}

fn muon_settings(polynomial: ops::Polynomial) -> ops::Muon {
    ops::Muon {
        learning_rate: 0.05,
        momentum: 0.9,
        nesterov: true,
        weight_decay: 0.2,
        iterations: 5,
        parts: 1,
        polynomial,
    }
}

/// Follows `settings` on a parameter of the given shape.
fn follow_muon(shape: [usize; 2], settings: ops::Muon) {
    let [rows, columns] = [shape[0] / settings.parts, shape[1]];
    let mut momentum = ops::Momentum::zeros_like(&noise(&shape, 1));
    let mut m = vec![0.0; shape[0] * shape[1]];
    let rate = 0.05 * (rows as f64 / columns as f64).max(1.0).sqrt();
    follow(
        &shape,
        2e-4,
        |p, g, scale, _| ops::muon(p, g, scale, &mut momentum, &settings),
        |p, g, _| {
            m.iter_mut().zip(g).for_each(|(m, g)| *m = 0.9 * *m + 0.1 * g);
            let look_ahead = |(m, g): (&f64, &f64)| 0.9 * m + 0.1 * g;
            let update: Vec<f64> = if settings.nesterov {
                m.iter().zip(g).map(look_ahead).collect()
            } else {
                m.clone()
            };
            for (p, update) in p.chunks_mut(rows * columns).zip(update.chunks(rows * columns)) {
                let coefficients = coefficients(settings.polynomial, settings.iterations);
                let update = Matrix(rows, columns, update.to_vec());
                let update = orthogonalized(update, coefficients.into_iter());
                for (p, update) in p.iter_mut().zip(update.2) {
                    *p -= rate * update + 0.05 * 0.2 * *p;
                }
            }
        },
    );
}

#[test]
fn muon() {
    for polynomial in [ops::Polynomial::Quintic, ops::Polynomial::PolarExpress] {
        let settings = muon_settings(polynomial);
        for shape in [[1, 1], [1, 5], [5, 1], [8, 8], [5, 13], [13, 5], [6, 7], [64, 24], [24, 64]]
        {
            follow_muon(shape, settings);
            follow_muon(shape, ops::Muon { nesterov: false, ..settings });
        }
        follow_muon([21, 13], ops::Muon { parts: 3, ..settings });
        follow_muon([51, 5], ops::Muon { parts: 3, ..settings });
        for iterations in [1, 2, 6, 9, 12] {
            follow_muon([6, 7], ops::Muon { iterations, ..settings });
            follow_muon([7, 19], ops::Muon { iterations, ..settings });
        }
    }
}

#[test]
fn muon_makes_updates_nearly_orthogonal() {
    for polynomial in [ops::Polynomial::Quintic, ops::Polynomial::PolarExpress] {
        for (rows, columns, parts) in [(16, 64, 1), (96, 48, 1), (36, 48, 1), (3 * 24, 64, 3)] {
            let parameter = Var::zeros((rows, columns), DType::F32, &Device::Cpu).unwrap();
            let mut momentum = ops::Momentum::zeros_like(&parameter);
            let settings = ops::Muon { learning_rate: 1.0, parts, ..muon_settings(polynomial) };
            let (gradient, one) =
                (noise(&[rows, columns], 3), Tensor::new(1f32, &Device::Cpu).unwrap());
            ops::muon(&parameter, &gradient, &one, &mut momentum, &settings).unwrap();
            let rows = rows / parts;
            for part in values(&parameter).chunks(rows * columns) {
                let x = Matrix(rows, columns, part.to_vec());
                let (x, stretch) = if rows > columns {
                    (x.transposed(), rows as f64 / columns as f64)
                } else {
                    (x, 1.0)
                };
                let gram = x.times(&x.transposed());
                // Squares of singular values between 0.68 and 1.25 lie within 0.55 of 1.01.
                let mut middle = gram.mixed(0.0, &gram, 0.0);
                middle.2.iter_mut().step_by(gram.1 + 1).for_each(|diagonal| *diagonal = 1.01);
                let off = gram.mixed(1.0 / stretch, &middle, -1.0).spectral_norm();
                assert!(off < 0.55, "{polynomial:?}, {rows} by {columns}: off by {off}");
            }
        }
    }
}

#[test]
fn muon_stands_still_without_a_gradient() {
    let parameter = noise(&[4, 6], 1);
    let before = values(&parameter);
    let mut momentum = ops::Momentum::zeros_like(&parameter);
    let settings = ops::Muon { weight_decay: 0.0, ..muon_settings(ops::Polynomial::Quintic) };
    let zero = Tensor::new(0f32, &Device::Cpu).unwrap();
    ops::muon(&parameter, &noise(&[4, 6], 2), &zero, &mut momentum, &settings).unwrap();
    assert_eq!(values(&parameter), before);
}
