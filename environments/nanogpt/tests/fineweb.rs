//! Track `fineweb-small` on real web text in GPT-2 tokens, where a sample of it is at hand.

mod support;

use forerunner_core::{Evaluation, Verdict};
use forerunner_nanogpt::{Dataset, Part, prepare};
use serde_json::json;
use std::path::{Path, PathBuf};
use support::{changed, one_at_a_time, work};

/// The sample: `FORERUNNER_FINEWEB`, or `../shared/data/fineweb-sample` beside the workspace.
fn sample() -> Option<PathBuf> {
    let named = std::env::var_os("FORERUNNER_FINEWEB").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/fineweb-sample");
    let dir = named.unwrap_or(beside);
    dir.join("fineweb_train_000001.bin").is_file().then_some(dir)
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that cannot run says so aloud")]
fn a_low_rank_bigram_learns_from_fineweb() {
    let Some(sample) = sample() else {
        eprintln!("SKIPPED: no FineWeb sample; set FORERUNNER_FINEWEB to a folder that has one");
        return;
    };
    let data = one_at_a_time("fineweb", |dir| {
        if Dataset::open(&dir).is_err() {
            let train = [sample.join("fineweb_train_000001.bin")];
            let val = [sample.join("fineweb_val_000000.bin")];
            prepare::from_shards(&train, &val, "fineweb", &dir).expect("the sample is whole");
        }
        dir
    });
    let dataset = Dataset::open(&data).expect("prepared");
    assert_eq!(dataset.part(Part::Train).len(), 9_010_423);
    assert_eq!(dataset.part(Part::Vault).len(), 585_424 / 3);

    let program = changed("(task.vocab, task.vocab), 0.01)", "(task.vocab, 16), 0.1)")
        .replace(
            "embedding(&self.table, tokens) //",
            "linear_no_bias(&embedding(&self.table, tokens)?, &self.table) //",
        )
        .replace("STEPS: usize = 60", "STEPS: usize = 12");
    let evaluation: Evaluation = work("evaluate", &program, |job| {
        job["config"] = json!({
            "track": "fineweb-small",
            "harness": job["config"]["harness"],
            "data": data,
            "windows": 4,
            "clock": "steps",
            "cpu_seconds": 60.0,
        });
    })
    .expect("measured");
    assert_eq!(evaluation.verdict, Verdict::Accepted, "{:?}", evaluation.findings);
    let loss = evaluation.metrics["loss"];
    let uniform = 50_257_f64.ln();
    assert!(loss < uniform - 0.05, "{loss} is no better than {uniform}");
    assert_eq!(evaluation.metrics["parameters"], 50_257.0 * 16.0);
}
