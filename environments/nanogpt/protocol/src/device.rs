//! What a supervisor and a program say to each other about the device that a track is measured on.
//!
//! On the CPU nothing of it is sent, and nothing changes. On a GPU there are two parties to wait
//! for before anything may be timed: the harness has to set the device up (context, kernels, matrix
//! library, a warm-up on random tokens that is the same for every program), and the supervisor has
//! to start its clock. The harness says [`crate::FromProgram::Ready`] when it is done, and calls
//! the program's `Model::new` only once [`crate::FromSupervisor::Go`] has come.
//!
//! **What a program's own code can do before `Go`.** `main` is the program's, so it can compute
//! before it calls `harness::run`, and that is not charged. It gains nothing that is worth having:
//! there are no tokens and no seed yet (on a GPU [`crate::Start::seed`] is 0; the seed comes with
//! `Go`, and in training tokens come after it), the device is not set up, and values that do not
//! depend on the data have to be initialised by the harness from the seed. The time before `Go` is
//! bounded by the supervisor and reported.

use serde::{Deserialize, Serialize};

/// Where a program's tensors live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// The processor, in `f32`.
    #[default]
    Cpu,
    /// One NVIDIA GPU: activations in bfloat16, sums and parameters in `f32`.
    Cuda,
}

impl Device {
    /// Whether it is the processor, of which nothing is said in a frame or a fingerprint.
    pub fn is_cpu(&self) -> bool {
        *self == Self::Cpu
    }
}

/// A device that is set up. Telemetry: the words of the program's process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// Name of the product.
    pub name: String,
    /// Memory of the device in bytes.
    pub memory_bytes: u64,
    /// Version of the CUDA that the driver speaks, such as `13.0`.
    pub driver: String,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Highest rate of bfloat16 matrix products seen in the warm-up, in floating-point operations
    /// per second of the device.
    pub matmul_flops_per_second: f64,
}

/// What a device was used for. Telemetry: the words of the program's process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceUse {
    /// Most bytes of device memory held at a time since the process began.
    pub peak_bytes: u64,
    /// Seconds of the device in all timed operations.
    #[serde(default)]
    pub seconds: f64,
    /// Kernels launched, those of replayed graphs included.
    #[serde(default)]
    pub launches: u64,
    /// What the seconds of sections and operations were measured with, in words: `events` or
    /// `profiler`.
    #[serde(default)]
    pub timed_by: String,
    /// What became of work that the program wanted captured as graphs, in words; empty where it
    /// wanted none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub graphs: String,
}
