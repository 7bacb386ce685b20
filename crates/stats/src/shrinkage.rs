//! How much of a lucky first result is real.

/// Pulls a child's few measurements towards its parent: `μ̃ = μ + λ (x̄ - μ)` with
/// `λ = τ²/(τ² + σ²/n)`.
///
/// The best of many candidates after one run each is mostly luck (the winner's curse). Ranking by
/// the shrunken estimate (empirical Bayes; James and Stein 1961, Efron and Morris 1973) undoes it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shrinkage {
    /// Variance of true effects between child and parent.
    pub effect_variance: f64,
    /// Variance of one measured paired difference around its true effect.
    pub noise_variance: f64,
}

impl Shrinkage {
    /// Learns the variance of true effects from past paired differences by the method of moments:
    /// what their mean square has more than noise explains, never below 0. Each item is a mean
    /// difference and the number of pairs behind it. `None` without items, with a count of 0, or
    /// with numbers that are not finite.
    ///
    /// The mean square is taken around zero, the parent's own level: most changes do nothing.
    pub fn learn(differences: &[(f64, usize)], noise_variance: f64) -> Option<Self> {
        let usable = differences.iter().all(|(mean, n)| mean.is_finite() && *n > 0);
        if differences.is_empty() || !usable || noise_variance.is_nan() || noise_variance < 0.0 {
            return None;
        }
        let count = differences.len() as f64;
        let excess: f64 =
            differences.iter().map(|(mean, n)| mean * mean - noise_variance / *n as f64).sum();
        Some(Self { effect_variance: (excess / count).max(0.0), noise_variance })
    }

    /// The share λ of an observed difference over `n` pairs that is believed, in `0.0..=1.0`.
    pub fn believed_share(&self, n: usize) -> f64 {
        if n == 0 || self.effect_variance == 0.0 {
            return 0.0;
        }
        self.effect_variance / (self.effect_variance + self.noise_variance / n as f64)
    }

    /// The shrunken estimate of a child whose mean over `n` runs paired with its parent is
    /// `child`.
    pub fn estimate(&self, parent: f64, child: f64, n: usize) -> f64 {
        parent + self.believed_share(n) * (child - parent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::Normals;

    #[test]
    fn the_winner_of_many_is_brought_back_to_its_true_value() {
        // 200 candidates, true effects of SD 0.3, one run each of SD 1; higher is better here.
        let mut normals = Normals::new(11);
        let (mut shown, mut shrunken, mut truth) = (0.0, 0.0, 0.0);
        let searches = 300;
        for _ in 0..searches {
            let candidates: Vec<(f64, f64)> = (0..200)
                .map(|_| {
                    let effect = 0.3 * normals.next();
                    (effect, effect + normals.next())
                })
                .collect();
            let past: Vec<(f64, usize)> = candidates.iter().map(|(_, seen)| (*seen, 1)).collect();
            let shrinkage = Shrinkage::learn(&past, 1.0).expect("finite");
            let (effect, seen) = candidates
                .into_iter()
                .max_by(|a, b| a.1.total_cmp(&b.1))
                .expect("two hundred candidates");
            shown += seen / f64::from(searches);
            shrunken += shrinkage.estimate(0.0, seen, 1) / f64::from(searches);
            truth += effect / f64::from(searches);
        }
        assert!((2.7..3.0).contains(&shown), "{shown}");
        assert!((0.2..0.3).contains(&truth), "{truth}");
        assert!((shrunken - truth).abs() < 0.06, "{shrunken} against {truth}");
    }

    #[test]
    fn more_runs_are_believed_more() {
        let shrinkage = Shrinkage { effect_variance: 1.0, noise_variance: 1.0 };
        assert_eq!(shrinkage.believed_share(0), 0.0);
        assert_eq!(shrinkage.believed_share(1), 0.5);
        assert_eq!(shrinkage.believed_share(3), 0.75);
        assert_eq!(shrinkage.estimate(10.0, 8.0, 1), 9.0);
    }

    #[test]
    fn noise_alone_teaches_disbelief() {
        let shrinkage = Shrinkage::learn(&[(0.5, 1), (-0.5, 1)], 1.0).expect("finite");
        assert_eq!(shrinkage.estimate(3.0, 1.0, 1), 3.0);
        assert_eq!(Shrinkage::learn(&[], 1.0), None);
        assert_eq!(Shrinkage::learn(&[(f64::NAN, 1)], 1.0), None);
        assert_eq!(Shrinkage::learn(&[(1.0, 0)], 1.0), None);
        // Without any noise everything that differs is real.
        let exact = Shrinkage::learn(&[(0.5, 1)], 0.0).expect("finite");
        assert_eq!(exact.estimate(3.0, 1.0, 1), 1.0);
    }
}
