//! Newton-Schulz iterations towards the nearest matrices whose singular values are all one.
//!
//! An iteration maps `X` to `a X + (b G + c G²) X` with `G = X Xᵀ`: every singular value `s` becomes
//! `a s + b s³ + c s⁵`, and the singular vectors stay. For a tall matrix the same is done from the
//! right with `G = Xᵀ X`, so that `G` has the size of the smaller side.
//!
//! Everything is stored in bf16, products are summed in f32. So `X` is multiplied in every iteration:
//! the polynomials of several cannot be gathered, as can be done in single precision, because errors
//! of `G` would grow by `a²` in each.

use std::mem::swap;

use crate::{Buffer, Gemm, Machine, Operand, Result, Type, gemm};

/// The polynomials of Newton-Schulz iterations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polynomial {
    /// `3.4445 s - 4.7750 s³ + 2.0315 s⁵` in every iteration (Jordan et al. 2024,
    /// <https://kellerjordan.github.io/posts/muon>). Five iterations take singular values from 0.002
    /// of the matrix' norm upwards to between 0.68 and 1.21; more do not bring them closer to one.
    Quintic,
    /// The best polynomial for each iteration in turn (Amsel et al., arXiv 2505.16932), with the
    /// safety factor of 1.01 that the authors recommend; from the eighth iteration on it is the
    /// same. Five iterations take singular values from 0.001 of the norm upwards to between 0.84
    /// and 1.13, seven close to one, as far as bf16 goes.
    PolarExpress,
}

impl Polynomial {
    /// The coefficients of `s`, `s³` and `s⁵` in an iteration, counted from zero.
    pub fn coefficients(self, iteration: usize) -> [f64; 3] {
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

/// Matrices of one shape, behind each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    pub(crate) count: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl Batch {
    pub(crate) fn len(self) -> usize {
        self.count * self.rows * self.columns
    }
}

/// Makes the matrices in `x`, bf16 and none with a norm above one, orthogonal.
///
/// With `s` and `l` the shorter and the longer side, an iteration takes `4 s² l + 2 s³` operations for
/// each matrix; memory is needed for another `x` and twice `s²`.
pub(crate) fn orthogonalize(
    machine: &Machine,
    mut x: Buffer,
    batch: Batch,
    (polynomial, iterations): (Polynomial, usize),
) -> Result<Buffer> {
    let Batch { count, rows, columns } = batch;
    let (short, long) = (rows.min(columns), rows.max(columns));
    let is_wide = rows <= columns;
    let mut y = machine.scratch(Type::Bf16, batch.len())?;
    let mut gram = machine.scratch(Type::Bf16, count * short * short)?;
    let mut factor = machine.scratch(Type::Bf16, count * short * short)?;
    for iteration in 0..iterations {
        let [a, b, c] = polynomial.coefficients(iteration).map(|value| value as f32);
        let (plain, turned) = (Operand::plain(x.view()), Operand::transposed(x.view()));
        let (left, right) = if is_wide { (plain, turned) } else { (turned, plain) };
        let product = Gemm::new((short, short, long), left, right, gram.view_mut());
        gemm(machine, Gemm { batch: count, ..product })?;

        let square = Operand::plain(gram.view());
        let product = Gemm::new((short, short, short), square, square, factor.view_mut());
        let plus = Some((b, gram.view()));
        gemm(machine, Gemm { batch: count, scale: c, plus, ..product })?;

        let of_gram = Operand::plain(factor.view());
        let (left, right) = if is_wide { (of_gram, plain) } else { (plain, of_gram) };
        let product = Gemm::new((rows, columns, short), left, right, y.view_mut());
        gemm(machine, Gemm { batch: count, plus: Some((a, x.view())), ..product })?;
        swap(&mut x, &mut y);
    }
    Ok(x)
}
