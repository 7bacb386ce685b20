//! Which positions of a committed result to check, so that forging it does not pay.
//!
//! A program has committed a loss `c_i` for each of `N` positions. Some of them may be *forged*:
//! computed with knowledge of the answer, so that the program could not give them again without it.
//! Position `i` is checked with probability `1 - exp(-k g_i)`, independently of the others, and a
//! forged position that is checked is always found out.
//!
//! **What a forged position is worth.** Let `b_i` be what the program would answer blind, a proper
//! distribution over `V` outcomes whose loss equals `c_i` wherever nothing is forged. Mix it with an
//! even guess in the proportion `s`: an honest program, which anybody could have handed in instead,
//! loses at most `-ln(1 - s)` more than `b_i` does on every position and never more than `ln(V / s)`.
//! So what the forged positions `S` gain over that honest program is at most
//!
//! ```text
//! N * -ln(1 - s) + sum over S of (ln(V / s) - c_i)
//! ```
//!
//! which is how [`Audit`] takes `g_i = max(0, ln(V / s) - c_i)`: nothing is assumed about the data or
//! the program. A forger who gains a mean of `d` per position over the honest program is therefore
//! missed with probability at most `exp(-k N (d + ln(1 - s)))`, however the forged positions are
//! chosen: the product of the probabilities that each is not checked. Positions with low committed
//! losses are checked most, because that is where forging pays.

/// How probably each position is checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Audit {
    gains: Vec<f64>,
    share: f64,
    intensity: f64,
}

impl Audit {
    /// Checks as few positions as make a forgery that gains a mean of `gain` per position go
    /// unnoticed with probability `residual`. `losses` are the committed ones, over `n_outcomes`
    /// outcomes.
    ///
    /// # Panics
    /// When `gain` is not positive or `residual` not inside `(0, 1)`.
    pub fn bounding(losses: &[f64], n_outcomes: usize, gain: f64, residual: f64) -> Self {
        crate::quantile::assert_open_unit(residual, "residual");
        let mut audit = Self::none(losses, n_outcomes, gain);
        audit.intensity = -residual.ln() / audit.paid(gain);
        audit
    }

    /// Checks `n` positions on average, with the probabilities that suit a gain of a mean of `gain`
    /// per position best; all positions when there are not so many worth forging.
    ///
    /// # Panics
    /// When `gain` is not positive.
    pub fn expecting(losses: &[f64], n_outcomes: usize, gain: f64, n: f64) -> Self {
        let mut audit = Self::none(losses, n_outcomes, gain);
        // The number grows with the intensity: double until it is enough, then halve the interval.
        let mut high = 1.0;
        while audit.at(high).expected() < n && high < 1e9 {
            high *= 2.0;
        }
        let mut low = 0.0;
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if audit.at(middle).expected() < n { low = middle } else { high = middle }
        }
        audit.intensity = high;
        audit
    }

    fn none(losses: &[f64], n_outcomes: usize, gain: f64) -> Self {
        assert!(gain > 0.0, "a gain must be positive, not {gain}");
        // A tenth of the gain is given up to the mixture: close to the best for gains from a
        // thousandth to a tenth of a nat, and the result depends on it by a few per cent.
        let share = -(-gain / 10.0).exp_m1();
        let most = (n_outcomes as f64 / share).ln();
        let gains = losses.iter().map(|loss| (most - loss).max(0.0)).collect();
        Self { gains, share, intensity: 0.0 }
    }

    fn at(&self, intensity: f64) -> Expecting<'_> {
        Expecting { gains: &self.gains, intensity }
    }

    /// Sum of forgeries that a mean gain of `gain` per position takes, in nats.
    fn paid(&self, gain: f64) -> f64 {
        self.gains.len() as f64 * (gain + (-self.share).ln_1p())
    }

    /// Probability with which position `index` is checked.
    ///
    /// # Panics
    /// When there is no such position.
    pub fn probability(&self, index: usize) -> f64 {
        -(-self.intensity * self.gains[index]).exp_m1()
    }

    /// Mean number of checked positions.
    pub fn expected(&self) -> f64 {
        self.at(self.intensity).expected()
    }

    /// The most that forging one position is worth, in nats.
    pub fn largest_gain(&self) -> f64 {
        self.gains.iter().copied().fold(0.0, f64::max)
    }

    /// Highest probability that a forgery which gains a mean of `gain` nats per position over an
    /// honest program is not found.
    pub fn residual(&self, gain: f64) -> f64 {
        (-self.intensity * self.paid(gain).max(0.0)).exp()
    }

    /// The smallest mean gain per position that is found with probability `1 - residual`, in nats.
    ///
    /// # Panics
    /// When `residual` is not inside `(0, 1)`.
    pub fn smallest_gain(&self, residual: f64) -> f64 {
        crate::quantile::assert_open_unit(residual, "residual");
        let per_position = self.intensity * self.gains.len() as f64;
        -residual.ln() / per_position - (-self.share).ln_1p()
    }
}

struct Expecting<'a> {
    gains: &'a [f64],
    intensity: f64,
}

impl Expecting<'_> {
    fn expected(&self) -> f64 {
        self.gains.iter().map(|gain| -(-self.intensity * gain).exp_m1()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::Normals;

    /// Losses between 0 and 8 nats, many of them small.
    fn losses(n: usize) -> Vec<f64> {
        (0..n).map(|index| 8.0 * ((index * 37 % n) as f64 / n as f64).powi(3)).collect()
    }

    #[test]
    fn what_is_asked_for_is_what_comes() {
        let losses = losses(5000);
        let audit = Audit::bounding(&losses, 256, 0.01, 1e-6);
        assert!((audit.residual(0.01).ln() / 1e-6_f64.ln() - 1.0).abs() < 1e-9);
        assert!((audit.smallest_gain(1e-6) - 0.01).abs() < 1e-9);
        assert!(audit.residual(0.02) < 1e-12 && audit.residual(0.0005) == 1.0);
        let sum: f64 = (0..losses.len()).map(|index| audit.probability(index)).sum();
        assert!((sum - audit.expected()).abs() < 1e-6);
        for n in [1.0, 50.0, 4000.0] {
            let audit = Audit::expecting(&losses, 256, 0.01, n);
            assert!((audit.expected() - n).abs() < 1e-3 * n, "{} for {n}", audit.expected());
        }
        let all = Audit::expecting(&losses, 256, 0.01, 1e9);
        assert!(all.expected() > 4999.9 && all.probability(7) > 0.999);
        // Nobody gains where the committed loss is higher than an even guess could be made.
        let hopeless = Audit::expecting(&[1.0, 40.0], 256, 0.01, 1.0);
        assert_eq!(hopeless.probability(1), 0.0);
        assert!((hopeless.largest_gain() - ((256.0 / 0.001_f64).ln() - 1.0)).abs() < 1e-3);
    }

    /// The honest program that a forger is compared with really does as well as the bound says.
    #[test]
    fn no_forgery_gains_more_than_the_bound_allows() {
        let (n, vocab) = (400, 16);
        let mut random = Normals::new(7);
        for round in 0..200 {
            // Blind answers of any quality, from even to certain, right or wrong.
            let blind: Vec<f64> =
                (0..n).map(|_| -(random.uniform().powi(1 + round % 30)).ln()).collect();
            let forged: Vec<bool> = (0..n).map(|_| random.uniform() < 0.2).collect();
            let committed: Vec<f64> = blind
                .iter()
                .zip(&forged)
                .map(|(loss, forged)| if *forged { 0.0 } else { *loss })
                .collect();
            let audit = Audit::none(&committed, vocab, 0.05);
            let honest: f64 = blind
                .iter()
                .map(|loss| {
                    -((1.0 - audit.share) * (-loss).exp() + audit.share / vocab as f64).ln()
                })
                .sum();
            let gained = honest - committed.iter().sum::<f64>();
            let paid: f64 = forged
                .iter()
                .zip(&audit.gains)
                .filter(|(forged, _)| **forged)
                .map(|(_, gain)| gain)
                .sum();
            assert!(
                gained <= paid - n as f64 * (-audit.share).ln_1p() + 1e-9,
                "{gained} and {paid}"
            );
        }
    }

    /// The residual probability is an upper bound on how often a forger gets away.
    #[test]
    fn forgers_are_missed_no_more_often_than_stated() {
        let losses = vec![1.5; 1000];
        let audit = Audit::expecting(&losses, 256, 0.05, 60.0);
        let mut random = Normals::new(3);
        let worth = audit.largest_gain();
        for n_forged in [5, 20, 60] {
            let gain = n_forged as f64 * worth / 1000.0 - (-audit.share).ln_1p();
            let missed = (0..4000)
                .filter(|_| (0..n_forged).all(|index| random.uniform() > audit.probability(index)))
                .count() as f64
                / 4000.0;
            let stated = audit.residual(gain);
            let slack = 4.0 * (stated / 4000.0).sqrt();
            assert!((missed - stated).abs() < slack, "{missed} missed, {stated} stated");
        }
    }
}
