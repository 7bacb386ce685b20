//! What a program of the trivial environment says about itself, for tests of records: lines
//! beside `value = …` make it know the data, overfit, repeat badly, or bring its worker down.

use forerunner_sdk::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

/// Measurements that this process has made.
static MADE: AtomicU64 = AtomicU64::new(0);

/// The number after `NAME = ` on a line of its own.
fn number(text: &str, name: &str) -> Option<f64> {
    let after = |line: &str| line.strip_prefix(name)?.strip_prefix(" = ")?.trim().parse().ok();
    text.lines().find_map(after)
}

/// What the program does in this measurement.
pub(crate) struct Conduct {
    /// Its distance is multiplied by this.
    pub(crate) factor: f64,
    /// What it produced, in a confirmation.
    pub(crate) digest: Option<String>,
}

impl Conduct {
    /// - `knows = F`: the program knows the data; its distance is `F` of what it would be, unless
    ///   the data are disguised.
    /// - `overfits = F`: the same on dev and val, and not on the vault.
    /// - `unsteady`: no two confirming measurements produce the same.
    /// - `stumbles`: brings its worker down when a confirmation finds a worker that has measured
    ///   something before: measured again, in a fresh worker, it does well.
    /// - `stumbles always`: brings every worker down in a confirmation.
    ///
    /// `noise` is the relative spread over seeds.
    pub(crate) fn of(text: &str, request: &EvaluationRequest, noise: f64) -> Self {
        let made = MADE.fetch_add(1, Ordering::Relaxed);
        let confirms = request.purpose == Purpose::Confirm;
        let stumbles = text.contains("\nstumbles") && made > 0;
        if confirms && (stumbles || text.contains("\nstumbles always")) {
            std::process::abort();
        }
        // The same in disguise: an honest program does exactly as well.
        let luck = Seed(request.seed);
        let mut factor = 1.0 + noise * (2.0 * luck.derive("luck", 0).unit() - 1.0);
        if request.disguise.is_none() {
            factor *= number(text, "knows").unwrap_or(1.0);
        }
        if request.slice != Slice::Vault {
            factor *= number(text, "overfits").unwrap_or(1.0);
        }
        let counter = if text.contains("\nunsteady") { made } else { 0 };
        let digest = || format!("{:016x}", luck.derive(text, counter).0);
        Self { factor, digest: confirms.then(digest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factor(text: &str, slice: Slice, disguise: Option<u64>) -> f64 {
        let mut request = EvaluationRequest::new(Program::default(), 1);
        (request.slice, request.disguise) = (slice, disguise);
        Conduct::of(&format!("value = 1.0\n{text}\n"), &request, 0.0).factor
    }

    #[test]
    fn knowledge_helps_undisguised_and_overfitting_not_on_the_vault() {
        assert_eq!(factor("", Slice::Vault, Some(3)), 1.0);
        assert_eq!(factor("knows = 0.5", Slice::Vault, None), 0.5);
        assert_eq!(factor("knows = 0.5", Slice::Vault, Some(3)), 1.0);
        assert_eq!(factor("overfits = 0.5", Slice::Val, None), 0.5);
        assert_eq!(factor("overfits = 0.5", Slice::Vault, None), 1.0);
    }

    #[test]
    fn digests_are_given_in_confirmations_and_are_steady_unless_asked() {
        let digest = |text: &str, purpose| {
            let mut request = EvaluationRequest::new(Program::default(), 1);
            request.purpose = purpose;
            Conduct::of(&format!("value = 1.0\n{text}\n"), &request, 0.1).digest
        };
        assert_eq!(digest("", Purpose::Search), None);
        assert_eq!(digest("", Purpose::Confirm), digest("", Purpose::Confirm));
        assert_ne!(digest("unsteady", Purpose::Confirm), digest("unsteady", Purpose::Confirm));
    }
}
