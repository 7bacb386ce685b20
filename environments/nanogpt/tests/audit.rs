//! Programs that corrupt the memory of their own process, measured with the source rules out of the
//! way: what stands behind them must hold alone.

mod support;

use forerunner_core::{Cause, Evaluation, Probe, Verdict};
use serde_json::json;
use support::{check, work};

const HOLE: &str = include_str!("programs/hole.rs");
const FORGER: &str = include_str!("programs/forger.rs");
const GREEDY: &str = include_str!("programs/greedy.rs");

fn behind_the_hole(program: &str) -> String {
    format!("{HOLE}\n{}", program.replace("//!", "//"))
}

fn without_rules(program: &str) -> Evaluation {
    work("evaluate", &behind_the_hole(program), |job| job["without_source_rules"] = json!(true))
        .expect("measured")
}

fn probe<'e>(evaluation: &'e Evaluation, name: &str) -> &'e Probe {
    evaluation.evidence.probes.iter().find(|probe| probe.name == name).expect("a probe")
}

#[test]
fn a_forger_in_the_evaluator_deceives_every_probe_but_not_the_audit() {
    let forged = without_rules(FORGER);
    assert!(!forged.metrics.is_empty(), "{:?} {:?}", forged.verdict, forged.findings);
    let rules: Vec<_> = forged.findings.iter().map(|finding| finding.rule.as_str()).collect();
    assert!(forged.metrics["loss"] < 1.5, "it does see what follows: {:?}", forged.metrics);
    for name in ["repeat", "causality", "rows", "parameters"] {
        assert_eq!(probe(&forged, name).failures, 0, "{name}: {rules:?}");
    }
    assert_eq!(forged.verdict, Verdict::Rejected);
    assert!(rules.contains(&"verify/blind-audit"), "{rules:?}");
    let audit = probe(&forged, "blind-audit");
    assert!(audit.failures > audit.trials / 2, "{audit:?}");
    // Its honest twin is believed.
    let twin = FORGER.replace("batch < 16 ||", "true ||");
    assert_eq!(without_rules(&twin).verdict, Verdict::Accepted);
    // And usually it does not come so far.
    assert_eq!(check(&behind_the_hole(FORGER)).cause, Some(Cause::Rule));
}

#[test]
fn a_trainer_that_overwrites_the_harness_s_limits_gains_nothing() {
    let refused = without_rules(GREEDY);
    assert_eq!(refused.verdict, Verdict::Failed(Cause::Rule), "{:?}", refused.findings);
    assert_eq!(refused.findings[0].rule, "snapshot/size");
    let text = "the snapshot has 196608 values, the track allows 150000";
    assert!(refused.findings[0].message.starts_with(text), "by us: {:?}", refused.findings);
    assert_eq!(refused.telemetry.series["train_loss"].len(), 60, "the harness let it train");
    let twin = GREEDY.replace("N_TABLES: usize = 3", "N_TABLES: usize = 2");
    assert_eq!(without_rules(&twin).verdict, Verdict::Accepted);
}
