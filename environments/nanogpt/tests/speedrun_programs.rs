//! The programs of the track `gpt2-124m` at toy sizes: they obey the rules, compile against the
//! harness for the CPU, train, and pass every probe. The same operations run on a GPU.

mod support;

use forerunner_core::{Change, Evaluation, Program, Verdict};
use forerunner_workbench::apply;
use serde_json::json;
use support::work;

/// Sizes that a CPU trains in a moment. The table has 288 rows for 256 bytes, 32 of them for nothing.
const TOY: [(&str, &str); 7] = [
    ("BATCH", "12"),
    ("PART", "4"),
    ("LENGTH", "64"),
    ("WIDTH", "32"),
    ("LAYERS", "2"),
    ("HEADS", "2"),
    ("VOCAB_MULTIPLE", "96"),
];

/// `program` with other values of its constants.
fn with_constants(mut program: String, constants: &[(&str, &str)]) -> String {
    for (name, value) in constants {
        let head = format!("const {name}: ");
        let start = program.find(&head).unwrap_or_else(|| panic!("no constant {name}"));
        let equals = start + program[start..].find("= ").expect("a value") + 2;
        let end = equals + program[equals..].find(';').expect("its end");
        program.replace_range(equals..end, value);
    }
    program
}

/// The reference of the track: what its patch makes of the reference of all.
fn reference() -> String {
    let plain = Program::single("main.rs", include_str!("../programs/gpt2.rs"));
    let patch = include_str!("../programs/gpt2-124m.patch");
    let mut changed = apply(&plain, &Change::Patch(patch.to_owned())).expect("it applies");
    changed.files.remove("main.rs").expect("one file")
}

fn trained(program: &str) -> Evaluation {
    let evaluation: Evaluation = work("evaluate", program, |job| {
        job["config"]["clock"] = json!("steps");
        job["config"]["cpu_seconds"] = json!(60.0);
    })
    .expect("measured");
    assert_eq!(evaluation.verdict, Verdict::Accepted, "{:?}", evaluation.findings);
    evaluation
}

/// Trains `program` with these settings and checks that it comes below `loss` nats per byte.
fn check(program: String, settings: &[(&str, &str)], parameters: f64, loss: f64) {
    let program = with_constants(with_constants(program, &TOY), settings);
    let evaluation = trained(&program);
    assert_eq!(evaluation.metrics["parameters"], parameters);
    assert_eq!(evaluation.metrics["tokens"], evaluation.metrics["steps"] * 12.0 * 64.0);
    assert!(evaluation.metrics["loss"] < loss, "{:?}", evaluation.metrics);
    // What is recorded is the mean over the whole batch.
    let (series, scored) = (&evaluation.telemetry.series, &evaluation.telemetry.numbers);
    let (_, last) = series["train_loss"].last().expect("recorded");
    assert!((last - scored["train_loss_scored"]).abs() < 0.5, "{last}");
}

#[test]
fn the_baseline_trains_at_toy_size() {
    let settings = [("STEPS", "100"), ("LEARNING_RATE", "5e-3"), ("WARMUP", "0.1")];
    let block = 12 * 32 * 32 + 13 * 32;
    let parameters = (288 + 64) * 32 + 2 * block + 2 * 32;
    check(reference(), &settings, f64::from(parameters), 3.5);
}

#[test]
fn the_modern_program_trains_at_toy_size() {
    let program = include_str!("../programs/modern.rs").to_owned();
    let parameters = 288 * 32 + 2 * 12 * 32 * 32;
    check(program, &[("STEPS", "100"), ("WARMUP", "0.1")], f64::from(parameters), 3.5);
}

#[test]
fn both_have_the_size_of_the_track() {
    let config = forerunner_nanogpt::Config { track: "gpt2-124m".into(), ..Default::default() };
    let track = forerunner_nanogpt::Track::new(&config).expect("a track");
    let constant = |program: &str, name: &str| -> usize {
        let (_, rest) = program.split_once(&format!("const {name}: usize = ")).expect(name);
        rest.split_once(';').expect("its end").0.replace('_', "").parse().expect("a number")
    };
    for program in [reference(), include_str!("../programs/modern.rs").to_owned()] {
        let of = |name| constant(&program, name);
        let (width, rows) = (of("WIDTH"), 50_257_usize.next_multiple_of(of("VOCAB_MULTIPLE")));
        assert_eq!((width, of("LAYERS"), of("LENGTH")), (768, 12, track.context));
        assert_eq!(of("BATCH") * of("LENGTH"), 524_288);
        assert!((of("BATCH") * (of("LENGTH") + 1)) as u64 <= track.batch_tokens);
        // Matrices, table and positions; gains and biases are what the cap leaves room for.
        let most = rows * width + of("LENGTH") * width + of("LAYERS") * (12 * width + 13) * width;
        assert!(most + 2 * width <= track.max_parameters, "{most}");
    }
}
