//! Kernels for training on GPUs, and a device emulator that runs the same sources on the CPU.
//!
//! The kernels are CUDA C++ in `cuda/`. With the feature `cuda` they are compiled by nvcc, embedded,
//! and launched through the driver; with the feature `emulator` they are compiled by the C++ compiler
//! against `emulator/`, which gives threads, barriers, shuffles and tensor-core products a device's
//! meaning. So every kernel is tested on machines without a GPU, launch by launch.
//!
//! A [`Machine`] is one device or the emulator. Memory is a [`Buffer`], or anybody's, as a [`View`];
//! the operations of this crate are safe functions on views that check every length before they
//! launch. They know nothing of tensors, gradients or candle.
//!
//! Activations are bf16, statistics and sums f32; results depend on the inputs alone: sums are formed
//! in a fixed order, and no floating-point number is added to by two threads at once.
#![cfg_attr(
    not(any(feature = "cuda", feature = "emulator")),
    expect(dead_code, reason = "without a machine nothing can be launched")
)]

#[cfg(feature = "cuda")]
mod device;
mod elementwise;
#[cfg(feature = "emulator")]
mod emulator;
mod error;
mod gemm;
mod launch;
mod machine;
mod memory;

pub use elementwise::{add, round_to_bf16};
pub use error::{Error, Result};
pub use gemm::{Epilogue, Gemm, Operand, gemm};
pub use launch::{Argument, Launch};
pub use machine::Machine;
pub use memory::{Buffer, Type, View, ViewMut};
