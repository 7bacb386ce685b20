//! Normalisation of rows: layer norm, and norm by the root mean square.
//!
//! Rows of up to 8,192 channels, a multiple of 8, in memory that is aligned to 16 bytes are read and
//! written once; others take a slower path.

use crate::launch::args;
use crate::reduction::{count, sum_partials};
use crate::{Error, Launch, Machine, Result, Type, View, ViewMut};

/// Threads of a block, forward and where rows take the slower path.
const THREADS: usize = 256;
/// Threads of a block, backward, where a row belongs to a warp.
const BACKWARD_THREADS: usize = 128;
/// Rows that one block adds up, at least, where they take the slower path.
const FEWEST_ROWS: usize = 32;

/// Rows that one family of kernels is made for.
struct Width {
    /// The most channels of a row.
    widest: usize,
    /// Threads that share a row.
    group: usize,
    /// Blocks of the backward kernel that a multiprocessor's registers hold.
    resident: usize,
}

/// In the order of the kernels' names.
const WIDTHS: [Width; 7] = [
    Width { widest: 256, group: 32, resident: 8 },
    Width { widest: 512, group: 32, resident: 5 },
    Width { widest: 768, group: 32, resident: 4 },
    Width { widest: 1024, group: 32, resident: 3 },
    Width { widest: 2048, group: 256, resident: 3 },
    Width { widest: 4096, group: 256, resident: 2 },
    Width { widest: 8192, group: 256, resident: 1 },
];

macro_rules! widths {
    ($kernel:literal) => {
        [
            concat!($kernel, "_256"),
            concat!($kernel, "_512"),
            concat!($kernel, "_768"),
            concat!($kernel, "_1024"),
            concat!($kernel, "_2048"),
            concat!($kernel, "_4096"),
            concat!($kernel, "_8192"),
        ]
    };
}

/// What tells the norms apart.
struct Kernels {
    /// Statistics of a row; as many parameters are of each channel.
    n_stats: usize,
    forward: [&'static str; 7],
    forward_any: &'static str,
    /// With a gain.
    backward: [&'static str; 7],
    backward_any: &'static str,
    partials_any: &'static str,
}

const LAYER: Kernels = Kernels {
    n_stats: 2,
    forward: widths!("layer_norm_forward"),
    forward_any: "layer_norm_forward_any",
    backward: widths!("layer_norm_backward"),
    backward_any: "layer_norm_backward_any",
    partials_any: "layer_norm_partials_any",
};

const RMS: Kernels = Kernels {
    n_stats: 1,
    forward: widths!("rms_norm_forward"),
    forward_any: "rms_norm_forward_any",
    backward: widths!("rms_norm_backward"),
    backward_any: "rms_norm_backward_any",
    partials_any: "rms_norm_partials_any",
};

/// As [`RMS`]'s backward, without a gain.
const RMS_BACKWARD_PLAIN: [&str; 7] = widths!("rms_norm_backward_plain");

/// Subtracts a row's mean, divides by its standard deviation, and applies a gain and a bias for each
/// channel. With a `residual`, what is normalised is the sum of `x` and the first view, rounded to
/// bf16, which is written to the second.
///
/// # Shapes
///
/// `x`, `y` and both of `residual` are bf16 `[rows, channels]`; `gain` and `bias` f32 `[channels]`;
/// `stats` f32 `[rows, 2]`: mean and reciprocal standard deviation, for backward.
///
/// # Errors
///
/// When sizes or types do not fit.
#[expect(clippy::too_many_arguments, reason = "operands of one kernel, each of another kind")]
pub fn layer_norm_forward(
    machine: &Machine,
    sizes: (usize, usize),
    x: &View<'_>,
    residual: Option<(&View<'_>, &mut ViewMut<'_>)>,
    gain: &View<'_>,
    bias: &View<'_>,
    epsilon: f32,
    y: &mut ViewMut<'_>,
    stats: &mut ViewMut<'_>,
) -> Result<()> {
    let parameters = [Some(gain), Some(bias)];
    forward(
        machine,
        "layer_norm_forward",
        &LAYER,
        sizes,
        x,
        residual,
        parameters,
        epsilon,
        y,
        stats,
    )
}

/// Divides rows by their root mean square and applies a gain for each channel, if there is one;
/// `epsilon` is added to the mean square. `residual` is as for [`layer_norm_forward`].
///
/// # Shapes
///
/// As for [`layer_norm_forward`], but `scales` is f32 `[rows]`: the reciprocal root mean squares, for
/// backward.
///
/// # Errors
///
/// When sizes or types do not fit.
#[expect(clippy::too_many_arguments, reason = "operands of one kernel, each of another kind")]
pub fn rms_norm_forward(
    machine: &Machine,
    sizes: (usize, usize),
    x: &View<'_>,
    residual: Option<(&View<'_>, &mut ViewMut<'_>)>,
    gain: Option<&View<'_>>,
    epsilon: f32,
    y: &mut ViewMut<'_>,
    scales: &mut ViewMut<'_>,
) -> Result<()> {
    let parameters = [gain, None];
    forward(machine, "rms_norm_forward", &RMS, sizes, x, residual, parameters, epsilon, y, scales)
}

#[expect(clippy::too_many_arguments, reason = "operands of one kernel, each of another kind")]
fn forward(
    machine: &Machine,
    name: &'static str,
    kernels: &Kernels,
    (rows, channels): (usize, usize),
    x: &View<'_>,
    residual: Option<(&View<'_>, &mut ViewMut<'_>)>,
    [gain, bias]: [Option<&View<'_>>; 2],
    epsilon: f32,
    y: &mut ViewMut<'_>,
    stats: &mut ViewMut<'_>,
) -> Result<()> {
    let len = rows * channels;
    x.expect(name, "x", Type::Bf16, len)?;
    y.expect(name, "y", Type::Bf16, len)?;
    stats.expect(name, "stats", Type::F32, kernels.n_stats * rows)?;
    let mut aligned = x.is_aligned() && y.is_aligned();
    if let Some((other, sum)) = &residual {
        other.expect(name, "residual", Type::Bf16, len)?;
        sum.expect(name, "sum", Type::Bf16, len)?;
        aligned &= other.is_aligned() && sum.is_aligned();
    }
    for (parameter, what) in [(gain, "gain"), (bias, "bias")] {
        let Some(parameter) = parameter else { continue };
        parameter.expect(name, what, Type::F32, channels)?;
        aligned &= parameter.is_aligned();
    }
    let launch = match width(name, channels, aligned)? {
        Some(idx) => {
            let rows_of_block = THREADS / WIDTHS[idx].group;
            Launch::line(kernels.forward[idx], rows.div_ceil(rows_of_block), THREADS as u32)
        }
        None => Launch::line(kernels.forward_any, rows, THREADS as u32),
    };
    let (other, sum) = residual.unzip();
    let sum: Option<&ViewMut<'_>> = sum.map(|sum| &*sum);
    let (rows, channels) = (count(name, "rows", rows)?, count(name, "channels", channels)?);
    // SAFETY: all views are of the lengths and types that were just checked.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        let (y, stats) = (&*y, &*stats);
        machine.launch(&launch, args![rows, channels, x, other, sum, gain, bias, epsilon, y, stats])
    }
}

/// Gradients of [`layer_norm_forward`].
///
/// # Shapes
///
/// `x` is what was normalised (the sum, where there was a residual), `stats` what forward wrote, `dy`
/// the gradient of its result, `dsum` a gradient that reaches `x` by other ways and is added to `dx`:
/// bf16 `[rows, channels]`, as is `dx`. `dgain` and `dbias` are f32 `[channels]`; they are written, not
/// added to, and depend, by rounding, on the number of multiprocessors.
///
/// # Errors
///
/// When sizes or types do not fit, or there is no memory for partial sums.
#[expect(clippy::too_many_arguments, reason = "operands of one kernel, each of another kind")]
pub fn layer_norm_backward(
    machine: &Machine,
    sizes: (usize, usize),
    x: &View<'_>,
    gain: &View<'_>,
    stats: &View<'_>,
    dy: &View<'_>,
    dsum: Option<&View<'_>>,
    dx: &mut ViewMut<'_>,
    dgain: &mut ViewMut<'_>,
    dbias: &mut ViewMut<'_>,
) -> Result<()> {
    let backward = Backward {
        name: "layer_norm_backward",
        kernels: &LAYER,
        sizes,
        x,
        gain: Some(gain),
        stats,
        dy,
        dsum,
    };
    backward.run(machine, dx, Some(dgain), Some(dbias))
}

/// Gradients of [`rms_norm_forward`].
///
/// # Shapes
///
/// As for [`layer_norm_backward`]; `dgain` is there where `gain` is.
///
/// # Errors
///
/// When sizes or types do not fit, only one of `gain` and `dgain` is given, or there is no memory for
/// partial sums.
#[expect(clippy::too_many_arguments, reason = "operands of one kernel, each of another kind")]
pub fn rms_norm_backward(
    machine: &Machine,
    sizes: (usize, usize),
    x: &View<'_>,
    gain: Option<&View<'_>>,
    scales: &View<'_>,
    dy: &View<'_>,
    dsum: Option<&View<'_>>,
    dx: &mut ViewMut<'_>,
    dgain: Option<&mut ViewMut<'_>>,
) -> Result<()> {
    let name = "rms_norm_backward";
    if gain.is_some() != dgain.is_some() {
        return Err(Error::shape(name, "a gain and its gradient come together"));
    }
    let backward = Backward { name, kernels: &RMS, sizes, x, gain, stats: scales, dy, dsum };
    backward.run(machine, dx, dgain, None)
}

struct Backward<'a> {
    name: &'static str,
    kernels: &'a Kernels,
    sizes: (usize, usize),
    x: &'a View<'a>,
    gain: Option<&'a View<'a>>,
    stats: &'a View<'a>,
    dy: &'a View<'a>,
    dsum: Option<&'a View<'a>>,
}

impl Backward<'_> {
    fn run(
        &self,
        machine: &Machine,
        dx: &mut ViewMut<'_>,
        dgain: Option<&mut ViewMut<'_>>,
        dbias: Option<&mut ViewMut<'_>>,
    ) -> Result<()> {
        let &Self { name, kernels, sizes: (rows, channels), x, gain, stats, dy, dsum } = self;
        let len = rows * channels;
        let wide = [Some(x), Some(dy), dsum];
        for (view, what) in wide.into_iter().zip(["x", "dy", "dsum"]) {
            view.map_or(Ok(()), |view| view.expect(name, what, Type::Bf16, len))?;
        }
        dx.expect(name, "dx", Type::Bf16, len)?;
        stats.expect(name, "stats", Type::F32, kernels.n_stats * rows)?;
        gain.map_or(Ok(()), |gain| gain.expect(name, "gain", Type::F32, channels))?;
        for (view, what) in [(dgain.as_deref(), "dgain"), (dbias.as_deref(), "dbias")] {
            view.map_or(Ok(()), |view| view.expect(name, what, Type::F32, channels))?;
        }
        let aligned = wide.iter().chain([&gain]).flatten().all(|view| view.is_aligned());
        let width = width(name, channels, aligned && dx.is_aligned())?;
        let columns = kernels.n_stats * channels;
        let parts = match width {
            _ if gain.is_none() => 0,
            Some(idx) => {
                let resident = WIDTHS[idx].resident * machine.multiprocessors() as usize;
                resident.min(rows.div_ceil(rows_at_once(idx)))
            }
            None => {
                let most = 4 * machine.multiprocessors() as usize;
                rows.div_ceil(FEWEST_ROWS).min(most)
            }
        };
        let mut partials = machine.scratch(Type::F32, parts * columns)?;
        let (n_rows, n_channels) = (count(name, "rows", rows)?, count(name, "channels", channels)?);
        let launch = match width {
            Some(idx) if gain.is_some() => {
                Launch::line(kernels.backward[idx], parts, block_threads(idx))
            }
            Some(idx) => {
                let blocks = rows.div_ceil(rows_at_once(idx));
                Launch::line(RMS_BACKWARD_PLAIN[idx], blocks, block_threads(idx))
            }
            None => Launch::line(kernels.backward_any, rows, THREADS as u32),
        };
        // SAFETY: all views are of the lengths and types that were just checked; a block writes a row
        // of partial sums, and there are as many rows as blocks.
        #[expect(unsafe_code, reason = "launches")]
        unsafe {
            let dx = &*dx;
            let to = partials.view_mut();
            if width.is_some() {
                let arguments = args![n_rows, n_channels, x, gain, stats, dy, dsum, dx, &to];
                machine.launch(&launch, arguments)?;
            } else {
                let arguments = args![n_rows, n_channels, x, gain, stats, dy, dsum, dx];
                machine.launch(&launch, arguments)?;
                if parts > 0 {
                    let (blocks, parts) = (channels.div_ceil(THREADS) as u32, parts as u32);
                    let launch = Launch {
                        grid: [blocks, parts, 1],
                        ..Launch::line(kernels.partials_any, 1, THREADS as u32)
                    };
                    let chunk = n_rows.div_ceil(parts);
                    machine.launch(&launch, args![n_rows, n_channels, chunk, x, stats, dy, &to])?;
                }
            }
        }
        let Some(dgain) = dgain else { return Ok(()) };
        sum_partials(machine, (parts, columns), &partials.view(), dgain, dbias, false)
    }
}

/// Rows that a block of the backward kernel has under way.
fn rows_at_once(width_idx: usize) -> usize {
    block_threads(width_idx) as usize / WIDTHS[width_idx].group
}

fn block_threads(width_idx: usize) -> u32 {
    BACKWARD_THREADS.max(WIDTHS[width_idx].group) as u32
}

/// Which of the widths fits, if one does.
fn width(name: &'static str, channels: usize, aligned: bool) -> Result<Option<usize>> {
    if channels == 0 {
        return Err(Error::shape(name, "rows have no channels"));
    }
    let fits = aligned && channels.is_multiple_of(8);
    Ok(WIDTHS.iter().position(|width| fits && channels <= width.widest))
}
