//! Beliefs: normal, over effects that add up, and learned from sums of them.

use forerunner_sdk::Random;

/// A joint normal distribution of effects.
///
/// What several effects did together is kept as such: when one of them turns out to be small on
/// its own, the others are believed to be larger.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Belief {
    mean: Vec<f64>,
    covariance: Vec<Vec<f64>>,
}

/// A sum of effects: their indices, each with its factor.
pub(crate) type Sum = [(usize, f64)];

impl Belief {
    /// Independent effects with these means and standard deviations.
    pub(crate) fn new(priors: &[(f64, f64)]) -> Self {
        let n = priors.len();
        let mut covariance = vec![vec![0.0; n]; n];
        for (idx, (_, deviation)) in priors.iter().enumerate() {
            covariance[idx][idx] = deviation * deviation;
        }
        Self { mean: priors.iter().map(|(mean, _)| *mean).collect(), covariance }
    }

    /// Mean and standard deviation of a sum.
    pub(crate) fn of(&self, sum: &Sum) -> (f64, f64) {
        let mean = sum.iter().map(|(idx, factor)| factor * self.mean[*idx]).sum();
        let gains = self.covariances_with(sum);
        let variance: f64 = sum.iter().map(|(idx, factor)| factor * gains[*idx]).sum();
        (mean, variance.max(0.0).sqrt())
    }

    /// Learns that `sum` was measured as `value`, with an error of deviation `noise`.
    pub(crate) fn learn(&mut self, sum: &Sum, value: f64, noise: f64) {
        let (mean, deviation) = self.of(sum);
        let total = deviation * deviation + noise * noise;
        let shared = self.covariances_with(sum);
        for (row, share) in shared.iter().enumerate() {
            self.mean[row] += share / total * (value - mean);
            for (column, other) in shared.iter().enumerate() {
                self.covariance[row][column] -= share * other / total;
            }
        }
    }

    /// A possible world: one value of every effect. `width` 1 draws from the belief, 0 answers
    /// the means.
    pub(crate) fn draw(&self, width: f64, random: &mut Random) -> Vec<f64> {
        let factor = self.factor();
        let normals: Vec<f64> = self.mean.iter().map(|_| width * random.normal()).collect();
        let moved = |row: &Vec<f64>| row.iter().zip(&normals).map(|(a, b)| a * b).sum::<f64>();
        self.mean.iter().zip(&factor).map(|(mean, row)| mean + moved(row)).collect()
    }

    fn covariances_with(&self, sum: &Sum) -> Vec<f64> {
        let with = |row: &Vec<f64>| sum.iter().map(|(idx, factor)| factor * row[*idx]).sum();
        self.covariance.iter().map(with).collect()
    }

    /// The lower triangle whose square is the covariance (Cholesky).
    fn factor(&self) -> Vec<Vec<f64>> {
        let n = self.mean.len();
        let mut factor = vec![vec![0.0; n]; n];
        for row in 0..n {
            for column in 0..=row {
                let dot: f64 = (0..column).map(|k| factor[row][k] * factor[column][k]).sum();
                let rest = self.covariance[row][column] - dot;
                factor[row][column] = if row == column {
                    // Rounding may leave a little less than nothing.
                    rest.max(1e-12).sqrt()
                } else {
                    rest / factor[column][column]
                };
            }
        }
        factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_measurement_moves_the_belief_towards_it() {
        let mut belief = Belief::new(&[(0.2, 0.1), (0.0, 0.3)]);
        belief.learn(&[(0, 1.0)], 0.5, 0.1);
        let (mean, deviation) = belief.of(&[(0, 1.0)]);
        assert!((mean - 0.35).abs() < 1e-12 && (deviation - 0.005_f64.sqrt()).abs() < 1e-12);
        assert_eq!(belief.of(&[(1, 1.0)]), (0.0, 0.3));
        belief.learn(&[(1, -1.0)], 0.5, 0.1);
        assert!(belief.of(&[(1, 1.0)]).0 < -0.4, "a removal that gains speaks against it");
    }

    #[test]
    fn what_one_did_not_do_the_other_did() {
        let mut belief = Belief::new(&[(0.1, 0.2), (0.1, 0.2)]);
        belief.learn(&[(0, 1.0), (1, 1.0)], 0.6, 0.05);
        let together = belief.of(&[(1, 1.0)]).0;
        belief.learn(&[(0, 1.0)], 0.0, 0.05);
        assert!(belief.of(&[(1, 1.0)]).0 > together + 0.1);
        let both = belief.of(&[(0, 1.0), (1, 1.0)]);
        assert!((both.0 - 0.57).abs() < 0.05 && both.1 < 0.06, "{both:?}");
    }

    #[test]
    fn draws_follow_the_belief() {
        let mut belief = Belief::new(&[(0.1, 0.2), (0.1, 0.2)]);
        belief.learn(&[(0, 1.0), (1, 1.0)], 0.6, 0.05);
        let mut random = Random::new(1);
        let draws: Vec<_> = (0..4000).map(|_| belief.draw(1.0, &mut random)).collect();
        let n = draws.len() as f64;
        let mean = draws.iter().map(|d| d[0]).sum::<f64>() / n;
        let variance = draws.iter().map(|d| (d[0] - mean).powi(2)).sum::<f64>() / n;
        let (expected, deviation) = belief.of(&[(0, 1.0)]);
        assert!((mean - expected).abs() < 0.01 && (variance.sqrt() - deviation).abs() < 0.01);
        let sums = draws.iter().map(|d| (d[0] + d[1] - 2.0 * expected).powi(2)).sum::<f64>() / n;
        assert!((sums.sqrt() - belief.of(&[(0, 1.0), (1, 1.0)]).1).abs() < 0.005);
        let still = belief.draw(0.0, &mut random);
        assert!((still[0] - expected).abs() < 1e-12);
    }
}
