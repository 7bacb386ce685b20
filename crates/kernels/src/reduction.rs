//! Sums, in two stages and a fixed order.

use crate::launch::args;
use crate::{Error, Launch, Machine, Result, StepTables, Type, View, ViewMut};

/// Threads of a block of the first stages, and of scaling.
const THREADS: usize = 256;
/// Threads of a block of the second stages.
const FINAL_THREADS: u32 = 1024;
/// Columns of a block of [`sum_partials`].
const FINAL_COLUMNS: usize = 32;
/// Values that a block of [`sum`] adds up.
const CHUNK: usize = 4096;
/// Values that a block of [`sum_of_squares`] adds up.
const TENSOR_CHUNK: usize = 32_768;
/// Rows that a block of [`column_sums`] adds up, at least: four for each warp.
const FEWEST_ROWS: usize = 32;
/// Blocks of [`column_sums`] that a multiprocessor holds.
const RESIDENT: usize = 6;

/// Sums over all rows, as bias gradients are.
///
/// # Shapes
///
/// `x` is bf16 `[rows, columns]`, `sums` f32 `[columns]`: written, or added to when `accumulate` is
/// set. The order of the sums depends on the number of multiprocessors.
///
/// # Errors
///
/// When sizes or types do not fit, or there is no memory for partial sums.
pub fn column_sums(
    machine: &Machine,
    (rows, columns): (usize, usize),
    x: &View<'_>,
    sums: &mut ViewMut<'_>,
    accumulate: bool,
) -> Result<()> {
    const NAME: &str = "column_sums";
    x.expect(NAME, "x", Type::Bf16, rows * columns)?;
    sums.expect(NAME, "sums", Type::F32, columns)?;
    let (n_rows, n_columns) = (count(NAME, "rows", rows)?, count(NAME, "columns", columns)?);
    // A block has 256 columns on either path.
    let across = columns.div_ceil(THREADS);
    let most = (RESIDENT * machine.multiprocessors() as usize / across.max(1)).max(1);
    let parts = rows.div_ceil(FEWEST_ROWS).min(most);
    let chunk = rows.div_ceil(parts.max(1));
    let fast = columns.is_multiple_of(8) && x.is_aligned();
    let kernel = if fast { "column_partials" } else { "column_partials_any" };
    let mut partials = machine.scratch(Type::F32, parts * columns)?;
    let launch = Launch {
        grid: [across as u32, parts as u32, 1],
        ..Launch::line(kernel, 1, THREADS as u32)
    };
    let chunk = count(NAME, "rows of a chunk", chunk)?;
    // SAFETY: `x` is of the length and type just checked; blocks along y write a row of partial sums
    // each, of which there are as many.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        machine.launch(&launch, args![n_rows, n_columns, chunk, x, &partials.view_mut()])?;
    }
    sum_partials(machine, (parts, columns), &partials.view(), sums, None, accumulate)
}

/// Sums of the columns of `partials`, f32 `[parts, columns]`; as many as `first` has go there, the
/// others to `second`.
pub(crate) fn sum_partials(
    machine: &Machine,
    (parts, columns): (usize, usize),
    partials: &View<'_>,
    first: &mut ViewMut<'_>,
    second: Option<&mut ViewMut<'_>>,
    accumulate: bool,
) -> Result<()> {
    const NAME: &str = "sum_partials";
    partials.expect(NAME, "partials", Type::F32, parts * columns)?;
    first.expect(NAME, "first", Type::F32, first.len())?;
    let rest = columns.saturating_sub(first.len());
    let second: Option<&ViewMut<'_>> = second.map(|second| &*second);
    second.map_or(Ok(()), |second| second.expect(NAME, "second", Type::F32, rest))?;
    if first.len() > columns || (rest > 0 && second.is_none()) {
        return Err(Error::shape(NAME, "the columns have no places"));
    }
    // A warp has at least four parts, where there are as many.
    let warps = parts.div_ceil(4).clamp(1, FINAL_THREADS as usize / 32) as u32;
    let launch = Launch::line("sum_partials", columns.div_ceil(FINAL_COLUMNS), 32 * warps);
    let (n_parts, n_columns) = (count(NAME, "parts", parts)?, count(NAME, "columns", columns)?);
    let n_first = count(NAME, "columns", first.len())?;
    let first = &*first;
    // SAFETY: the lengths of all views were just checked; every column has one place.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        let accumulate = u32::from(accumulate);
        machine.launch(
            &launch,
            args![n_parts, n_columns, partials, n_first, first, second, accumulate],
        )
    }
}

/// `total = scale · Σ x`.
///
/// # Shapes
///
/// `x` is f32 or bf16 of any length, `total` f32 `[1]`.
///
/// # Errors
///
/// When sizes or types do not fit, or there is no memory for partial sums.
pub fn sum(machine: &Machine, x: &View<'_>, total: &mut ViewMut<'_>, scale: f32) -> Result<()> {
    const NAME: &str = "sum";
    let is_bf16 = u32::from(is_bf16(NAME, x.type_())?);
    let n_chunks = x.len().div_ceil(CHUNK);
    let mut partials = machine.scratch(Type::F32, n_chunks)?;
    let launch = Launch::line("sum_chunks", n_chunks, THREADS as u32);
    // SAFETY: the kernel reads `x.len()` values of the type that it is told, and a block writes one
    // partial sum, of which there are as many.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        let (len, chunk) = (x.len() as u64, CHUNK as u32);
        machine.launch(&launch, args![x, is_bf16, len, chunk, &partials.view_mut()])?;
    }
    finish(machine, NAME, &partials.view(), total, scale)
}

/// The sum of partial sums, by one block.
fn finish(
    machine: &Machine,
    name: &'static str,
    partials: &View<'_>,
    total: &mut ViewMut<'_>,
    scale: f32,
) -> Result<()> {
    total.expect(name, "total", Type::F32, 1)?;
    let n_partials = count(name, "partial sums", partials.len())?;
    let launch = Launch::line("sum_final", 1, FINAL_THREADS);
    // SAFETY: the kernel reads all partial sums, f32 by construction, and writes one value.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        machine.launch(&launch, args![partials, n_partials, scale, &*total])
    }
}

/// Sum of the squares of all values of all tensors: the square of a gradient's norm. `tables` is where
/// they are written down on the device for one launch over all of them.
///
/// # Shapes
///
/// `tensors` are f32 or bf16, of any lengths, any number of them; `total` is f32 `[1]`.
///
/// # Errors
///
/// When a tensor holds integers, sizes do not fit, or there is no memory for partial sums.
pub fn sum_of_squares(
    machine: &Machine,
    tables: &mut StepTables,
    tensors: &[View<'_>],
    total: &mut ViewMut<'_>,
) -> Result<()> {
    const NAME: &str = "sum_of_squares";
    // Two words of 64 bits for each chunk: address, and length and type.
    let mut words = Vec::new();
    for tensor in tensors {
        let is_bf16 = is_bf16(NAME, tensor.type_())?;
        for start in (0..tensor.len()).step_by(TENSOR_CHUNK) {
            let chunk = tensor.part(start..tensor.len().min(start + TENSOR_CHUNK));
            let length = 2 * chunk.len() as u64 + u64::from(is_bf16);
            for word in [chunk.address(), length] {
                words.extend([word as u32, (word >> 32) as u32]);
            }
        }
    }
    let n_chunks = words.len() / 4;
    let table = tables.write_words(machine, words)?;
    let mut partials = machine.scratch(Type::F32, n_chunks)?;
    let launch = Launch::line("square_chunks", n_chunks, THREADS as u32);
    // SAFETY: the table has as many entries as there are blocks, each of memory that the caller lends;
    // a block writes one partial sum, of which there are as many.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        machine.launch(&launch, args![&table, &partials.view_mut()])?;
    }
    finish(machine, NAME, &partials.view(), total, 1.0)
}

/// `x *= factor`, f32 or bf16; nothing is moved where the factor is 1.
///
/// # Shapes
///
/// `x` has any length, `factor` is f32 `[1]`, on the device.
///
/// # Errors
///
/// When types or lengths do not fit or `x` is not aligned to 16 bytes.
pub fn scale_by(machine: &Machine, x: &mut ViewMut<'_>, factor: &View<'_>) -> Result<()> {
    const NAME: &str = "scale_by";
    factor.expect(NAME, "factor", Type::F32, 1)?;
    let (kernel, at_once) =
        if is_bf16(NAME, x.type_())? { ("scale_by_bf16", 8) } else { ("scale_by_f32", 4) };
    if !x.is_aligned() {
        return Err(Error::shape(NAME, "`x` does not start at a multiple of 16 bytes"));
    }
    let launch = Launch::line(kernel, x.len().div_ceil(THREADS * at_once), THREADS as u32);
    // SAFETY: the kernel reads one factor, and reads and writes `x.len()` values.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        machine.launch(&launch, args![&*x, factor, x.len() as u64])
    }
}

fn is_bf16(name: &'static str, type_: Type) -> Result<bool> {
    match type_ {
        Type::Bf16 => Ok(true),
        Type::F32 => Ok(false),
        Type::U32 => Err(Error::shape(name, "integers where f32 or bf16 were expected")),
    }
}

/// A number that a kernel counts with 32 bits.
pub(crate) fn count(name: &'static str, what: &str, number: usize) -> Result<u32> {
    u32::try_from(number).map_err(|_| {
        Error::shape(name, format!("{number} {what} are more than a kernel can count"))
    })
}
