//! How much error each claim of a season may spend.

use std::f64::consts::PI;

/// The error that the `claim`-th claim (from 1) may spend so that all claims of a season together
/// spend at most `alpha`: `alpha * 6 / (π² k²)`, whose sum over all k is `alpha`.
///
/// Every claim spends its share, whether it is won or lost; candidates that never become claims
/// spend nothing. The sequence is that of Foster and Stine (2008) without re-earning.
///
/// # Panics
/// When `claim` is 0.
///
/// ```
/// let first = forerunner_stats::alpha_of_claim(0.01, 1);
/// assert!((first - 0.006079).abs() < 1e-6);
/// ```
pub fn alpha_of_claim(alpha: f64, claim: u64) -> f64 {
    assert!(claim > 0, "claims are counted from 1");
    alpha * 6.0 / (PI * claim as f64).powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_claims_together_spend_at_most_alpha() {
        let spent: f64 = (1..=100_000).map(|claim| alpha_of_claim(0.01, claim)).sum();
        assert!(spent < 0.01 && spent > 0.009_999, "{spent}");
        assert!((alpha_of_claim(0.01, 10) * 100.0 - alpha_of_claim(0.01, 1)).abs() < 1e-12);
    }
}
