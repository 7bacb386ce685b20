//! Memory of a device, and views of it.

use std::marker::PhantomData;
use std::ops::Range;

use crate::{Error, Machine, Result};

/// What memory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Single precision.
    F32,
    /// The upper half of single precision.
    Bf16,
    /// Unsigned 32-bit integers.
    U32,
}

impl Type {
    /// Bytes of one value.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 | Self::U32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// Device memory that can be read, of somebody who keeps it alive.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    address: u64,
    len: usize,
    type_: Type,
    owner: PhantomData<&'a ()>,
}

/// Device memory that can be written, and that nobody else reads or writes meanwhile.
#[derive(Debug)]
pub struct ViewMut<'a> {
    address: u64,
    len: usize,
    type_: Type,
    owner: PhantomData<&'a mut ()>,
}

macro_rules! facts {
    ($view:ident) => {
        impl $view<'_> {
            /// Number of values.
            pub fn len(&self) -> usize {
                self.len
            }

            /// Whether there is no value.
            pub fn is_empty(&self) -> bool {
                self.len == 0
            }

            /// What the memory holds.
            pub fn type_(&self) -> Type {
                self.type_
            }

            pub(crate) fn address(&self) -> u64 {
                self.address
            }

            /// Whether wide accesses of 16 bytes may start here.
            pub(crate) fn is_aligned(&self) -> bool {
                self.address.is_multiple_of(16)
            }

            /// An error unless there are `len` values of `type_`.
            pub(crate) fn expect(
                &self,
                operation: &'static str,
                name: &str,
                type_: Type,
                len: usize,
            ) -> Result<()> {
                if self.type_ == type_ && self.len == len {
                    return Ok(());
                }
                let reason = format!(
                    "`{name}` has {} values of {:?} where {len} of {type_:?} were expected",
                    self.len, self.type_
                );
                Err(Error::shape(operation, reason))
            }

            fn part_address(&self, range: &Range<usize>) -> u64 {
                assert!(
                    range.start <= range.end && range.end <= self.len,
                    "{range:?} of {} values",
                    self.len
                );
                self.address + (range.start * self.type_.bytes()) as u64
            }
        }
    };
}

facts!(View);
facts!(ViewMut);

impl<'a> View<'a> {
    /// Memory of somebody else: `len` values from `address` on.
    ///
    /// # Safety
    ///
    /// The memory belongs to the machine that the view is used with, holds `len` initialised values
    /// of `type_`, and is neither freed nor written while `'a` lasts, work that the device has
    /// queued included.
    #[expect(unsafe_code, reason = "the only promise about foreign memory")]
    pub unsafe fn foreign(address: u64, len: usize, type_: Type) -> Self {
        Self { address, len, type_, owner: PhantomData }
    }

    /// The values in a range.
    ///
    /// # Panics
    ///
    /// When the range reaches beyond the end.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> View<'a> {
        let address = self.part_address(&range);
        View { address, len: range.len(), ..*self }
    }
}

impl ViewMut<'_> {
    /// Memory of somebody else: `len` values from `address` on.
    ///
    /// # Safety
    ///
    /// As for [`View::foreign`], and nobody else reads or writes the memory while the view lives. The
    /// values need not be initialised.
    #[expect(unsafe_code, reason = "the only promise about foreign memory")]
    pub unsafe fn foreign(address: u64, len: usize, type_: Type) -> Self {
        Self { address, len, type_, owner: PhantomData }
    }

    /// The values in a range.
    ///
    /// # Panics
    ///
    /// When the range reaches beyond the end.
    #[must_use]
    pub fn part(&mut self, range: Range<usize>) -> ViewMut<'_> {
        let address = self.part_address(&range);
        ViewMut { address, len: range.len(), type_: self.type_, owner: PhantomData }
    }

    /// The same memory, lent again.
    #[must_use]
    pub fn reborrow(&mut self) -> ViewMut<'_> {
        ViewMut { address: self.address, len: self.len, type_: self.type_, owner: PhantomData }
    }

    /// The same memory, to be read.
    pub fn as_view(&self) -> View<'_> {
        View { address: self.address, len: self.len, type_: self.type_, owner: PhantomData }
    }
}

/// Memory of a machine; freed when dropped, once the device has done what was asked of it before.
pub struct Buffer {
    pub(crate) memory: Memory,
    len: usize,
    type_: Type,
}

pub(crate) enum Memory {
    #[cfg(feature = "emulator")]
    Emulated(std::sync::Arc<crate::emulator::Guarded>),
    #[cfg(feature = "cuda")]
    Cuda(crate::device::Allocation),
}

impl Memory {
    fn address(&self) -> u64 {
        match *self {
            #[cfg(feature = "emulator")]
            Self::Emulated(ref memory) => memory.address(),
            #[cfg(feature = "cuda")]
            Self::Cuda(ref memory) => memory.address(),
        }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} of {:?})", self.len, self.type_)
    }
}

impl Buffer {
    pub(crate) fn new(memory: Memory, type_: Type, len: usize) -> Self {
        Self { memory, len, type_ }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All values, to be read.
    pub fn view(&self) -> View<'_> {
        View {
            address: self.memory.address(),
            len: self.len,
            type_: self.type_,
            owner: PhantomData,
        }
    }

    /// All values, to be written.
    pub fn view_mut(&mut self) -> ViewMut<'_> {
        let address = self.memory.address();
        ViewMut { address, len: self.len, type_: self.type_, owner: PhantomData }
    }
}

impl Machine {
    /// Memory full of zeros.
    ///
    /// # Errors
    ///
    /// When the device has none left.
    pub fn zeros(&self, type_: Type, len: usize) -> Result<Buffer> {
        let mut buffer = self.scratch(type_, len)?;
        self.fill_bytes(&mut buffer.view_mut(), 0)?;
        Ok(buffer)
    }

    /// Single-precision numbers on the device, rounded where `type_` is `Bf16`.
    ///
    /// # Errors
    ///
    /// When the device has no memory left.
    ///
    /// # Panics
    ///
    /// When `type_` is `U32`.
    pub fn upload_f32(&self, type_: Type, values: &[f32]) -> Result<Buffer> {
        let bytes: Vec<u8> = match type_ {
            Type::F32 => values.iter().flat_map(|value| value.to_ne_bytes()).collect(),
            Type::Bf16 => values.iter().flat_map(|&value| bf16_bits(value).to_ne_bytes()).collect(),
            Type::U32 => panic!("floating-point numbers are no integers"),
        };
        self.upload(type_, values.len(), &bytes)
    }

    /// Integers on the device.
    ///
    /// # Errors
    ///
    /// When the device has no memory left.
    pub fn upload_u32(&self, values: &[u32]) -> Result<Buffer> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
        self.upload(Type::U32, values.len(), &bytes)
    }

    /// Waits for the device and reads floating-point numbers back.
    ///
    /// # Errors
    ///
    /// When work queued before has failed.
    ///
    /// # Panics
    ///
    /// When the view holds integers.
    pub fn download(&self, view: &View<'_>) -> Result<Vec<f32>> {
        let bytes = self.download_bytes(view)?;
        Ok(match view.type_() {
            Type::F32 => {
                bytes.as_chunks().0.iter().map(|&bytes| f32::from_ne_bytes(bytes)).collect()
            }
            Type::Bf16 => {
                let halves = bytes.as_chunks().0.iter();
                halves.map(|&bytes| bf16_value(u16::from_ne_bytes(bytes))).collect()
            }
            Type::U32 => panic!("integers are no floating-point numbers"),
        })
    }

    /// Waits for the device and reads integers back.
    ///
    /// # Errors
    ///
    /// When work queued before has failed.
    pub fn download_u32(&self, view: &View<'_>) -> Result<Vec<u32>> {
        let bytes = self.download_bytes(view)?;
        Ok(bytes.as_chunks().0.iter().map(|&bytes| u32::from_ne_bytes(bytes)).collect())
    }
}

/// The nearest bf16, even where two are as near.
pub(crate) fn bf16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

pub(crate) fn bf16_value(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}
