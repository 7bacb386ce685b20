//! Causal softmax attention, forward and backward.

use crate::launch::args;
use crate::{Error, Launch, Machine, Result, Type, View, ViewMut};

/// Warps of a block, as in `cuda/attention.cuh`.
const WARPS: usize = 4;
/// Rows of a tile that passes by, there.
const PASSING: usize = 64;
/// Channels of the widest head, in `cuda/attention_plain.cuh`.
const WIDEST: usize = 256;

/// Sizes of one attention, and how far back a position sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionSizes {
    /// Number of sequences, `B`.
    pub batch: usize,
    /// Positions of a sequence, `T`.
    pub length: usize,
    /// Number of heads.
    pub heads: usize,
    /// Channels of a head, 1 to 256; 64 and 128 run on tensor cores. `C` is `heads · head_width`.
    pub head_width: usize,
    /// Number of keys that a position sees: its own and the `window - 1` before it. At least 1;
    /// `usize::MAX` for all.
    pub window: usize,
}

impl AttentionSizes {
    fn channels(self) -> usize {
        self.heads * self.head_width
    }

    /// Values of y; qkv has three times as many.
    fn values(self) -> usize {
        self.batch * self.length * self.channels()
    }

    /// Rows of all pairs of a sequence and a head.
    fn rows(self) -> usize {
        self.batch * self.heads * self.length
    }

    fn check(self, operation: &'static str) -> Result<()> {
        let Self { batch, length, heads, head_width, window } = self;
        let refuse = |what: &str| Err(Error::shape(operation, format!("{what} in {self:?}")));
        if heads == 0 || head_width == 0 || head_width > WIDEST {
            return refuse("a head has 1 to 256 channels, and there is at least one,");
        }
        if window == 0 {
            return refuse("in a window of 0 a position does not even see itself,");
        }
        // Kernels count within a sequence in 32 bits.
        let of_sequence = [length, 3, heads, head_width];
        let product = of_sequence.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        if product.is_none_or(|product| product >= 1 << 31) {
            return refuse("a sequence's queries, keys and values are 2^31 values or more");
        }
        let pairs = batch.saturating_mul(heads);
        if pairs.saturating_mul(length.div_ceil(WARPS)) >= 1 << 31 {
            return refuse("there are more rows than blocks can be launched for");
        }
        Ok(())
    }
}

/// How a head's width is computed.
#[derive(Clone, Copy)]
enum Path {
    /// On tensor cores.
    Tensor {
        /// Kernels' names: forward, gradients of queries, gradients of keys and values.
        kernels: [&'static str; 3],
        /// Rows that a block owns, in the same order.
        owned: [usize; 3],
    },
    /// On plain arithmetic; `wide` when rows can be read 16 bytes at a time.
    Plain { wide: bool },
}

impl Path {
    fn new(sizes: AttentionSizes, aligned: bool) -> Self {
        match sizes.head_width {
            64 if aligned => Self::Tensor {
                kernels: [
                    "attention_forward_64",
                    "attention_backward_queries_64",
                    "attention_backward_keys_64",
                ],
                owned: [128, 128, 128],
            },
            128 if aligned => Self::Tensor {
                kernels: [
                    "attention_forward_128",
                    "attention_backward_queries_128",
                    "attention_backward_keys_128",
                ],
                owned: [128, 64, 64],
            },
            width => Self::Plain { wide: aligned && width % 8 == 0 },
        }
    }
}

/// Softmax attention in which each position sees itself and earlier ones.
///
/// Channels of `qkv` hold all queries, then all keys, then all values; a head owns `head_width`
/// neighbouring channels in each third. Scores are divided by the root of a head's width.
///
/// # Shapes
///
/// `qkv` bf16 `[B, T, 3C]`; `y` bf16 `[B, T, C]`; `log_sums` f32 `[B, heads, T]`: the natural logarithm
/// of a row's sum of exponentials of scaled scores, which the backward pass wants.
///
/// # Errors
///
/// When a length or type does not fit, the window or a head has no width, a head is wider than 256
/// channels, or a sequence's `T · 3C` reaches 2³¹.
pub fn attention_forward(
    machine: &Machine,
    sizes: AttentionSizes,
    qkv: &View<'_>,
    y: &mut ViewMut<'_>,
    log_sums: &mut ViewMut<'_>,
) -> Result<()> {
    const NAME: &str = "attention_forward";
    sizes.check(NAME)?;
    qkv.expect(NAME, "qkv", Type::Bf16, 3 * sizes.values())?;
    y.expect(NAME, "y", Type::Bf16, sizes.values())?;
    log_sums.expect(NAME, "log_sums", Type::F32, sizes.rows())?;
    let (length, heads, window) = integers(sizes);
    match Path::new(sizes, qkv.is_aligned() && y.is_aligned()) {
        Path::Tensor { kernels, owned } => {
            let launch = tiles(kernels[0], sizes, owned[0], owned[0] + 4 * PASSING, 0);
            let arguments = args![qkv, &*y, &*log_sums, length, heads, window];
            // SAFETY: lengths are those that the kernel takes from its arguments; results are lent
            // for writing.
            #[expect(unsafe_code, reason = "a launch")]
            unsafe {
                machine.launch(&launch, arguments)
            }
        }
        Path::Plain { wide } => {
            let (rows, width, wide) = plain(sizes, wide);
            let launch = Launch::line("attention_forward_plain", sizes.rows().div_ceil(WARPS), 128);
            let arguments = args![qkv, &*y, &*log_sums, rows, length, heads, width, window, wide];
            // SAFETY: as above.
            #[expect(unsafe_code, reason = "a launch")]
            unsafe {
                machine.launch(&launch, arguments)
            }
        }
    }
}

/// Gradients of [`attention_forward`]'s `qkv`, from its input, its results and `dy`.
///
/// # Shapes
///
/// As forward; `dy` bf16 `[B, T, C]`; `dqkv` bf16 `[B, T, 3C]`, of which every value is written.
///
/// # Errors
///
/// As [`attention_forward`], and when the device has no memory for up to 8 bytes a row of `log_sums`.
pub fn attention_backward(
    machine: &Machine,
    sizes: AttentionSizes,
    qkv: &View<'_>,
    y: &View<'_>,
    log_sums: &View<'_>,
    dy: &View<'_>,
    dqkv: &mut ViewMut<'_>,
) -> Result<()> {
    const NAME: &str = "attention_backward";
    sizes.check(NAME)?;
    qkv.expect(NAME, "qkv", Type::Bf16, 3 * sizes.values())?;
    y.expect(NAME, "y", Type::Bf16, sizes.values())?;
    log_sums.expect(NAME, "log_sums", Type::F32, sizes.rows())?;
    dy.expect(NAME, "dy", Type::Bf16, sizes.values())?;
    dqkv.expect(NAME, "dqkv", Type::Bf16, 3 * sizes.values())?;
    let (length, heads, window) = integers(sizes);
    let aligned = [qkv.is_aligned(), y.is_aligned(), dy.is_aligned(), dqkv.is_aligned()];
    match Path::new(sizes, aligned.iter().all(|&aligned| aligned)) {
        Path::Tensor { kernels, owned } => {
            // Whole tiles of both kernels, so that every copy of statistics is a whole one.
            let padded = sizes.length.next_multiple_of(owned[1].max(owned[2]));
            let rows = sizes.batch * sizes.heads * padded;
            let mut statistics = machine.scratch(Type::F32, 2 * rows)?;
            let statistics = statistics.view_mut();
            let padded = padded as i32;
            let of_rows = 2 * Type::F32.bytes();
            let launch =
                tiles(kernels[1], sizes, owned[1], 2 * owned[1] + 4 * PASSING, owned[1] * of_rows);
            let arguments =
                args![qkv, y, log_sums, dy, &*dqkv, &statistics, length, padded, heads, window];
            // SAFETY: lengths are those that the kernel takes from its arguments; `statistics` has
            // two values for each of `padded` rows of a pair; results are lent for writing.
            #[expect(unsafe_code, reason = "a launch")]
            unsafe {
                machine.launch(&launch, arguments)?;
            }
            let launch = tiles(
                kernels[2],
                sizes,
                owned[2],
                2 * owned[2] + 4 * PASSING,
                2 * PASSING * of_rows,
            );
            let arguments = args![qkv, dy, &*dqkv, &statistics, length, padded, heads, window];
            // SAFETY: as above; the kernel before has written all statistics.
            #[expect(unsafe_code, reason = "a launch")]
            unsafe {
                machine.launch(&launch, arguments)
            }
        }
        Path::Plain { wide } => {
            let (rows, width, wide) = plain(sizes, wide);
            let mut dots = machine.scratch(Type::F32, sizes.rows())?;
            let dots = dots.view_mut();
            let blocks = sizes.rows().div_ceil(WARPS);
            let launch = Launch::line("attention_backward_queries_plain", blocks, 128);
            let arguments = args![
                qkv, y, log_sums, dy, &*dqkv, &dots, rows, length, heads, width, window, wide
            ];
            // SAFETY: as above; `dots` has a value for each row.
            #[expect(unsafe_code, reason = "a launch")]
            unsafe {
                machine.launch(&launch, arguments)?;
            }
            let launch = Launch::line("attention_backward_keys_plain", blocks, 128);
            let arguments =
                args![qkv, log_sums, dy, &*dqkv, &dots, rows, length, heads, width, window, wide];
            // SAFETY: as above; the kernel before has written all `dots`.
            #[expect(unsafe_code, reason = "a launch")]
            unsafe {
                machine.launch(&launch, arguments)
            }
        }
    }
}

/// Length, heads and window as kernels want them; they fit, or [`AttentionSizes::check`] had refused.
fn integers(sizes: AttentionSizes) -> (i32, i32, i32) {
    let window = sizes.window.min(sizes.length.max(1));
    (sizes.length as i32, sizes.heads as i32, window as i32)
}

/// Further arguments of plain kernels: all rows, a head's width, and whether to read 16 bytes at once.
fn plain(sizes: AttentionSizes, wide: bool) -> (u64, i32, i32) {
    (sizes.rows() as u64, sizes.head_width as i32, i32::from(wide))
}

/// Blocks of four warps for tiles of `owned` rows of each pair; shared memory for `rows` rows of a
/// head's width in bf16, and `more` bytes.
fn tiles(
    kernel: &'static str,
    sizes: AttentionSizes,
    owned: usize,
    rows: usize,
    more: usize,
) -> Launch {
    let blocks = sizes.batch * sizes.heads * sizes.length.div_ceil(owned);
    let bytes = rows * sizes.head_width * Type::Bf16.bytes() + more;
    Launch { shared_bytes: bytes as u32, ..Launch::line(kernel, blocks, (WARPS * 32) as u32) }
}
