//! Kernels of a program's own, on tracks that allow them: CUDA C++ as a string, compiled when the
//! program runs, launched on tensors, with a kernel for the way back.
//!
//! ```no_run
//! use harness::prelude::*;
//!
//! const SOURCE: &str = "
//! KERNEL(square, (const bf16* x, bf16* y, uint32_t count)) {
//!     uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
//!     if (i < count) y[i] = to_bf16(to_float(x[i]) * to_float(x[i]));
//! }
//! KERNEL(square_backward,
//!        (const bf16* x, const bf16* y, const bf16* dy, bf16* dx, uint32_t count)) {
//!     uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
//!     if (i < count) dx[i] = to_bf16(2.0f * to_float(x[i]) * to_float(dy[i]));
//! }
//! ";
//!
//! fn square(source: &CudaSource, x: &Tensor) -> Result<Tensor> {
//!     let grid = Grid::line(x.count(), 256)?;
//!     let back = Backward { kernel: source.kernel("square_backward")?, grid };
//!     let results = custom_kernel(
//!         &source.kernel("square")?,
//!         grid,
//!         &[(x, Kind::Bf16)],
//!         &[Number::U32(x.count() as u32)],
//!         &[(x.dims(), Kind::Bf16)],
//!         Some(back),
//!     )?;
//!     let [y] = &results[..] else { bail!("one result was asked for") };
//!     Ok(y.clone())
//! }
//! ```
//!
//! # What a source finds, and what it may not do
//!
//! `bf16` with `to_float` and `to_bf16`, the fixed-width integers, `KERNEL(name, (…))`, sums and
//! maxima over warps and blocks, asynchronous copies, tensor-core products: what our own kernels are
//! written with (`crates/kernels/cuda/device.cuh`). It includes nothing else. A source has at most
//! 64 KiB of ASCII; all sources of a process together have at most 16 kernels; one compiles within 30
//! seconds to at most 4 MiB. The time is the program's own: a compilation while it trains is on its
//! clock.
//!
//! # Why tracks do not allow this unless they say so
//!
//! A kernel can read all device memory of its process, tokens included, so on such a track it does not
//! hold that a program cannot read values ([`crate::Tensor`] says what that is good for), and a
//! counted table of n-grams is within reach. In the evaluator a kernel sees the tokens of whole
//! windows, those that come after a position and those to be predicted among them. What still holds
//! is what does not rest on the program's process: it holds no data that it was not served, the sandbox
//! keeps it from everything else, the supervisor has clock, data and score, the audit compares scores
//! with logits that were computed without the answers, and probes look for positions that see later
//! ones. On other tracks a program that names this module's items is refused before it is built, and
//! [`CudaSource::new`] refuses whoever got past that.
//!
//! A kernel that reaches beyond its memory fails the whole device of its process: the next operation
//! that waits for the device ends the program with the driver's error, and so does every later one.
//! One that never ends is ended with its process, by the supervisor's limits. What a kernel writes
//! nowhere keeps what the memory held before, which differs from run to run.

#[cfg(feature = "device")]
use std::cell::Cell;
#[cfg(not(feature = "device"))]
use std::convert::Infallible;

#[cfg(feature = "device")]
use forerunner_kernels as kernels;
#[cfg(feature = "device")]
use forerunner_train_ops::device as ops;

use crate::{Error, Result, Task, Tensor};

/// Kernels of all sources of a process together.
#[cfg(feature = "device")]
const MOST_KERNELS: usize = 16;

#[cfg(feature = "device")]
type Kernels = kernels::CustomKernels;
#[cfg(feature = "device")]
type Kernel = kernels::CustomKernel;
// Where there is no device there are no kernels: the functions below then only say so.
#[cfg(not(feature = "device"))]
type Kernels = Infallible;
#[cfg(not(feature = "device"))]
type Kernel = Infallible;

/// The kernels of one source; a clone is the same ones.
#[derive(Clone, Debug)]
pub struct CudaSource(Kernels);

/// One kernel; a clone is the same one.
#[derive(Clone, Debug)]
pub struct CustomKernel(Kernel);

/// With how many threads a kernel is launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Blocks along x, y and z; none of them zero, along y and z at most 65,535.
    pub blocks: [u32; 3],
    /// Threads of a block along x, y and z; none of them zero, all together at most 1,024.
    pub threads: [u32; 3],
    /// Bytes of a block's dynamic shared memory; with the kernel's own at most 227 KiB, less on some
    /// devices.
    pub shared_bytes: u32,
}

/// What a kernel's pointer points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `bf16`: what flows between operations. A parameter is rounded, once for each change.
    Bf16,
    /// `float`: what parameters, their gradients and losses are.
    F32,
}

/// A number that a kernel is handed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// `uint32_t`.
    U32(u32),
    /// `int`.
    I32(i32),
    /// `float`.
    F32(f32),
}

/// The way back through a kernel.
#[derive(Clone, Debug)]
pub struct Backward {
    /// Reads the inputs, the results and the gradients of the results, and writes the gradients of the
    /// inputs; its parameters are pointers to them in this order, then the same numbers.
    pub kernel: CustomKernel,
    /// With how many threads.
    pub grid: Grid,
}

impl Grid {
    /// Enough blocks of `threads` threads along x for one thread per value.
    ///
    /// # Errors
    ///
    /// When there are no values, no threads, or more blocks than a device takes.
    pub fn line(values: usize, threads: u32) -> Result<Self> {
        let blocks =
            values.checked_div(threads as usize).map(|_| values.div_ceil(threads as usize));
        match blocks.map(i32::try_from) {
            Some(Ok(blocks @ 1..)) => {
                let blocks = [blocks.unsigned_abs(), 1, 1];
                Ok(Self { blocks, threads: [threads, 1, 1], shared_bytes: 0 })
            }
            _ => {
                Err(Error::program(format!("no grid of {threads} threads covers {values} values")))
            }
        }
    }
}

impl CudaSource {
    /// Compiles a source for the device that the program runs on.
    ///
    /// # Errors
    ///
    /// Unless the track allows kernels of a program's own; without a CUDA device or NVIDIA's run-time
    /// compiler; when the source does not keep the limits or does not compile, with the compiler's
    /// words.
    pub fn new(task: &Task, source: &str) -> Result<Self> {
        Self::compile(task, source, false)
    }

    /// [`CudaSource::new`] with approximate division, roots and exponentials, and zero for the smallest
    /// numbers: `--use_fast_math`.
    ///
    /// # Errors
    ///
    /// As for [`CudaSource::new`].
    pub fn with_fast_math(task: &Task, source: &str) -> Result<Self> {
        Self::compile(task, source, true)
    }

    fn compile(task: &Task, source: &str, fast_math: bool) -> Result<Self> {
        if !task.custom_kernels() {
            return Err(Error::program(format!(
                "the track `{}` allows no kernels of a program's own\nhint: use the harness's \
                 operations, or a track whose configuration says `custom_kernels = true`",
                task.track
            )));
        }
        #[cfg(feature = "device")]
        if crate::device::current().is_some() {
            let compiled = ops::custom_kernels(source, fast_math)?;
            let count = N_KERNELS.get() + compiled.len();
            if count > MOST_KERNELS {
                return Err(Error::program(format!(
                    "{count} kernels in all sources, more than {MOST_KERNELS}\nhint: compile each \
                     source once, and keep what `CudaSource::new` returns"
                )));
            }
            N_KERNELS.set(count);
            return Ok(Self(compiled));
        }
        let _ = (source, fast_math);
        Err(Error::program("custom kernels run on a CUDA device only"))
    }

    /// The kernel with a name.
    ///
    /// # Errors
    ///
    /// When the source has none of that name.
    pub fn kernel(&self, name: &str) -> Result<CustomKernel> {
        #[cfg(feature = "device")]
        {
            let found = self.0.kernel(name);
            found.map(CustomKernel).map_err(|error| Error::program(error.to_string()))
        }
        #[cfg(not(feature = "device"))]
        {
            let _ = name;
            match self.0 {}
        }
    }
}

#[cfg(feature = "device")]
thread_local! {
    /// Kernels that this thread, on which a program runs, has compiled.
    static N_KERNELS: Cell<usize> = const { Cell::new(0) };
}

/// One launch of a kernel: inputs are read, results are written.
///
/// The kernel's parameters are pointers to the inputs, pointers to the results, and the numbers, in
/// this order. Inputs arrive as the kind that stands beside them, row by row without gaps; results
/// have the shapes and kinds given, and the kernel writes every value of them. With a [`Backward`],
/// gradients pass: that of an input has its shape and kind. Without one, none does.
///
/// # Errors
///
/// When a kernel's parameters are others, the device cannot hold such blocks, or it has no memory left.
pub fn custom_kernel(
    kernel: &CustomKernel,
    grid: Grid,
    inputs: &[(&Tensor, Kind)],
    numbers: &[Number],
    results: &[(&[usize], Kind)],
    backward: Option<Backward>,
) -> Result<Vec<Tensor>> {
    #[cfg(feature = "device")]
    {
        let inputs: Vec<_> = inputs
            .iter()
            .map(|&(input, kind)| Ok((input.trace()?, kind.dtype())))
            .collect::<Result<_>>()?;
        let results: Vec<_> = results
            .iter()
            .map(|&(dims, kind)| Ok((crate::tensor::countable(dims)?, kind.dtype())))
            .collect::<Result<_>>()?;
        let numbers: Vec<ops::Number> = numbers.iter().map(|&number| number.into()).collect();
        let backward = backward.map(|Backward { kernel, grid }| launch(&kernel, grid));
        let written =
            ops::custom_kernel(&launch(kernel, grid), &inputs, &numbers, &results, backward)?;
        Ok(written.into_iter().map(Tensor::traced).collect())
    }
    #[cfg(not(feature = "device"))]
    {
        let _ = (grid, inputs, numbers, results, backward);
        match kernel.0 {}
    }
}

#[cfg(feature = "device")]
fn launch(kernel: &CustomKernel, grid: Grid) -> ops::CustomLaunch {
    let Grid { blocks, threads, shared_bytes } = grid;
    let grid = kernels::Grid { blocks, threads, shared_bytes };
    ops::CustomLaunch { kernel: kernel.0.clone(), grid }
}

#[cfg(feature = "device")]
impl Kind {
    fn dtype(self) -> candle_core::DType {
        match self {
            Self::Bf16 => candle_core::DType::BF16,
            Self::F32 => candle_core::DType::F32,
        }
    }
}

#[cfg(feature = "device")]
impl From<Number> for ops::Number {
    fn from(number: Number) -> Self {
        match number {
            Number::U32(value) => Self::U32(value),
            Number::I32(value) => Self::I32(value),
            Number::F32(value) => Self::F32(value),
        }
    }
}

#[cfg(test)]
mod tests;
