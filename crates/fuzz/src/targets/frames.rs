//! Frames between host and worker, between supervisor and program, and snapshots: what decodes can
//! be encoded and decoded again to the same, and nothing is allocated that did not come.

use super::{MIB, Target};
use forerunner_core::{Evaluation, EvaluationRequest, Program, Seed, Slice};
use forerunner_nanogpt_protocol::{
    BatchRequest, FromProgram, FromSupervisor, LossAnswer, LossCase, Record, Snapshot, Spec,
    Summary, Windows, write_frame,
};
use forerunner_runtime::{
    frame,
    worker::{FromWorker, ToWorker},
};
use serde::{Serialize, de::DeserializeOwned};

/// What the readers of these frames may allocate for inputs of at most [`LONGEST`] bytes.
const ALLOCATION: usize = 32 * MIB;
const LONGEST: usize = 64 << 10;

const JSON: &[&str] = &[
    "null",
    "true",
    "1e999",
    "-0.0",
    "18446744073709551616",
    "\\ud800",
    "\"\\u0000\"",
    "{\"",
    "[[",
    "\":",
    "\"cancel\"",
    "\"hello\"",
    "\"check\"",
    "\"evaluate\"",
    "\"files\"",
    "\"name\"",
    "\"shape\"",
    "4294967296",
];

pub(super) const WORKER: Target = Target {
    name: "worker-frame",
    about: "frames between the host and its workers",
    corpus: worker_corpus,
    dictionary: JSON,
    longest: LONGEST,
    confined: true,
    memory_bytes: 512 << 20,
    allocation_bytes: ALLOCATION,
    run: |input| format!("{} & {}", worker::<ToWorker>(input), worker::<FromWorker>(input)),
};

pub(super) const PROGRAM: Target = Target {
    name: "program-frame",
    about: "what an untrusted program says to the NanoGPT supervisor",
    corpus: program_corpus,
    run: |input| {
        wire(
            input,
            |bytes| FromProgram::read(bytes, LIMIT).map_err(|error| error.to_string()),
            |message, pipe| message.write(pipe).map_err(|error| error.to_string()),
        )
    },
    ..WORKER
};

pub(super) const SUPERVISOR: Target = Target {
    name: "supervisor-frame",
    about: "what the NanoGPT supervisor says to a program",
    corpus: supervisor_corpus,
    run: |input| {
        wire(
            input,
            |bytes| FromSupervisor::read(bytes).map_err(|error| error.to_string()),
            |message, pipe| message.write(pipe).map_err(|error| error.to_string()),
        )
    },
    ..WORKER
};

pub(super) const SNAPSHOT: Target = Target {
    name: "snapshot",
    about: "parameters that an untrusted program hands over",
    corpus: || vec![snapshot().encode().expect("a snapshot encodes"), Vec::new()],
    run: snapshot_target,
    ..WORKER
};

/// What the supervisor is ready to hold.
const LIMIT: u64 = 1 << 20;

/// Reads all frames of a stream; each must survive a second trip.
fn worker<T: Serialize + DeserializeOwned>(input: &[u8]) -> String {
    let mut from = input;
    let mut n_frames = 0;
    loop {
        match frame::read::<T>(&mut from) {
            Ok(None) => return format!("{n_frames} frames, then the end"),
            Ok(Some(message)) => {
                let mut once = Vec::new();
                frame::write(&mut once, &message).expect("what was read can be written");
                let again: T = frame::read(&mut once.as_slice())
                    .expect("what was written can be read")
                    .expect("there is a frame");
                let mut twice = Vec::new();
                frame::write(&mut twice, &again).expect("what was read can be written");
                assert_eq!(once, twice, "a message changes on its way");
                n_frames += 1;
            }
            Err(error) => return format!("{n_frames} frames, then {error}"),
        }
    }
}

/// The same for the frames of a program. Compared as bytes, since NaN is not equal to itself.
fn wire<T>(
    input: &[u8],
    read: impl Fn(&mut &[u8]) -> Result<T, String>,
    write: impl Fn(&T, &mut Vec<u8>) -> Result<(), String>,
) -> String {
    let mut from = input;
    let mut n_frames = 0;
    loop {
        let message = match read(&mut from) {
            Ok(message) => message,
            Err(error) => return format!("{n_frames} frames, then {error}"),
        };
        let mut once = Vec::new();
        write(&message, &mut once).expect("what was read can be written");
        let again = read(&mut once.as_slice()).expect("what was written can be read");
        let mut twice = Vec::new();
        write(&again, &mut twice).expect("what was read can be written");
        assert_eq!(once, twice, "a message changes on its way");
        n_frames += 1;
    }
}

fn snapshot_target(input: &[u8]) -> String {
    let snapshot = match Snapshot::decode(input) {
        Ok(snapshot) => snapshot,
        Err(error) => return error.to_string(),
    };
    let bytes = snapshot.encode().expect("what was decoded can be encoded");
    assert_eq!(Snapshot::decode(&bytes).expect("its own bytes"), snapshot);
    let (mut n_values, mut finite) = (0, true);
    for (spec, values) in snapshot.parameters() {
        assert_eq!(spec.count(), Some(values.len()), "{spec:?}");
        n_values += values.len();
        finite &= values.iter().all(|value| value.is_finite());
    }
    assert_eq!(n_values, snapshot.count());
    assert_eq!(finite, snapshot.is_finite());
    let known = Snapshot::round(
        snapshot
            .parameters()
            .map(|(spec, values)| (spec.clone(), values))
            .collect::<Vec<_>>()
            .iter()
            .map(|(spec, values)| (spec.clone(), values.as_slice())),
    );
    let rounded = known.expect("the same shapes and names");
    assert!(!finite || rounded == snapshot, "rounding what is rounded changes it");
    format!("{} parameters", snapshot.specs().len().min(3))
}

fn snapshot() -> Snapshot {
    let spec = |name: &str, shape: &[usize]| Spec { name: name.into(), shape: shape.into() };
    let parameters = [
        (spec("wte", &[4, 2]), [0.5_f32, -1.0, 2.0, 3.5, 0.0, -0.0, 1e-30, 1e30].as_slice()),
        (spec("scale", &[]), &[1.0]),
        (spec("none", &[0, 7]), &[]),
    ];
    Snapshot::round(parameters).expect("shapes and values fit")
}

fn worker_corpus() -> Vec<Vec<u8>> {
    let framed = |message: &dyn Fn(&mut Vec<u8>)| {
        let mut pipe = Vec::new();
        message(&mut pipe);
        pipe
    };
    let program = Program::single("main.rs", "fn main() {}\n");
    let request: EvaluationRequest = serde_json::from_value(serde_json::json!({
        "program": program, "seed": Seed(7), "slice": Slice::Dev,
    }))
    .unwrap_or_else(|error| panic!("the form of a request has changed: {error}"));
    let write = |message: ToWorker| {
        framed(&|pipe| frame::write(pipe, &message).expect("a vector takes everything"))
    };
    let answer = |message: FromWorker| {
        framed(&|pipe| frame::write(pipe, &message).expect("a vector takes everything"))
    };
    vec![
        [write(ToWorker::Check(program)), write(ToWorker::Cancel)].concat(),
        write(ToWorker::Evaluate(Box::new(request))),
        answer(FromWorker::Progress(0.5, "training".to_owned())),
        answer(FromWorker::Evaluated(Ok(Box::new(Evaluation::accepted("loss", 1.5))))),
        answer(FromWorker::Refused("no such track\nhint: name one".to_owned())),
        b"\xff\xff\xff\x0f{\"check\"".to_vec(),
    ]
}

fn program_corpus() -> Vec<Vec<u8>> {
    let messages = [
        FromProgram::Batch(BatchRequest { batch: 8, length: 64 }),
        FromProgram::Record(Record { series: "loss".into(), step: 4, value: f64::NAN }),
        FromProgram::Checkpoint(snapshot()),
        FromProgram::Summary(Summary { flops: 1e12, parameters: 2, ..Summary::default() }),
        FromProgram::Snapshot(snapshot()),
        FromProgram::Logits(vec![1.5, f32::NEG_INFINITY, f32::NAN]),
        FromProgram::Loss(LossAnswer { value: 1.5, gradient: vec![-0.5, 0.5] }),
    ];
    let mut all = Vec::new();
    let mut corpus: Vec<Vec<u8>> = messages
        .iter()
        .map(|message| {
            let mut pipe = Vec::new();
            message.write(&mut pipe).expect("a vector takes everything");
            all.extend_from_slice(&pipe);
            pipe
        })
        .collect();
    corpus.push(all);
    let mut unknown = Vec::new();
    write_frame(&mut unknown, 99, &[b"?"]).expect("a vector takes everything");
    corpus.push(unknown);
    corpus
}

fn supervisor_corpus() -> Vec<Vec<u8>> {
    let messages = [
        FromSupervisor::Tokens(vec![0, 255, 50_256]),
        FromSupervisor::Peek,
        FromSupervisor::Parameters(snapshot()),
        FromSupervisor::Windows(Windows { batch: 2, length: 3, tokens: vec![7; 6] }),
        FromSupervisor::LossCase(LossCase {
            rows: 1,
            vocab: 2,
            logits: vec![0.5, -0.5],
            targets: vec![1],
        }),
        FromSupervisor::Stop,
    ];
    let framed = |message: &FromSupervisor| {
        let mut pipe = Vec::new();
        message.write(&mut pipe).expect("a vector takes everything");
        pipe
    };
    messages.iter().map(framed).collect()
}
