//! Kernels that come as source at run time, as differentiable operations; see
//! `forerunner_kernels::CustomSource` for their limits and for what nobody checks.
#![expect(unsafe_code, reason = "nobody can vouch for kernels that come as source")]

use candle_core::{DType, Result, Shape, Tensor, bail};
use forerunner_kernels::{CustomArgument, CustomKernel, CustomKernels, CustomSource, Grid};

use super::memory::{cast, dense, empty, filled, view, view_mut, wrapped};
use super::tape::{Gradient, step};
use super::{Place, Traced, place};

/// A number that a kernel is handed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// `uint32_t`.
    U32(u32),
    /// `int`.
    I32(i32),
    /// `float`.
    F32(f32),
}

/// A kernel, and with how many threads it is launched.
#[derive(Debug, Clone)]
pub struct CustomLaunch {
    /// The kernel.
    pub kernel: CustomKernel,
    /// Blocks, threads, shared memory.
    pub grid: Grid,
}

/// Compiles a source for this thread's device.
///
/// # Errors
///
/// When the source does not keep the limits or does not compile, without NVIDIA's run-time compiler,
/// and on the emulator.
pub fn custom_kernels(text: &str, fast_math: bool) -> Result<CustomKernels> {
    let place = place()?;
    let source = CustomSource::new(text).map_err(wrapped)?;
    let source = if fast_math { source.with_fast_math() } else { source };
    place.machine.custom_kernels(&source).map_err(wrapped)
}

/// One launch: reads the inputs, writes the results.
///
/// The kernel's parameters are a pointer for each input, one for each result, and the numbers, in this
/// order. Inputs arrive as the type that stands beside them, `BF16` or `F32`, row by row; results are
/// of the shapes and types given, and not initialised.
///
/// Going back, the other kernel's parameters are pointers to the inputs, the results and the gradients
/// of the results (zeros where none arrived), which it reads; then one for the gradient of each input,
/// of that input's shape and type, which it writes; then the same numbers. Without such a kernel no
/// gradient passes.
///
/// # Errors
///
/// When a kernel does not declare such parameters, a type is another one, the device cannot hold such
/// blocks or has no memory left.
pub fn custom_kernel(
    forward: &CustomLaunch,
    inputs: &[(&Traced, DType)],
    numbers: &[Number],
    results: &[(Shape, DType)],
    backward: Option<CustomLaunch>,
) -> Result<Vec<Traced>> {
    let place = place()?;
    let values: Vec<Tensor> =
        inputs.iter().map(|&(input, dtype)| values_as(input, dtype)).collect::<Result<_>>()?;
    let result = |(shape, dtype): &(Shape, DType)| empty(&place, shape.clone(), known(*dtype)?);
    let results: Vec<Tensor> = results.iter().map(result).collect::<Result<_>>()?;
    launch(&place, forward, &values, &results, numbers)?;
    let Some(backward) = backward else {
        return Ok(results.iter().map(Traced::constant).collect());
    };
    let inputs: Vec<&Traced> = inputs.iter().map(|&(input, _)| input).collect();
    let wanted: Vec<Option<DType>> =
        inputs.iter().map(|input| input.is_traced().then(|| input.value().dtype())).collect();
    let (kept, numbers) = (results.clone(), numbers.to_vec());
    Ok(step(&inputs, results, move |gradients| {
        let arrived = |(gradient, result): (&Option<Gradient>, &Tensor)| match gradient {
            Some(gradient) => dense(&cast(gradient.tensor(), result.dtype())?),
            None => cast(&filled(&place, result.shape(), 0.0)?, result.dtype()),
        };
        let arrived: Vec<Tensor> =
            gradients.iter().zip(&kept).map(arrived).collect::<Result<_>>()?;
        let found = |value: &Tensor| empty(&place, value.shape(), value.dtype());
        let found: Vec<Tensor> = values.iter().map(found).collect::<Result<_>>()?;
        let read: Vec<Tensor> = values.into_iter().chain(kept).chain(arrived).collect();
        launch(&place, &backward, &read, &found, &numbers)?;
        let passed = |(found, wanted): (Tensor, Option<DType>)| match wanted {
            Some(dtype) => Ok(Some(Gradient::new(cast(&found, dtype)?))),
            None => Ok(None),
        };
        found.into_iter().zip(wanted).map(passed).collect()
    }))
}

/// A tensor's values, row by row, as a kernel expects them.
fn values_as(input: &Traced, dtype: DType) -> Result<Tensor> {
    match known(dtype)? {
        DType::BF16 => input.in_bf16(),
        dtype => dense(&cast(input.value(), dtype)?),
    }
}

fn known(dtype: DType) -> Result<DType> {
    match dtype {
        DType::BF16 | DType::F32 => Ok(dtype),
        other => bail!("custom kernels know bf16 and f32, not {other:?}"),
    }
}

fn launch(
    place: &Place,
    launch: &CustomLaunch,
    read: &[Tensor],
    written: &[Tensor],
    numbers: &[Number],
) -> Result<()> {
    let mut arguments = Vec::with_capacity(read.len() + written.len() + numbers.len());
    for tensor in read {
        arguments.push(CustomArgument::Read(view(tensor)?));
    }
    for tensor in written {
        arguments.push(CustomArgument::Written(view_mut(tensor)?));
    }
    arguments.extend(numbers.iter().map(|&number| match number {
        Number::U32(value) => CustomArgument::U32(value),
        Number::I32(value) => CustomArgument::I32(value),
        Number::F32(value) => CustomArgument::F32(value),
    }));
    // SAFETY: the kernel is of this thread's device, and what it is handed is alive and as large as
    // the program says. That it keeps to that is the program's word: tracks that allow such kernels
    // trust nothing in the program's process, and hold it apart from everything else.
    unsafe { place.machine.launch_custom(&launch.kernel, launch.grid, &arguments) }.map_err(wrapped)
}
