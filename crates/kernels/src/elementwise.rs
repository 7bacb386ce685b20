//! Functions of each value alone.

use crate::launch::args;
use crate::{Error, Launch, Machine, Result, Type, View, ViewMut};

const THREADS: usize = 256;

/// `to += from`, of equal length; both bf16, rounded to nearest, or both f32.
///
/// # Errors
///
/// When lengths or types differ.
pub fn add(machine: &Machine, to: &mut ViewMut<'_>, from: &View<'_>) -> Result<()> {
    const NAME: &str = "add";
    from.expect(NAME, "from", to.type_(), to.len())?;
    let (kernel, at_once) = match to.type_() {
        Type::Bf16 => ("add_bf16", 8),
        Type::F32 => ("add_f32", 4),
        Type::U32 => return Err(Error::shape(NAME, "integers are not added")),
    };
    aligned(NAME, &[to.is_aligned(), from.is_aligned()])?;
    let launch = each(kernel, to.len(), at_once);
    // SAFETY: the kernel reads and writes `to.len()` values of both, which are so long.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        machine.launch(&launch, args![&*to, from, to.len() as u64])
    }
}

/// `to = a + b`, of equal length; all bf16, rounded to nearest, or all f32.
///
/// # Errors
///
/// When lengths or types differ.
pub fn add_to(machine: &Machine, to: &mut ViewMut<'_>, a: &View<'_>, b: &View<'_>) -> Result<()> {
    const NAME: &str = "add_to";
    let len = to.len();
    a.expect(NAME, "a", to.type_(), len)?;
    b.expect(NAME, "b", to.type_(), len)?;
    let (kernel, at_once) = match to.type_() {
        Type::Bf16 => ("sum_bf16", 8),
        Type::F32 => ("sum_f32", 4),
        Type::U32 => return Err(Error::shape(NAME, "integers are not added")),
    };
    aligned(NAME, &[to.is_aligned(), a.is_aligned(), b.is_aligned()])?;
    let launch = each(kernel, len, at_once);
    // SAFETY: the kernel reads `len` values of `a` and `b` and writes as many of `to`.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        machine.launch(&launch, args![&*to, a, b, len as u64])
    }
}

/// `to += factor · from`, of equal length: `to` f32, `from` f32 or bf16.
///
/// # Errors
///
/// When lengths or types do not fit.
pub fn accumulate(
    machine: &Machine,
    to: &mut ViewMut<'_>,
    from: &View<'_>,
    factor: f32,
) -> Result<()> {
    const NAME: &str = "accumulate";
    to.expect(NAME, "to", Type::F32, from.len())?;
    let kernel = match from.type_() {
        Type::Bf16 => "accumulate_bf16",
        Type::F32 => "accumulate_f32",
        Type::U32 => return Err(Error::shape(NAME, "integers are not added")),
    };
    aligned(NAME, &[to.is_aligned(), from.is_aligned()])?;
    let launch = each(kernel, to.len(), 4);
    // SAFETY: the kernel reads and writes `to.len()` values, and reads as many of `from`.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        machine.launch(&launch, args![&*to, from, to.len() as u64, factor])
    }
}

/// `to = factor · from + offset`, of equal length; both bf16, rounded to nearest, or both f32.
///
/// # Errors
///
/// When lengths or types differ.
pub fn affine(
    machine: &Machine,
    to: &mut ViewMut<'_>,
    from: &View<'_>,
    (factor, offset): (f32, f32),
) -> Result<()> {
    const NAME: &str = "affine";
    from.expect(NAME, "from", to.type_(), to.len())?;
    let (kernel, at_once) = match to.type_() {
        Type::Bf16 => ("affine_bf16", 8),
        Type::F32 => ("affine_f32", 4),
        Type::U32 => return Err(Error::shape(NAME, "integers are not scaled")),
    };
    aligned(NAME, &[to.is_aligned(), from.is_aligned()])?;
    let launch = each(kernel, to.len(), at_once);
    // SAFETY: the kernel reads `to.len()` values of `from` and writes as many of `to`.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        machine.launch(&launch, args![&*to, from, to.len() as u64, factor, offset])
    }
}

/// Sets every value of `to`, f32.
///
/// # Errors
///
/// When `to` is not f32.
pub fn fill(machine: &Machine, to: &mut ViewMut<'_>, value: f32) -> Result<()> {
    const NAME: &str = "fill";
    to.expect(NAME, "to", Type::F32, to.len())?;
    aligned(NAME, &[to.is_aligned()])?;
    let launch = each("fill_f32", to.len(), 4);
    // SAFETY: the kernel writes `to.len()` values.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        machine.launch(&launch, args![&*to, to.len() as u64, value])
    }
}

/// `to = from`, from bf16 to f32.
///
/// # Errors
///
/// When lengths differ or types are not f32 and bf16.
pub fn widen(machine: &Machine, to: &mut ViewMut<'_>, from: &View<'_>) -> Result<()> {
    const NAME: &str = "widen";
    from.expect(NAME, "from", Type::Bf16, to.len())?;
    to.expect(NAME, "to", Type::F32, from.len())?;
    aligned(NAME, &[to.is_aligned(), from.is_aligned()])?;
    let launch = each("widen_bf16", to.len(), 8);
    // SAFETY: the kernel reads `to.len()` values of `from` and writes as many of `to`.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        machine.launch(&launch, args![&*to, from, to.len() as u64])
    }
}

/// `to = from`, rounded to the nearest bf16.
///
/// # Errors
///
/// When lengths differ or types are not bf16 and f32.
pub fn round_to_bf16(machine: &Machine, to: &mut ViewMut<'_>, from: &View<'_>) -> Result<()> {
    const NAME: &str = "round_to_bf16";
    from.expect(NAME, "from", Type::F32, to.len())?;
    to.expect(NAME, "to", Type::Bf16, from.len())?;
    aligned(NAME, &[to.is_aligned(), from.is_aligned()])?;
    let launch = each("round_to_bf16", to.len(), 8);
    // SAFETY: the kernel reads `to.len()` values of `from` and writes as many of `to`.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        machine.launch(&launch, args![&*to, from, to.len() as u64])
    }
}

/// Threads for `len` values, `at_once` of them in each.
fn each(kernel: &'static str, len: usize, at_once: usize) -> Launch {
    Launch::line(kernel, len.div_ceil(THREADS * at_once), THREADS as u32)
}

fn aligned(operation: &'static str, views: &[bool]) -> Result<()> {
    if views.iter().all(|&aligned| aligned) {
        return Ok(());
    }
    Err(Error::shape(operation, "memory does not start at a multiple of 16 bytes"))
}
