//! A surrogate of one objective: Bayesian regression of second degree, in its kernel form.
//!
//! The logarithm of an objective is modelled as `offset + slopes · x + curvatures · x²` with a
//! few cross terms, where `x` is the position relative to the parent. Slopes and curvatures have
//! normal priors of one common size, chosen by evidence from a short list; curvatures lean towards
//! worse, since a parent is no random program. This is what a search of ten to thirty evaluations
//! can learn; it makes no claim far from what was measured.

/// A measured program: where it is, and which code it has.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    /// Position relative to the parent.
    pub(crate) x: Vec<f64>,
    /// Programs of equal code share an offset.
    pub(crate) skeleton: u64,
}

/// Prior standard deviations of a slope (per unit of position) to choose from, and the logarithm
/// of their prior weight.
const SLOPES: [(f64, f64); 5] =
    [(0.02, -1.0), (0.06, -0.2), (0.15, 0.0), (0.35, -0.2), (0.8, -1.0)];

/// Prior mean of a curvature in units of the slope's standard deviation; positive is worse.
const CURVATURE_MEAN: f64 = 0.25;

/// Prior variance of a curvature and of a cross term, in units of the slope's variance.
const CURVATURE_VARIANCE: f64 = 0.06;
const CROSS_VARIANCE: f64 = 0.03;

/// Prior standard deviations of the offset: common to all programs, and of each code. Wide:
/// levels are measured, not guessed.
const COMMON_OFFSET: f64 = 1.0;
const OWN_OFFSET: f64 = 0.3;

/// A fitted surrogate.
#[derive(Debug, Clone)]
pub(crate) struct Surrogate {
    points: Vec<Point>,
    level: f64,
    slope: f64,
    noise: f64,
    /// Lower triangle of the Cholesky factor, row by row.
    factor: Vec<Vec<f64>>,
    weights: Vec<f64>,
}

/// What a surrogate expects.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Prediction {
    pub(crate) mean: f64,
    /// Standard deviation of the true value, without measuring noise.
    pub(crate) sd: f64,
}

impl Surrogate {
    /// Fits to `values` at `points` (as many) with measuring noise of standard deviation `noise`.
    pub(crate) fn fit(points: &[Point], values: &[f64], noise: f64) -> Self {
        let covariances: Vec<Vec<Covariance>> = points
            .iter()
            .enumerate()
            .map(|(idx, point)| {
                points[..=idx].iter().map(|other| Covariance::new(point, other)).collect()
            })
            .collect();
        let candidates = SLOPES.iter().map(|(slope, prior)| {
            let (fitted, evidence) = Self::with_slope(points, values, &covariances, noise, *slope);
            (fitted, evidence + prior)
        });
        let best = candidates.reduce(|best, next| if next.1 > best.1 { next } else { best });
        best.map(|(fitted, _)| fitted).expect("the list of slopes is not empty")
    }

    fn with_slope(
        points: &[Point],
        values: &[f64],
        covariances: &[Vec<Covariance>],
        noise: f64,
        slope: f64,
    ) -> (Self, f64) {
        let level = values.iter().sum::<f64>() / values.len().max(1) as f64;
        let residuals: Vec<f64> = points
            .iter()
            .zip(values)
            .map(|(point, value)| value - level - lean(slope, point))
            .collect();
        let mut factor: Vec<Vec<f64>> = Vec::with_capacity(points.len());
        for row in covariances {
            let column: Vec<f64> = row.iter().map(|covariance| covariance.at(slope)).collect();
            extend(&mut factor, column, noise);
        }
        let half = solve_lower(&factor, &residuals);
        let log_determinant: f64 =
            factor.iter().map(|row| row.last().map_or(0.0, |x| x.ln())).sum();
        let evidence = -0.5 * dot(&half, &half) - log_determinant;
        let weights = solve_upper(&factor, half);
        let points = points.to_vec();
        (Self { points, level, slope, noise, factor, weights }, evidence)
    }

    /// The same surrogate as if `points` had been measured and turned out as predicted: the
    /// means stay, the deviations shrink.
    pub(crate) fn believing(mut self, points: &[Point]) -> Self {
        for point in points {
            self.points.push(point.clone());
            let column = self.column(point);
            extend(&mut self.factor, column, self.noise);
            // An observation that is no surprise adds a weight of 0.
            self.weights.push(0.0);
        }
        self
    }

    pub(crate) fn predict(&self, point: &Point) -> Prediction {
        let column = self.column(point);
        let half = solve_lower(&self.factor, &column);
        let variance = Covariance::new(point, point).at(self.slope) - dot(&half, &half);
        let mean = self.level + lean(self.slope, point) + dot(&column, &self.weights);
        Prediction { mean, sd: variance.max(0.0).sqrt() }
    }

    /// Covariances of `point` with the measured ones.
    fn column(&self, point: &Point) -> Vec<f64> {
        self.points.iter().map(|other| Covariance::new(point, other).at(self.slope)).collect()
    }
}

/// Adds a row to a Cholesky factor: `column` holds the covariances with the earlier points and,
/// last, the variance.
fn extend(factor: &mut Vec<Vec<f64>>, mut column: Vec<f64>, noise: f64) {
    let variance = column.pop().unwrap_or(0.0) + noise * noise;
    let mut row = solve_lower(factor, &column);
    let rest = variance - dot(&row, &row);
    row.push(rest.max(1e-12).sqrt());
    factor.push(row);
}

/// Prior mean of the distance from the offset.
fn lean(slope: f64, point: &Point) -> f64 {
    CURVATURE_MEAN * slope * point.x.iter().map(|x| x * x).sum::<f64>()
}

/// Prior covariance of two programs' values, in two parts.
#[derive(Debug, Clone, Copy)]
struct Covariance {
    offset: f64,
    /// In units of the slope's variance.
    shape: f64,
}

impl Covariance {
    fn new(a: &Point, b: &Point) -> Self {
        let (mut product, mut squares) = (0.0, 0.0);
        for (a, b) in a.x.iter().zip(&b.x) {
            let ab = a * b;
            product += ab;
            squares += ab * ab;
        }
        let shape = product + CURVATURE_VARIANCE * squares + CROSS_VARIANCE * product * product;
        let own = if a.skeleton == b.skeleton { OWN_OFFSET * OWN_OFFSET } else { 0.0 };
        Self { offset: COMMON_OFFSET * COMMON_OFFSET + own, shape }
    }

    fn at(self, slope: f64) -> f64 {
        self.offset + slope * slope * self.shape
    }
}

/// The inner product, in four sums at a time: a single one waits for each addition.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len().min(b.len());
    let (a, a_rest) = a[..n].as_chunks::<4>();
    let (b, b_rest) = b[..n].as_chunks::<4>();
    let mut sums = [0.0; 4];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..4 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// Solves `L y = b` for a lower triangle `L`.
fn solve_lower(factor: &[Vec<f64>], b: &[f64]) -> Vec<f64> {
    let mut y: Vec<f64> = Vec::with_capacity(b.len() + 1);
    for (row, b) in factor.iter().zip(b) {
        let (last, head) = row.split_last().expect("a row ends on the diagonal");
        y.push((b - dot(head, &y)) / last);
    }
    y
}

/// Solves `Lᵀ x = y`.
fn solve_upper(factor: &[Vec<f64>], mut y: Vec<f64>) -> Vec<f64> {
    for idx in (0..y.len()).rev() {
        let row = &factor[idx];
        y[idx] /= row[idx];
        let solved = y[idx];
        for (earlier, l) in y[..idx].iter_mut().zip(row) {
            *earlier -= l * solved;
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use forerunner_sdk::Random;

    fn point(x: &[f64]) -> Point {
        Point { x: x.to_vec(), skeleton: 1 }
    }

    #[test]
    fn a_quadratic_is_learnt_from_few_noisy_points() {
        let truth = |x: &[f64]| 2.0 - 0.2 * x[0] + 0.1 * (x[1] - 0.5) * (x[1] - 0.5);
        let mut random = Random::new(3);
        let points: Vec<Point> = (0..16)
            .map(|_| {
                point(&[random.between(-1.0, 1.0), random.between(-1.0, 1.0), random.normal()])
            })
            .collect();
        let values: Vec<f64> =
            points.iter().map(|p| truth(&p.x) + 0.005 * random.normal()).collect();
        let surrogate = Surrogate::fit(&points, &values, 0.005);
        for x in [[0.5, 0.5, 0.0], [-0.5, -0.5, 0.3], [0.0, 0.0, 0.0]] {
            let prediction = surrogate.predict(&point(&x));
            let error = prediction.mean - truth(&x);
            assert!(error.abs() < 0.02, "{x:?}: {prediction:?} instead of {}", truth(&x));
            assert!(prediction.sd < 0.02, "{prediction:?}");
        }
    }

    #[test]
    fn believing_keeps_the_mean_and_shrinks_the_deviation() {
        let points = [point(&[0.0, 0.0]), point(&[0.5, 0.0]), point(&[0.0, 0.4])];
        let surrogate = Surrogate::fit(&points, &[1.0, 0.9, 1.02], 0.01);
        let open = point(&[0.3, -0.5]);
        let (before, after) = (
            surrogate.predict(&open),
            surrogate.clone().believing(std::slice::from_ref(&open)).predict(&open),
        );
        assert!((before.mean - after.mean).abs() < 1e-9, "{before:?} {after:?}");
        assert!(after.sd < 0.5 * before.sd, "{before:?} {after:?}");
    }

    #[test]
    fn other_code_has_its_own_level() {
        let other = |x: &[f64]| Point { x: x.to_vec(), skeleton: 2 };
        let points = [point(&[0.0]), point(&[0.6]), other(&[0.6]), other(&[-0.6])];
        let surrogate = Surrogate::fit(&points, &[1.0, 0.9, 1.3, 1.5], 0.01);
        assert!((surrogate.predict(&point(&[0.6])).mean - 0.9).abs() < 0.03);
        assert!(surrogate.predict(&other(&[0.0])).mean > 1.2);
    }
}
