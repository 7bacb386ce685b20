//! The frames that a NanoGPT supervisor and a program's process exchange over pipes.
//!
//! A program is started as `program train` or `program evaluate`; its standard input and output
//! carry frames, its standard error carries free text. A frame is a `u32` little-endian payload
//! length, one byte for the kind, and the payload; what the payload of each kind holds is said at
//! its message.
//!
//! ```text
//! trainer     supervisor                     program
//!             Start                    ───►
//!                                      ◄───  Batch, Record*      (repeated; records ride along)
//!             Peek                     ───►                      (optional, before the tokens)
//!                                      ◄───  Checkpoint
//!             Tokens                   ───►
//!                                      ◄───  Summary
//!                                      ◄───  Snapshot            (the clock stops here)
//!             Stop                     ───►
//!
//! evaluator   Start, Parameters        ───►
//!             Windows                  ───►
//!                                      ◄───  Logits              (repeated)
//!             Peek                     ───►                      (optional)
//!                                      ◄───  Checkpoint
//!             Stop                     ───►
//!
//! loss        Start                    ───►
//!             LossCase                 ───►
//!                                      ◄───  Loss                (repeated)
//!             Stop                     ───►
//! ```
//!
//! On a GPU ([`Device::Cuda`]) each of the three begins with a hand-over, and windows are scored by
//! the harness, because handing over all logits of ten million tokens would take longer than
//! training:
//!
//! ```text
//! any         Start                    ───►  (the device is set up and warmed up)
//!                                      ◄───  Ready
//!             Go                       ───►  (the clock starts here; it carries the seed)
//!
//! evaluator   Parameters               ───►
//!             Score                    ───►
//!                                      ◄───  Losses              (repeated: a commitment)
//!             Rows                     ───►
//!                                      ◄───  Logits              (repeated: the audit of it)
//! ```
//!
//! A trainer synchronises the device before it sends its snapshot.
//!
//! Nothing a program sends is believed: [`FromProgram::read`] bounds what it allocates by the
//! caller's limit and checks every length, and no metric is read from a program's frames except
//! the logits, whose loss the supervisor computes.

mod bf16;
mod device;
mod error;
mod frame;
mod loss;
mod message;
mod snapshot;

pub use bf16::{bf16_from_f32, f32_from_bf16};
pub use device::{Device, DeviceReport, DeviceUse};
pub use error::Error;
pub use frame::{HEADER_BYTES, read_frame, write_frame};
pub use loss::{LossAnswer, LossCase};
pub use message::{
    Allocations, BatchRequest, Collect, FromProgram, FromSupervisor, Limits, Operation, Record,
    Rows, Section, Start, Summary, Windows,
};
pub use snapshot::{Snapshot, Spec};

/// The version of this protocol, sent in [`Start`]; a program built for another one refuses.
pub const VERSION: u32 = 1;
