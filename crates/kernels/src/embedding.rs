//! Rows of a table by token, and the sums of gradients by token.

use crate::launch::args;
use crate::{Buffer, Error, Launch, Machine, Result, Type, View, ViewMut};

const THREADS: usize = 256;
const WARPS: usize = THREADS / 32;
/// Items of one block of the sort.
const TILE: usize = 4 * THREADS;
const DIGITS: usize = 256;
/// Pieces into which the sorted positions are cut, about; shorter ones than the least are not worth
/// a block, longer ones than the most do not fit its shared memory.
const PIECES: usize = 1024;
const LEAST_PIECE: usize = 32;
const MOST_PIECE: usize = 256;
const MOST_PIECE_THREADS: usize = 128;

/// Sizes as kernels take them.
#[derive(Clone, Copy)]
struct Words {
    rows: u32,
    channels: u32,
    count: u32,
}

fn words(
    operation: &'static str,
    (rows, channels): (usize, usize),
    tokens: &View<'_>,
) -> Result<Words> {
    tokens.expect(operation, "tokens", Type::U32, tokens.len())?;
    let most = i32::MAX as usize;
    if rows == 0 || channels == 0 || [rows, channels, tokens.len()].iter().any(|&n| n > most) {
        let reason = format!(
            "{} tokens, {rows} rows and {channels} channels, where 1 to {most} can be used",
            tokens.len()
        );
        return Err(Error::shape(operation, reason));
    }
    Ok(Words { rows: rows as u32, channels: channels as u32, count: tokens.len() as u32 })
}

/// The rows of `table` that `tokens` name.
///
/// Tokens are known to be below `rows`; a row of NaN is the answer to any other.
///
/// # Shapes
///
/// `table` is bf16 or f32 `[rows, channels]`, `tokens` u32 `[N]`; `y` is bf16 `[N, channels]`, rounded to
/// nearest.
///
/// # Errors
///
/// When lengths or types do not fit.
pub fn embedding_forward(
    machine: &Machine,
    (rows, channels): (usize, usize),
    table: &View<'_>,
    tokens: &View<'_>,
    y: &mut ViewMut<'_>,
) -> Result<()> {
    const NAME: &str = "embedding_forward";
    let words = words(NAME, (rows, channels), tokens)?;
    table.expect(NAME, "table", table.type_(), rows * channels)?;
    y.expect(NAME, "y", Type::Bf16, tokens.len() * channels)?;
    let kernel = match table.type_() {
        Type::Bf16 => "embedding_forward_bf16",
        Type::F32 => "embedding_forward_f32",
        Type::U32 => return Err(Error::shape(NAME, "a table of integers is not embedded")),
    };
    let wide = channels.is_multiple_of(8) && table.is_aligned() && y.is_aligned();
    let launch = Launch::line(kernel, tokens.len().div_ceil(WARPS), THREADS as u32);
    let Words { rows, channels, count } = words;
    let arguments = args![table, tokens, &*y, rows, channels, count, i32::from(wide)];
    // SAFETY: the kernel reads a token and writes a row for each of `count`; rows that it reads are
    // below `rows` whatever the token is.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        machine.launch(&launch, arguments)
    }
}

/// Sums of the rows of `dy` by token: `dtable[t] = Σ dy[n]` over all `n` whose token is `t`, or `+=`.
///
/// Each sum is in the order of positions, cut into parts where it is long, so it depends on the inputs
/// alone. Tokens are known to be below `rows`; any other makes the last row NaN.
///
/// Allocates about 24 bytes a token, and up to 2,048 rows of f32 (for a million tokens 8,192).
///
/// # Shapes
///
/// `tokens` is u32 `[N]`, `dy` bf16 `[N, channels]`; `dtable` is f32 `[rows, channels]`.
///
/// # Errors
///
/// When lengths or types do not fit, or the device has no memory left.
pub fn embedding_backward(
    machine: &Machine,
    (rows, channels): (usize, usize),
    tokens: &View<'_>,
    dy: &View<'_>,
    dtable: &mut ViewMut<'_>,
    accumulate: bool,
) -> Result<()> {
    const NAME: &str = "embedding_backward";
    let words = words(NAME, (rows, channels), tokens)?;
    dy.expect(NAME, "dy", Type::Bf16, tokens.len() * channels)?;
    dtable.expect(NAME, "dtable", Type::F32, rows * channels)?;
    if !accumulate {
        // Most rows have no token. Those that have are added to like any others.
        machine.fill_bytes(dtable, 0)?;
    }
    if tokens.is_empty() {
        return Ok(());
    }
    let sorted = sort(machine, tokens, words)?;
    sum_segments(machine, &sorted, words, dy, dtable)
}

/// Tokens in rising order, each with its position; positions of the same token rise too.
struct Sorted {
    keys: Buffer,
    positions: Buffer,
}

fn sort(machine: &Machine, tokens: &View<'_>, words: Words) -> Result<Sorted> {
    let Words { rows, count, .. } = words;
    let len = tokens.len();
    let tiles = len.div_ceil(TILE);
    let counts = machine.scratch(Type::U32, DIGITS * tiles)?;
    let totals = machine.scratch(Type::U32, DIGITS)?;
    let bits = u32::BITS - (rows - 1).leading_zeros();
    let mut sorted: Option<Sorted> = None;
    for shift in (0..bits.max(1)).step_by(8) {
        let to = Sorted {
            keys: machine.scratch(Type::U32, len)?,
            positions: machine.scratch(Type::U32, len)?,
        };
        let keys = sorted.as_ref().map_or(*tokens, |sorted| sorted.keys.view());
        let positions = sorted.as_ref().map(|sorted| sorted.positions.view());
        let (counts, totals) = (counts.view(), totals.view());
        let tile_launch = |kernel| Launch::line(kernel, tiles, THREADS as u32);
        // SAFETY: the kernels read `count` keys and positions and write as many, at places that the
        // counts, 256 of each tile, make a permutation. Views that are written are ours alone.
        #[expect(unsafe_code, reason = "launches")]
        unsafe {
            machine.launch(
                &tile_launch("embedding_count"),
                args![&keys, &counts, count, rows, shift],
            )?;
            machine.launch(
                &Launch::line("embedding_offsets", DIGITS / WARPS, THREADS as u32),
                args![&counts, &totals, tiles as u32],
            )?;
            machine.launch(
                &tile_launch("embedding_move"),
                args![
                    &keys,
                    positions.as_ref(),
                    &to.keys.view(),
                    &to.positions.view(),
                    &counts,
                    &totals,
                    count,
                    rows,
                    shift
                ],
            )?;
        }
        sorted = Some(to);
    }
    sorted.ok_or_else(|| Error::shape("embedding_backward", "there are no rows"))
}

fn sum_segments(
    machine: &Machine,
    sorted: &Sorted,
    words: Words,
    dy: &View<'_>,
    dtable: &mut ViewMut<'_>,
) -> Result<()> {
    let len = sorted.keys.len();
    let piece = len.div_ceil(PIECES).next_power_of_two().clamp(LEAST_PIECE, MOST_PIECE);
    let pieces = len.div_ceil(piece);
    let Words { channels, count, .. } = words;
    let groups = (channels as usize).div_ceil(8);
    // Values from one partial sum to the next.
    let stride = 8 * groups;
    let partials = machine.scratch(Type::F32, 2 * pieces * stride)?;
    let (keys, positions) = (sorted.keys.view(), sorted.positions.view());
    let wide = channels.is_multiple_of(8) && dy.is_aligned() && dtable.is_aligned();
    let threads = groups.next_multiple_of(32).min(MOST_PIECE_THREADS);
    let slabs = |of: usize| {
        let slabs = (channels as usize).div_ceil(of);
        let most = u16::MAX as usize;
        if slabs > most {
            let reason = format!("{channels} channels are more than {}", most * of);
            return Err(Error::shape("embedding_backward", reason));
        }
        Ok(slabs as u32)
    };
    let launch = Launch::line("embedding_sum_pieces", pieces, threads as u32);
    let launch = Launch { grid: [launch.grid[0], slabs(8 * threads)?, 1], ..launch };
    let (piece, stride) = (piece as u32, stride as u32);
    // SAFETY: the kernel reads `count` keys and positions, the rows of `dy` at these positions, which
    // are below `count`, and adds to rows of `dtable` that keys name, which are below `rows`: each by
    // the one block that has the whole segment. Partial sums are two for each piece.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        machine.launch(
            &launch,
            args![
                &keys,
                &positions,
                dy,
                &*dtable,
                &partials.view(),
                count,
                piece,
                channels,
                stride,
                i32::from(wide)
            ],
        )?;
    }
    let launch = Launch::line("embedding_join_pieces", pieces, THREADS as u32);
    let launch = Launch { grid: [launch.grid[0], slabs(128)?, 1], ..launch };
    // SAFETY: the kernel reads keys, and those partial sums that the one before has written, and adds
    // to rows of `dtable` that keys name: each by the one block where its segment begins.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        machine.launch(
            &launch,
            args![&keys, &partials.view(), &*dtable, count, piece, channels, stride],
        )
    }
}
