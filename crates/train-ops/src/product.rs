//! Matrix products, and the count of their operations.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::threads::{Cut, in_shares};

static FLOPS: AtomicU64 = AtomicU64::new(0);

/// What a core does, about, for estimates of what is worth sharing.
const FLOPS_PER_NANOSECOND: usize = 64;

/// Rows of a share are a multiple of this, which is one of the rows that kernels form together.
const UNIT: usize = 16;

/// Nanoseconds that one thread takes for products of so many operations, about.
pub(crate) fn cost_of_flops(flops: usize) -> usize {
    flops / FLOPS_PER_NANOSECOND
}

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
    let product = Product { to, row_stride, old, a, b, scale };
    let (most, cost) = (product.most_shares(), product.cost());
    in_shares(product, most, cost, Product::run);
}

/// A product that is still to be formed; the fields are the arguments of [`product`].
pub(crate) struct Product<'a> {
    pub(crate) to: &'a mut [f32],
    pub(crate) row_stride: usize,
    pub(crate) old: Old,
    pub(crate) a: View<'a>,
    pub(crate) b: View<'a>,
    pub(crate) scale: f32,
}

impl Product<'_> {
    /// Forms it on this thread.
    pub(crate) fn run(self) {
        let Self { to, row_stride, old, a, b, scale } = self;
        let (m, n, k) = (a.rows, b.columns, a.columns);
        assert_eq!(k, b.rows, "inner sizes of a product differ");
        assert!(to.len() >= extent(m, n, row_stride), "a product reaches beyond its destination");
        assert!(m == 0 || n == 0 || n <= row_stride || m == 1, "rows of a destination overlap");
        FLOPS.fetch_add(2 * (m * n * k) as u64, Ordering::Relaxed);
        #[expect(unsafe_code, reason = "gemm takes raw pointers")]
        // SAFETY: both views hold every element they address (asserted when they are made, and kept
        // by `transposed` and `cut`), `to` holds `m` rows of `n` elements (asserted above), and
        // being borrowed mutably it overlaps neither view. Strides stay far below `isize::MAX`,
        // being inside slices.
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

    /// Nanoseconds that one thread takes, about.
    pub(crate) fn cost(&self) -> usize {
        cost_of_flops(2 * self.a.rows * self.a.columns * self.b.columns)
    }

    /// Most shares that give the bits of the whole product.
    ///
    /// Each element is a sum over the inner dimension, and `gemm` adds it up in an order that does
    /// not depend on the other sizes, with two exceptions: products of at most 256 elements may be
    /// formed in another way, and in those of at most 64 by 64 long sums are cut at other places.
    /// Shares must fall into the class of the whole. (What gemm 0.19 does; a test compares bits.)
    pub(crate) fn most_shares(&self) -> usize {
        let (m, n, k) = (self.a.rows, self.b.columns, self.a.columns);
        let least = if n < 32 {
            return 1;
        } else if n <= 64 && m > 64 && k > 512 {
            80
        } else {
            UNIT
        };
        m / least
    }
}

/// Cut by rows of the result. One that cannot be cut is in the first share.
impl Cut for Product<'_> {
    fn cut(self, n_shares: usize) -> (Self, Self) {
        let rows = self.a.rows;
        let possible = self.most_shares() >= n_shares;
        let first = if possible { rows / n_shares / UNIT * UNIT } else { rows };
        let Self { to, row_stride, old, a, b, scale } = self;
        let middle = (first * row_stride).min(to.len());
        let (to, to_rest) = to.split_at_mut(middle);
        let a_rest = View {
            data: &a.data[(first * a.row_stride).min(a.data.len())..],
            rows: rows - first,
            ..a
        };
        let a = View { rows: first, ..a };
        (
            Self { to, row_stride, old, a, b, scale },
            Self { to: to_rest, row_stride, old, a: a_rest, b, scale },
        )
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
