//! A matrix product of the kind that training does: what the core could do at most.

use nix::time::{ClockId, clock_gettime};
use std::hint::black_box;

/// Rows, inner dimension and columns of the product: a linear layer of a small GPT.
const ROWS: usize = 256;
const INNER: usize = 64;
const COLUMNS: usize = 256;
/// The best of so many counts, so that an interruption does not.
const REPEATS: usize = 40;

/// Buffers for the kernel.
pub(crate) struct Kernel {
    left: Vec<f32>,
    right: Vec<f32>,
    out: Vec<f32>,
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

    /// Highest rate seen on the calling thread's core, in floating-point operations per CPU second.
    pub(crate) fn peak_flops(&mut self) -> f64 {
        let time = |kernel: &mut Self| {
            let start = thread_cpu_seconds();
            kernel.product();
            thread_cpu_seconds() - start
        };
        let best = (0..REPEATS).map(|_| time(self)).fold(f64::INFINITY, f64::min);
        (2 * ROWS * INNER * COLUMNS) as f64 / best.max(1e-9)
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
}

/// CPU seconds of the calling thread.
pub(crate) fn thread_cpu_seconds() -> f64 {
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
        assert!(kernel.peak_flops() > 0.0);
    }
}
