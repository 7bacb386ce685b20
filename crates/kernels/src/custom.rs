//! Kernels that come as source text at run time: compiled with fixed options and limits, launched on
//! named memory.
//!
//! A source is CUDA C++ that finds `cuda/device.cuh` included already: `bf16` and its conversions,
//! sums over warps and blocks, tensor-core products, `KERNEL(name, (…)) { … }`. It includes nothing
//! else. Compiling takes NVIDIA's run-time compiler, launching a CUDA device; the emulator runs what
//! was compiled with it, and nothing that comes later.
//!
//! What is checked: that a launch hands over the parameters that the kernel declares, in number,
//! order and width, and that the device can hold its blocks. What no check can see: where a kernel
//! reads and writes. A kernel can reach all device memory of its process, and what the device is
//! shown of the host's. An access to memory that is not there fails the process's whole device: the
//! next call that waits, and every call after it, answers with the driver's error.

mod arguments;
#[cfg(any(feature = "cuda", test))]
mod entries;
mod text;

use std::fmt;
use std::sync::Arc;

#[cfg(feature = "cuda")]
use crate::graph::digest;
#[cfg(feature = "cuda")]
use crate::machine::Kind;
use crate::{Error, Machine, Result};

#[cfg(feature = "cuda")]
pub(crate) use arguments::MOST_SHARED;
#[cfg(any(feature = "cuda", test))]
pub(crate) use arguments::Parameter;
pub(crate) use arguments::Signature;
pub use arguments::{CustomArgument, Grid};
#[cfg(feature = "cuda")]
pub(crate) use entries::entries;
#[cfg(feature = "cuda")]
pub(crate) use text::readable;

/// CUDA C++ that may be compiled: at most 64 KiB of plain ASCII that names no file.
#[derive(Debug, Clone)]
pub struct CustomSource {
    text: String,
    fast_math: bool,
}

impl CustomSource {
    /// A source that keeps the limits; it need not compile.
    ///
    /// # Errors
    ///
    /// When the text is too long, holds anything but printable ASCII, tabs and line feeds, or
    /// includes a file.
    pub fn new(text: &str) -> Result<Self> {
        text::check(text)?;
        Ok(Self { text: text.to_owned(), fast_math: false })
    }

    /// Trades precision for speed as `--use_fast_math` does: approximate division, roots and
    /// exponentials, and zero for the smallest numbers.
    #[must_use]
    pub fn with_fast_math(self) -> Self {
        Self { fast_math: true, ..self }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether precision is traded for speed.
    pub fn fast_math(&self) -> bool {
        self.fast_math
    }
}

/// A compiled source: machine code for one compute capability, and what its kernels take.
#[cfg(feature = "cuda")]
#[derive(Clone)]
pub struct CustomImage {
    pub(crate) bytes: Vec<u8>,
    pub(crate) kernels: Vec<Signature>,
}

#[cfg(feature = "cuda")]
impl CustomImage {
    /// Names of the kernels, in the order of the source.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.kernels.iter().map(Signature::name)
    }

    /// Bytes of machine code.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(feature = "cuda")]
impl fmt::Debug for CustomImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CustomImage({} bytes: {:?})", self.bytes(), self.kernels)
    }
}

/// Compiles a source for a compute capability, such as 90 for 9.0. Needs NVIDIA's run-time compiler,
/// but neither a driver nor a device.
///
/// # Errors
///
/// When the compiler's library is missing, refuses the source, or takes longer than 30 seconds; when
/// there is no kernel, more than 16, one with parameters by value, or more than 4 MiB of machine code.
#[cfg(feature = "cuda")]
pub fn compile_custom(source: &CustomSource, capability: u32) -> Result<CustomImage> {
    crate::device::custom::compile(source, capability)
}

/// The kernels of one source, on a machine; a clone is the same ones.
#[derive(Clone)]
pub struct CustomKernels(Arc<[CustomKernel]>);

/// One kernel that came as source; a clone is the same one.
#[derive(Clone)]
pub struct CustomKernel {
    signature: Arc<Signature>,
    #[cfg(feature = "cuda")]
    function: cudarc::driver::CudaFunction,
}

impl fmt::Debug for CustomKernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&*self.0).finish()
    }
}

impl fmt::Debug for CustomKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.signature.fmt(f)
    }
}

impl CustomKernels {
    /// The kernel with a name: as in the source for `extern "C"`, which `KERNEL` writes.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn kernel(&self, name: &str) -> Result<CustomKernel> {
        if let Some(kernel) = self.0.iter().find(|kernel| kernel.name() == name) {
            return Ok(kernel.clone());
        }
        let known: Vec<&str> = self.0.iter().map(CustomKernel::name).collect();
        let known = known.join(", ");
        let name = text::readable_name(name);
        Err(Error::Custom { reason: format!("unknown kernel `{name}` (known: {known})") })
    }

    /// Number of kernels.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no kernel; there always is one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl CustomKernel {
    /// The kernel's name.
    pub fn name(&self) -> &str {
        self.signature.name()
    }
}

impl Machine {
    /// Compiles a source for this device and loads it.
    ///
    /// # Errors
    ///
    /// As for `compile_custom`, when the device does not take it, and on an emulator.
    pub fn custom_kernels(&self, source: &CustomSource) -> Result<CustomKernels> {
        match *self.0 {
            #[cfg(feature = "emulator")]
            crate::machine::Kind::Emulated(_) => {
                let _ = source;
                Err(on_devices_only())
            }
            #[cfg(feature = "cuda")]
            Kind::Cuda(ref device) => {
                let image = compile_custom(source, device.facts()?.capability)?;
                let kernels =
                    device.load_custom(&image)?.into_iter().map(|(signature, function)| {
                        CustomKernel { signature: signature.into(), function }
                    });
                Ok(CustomKernels(kernels.collect()))
            }
        }
    }

    /// Queues a kernel that came as source.
    ///
    /// # Errors
    ///
    /// When the arguments are not what the kernel declares, or the device cannot hold such blocks.
    ///
    /// # Safety
    ///
    /// The kernel belongs to this machine, reads nothing but the memory that it is handed and its
    /// blocks' own, and writes nothing but what is handed over as written. Nothing here can check
    /// that.
    #[expect(unsafe_code, reason = "a kernel that came as source may do anything")]
    pub unsafe fn launch_custom(
        &self,
        kernel: &CustomKernel,
        grid: Grid,
        arguments: &[CustomArgument<'_>],
    ) -> Result<()> {
        kernel.signature.check(grid, arguments)?;
        match *self.0 {
            #[cfg(feature = "emulator")]
            crate::machine::Kind::Emulated(_) => Err(on_devices_only()),
            #[cfg(feature = "cuda")]
            Kind::Cuda(ref device) => {
                let words: Vec<u64> = arguments.iter().map(CustomArgument::word).collect();
                let queue = || {
                    // SAFETY: the arguments are those that the kernel declares; the rest is the
                    // caller's promise.
                    unsafe { device.launch_custom(&kernel.function, grid, words) }
                        .map_err(|reason| Error::device(kernel.name(), reason))
                };
                let sizes = grid.blocks.into_iter().chain(grid.threads).chain([grid.shared_bytes]);
                let sizes = sizes.map(u64::from);
                let numbers = || digest(sizes.chain(arguments.iter().map(CustomArgument::number)));
                self.keep_for_graph(kernel.function.clone());
                self.metered(|| format!("custom {}", kernel.name()), numbers, queue)
            }
        }
    }
}

#[cfg(feature = "emulator")]
fn on_devices_only() -> Error {
    Error::Custom { reason: "they run on a CUDA device only, not on an emulated one".into() }
}

#[cfg(all(test, feature = "emulator"))]
mod tests {
    use super::*;

    #[test]
    fn the_emulator_says_that_it_cannot() {
        let source = CustomSource::new("KERNEL(none, ()) {}").unwrap();
        let error = Machine::emulated(1).custom_kernels(&source).unwrap_err().to_string();
        assert_eq!(error, "custom kernels: they run on a CUDA device only, not on an emulated one");
    }
}
