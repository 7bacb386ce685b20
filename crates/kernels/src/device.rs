//! CUDA devices: contexts, embedded kernels, memory, launches.
#![expect(unsafe_code, reason = "the driver's interface is one of raw addresses")]

mod facts;
mod products;

use std::collections::HashMap;
use std::ffi::{CStr, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::sys::{CUdevice_attribute, CUfunction_attribute};
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream, result};
use cudarc::nvrtc::Ptx;

use crate::{Argument, Error, Launch, Result, View, ViewMut};

/// Kernels compiled for one compute capability, such as 90 for 9.0.
struct Image {
    capability: u32,
    /// Whether the driver compiles it itself, for this capability and any later one.
    ptx: bool,
    bytes: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// Dynamic shared memory above which a kernel has to ask for more, in bytes.
const USUAL_SHARED: u32 = 48 << 10;

pub(crate) struct Device {
    name: String,
    multiprocessors: u32,
    stream: Arc<CudaStream>,
    module: Arc<CudaModule>,
    functions: Mutex<HashMap<&'static str, CudaFunction>>,
    products: products::Products,
}

impl Device {
    pub(crate) fn open(ordinal: usize) -> Result<Self> {
        require_driver()?;
        let context = CudaContext::new(ordinal).map_err(|error| Error::NoDevice {
            reason: format!("device {ordinal} cannot be opened: {error}"),
            hint: "`nvidia-smi -L` lists the devices; a container has to be started with one",
        })?;
        let stream = context.new_stream().map_err(failed("new_stream"))?;
        Self::new(stream)
    }

    pub(crate) fn new(stream: Arc<CudaStream>) -> Result<Self> {
        let context = stream.context();
        let attribute = |what| {
            let value = context.attribute(what).map_err(failed("attribute"))?;
            Ok::<u32, Error>(value.unsigned_abs())
        };
        let major = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let module = load(context, 10 * major + minor)?;
        Ok(Self {
            name: context.name().map_err(failed("name"))?,
            multiprocessors: attribute(
                CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
            )?,
            module,
            functions: Mutex::default(),
            products: products::Products::new(&stream)?,
            stream,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    pub(crate) fn allocate(&self, bytes: usize) -> Result<Allocation> {
        let stream = Arc::clone(&self.stream);
        // SAFETY: nothing is read before it was written: the operations of this crate write whole
        // results, which their tests check on poisoned memory.
        let address = unsafe { result::malloc_async(stream.cu_stream(), bytes.max(1)) };
        Ok(Allocation { address: address.map_err(failed("malloc_async"))?, stream })
    }

    pub(crate) fn write(&self, view: &ViewMut<'_>, bytes: &[u8]) -> Result<()> {
        // SAFETY: `bytes` are as many as the view has, and in pageable memory, which the driver copies
        // aside before it returns: nobody has to wait for the device.
        unsafe { result::memcpy_htod_async(view.address(), bytes, self.stream.cu_stream()) }
            .map_err(failed("memcpy_htod"))
    }

    pub(crate) fn read(&self, view: &View<'_>) -> Result<Vec<u8>> {
        let mut bytes = vec![0; view.len() * view.type_().bytes()];
        // SAFETY: as many bytes are read as the view has; the stream is waited for before they go.
        unsafe { result::memcpy_dtoh_async(&mut bytes, view.address(), self.stream.cu_stream()) }
            .map_err(failed("memcpy_dtoh"))?;
        self.synchronize()?;
        Ok(bytes)
    }

    pub(crate) fn fill(&self, view: &ViewMut<'_>, byte: u8) -> Result<()> {
        let bytes = view.len() * view.type_().bytes();
        // SAFETY: as many bytes are written as the view has.
        unsafe { result::memset_d8_async(view.address(), byte, bytes, self.stream.cu_stream()) }
            .map_err(failed("memset"))
    }

    pub(crate) fn synchronize(&self) -> Result<()> {
        self.stream.synchronize().map_err(failed("synchronize"))
    }

    /// Queues a kernel.
    ///
    /// # Safety
    ///
    /// As for [`crate::Machine::launch`].
    pub(crate) unsafe fn launch(
        &self,
        launch: &Launch,
        arguments: &[Argument],
    ) -> std::result::Result<(), String> {
        let function = self.function(launch).map_err(|error| error.to_string())?;
        let mut words: Vec<u64> = arguments.iter().map(|argument| argument.word()).collect();
        let mut pointers: Vec<*mut c_void> =
            words.iter_mut().map(|word| std::ptr::from_mut(word).cast()).collect();
        let [x, y, z] = launch.grid;
        let [bx, by, bz] = launch.block;
        // SAFETY: the driver copies the arguments before it returns; they are what the kernel
        // expects by the caller's promise.
        unsafe {
            result::launch_kernel(
                function.cu_function(),
                (x, y, z),
                (bx, by, bz),
                launch.shared_bytes,
                self.stream.cu_stream(),
                &mut pointers,
            )
        }
        .map_err(|error| error.to_string())
    }

    fn function(&self, launch: &Launch) -> std::result::Result<CudaFunction, result::DriverError> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(launch.kernel) {
            return Ok(function.clone());
        }
        let function = self.module.load_function(launch.kernel)?;
        if launch.shared_bytes > USUAL_SHARED {
            function.set_attribute(
                CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                launch.shared_bytes.cast_signed(),
            )?;
        }
        functions.insert(launch.kernel, function.clone());
        Ok(function)
    }
}

/// Memory of a device.
pub(crate) struct Allocation {
    address: u64,
    stream: Arc<CudaStream>,
}

impl Allocation {
    pub(crate) fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: the address came from the same stream, and is freed once. An error cannot be
        // reported here; the next call on the stream reports it.
        let _ = unsafe { result::free_async(self.address, self.stream.cu_stream()) };
    }
}

/// The embedded kernels that fit a device best: its own, those of an older one of its family, or PTX.
fn load(context: &Arc<CudaContext>, capability: u32) -> Result<Arc<CudaModule>> {
    let fits = |image: &&Image| {
        if image.ptx {
            image.capability <= capability
        } else {
            image.capability <= capability && image.capability / 10 == capability / 10
        }
    };
    let image = IMAGES.iter().filter(fits).max_by_key(|image| (!image.ptx, image.capability));
    let Some(image) = image else {
        return Err(Error::NoDevice {
            reason: format!(
                "its compute capability {}.{} is below those of the embedded kernels",
                capability / 10,
                capability % 10
            ),
            hint: "set FORERUNNER_CUDA_ARCHITECTURES when building, from 80 on",
        });
    };
    let code = if image.ptx {
        Ptx::from_src(String::from_utf8_lossy(image.bytes))
    } else {
        Ptx::from_binary(image.bytes.to_vec())
    };
    context.load_module(code).map_err(failed("load_module"))
}

/// An error unless the driver's library can be loaded.
fn require_driver() -> Result<()> {
    const LIBRARY: &CStr = c"libcuda.so.1";
    // SAFETY: loading the driver's library runs its constructors, which is what using it does.
    let handle = unsafe { libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_LAZY) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: dlerror returns null or a message that lives until the next call on this thread.
    let reason = unsafe {
        let message = libc::dlerror();
        if message.is_null() {
            "libcuda.so.1 cannot be loaded".into()
        } else {
            CStr::from_ptr(message).to_string_lossy().into_owned()
        }
    };
    Err(Error::NoDevice {
        reason,
        hint: "install the driver of an NVIDIA GPU, or use a track that runs on the CPU",
    })
}

fn failed<E: ToString>(call: &'static str) -> impl Fn(E) -> Error {
    move |error| Error::device(call, error)
}
