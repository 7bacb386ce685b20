//! The rate of bfloat16 matrix products: the base of model FLOPs utilisation.
//!
//! The product is the one that training uses ([`forerunner_kernels::gemm`]), large enough to fill any
//! GPU, on random numbers: on zeros a GPU draws less power and runs faster. The rate is that of a
//! sustained load, the median of groups timed by the device's own events.

use cudarc::driver::{CudaEvent, CudaStream, sys::CUevent_flags};
use forerunner_kernels::{Gemm, Machine, Operand, Type, gemm};

use crate::{
    device::{Failure, open},
    report::Report,
};

/// Rows, columns and length of the sums.
const SIZE: usize = 8192;
/// Products in a group that is timed.
const GROUP: usize = 10;
/// Groups before timing starts: enough for clocks and temperature of the first moments to pass.
const WARM_UP: usize = 20;
/// Groups that are timed.
const GROUPS: usize = 51;

/// Measures the device with CUDA's number `ordinal`.
pub(crate) fn measure(ordinal: usize) -> Result<Report, Failure> {
    let context = open(ordinal)?;
    let name = context.name().map_err(Failure::at("matmul"))?;
    let stream = context.new_stream().map_err(Failure::at("matmul"))?;
    let machine = Machine::on_stream(stream.clone())?;
    let a = machine.upload_f32(Type::Bf16, &random(1, SIZE * SIZE))?;
    let b = machine.upload_f32(Type::Bf16, &random(2, SIZE * SIZE))?;
    let mut to = machine.scratch(Type::Bf16, SIZE * SIZE)?;
    let mut group = || -> Result<(), Failure> {
        for _ in 0..GROUP {
            let factors = (Operand::plain(a.view()), Operand::plain(b.view()));
            gemm(&machine, Gemm::new((SIZE, SIZE, SIZE), factors.0, factors.1, to.view_mut()))?;
        }
        Ok(())
    };
    for _ in 0..WARM_UP {
        group()?;
    }
    let mut marks = vec![mark(&stream)?];
    for _ in 0..GROUPS {
        group()?;
        marks.push(mark(&stream)?);
    }
    machine.synchronize()?;
    let seconds: Result<Vec<f64>, Failure> = marks
        .windows(2)
        .map(|pair| {
            let milliseconds = pair[0].elapsed_ms(&pair[1]).map_err(Failure::at("matmul"))?;
            Ok(f64::from(milliseconds) * 1e-3 / GROUP as f64)
        })
        .collect();
    let [fastest, median, slowest] = quantiles(seconds?);
    let flops = 2.0 * (SIZE as f64).powi(3);
    Ok(Report::default()
        .text("name", name)
        .number("flops_per_second", flops / median)
        .number("flops_per_second_min", flops / slowest)
        .number("flops_per_second_max", flops / fastest)
        .count("size", SIZE as u64)
        .count("products", (GROUPS * GROUP) as u64)
        .text("data", "random, uniform in [-1, 1)"))
}

fn mark(stream: &CudaStream) -> Result<CudaEvent, Failure> {
    stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).map_err(Failure::at("matmul"))
}

/// So many numbers in [-1, 1) from `seed` (splitmix64: Steele, Lea and Flood, 2014).
fn random(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let number = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // The upper 24 bits are what a float can tell apart.
        (mixed >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(number).take(count).collect()
}

/// The smallest, the middle and the largest.
fn quantiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [0, values.len() / 2, values.len() - 1].map(|index| values[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_fill_their_range() {
        let numbers = random(1, 1 << 20);
        assert_eq!(numbers.len(), 1 << 20);
        let mean: f64 = numbers.iter().map(|&x| f64::from(x)).sum::<f64>() / numbers.len() as f64;
        // Its standard deviation is 0.577 / 1024.
        assert!(mean.abs() < 3e-3, "{mean}");
        assert!(numbers.iter().all(|x| (-1.0..1.0).contains(x)));
        assert_ne!(numbers[..8], random(2, 8)[..]);
        assert_eq!(quantiles(vec![3.0, 1.0, 2.0]), [1.0, 2.0, 3.0]);
    }
}
