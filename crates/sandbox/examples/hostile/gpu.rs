//! What goes with a GPU: control of devices, names of threads, files in memory, and CUDA itself.

use std::{
    ffi::{CStr, c_char, c_int, c_uint, c_ulong, c_void},
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::probes::Attempt;

/// Tries `name`; `detail` is a path, or what is to be done with it.
pub(crate) fn attempt(name: &str, detail: &str) -> Option<Attempt> {
    // The memory manager's PAGEABLE_MEM_ACCESS; no other device knows it.
    const OF_THE_DRIVER: c_ulong = 39;
    // Asks the random device for its entropy, which everybody may.
    const OF_ANOTHER: c_ulong = 0x8004_5200;
    Some(match name {
        "control_device" => control(detail, OF_THE_DRIVER),
        "control_otherwise" => control(detail, OF_ANOTHER),
        "name_a_thread" => name_a_thread(),
        "memory_file" => memory_file(detail.parse().unwrap()),
        "hidden_shared_memory" => hidden_shared_memory(),
        "memory_files" => memory_files(),
        "cuda" => cuda(),
        "socket_and_refused_calls" => {
            count_refused_calls();
            // SAFETY: numbers only.
            let made = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) };
            let error = io::Error::last_os_error();
            Ok(format!("{made} {error}; {}", refused_calls()))
        }
        "cuda_and_refused_calls" => {
            count_refused_calls();
            let result = cuda();
            let result = result.unwrap_or_else(|error| error.to_string());
            Ok(format!("{result}; {}", refused_calls()))
        }
        _ => return None,
    })
}

/// Opens a device for reading and writing and sends it a request that it does not know. Its own
/// answer to that shows that the request reached it.
fn control(path: &str, request: c_ulong) -> Attempt {
    let device = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let mut answer = [0u8; 64];
    // SAFETY: the buffer is larger than what either request writes, and outlives the call.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), request as _, answer.as_mut_ptr()) };
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        _ if done == 0 => Ok("answered".into()),
        Some(libc::ENOTTY | libc::EINVAL) => Ok("reached the device".into()),
        _ => Err(error),
    }
}

/// As the C library does for a thread other than the caller's.
fn name_a_thread() -> Attempt {
    let (sender, receiver) = std::sync::mpsc::channel();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        // SAFETY: only asks.
        sender.send(unsafe { libc::gettid() }).unwrap();
        let _ = wait.recv();
    });
    let path = format!("/proc/self/task/{}/comm", receiver.recv().unwrap());
    let named = fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| io::Write::write_all(&mut file, b"renamed"))
        .and_then(|()| fs::read_to_string(&path));
    drop(go);
    thread.join().unwrap();
    named.map(|name| name.trim().to_owned())
}

/// A file in memory of so many bytes, mapped and written to.
fn memory_file(bytes: usize) -> Attempt {
    // SAFETY: the name is constant.
    let descriptor = unsafe { libc::memfd_create(c"probe".as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: nobody else has it.
    let file = fs::File::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
    file.set_len(bytes as u64)?;
    let at = share(bytes, file.as_raw_fd(), 0)?;
    // SAFETY: just mapped, with this length.
    unsafe { at.cast::<u8>().write_bytes(1, bytes) };
    Ok("mapped and written".into())
}

/// Fills files in memory, which it neither maps nor closes.
fn memory_files() -> Attempt {
    let block = vec![1u8; 1 << 20];
    let mut files = Vec::new();
    loop {
        // SAFETY: the name is constant.
        let descriptor = unsafe { libc::memfd_create(c"probe".as_ptr(), 0) };
        if descriptor < 0 {
            std::thread::sleep(std::time::Duration::from_secs(100));
        }
        // SAFETY: nobody else has it.
        let mut file = fs::File::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
        for _ in 0..16 {
            io::Write::write_all(&mut file, &block)?;
        }
        files.push(file);
    }
}

/// Fills shared memory and lets go of the pages, which remain, again and again.
fn hidden_shared_memory() -> Attempt {
    const BYTES: usize = 16 << 20;
    loop {
        let at = share(BYTES, -1, libc::MAP_ANONYMOUS)?;
        // SAFETY: just mapped, with this length.
        unsafe {
            at.cast::<u8>().write_bytes(1, BYTES);
            libc::madvise(at, BYTES, libc::MADV_DONTNEED);
        }
    }
}

fn share(bytes: usize, descriptor: c_int, flags: c_int) -> io::Result<*mut c_void> {
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping where the kernel wants it.
    let at = unsafe {
        libc::mmap(std::ptr::null_mut(), bytes, rights, libc::MAP_SHARED | flags, descriptor, 0)
    };
    if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(at) }
}

/// How often a call was refused, by its number.
static REFUSED: [AtomicU32; 512] = [const { AtomicU32::new(0) }; 512];

/// All of them in words.
fn refused_calls() -> String {
    let times = |call: usize| REFUSED[call].load(Ordering::Relaxed);
    let refused = (0..REFUSED.len()).filter(|&call| times(call) > 0);
    let listed: Vec<String> = refused.map(|call| format!("{call} × {}", times(call))).collect();
    format!("refused calls: {}", listed.join(", "))
}

/// Where refused calls raise SIGSYS: notes the number and answers EPERM, as the filter otherwise does.
fn count_refused_calls() {
    // SAFETY: the handler only touches atomics and the saved registers of its own thread.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = refused as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGSYS, &action, std::ptr::null_mut()), 0);
    }
}

extern "C" fn refused(_signal: c_int, information: *mut libc::siginfo_t, context: *mut c_void) {
    /// Where `siginfo_t` has the number of a refused call (sigaction(2), `si_syscall`).
    const CALL_AT: usize = 24;
    // SAFETY: the kernel hands in both structures; the number lies within the first, and the
    // register that holds the result of a call within the second.
    unsafe {
        let number = information.cast::<u8>().add(CALL_AT).cast::<c_int>().read_unaligned();
        if let Some(count) = usize::try_from(number).ok().and_then(|number| REFUSED.get(number)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let context = context.cast::<libc::ucontext_t>();
        let answer = -i64::from(libc::EPERM);
        #[cfg(target_arch = "x86_64")]
        {
            (*context).uc_mcontext.gregs[libc::REG_RAX as usize] = answer;
        }
        #[cfg(target_arch = "aarch64")]
        {
            (*context).uc_mcontext.regs[0] = answer.cast_unsigned();
        }
    }
}

/// Starts CUDA on the first device, writes a byte pattern into its memory and reads it back.
fn cuda() -> Attempt {
    const BYTES: usize = 16 << 20;
    let driver = Driver::load()?;
    let (mut device, mut context, mut memory) = (0, std::ptr::null_mut(), 0u64);
    let mut read = vec![0u8; BYTES];
    // SAFETY: the driver's documented signatures; every pointer is to a local that outlives its
    // call, and the copy's length is that of both buffers.
    unsafe {
        let init: unsafe extern "C" fn(c_uint) -> c_int = driver.function(c"cuInit")?;
        driver.check(c"cuInit", init(0))?;
        let get: unsafe extern "C" fn(*mut c_int, c_int) -> c_int =
            driver.function(c"cuDeviceGet")?;
        driver.check(c"cuDeviceGet", get(&mut device, 0))?;
        let retain: unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int =
            driver.function(c"cuDevicePrimaryCtxRetain")?;
        driver.check(c"cuDevicePrimaryCtxRetain", retain(&mut context, device))?;
        let enter: unsafe extern "C" fn(*mut c_void) -> c_int =
            driver.function(c"cuCtxSetCurrent")?;
        driver.check(c"cuCtxSetCurrent", enter(context))?;
        let allocate: unsafe extern "C" fn(*mut u64, usize) -> c_int =
            driver.function(c"cuMemAlloc_v2")?;
        driver.check(c"cuMemAlloc", allocate(&mut memory, BYTES))?;
        let fill: unsafe extern "C" fn(u64, u8, usize) -> c_int =
            driver.function(c"cuMemsetD8_v2")?;
        driver.check(c"cuMemsetD8", fill(memory, 0x5a, BYTES))?;
        let copy: unsafe extern "C" fn(*mut c_void, u64, usize) -> c_int =
            driver.function(c"cuMemcpyDtoH_v2")?;
        driver.check(c"cuMemcpyDtoH", copy(read.as_mut_ptr().cast(), memory, BYTES))?;
        let free: unsafe extern "C" fn(u64) -> c_int = driver.function(c"cuMemFree_v2")?;
        driver.check(c"cuMemFree", free(memory))?;
    }
    match read.iter().all(|&byte| byte == 0x5a) {
        true => Ok("device memory was written and read".into()),
        false => Err(io::Error::other("device memory does not hold what was written")),
    }
}

/// CUDA's driver library.
struct Driver(*mut c_void);

impl Driver {
    fn load() -> io::Result<Self> {
        // SAFETY: loads a library by a constant name; its initialisers are the driver's.
        let library = unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW) };
        if library.is_null() {
            // SAFETY: after a failure the loader hands out its message, or nothing.
            let message: *const c_char = unsafe { libc::dlerror() };
            let text = match message.is_null() {
                true => "no message".into(),
                // SAFETY: not null, and a C string until the next call of the loader.
                false => unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned(),
            };
            return Err(io::Error::other(text));
        }
        Ok(Self(library))
    }

    /// A function of the driver as an `F`.
    ///
    /// # Safety
    ///
    /// `F` is a function pointer of the function's type.
    unsafe fn function<F: Copy>(&self, name: &CStr) -> io::Result<F> {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        // SAFETY: the library is loaded, and `name` is a C string.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        if address.is_null() {
            return Err(io::Error::other(format!("the driver has no {name:?}")));
        }
        // SAFETY: of the same size, and of this type as the caller promises.
        Ok(unsafe { std::mem::transmute_copy(&address) })
    }

    fn check(&self, name: &CStr, result: c_int) -> io::Result<()> {
        match result {
            0 => Ok(()),
            code => Err(io::Error::other(format!("{name:?} answered error {code}"))),
        }
    }
}
