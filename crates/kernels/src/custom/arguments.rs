//! What a kernel takes, what it is handed, and whether the two fit.

use std::fmt;

use crate::{Argument, Error, Result, View, ViewMut};

/// With how many threads a kernel is launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Blocks along x, y and z; none of them zero, along y and z at most 65,535.
    pub blocks: [u32; 3],
    /// Threads of a block along x, y and z; none of them zero, all together at most 1,024, along z at
    /// most 64.
    pub threads: [u32; 3],
    /// Bytes of a block's dynamic shared memory; with the kernel's own at most 227 KiB, less on some
    /// devices.
    pub shared_bytes: u32,
}

/// One argument of a kernel that came as source.
#[derive(Debug)]
pub enum CustomArgument<'a> {
    /// Memory that the kernel reads: a pointer.
    Read(View<'a>),
    /// Memory that the kernel writes: a pointer.
    Written(ViewMut<'a>),
    /// `uint32_t`.
    U32(u32),
    /// `int`.
    I32(i32),
    /// `float`.
    F32(f32),
}

impl CustomArgument<'_> {
    /// The bits, in the low end of a word.
    #[cfg_attr(
        not(any(feature = "cuda", test)),
        expect(dead_code, reason = "only devices run kernels that came as source")
    )]
    pub(crate) fn word(&self) -> u64 {
        match *self {
            Self::Read(ref view) => Argument::from(view),
            Self::Written(ref view) => Argument::from(view),
            Self::U32(value) => value.into(),
            Self::I32(value) => value.into(),
            Self::F32(value) => value.into(),
        }
        .word()
    }

    /// The number that is handed over; 1 for memory, wherever it lies.
    #[cfg(feature = "cuda")]
    pub(crate) fn number(&self) -> u64 {
        match self {
            Self::Read(_) | Self::Written(_) => 1,
            number => number.word(),
        }
    }

    fn fits(&self, parameter: Parameter) -> bool {
        match self {
            Self::Read(_) | Self::Written(_) => parameter == Parameter::Pointer,
            Self::U32(_) | Self::I32(_) => {
                matches!(parameter, Parameter::Integer | Parameter::Word)
            }
            Self::F32(_) => matches!(parameter, Parameter::Float | Parameter::Word),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Read(_) | Self::Written(_) => Parameter::Pointer.name(),
            Self::U32(_) | Self::I32(_) => Parameter::Integer.name(),
            Self::F32(_) => Parameter::Float.name(),
        }
    }
}

/// What a compiled kernel says of a parameter: its width, and mostly whether it is a number with a
/// fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(any(feature = "cuda", test)),
    expect(dead_code, reason = "only compiled kernels have parameters")
)]
pub(crate) enum Parameter {
    /// 64 bits.
    Pointer,
    /// 32 bits, an integer.
    Integer,
    /// 32 bits, a floating-point number.
    Float,
    /// 32 bits that the compiler does not call either.
    Word,
}

impl Parameter {
    fn name(self) -> &'static str {
        match self {
            Self::Pointer => "a pointer",
            Self::Integer => "an integer",
            Self::Float => "a float",
            Self::Word => "a number of 32 bits",
        }
    }
}

/// Most threads of a block, and bytes of shared memory that a block may have on any device.
const MOST_THREADS: u32 = 1024;
#[cfg_attr(
    not(any(feature = "cuda", test)),
    expect(dead_code, reason = "only compiled kernels are launched")
)]
pub(crate) const MOST_SHARED: u32 = 227 << 10;

/// A kernel's name, what it takes, and what the device can give it.
#[derive(Clone)]
pub(crate) struct Signature {
    name: String,
    pub(super) parameters: Vec<Parameter>,
    /// Threads for which the device has registers.
    pub(crate) most_threads: u32,
    /// Bytes of dynamic shared memory beside what the kernel declares itself.
    pub(crate) most_shared: u32,
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.name, self.parameters)
    }
}

impl Signature {
    /// A kernel as it was compiled; the device has not said yet whether it can give it less.
    #[cfg(any(feature = "cuda", test))]
    pub(super) fn new(name: &str, parameters: Vec<Parameter>) -> Self {
        let name = name.to_owned();
        Self { name, parameters, most_threads: MOST_THREADS, most_shared: MOST_SHARED }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// An error unless the kernel can be launched so.
    pub(super) fn check(&self, grid: Grid, arguments: &[CustomArgument<'_>]) -> Result<()> {
        let name = &self.name;
        let refuse = |reason: String| Err(Error::Custom { reason: format!("`{name}`: {reason}") });
        let Grid { blocks, threads, shared_bytes } = grid;
        if blocks.contains(&0)
            || blocks[0] > i32::MAX as u32
            || blocks[1..].iter().any(|&n| n > 65_535)
        {
            return refuse(format!(
                "a grid of {blocks:?} blocks; each number is at least 1, the second and third at \
                 most 65535"
            ));
        }
        let count = threads.iter().try_fold(1_u32, |count, &n| count.checked_mul(n));
        let fits = |count| (1..=self.most_threads.min(MOST_THREADS)).contains(&count);
        if !count.is_some_and(fits) || threads[2] > 64 {
            return refuse(format!(
                "blocks of {threads:?} threads; this kernel's have 1 to {} of them, along the third \
                 dimension at most 64",
                self.most_threads.min(MOST_THREADS)
            ));
        }
        if shared_bytes > self.most_shared {
            return refuse(format!(
                "{shared_bytes} bytes of dynamic shared memory, more than the {} that are left to it",
                self.most_shared
            ));
        }
        if arguments.len() != self.parameters.len() {
            return refuse(format!(
                "it declares {} parameters, and is handed {}",
                self.parameters.len(),
                arguments.len()
            ));
        }
        let mut pairs = arguments.iter().zip(&self.parameters).enumerate();
        match pairs.find(|(_, (argument, parameter))| !argument.fits(**parameter)) {
            Some((idx, (argument, parameter))) => refuse(format!(
                "parameter {} is {}, and is handed {}",
                idx + 1,
                parameter.name(),
                argument.kind()
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Type;

    const GRID: Grid = Grid { blocks: [1; 3], threads: [32, 1, 1], shared_bytes: 0 };

    fn view() -> View<'static> {
        #[expect(unsafe_code, reason = "a view that nobody reads")]
        // SAFETY: it holds no value.
        unsafe {
            View::foreign(64, 0, Type::F32)
        }
    }

    #[track_caller]
    fn refused(result: Result<()>, reason: &str) {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }

    #[test]
    fn arguments_are_those_that_the_kernel_declares() {
        use Parameter::{Float, Integer, Pointer, Word};
        let kernel = Signature::new("k", vec![Pointer, Integer, Float, Word]);
        let with = |arguments: &[CustomArgument<'_>]| kernel.check(GRID, arguments);
        let read = || CustomArgument::Read(view());
        let (u, i, f) =
            (|| CustomArgument::U32(1), || CustomArgument::I32(-1), || CustomArgument::F32(0.5));
        with(&[read(), u(), f(), f()]).unwrap();
        with(&[read(), i(), f(), i()]).unwrap();
        let error = with(&[read(), u(), f()]).unwrap_err().to_string();
        assert_eq!(error, "custom kernels: `k`: it declares 4 parameters, and is handed 3");
        refused(with(&[u(), u(), f(), f()]), "parameter 1 is a pointer, and is handed an integer");
        refused(with(&[read(), f(), f(), f()]), "parameter 2 is an integer, and is handed a float");
        refused(with(&[read(), u(), i(), f()]), "parameter 3 is a float, and is handed an integer");
        refused(with(&[read(), u(), f(), read()]), "parameter 4 is a number of 32 bits");
        refused(with(&[read(), u(), f(), f(), f()]), "declares 4 parameters, and is handed 5");
    }

    #[test]
    fn arguments_become_words() {
        assert_eq!(CustomArgument::Read(view()).word(), 64);
        assert_eq!(CustomArgument::I32(-1).word(), 0xffff_ffff);
        assert_eq!(CustomArgument::U32(7).word(), 7);
        assert_eq!(CustomArgument::F32(1.0).word(), 0x3f80_0000);
    }

    #[test]
    fn grids_are_those_that_a_device_can_hold() {
        let kernel = Signature::new("k", Vec::new());
        let with = |change: fn(&mut Grid)| {
            let mut grid = GRID;
            change(&mut grid);
            kernel.check(grid, &[])
        };
        with(|grid| grid.threads = [1024, 1, 1]).unwrap();
        with(|grid| grid.threads = [4, 4, 64]).unwrap();
        with(|grid| grid.blocks = [i32::MAX as u32, 65_535, 65_535]).unwrap();
        with(|grid| grid.shared_bytes = 227 << 10).unwrap();
        refused(with(|grid| grid.blocks = [1, 0, 1]), "a grid of [1, 0, 1] blocks");
        refused(with(|grid| grid.blocks = [1 << 31, 1, 1]), "blocks");
        refused(with(|grid| grid.blocks = [1, 1 << 16, 1]), "blocks");
        refused(with(|grid| grid.threads = [1025, 1, 1]), "blocks of [1025, 1, 1] threads");
        refused(with(|grid| grid.threads = [1 << 31, 2, 1]), "threads");
        refused(with(|grid| grid.threads = [0, 1, 1]), "threads");
        refused(with(|grid| grid.threads = [1, 1, 65]), "threads");
        refused(with(|grid| grid.shared_bytes = (227 << 10) + 1), "more than the 232448");
        let narrow = Signature { most_threads: 256, ..kernel.clone() };
        let grid = Grid { threads: [257, 1, 1], ..GRID };
        refused(narrow.check(grid, &[]), "have 1 to 256 of them");
    }
}
