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
// Without a machine there is nothing to launch anything on: the crate is empty.
#![cfg(any(feature = "cuda", feature = "emulator"))]

mod activation;
mod attention;
mod custom;
#[cfg(feature = "cuda")]
mod device;
mod elementwise;
mod embedding;
#[cfg(feature = "emulator")]
mod emulator;
mod error;
mod gemm;
mod graph;
mod head;
mod launch;
mod loss;
mod machine;
mod measure;
mod memory;
mod muon;
mod newton_schulz;
mod norm;
mod optimizer;
mod reduction;
mod rotary;
mod step_tables;

pub use activation::{
    Activation, activation_backward, activation_forward, swiglu_backward, swiglu_forward,
};
pub use attention::{AttentionSizes, attention_backward, attention_forward};
pub use custom::{CustomArgument, CustomKernel, CustomKernels, CustomSource, Grid};
#[cfg(feature = "cuda")]
pub use custom::{CustomImage, compile_custom};
#[cfg(feature = "cuda")]
pub use device::require_driver;
pub use elementwise::{accumulate, add, add_to, affine, fill, round_to_bf16, widen};
pub use embedding::{embedding_backward, embedding_forward};
pub use error::{Error, Result};
pub use gemm::{Epilogue, Gemm, Operand, gemm};
pub use graph::{Graph, Queued};
pub use head::{HeadSizes, head_loss};
pub use launch::{Argument, Launch};
pub use loss::{
    LossSizes, cross_entropy_backward, cross_entropy_backward_in_place, cross_entropy_forward,
    mean_loss,
};
pub use machine::Machine;
pub use measure::{Counts, Facts, KernelCost, Mark};
pub use memory::{Buffer, Type, View, ViewMut};
pub use muon::{MuonSettings, MuonTensor, muon};
pub use norm::{layer_norm_backward, layer_norm_forward, rms_norm_backward, rms_norm_forward};
pub use optimizer::{AdamWSettings, AdamWTensor, LionSettings, LionTensor, adamw, lion};
pub use reduction::{column_sums, scale_by, sum, sum_of_squares};
pub use rotary::{
    QkSizes, RotarySizes, qk_norm_backward, qk_norm_backward_in_place, qk_norm_forward,
    qk_norm_rotary_backward, qk_norm_rotary_backward_in_place, qk_norm_rotary_forward, rotary,
    rotary_in_place, rotary_table,
};
pub use step_tables::{Schedule, StepTables};
