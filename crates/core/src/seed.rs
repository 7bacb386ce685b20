//! Seeds: every random choice of a run derives from the run's seed and a counter.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A 64-bit seed from which independent seeds are derived by name and counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed of stream `name` at `counter`; streams do not disturb one another.
    ///
    /// ```
    /// use forerunner_core::Seed;
    /// assert_eq!(Seed(7).derive("select", 3), Seed(7).derive("select", 3));
    /// assert_ne!(Seed(7).derive("select", 3), Seed(7).derive("propose", 3));
    /// ```
    #[must_use]
    pub fn derive(self, name: &str, counter: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.0.to_le_bytes());
        hash.update(counter.to_le_bytes());
        hash.update(name);
        let digest = hash.finalize();
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest[..8]);
        Self(u64::from_le_bytes(bytes))
    }

    /// A number in `0.0..1.0` that depends on the seed alone.
    pub fn unit(self) -> f64 {
        // 53 bits: every value is exact in an f64.
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}
