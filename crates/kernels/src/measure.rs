//! What a machine is, and what its work costs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
#[cfg(feature = "emulator")]
use std::time::Instant;

use crate::graph::Pass;
use crate::machine::Kind;
use crate::{Machine, Result};

/// What a machine is.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Name of the product.
    pub name: String,
    /// Memory in bytes; 0 for the emulator.
    pub memory_bytes: u64,
    /// Version of the CUDA that the driver speaks, such as `13.0`; empty for the emulator.
    pub driver: String,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Compute capability times ten, such as 90; 0 for the emulator.
    pub capability: u32,
}

/// What was queued since the machine was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Kernels and matrix products.
    pub launches: u64,
    /// Floating-point operations of matrix products, and of what callers counted.
    pub flops: u64,
}

/// What one kernel cost while the machine was profiled.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelCost {
    /// The kernel's name, or `gemm` with its sizes.
    pub name: String,
    /// How often it ran.
    pub calls: u64,
    /// Seconds from its beginning to its end on the device, all calls together.
    pub seconds: f64,
}

/// A point in the queue of a machine's work.
#[derive(Debug)]
pub struct Mark(At);

#[derive(Debug)]
enum At {
    #[cfg(feature = "emulator")]
    Host(Instant),
    #[cfg(feature = "cuda")]
    Device(cudarc::driver::CudaEvent),
}

/// Spans between marks that are read before their memory grows too much.
const MOST_SPANS: usize = 4096;

#[derive(Default)]
pub(crate) struct Meter {
    launches: AtomicU64,
    flops: AtomicU64,
    profile: Mutex<Option<Profile>>,
    /// Work that is being watched or captured.
    pub(crate) pass: Mutex<Option<Pass>>,
    /// Whether what was done last, of work that has graphs, was done by one.
    pub(crate) ran_graph_last: AtomicBool,
}

#[derive(Default)]
struct Profile {
    spans: Vec<(String, Mark, Mark)>,
    /// Calls and seconds of each kernel.
    costs: BTreeMap<String, (u64, f64)>,
}

impl Machine {
    /// What the machine is.
    ///
    /// # Errors
    ///
    /// When the device does not say.
    pub fn facts(&self) -> Result<Facts> {
        match *self.0 {
            #[cfg(feature = "emulator")]
            Kind::Emulated(_) => Ok(Facts {
                name: self.name().into(),
                memory_bytes: 0,
                driver: String::new(),
                multiprocessors: self.multiprocessors(),
                capability: 0,
            }),
            #[cfg(feature = "cuda")]
            Kind::Cuda(ref device) => device.facts(),
        }
    }

    /// Most bytes held at a time, by whoever uses the device's own pool; 0 for the emulator.
    ///
    /// # Errors
    ///
    /// When the device does not say.
    pub fn peak_bytes(&self) -> Result<u64> {
        match *self.0 {
            #[cfg(feature = "emulator")]
            Kind::Emulated(_) => Ok(0),
            #[cfg(feature = "cuda")]
            Kind::Cuda(ref device) => device.peak_bytes(),
        }
    }

    /// What was queued so far.
    pub fn counts(&self) -> Counts {
        Counts {
            launches: self.1.launches.load(Ordering::Relaxed),
            flops: self.1.flops.load(Ordering::Relaxed),
        }
    }

    /// Counts floating-point operations that are in no matrix product.
    pub fn count_flops(&self, flops: u64) {
        self.1.flops.fetch_add(flops, Ordering::Relaxed);
    }

    /// Marks this point of the queue.
    ///
    /// # Errors
    ///
    /// When the device fails.
    pub fn mark(&self) -> Result<Mark> {
        self.refuse_while_capturing("mark")?;
        match *self.0 {
            #[cfg(feature = "emulator")]
            Kind::Emulated(_) => Ok(Mark(At::Host(Instant::now()))),
            #[cfg(feature = "cuda")]
            Kind::Cuda(ref device) => Ok(Mark(At::Device(device.event()?))),
        }
    }

    /// Starts or stops timing every kernel. Each is timed by events around it, so that work which
    /// could overlap does not: for a look at some steps, not for all of them.
    pub fn profile(&self, on: bool) {
        let mut profile = self.1.profile.lock().unwrap_or_else(PoisonError::into_inner);
        *profile = on.then(|| profile.take().unwrap_or_default());
    }

    /// What kernels cost while they were timed, the dearest first. Waits for the device.
    ///
    /// # Errors
    ///
    /// When work queued before has failed.
    pub fn profiled(&self) -> Result<Vec<KernelCost>> {
        let mut profile = self.1.profile.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(profile) = &mut *profile else { return Ok(Vec::new()) };
        profile.read()?;
        let cost = |(name, &(calls, seconds)): (&String, &(u64, f64))| KernelCost {
            name: name.clone(),
            calls,
            seconds,
        };
        let mut costs: Vec<KernelCost> = profile.costs.iter().map(cost).collect();
        costs.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        Ok(costs)
    }

    /// Whether every kernel is timed.
    pub fn is_profiled(&self) -> bool {
        self.1.profile.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Counts what a graph did.
    pub(crate) fn count(&self, counts: Counts) {
        self.1.launches.fetch_add(counts.launches, Ordering::Relaxed);
        self.1.flops.fetch_add(counts.flops, Ordering::Relaxed);
    }

    /// Counts no longer what came after `before` and was not done; says how much that was.
    pub(crate) fn take_back(&self, before: Counts) -> Counts {
        let launches = self.1.launches.swap(before.launches, Ordering::Relaxed) - before.launches;
        let flops = self.1.flops.swap(before.flops, Ordering::Relaxed) - before.flops;
        Counts { launches, flops }
    }

    /// Queues something and counts it; times it while the machine is profiled. `numbers` stands for
    /// sizes and numbers that are handed over with it.
    pub(crate) fn metered(
        &self,
        name: impl Fn() -> String,
        numbers: impl FnOnce() -> u64,
        queue: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        self.1.launches.fetch_add(1, Ordering::Relaxed);
        self.note(&name, numbers);
        if !self.is_profiled() || self.is_capturing() {
            return queue();
        }
        let before = self.mark()?;
        queue()?;
        let after = self.mark()?;
        let mut profile = self.1.profile.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(profile) = &mut *profile {
            profile.spans.push((name(), before, after));
            if profile.spans.len() >= MOST_SPANS {
                profile.read()?;
            }
        }
        Ok(())
    }
}

impl Profile {
    fn read(&mut self) -> Result<()> {
        for (name, before, after) in self.spans.drain(..) {
            let seconds = before.seconds_to(&after)?;
            let cost = self.costs.entry(name).or_default();
            *cost = (cost.0 + 1, cost.1 + seconds);
        }
        Ok(())
    }
}

impl Mark {
    /// Seconds of the device from this mark to a later one of the same machine. Waits for both.
    ///
    /// # Errors
    ///
    /// When work before them has failed.
    pub fn seconds_to(&self, later: &Self) -> Result<f64> {
        match (&self.0, &later.0) {
            #[cfg(feature = "emulator")]
            (At::Host(from), At::Host(to)) => Ok(to.duration_since(*from).as_secs_f64()),
            #[cfg(feature = "cuda")]
            (At::Device(from), At::Device(to)) => {
                let milliseconds = from.elapsed_ms(to);
                let milliseconds =
                    milliseconds.map_err(|error| crate::Error::device("elapsed_ms", error))?;
                Ok(f64::from(milliseconds) / 1e3)
            }
            #[cfg(all(feature = "emulator", feature = "cuda"))]
            _ => Err(crate::Error::shape("seconds_to", "marks of two machines")),
        }
    }
}
