//! Matrix products on one thread, and the count of their operations.

use std::sync::atomic::{AtomicU64, Ordering};

static FLOPS: AtomicU64 = AtomicU64::new(0);

/// Floating-point operations in matrix products of this crate since the process began.
///
/// A product of `m × k` by `k × n` counts `2 m n k`. Element-wise work and candle's own products
/// are not counted.
pub fn flops() -> u64 {
    FLOPS.load(Ordering::Relaxed)
}

/// A matrix seen in a slice: row `i`, column `j` is at `i * row_stride + j * column_stride`.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> View<'a> {
    /// A matrix whose rows follow each other without gaps.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// A matrix whose rows begin `row_stride` values apart.
    pub(crate) fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(data.len() >= extent(rows, columns, row_stride), "a view reaches beyond its data");
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// The same values with rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// What becomes of the values that the destination of a product already has.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Old {
    Replace,
    Add,
}

/// `to = scale · a b` or `to += scale · a b`; rows of `to` begin `row_stride` values apart.
pub(crate) fn product(
    to: &mut [f32],
    row_stride: usize,
    old: Old,
    a: View<'_>,
    b: View<'_>,
    scale: f32,
) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows, "inner sizes of a product differ");
    assert!(to.len() >= extent(m, n, row_stride), "a product reaches beyond its destination");
    assert!(m == 0 || n == 0 || n <= row_stride || m == 1, "rows of a destination overlap");
    FLOPS.fetch_add(2 * (m * n * k) as u64, Ordering::Relaxed);
    #[expect(unsafe_code, reason = "gemm takes raw pointers")]
    // SAFETY: both views hold every element they address (asserted when they are made, and kept by
    // `transposed`), `to` holds `m` rows of `n` elements (asserted above), and being borrowed
    // mutably it overlaps neither view. Strides stay far below `isize::MAX`, being inside slices.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            to.as_mut_ptr(),
            1,
            row_stride as isize,
            old == Old::Add,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// Length that a slice must have to hold a matrix.
fn extent(rows: usize, columns: usize, row_stride: usize) -> usize {
    if rows == 0 || columns == 0 { 0 } else { (rows - 1) * row_stride + columns }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * seed).sin()).collect()
    }

    #[test]
    fn products_follow_three_plain_loops() {
        let check = |m: usize, n: usize, k: usize, a_stride: usize, to_stride: usize| {
            let (a, b) = (line(m * a_stride, 0.3), line(n * k, 0.7));
            for old in [Old::Replace, Old::Add] {
                let mut to = line(m * to_stride, 0.9);
                let before = to.clone();
                let (a_view, b_view) = (View::strided(&a, m, k, a_stride), View::new(&b, n, k));
                product(&mut to, to_stride, old, a_view, b_view.transposed(), 0.5);
                for i in 0..m {
                    for j in 0..to_stride {
                        let at = i * to_stride + j;
                        let kept = if old == Old::Add || j >= n { before[at] } else { 0.0 };
                        let sum: f32 = (0..k)
                            .map(|l| a[i * a_stride + l] * b.get(j * k + l).unwrap_or(&0.0))
                            .sum();
                        let expected = kept + if j < n { 0.5 * sum } else { 0.0 };
                        assert!((to[at] - expected).abs() < 1e-5, "({m}, {n}, {k}) at {i}, {j}");
                    }
                }
            }
        };
        check(1, 1, 1, 1, 1);
        check(5, 7, 3, 4, 9);
        check(33, 17, 64, 64, 17);
    }

    #[test]
    fn operations_are_counted() {
        let before = flops();
        product(&mut [0.0], 1, Old::Replace, View::new(&[2.0], 1, 1), View::new(&[3.0], 1, 1), 1.0);
        assert!(flops() >= before + 2);
    }
}
