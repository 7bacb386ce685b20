//! Tensors as device memory.
#![expect(unsafe_code, reason = "kernels are lent the memory of candle's tensors")]

use std::any::TypeId;
use std::cell::Cell;
use std::hash::{DefaultHasher, Hash, Hasher};

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{
    CpuStorage, DType, Device, Error, InplaceOp1, Layout, Result, Shape, Storage, Tensor, bail,
};
use forerunner_kernels::{Type, View, ViewMut};

use super::{Place, graph, place};

/// A new tensor that is not written yet.
///
/// On the CPU, where the emulator's memory lies, it is full of NaN: a kernel that leaves a value out
/// is found out.
pub(super) fn empty(place: &Place, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
    let shape = shape.into();
    let tensor = match &place.device {
        Device::Cpu => Tensor::full(f32::NAN, shape, &Device::Cpu)?.to_dtype(dtype),
        // SAFETY: any bits are a value, and kernels write whole results, which their tests check.
        device => unsafe { Tensor::empty(shape, dtype, device) },
    }?;
    graph::made(&tensor);
    Ok(tensor)
}

/// A new tensor, f32, of one value.
pub(super) fn filled(place: &Place, shape: impl Into<Shape>, value: f32) -> Result<Tensor> {
    let tensor = empty(place, shape, DType::F32)?;
    forerunner_kernels::fill(&place.machine, &mut view_mut(&tensor)?, value).map_err(wrapped)?;
    Ok(tensor)
}

/// The same values in another type.
pub(super) fn cast(tensor: &Tensor, dtype: DType) -> Result<Tensor> {
    let known = match (tensor.dtype(), dtype) {
        (from, to) if from == to => return Ok(tensor.clone()),
        (DType::F32, DType::BF16) => forerunner_kernels::round_to_bf16,
        (DType::BF16, DType::F32) => forerunner_kernels::widen,
        _ => return by_candle(&[tensor], move |x| x[0].to_dtype(dtype)),
    };
    let place = place()?;
    let from = dense(tensor)?;
    let to = empty(&place, from.shape(), dtype)?;
    known(&place.machine, &mut view_mut(&to)?, &view(&from)?).map_err(wrapped)?;
    Ok(to)
}

/// What candle makes of tensors. On a device its kernels are queued, and captured, like ours; on the
/// emulator candle computes at once, and is told to do so again when a graph runs.
///
/// # Errors
///
/// When the function fails.
pub fn by_candle(
    inputs: &[&Tensor],
    function: impl Fn(&[Tensor]) -> Result<Tensor> + Send + 'static,
) -> Result<Tensor> {
    let all = all_by_candle(inputs, move |inputs| Ok(vec![Some(function(inputs)?)]))?;
    match all.into_iter().next().flatten() {
        Some(result) => Ok(result),
        None => bail!("a function of one result has one"),
    }
}

/// [`by_candle`] with several results, some of which may be missing.
pub(super) fn all_by_candle<F>(inputs: &[&Tensor], function: F) -> Result<Vec<Option<Tensor>>>
where
    F: Fn(&[Tensor]) -> Result<Vec<Option<Tensor>>> + Send + 'static,
{
    let inputs: Vec<Tensor> = inputs.iter().map(|&input| input.clone()).collect();
    let results = function(&inputs)?;
    if !graph::is_in_pass() {
        return Ok(results);
    }
    let place = place()?;
    inputs.iter().for_each(graph::used);
    let found = results.iter().flatten();
    let sizes = inputs.iter().chain(found).flat_map(|tensor| tensor.dims().to_vec());
    // Which function it is; numbers that it holds are for its callers to note.
    let mut which = DefaultHasher::new();
    TypeId::of::<F>().hash(&mut which);
    let numbers = sizes.map(|size| size as u64).chain([which.finish()]);
    graph::note_numbers("candle", numbers);
    let is_view = |result: &Tensor| {
        let address = storage_address(result).ok();
        address.is_some() && inputs.iter().any(|input| storage_address(input).ok() == address)
    };
    let mut fixed = Vec::with_capacity(results.len());
    for result in results {
        fixed.push(match result {
            Some(result) if !is_view(&result) => {
                let is_fixed = place.device.is_cpu();
                let result = if is_fixed { result.force_contiguous()? } else { result };
                graph::made(&result);
                Some(result)
            }
            view => view,
        });
    }
    #[cfg(feature = "emulator")]
    if place.device.is_cpu() && graph::is_capturing() {
        let (to, machine) = (fixed.clone(), place.machine.clone());
        place.machine.record_on_host(move || {
            let again = || {
                for (to, from) in to.iter().zip(function(&inputs)?) {
                    let (Some(to), Some(from)) = (to, from) else { continue };
                    if storage_address(to)? != storage_address(&from)? {
                        let from = from.contiguous()?;
                        machine.copy(&mut view_mut(to)?, &view(&from)?).map_err(wrapped)?;
                    }
                }
                Ok::<_, Error>(())
            };
            again().map_err(|error| forerunner_kernels::Error::shape("candle", error.to_string()))
        });
    }
    Ok(fixed)
}

/// The same values one after the other, from an address on that wide accesses may start at: a view of
/// a part of a tensor may begin anywhere.
pub(super) fn dense(tensor: &Tensor) -> Result<Tensor> {
    let offset = tensor.layout().start_offset() * tensor.dtype().size_in_bytes();
    if offset.is_multiple_of(16) && tensor.is_contiguous() {
        return Ok(tensor.clone());
    }
    by_candle(&[tensor], |x| x[0].force_contiguous())
}

/// Where a tensor's storage begins, which its views share.
pub(super) fn storage_address(tensor: &Tensor) -> Result<u64> {
    match &*tensor.storage_and_layout().0 {
        Storage::Cpu(storage) => cpu_address(storage),
        #[cfg(feature = "cuda")]
        Storage::Cuda(storage) => cuda::address(storage),
        _ => bail!("a tensor of shape {:?} is on no device of ours", tensor.shape()),
    }
}

/// The memory of a contiguous tensor, to be read.
pub(super) fn view(tensor: &Tensor) -> Result<View<'_>> {
    let (offset, type_) = place_of(tensor.dtype(), tensor.layout())?;
    let base = storage_address(tensor)?;
    graph::used(tensor);
    // SAFETY: the tensor keeps its storage while the view borrows it, and holds as many values. Work
    // queued on the device is done in order, frees included.
    Ok(unsafe { View::foreign(base + offset, tensor.elem_count(), type_) })
}

/// The memory of a contiguous tensor, to be written: of one just made by [`empty`], or of a parameter
/// that its optimizer changes.
pub(super) fn view_mut(tensor: &Tensor) -> Result<ViewMut<'_>> {
    let (offset, type_) = place_of(tensor.dtype(), tensor.layout())?;
    let address = AddressMut(Cell::new(0));
    tensor.inplace_op1(&address)?;
    graph::used(tensor);
    // SAFETY: as above; the address comes from a mutable borrow, and whoever calls this does not
    // read the tensor before the kernel is queued.
    Ok(unsafe { ViewMut::foreign(address.0.get() + offset, tensor.elem_count(), type_) })
}

/// Bytes before the first value, and the type.
fn place_of(dtype: DType, layout: &Layout) -> Result<(u64, Type)> {
    let type_ = match dtype {
        DType::F32 => Type::F32,
        DType::BF16 => Type::Bf16,
        DType::U32 => Type::U32,
        other => bail!("kernels do not know {other:?}"),
    };
    if !layout.is_contiguous() {
        bail!("a tensor of shape {:?} is not contiguous", layout.shape());
    }
    Ok(((layout.start_offset() * type_.bytes()) as u64, type_))
}

fn cpu_address(storage: &CpuStorage) -> Result<u64> {
    Ok(match storage {
        CpuStorage::F32(values) => values.as_ptr() as u64,
        CpuStorage::BF16(values) => values.as_ptr() as u64,
        CpuStorage::U32(values) => values.as_ptr() as u64,
        CpuStorage::U8(values) => values.as_ptr() as u64,
        CpuStorage::I64(values) => values.as_ptr() as u64,
        CpuStorage::F16(values) => values.as_ptr() as u64,
        CpuStorage::F64(values) => values.as_ptr() as u64,
        _ => bail!("a type that has no part in training"),
    })
}

struct AddressMut(Cell<u64>);

impl InplaceOp1 for AddressMut {
    fn name(&self) -> &'static str {
        "address"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _layout: &Layout) -> Result<()> {
        self.0.set(match storage {
            CpuStorage::F32(values) => values.as_mut_ptr() as u64,
            CpuStorage::BF16(values) => values.as_mut_ptr() as u64,
            CpuStorage::U32(values) => values.as_mut_ptr() as u64,
            _ => bail!("kernels know f32, bf16 and u32 only"),
        });
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &mut CudaStorage, _layout: &Layout) -> Result<()> {
        self.0.set(cuda::address(storage)?);
        Ok(())
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    //! Addresses on a CUDA device.

    use candle_core::cuda_backend::CudaStorageSlice;
    use candle_core::cuda_backend::cudarc::driver::{DevicePtr, DeviceRepr};
    use candle_core::{CudaStorage, Result, bail};

    pub(super) fn address(storage: &CudaStorage) -> Result<u64> {
        let stream = storage.device.cuda_stream();
        fn of<T: DeviceRepr>(
            slice: &candle_core::cuda_backend::cudarc::driver::CudaSlice<T>,
            stream: &std::sync::Arc<candle_core::cuda_backend::cudarc::driver::CudaStream>,
        ) -> u64 {
            slice.device_ptr(stream).0
        }
        Ok(match &storage.slice {
            CudaStorageSlice::F32(slice) => of(slice, &stream),
            CudaStorageSlice::BF16(slice) => of(slice, &stream),
            CudaStorageSlice::U32(slice) => of(slice, &stream),
            CudaStorageSlice::U8(slice) => of(slice, &stream),
            CudaStorageSlice::I64(slice) => of(slice, &stream),
            CudaStorageSlice::F16(slice) => of(slice, &stream),
            CudaStorageSlice::F64(slice) => of(slice, &stream),
            _ => bail!("a type that has no part in training"),
        })
    }
}

/// The error of a kernel, as candle's.
pub(super) fn wrapped(error: forerunner_kernels::Error) -> Error {
    Error::wrap(error)
}
