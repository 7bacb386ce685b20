//! Real programs, compiled against the real harness and run in the real sandbox: an honest one,
//! and one for each way of misbehaving.

mod support;

use forerunner_core::{Cause, Evaluation, SECONDS_PER_TOKEN, TOKENS_PER_STEP, Verdict};
use serde_json::json;
use support::{HONEST, changed, check, evaluate, work};

#[track_caller]
fn assert_failed(evaluation: &Evaluation, cause: Cause, rule: &str, text: &str) {
    assert_eq!(evaluation.verdict, Verdict::Failed(cause), "{:?}", evaluation.findings);
    let [finding] = evaluation.findings.as_slice() else {
        panic!("one finding, not {:?}", evaluation.findings);
    };
    assert_eq!(finding.rule, rule, "{}", finding.message);
    assert!(finding.message.contains(text), "{}", finding.message);
    assert!(evaluation.metrics.is_empty());
}

#[test]
fn an_honest_program_is_measured() {
    let check = check(HONEST);
    assert!(check.passed(), "{:?}", check.findings);
    let one = evaluate(HONEST);
    assert_eq!(one.verdict, Verdict::Accepted, "{:?}", one.findings);
    assert!(one.metrics["loss"] > 2.0 && one.metrics["loss"] < 5.0, "{:?}", one.metrics);
    assert!(!one.metrics.contains_key("seconds_to_target"));
    assert_eq!(one.metrics["steps"], 60.0);
    assert_eq!(one.metrics["tokens"], 60.0 * 8.0 * 64.0);
    assert_eq!(one.metrics["parameters"], 65_536.0);
    assert!(one.metrics["seconds"] > 0.0);
    assert_eq!(one.telemetry.series["train_loss"].len(), 60);
    let curve = &one.telemetry.series["dev_loss"];
    assert_eq!(curve.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [0, 32, 60]);
    // The same windows each time, and steps small enough not to jump from batch to batch: about
    // 5.54, 3.61 and 3.31, for any seed.
    let losses: Vec<f64> = curve.iter().map(|(_, loss)| *loss).collect();
    assert!(losses[0] > 5.5 && losses[1] < 4.5 && losses[2] < losses[1] - 0.1, "{curve:?}");
    let sections: Vec<_> = one.telemetry.sections.iter().map(|s| s.name.as_str()).collect();
    for name in ["forward", "backward", "data", "other"] {
        assert!(sections.contains(&name), "{sections:?}");
    }
    let operations: Vec<_> =
        one.telemetry.operations.iter().map(|o| (o.name.as_str(), o.calls)).collect();
    for operation in [("embedding.forward", 60), ("embedding.backward", 60)] {
        assert!(operations.contains(&operation), "{operations:?}");
    }
    assert!(one.telemetry.facts["sandbox"].contains("seccomp"));
    assert!(one.telemetry.numbers["peak_memory_bytes"] > 1e6);
    // The phases and what came before them are all of the CPU time.
    let numbers = &one.telemetry.numbers;
    let tokens = one.telemetry.series[TOKENS_PER_STEP].iter().map(|(_, tokens)| tokens * 6.0);
    let pace = one.telemetry.series[SECONDS_PER_TOKEN].iter().map(|(_, seconds)| seconds);
    let in_phases: f64 = tokens.zip(pace).map(|(tokens, seconds)| tokens * seconds).sum();
    let all = in_phases + numbers["startup_cpu_seconds"];
    assert!((all - numbers["cpu_seconds"]).abs() < 1e-9, "{numbers:?}");
    // A step asks for a gradient and for new values of the table at least.
    assert!(numbers["allocated_per_step_bytes"] > 2.0 * 4.0 * 65_536.0, "{numbers:?}");
    assert!(numbers["allocations_per_step"] > 10.0, "{numbers:?}");
    assert!(numbers["peak_allocated_bytes"] > 4.0 * 65_536.0, "{numbers:?}");
    assert!(numbers["peak_allocated_bytes"] < numbers["peak_memory_bytes"], "{numbers:?}");
    let section = |name: &str| one.telemetry.sections.iter().find(|s| s.name == name).unwrap();
    let operation = |name: &str| one.telemetry.operations.iter().find(|o| o.name == name).unwrap();
    let forward = operation("embedding.forward").bytes + operation("cross_entropy.forward").bytes;
    assert_eq!(section("forward").bytes, forward);

    // The same seed gives the same loss to the last bit, another seed another one.
    let again = evaluate(HONEST);
    assert_eq!(again.metrics["loss"], one.metrics["loss"]);
    let facts = |e: &Evaluation| e.telemetry.facts["snapshot_sha256"].clone();
    assert_eq!(facts(&again), facts(&one));
    let other: Evaluation =
        work("evaluate", HONEST, |job| job["request"]["seed"] = json!(2)).unwrap();
    assert_ne!(other.metrics["loss"], one.metrics["loss"]);
    let vault: Evaluation =
        work("evaluate", HONEST, |job| job["request"]["slice"] = json!("vault")).unwrap();
    assert_ne!(vault.metrics["loss"], one.metrics["loss"]);
    assert_eq!(facts(&vault), facts(&one));
}

#[test]
fn reaching_the_target_is_told_from_missing_it_and_steps_are_a_clock() {
    let with = |target: f64| -> Evaluation {
        work("evaluate", HONEST, |job| {
            job["config"]["target_loss"] = json!(target);
            job["config"]["clock"] = json!("steps");
        })
        .unwrap()
    };
    let reached = with(5.5);
    assert_eq!(reached.metrics["seconds_to_target"], reached.metrics["seconds"]);
    let missed = with(0.5);
    assert!(!missed.metrics.contains_key("seconds_to_target"));
    assert_eq!(missed.metrics["seconds"], reached.metrics["seconds"]);
    assert!((missed.metrics["seconds"] - 60.0 * 8.0 * 64.0 * 1.5e-5).abs() < 1e-9);
}

#[test]
fn a_program_that_does_not_compile_is_refused_with_a_place() {
    let check = check(&changed("let batch = run.batch(8,", "let batch: u32 = run.batch(8,"));
    assert_eq!(check.cause, Some(Cause::Compile));
    assert!(check.findings[0].place.as_deref().is_some_and(|p| p.starts_with("main.rs:2")));
}

#[test]
fn a_rule_refuses_before_the_compiler_does() {
    let refused =
        evaluate(&changed("for step in", "std::fs::read(\"/etc/passwd\").ok(); for step in"));
    assert_failed(&refused, Cause::Rule, "source/std", "std::fs");
    let nonsense = evaluate(&changed("for step in", "println!(\"val_loss: 0.1\"); for step in"));
    assert_eq!(nonsense.verdict, Verdict::Failed(Cause::Rule), "{:?}", nonsense.findings);
}

#[test]
fn a_panic_is_a_crash_with_its_place() {
    let program = changed("for step in", "let none: Option<u8> = None; none.unwrap(); for step in");
    let crashed = evaluate(&program);
    assert_failed(&crashed, Cause::Crash, "program/crash", "the trainer panicked");
    assert!(crashed.findings[0].message.contains("main.rs:"), "{:?}", crashed.findings);
    assert_eq!(check(&program).cause, Some(Cause::Crash), "the smoke test sees it too");
}

#[test]
fn a_panic_in_the_evaluator_is_a_crash_too() {
    let program = changed(
        "embedding(&self.table, tokens) // (B, T, V)",
        "let n = tokens.dims().0; if n > 8 { unreachable!(\"{n}\") } embedding(&self.table, tokens)",
    );
    let crashed = evaluate(&program);
    assert_failed(&crashed, Cause::Crash, "program/crash", "the evaluator panicked");
    assert_eq!(crashed.telemetry.series["train_loss"].len(), 60, "what was seen is kept");
}

#[test]
fn an_endless_loop_is_a_timeout() {
    let program = changed("for step in", "loop {} for step in");
    let endless: Evaluation = work("evaluate", &program, |job| {
        job["config"]["cpu_seconds"] = json!(1.0);
    })
    .unwrap();
    assert_failed(&endless, Cause::Timeout, "limit/cpu", "CPU time");
    let training = changed("0..STEPS", "0..usize::MAX");
    let endless: Evaluation = work("evaluate", &training, |job| {
        job["config"]["cpu_seconds"] = json!(1.0);
    })
    .unwrap();
    assert_failed(&endless, Cause::Timeout, "limit/cpu", "used up its 1 CPU seconds after");
}

#[test]
fn allocating_without_bound_is_a_matter_of_memory() {
    let program = changed(
        "for step in",
        "let mut hoard: Vec<Vec<u8>> = Vec::new(); loop { hoard.push(vec![1; 1 << 24]); \
         if hoard.len() > 1 << 40 { break; } } for step in",
    );
    assert_failed(&evaluate(&program), Cause::Memory, "limit/memory", "memory");
}

#[test]
fn ending_early_is_a_breach_of_protocol() {
    let program = changed(
        "    harness::run::<Bigram>(train)",
        "    if STEPS > 0 { return ExitCode::SUCCESS; }\n    harness::run::<Bigram>(train)",
    );
    assert_failed(&evaluate(&program), Cause::Protocol, "program/early-exit", "the trainer");
}

#[test]
fn numbers_that_are_not_finite_fail() {
    let parameters = evaluate(&changed("gradient * 30.0", "gradient * f64::NAN"));
    assert_eq!(parameters.verdict, Verdict::Failed(Cause::NotFinite), "{:?}", parameters.findings);
    let logits = evaluate(&changed(
        "embedding(&self.table, tokens) // (B, T, V)",
        "embedding(&self.table, tokens)? * if tokens.dims().0 > 8 { f64::NAN } else { 1.0 }",
    ));
    assert_failed(&logits, Cause::NotFinite, "score/not-finite", "a logit is NaN");
}

#[test]
fn too_many_parameters_fail() {
    let program = changed("(task.vocab, task.vocab), 0.01)", "(task.vocab * 3, task.vocab), 0.01)");
    let text = "has at least 196608 values, the track allows 150000; make it smaller";
    assert_failed(&evaluate(&program), Cause::Rule, "snapshot/size", text);
    let refused = check(&program);
    assert_eq!(refused.cause, Some(Cause::Rule), "{:?}", refused.findings);
    assert_eq!(refused.findings[0].rule, "snapshot/size");
}

#[test]
fn looking_ahead_is_rejected_with_its_score() {
    // Each position gets the logits of the next token's row as well: a shift in the wrong direction.
    let program = changed(
        "embedding(&self.table, tokens) // (B, T, V)",
        "let here = embedding(&self.table, tokens)?; let t = tokens.dims().1; let next = \
         Tensor::cat(&[here.narrow(1, 1, t - 1)?, here.narrow(1, t - 1, 1)?], 1)?; here + next",
    );
    let ahead = evaluate(&program);
    assert_eq!(ahead.verdict, Verdict::Rejected, "{:?}", ahead.findings);
    assert_eq!(ahead.findings[0].rule, "verify/causality");
    assert!(ahead.metrics.contains_key("loss"));
}

#[test]
fn knowing_the_data_before_seeing_it_is_rejected() {
    // Most of the text is spaces and lower-case letters: a bias towards them is knowledge.
    let program = changed(
        "embedding(&self.table, tokens) // (B, T, V)",
        "let bias = (0..256).map(|i| match i { 32 => 5.0, 97..123 => 3.0, _ => 0.0 }).collect::<Vec<f32>>(); \
         let here = embedding(&self.table, tokens)?; \
         &here + Tensor::from_vec(bias, 256)?.broadcast_as((here.dims()[0], here.dims()[1], 256))?",
    );
    let known = evaluate(&program);
    assert_eq!(known.verdict, Verdict::Rejected, "{:?}", known.findings);
    assert_eq!(known.findings[0].rule, "verify/foreknowledge");
}

#[test]
fn state_between_calls_is_rejected() {
    let program = changed("struct Bigram {", "struct Bigram { calls: std::cell::Cell<u32>,")
        .replace("Ok(Self { table", "Ok(Self { calls: Default::default(), table")
        .replace(
            "embedding(&self.table, tokens) //",
            "self.calls.set(self.calls.get() + 1); \
             embedding(&self.table, tokens)? * (1.0 + 1e-4 * f64::from(self.calls.get())) //",
        );
    let stateful = evaluate(&program);
    assert_eq!(stateful.verdict, Verdict::Rejected, "{:?}", stateful.findings);
    assert_eq!(stateful.findings[0].rule, "verify/repeat");
}

#[test]
fn a_result_that_is_not_wanted_any_more_is_given_up() {
    let program = changed("for step in", "loop {} for step in");
    let answer = work::<Evaluation>("evaluate", &program, |job| job["cancelled"] = json!(true));
    assert_eq!(answer.unwrap_err(), "cancelled");
}

#[test]
fn missing_things_are_errors_with_a_hint() {
    let error = |key: &str| {
        work::<Evaluation>("evaluate", HONEST, |job| job["config"][key] = json!("/nowhere"))
            .unwrap_err()
    };
    assert!(error("harness").contains("\nhint: run `cargo xtask install`"), "{}", error("harness"));
    assert!(error("data").contains("no data set in `/nowhere`\nhint: "), "{}", error("data"));
    let config = work::<Evaluation>("evaluate", HONEST, |job| job["config"]["windos"] = json!(1));
    assert!(config.unwrap_err().starts_with("bad configuration: "));
}

#[test]
fn an_honest_program_is_accepted_in_disguise_and_does_as_well() {
    let disguised: Evaluation =
        work("evaluate", HONEST, |job| job["request"]["disguise"] = json!(5)).unwrap();
    assert_eq!(disguised.verdict, Verdict::Accepted, "{:?}", disguised.findings);
    let plain = evaluate(HONEST);
    let difference = disguised.metrics["loss"] - plain.metrics["loss"];
    assert!(difference.abs() < 0.3, "{difference} nats");
}
