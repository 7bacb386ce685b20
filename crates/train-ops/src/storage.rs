//! From candle's tensors and storages to slices, and back.

use std::ops::{Deref, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{CpuStorage, Device, Layout, Result, Shape, Storage, Tensor, WithDType, bail};

/// The values of a contiguous storage on the CPU.
pub(crate) fn values<'a, T: WithDType>(
    operation: &str,
    storage: &'a CpuStorage,
    layout: &Layout,
) -> Result<&'a [T]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("{operation}: an argument of shape {:?} is not contiguous", layout.shape());
    };
    Ok(&storage.as_slice::<T>()?[start..end])
}

/// The `f32` values of a contiguous tensor on the CPU, readable for as long as the result lives.
pub(crate) fn read<'a>(
    operation: &str,
    tensor: &'a Tensor,
) -> Result<impl Deref<Target = [f32]> + 'a> {
    let (guard, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*guard else {
        bail!("{operation}: a tensor of shape {:?} is not on the CPU", tensor.shape());
    };
    let length = values::<f32>(operation, storage, layout)?.len();
    let range = layout.start_offset()..layout.start_offset() + length;
    Ok(Read { guard, range })
}

struct Read<G> {
    guard: G,
    range: Range<usize>,
}

impl<G: Deref<Target = Storage>> Deref for Read<G> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.guard {
            Storage::Cpu(CpuStorage::F32(data)) => &data[self.range.clone()],
            _ => unreachable!("`read` accepts `f32` values on the CPU only"),
        }
    }
}

/// A tensor on the CPU that takes the values over.
pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &Device::Cpu)
}

/// Fresh zeros; large ones come as untouched pages.
pub(crate) fn zeros(count: usize) -> Vec<f32> {
    vec![0.0; count]
}

/// Something that the forward pass leaves for the one backward pass.
pub(crate) struct Kept<T>(Mutex<Option<T>>);

impl<T> Kept<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(None))
    }

    pub(crate) fn put(&self, value: T) {
        *self.lock() = Some(value);
    }

    pub(crate) fn take(&self, operation: &str) -> Result<T> {
        match self.lock().take() {
            Some(value) => Ok(value),
            None => bail!("{operation}: backward ran twice over one forward pass"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
