//! Random draws that depend on a seed alone.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// A stream of random draws.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Uniform in `0.0..1.0`.
    pub(crate) fn unit(&mut self) -> f64 {
        // 53 bits: every value is exact in an f64.
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// An index below `n` (which is not 0), all equally likely.
    pub(crate) fn index(&mut self, n: usize) -> usize {
        self.ranked(n, 1.0)
    }

    /// An index below `n` (which is not 0), small ones more likely the greater `pressure` is.
    pub(crate) fn ranked(&mut self, n: usize, pressure: f64) -> usize {
        ((n as f64 * self.unit().powf(pressure)) as usize).min(n - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_favours_the_first() {
        let mut random = Random::new(1);
        let first = |pressure: f64, random: &mut Random| {
            (0..10_000).filter(|_| random.ranked(20, pressure) == 0).count()
        };
        let (even, greedy) = (first(1.0, &mut random), first(3.0, &mut random));
        assert!((400..600).contains(&even), "{even}");
        assert!((3500..3900).contains(&greedy), "{greedy}");
        assert!((0..1000).all(|_| random.index(3) < 3));
    }
}
