//! The track `cpu-2t`: the reference trains on two threads in the sandbox, to the same bits as on
//! one, and is charged wall seconds.

mod support;

use forerunner_core::{Evaluation, Verdict};
use serde_json::json;
use support::work;

/// The reference program, cut short.
fn reference() -> String {
    let text = include_str!("../programs/gpt2.rs");
    let steps = "const STEPS: usize = 2800;";
    assert!(text.contains(steps));
    text.replace(steps, "const STEPS: usize = 40;")
}

fn measure(track: &str, clock: &str) -> Result<Evaluation, String> {
    work("evaluate", &reference(), |job| {
        job["config"]["track"] = json!(track);
        job["config"]["clock"] = json!(clock);
        job["config"]["cpu_seconds"] = json!(30.0);
    })
}

#[test]
fn two_threads_train_to_the_same_bits_and_are_charged_wall_seconds() {
    let two = measure("cpu-2t", "wall");
    if std::thread::available_parallelism().map_or(1, |count| count.get()) < 2 {
        let error = two.unwrap_err();
        assert!(error.contains("measures 2 threads by the wall clock"), "{error}");
        return;
    }
    let two = two.unwrap();
    assert_eq!(two.verdict, Verdict::Accepted, "{:?}", two.findings);
    let (facts, numbers) = (&two.telemetry.facts, &two.telemetry.numbers);
    assert!(facts["clock"].starts_with("wall seconds, calibrated by "), "{}", facts["clock"]);
    assert!(facts["core"].contains(" and "), "{}", facts["core"]);
    assert!(facts["sandbox"].contains("seccomp"), "{}", facts["sandbox"]);
    assert!(numbers["training_wall_seconds"] > 0.0 && numbers["delayed_seconds"] >= 0.0);
    // Sections are timed by the wall clock too: they add up to the training.
    let sections: f64 = two.telemetry.sections.iter().map(|section| section.seconds).sum();
    let whole = numbers["training_wall_seconds"];
    assert!((sections / whole - 1.0).abs() < 0.01, "{sections} of {whole}");

    // Two cores do about twice as much as one: the training on both stays below their peak.
    assert!(numbers["share_of_gemm_peak"] < 1.0, "{numbers:?}");

    let one = measure("cpu", "raw").unwrap();
    assert_eq!(one.verdict, Verdict::Accepted, "{:?}", one.findings);
    assert!(one.telemetry.facts["clock"].starts_with("CPU seconds"));
    assert_eq!(facts["snapshot_sha256"], one.telemetry.facts["snapshot_sha256"]);
    assert_eq!(two.metrics["loss"], one.metrics["loss"]);
    assert_eq!(numbers["counted_flops"], one.telemetry.numbers["counted_flops"]);
}
