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
/// each matrix; memory is needed for another `x` and twice `s²`. `iterations` are the coefficients
/// `[a, b, c]` of each.
pub(crate) fn orthogonalize(
    machine: &Machine,
    mut x: Buffer,
    batch: Batch,
    iterations: &[[f64; 3]],
) -> Result<Buffer> {
    let Batch { count, rows, columns } = batch;
    let (short, long) = (rows.min(columns), rows.max(columns));
    let is_wide = rows <= columns;
    let mut y = machine.scratch(Type::Bf16, batch.len())?;
    let mut gram = machine.scratch(Type::Bf16, count * short * short)?;
    let mut factor = machine.scratch(Type::Bf16, count * short * short)?;
    for coefficients in iterations {
        let [a, b, c] = coefficients.map(|value| value as f32);
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
