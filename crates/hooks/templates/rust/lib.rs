//! The logic of the hook `@NAME@`: plain Rust, tested by `cargo test`, without WebAssembly.

#[cfg(target_arch = "wasm32")]
mod component;

/// A named number that the environment measured.
pub struct Metric {
    /// For example `loss`.
    pub name: String,
    /// In the environment's unit.
    pub value: f64,
}

/// One reason against a result.
#[derive(Debug, PartialEq)]
pub struct Objection {
    /// Letters, digits and `-`; shown as `@NAME@/RULE`.
    pub rule: &'static str,
    /// What was found, and what an honest author does instead.
    pub message: String,
}

/// Everything that speaks against a result with these metrics. None accepts it.
pub fn judge(metrics: &[Metric]) -> Vec<Objection> {
    // Start here: replace these two rules by your own. If they need more than metrics, ask for it
    // in `describe` and fetch it in `verify`, both in component.rs.
    let mut objections = Vec::new();
    if metrics.is_empty() {
        let message = "nothing was measured".to_owned();
        objections.push(Objection { rule: "no-metrics", message });
    }
    for Metric { name, value } in metrics {
        if !value.is_finite() {
            let message = format!("`{name}` is {value}, which is no measurement");
            objections.push(Objection { rule: "not-finite", message });
        }
    }
    objections
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(values: &[f64]) -> Vec<&'static str> {
        let metric = |value: &f64| Metric { name: "loss".into(), value: *value };
        let metrics: Vec<Metric> = values.iter().map(metric).collect();
        judge(&metrics).into_iter().map(|objection| objection.rule).collect()
    }

    #[test]
    fn only_numbers_that_are_measurements_pass() {
        assert!(rules(&[1.5, 0.0]).is_empty());
        assert_eq!(rules(&[1.5, f64::NAN]), ["not-finite"]);
        assert_eq!(rules(&[]), ["no-metrics"]);
    }
}
