//! One step of Muon on one matrix: momentum, made orthogonal.

use candle_core::{Result, Tensor, Var, bail};

use crate::orthogonal::{Polynomial, orthogonalize, scratch_size};
use crate::profile::step;
use crate::update::{Momentum, update};
use crate::vector::{sum, vectorized};

const NAME: &str = "muon";

/// The settings of one Muon step (Jordan et al. 2024, <https://kellerjordan.github.io/posts/muon>).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Muon {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay of the running mean of gradients, `m = μ m + (1 - μ) g`. The form `m = μ m + g` has
    /// the same direction, and only the direction matters.
    pub momentum: f64,
    /// Whether the update is `μ m + (1 - μ) g`, with the new `m`, rather than `m`.
    pub nesterov: bool,
    /// Share of the parameter taken away, per unit of learning rate.
    pub weight_decay: f64,
    /// Newton-Schulz iterations; five are usual.
    pub iterations: usize,
    /// Equal blocks of rows that are made orthogonal each by itself: 3 for queries, keys and values
    /// in one matrix, otherwise 1.
    pub parts: usize,
    /// The polynomials of the iterations.
    pub polynomial: Polynomial,
}

/// Takes one Muon step on `parameter`, in place; `scale` is a scalar factor on the gradient, which
/// matters only in relation to that of other steps.
///
/// The update of each part is made orthogonal (see [`Polynomial`] for how closely) and scaled by
/// `√max(1, rows / columns)` of the part.
///
/// # Shapes
///
/// `parameter` is `[out, in]`; `parts` divides `out`.
///
/// # Errors
///
/// When `parameter` is no matrix or does not split into `parts`, when gradient, momentum and
/// parameter differ in size, or a tensor is not `f32` on the CPU.
pub fn muon(
    parameter: &Var,
    gradient: &Tensor,
    scale: &Tensor,
    momentum: &mut Momentum,
    settings: &Muon,
) -> Result<()> {
    let Muon { parts, iterations, polynomial, .. } = *settings;
    let [rows, columns] = *parameter.dims() else {
        bail!("{NAME}: parameter {:?} is not a matrix", parameter.shape());
    };
    if parts == 0 || !rows.is_multiple_of(parts) {
        bail!("{NAME}: {rows} rows do not split into {parts} parts");
    }
    if parameter.elem_count() == 0 {
        bail!("{NAME}: parameter {:?} is empty", parameter.shape());
    }
    if iterations == 0 {
        bail!("{NAME}: nothing becomes orthogonal in 0 iterations");
    }
    let rows = rows / parts;
    let part_size = rows * columns;
    let stretch = (rows as f64 / columns as f64).max(1.0).sqrt();
    let rate = (settings.learning_rate * stretch) as f32;
    let keep = (1.0 - settings.learning_rate * settings.weight_decay) as f32;

    let Momentum { values: momentum, scratch } = momentum;
    let _running = step(NAME, 5 * momentum.len());
    update(NAME, parameter, gradient, scale, momentum.len(), |parameter, gradient, scale| {
        scratch.resize(part_size + scratch_size(rows, columns), 0.0);
        let (x, scratch) = scratch.split_at_mut(part_size);
        let blocks = parameter.chunks_exact_mut(part_size).zip(gradient.chunks_exact(part_size));
        for ((p, g), m) in blocks.zip(momentum.chunks_exact_mut(part_size)) {
            let norm = advance(x, g, m, scale, settings);
            let x = orthogonalize(x, (rows, columns), norm, (polynomial, iterations), scratch);
            vectorized(
                #[inline(always)]
                || {
                    for (p, &x) in p.iter_mut().zip(x) {
                        *p = *p * keep - rate * x;
                    }
                },
            );
        }
    })
}

/// Takes a gradient into the momentum, writes the update to `x` and returns its norm.
fn advance(x: &mut [f32], g: &[f32], m: &mut [f32], scale: f32, settings: &Muon) -> f32 {
    let decay = settings.momentum as f32;
    let (old, new) = if settings.nesterov { (decay, (1.0 - decay) * scale) } else { (1.0, 0.0) };
    vectorized(
        #[inline(always)]
        || {
            for ((x, &g), m) in x.iter_mut().zip(g).zip(m) {
                *m = decay * *m + (1.0 - decay) * (g * scale);
                *x = old * *m + new * g;
            }
            sum(x, |v| v * v).sqrt()
        },
    )
}
