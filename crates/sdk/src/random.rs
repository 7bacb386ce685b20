//! Random draws that depend on a seed alone.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// A stream of random draws, the same on every machine for the same seed.
///
/// Plugins draw from the seed that comes with a request, so that a run replays identically:
///
/// ```
/// use forerunner_sdk::{Random, Seed};
///
/// let request_seed = 7;
/// let mut random = Random::new(request_seed);
/// let die = 1 + random.index(6);
/// assert_eq!(die, 1 + Random::new(request_seed).index(6));
/// // A second stream that does not disturb the first:
/// let mut names = Random::new(Seed(request_seed).derive("names", 0).0);
/// assert_ne!(names.unit(), Random::new(request_seed).unit());
/// ```
#[derive(Debug, Clone)]
pub struct Random(ChaCha8Rng);

impl Random {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Uniform in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        // 53 bits: every value is exact in an f64.
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in `low..high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Normal with mean 0 and standard deviation 1 (Box and Muller, 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Whether something of this probability, in `0.0..=1.0`, happens.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// An index below `n`, all equally likely.
    ///
    /// # Panics
    /// When `n` is 0: nothing can be chosen.
    pub fn index(&mut self, n: usize) -> usize {
        self.ranked(n, 1.0)
    }

    /// An index below `n`, small ones more likely the greater `pressure` is: 1 is fair, and the
    /// best fraction `f` is chosen with probability `f^(1/pressure)`.
    ///
    /// # Panics
    /// When `n` is 0: nothing can be chosen.
    pub fn ranked(&mut self, n: usize, pressure: f64) -> usize {
        assert!(n > 0, "no index below 0");
        ((n as f64 * self.unit().powf(pressure)) as usize).min(n - 1)
    }

    /// An index drawn by weight; weights are finite and not negative. When all are 0, all indices
    /// are equally likely.
    ///
    /// # Panics
    /// When `weights` is empty: nothing can be chosen.
    pub fn weighted(&mut self, weights: &[f64]) -> usize {
        let total: f64 = weights.iter().sum();
        let mut left = self.unit() * total;
        for (idx, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return idx;
            }
        }
        self.index(weights.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs are replayed from their seeds: another stream would be another run.
    #[test]
    fn the_stream_of_a_seed_never_changes() {
        let mut random = Random::new(7);
        let units = [random.unit(), random.unit(), random.unit()];
        assert_eq!(units, STREAM_OF_SEVEN);
        assert_ne!(Random::new(8).unit(), units[0]);
    }

    /// As drawn when the first runs were recorded.
    const STREAM_OF_SEVEN: [f64; 3] = [0.15779609702061936, 0.1679893627721013, 0.7042761280364565];

    #[test]
    fn draws_have_the_promised_distribution() {
        let mut random = Random::new(1);
        let normals: Vec<f64> = (0..10_000).map(|_| random.normal()).collect();
        let mean = normals.iter().sum::<f64>() / 1e4;
        let variance = normals.iter().map(|x| x * x).sum::<f64>() / 1e4;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        let ones = (0..10_000).filter(|_| random.weighted(&[1.0, 3.0, 0.0]) == 1).count();
        assert!((7300..7700).contains(&ones), "{ones}");
        let often = (0..10_000).filter(|_| random.chance(0.25)).count();
        assert!((2300..2700).contains(&often), "{often}");
        assert!((0..1000).all(|_| (-2.0..3.0).contains(&random.between(-2.0, 3.0))));
    }

    #[test]
    fn indices_stay_below_their_bound() {
        let mut random = Random::new(2);
        let mut seen = [0; 3];
        (0..3000).for_each(|_| seen[random.index(3)] += 1);
        assert!(seen.iter().all(|count| (900..1100).contains(count)), "{seen:?}");
        let mut equal = [0; 2];
        (0..2000).for_each(|_| equal[random.weighted(&[0.0, 0.0])] += 1);
        assert!(equal.iter().all(|count| *count > 900), "{equal:?}");
    }

    #[test]
    fn pressure_favours_the_first() {
        let mut random = Random::new(1);
        let first = |pressure: f64, random: &mut Random| {
            (0..10_000).filter(|_| random.ranked(20, pressure) == 0).count()
        };
        let (even, greedy) = (first(1.0, &mut random), first(3.0, &mut random));
        assert!((400..600).contains(&even), "{even}");
        assert!((3500..3900).contains(&greedy), "{greedy}");
    }
}
