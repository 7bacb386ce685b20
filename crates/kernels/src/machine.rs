//! A device, or what stands for one.

use std::sync::Arc;

#[cfg(feature = "cuda")]
use crate::device::Device;
#[cfg(feature = "emulator")]
use crate::emulator::Emulator;
use crate::graph::{digest, numbers_of};
use crate::measure::Meter;
use crate::memory::{Buffer, Memory};
use crate::{Argument, Error, Launch, Result, Type, View, ViewMut};

/// One device, or the emulator; a clone is the same one.
///
/// Work is queued and done in order: a launch returns before the device is done, a download waits.
#[derive(Clone)]
pub struct Machine(pub(crate) Arc<Kind>, pub(crate) Arc<Meter>);

pub(crate) enum Kind {
    #[cfg(feature = "emulator")]
    Emulated(Emulator),
    #[cfg(feature = "cuda")]
    Cuda(Device),
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(feature = "emulator")]
impl Machine {
    /// The emulator. Threads run in an order drawn from `seed`; results must not depend on it.
    pub fn emulated(seed: u64) -> Self {
        Self(Arc::new(Kind::Emulated(Emulator::new(seed))), Arc::default())
    }
}

#[cfg(feature = "cuda")]
impl Machine {
    /// The CUDA device with a number, counted from zero, and a stream of its own.
    ///
    /// # Errors
    ///
    /// When there is no driver, no such device, or none of the embedded kernels fits it.
    pub fn cuda(ordinal: usize) -> Result<Self> {
        Ok(Self(Arc::new(Kind::Cuda(Device::open(ordinal)?)), Arc::default()))
    }

    /// A device that somebody else has opened: work is queued on that stream.
    ///
    /// # Errors
    ///
    /// When none of the embedded kernels fits the device.
    pub fn on_stream(stream: Arc<cudarc::driver::CudaStream>) -> Result<Self> {
        Ok(Self(Arc::new(Kind::Cuda(Device::new(stream)?)), Arc::default()))
    }
}

impl Machine {
    /// The device's name.
    pub fn name(&self) -> &str {
        match *self.0 {
            #[cfg(feature = "emulator")]
            Kind::Emulated(_) => "emulator",
            #[cfg(feature = "cuda")]
            Kind::Cuda(ref device) => device.name(),
        }
    }

    /// Multiprocessors of the device: how many blocks it takes to fill it once.
    pub fn multiprocessors(&self) -> u32 {
        match *self.0 {
            #[cfg(feature = "emulator")]
            Kind::Emulated(_) => 4,
            #[cfg(feature = "cuda")]
            Kind::Cuda(ref device) => device.multiprocessors(),
        }
    }

    /// Memory that was not written yet.
    ///
    /// # Errors
    ///
    /// When the device has none left.
    pub fn scratch(&self, type_: Type, len: usize) -> Result<Buffer> {
        let bytes = len * type_.bytes();
        let memory: Memory = match *self.0 {
            #[cfg(feature = "emulator")]
            Kind::Emulated(ref emulator) => Memory::Emulated(emulator.allocate(bytes)),
            #[cfg(feature = "cuda")]
            Kind::Cuda(ref device) => Memory::Cuda(device.allocate(bytes)?),
        };
        Ok(Buffer::new(memory, type_, len))
    }

    pub(crate) fn upload(&self, type_: Type, len: usize, bytes: &[u8]) -> Result<Buffer> {
        let mut buffer = self.scratch(type_, len)?;
        self.write_bytes(&mut buffer.view_mut(), bytes)?;
        Ok(buffer)
    }

    /// Overwrites memory, after everything that was queued before.
    pub(crate) fn write_bytes(&self, view: &mut ViewMut<'_>, bytes: &[u8]) -> Result<()> {
        assert_eq!(bytes.len(), view.len() * view.type_().bytes());
        self.refuse_while_capturing("upload")?;
        match *self.0 {
            #[cfg(feature = "emulator")]
            Kind::Emulated(_) => {
                crate::emulator::write(view, bytes);
                Ok(())
            }
            #[cfg(feature = "cuda")]
            Kind::Cuda(ref device) => device.write(view, bytes),
        }
    }

    /// Overwrites memory with what lies elsewhere, of the same type and length.
    ///
    /// # Errors
    ///
    /// When types or lengths differ.
    pub fn copy(&self, to: &mut ViewMut<'_>, from: &View<'_>) -> Result<()> {
        from.expect("copy", "from", to.type_(), to.len())?;
        self.note(|| "copy".into(), || from.len() as u64);
        match *self.0 {
            #[cfg(feature = "emulator")]
            Kind::Emulated(ref emulator) => {
                emulator.copy(to, from);
                Ok(())
            }
            #[cfg(feature = "cuda")]
            Kind::Cuda(ref device) => device.copy(to, from),
        }
    }

    pub(crate) fn download_bytes(&self, view: &View<'_>) -> Result<Vec<u8>> {
        self.refuse_while_capturing("download")?;
        match *self.0 {
            #[cfg(feature = "emulator")]
            Kind::Emulated(_) => Ok(crate::emulator::read(view)),
            #[cfg(feature = "cuda")]
            Kind::Cuda(ref device) => device.read(view),
        }
    }

    /// Sets every byte.
    pub(crate) fn fill_bytes(&self, view: &mut ViewMut<'_>, byte: u8) -> Result<()> {
        self.note(|| "fill".into(), || digest([view.len() as u64, u64::from(byte)]));
        match *self.0 {
            #[cfg(feature = "emulator")]
            Kind::Emulated(ref emulator) => {
                emulator.fill(view, byte);
                Ok(())
            }
            #[cfg(feature = "cuda")]
            Kind::Cuda(ref device) => device.fill(view, byte),
        }
    }

    /// Waits until everything queued is done.
    ///
    /// # Errors
    ///
    /// When some of it failed.
    pub fn synchronize(&self) -> Result<()> {
        self.refuse_while_capturing("synchronize")?;
        match *self.0 {
            #[cfg(feature = "emulator")]
            Kind::Emulated(_) => Ok(()),
            #[cfg(feature = "cuda")]
            Kind::Cuda(ref device) => device.synchronize(),
        }
    }

    /// Queues a kernel.
    ///
    /// # Safety
    ///
    /// The arguments are those that the kernel declares, in number, order and width; what they point
    /// to is as large as the kernel takes it to be for the given launch; memory that it writes is
    /// not shared.
    #[expect(unsafe_code, reason = "a kernel believes its arguments")]
    pub unsafe fn launch(&self, launch: &Launch, arguments: &[Argument]) -> Result<()> {
        if launch.grid.contains(&0) {
            return Ok(());
        }
        let queue = || {
            match *self.0 {
                // SAFETY: the caller's promise.
                #[cfg(feature = "emulator")]
                Kind::Emulated(ref emulator) => unsafe { emulator.launch(launch, arguments) },
                // SAFETY: the caller's promise.
                #[cfg(feature = "cuda")]
                Kind::Cuda(ref device) => unsafe { device.launch(launch, arguments) },
            }
            .map_err(|reason| Error::device(launch.kernel, reason))
        };
        self.metered(|| launch.kernel.into(), || numbers_of(launch, arguments), queue)
    }
}
