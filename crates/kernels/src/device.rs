//! CUDA devices: contexts, embedded kernels, memory, launches.
#![expect(unsafe_code, reason = "the driver's interface is one of raw addresses")]

pub(crate) mod custom;
mod facts;
pub(crate) mod graph;
mod products;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{CStr, CString, c_void};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::sys::{self, CUdevice_attribute, CUfunction_attribute, CUmemPool_attribute};
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream, result};
use cudarc::nvrtc::Ptx;

use crate::{Argument, Error, Launch, Result, View, ViewMut};

/// Kernels compiled for one compute capability, such as 90 for 9.0.
struct Image {
    capability: u32,
    /// Whether it runs on no other capability than this one.
    exact: bool,
    /// Whether the driver compiles it itself, for this capability and any later one.
    ptx: bool,
    bytes: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/images.rs"));

pub(crate) struct Device {
    name: String,
    multiprocessors: u32,
    stream: Arc<CudaStream>,
    module: Arc<CudaModule>,
    /// Kernels, with the dynamic shared memory that each may have.
    functions: Mutex<HashMap<&'static str, (CudaFunction, u32)>>,
    products: products::Products,
    /// Bytes that the device may still be reading.
    uploads: Mutex<Vec<Vec<u8>>>,
    /// The pool's high-water mark before it was last set back.
    earlier_peak: AtomicU64,
}

/// Uploads, and bytes of them, that are kept before the device is waited for; somewhat arbitrary.
const MOST_UPLOADS: usize = 256;
const MOST_UPLOADED: usize = 64 << 20;

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
        if !context.has_async_alloc() {
            return Err(Error::NoDevice {
                reason: "the device has no pool to allocate from in stream order".into(),
                hint: "use a whole GPU, not a virtual one",
            });
        }
        let attribute = |what| {
            let value = context.attribute(what).map_err(failed("attribute"))?;
            Ok::<u32, Error>(value.unsigned_abs())
        };
        let major = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        context.bind_to_thread().map_err(failed("bind_to_thread"))?;
        let module = load(context, 10 * major + minor)?;
        keep_freed_memory(context).map_err(failed("cuMemPoolSetAttribute"))?;
        Ok(Self {
            name: context.name().map_err(failed("name"))?,
            multiprocessors: attribute(
                CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
            )?,
            module,
            functions: Mutex::default(),
            products: products::Products::new(&stream)?,
            uploads: Mutex::default(),
            earlier_peak: AtomicU64::new(0),
            stream,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    /// Makes the device's context the calling thread's, as every call to the driver needs it.
    fn enter(&self) -> Result<()> {
        self.stream.context().bind_to_thread().map_err(failed("bind_to_thread"))
    }

    pub(crate) fn allocate(&self, bytes: usize) -> Result<Allocation> {
        self.enter()?;
        let stream = Arc::clone(&self.stream);
        // SAFETY: nothing is read before it was written: the operations of this crate write whole
        // results, which their tests check on poisoned memory.
        let address = unsafe { result::malloc_async(stream.cu_stream(), bytes.max(1)) };
        Ok(Allocation { address: address.map_err(failed("malloc_async"))?, stream })
    }

    pub(crate) fn write(&self, view: &ViewMut<'_>, bytes: &[u8]) -> Result<()> {
        self.enter()?;
        if bytes.is_empty() {
            return Ok(());
        }
        // By the manual a copy from pageable memory "might be synchronous": drivers put it aside, but
        // where a device reads the host's pages itself, it need not be over when the call returns.
        let bytes = bytes.to_vec();
        // SAFETY: the bytes are as many as the view has; they are kept until the stream was waited for.
        unsafe { result::memcpy_htod_async(view.address(), &bytes, self.stream.cu_stream()) }
            .map_err(failed("memcpy_htod"))?;
        let mut uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        uploads.push(bytes);
        let uploaded: usize = uploads.iter().map(Vec::len).sum();
        let is_much = uploads.len() > MOST_UPLOADS || uploaded > MOST_UPLOADED;
        drop(uploads);
        if is_much { self.synchronize() } else { Ok(()) }
    }

    pub(crate) fn read(&self, view: &View<'_>) -> Result<Vec<u8>> {
        self.enter()?;
        if view.is_empty() {
            return Ok(Vec::new());
        }
        let mut bytes = vec![0; view.len() * view.type_().bytes()];
        // SAFETY: as many bytes are read as the view has; the stream is waited for before they go.
        unsafe { result::memcpy_dtoh_async(&mut bytes, view.address(), self.stream.cu_stream()) }
            .map_err(failed("memcpy_dtoh"))?;
        self.synchronize()?;
        Ok(bytes)
    }

    pub(crate) fn fill(&self, view: &ViewMut<'_>, byte: u8) -> Result<()> {
        self.enter()?;
        if view.is_empty() {
            return Ok(());
        }
        let bytes = view.len() * view.type_().bytes();
        // SAFETY: as many bytes are written as the view has.
        unsafe { result::memset_d8_async(view.address(), byte, bytes, self.stream.cu_stream()) }
            .map_err(failed("memset"))
    }

    pub(crate) fn copy(&self, to: &ViewMut<'_>, from: &View<'_>) -> Result<()> {
        self.enter()?;
        if from.is_empty() {
            return Ok(());
        }
        let bytes = from.len() * from.type_().bytes();
        // SAFETY: both views have so many bytes, and live until the copy is queued; frees are queued
        // behind it.
        unsafe {
            result::memcpy_dtod_async(to.address(), from.address(), bytes, self.stream.cu_stream())
        }
        .map_err(failed("memcpy_dtod"))
    }

    pub(crate) fn synchronize(&self) -> Result<()> {
        let mut uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        let done = std::mem::take(&mut *uploads);
        drop(uploads);
        let result = self.stream.synchronize().map_err(failed("synchronize"));
        drop(done);
        result
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
        self.enter().map_err(|error| error.to_string())?;
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
        let (function, most_shared) = match functions.entry(launch.kernel) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert((self.module.load_function(launch.kernel)?, 0)),
        };
        // Above 48 KiB, what the kernel declares itself included, it has to be asked for; a later
        // launch may want more than the first.
        if launch.shared_bytes > *most_shared {
            function.set_attribute(
                CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                launch.shared_bytes.cast_signed(),
            )?;
            *most_shared = launch.shared_bytes;
        }
        Ok(function.clone())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // Uploads go with the device.
        let _ = self.synchronize();
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
        // An error cannot be reported here; the next call on the context reports it, this one's own or
        // one that waited there before.
        let context = self.stream.context();
        let bound = context.bind_to_thread();
        // SAFETY: the address came from the same stream, and is freed once.
        let freed = unsafe { result::free_async(self.address, self.stream.cu_stream()) };
        context.record_err(bound.and(freed));
    }
}

/// The embedded kernels that fit a device best: its own, those of an older one of its family, or PTX.
fn load(context: &Arc<CudaContext>, capability: u32) -> Result<Arc<CudaModule>> {
    let fits = |image: &&Image| {
        if image.exact {
            return image.capability == capability;
        }
        let is_family = image.capability / 10 == capability / 10;
        image.capability <= capability && (image.ptx || is_family)
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

/// Lets the pool keep what is freed: by default it gives everything back to the system whenever the
/// device is waited for.
fn keep_freed_memory(context: &CudaContext) -> std::result::Result<(), result::DriverError> {
    let mut threshold = u64::MAX;
    // SAFETY: the device is that of a living context; the attribute is a 64-bit number.
    unsafe {
        let pool = result::device::get_mem_pool(context.cu_device())?;
        let what = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        sys::cuMemPoolSetAttribute(pool, what, (&raw mut threshold).cast()).result()
    }
}

/// Whether the driver's library can be loaded.
///
/// # Errors
///
/// When it cannot: with what the loader says, and what to do.
pub fn require_driver() -> Result<()> {
    require_library(
        &["libcuda.so.1"],
        "install the driver of an NVIDIA GPU, or use a track that runs on the CPU",
    )
}

/// An error unless one of a library's names can be loaded, from the folder that
/// `FORERUNNER_CUDA_LIBS` names or from where the system looks.
///
/// Asked here because the bindings panic where a library is missing.
fn require_library(names: &[&str], hint: &'static str) -> Result<()> {
    let folder = std::env::var("FORERUNNER_CUDA_LIBS").ok();
    let mut reason = String::new();
    for name in names {
        let there = folder.as_ref().map(|folder| format!("{folder}/{name}"));
        for path in there.into_iter().chain([(*name).to_owned()]) {
            let Ok(path) = CString::new(path) else { continue };
            // SAFETY: loading a library runs its constructors, which is what using it does.
            let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_LAZY) };
            if !handle.is_null() {
                return Ok(());
            }
            // SAFETY: dlerror returns null or a message that lives until the next call on this
            // thread.
            unsafe {
                let message = libc::dlerror();
                if !message.is_null() {
                    reason = CStr::from_ptr(message).to_string_lossy().into_owned();
                }
            }
        }
    }
    Err(Error::NoDevice { reason, hint })
}

fn failed<E: ToString>(call: &'static str) -> impl Fn(E) -> Error {
    move |error| Error::device(call, error)
}
