//! What a NanoGPT program is written against.
//!
//! A program is one source file that describes a [`Model`] and a function that trains it, with the
//! training loop in plain sight:
//!
//! ```no_run
//! use harness::prelude::*;
//!
//! struct Bigram {
//!     table: Var, // (V, V)
//! }
//!
//! impl Model for Bigram {
//!     fn new(params: &mut Params, task: &Task) -> Result<Self> {
//!         Ok(Self { table: params.zeros("table", (task.vocab, task.vocab))? })
//!     }
//!
//!     fn logits(&self, tokens: &Tokens) -> Result<Tensor> {
//!         embedding(&self.table, tokens) // (B, T, V)
//!     }
//! }
//!
//! fn train(model: &Bigram, _params: &Params, run: &mut Training) -> Result<()> {
//!     for step in 0..100 {
//!         let batch = run.batch(8, run.task().context)?;
//!         let loss = cross_entropy(&model.logits(&batch.inputs)?, &batch.targets)?;
//!         let gradients = loss.backward()?;
//!         if let Some(gradient) = gradients.get(&model.table) {
//!             model.table.set(&(&*model.table - (gradient * 10.0)?)?)?;
//!         }
//!         run.record("train_loss", step, &loss)?;
//!     }
//!     Ok(())
//! }
//!
//! fn main() -> ExitCode {
//!     harness::run::<Bigram>(train)
//! }
//! ```
//!
//! The same binary is started twice: as `program train` it is handed tokens and sends its
//! parameters back; as `program evaluate`, in a fresh process, it is handed those parameters,
//! rounded to bfloat16, and returns logits for windows of tokens (on a GPU their losses, and rows of
//! logits where it is audited). The supervisor at the other end of the pipes owns the clock, the data
//! and the score.
//!
//! On a track with a GPU the same source runs on the device, in bfloat16 with sums in `f32`.
//!
//! Fixed here, beyond a program's reach: which tokens come, how parameters are initialised for a
//! seed, how many may be carried, the number of threads, and how a model is scored. A program is free in
//! architecture, training loss, optimizer, schedule, batch size, sequence length and number of
//! steps. Three things are closed on purpose:
//!
//! - Values of tensors and tokens cannot be read, because counting n-grams would beat training
//!   (see [`Tensor`]). What a program learns passes through differentiable operations. Kernels of a
//!   program's own ([`CudaSource`]) can read them; a track must allow those.
//! - Randomness comes from [`Training::rng`] and [`Params`], so that a seed means something.
//! - Clocks, files and the environment are out of bounds.
//!
//! Nothing this crate does inside a program's process is trusted by the supervisor.

mod allocation;
mod captured;
#[cfg(all(test, feature = "device"))]
mod captured_conversation;
mod channel;
mod claimed;
#[cfg(test)]
mod conversation;
mod custom;
#[cfg(feature = "device")]
mod device;
#[cfg(all(test, feature = "device"))]
mod device_conversation;
mod error;
mod evaluation;
#[cfg(test)]
mod gradients;
mod norms;
mod operations;
mod optimizers;
mod params;
mod process;
mod rng;
mod run;
mod sections;
mod task;
mod tensor;
mod tokens;
mod training;
mod variable;

pub use candle_core::Shape;
pub use captured::Captured;
pub use custom::{Backward, CudaSource, CustomKernel, Grid, Kind, Number, custom_kernel};
pub use error::{Error, Result};
pub use operations::{
    causal_attention, cross_entropy, embedding, gelu, head_loss, layer_norm, linear, linear_gelu,
    linear_no_bias, qk_norm, relu_squared, residual_layer_norm, residual_rms_norm, rms_norm,
    rms_norm_plain, rotary, softcap, softcapped_head_loss, sum_of_squares, sum_of_squares_all,
    swiglu, windowed_attention,
};
pub use optimizers::{
    AdamW, AdamWStep, Caution, Lion, Moments, Momentum, Muon, MuonStep, Polynomial, Scalars, adamw,
    adamw_all, cautious_adamw, lion, muon, muon_all,
};
pub use params::{Parameter, Params};
pub use rng::Rng;
pub use run::{Model, run};
pub use task::Task;
pub use tensor::Tensor;
pub use tokens::Tokens;
pub use training::{Batch, Point, Training};
pub use variable::{Gradients, Var};

/// Everything a program needs, in one line: `use harness::prelude::*;`.
pub mod prelude {
    pub use std::process::ExitCode;

    pub use crate::custom::{
        Backward, CudaSource, CustomKernel, Grid, Kind, Number, custom_kernel,
    };
    pub use crate::operations::*;
    pub use crate::optimizers::*;
    pub use crate::{
        Batch, Captured, Error, Gradients, Model, Parameter, Params, Result, Rng, Task, Tensor,
        Tokens, Training, Var, bail, ensure,
    };
}

/// Returns from the function with an error made of a format string: `bail!("lost at {step}")`.
#[macro_export]
macro_rules! bail {
    ($($message:tt)+) => {
        return ::std::result::Result::Err($crate::Error::program(::std::format!($($message)+)))
    };
}

/// Returns with an error unless a condition holds: `ensure!(loss.is_finite(), "loss is {loss}")`.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            $crate::bail!($($message)+);
        }
    };
}
