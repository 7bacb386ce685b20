//! The hook `equivalent-loss`: is a training loss that claims to be cross-entropy really that, in
//! value and in gradient?
//!
//! For environments that ask for it: they call the program's loss on random logits and keep what it
//! answered as an artifact `claimed-loss-SEED.bin`. Little endian:
//!
//! ```text
//! u32  magic "FLOS"
//! u32  rows
//! u32  vocab
//! f32  logits[rows · vocab]
//! u32  targets[rows]
//! f32  value
//! f32  gradient[rows · vocab]     of the value, by the logits
//! ```
//!
//! The reference is the mean over rows of `ln Σ exp(logits) - logits[target]`, and its gradient
//! `(softmax - onehot) / rows`, computed here in f64.

#[cfg(target_arch = "wasm32")]
mod component;

/// How artifacts that this hook reads begin; what follows is the seed and `.bin`.
pub const PREFIX: &str = "claimed-loss-";
/// First bytes of such an artifact.
const MAGIC: &[u8] = b"FLOS";
/// Largest logits that are looked at, to stay within a hook's memory.
const MAX_VALUES: usize = 1 << 19;

/// Relative difference that passes. A careful computation in f32 differs from f64 by a few 1e-7 for
/// each of the handful of roundings of an entry, and by up to 1e-5 where a long row is summed
/// carelessly. A loss that leaves out one row in a thousand differs by 3e-2 in its gradient, so a
/// norm that agrees to 1e-4 leaves no row out.
const TOLERANCE: f64 = 1e-4;
/// Values are compared as if they were at least this many nats, and gradients as if their norm were
/// at least [`LEAST_NORM`]: where every token is nearly certain, nothing but rounding is left.
const LEAST_VALUE: f64 = 1.0;
const LEAST_NORM: f64 = 1e-3;

/// One answer of a program's loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// Number of values in a row.
    pub vocab: usize,
    /// Row by row.
    pub logits: Vec<f32>,
    /// The true token of each row.
    pub targets: Vec<u32>,
    /// What the loss said its value is.
    pub value: f32,
    /// What the loss said its gradient is, row by row.
    pub gradient: Vec<f32>,
}

impl Claim {
    /// Reads an artifact.
    ///
    /// # Errors
    /// When it does not have the layout above: then the environment, not the program, is wrong.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let rest = bytes.strip_prefix(MAGIC).ok_or("it does not begin with `FLOS`")?;
        let (words, []) = rest.as_chunks::<4>() else {
            return Err("its length is not a multiple of four bytes".into());
        };
        let mut words = words.iter().copied();
        let mut take = |n: usize| -> Vec<[u8; 4]> { words.by_ref().take(n).collect() };
        let [rows, vocab] = take(2)[..] else { return Err("it ends within its head".into()) };
        let (rows, vocab) = (u32::from_le_bytes(rows) as usize, u32::from_le_bytes(vocab) as usize);
        let count = rows.checked_mul(vocab).filter(|count| (1..=MAX_VALUES).contains(count));
        let count = count.ok_or_else(|| {
            format!("{rows} rows of {vocab} values are not between 1 and {MAX_VALUES} values")
        })?;
        let words_expected = 2 + 2 * count + rows + 1;
        if rest.len() != 4 * words_expected {
            let is = bytes.len();
            return Err(format!("it has {is} bytes instead of {}", 4 * (words_expected + 1)));
        }
        let floats = |words: Vec<[u8; 4]>| words.into_iter().map(f32::from_le_bytes).collect();
        let logits: Vec<f32> = floats(take(count));
        let targets: Vec<u32> = take(rows).into_iter().map(u32::from_le_bytes).collect();
        let value: Vec<f32> = floats(take(1));
        let gradient = floats(take(count));
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err("a logit is not finite".into());
        }
        if targets.iter().any(|target| *target as usize >= vocab) {
            return Err("a target is outside the vocabulary".into());
        }
        Ok(Self { vocab, logits, targets, value: value[0], gradient })
    }

    /// What speaks against the claim; nothing when value and gradient agree with cross-entropy.
    pub fn objections(&self) -> Vec<String> {
        let (value, gradient) = self.cross_entropy();
        let mut objections = Vec::new();
        let is = f64::from(self.value);
        if !agrees((is - value).abs(), value.abs().max(LEAST_VALUE)) {
            objections.push(format!(
                "the claimed value {is:.6} is not the cross-entropy {value:.6} of the same logits"
            ));
        }
        let difference =
            self.gradient.iter().zip(&gradient).map(|(is, should)| f64::from(*is) - should);
        let (difference, norm) = (norm(difference), norm(gradient.iter().copied()));
        if !agrees(difference, norm.max(LEAST_NORM)) {
            objections.push(format!(
                "the claimed gradient differs from that of cross-entropy by {:.1e} of its norm, more \
                 than the {TOLERANCE:.0e} of rounding in f32",
                difference / norm
            ));
        }
        objections
    }

    /// The reference: mean over rows, and its gradient by the logits.
    fn cross_entropy(&self) -> (f64, Vec<f64>) {
        let rows = self.targets.len() as f64;
        let mut value = 0.0;
        let mut gradient = Vec::with_capacity(self.logits.len());
        for (row, target) in self.logits.chunks_exact(self.vocab).zip(&self.targets) {
            let largest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let start = gradient.len();
            gradient.extend(row.iter().map(|logit| (f64::from(*logit) - largest).exp()));
            let sum: f64 = gradient[start..].iter().sum();
            gradient[start..].iter_mut().for_each(|weight| *weight /= sum * rows);
            gradient[start + *target as usize] -= 1.0 / rows;
            value += sum.ln() + largest - f64::from(row[*target as usize]);
        }
        (value / rows, gradient)
    }
}

/// Whether a difference is rounding beside `size`. One that is no number is not.
fn agrees(difference: f64, size: f64) -> bool {
    difference <= TOLERANCE * size
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests;
