//! Where this thread's device operations run.

use std::cell::RefCell;

use candle_core::{Device, Result, bail};
#[cfg(feature = "cuda")]
use candle_core::{Error, cuda_backend::cudarc::driver::sys::CUdevice_attribute};
use forerunner_kernels::Machine;

/// A device as candle and as the kernels know it.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where tensors lie.
    pub device: Device,
    /// What runs kernels on them.
    pub machine: Machine,
}

thread_local! {
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

impl Place {
    /// The emulator: tensors lie on the CPU. For tests; a thousand times slower than the CPU's own
    /// operations.
    #[cfg(feature = "emulator")]
    pub fn emulated(seed: u64) -> Self {
        Self { device: Device::Cpu, machine: Machine::emulated(seed) }
    }

    /// The CUDA device with a number, counted from zero.
    ///
    /// # Errors
    ///
    /// When there is no driver, no such device, or no kernel for it.
    #[cfg(feature = "cuda")]
    pub fn cuda(ordinal: usize) -> Result<Self> {
        // Asked first: without a driver, what candle calls would end the process.
        forerunner_kernels::require_driver().map_err(Error::wrap)?;
        let device = Device::new_cuda_with_stream(ordinal)?;
        let cuda = device.as_cuda_device()?;
        #[expect(unsafe_code, reason = "a promise to candle about streams")]
        // SAFETY: everything is queued on this device's one stream, in order.
        unsafe {
            cuda.disable_event_tracking();
        }
        let pages =
            CUdevice_attribute::CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES;
        if cuda.cuda_stream().context().attribute(pages).map_err(Error::wrap)? != 0 {
            // Candle frees or reads host memory right after it has queued a copy.
            bail!(
                "this device reads the host's pages itself, for which candle's copies are not made"
            );
        }
        let machine = Machine::on_stream(cuda.cuda_stream()).map_err(Error::wrap)?;
        Ok(Self { device, machine })
    }
}

/// Has this thread's device operations run there from now on; nowhere with `None`.
pub fn use_place(place: Option<Place>) {
    PLACE.set(place);
}

/// Where this thread's device operations run.
///
/// # Errors
///
/// When [`use_place`] was not called.
pub fn place() -> Result<Place> {
    let Some(place) = PLACE.with_borrow(Clone::clone) else {
        bail!("no device was chosen on this thread");
    };
    Ok(place)
}
