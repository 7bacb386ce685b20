//! One launch of a kernel.

use crate::{View, ViewMut};

/// Which kernel, and with how many threads.
#[derive(Debug, Clone, Copy)]
pub struct Launch {
    /// The kernel's exported name.
    pub kernel: &'static str,
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y and z; whole warps, at most 1,024.
    pub block: [u32; 3],
    /// Bytes of a block's dynamic shared memory.
    pub shared_bytes: u32,
}

impl Launch {
    /// A launch along x alone, without dynamic shared memory.
    pub fn line(kernel: &'static str, blocks: usize, threads: u32) -> Self {
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
        Self { kernel, grid: [blocks, 1, 1], block: [threads, 1, 1], shared_bytes: 0 }
    }
}

/// One argument of a kernel, as wide as the parameter that it is for.
#[derive(Debug, Clone, Copy)]
pub enum Argument {
    /// `uint32_t`.
    U32(u32),
    /// `int`.
    I32(i32),
    /// `uint64_t`.
    U64(u64),
    /// `float`.
    F32(f32),
    /// A pointer into device memory.
    Pointer(u64),
}

impl Argument {
    /// The bits, in the low end of a word: parameters are little-endian.
    pub(crate) fn word(self) -> u64 {
        match self {
            Self::U32(value) => u64::from(value),
            Self::I32(value) => u64::from(value.cast_unsigned()),
            Self::U64(value) | Self::Pointer(value) => value,
            Self::F32(value) => u64::from(value.to_bits()),
        }
    }
}

macro_rules! from {
    ($($variant:ident: $type:ty),+) => {
        $(impl From<$type> for Argument {
            fn from(value: $type) -> Self {
                Self::$variant(value)
            }
        })+
    };
}

from!(U32: u32, I32: i32, U64: u64, F32: f32);

impl From<&View<'_>> for Argument {
    fn from(view: &View<'_>) -> Self {
        Self::Pointer(view.address())
    }
}

impl From<&ViewMut<'_>> for Argument {
    fn from(view: &ViewMut<'_>) -> Self {
        Self::Pointer(view.address())
    }
}

/// The null pointer stands for what is not there.
impl From<Option<&View<'_>>> for Argument {
    fn from(view: Option<&View<'_>>) -> Self {
        Self::Pointer(view.map_or(0, View::address))
    }
}

impl From<Option<&ViewMut<'_>>> for Argument {
    fn from(view: Option<&ViewMut<'_>>) -> Self {
        Self::Pointer(view.map_or(0, ViewMut::address))
    }
}

/// Arguments of a kernel, in order: `args![&view, 3u32, 0.5f32]`.
macro_rules! args {
    ($($value:expr),* $(,)?) => {
        &[$($crate::Argument::from($value)),*]
    };
}
pub(crate) use args;
