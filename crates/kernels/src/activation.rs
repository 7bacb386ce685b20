//! Activations, of each value alone or of a pair.

use crate::launch::args;
use crate::reduction::count;
use crate::{Error, Launch, Machine, Result, Type, View, ViewMut};

/// Threads of a block.
const THREADS: usize = 256;
/// Values of a block where each is a function of its own: two vectors of eight for a thread.
const VALUES: usize = 16 * THREADS;

/// A function of each value alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// The Gaussian error linear unit in its tanh form: `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
    Gelu,
    /// `max(x, 0)²`.
    ReluSquared,
    /// `cap · tanh(x / cap)`.
    Softcap(f32),
}

impl Activation {
    /// Its number, where it has one.
    fn cap(self, name: &'static str) -> Result<f32> {
        match self {
            Self::Softcap(cap) if cap.is_normal() && cap > 0.0 => Ok(cap),
            Self::Softcap(cap) => {
                Err(Error::shape(name, format!("cap {cap} is not a positive number")))
            }
            Self::Gelu | Self::ReluSquared => Ok(0.0),
        }
    }
}

/// `y = f(x)`, both bf16, of equal length.
///
/// # Errors
///
/// When lengths or types do not fit, memory is not aligned to 16 bytes, or a cap is not positive.
pub fn activation_forward(
    machine: &Machine,
    activation: Activation,
    x: &View<'_>,
    y: &mut ViewMut<'_>,
) -> Result<()> {
    const NAME: &str = "activation_forward";
    let cap = activation.cap(NAME)?;
    x.expect(NAME, "x", Type::Bf16, x.len())?;
    y.expect(NAME, "y", Type::Bf16, x.len())?;
    require_aligned(NAME, &[x.is_aligned(), y.is_aligned()])?;
    let kernel = match activation {
        Activation::Gelu => "gelu_forward",
        Activation::ReluSquared => "relu_squared_forward",
        Activation::Softcap(_) => "softcap_forward",
    };
    let launch = Launch::line(kernel, x.len().div_ceil(VALUES), THREADS as u32);
    // SAFETY: the kernel reads `x.len()` values and writes as many of `y`, which is as long.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        machine.launch(&launch, args![x, &*y, x.len() as u64, cap])
    }
}

/// `dx = dy · f'(x)`, all bf16, of equal length.
///
/// # Errors
///
/// As for [`activation_forward`].
pub fn activation_backward(
    machine: &Machine,
    activation: Activation,
    x: &View<'_>,
    dy: &View<'_>,
    dx: &mut ViewMut<'_>,
) -> Result<()> {
    const NAME: &str = "activation_backward";
    let cap = activation.cap(NAME)?;
    x.expect(NAME, "x", Type::Bf16, x.len())?;
    dy.expect(NAME, "dy", Type::Bf16, x.len())?;
    dx.expect(NAME, "dx", Type::Bf16, x.len())?;
    require_aligned(NAME, &[x.is_aligned(), dy.is_aligned(), dx.is_aligned()])?;
    let kernel = match activation {
        Activation::Gelu => "gelu_backward",
        Activation::ReluSquared => "relu_squared_backward",
        Activation::Softcap(_) => "softcap_backward",
    };
    let launch = Launch::line(kernel, x.len().div_ceil(VALUES), THREADS as u32);
    // SAFETY: the kernel reads `x.len()` values of both and writes as many; all are as long.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        machine.launch(&launch, args![x, dy, &*dx, x.len() as u64, cap])
    }
}

/// `silu(a) · b` of the halves `a` and `b` of each row, with `silu(a) = a / (1 + e⁻ᵃ)`.
///
/// # Shapes
///
/// `x` is bf16 `[rows, 2 · half]`, `y` bf16 `[rows, half]`.
///
/// # Errors
///
/// When sizes or types do not fit.
pub fn swiglu_forward(
    machine: &Machine,
    (rows, half): (usize, usize),
    x: &View<'_>,
    y: &mut ViewMut<'_>,
) -> Result<()> {
    const NAME: &str = "swiglu_forward";
    let len = rows * half;
    x.expect(NAME, "x", Type::Bf16, 2 * len)?;
    y.expect(NAME, "y", Type::Bf16, len)?;
    let fast = half.is_multiple_of(8) && x.is_aligned() && y.is_aligned();
    // SAFETY: the kernels read all of `x` and write all of `y`, whose lengths were just checked.
    #[expect(unsafe_code, reason = "launches")]
    unsafe {
        if fast {
            let (items, vectors) = (count(NAME, "vectors", len / 8)?, (half / 8) as u32);
            let launch =
                Launch::line("swiglu_forward", (len / 8).div_ceil(THREADS), THREADS as u32);
            machine.launch(&launch, args![x, &*y, items, vectors])
        } else {
            let launch = Launch::line("swiglu_forward_any", len.div_ceil(THREADS), THREADS as u32);
            machine.launch(&launch, args![x, &*y, len as u64, half as u64])
        }
    }
}

/// The gradient of [`swiglu_forward`].
///
/// # Shapes
///
/// `x` and `dx` are bf16 `[rows, 2 · half]`, `dy` is bf16 `[rows, half]`.
///
/// # Errors
///
/// When sizes or types do not fit.
pub fn swiglu_backward(
    machine: &Machine,
    (rows, half): (usize, usize),
    x: &View<'_>,
    dy: &View<'_>,
    dx: &mut ViewMut<'_>,
) -> Result<()> {
    const NAME: &str = "swiglu_backward";
    let len = rows * half;
    x.expect(NAME, "x", Type::Bf16, 2 * len)?;
    dy.expect(NAME, "dy", Type::Bf16, len)?;
    dx.expect(NAME, "dx", Type::Bf16, 2 * len)?;
    let aligned = x.is_aligned() && dy.is_aligned() && dx.is_aligned();
    // SAFETY: the kernels read all of `x` and `dy` and write all of `dx`, whose lengths were just
    // checked.
    #[expect(unsafe_code, reason = "launches")]
    unsafe {
        if half.is_multiple_of(8) && aligned {
            let (items, vectors) = (count(NAME, "vectors", len / 8)?, (half / 8) as u32);
            let launch =
                Launch::line("swiglu_backward", (len / 8).div_ceil(THREADS), THREADS as u32);
            machine.launch(&launch, args![x, dy, &*dx, items, vectors])
        } else {
            let launch = Launch::line("swiglu_backward_any", len.div_ceil(THREADS), THREADS as u32);
            machine.launch(&launch, args![x, dy, &*dx, len as u64, half as u64])
        }
    }
}

fn require_aligned(name: &'static str, views: &[bool]) -> Result<()> {
    if views.iter().all(|&aligned| aligned) {
        return Ok(());
    }
    Err(Error::shape(name, "memory does not start at a multiple of 16 bytes"))
}
