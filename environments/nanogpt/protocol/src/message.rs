//! What the frames mean.

use std::io::{Read, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Device, DeviceReport, DeviceUse, Error, LossAnswer, LossCase, Snapshot, read_frame, write_frame,
};

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
const GO: u8 = 15;
const READY: u8 = 16;
const SCORE: u8 = 17;
const LOSSES: u8 = 18;
const ROWS: u8 = 19;

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
        GO => "go",
        READY => "ready",
        SCORE => "score",
        LOSSES => "losses",
        ROWS => "rows",
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
    /// Seed of this run; the harness derives all randomness from it. On a GPU it is 0 here and comes
    /// with [`FromSupervisor::Go`].
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
    /// Where tensors live. On a GPU the harness answers [`FromProgram::Ready`] and waits for
    /// [`FromSupervisor::Go`]; on the CPU neither is sent.
    #[serde(default, skip_serializing_if = "Device::is_cpu")]
    pub device: Device,
    /// Whether the program may bring kernels of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub custom_kernels: bool,
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
    /// threads; seconds of the device on a GPU.
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
    /// Seconds in it, as the program's own process saw them; seconds of the device on a GPU.
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
    /// What the device was used for. A harness without one sends none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceUse>,
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

/// Token windows of which one position each is asked for.
///
/// On the wire: `batch` and `length` as little-endian `u32`, then `batch` positions as little-endian
/// `u32`, then `batch * length` tokens as little-endian `u16`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// The windows. Their number and length are those of other frames, so that the model computes
    /// in the same shapes.
    pub windows: Windows,
    /// A position of each window.
    pub positions: Vec<u32>,
}

/// A message from the supervisor to a program.
#[derive(Clone, Debug, PartialEq)]
pub enum FromSupervisor {
    /// The task; always the first message.
    Start(Start),
    /// The device is yours, the clock runs: the seed of this run. Answers [`FromProgram::Ready`].
    Go(u64),
    /// The answer to a [`BatchRequest`]: `batch * (length + 1)` tokens, sequence by sequence.
    Tokens(Vec<u16>),
    /// Send the parameters as they are as a [`FromProgram::Checkpoint`], then go on waiting.
    Peek,
    /// The parameters to be evaluated; second message to an evaluator.
    Parameters(Snapshot),
    /// Windows to be scored; answered by [`FromProgram::Logits`].
    Windows(Windows),
    /// Windows of one token more than the model is shown, to be scored by the harness: the first
    /// `length - 1` tokens of each are its input, and each of them is followed by its target.
    /// Answered by [`FromProgram::Losses`]. Only on a GPU, where handing logits over would take
    /// longer than training does; what is answered is a commitment that is audited.
    Score(Windows),
    /// Windows of which the logits at one position each are asked for; answered by
    /// [`FromProgram::Logits`] with one row for each window. Only on a GPU.
    Rows(Rows),
    /// Logits for the claimed loss; answered by [`FromProgram::Loss`].
    LossCase(LossCase),
    /// Nothing more will come; the program exits with status 0.
    Stop,
}

/// A message from a program to the supervisor.
#[derive(Clone, Debug, PartialEq)]
pub enum FromProgram {
    /// The device is set up; nothing of the program has run. Only on a GPU.
    Ready(DeviceReport),
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
    /// `f32`, window by window, position by position. For [`FromSupervisor::Rows`] it is
    /// `batch * vocab` values.
    Logits(Vec<f32>),
    /// Losses for [`FromSupervisor::Score`] in nats: `batch * (length - 1)` values as little-endian
    /// `f32`, window by window, position by position; each is `-ln softmax` of the very logits that
    /// [`FromSupervisor::Rows`] is answered with, summed in `f32` or better.
    Losses(Vec<f32>),
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
            Self::Go(seed) => write_frame(pipe, GO, &[&seed.to_le_bytes()])?,
            Self::Tokens(tokens) => write_frame(pipe, TOKENS, &[&bytes_from_u16(tokens)])?,
            Self::Peek => write_frame(pipe, PEEK, &[])?,
            Self::Parameters(parameters) => {
                write_frame(pipe, PARAMETERS, &[&parameters.encode()?])?;
            }
            Self::Windows(windows) => write_windows(pipe, WINDOWS, windows, &[])?,
            Self::Score(windows) => write_windows(pipe, SCORE, windows, &[])?,
            Self::Rows(Rows { windows, positions }) => {
                write_windows(pipe, ROWS, windows, positions)?;
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
            GO => Self::Go(u64::from_le_bytes(payload.as_slice().try_into().map_err(|_| {
                Error::malformed("go", format!("{} bytes hold no seed", payload.len()))
            })?)),
            TOKENS => Self::Tokens(u16_from_bytes("tokens", &payload)?),
            PEEK => Self::Peek,
            PARAMETERS => Self::Parameters(Snapshot::decode(&payload)?),
            WINDOWS => Self::Windows(read_windows("windows", &payload, false)?.0),
            SCORE => Self::Score(read_windows("score", &payload, false)?.0),
            ROWS => {
                let (windows, positions) = read_windows("rows", &payload, true)?;
                Self::Rows(Rows { windows, positions })
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
            Self::Ready(report) => write_frame(pipe, READY, &[&to_json("ready", report)?]),
            Self::Batch(BatchRequest { batch, length }) => {
                write_frame(pipe, BATCH, &[&batch.to_le_bytes(), &length.to_le_bytes()])
            }
            Self::Record(record) => write_frame(pipe, RECORD, &[&to_json("record", record)?]),
            Self::Checkpoint(snapshot) => write_frame(pipe, CHECKPOINT, &[&snapshot.encode()?]),
            Self::Summary(summary) => write_frame(pipe, SUMMARY, &[&to_json("summary", summary)?]),
            Self::Snapshot(snapshot) => write_frame(pipe, SNAPSHOT, &[&snapshot.encode()?]),
            Self::Logits(logits) => write_frame(pipe, LOGITS, &[&bytes_from_f32(logits)]),
            Self::Losses(losses) => write_frame(pipe, LOSSES, &[&bytes_from_f32(losses)]),
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
            READY => Self::Ready(from_json("ready", &payload)?),
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
            LOGITS => Self::Logits(f32_from_bytes("logits", &payload)?),
            LOSSES => Self::Losses(f32_from_bytes("losses", &payload)?),
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

/// Writes windows, with the positions that are asked for where there are any.
fn write_windows(
    pipe: &mut impl Write,
    kind: u8,
    Windows { batch, length, tokens }: &Windows,
    positions: &[u32],
) -> Result<(), Error> {
    let positions: Vec<u8> = positions.iter().flat_map(|value| value.to_le_bytes()).collect();
    let (batch, length) = (batch.to_le_bytes(), length.to_le_bytes());
    write_frame(pipe, kind, &[&batch, &length, &positions, &bytes_from_u16(tokens)])
}

/// Reads windows, behind a position for each of them where `with_positions` says so.
fn read_windows(
    kind: &'static str,
    payload: &[u8],
    with_positions: bool,
) -> Result<(Windows, Vec<u32>), Error> {
    let (batch, length, mut rest) = two_u32(kind, payload)?;
    let mut positions = Vec::new();
    if with_positions {
        let count = batch as usize;
        let Some((head, tail)) = count.checked_mul(4).and_then(|n| rest.split_at_checked(n)) else {
            return Err(Error::malformed(kind, format!("it ends before {count} positions")));
        };
        positions = head.as_chunks::<4>().0.iter().map(|&b| u32::from_le_bytes(b)).collect();
        if let Some(position) = positions.iter().find(|&&position| position >= length) {
            let reason = format!("position {position} in windows of {length}");
            return Err(Error::malformed(kind, reason));
        }
        rest = tail;
    }
    let tokens = u16_from_bytes(kind, rest)?;
    if tokens.len() as u64 != u64::from(batch) * u64::from(length) {
        let reason = format!("{} tokens for {batch} x {length}", tokens.len());
        return Err(Error::malformed(kind, reason));
    }
    Ok((Windows { batch, length, tokens }, positions))
}

fn bytes_from_f32(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn f32_from_bytes(kind: &'static str, bytes: &[u8]) -> Result<Vec<f32>, Error> {
    let (values, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(Error::malformed(kind, "not a whole number of values"));
    }
    Ok(values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
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
mod tests;
