//! Randomness that depends on the run's seed and a name, and on nothing else.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};
use sha2::{Digest, Sha256};

/// A stream of random numbers keyed by the run's seed and a name.
///
/// Streams of different names are independent, so an edit to one layer does not reshuffle others.
#[derive(Clone, Debug)]
pub struct Rng {
    stream: ChaCha8Rng,
    /// The second value of the last pair of normal ones.
    spare: Option<f64>,
}

impl Rng {
    /// The stream of the purpose (`init` or `program`), the seed and the name.
    pub(crate) fn new(purpose: &str, seed: u64, name: &str) -> Self {
        let key = Sha256::new()
            .chain_update(b"forerunner nanogpt rng 1\0")
            .chain_update(purpose)
            .chain_update(b"\0")
            .chain_update(seed.to_le_bytes())
            .chain_update(name)
            .finalize();
        Self { stream: ChaCha8Rng::from_seed(key.into()), spare: None }
    }

    /// Uniform in [0, 1), in steps of 2⁻⁵³.
    pub fn uniform(&mut self) -> f64 {
        (self.stream.next_u64() >> 11) as f64 * 2f64.powi(-53)
    }

    /// Normal with mean 0 and variance 1 (Box and Muller, 1958).
    pub fn normal(&mut self) -> f64 {
        if let Some(value) = self.spare.take() {
            return value;
        }
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        self.spare = Some(radius * sine);
        radius * cosine
    }

    /// Uniform among `0..count`.
    ///
    /// # Panics
    ///
    /// When `count` is 0.
    pub fn below(&mut self, count: usize) -> usize {
        assert!(count > 0, "there is no number below 0");
        // Multiply and shift; the bias is below 2⁻⁶⁴ · count.
        ((u128::from(self.stream.next_u64()) * count as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_depend_on_purpose_seed_and_name() {
        let first = |purpose, seed, name| Rng::new(purpose, seed, name).uniform();
        let value = first("init", 1, "wte");
        assert_eq!(value, first("init", 1, "wte"));
        for other in [first("program", 1, "wte"), first("init", 2, "wte"), first("init", 1, "wpe")]
        {
            assert_ne!(value, other);
        }
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut rng = Rng::new("init", 7, "moments");
        let count = 100_000;
        let mut mean = |f: &dyn Fn(&mut Rng) -> f64| {
            (0..count).map(|_| f(&mut rng)).sum::<f64>() / f64::from(count)
        };
        assert!((mean(&|rng| rng.uniform()) - 0.5).abs() < 0.01);
        assert!(mean(&|rng| rng.normal()).abs() < 0.02);
        assert!((mean(&|rng| rng.normal().powi(2)) - 1.0).abs() < 0.02);
        assert!((mean(&|rng| rng.normal().powi(4)) - 3.0).abs() < 0.15);
        assert!((mean(&|rng| rng.below(5) as f64) - 2.0).abs() < 0.03);
    }
}
