//! Queries and keys of fixed length, rotary position codes, and both in one pass.
//!
//! All work on packed rows, `[rows, 3, heads, head_width]`: queries, keys, values. Values are copied.
//! Heads whose width is a multiple of 16, up to 512, in aligned memory take the fast path.

use crate::launch::args;
use crate::reduction::count;
use crate::{Error, Launch, Machine, Result, Type, View, ViewMut};

/// Threads of a block.
const THREADS: usize = 256;
const WARP: usize = 32;
const TURN: [&str; 2] = ["rotary_turn", "rotary_turn_any"];

/// Sizes of packed queries, keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QkSizes {
    /// Positions of all sequences.
    pub rows: usize,
    /// Heads of a position.
    pub heads: usize,
    /// Channels of a head.
    pub head_width: usize,
}

/// Sizes of packed queries, keys and values whose positions count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotarySizes {
    /// Sequences.
    pub batch: usize,
    /// Positions of a sequence.
    pub length: usize,
    /// Heads of a position.
    pub heads: usize,
    /// Channels of a head; even.
    pub head_width: usize,
}

impl RotarySizes {
    fn heads(self) -> Heads {
        let Self { batch, length, heads, head_width } = self;
        Heads { rows: batch * length, length, heads, width: head_width }
    }
}

/// Cosines, then sines, of the angles by which the pairs of a head are turned at every position:
/// position times `base^(-2i / head_width)` for pair `i` (Su et al., arXiv 2104.09864).
///
/// # Shapes
///
/// `[length, head_width]`.
pub fn rotary_table(length: usize, head_width: usize, base: f64) -> Vec<f32> {
    let half = head_width / 2;
    let angle = |pair_idx: usize| base.powf(-(pair_idx as f64) / half as f64);
    let steps: Vec<(f64, f64)> = (0..half).map(|pair_idx| angle(pair_idx).sin_cos()).collect();
    let mut now = vec![(0.0f64, 1.0f64); half];
    let mut table = Vec::with_capacity(length * 2 * half);
    for _ in 0..length {
        table.extend(now.iter().map(|&(_, cos)| cos as f32));
        table.extend(now.iter().map(|&(sin, _)| sin as f32));
        // One position further, by the addition theorems, as on the CPU.
        for ((sin, cos), (step_sin, step_cos)) in now.iter_mut().zip(&steps) {
            (*sin, *cos) = (*sin * step_cos + *cos * step_sin, *cos * step_cos - *sin * step_sin);
        }
    }
    table
}

/// Turns the pairs (channel `i` and `i + head_width / 2`) of queries and keys by the angles of their
/// position; by the opposite ones where `back` is set, which is the gradient.
///
/// # Shapes
///
/// `x` and `y` are bf16 `[batch, length, 3, heads, head_width]`; `table` is f32
/// `[length, head_width]`, as of [`rotary_table`].
///
/// # Errors
///
/// When sizes or types do not fit or the width of a head is odd.
pub fn rotary(
    machine: &Machine,
    sizes: RotarySizes,
    table: &View<'_>,
    back: bool,
    x: &View<'_>,
    y: &mut ViewMut<'_>,
) -> Result<()> {
    let sign = if back { -1.0 } else { 1.0 };
    forward(machine, "rotary", TURN, sizes.heads(), Some(table), sign, 1.0, Some(x), y, None)
}

/// [`rotary`] of what `qkv` holds, to where it was. Values are not touched, which saves a third of
/// the time.
///
/// # Errors
///
/// As for [`rotary`].
pub fn rotary_in_place(
    machine: &Machine,
    sizes: RotarySizes,
    table: &View<'_>,
    back: bool,
    qkv: &mut ViewMut<'_>,
) -> Result<()> {
    const NAME: &str = "rotary_in_place";
    let sign = if back { -1.0 } else { 1.0 };
    forward(machine, NAME, TURN, sizes.heads(), Some(table), sign, 1.0, None, qkv, None)
}

/// Divides every head's query and key by its root mean square (1e-6 is added to the mean square) and
/// multiplies queries by `scale` (Henry et al., arXiv 2010.04245).
///
/// # Shapes
///
/// `qkv` and `y` are bf16 `[rows, 3, heads, head_width]`; `scales` is f32 `[rows, 2, heads]`: the
/// reciprocal root mean squares, for backward.
///
/// # Errors
///
/// When sizes or types do not fit.
pub fn qk_norm_forward(
    machine: &Machine,
    QkSizes { rows, heads, head_width: width }: QkSizes,
    scale: f32,
    qkv: &View<'_>,
    y: &mut ViewMut<'_>,
    scales: &mut ViewMut<'_>,
) -> Result<()> {
    let kernels = ["qk_norm_forward", "qk_norm_forward_any"];
    let heads = Heads { rows, length: 1, heads, width };
    let scales = Some(scales);
    forward(machine, "qk_norm_forward", kernels, heads, None, 1.0, scale, Some(qkv), y, scales)
}

/// The gradient of [`qk_norm_forward`], from its input, the scales that it wrote, and the gradient of
/// its result.
///
/// # Shapes
///
/// `qkv`, `dy` and `dqkv` are bf16 `[rows, 3, heads, head_width]`, `scales` is f32 `[rows, 2, heads]`.
///
/// # Errors
///
/// When sizes or types do not fit.
pub fn qk_norm_backward(
    machine: &Machine,
    QkSizes { rows, heads, head_width: width }: QkSizes,
    scale: f32,
    qkv: &View<'_>,
    scales: &View<'_>,
    dy: &View<'_>,
    dqkv: &mut ViewMut<'_>,
) -> Result<()> {
    let kernels = ["qk_norm_backward", "qk_norm_backward_any"];
    let heads = Heads { rows, length: 1, heads, width };
    backward(machine, "qk_norm_backward", kernels, heads, None, scale, qkv, scales, Some(dy), dqkv)
}

/// [`qk_norm_forward`], then [`rotary`], in one pass and without rounding in between.
///
/// # Shapes
///
/// As for both.
///
/// # Errors
///
/// When sizes or types do not fit or the width of a head is odd.
pub fn qk_norm_rotary_forward(
    machine: &Machine,
    sizes: RotarySizes,
    scale: f32,
    table: &View<'_>,
    qkv: &View<'_>,
    y: &mut ViewMut<'_>,
    scales: &mut ViewMut<'_>,
) -> Result<()> {
    const NAME: &str = "qk_norm_rotary_forward";
    let kernels = [NAME, "qk_norm_rotary_forward_any"];
    let (heads, scales) = (sizes.heads(), Some(scales));
    forward(machine, NAME, kernels, heads, Some(table), 1.0, scale, Some(qkv), y, scales)
}

/// The gradient of [`qk_norm_rotary_forward`].
///
/// # Shapes
///
/// As for [`qk_norm_backward`] and [`rotary`].
///
/// # Errors
///
/// When sizes or types do not fit or the width of a head is odd.
#[expect(clippy::too_many_arguments, reason = "operands of one kernel, each of another kind")]
pub fn qk_norm_rotary_backward(
    machine: &Machine,
    sizes: RotarySizes,
    scale: f32,
    table: &View<'_>,
    qkv: &View<'_>,
    scales: &View<'_>,
    dy: &View<'_>,
    dqkv: &mut ViewMut<'_>,
) -> Result<()> {
    const NAME: &str = "qk_norm_rotary_backward";
    let kernels = [NAME, "qk_norm_rotary_backward_any"];
    let heads = sizes.heads();
    backward(machine, NAME, kernels, heads, Some(table), scale, qkv, scales, Some(dy), dqkv)
}

/// [`qk_norm_backward`] where `dqkv` holds the gradient of the result and gets that of the input.
/// Values are not touched, which saves a quarter of the time.
///
/// # Errors
///
/// When sizes or types do not fit.
pub fn qk_norm_backward_in_place(
    machine: &Machine,
    QkSizes { rows, heads, head_width: width }: QkSizes,
    scale: f32,
    qkv: &View<'_>,
    scales: &View<'_>,
    dqkv: &mut ViewMut<'_>,
) -> Result<()> {
    const NAME: &str = "qk_norm_backward_in_place";
    let kernels = ["qk_norm_backward", "qk_norm_backward_any"];
    let heads = Heads { rows, length: 1, heads, width };
    backward(machine, NAME, kernels, heads, None, scale, qkv, scales, None, dqkv)
}

/// [`qk_norm_rotary_backward`] where `dqkv` holds the gradient of the result and gets that of the
/// input. Values are not touched, which saves a quarter of the time.
///
/// # Errors
///
/// When sizes or types do not fit or the width of a head is odd.
pub fn qk_norm_rotary_backward_in_place(
    machine: &Machine,
    sizes: RotarySizes,
    scale: f32,
    table: &View<'_>,
    qkv: &View<'_>,
    scales: &View<'_>,
    dqkv: &mut ViewMut<'_>,
) -> Result<()> {
    const NAME: &str = "qk_norm_rotary_backward_in_place";
    let kernels = ["qk_norm_rotary_backward", "qk_norm_rotary_backward_any"];
    let heads = sizes.heads();
    backward(machine, NAME, kernels, heads, Some(table), scale, qkv, scales, None, dqkv)
}

/// Sizes of either kind.
#[derive(Clone, Copy)]
struct Heads {
    rows: usize,
    length: usize,
    heads: usize,
    width: usize,
}

/// What kernels are told of the sizes: items, slots of a row that are worked on, heads, width, threads
/// of a head, positions.
type Counts = [u32; 6];

impl Heads {
    fn len(self) -> usize {
        self.rows * 3 * self.heads * self.width
    }

    /// Which of two kernels, and its counts.
    fn launch(
        self,
        name: &'static str,
        [fast, any]: [&'static str; 2],
        table: Option<&View<'_>>,
        aligned: bool,
        in_place: bool,
    ) -> Result<(Launch, Counts)> {
        let Self { rows, length, heads, width } = self;
        if width == 0 || heads == 0 {
            return Err(Error::shape(name, format!("{heads} heads of {width} channels")));
        }
        if table.is_some() && !width.is_multiple_of(2) {
            return Err(Error::shape(
                name,
                format!("the {width} channels of a head have no halves"),
            ));
        }
        table.map_or(Ok(()), |view| view.expect(name, "table", Type::F32, length * width))?;
        let slots = if in_place { 2 * heads } else { 3 * heads };
        let items = rows * slots;
        let aligned = aligned && table.is_none_or(View::is_aligned);
        let is_fast = aligned && width.is_multiple_of(16) && width <= 16 * WARP;
        // A thread has 16 channels.
        let lanes = if is_fast { (width / 16).next_power_of_two() } else { WARP };
        let kernel = if is_fast { fast } else { any };
        let launch = Launch::line(kernel, items.div_ceil(THREADS / lanes), THREADS as u32);
        let counts = [
            count(name, "heads of all rows", items)?,
            count(name, "heads of a row", slots)?,
            count(name, "heads", heads)?,
            count(name, "channels", width)?,
            lanes as u32,
            count(name, "positions", length)?,
        ];
        Ok((launch, counts))
    }
}

#[expect(clippy::too_many_arguments, reason = "operands of one kernel, each of another kind")]
fn forward(
    machine: &Machine,
    name: &'static str,
    kernels: [&'static str; 2],
    sizes: Heads,
    table: Option<&View<'_>>,
    sign: f32,
    scale: f32,
    x: Option<&View<'_>>,
    y: &mut ViewMut<'_>,
    scales: Option<&mut ViewMut<'_>>,
) -> Result<()> {
    x.map_or(Ok(()), |x| x.expect(name, "x", Type::Bf16, sizes.len()))?;
    y.expect(name, "y", Type::Bf16, sizes.len())?;
    let scales: Option<&ViewMut<'_>> = scales.map(|scales| &*scales);
    let n_scales = sizes.rows * 2 * sizes.heads;
    scales.map_or(Ok(()), |scales| scales.expect(name, "scales", Type::F32, n_scales))?;
    let aligned = x.is_none_or(View::is_aligned) && y.is_aligned();
    let (launch, [items, slots, heads, width, lanes, length]) =
        sizes.launch(name, kernels, table, aligned, x.is_none())?;
    let y = &*y;
    let x = *x.unwrap_or(&y.as_view());
    // SAFETY: all views are of the lengths and types that were just checked; in place, a value is read
    // and written by one thread, in this order.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        machine.launch(
            &launch,
            args![items, slots, heads, width, lanes, length, table, sign, scale, &x, y, scales],
        )
    }
}

#[expect(clippy::too_many_arguments, reason = "operands of one kernel, each of another kind")]
fn backward(
    machine: &Machine,
    name: &'static str,
    kernels: [&'static str; 2],
    sizes: Heads,
    table: Option<&View<'_>>,
    scale: f32,
    qkv: &View<'_>,
    scales: &View<'_>,
    dy: Option<&View<'_>>,
    dqkv: &mut ViewMut<'_>,
) -> Result<()> {
    qkv.expect(name, "qkv", Type::Bf16, sizes.len())?;
    dy.map_or(Ok(()), |dy| dy.expect(name, "dy", Type::Bf16, sizes.len()))?;
    dqkv.expect(name, "dqkv", Type::Bf16, sizes.len())?;
    scales.expect(name, "scales", Type::F32, sizes.rows * 2 * sizes.heads)?;
    let aligned = qkv.is_aligned() && dy.is_none_or(View::is_aligned) && dqkv.is_aligned();
    let (launch, [items, slots, heads, width, lanes, length]) =
        sizes.launch(name, kernels, table, aligned, dy.is_none())?;
    let dqkv = &*dqkv;
    let dy = *dy.unwrap_or(&dqkv.as_view());
    // SAFETY: all views are of the lengths and types that were just checked; in place, a value is read
    // and written by one thread, in this order.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        machine.launch(
            &launch,
            args![items, slots, heads, width, lanes, length, table, scale, qkv, scales, &dy, dqkv],
        )
    }
}
