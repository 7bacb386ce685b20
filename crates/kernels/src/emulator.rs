//! The emulator's memory and launches. What it means to be a device is in `emulator/emulator.hpp`.
#![expect(unsafe_code, reason = "emulated kernels work on raw memory, as kernels do")]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Argument, Error, Gemm, Launch, View, ViewMut};

/// Bytes before and after each allocation that nobody may write.
const GUARD: usize = 256;
/// What guards and new memory hold: NaN as any floating-point number.
const POISON: u8 = 0xff;

// SAFETY: the declaration is that of `emulator/emulator.cpp`, which build.rs compiles.
unsafe extern "C" {
    fn forerunner_emulate(
        name: *const c_char,
        grid: *const u32,
        block: *const u32,
        shared_bytes: u32,
        arguments: *mut *mut c_void,
        n_arguments: usize,
        seed: u64,
        error: *mut c_char,
        error_bytes: usize,
    ) -> c_int;
}

pub(crate) struct Emulator {
    seed: AtomicU64,
    live: Arc<Live>,
    recording: Mutex<Option<Recording>>,
}

/// What is done when a graph runs, in order.
#[derive(Default)]
pub(crate) struct Recording {
    steps: Vec<Step>,
    /// Memory that was allocated meanwhile; a device's graph allocates by itself when it runs.
    buffers: Vec<Arc<Guarded>>,
}

enum Step {
    Kernel(Launch, Vec<Argument>),
    Product(Gemm<'static>),
    Fill(ViewMut<'static>, u8),
    Copy(ViewMut<'static>, View<'static>),
    Host(Box<dyn Fn() -> crate::Result<()> + Send>),
}

/// All memory that is not freed: first byte to last, guards not counted.
#[derive(Default)]
struct Live(Mutex<BTreeMap<u64, u64>>);

/// Memory between guards.
pub(crate) struct Guarded {
    words: Vec<u128>,
    bytes: usize,
    live: Arc<Live>,
}

impl Guarded {
    pub(crate) fn address(&self) -> u64 {
        self.words.as_ptr() as u64 + GUARD as u64
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let mut live = self.live.0.lock().unwrap_or_else(PoisonError::into_inner);
        live.remove(&self.address());
        drop(live);
        // Whoever still has a view would read this.
        self.words.fill(u128::MAX);
    }
}

impl Emulator {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed: AtomicU64::new(seed), live: Arc::default(), recording: Mutex::default() }
    }

    pub(crate) fn allocate(&self, bytes: usize) -> Arc<Guarded> {
        let words = vec![u128::MAX; (bytes + 2 * GUARD).div_ceil(16)];
        let guarded = Guarded { words, bytes, live: Arc::clone(&self.live) };
        let mut live = self.live.0.lock().unwrap_or_else(PoisonError::into_inner);
        live.insert(guarded.address(), guarded.bytes as u64);
        drop(live);
        let guarded = Arc::new(guarded);
        if let Some(recording) = &mut *self.recording() {
            recording.buffers.push(Arc::clone(&guarded));
        }
        guarded
    }

    pub(crate) fn begin_recording(&self) {
        *self.recording() = Some(Recording::default());
    }

    pub(crate) fn end_recording(&self) -> crate::Result<Recording> {
        let recording = self.recording().take().unwrap_or_default();
        let allocated = recording.buffers.len();
        let kept = recording.buffers.iter().filter(|buffer| Arc::strong_count(buffer) > 1).count();
        if kept > 0 { Err(Error::Kept { kept, allocated }) } else { Ok(recording) }
    }

    fn recording(&self) -> MutexGuard<'_, Option<Recording>> {
        self.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a step, where steps are recorded, instead of doing it.
    fn record(&self, step: impl FnOnce() -> Step) -> bool {
        let mut recording = self.recording();
        if let Some(recording) = &mut *recording {
            recording.steps.push(step());
        }
        recording.is_some()
    }

    pub(crate) fn record_on_host(&self, work: Box<dyn Fn() -> crate::Result<()> + Send>) {
        self.record(|| Step::Host(work));
    }

    pub(crate) fn fill(&self, view: &mut ViewMut<'_>, byte: u8) {
        if !self.record(|| Step::Fill(lasting_mut(view), byte)) {
            fill(view, byte);
        }
    }

    pub(crate) fn copy(&self, to: &mut ViewMut<'_>, from: &View<'_>) {
        if !self.record(|| Step::Copy(lasting_mut(to), lasting(from))) {
            write(to, &read(from));
        }
    }

    pub(crate) fn gemm(&self, product: &Gemm<'_>) {
        if !self.record(|| Step::Product(product.lasting())) {
            crate::gemm::emulated::gemm(product);
        }
    }

    /// Does what was recorded. Threads run in another order each time.
    pub(crate) fn replay(&self, recording: &Recording) -> crate::Result<()> {
        for step in &recording.steps {
            match step {
                // SAFETY: the promise that was made when the launch was recorded; whoever keeps the
                // graph keeps the memory.
                Step::Kernel(launch, arguments) => unsafe { self.launch(launch, arguments) }
                    .map_err(|reason| Error::device(launch.kernel, reason))?,
                Step::Product(product) => crate::gemm::emulated::gemm(product),
                Step::Fill(view, byte) => fill(view, *byte),
                Step::Copy(to, from) => write(to, &read(from)),
                Step::Host(work) => work()?,
            }
        }
        Ok(())
    }

    /// Runs a kernel to its end.
    ///
    /// # Safety
    ///
    /// As for [`crate::Machine::launch`].
    pub(crate) unsafe fn launch(
        &self,
        launch: &Launch,
        arguments: &[Argument],
    ) -> Result<(), String> {
        if self.record(|| Step::Kernel(*launch, arguments.to_vec())) {
            return Ok(());
        }
        let name = CString::new(launch.kernel).map_err(|error| error.to_string())?;
        let mut words: Vec<u64> = arguments.iter().map(|argument| argument.word()).collect();
        let mut pointers: Vec<*mut c_void> =
            words.iter_mut().map(|word| std::ptr::from_mut(word).cast()).collect();
        let mut message = [0u8; 512];
        let seed = self.seed.fetch_add(0x9e37_79b9, Ordering::Relaxed);
        // SAFETY: name, sizes and arguments live until the call returns; a message fits `message`;
        // that the kernel may be given these arguments is the caller's promise.
        let status = unsafe {
            forerunner_emulate(
                name.as_ptr(),
                launch.grid.as_ptr(),
                launch.block.as_ptr(),
                launch.shared_bytes,
                pointers.as_mut_ptr(),
                pointers.len(),
                seed,
                message.as_mut_ptr().cast(),
                message.len(),
            )
        };
        if status != 0 {
            let message = CStr::from_bytes_until_nul(&message).unwrap_or_default();
            return Err(message.to_string_lossy().into_owned());
        }
        self.check_guards()
    }

    fn check_guards(&self) -> Result<(), String> {
        let live = self.live.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (&address, &bytes) in live.iter() {
            let end = address + bytes;
            let back = (end.next_multiple_of(16) + GUARD as u64 - end) as usize;
            for (what, start, len) in
                [("before", address - GUARD as u64, GUARD), ("after", end, back)]
            {
                // SAFETY: the guards lie within the allocation, which is alive while it is listed.
                let guard = unsafe { std::slice::from_raw_parts(start as *const u8, len) };
                if guard.iter().any(|&byte| byte != POISON) {
                    return Err(format!("it wrote {what} a buffer of {bytes} bytes"));
                }
            }
        }
        Ok(())
    }
}

/// The same memory, for a recording.
pub(crate) fn lasting(view: &View<'_>) -> View<'static> {
    // SAFETY: whoever keeps the graph keeps its memory, and nothing but its steps uses this view.
    unsafe { View::foreign(view.address(), view.len(), view.type_()) }
}

/// As [`lasting`].
pub(crate) fn lasting_mut(view: &ViewMut<'_>) -> ViewMut<'static> {
    // SAFETY: as above; steps are done one after the other.
    unsafe { ViewMut::foreign(view.address(), view.len(), view.type_()) }
}

pub(crate) fn write(view: &ViewMut<'_>, bytes: &[u8]) {
    assert_eq!(bytes.len(), view.len() * view.type_().bytes());
    // SAFETY: the view is as long as was just checked, and nobody else uses its memory.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), view.address() as *mut u8, bytes.len());
    }
}

pub(crate) fn read(view: &View<'_>) -> Vec<u8> {
    let bytes = view.len() * view.type_().bytes();
    // SAFETY: the view is alive and so long; emulated memory is initialised when allocated.
    unsafe { std::slice::from_raw_parts(view.address() as *const u8, bytes).to_vec() }
}

fn fill(view: &ViewMut<'_>, byte: u8) {
    let bytes = view.len() * view.type_().bytes();
    // SAFETY: the view is alive and so long, and nobody else uses its memory.
    unsafe { std::ptr::write_bytes(view.address() as *mut u8, byte, bytes) }
}
