//! Sources compiled at run time by NVIDIA's compiler library, loaded and launched.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use cudarc::driver::CudaFunction;
use cudarc::driver::result;
use cudarc::driver::sys::{CUdevice_attribute, CUfunction_attribute};
use cudarc::nvrtc::{Ptx, sys};

use super::{Device, failed, require_library};
use crate::custom::{CustomImage, CustomSource, MOST_SHARED, Signature, entries, readable};
use crate::{Error, Grid, Result};

/// For how long a compiler is waited for. Our own kernels, 20 times as much text, take less.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of machine code of one source.
const MOST_CODE: usize = 4 << 20;
/// Bytes of the text that the machine code is assembled from.
const MOST_ASSEMBLY: usize = 16 << 20;
/// What the compiler calls a source in its messages.
const NAME: &str = "kernels.cu";

/// The files that a source finds, all of them in memory.
const HEADERS: [(&CStr, &str); 3] = [
    (c"device.cuh", include_str!("../../cuda/device.cuh")),
    (c"cuda_bf16.h", include_str!("../../cuda/nvrtc/bf16.h")),
    (c"stdint.h", include_str!("../../cuda/nvrtc/stdint.h")),
];

/// See [`crate::compile_custom`].
///
/// The compiler works on a thread of its own, which is given up after [`PATIENCE`]. A thread cannot
/// be stopped from outside: it goes on until it is done or the process ends, which the limits of
/// whoever started the process see to.
pub(crate) fn compile(source: &CustomSource, capability: u32) -> Result<CustomImage> {
    compile_within(PATIENCE, source, capability)
}

fn compile_within(
    patience: Duration,
    source: &CustomSource,
    capability: u32,
) -> Result<CustomImage> {
    require_compiler()?;
    let (send, receive) = channel();
    let source = source.clone();
    let work = move || {
        // Nobody waits any more for what comes too late.
        let _ = send.send(compile_now(&source, capability));
    };
    let builder = thread::Builder::new().name("nvrtc".into()).stack_size(8 << 20);
    builder.spawn(work).map_err(|error| refused(format!("no thread to compile on: {error}")))?;
    receive.recv_timeout(patience).unwrap_or_else(|error| {
        Err(refused(match error {
            RecvTimeoutError::Timeout => {
                format!("not compiled after {} seconds, and given up", patience.as_secs())
            }
            RecvTimeoutError::Disconnected => "the compiler's thread has panicked".into(),
        }))
    })
}

fn refused(reason: String) -> Error {
    Error::Custom { reason }
}

/// An error unless both of the compiler's libraries can be loaded.
fn require_compiler() -> Result<()> {
    require(&["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"])?;
    let (mut major, mut minor): (c_int, c_int) = (0, 0);
    // SAFETY: the compiler writes two numbers.
    unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) }
        .result()
        .map_err(failed("nvrtcVersion"))?;
    // The first asks for this one by name, and then finds it where it was loaded from here.
    require(&[&format!("libnvrtc-builtins.so.{major}.{minor}")])
}

fn require(names: &[&str]) -> Result<()> {
    let hint = "install the CUDA libraries, or name their folder in FORERUNNER_CUDA_LIBS";
    require_library(names, hint).map_err(|error| match error {
        Error::NoDevice { reason, hint } => {
            refused(format!("NVIDIA's run-time compiler is missing: {reason}\nhint: {hint}"))
        }
        other => other,
    })
}

/// A program of the compiler's.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: created once, destroyed once.
        let _ = unsafe { sys::nvrtcDestroyProgram(&raw mut self.0) };
    }
}

fn compile_now(source: &CustomSource, capability: u32) -> Result<CustomImage> {
    let nul = |_| refused("the source holds a zero byte".into());
    let text = format!("#include \"device.cuh\"\n#line 1 \"{NAME}\"\n{}\n", source.text());
    let (text, name) = (CString::new(text).map_err(nul)?, CString::new(NAME).map_err(nul)?);
    let headers: Vec<CString> =
        HEADERS.iter().map(|(_, text)| CString::new(*text).map_err(nul)).collect::<Result<_>>()?;
    let headers: Vec<*const c_char> = headers.iter().map(|header| header.as_ptr()).collect();
    let names = HEADERS.map(|(name, _)| name.as_ptr());
    // From 9.0 on, what a letter stands for is of this capability alone, as is the machine code.
    let letter = if capability >= 90 { "a" } else { "" };
    let mut options = vec![
        c"--std=c++17".to_owned(),
        CString::new(format!("--gpu-architecture=sm_{capability}{letter}")).map_err(nul)?,
    ];
    if source.fast_math() {
        options.push(c"--use_fast_math".to_owned());
    }
    let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
    let mut program = Program(std::ptr::null_mut());
    // SAFETY: all texts end in a zero byte and outlive the program; counts are those of the lists.
    let (created, compiled) = unsafe {
        let created = sys::nvrtcCreateProgram(
            &raw mut program.0,
            text.as_ptr(),
            name.as_ptr(),
            headers.len() as c_int,
            headers.as_ptr(),
            names.as_ptr(),
        );
        if created == sys::nvrtcResult::NVRTC_SUCCESS {
            let count = options.len() as c_int;
            (created, sys::nvrtcCompileProgram(program.0, count, options.as_ptr()))
        } else {
            (created, created)
        }
    };
    created.result().map_err(failed("nvrtcCreateProgram"))?;
    if let Err(error) = compiled.result() {
        let log =
            output(&program, sys::nvrtcGetProgramLogSize, sys::nvrtcGetProgramLog, usize::MAX);
        let log = readable(&String::from_utf8_lossy(&log?));
        let words = if log.is_empty() { error.to_string() } else { log };
        return Err(refused(format!("the compiler refuses the source:\n{words}")));
    }
    let ptx = output(&program, sys::nvrtcGetPTXSize, sys::nvrtcGetPTX, MOST_ASSEMBLY)?;
    let kernels = entries(&String::from_utf8_lossy(&ptx))?;
    let bytes = output(&program, sys::nvrtcGetCUBINSize, sys::nvrtcGetCUBIN, MOST_CODE)?;
    Ok(CustomImage { bytes, kernels })
}

type Sized = unsafe fn(sys::nvrtcProgram, *mut usize) -> sys::nvrtcResult;
type Copied = unsafe fn(sys::nvrtcProgram, *mut c_char) -> sys::nvrtcResult;

/// One of the things that a compiled program holds; texts end in a zero byte.
fn output(program: &Program, size: Sized, copy: Copied, most: usize) -> Result<Vec<u8>> {
    let mut len = 0;
    // SAFETY: the program is alive; the compiler writes one number.
    unsafe { size(program.0, &raw mut len) }.result().map_err(failed("nvrtc"))?;
    if len > most {
        return Err(refused(format!("the source compiles to {len} bytes, more than {most}")));
    }
    let mut bytes = vec![0u8; len];
    // SAFETY: the compiler writes as many bytes as it has just said.
    unsafe { copy(program.0, bytes.as_mut_ptr().cast()) }.result().map_err(failed("nvrtc"))?;
    Ok(bytes)
}

impl Device {
    /// Loads compiled kernels, and asks what the device can give each of them.
    pub(crate) fn load_custom(
        &self,
        image: &CustomImage,
    ) -> Result<Vec<(Signature, CudaFunction)>> {
        self.enter()?;
        let context = self.stream.context();
        let module = context
            .load_module(Ptx::from_binary(image.bytes.clone()))
            .map_err(failed("load_module"))?;
        let shared = context
            .attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)
            .map_err(failed("attribute"))?
            .unsigned_abs()
            .min(MOST_SHARED);
        let load = |signature: &Signature| {
            let function =
                module.load_function(signature.name()).map_err(failed("load_function"))?;
            let attribute = |what| {
                let value = function.get_attribute(what).map_err(failed("get_attribute"))?;
                Ok::<u32, Error>(value.unsigned_abs())
            };
            let own = attribute(CUfunction_attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?;
            let most_threads =
                attribute(CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?;
            let most_shared = shared.saturating_sub(own);
            let what = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function
                .set_attribute(what, most_shared.cast_signed())
                .map_err(failed("set_attribute"))?;
            let mut signature = signature.clone();
            (signature.most_threads, signature.most_shared) = (most_threads, most_shared);
            Ok((signature, function))
        };
        image.kernels.iter().map(load).collect()
    }

    /// Queues a kernel.
    ///
    /// # Safety
    ///
    /// As for [`crate::Machine::launch_custom`]; the words are as many as the kernel's parameters.
    pub(crate) unsafe fn launch_custom(
        &self,
        function: &CudaFunction,
        grid: Grid,
        mut words: Vec<u64>,
    ) -> std::result::Result<(), String> {
        self.enter().map_err(|error| error.to_string())?;
        let mut pointers: Vec<*mut c_void> =
            words.iter_mut().map(|word| std::ptr::from_mut(word).cast()).collect();
        // SAFETY: the driver copies the arguments before it returns; the rest is the caller's
        // promise.
        unsafe {
            result::launch_kernel(
                function.cu_function(),
                grid.blocks.into(),
                grid.threads.into(),
                grid.shared_bytes,
                self.stream.cu_stream(),
                &mut pointers,
            )
        }
        .map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_is_not_waited_for_without_end() {
        let source = CustomSource::new("KERNEL(k, (int* y)) { *y = 1; }").unwrap();
        // Whatever it does, it has not done it at once.
        let error = compile_within(Duration::ZERO, &source, 90).unwrap_err().to_string();
        if error.contains("run-time compiler is missing") {
            #[expect(clippy::print_stderr, reason = "tests skip aloud without a compiler")]
            {
                eprintln!("skipped, as nothing compiles here: {error}");
            }
            return;
        }
        assert_eq!(error, "custom kernels: not compiled after 0 seconds, and given up");
        // A process that ends while the compiler is at work takes its library from under it.
        std::thread::sleep(Duration::from_secs(5));
    }
}
