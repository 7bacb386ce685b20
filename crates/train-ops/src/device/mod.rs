//! The operations on a device: activations in bf16, parameters and their gradients in f32.
//!
//! The same names as at the top of this crate, on [`Traced`] tensors: candle tensors that remember how
//! they were made. The reverse pass is our own, for three reasons that were counted for GPT-2 124M
//! (docs/decisions/0011): candle's allocates zeros for each edge and adds out of place, which moves
//! 1.4 MB for each token; its operations have one result each, so that a residual sum and its norm
//! cannot be one kernel; and it keeps activations until the last gradient is there.
//!
//! Kernels come from `forerunner-kernels`, and run on a CUDA device or, in tests, on its emulator.
//! What has no kernel there is done by candle ([`generic`]).

mod activations;
mod custom;
mod generic;
mod graph;
mod heads;
mod linear;
mod memory;
mod norms;
mod optimizers;
mod place;
mod tape;
mod tokens;
mod warm_up;

pub use activations::{gelu, relu_squared, softcap, swiglu};
pub use custom::{CustomLaunch, Number, custom_kernel, custom_kernels};
pub use generic::{add, affine, generic, sum_of_squares, sum_of_squares_all};
pub use graph::{
    Captured, NotCaptured, Watched, about_to_run_plainly, copy_of, copy_to, full, is_capturing,
    is_in_pass, note_numbers, refuse_while_capturing,
};
pub use heads::{causal_attention, qk_norm, rotary, windowed_attention};
pub use linear::{linear, linear_gelu, linear_no_bias};
pub use memory::by_candle;
pub use norms::{layer_norm, residual_layer_norm, residual_rms_norm, rms_norm, rms_norm_plain};
pub use optimizers::{OptimizerState, Scalars, Squares, Step, adamw, lion, muon};
pub use place::{Place, place, use_place};
pub use tape::{Gradients, Traced};
pub use tokens::{cross_entropy, embedding, head_loss, softcapped_head_loss, token_losses};
pub use warm_up::warm_up;
