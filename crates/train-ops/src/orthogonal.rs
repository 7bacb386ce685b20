//! Newton-Schulz iterations towards the nearest matrix whose singular values are all one.
//!
//! An iteration maps `X` to `(a + b G + c G²) X` with `G = X Xᵀ`: every singular value `s` becomes
//! `a s + b s³ + c s⁵`, and the singular vectors stay. For a tall matrix the same is done from the
//! right with `G = Xᵀ X`, so that `G` has the size of the smaller side.
//!
//! All polynomials of one `G` commute and are symmetric. For a long matrix it is therefore cheaper
//! to leave `X` alone for some iterations: with `P = a + b G + c G²`, the next `G` is `P P G`, and
//! the product `Q` of all `P` is applied to `X` once.

use crate::product::{Old, View, product};
use crate::vector::vectorized;

/// The polynomials of Newton-Schulz iterations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polynomial {
    /// `3.4445 s - 4.7750 s³ + 2.0315 s⁵` in every iteration (Jordan et al. 2024). Five iterations
    /// take singular values from 0.002 of the matrix' norm upwards to between 0.68 and 1.21; more
    /// do not bring them closer to one.
    Quintic,
    /// The best polynomial for each iteration in turn (Amsel et al., arXiv 2505.16932), with the
    /// safety factor of 1.01 that the authors recommend; from the eighth iteration on it is the
    /// same. Five iterations take singular values from 0.001 of the norm upwards to between 0.84
    /// and 1.13, seven to within 0.00001 of one.
    PolarExpress,
}

impl Polynomial {
    /// The coefficients of `s`, `s³` and `s⁵` in an iteration, counted from zero.
    pub(crate) fn coefficients(self, iteration: usize) -> [f64; 3] {
        // Listed in arXiv 2505.16932, section 4, before the division by the safety factor.
        const POLAR_EXPRESS: [[f64; 3]; 7] = [
            [8.28721201814563, -23.595886519098837, 17.300387312530933],
            [4.107059111542203, -2.9478499167379106, 0.5448431082926601],
            [3.9486908534822946, -2.908902115962949, 0.5518191394370137],
            [3.3184196573706015, -2.488488024314874, 0.51004894012372],
            [2.300652019954817, -1.6689039845747493, 0.4188073119525673],
            [1.891301407787398, -1.2679958271945868, 0.37680408948524835],
            [1.8750014808534479, -1.2500016453999487, 0.3750001645474248],
        ];
        match (self, POLAR_EXPRESS.get(iteration)) {
            (Self::Quintic, _) => [3.4445, -4.7750, 2.0315],
            (Self::PolarExpress, Some([a, b, c])) => {
                [a / 1.01, b / 1.01f64.powi(3), c / 1.01f64.powi(5)]
            }
            (Self::PolarExpress, None) => [1.875, -1.25, 0.375],
        }
    }
}

/// Iterations between two products with a long `X`. Rounding errors of `G` grow by `a²` in each
/// iteration, from 1e-7 to at most some hundredths in five; in many more they would blow up.
const STRETCH: usize = 5;

/// Makes `x`, a matrix of the given rows and columns, orthogonal; returns the result, which lies in
/// `x` or in `scratch`. `norm` is the root of the sum of the squares of `x`.
pub(crate) fn orthogonalize<'a>(
    mut x: &'a mut [f32],
    (rows, columns): (usize, usize),
    norm: f32,
    (polynomial, iterations): (Polynomial, usize),
    scratch: &'a mut [f32],
) -> &'a [f32] {
    let (short, long) = (rows.min(columns), rows.max(columns));
    let size = short * short;
    let (mut y, scratch) = scratch.split_at_mut(rows * columns);
    let (g, scratch) = scratch.split_at_mut(size);
    let (mut p, scratch) = scratch.split_at_mut(size);
    let (mut q, scratch) = scratch.split_at_mut(size);
    let mut t = &mut scratch[..size];

    // With the long side up to 1.5 of the short one, products with X are the cheaper ones.
    let stretch = if 2 * long > 3 * short { STRETCH } else { 1 };
    let mut scale = 1.0 / (norm + 1e-7);
    for first in (0..iterations).step_by(stretch) {
        let last = (first + stretch).min(iterations) - 1;
        let wide = if rows <= columns {
            View::new(x, rows, columns)
        } else {
            View::new(x, rows, columns).transposed()
        };
        product(g, short, Old::Replace, wide, wide.transposed(), scale * scale);
        for iteration in first..=last {
            let [a, b, c] = polynomial.coefficients(iteration).map(|value| value as f32);
            start(p, g, short, a, b);
            product(p, short, Old::Add, square(g, short), square(g, short), c);
            if iteration < last {
                product(t, short, Old::Replace, square(p, short), square(g, short), 1.0);
                product(g, short, Old::Replace, square(p, short), square(t, short), 1.0);
            }
            if iteration > first {
                product(t, short, Old::Replace, square(p, short), square(q, short), 1.0);
                std::mem::swap(&mut q, &mut t);
            } else {
                std::mem::swap(&mut q, &mut p);
            }
        }
        let x_view = View::new(x, rows, columns);
        let (left, right) =
            if rows <= columns { (square(q, short), x_view) } else { (x_view, square(q, short)) };
        product(y, columns, Old::Replace, left, right, scale);
        std::mem::swap(&mut x, &mut y);
        scale = 1.0;
    }
    x
}

/// Length of the scratch memory that [`orthogonalize`] needs.
pub(crate) fn scratch_size(rows: usize, columns: usize) -> usize {
    let short = rows.min(columns);
    rows * columns + 4 * short * short
}

fn square(values: &[f32], size: usize) -> View<'_> {
    View::new(values, size, size)
}

/// `p = a + b g`.
fn start(p: &mut [f32], g: &[f32], short: usize, a: f32, b: f32) {
    vectorized(
        #[inline(always)]
        || {
            for (p, &g) in p.iter_mut().zip(g) {
                *p = b * g;
            }
        },
    );
    p.iter_mut().step_by(short + 1).for_each(|diagonal| *diagonal += a);
}
