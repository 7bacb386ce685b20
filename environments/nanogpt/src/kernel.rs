//! The calibration kernel: a fixed piece of work of the kind that training does, timed on the
//! trainer's core to learn how fast that core is at the moment.

use nix::time::{ClockId, clock_gettime};
use std::hint::black_box;

/// CPU seconds of one measured pass on the machine that the track's constants were set on (Zen 4,
/// two cores, other work beside it): calibrated seconds are seconds of that machine.
pub(crate) const NOMINAL_SECONDS: f64 = 1.2e-4;

/// Rows, inner dimension and columns of the product: a linear layer of a small GPT.
const ROWS: usize = 256;
const INNER: usize = 64;
const COLUMNS: usize = 256;
/// Dependent multiplications: latency, where the product is throughput.
const CHAIN: u64 = 20_000;

/// Buffers for the kernel.
pub(crate) struct Kernel {
    left: Vec<f32>,
    right: Vec<f32>,
    out: Vec<f32>,
}

/// One timing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// CPU seconds of the whole pass.
    pub(crate) seconds: f64,
    /// Floating-point operations per second in the product alone.
    pub(crate) flops_per_second: f64,
}

impl Kernel {
    /// A kernel ready to run.
    pub(crate) fn new() -> Self {
        let fill = |n: usize| (0..n).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect();
        Self {
            left: fill(ROWS * INNER),
            right: fill(INNER * COLUMNS),
            out: vec![0.0; ROWS * COLUMNS],
        }
    }

    /// Runs the kernel on the calling thread and times it in CPU seconds of this thread. A first
    /// pass, not timed, warms the caches that the trainer has filled with its own.
    pub(crate) fn time(&mut self) -> Timing {
        self.product();
        self.elementwise();
        let start = thread_cpu_seconds();
        self.product();
        let in_product = thread_cpu_seconds() - start;
        self.elementwise();
        chain();
        let seconds = thread_cpu_seconds() - start;
        let flops = (2 * ROWS * INNER * COLUMNS) as f64;
        Timing { seconds, flops_per_second: flops / in_product.max(1e-9) }
    }

    fn product(&mut self) {
        let (left, right) = (black_box(&self.left), black_box(&self.right));
        #[expect(unsafe_code, reason = "gemm's interface takes pointers")]
        // SAFETY: row-major `ROWS x INNER`, `INNER x COLUMNS` and `ROWS x COLUMNS` buffers, with
        // row strides equal to their widths: every index is inside its vector.
        unsafe {
            gemm::gemm(
                ROWS,
                COLUMNS,
                INNER,
                self.out.as_mut_ptr(),
                1,
                COLUMNS as isize,
                false,
                left.as_ptr(),
                1,
                INNER as isize,
                right.as_ptr(),
                1,
                COLUMNS as isize,
                0.0_f32,
                1.0_f32,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    }

    /// A GELU-like pass over the product, as bound by memory and latency as training's are.
    fn elementwise(&mut self) {
        for value in black_box(&mut self.out) {
            let x = *value;
            *value = x / (1.0 + x * x) + 0.5 * x;
        }
    }
}

fn chain() {
    let mut value = 1_u64;
    for index in 0..CHAIN {
        value = black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(index));
    }
}

/// CPU seconds of the calling thread.
fn thread_cpu_seconds() -> f64 {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map_or(0.0, |time| time.tv_sec() as f64 + time.tv_nsec() as f64 * 1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_is_right_and_takes_time() {
        let mut kernel = Kernel::new();
        kernel.product();
        let row = 3;
        let column = 200;
        let expected: f32 = (0..INNER)
            .map(|i| kernel.left[row * INNER + i] * kernel.right[i * COLUMNS + column])
            .sum();
        assert!((kernel.out[row * COLUMNS + column] - expected).abs() < 1e-4);
        let timing = kernel.time();
        assert!(timing.seconds > 0.0 && timing.flops_per_second > 0.0);
    }
}
