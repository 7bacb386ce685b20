//! What measuring on a GPU takes beside the program: the device for one program at a time, its memory
//! overwritten between programs, and an eye on its clocks.
//!
//! [`Session`] is the whole of it. Nothing here links CUDA: clocks are read through NVML, which is
//! opened at run time (`nvml`), and device memory is written by a trusted program of ours (`helper`).
//! Where either is missing the telemetry says what was not measured and why.

mod company;
mod helper;
mod lock;
mod nvml;
mod series;
mod session;
mod watch;

pub(crate) use session::{SCRUB, Seen, Session, Watching};
