//! What is done with a device before anything is timed on it.

use candle_core::{DType, Result, Tensor};
use forerunner_kernels::{Gemm, Operand, Type, gemm};

use super::Place;
use super::memory::{empty, view, view_mut, wrapped};

/// Products of one warm-up, and how many at the end are timed, each by itself.
const PRODUCTS: usize = 40;
const TIMED: usize = 10;

/// Multiplies random matrices of bf16 until clocks are up; returns the highest rate of the last
/// products in floating-point operations per second. The device is idle afterwards.
///
/// # Errors
///
/// When the device fails.
pub fn warm_up(place: &Place) -> Result<f64> {
    load_candle(place)?;
    // The emulator gets no faster.
    let (side, products) = if place.device.is_cpu() { (32, TIMED) } else { (8192, PRODUCTS) };
    let machine = &place.machine;
    let noise = |seed: u32| {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let values: Vec<f32> = (0..side * side).map(|_| next()).collect();
        machine.upload_f32(Type::Bf16, &values).map_err(wrapped)
    };
    let (a, b) = (noise(1)?, noise(2)?);
    let to = empty(place, (side, side), DType::BF16)?;
    let mut best = 0.0f64;
    for product_idx in 0..products {
        let before = machine.mark().map_err(wrapped)?;
        let (a, b) = (Operand::plain(a.view()), Operand::plain(b.view()));
        gemm(machine, Gemm::new((side, side, side), a, b, view_mut(&to)?)).map_err(wrapped)?;
        let after = machine.mark().map_err(wrapped)?;
        if product_idx + TIMED >= products {
            let seconds = before.seconds_to(&after).map_err(wrapped)?;
            best = best.max(2.0 * (side as f64).powi(3) / seconds);
        }
    }
    machine.download(&view(&to)?.part(0..1)).map_err(wrapped)?;
    machine.synchronize().map_err(wrapped)?;
    Ok(best)
}

/// Uses one function of each of candle's modules that programs can reach: the driver translates a
/// module as a whole when it is first used (seconds, by estimate; in the sandbox nothing of it is kept for
/// the next process), which is nobody's training.
fn load_candle(place: &Place) -> Result<()> {
    for dtype in [DType::F32, DType::BF16] {
        let x = Tensor::ones((2, 2), dtype, &place.device)?;
        let y = (x.affine(2.0, 1.0)? + &x)?.exp()?;
        let rows = Tensor::from_vec(vec![0u32, 1], 2, &place.device)?;
        let larger = y.ge(&x)?.where_cond(&x, &y)?;
        let sum = larger.index_select(&rows, 0)?.matmul(&y)?.sum_all()?;
        sum.to_dtype(DType::F32)?.to_scalar::<f32>()?;
    }
    Ok(())
}
