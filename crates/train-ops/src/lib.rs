//! Fused training operations for candle tensors, each with its backward pass.
//!
//! Plain candle spends two to four times PyTorch's CPU time on a training step, because norms,
//! activations and losses are chains of whole-tensor operations, each with a pass of its own in
//! the backward direction. The functions here do the same work in one pass forward and one
//! backward, and every one of them propagates gradients to all of its floating-point arguments
//! (some fast functions of candle silently do not).
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use forerunner_train_ops as ops;
//!
//! # fn main() -> candle_core::Result<()> {
//! let weight = Var::from_vec(vec![0.5f32, -0.5, 1.0, 2.0], (2, 2), &Device::Cpu)?;
//! let x = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
//! let targets = Tensor::new(&[0u32, 1], &Device::Cpu)?;
//! let loss = ops::cross_entropy(&ops::gelu(&ops::linear_no_bias(&x, &weight)?)?, &targets)?;
//! let gradients = loss.backward()?;
//! assert_eq!(gradients.get(&weight).expect("the loss depends on it").dims(), [2, 2]);
//! # Ok(())
//! # }
//! ```
//!
//! All operations work on `f32` tensors on the CPU, and on one thread unless [`use_threads`] gives
//! them more: where CPU seconds count, threads that wait for each other spend them. Results depend
//! on the inputs alone, not on the number of threads, so honest programs are reproducible to the
//! last bit on one machine. Shapes use `B` for the
//! batch, `T` for positions, `C` for channels, `V` for the vocabulary and `N` for rows.

mod adamw;
mod attention;
mod cross_entropy;
#[cfg(any(feature = "cuda", feature = "emulator"))]
pub mod device;
mod each_value;
mod embedding;
mod gelu;
mod head_loss;
mod heads;
mod layer_norm;
mod linear;
mod lion;
mod muon;
mod orthogonal;
mod product;
pub mod profile;
mod qk_norm;
mod rms_norm;
mod rotary;
mod storage;
mod sum_of_squares;
mod swiglu;
mod threads;
mod update;
mod vector;

pub use adamw::{AdamW, Caution, Moments, adamw, cautious_adamw};
pub use attention::{causal_attention, windowed_attention};
pub use cross_entropy::cross_entropy;
pub use each_value::{relu_squared, softcap};
pub use embedding::embedding;
pub use gelu::gelu;
pub use head_loss::head_loss;
pub use layer_norm::layer_norm;
pub use linear::{linear, linear_no_bias};
pub use lion::{Lion, lion};
pub use muon::{Muon, muon};
pub use orthogonal::Polynomial;
pub use product::flops;
pub use qk_norm::qk_norm;
pub use rms_norm::{rms_norm, rms_norm_plain};
pub use rotary::rotary;
pub use sum_of_squares::sum_of_squares;
pub use swiglu::swiglu;
pub use threads::{threads, use_threads};
pub use update::Momentum;
