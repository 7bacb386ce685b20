//! Real programs in a track that requires a training loss equivalent to cross-entropy.

mod support;

use forerunner_core::{Cause, Evaluation, Verdict};
use serde_json::json;
use support::{HONEST, work};

/// Cross-entropy by hand, from a table that picks the label's logit.
const BY_HAND: &str = "
    fn claimed_loss(logits: &Tensor, targets: &Tokens) -> Result<Tensor> {
        let vocab = logits.dim(2)?;
        let diagonal = (0..vocab * vocab).map(|i| if i % (vocab + 1) == 0 { 1.0 } else { 0.0 });
        let one_hot = Tensor::from_vec(diagonal.collect(), (vocab, vocab))?; // (V, V)
        let largest = logits.max(2)?.detach(); // (B, T, 1)
        let log_sum = ((logits - &largest)?.exp()?.sum(2)?.ln()? + &largest)?; // (B, T, 1)
        let of_label = (logits * embedding(&one_hot, targets)?)?.sum(2)?; // (B, T, 1)
        (log_sum - of_label)?.mean_all()
    }
";

/// The honest program with a claimed loss, which it trains on.
fn claiming(loss: &str) -> String {
    let trains_on = "cross_entropy(&model.logits(&batch.inputs)?, &batch.targets)";
    let claimed = trains_on.replace("cross_entropy(", "Bigram::claimed_loss(");
    let (place, end) = ("        embedding(&self.table, tokens) // (B, T, V)\n    }\n", "}\n");
    assert!(HONEST.contains(trains_on) && HONEST.contains(&format!("{place}{end}")));
    HONEST.replace(trains_on, &claimed).replace(place, &format!("{place}{loss}"))
}

fn evaluate(program: &str) -> Evaluation {
    work("evaluate", program, |job| {
        job["config"]["require_equivalent_loss"] = json!(true);
        job["config"]["windows"] = json!(16);
    })
    .expect("measured")
}

/// What the finding says against a program that was refused for its loss alone.
#[track_caller]
fn refusal(program: &str) -> String {
    let evaluation = evaluate(program);
    assert_eq!(evaluation.verdict, Verdict::Rejected, "{:?}", evaluation.findings);
    let errors: Vec<_> =
        evaluation.findings.iter().filter(|f| f.rule == "loss/not-equivalent").collect();
    let [finding] = errors[..] else { panic!("one objection, not {:?}", evaluation.findings) };
    finding.message.clone()
}

#[test]
fn equivalent_losses_are_accepted() {
    for program in [HONEST.to_owned(), claiming(BY_HAND)] {
        let evaluation = evaluate(&program);
        assert_eq!(evaluation.verdict, Verdict::Accepted, "{:?}", evaluation.findings);
    }
}

#[test]
fn a_scaled_loss_is_refused() {
    let scaled = BY_HAND
        .replace("(log_sum - of_label)?.mean_all()", "(log_sum - of_label)?.mean_all()? * 0.9");
    let message = refusal(&claiming(&scaled));
    assert!(message.contains("the claimed loss of random logits is "), "{message}");
    assert!(message.contains("`claimed_loss` of the model"), "{message}");
}

#[test]
fn a_wrong_gradient_is_refused() {
    // The value is right; what is learnt from half of it is not.
    let mean = "(log_sum - of_label)?.mean_all()";
    let half = BY_HAND
        .replace(mean, &format!("let loss = {mean}?;\n(&loss * 0.5)? + (loss.detach() * 0.5)?"));
    let message = refusal(&claiming(&half));
    assert!(message.contains("the gradient of the claimed loss"), "{message}");
    assert!(message.contains("by 5.0e-1 of its norm"), "{message}");
}

#[test]
fn a_loss_that_is_no_number_is_a_failure_of_the_program() {
    let rows = BY_HAND.replace("(log_sum - of_label)?.mean_all()", "log_sum - of_label");
    // Trained on what is one number, claimed is what is not.
    let program = claiming(&rows).replace("Bigram::claimed_loss(", "cross_entropy(");
    let evaluation = evaluate(&program);
    assert_eq!(evaluation.verdict, Verdict::Failed(Cause::Crash), "{:?}", evaluation.findings);
    let message = &evaluation.findings[0].message;
    assert!(message.contains("must be one number, not [1, 32, 1]"), "{message}");
}

#[test]
fn elsewhere_a_loss_is_free() {
    let scaled = BY_HAND
        .replace("(log_sum - of_label)?.mean_all()", "(log_sum - of_label)?.mean_all()? * 0.9");
    let free: Evaluation =
        work("evaluate", &claiming(&scaled), |job| job["config"]["windows"] = json!(16)).unwrap();
    assert_eq!(free.verdict, Verdict::Accepted, "{:?}", free.findings);
}
