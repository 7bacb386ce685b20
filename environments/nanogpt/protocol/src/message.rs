//! What the frames mean.

use std::io::{Read, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Error, LossAnswer, LossCase, Snapshot, read_frame, write_frame};

const START: u8 = 1;
const BATCH: u8 = 2;
const TOKENS: u8 = 3;
const RECORD: u8 = 4;
const SUMMARY: u8 = 5;
const SNAPSHOT: u8 = 6;
const STOP: u8 = 7;
const PARAMETERS: u8 = 8;
const WINDOWS: u8 = 9;
const LOGITS: u8 = 10;
const PEEK: u8 = 11;
const CHECKPOINT: u8 = 12;
const LOSS_CASE: u8 = 13;
const LOSS: u8 = 14;

pub(crate) fn kind_name(kind: u8) -> &'static str {
    match kind {
        START => "start",
        BATCH => "batch",
        TOKENS => "tokens",
        RECORD => "record",
        SUMMARY => "summary",
        SNAPSHOT => "snapshot",
        STOP => "stop",
        PARAMETERS => "parameters",
        WINDOWS => "windows",
        LOGITS => "logits",
        PEEK => "peek",
        CHECKPOINT => "checkpoint",
        LOSS_CASE => "loss case",
        LOSS => "loss",
        _ => "unknown",
    }
}

/// What a program is told first: the task it trains or is evaluated for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// [`crate::VERSION`] of the supervisor.
    pub version: u32,
    /// Name of the track.
    pub track: String,
    /// Seed of this run; the harness derives all randomness from it.
    pub seed: u64,
    /// Number of token values; every token is smaller.
    pub vocab: usize,
    /// Positions in an evaluation window.
    pub context: usize,
    /// Most values that a snapshot may carry.
    pub max_parameters: usize,
    /// What the supervisor grants before it ends the run; for information, enforced outside.
    pub limits: Limits,
    /// What the harness is to collect on the way.
    #[serde(default)]
    pub collect: Collect,
}

/// How much telemetry a harness collects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Collect {
    /// All that it can.
    #[default]
    All,
    /// What costs the same in every step, for steps that are compared with one another.
    Steady,
    /// Nothing, to see what collecting costs.
    Nothing,
}

/// What a supervisor grants a trainer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// CPU seconds of the trainer's process.
    pub cpu_seconds: f64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Most tokens in one batch request.
    pub batch_tokens: u64,
}

/// A trainer's request for `batch` sequences of `length + 1` tokens.
///
/// On the wire: two little-endian `u32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchRequest {
    /// Number of sequences.
    pub batch: u32,
    /// Positions in a sequence that predict a token; one more token is sent.
    pub length: u32,
}

impl BatchRequest {
    /// Number of tokens that answer the request: `batch * (length + 1)`.
    pub fn tokens(&self) -> u64 {
        u64::from(self.batch) * (u64::from(self.length) + 1)
    }
}

/// One point of a series, telemetry only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Name of the series, such as `train_loss`.
    pub series: String,
    /// Step of training, counted from 0.
    pub step: u64,
    /// Value at that step; a non-finite one arrives as NaN.
    #[serde(with = "nan_as_null")]
    pub value: f64,
}

/// What one named part of training cost, telemetry only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// Name, such as `forward`.
    pub name: String,
    /// How often the section ran.
    pub calls: u64,
    /// CPU seconds in it, as the program's own process saw them; wall seconds where it has several
    /// threads.
    pub cpu_seconds: f64,
    /// Bytes of arguments and results of the operations in it.
    #[serde(default)]
    pub bytes: u64,
    /// Floating-point operations in the matrix products of the operations in it.
    #[serde(default)]
    pub flops: u64,
}

/// What one pass of one fused operation, or one optimizer, cost; telemetry only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Name, such as `linear.backward` or `adamw`.
    pub name: String,
    /// How often it ran.
    pub calls: u64,
    /// Seconds in it, as the program's own process saw them.
    pub seconds: f64,
    /// Bytes of its arguments and results.
    pub bytes: u64,
    /// Floating-point operations in its matrix products.
    pub flops: u64,
}

/// Memory that the trainer's process asked its allocator for, telemetry only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocations {
    /// How often memory was asked for, since the first request for tokens.
    pub count: u64,
    /// Bytes asked for, since then.
    pub bytes: u64,
    /// Most bytes held at a time, since the process began.
    pub peak_bytes: u64,
}

/// What the harness counted in the trainer's process, telemetry only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Sections in order of first use.
    pub sections: Vec<Section>,
    /// Operations in order of first use. A harness that does not count them sends none.
    #[serde(default)]
    pub operations: Vec<Operation>,
    /// Floating-point operations in matrix products of the fused operations.
    pub flops: f64,
    /// Values in the snapshot.
    pub parameters: u64,
    /// Memory asked for. A harness that does not count it sends none.
    #[serde(default)]
    pub allocations: Option<Allocations>,
    /// How often gradients were computed.
    #[serde(default)]
    pub gradients: u64,
}

/// Token windows to be scored.
///
/// On the wire: `batch` and `length` as little-endian `u32`, then `batch * length` tokens as
/// little-endian `u16`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Number of windows.
    pub batch: u32,
    /// Positions in a window.
    pub length: u32,
    /// `batch * length` tokens, window by window.
    pub tokens: Vec<u16>,
}

/// A message from the supervisor to a program.
#[derive(Clone, Debug, PartialEq)]
pub enum FromSupervisor {
    /// The task; always the first message.
    Start(Start),
    /// The answer to a [`BatchRequest`]: `batch * (length + 1)` tokens, sequence by sequence.
    Tokens(Vec<u16>),
    /// Send the parameters as they are as a [`FromProgram::Checkpoint`], then go on waiting.
    Peek,
    /// The parameters to be evaluated; second message to an evaluator.
    Parameters(Snapshot),
    /// Windows to be scored; answered by [`FromProgram::Logits`].
    Windows(Windows),
    /// Logits for the claimed loss; answered by [`FromProgram::Loss`].
    LossCase(LossCase),
    /// Nothing more will come; the program exits with status 0.
    Stop,
}

/// A message from a program to the supervisor.
#[derive(Clone, Debug, PartialEq)]
pub enum FromProgram {
    /// A trainer wants tokens.
    Batch(BatchRequest),
    /// A point of a series, to be read before the next request.
    Record(Record),
    /// The answer to [`FromSupervisor::Peek`].
    Checkpoint(Snapshot),
    /// Counts of the whole training, sent just before the snapshot.
    Summary(Summary),
    /// The trained parameters; training is over.
    Snapshot(Snapshot),
    /// Logits for [`FromSupervisor::Windows`]: `batch * length * vocab` values as little-endian
    /// `f32`, window by window, position by position.
    Logits(Vec<f32>),
    /// The claimed loss of a [`FromSupervisor::LossCase`] with its gradient.
    Loss(LossAnswer),
}

impl FromSupervisor {
    /// Writes the message as one frame and flushes.
    ///
    /// # Errors
    ///
    /// When the pipe fails.
    pub fn write(&self, pipe: &mut impl Write) -> Result<(), Error> {
        match self {
            Self::Start(start) => write_frame(pipe, START, &[&to_json("start", start)?])?,
            Self::Tokens(tokens) => write_frame(pipe, TOKENS, &[&bytes_from_u16(tokens)])?,
            Self::Peek => write_frame(pipe, PEEK, &[])?,
            Self::Parameters(parameters) => {
                write_frame(pipe, PARAMETERS, &[&parameters.encode()?])?;
            }
            Self::Windows(Windows { batch, length, tokens }) => {
                let parts = [&batch.to_le_bytes()[..], &length.to_le_bytes()];
                write_frame(pipe, WINDOWS, &[parts[0], parts[1], &bytes_from_u16(tokens)])?;
            }
            Self::LossCase(case) => write_frame(pipe, LOSS_CASE, &[&case.encode()])?,
            Self::Stop => write_frame(pipe, STOP, &[])?,
        }
        Ok(pipe.flush()?)
    }

    /// Reads one message, for the program's side. The supervisor is trusted: no limit.
    ///
    /// # Errors
    ///
    /// When the pipe closes or a frame is malformed.
    pub fn read(pipe: &mut impl Read) -> Result<Self, Error> {
        let (kind, payload) = read_frame(pipe, u64::MAX)?;
        Ok(match kind {
            START => Self::Start(from_json("start", &payload)?),
            TOKENS => Self::Tokens(u16_from_bytes("tokens", &payload)?),
            PEEK => Self::Peek,
            PARAMETERS => Self::Parameters(Snapshot::decode(&payload)?),
            WINDOWS => {
                let (batch, length, rest) = two_u32("windows", &payload)?;
                let tokens = u16_from_bytes("windows", rest)?;
                if tokens.len() as u64 != u64::from(batch) * u64::from(length) {
                    let reason = format!("{} tokens for {batch} x {length}", tokens.len());
                    return Err(Error::malformed("windows", reason));
                }
                Self::Windows(Windows { batch, length, tokens })
            }
            LOSS_CASE => Self::LossCase(LossCase::decode(&payload)?),
            STOP => Self::Stop,
            other => return Err(Error::UnknownKind(other)),
        })
    }
}

impl FromProgram {
    /// Writes the message as one frame; the caller flushes, so that records can wait for a request.
    ///
    /// # Errors
    ///
    /// When the pipe fails.
    pub fn write(&self, pipe: &mut impl Write) -> Result<(), Error> {
        match self {
            Self::Batch(BatchRequest { batch, length }) => {
                write_frame(pipe, BATCH, &[&batch.to_le_bytes(), &length.to_le_bytes()])
            }
            Self::Record(record) => write_frame(pipe, RECORD, &[&to_json("record", record)?]),
            Self::Checkpoint(snapshot) => write_frame(pipe, CHECKPOINT, &[&snapshot.encode()?]),
            Self::Summary(summary) => write_frame(pipe, SUMMARY, &[&to_json("summary", summary)?]),
            Self::Snapshot(snapshot) => write_frame(pipe, SNAPSHOT, &[&snapshot.encode()?]),
            Self::Logits(logits) => {
                let bytes: Vec<u8> = logits.iter().flat_map(|value| value.to_le_bytes()).collect();
                write_frame(pipe, LOGITS, &[&bytes])
            }
            Self::Loss(answer) => write_frame(pipe, LOSS, &[&answer.encode()]),
        }
    }

    /// Reads one message of a program that is not trusted; a payload has at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// When the pipe closes, a frame is longer than `limit`, or a frame is malformed.
    pub fn read(pipe: &mut impl Read, limit: u64) -> Result<Self, Error> {
        let (kind, payload) = read_frame(pipe, limit)?;
        Ok(match kind {
            BATCH => {
                let (batch, length, rest) = two_u32("batch", &payload)?;
                if !rest.is_empty() {
                    return Err(Error::malformed("batch", "more than two numbers"));
                }
                Self::Batch(BatchRequest { batch, length })
            }
            RECORD => Self::Record(from_json("record", &payload)?),
            CHECKPOINT => Self::Checkpoint(Snapshot::decode(&payload)?),
            SUMMARY => Self::Summary(from_json("summary", &payload)?),
            SNAPSHOT => Self::Snapshot(Snapshot::decode(&payload)?),
            LOGITS => {
                let (values, rest) = payload.as_chunks::<4>();
                if !rest.is_empty() {
                    return Err(Error::malformed("logits", "not a whole number of values"));
                }
                Self::Logits(values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
            }
            LOSS => Self::Loss(LossAnswer::decode(&payload)?),
            other => return Err(Error::UnknownKind(other)),
        })
    }
}

fn to_json(kind: &'static str, message: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(message).map_err(|error| Error::json(kind, &error))
}

fn from_json<M: DeserializeOwned>(kind: &'static str, payload: &[u8]) -> Result<M, Error> {
    serde_json::from_slice(payload).map_err(|error| Error::json(kind, &error))
}

fn bytes_from_u16(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn u16_from_bytes(kind: &'static str, bytes: &[u8]) -> Result<Vec<u16>, Error> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Error::malformed(kind, "an odd number of bytes holds no tokens"));
    }
    Ok(pairs.iter().map(|&pair| u16::from_le_bytes(pair)).collect())
}

fn two_u32<'a>(kind: &'static str, bytes: &'a [u8]) -> Result<(u32, u32, &'a [u8]), Error> {
    let short = || Error::malformed(kind, "it ends before two numbers");
    let (first, rest) = bytes.split_first_chunk().ok_or_else(short)?;
    let (second, rest) = rest.split_first_chunk().ok_or_else(short)?;
    Ok((u32::from_le_bytes(*first), u32::from_le_bytes(*second), rest))
}

/// JSON has no NaN and no infinities: a non-finite value travels as `null` and arrives as NaN.
mod nan_as_null {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        if value.is_finite() { to.serialize_f64(*value) } else { to.serialize_none() }
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Spec;

    fn snapshot() -> Snapshot {
        let spec = Spec { name: "w".into(), shape: vec![2] };
        Snapshot::round([(spec, [1.0, 2.0].as_slice())]).unwrap()
    }

    #[test]
    fn every_message_to_a_program_survives_the_pipe() {
        let start = Start {
            version: crate::VERSION,
            track: "cpu".into(),
            seed: u64::MAX,
            vocab: 256,
            context: 64,
            max_parameters: 1000,
            limits: Limits { cpu_seconds: 60.0, memory_bytes: 1 << 30, batch_tokens: 1 << 20 },
            collect: Collect::All,
        };
        for message in [
            FromSupervisor::Start(start),
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
        ] {
            let mut pipe = Vec::new();
            message.write(&mut pipe).unwrap();
            assert_eq!(FromSupervisor::read(&mut pipe.as_slice()).unwrap(), message);
        }
    }

    #[test]
    fn every_message_from_a_program_survives_the_pipe() {
        let section =
            Section { name: "forward".into(), calls: 3, cpu_seconds: 0.5, bytes: 28, flops: 9 };
        let operation =
            Operation { name: "adamw".into(), calls: 3, seconds: 0.1, bytes: 28, flops: u64::MAX };
        for message in [
            FromProgram::Batch(BatchRequest { batch: 8, length: 64 }),
            FromProgram::Record(Record { series: "loss".into(), step: 4, value: 0.1 }),
            FromProgram::Checkpoint(snapshot()),
            FromProgram::Summary(Summary {
                sections: vec![section],
                operations: vec![operation],
                flops: 1e12,
                parameters: 2,
                allocations: Some(Allocations { count: 1, bytes: u64::MAX, peak_bytes: 3 }),
                gradients: 130,
            }),
            FromProgram::Snapshot(snapshot()),
            FromProgram::Logits(vec![1.5, f32::NEG_INFINITY]),
            FromProgram::Loss(LossAnswer { value: 1.5, gradient: vec![-0.5, 0.5] }),
        ] {
            let mut pipe = Vec::new();
            message.write(&mut pipe).unwrap();
            assert_eq!(FromProgram::read(&mut pipe.as_slice(), 1 << 20).unwrap(), message);
        }
    }

    #[test]
    fn a_record_of_infinity_arrives_as_nan() {
        let mut pipe = Vec::new();
        let record = Record { series: "loss".into(), step: 0, value: f64::INFINITY };
        FromProgram::Record(record).write(&mut pipe).unwrap();
        let FromProgram::Record(back) = FromProgram::read(&mut pipe.as_slice(), 1000).unwrap()
        else {
            panic!("a record was written");
        };
        assert!(back.value.is_nan());
    }

    #[test]
    fn a_summary_of_an_older_harness_is_read() {
        let mut pipe = Vec::new();
        let text = br#"{"sections":[{"name":"data","calls":1,"cpu_seconds":0.5}],"flops":1.0,"parameters":2}"#;
        write_frame(&mut pipe, SUMMARY, &[text]).unwrap();
        let FromProgram::Summary(summary) = FromProgram::read(&mut pipe.as_slice(), 1000).unwrap()
        else {
            panic!("a summary was written");
        };
        let section =
            Section { name: "data".into(), calls: 1, cpu_seconds: 0.5, bytes: 0, flops: 0 };
        let sections = vec![section];
        assert_eq!(summary, Summary { sections, flops: 1.0, parameters: 2, ..Summary::default() });
    }

    #[test]
    fn nonsense_from_a_program_is_an_error() {
        let check = |kind: u8, payload: &[u8], expected: &str| {
            let mut pipe = Vec::new();
            write_frame(&mut pipe, kind, &[payload]).unwrap();
            let error = FromProgram::read(&mut pipe.as_slice(), 100).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(0, b"", "kind 0 is unknown");
        check(START, b"{}", "kind 1 is unknown on this side");
        check(BATCH, b"abc", "frame `batch` is malformed: it ends before two numbers");
        check(BATCH, b"abcdefghi", "more than two numbers");
        check(RECORD, b"{\"series\":3}", "frame `record` is malformed");
        check(LOGITS, b"abcde", "not a whole number");
        check(SNAPSHOT, b"", "frame `snapshot` is malformed");
        check(LOGITS, &[0; 104], "announces 104 bytes, more than the limit of 100");
    }
}
