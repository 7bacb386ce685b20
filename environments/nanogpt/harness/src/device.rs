//! The device that this thread's operations run on, if any: set up once, before any code of a
//! program's model runs.

use std::cell::RefCell;

use candle_core::{Device, Tensor};
use forerunner_kernels::{Facts, KernelCost, Mark};
use forerunner_nanogpt_protocol::{DeviceReport, DeviceUse, Operation, Section};
use forerunner_train_ops::device::{self as ops, Place, place, use_place};

use crate::{Error, Result};

/// Where tensors are to be made, when not on the CPU by its own operations.
pub(crate) fn current() -> Option<Device> {
    place().ok().map(|place| place.device)
}

/// Token ids that are copied to a device at a time: 64 KiB, up to which a copy from ordinary memory does
/// not make the host wait for what is queued (CUDA C++ Programming Guide, "Concurrent Execution
/// between Host and Device").
const IDS_AT_A_TIME: usize = (64 << 10) / size_of::<u32>();

/// Token ids on a device.
pub(crate) fn upload(ids: &[u32], shape: (usize, usize), device: &Device) -> Result<Tensor> {
    if ids.len() <= IDS_AT_A_TIME {
        return Ok(Tensor::from_slice(ids, shape, device)?);
    }
    let piece = |ids: &[u32]| Tensor::from_slice(ids, ids.len(), device);
    let pieces = ids.chunks(IDS_AT_A_TIME).map(piece).collect::<candle_core::Result<Vec<_>>>()?;
    Ok(Tensor::cat(&pieces, 0)?.reshape(shape)?)
}

thread_local! {
    /// Positions of batches by their shape, the latest last: what every step looks up.
    static POSITIONS: RefCell<Vec<Tensor>> = const { RefCell::new(Vec::new()) };
    static GRAPHS: RefCell<Graphs> = RefCell::default();
}

/// Shapes whose positions are kept.
const MOST_POSITIONS: usize = 64;

/// The positions `0..T` of `B` sequences, `[B, T]`.
pub(crate) fn positions((sequences, length): (usize, usize)) -> Result<Tensor> {
    let device = place()?.device;
    let known = POSITIONS.with_borrow(|known| {
        let fits =
            |ids: &&Tensor| ids.dims() == [sequences, length] && ids.device().same_device(&device);
        known.iter().find(fits).cloned()
    });
    if let Some(ids) = known {
        return Ok(ids);
    }
    ops::refuse_while_capturing("making a table of positions")?;
    let ids: Vec<u32> = (0..sequences).flat_map(|_| 0..length as u32).collect();
    let ids = upload(&ids, (sequences, length), &device)?;
    POSITIONS.with_borrow_mut(|known| {
        if known.len() == MOST_POSITIONS {
            known.remove(0);
        }
        known.push(ids.clone());
    });
    Ok(ids)
}

/// What became of work that programs wanted captured.
#[derive(Default)]
struct Graphs {
    captured: u64,
    refused: Vec<String>,
}

/// Reasons that are told.
const MOST_REASONS: usize = 3;

/// Takes note of work that was captured, or why it was not.
pub(crate) fn captured(refused: Option<String>) {
    GRAPHS.with_borrow_mut(|graphs| match refused {
        None => graphs.captured += 1,
        Some(reason) if graphs.refused.contains(&reason) => {}
        Some(reason) if graphs.refused.len() < MOST_REASONS => graphs.refused.push(reason),
        Some(_) => {}
    });
}

/// Whether kernels are timed one by one.
pub(crate) fn is_timed() -> bool {
    place().is_ok_and(|place| place.machine.is_profiled())
}

impl Graphs {
    /// For people; nothing where nobody wanted any.
    fn text(&self) -> String {
        let Self { captured, refused } = self;
        let mut parts = Vec::new();
        if *captured > 0 {
            parts.push(format!("{captured} captured"));
        }
        parts.extend(refused.iter().map(|reason| format!("not captured: {reason}")));
        parts.join("; ")
    }
}

/// Sets the device up, the same way for every program: context, kernels, the matrix library, and a
/// warm-up on random numbers that brings the clocks up. Returns when the device is idle again.
///
/// # Errors
///
/// When there is no device.
pub(crate) fn open() -> Result<DeviceReport> {
    // Asked here as well, because errors that come through candle carry backtraces.
    #[cfg(feature = "cuda")]
    forerunner_kernels::require_driver().map_err(|error| Error::NoDevice(error.to_string()))?;
    #[cfg(feature = "cuda")]
    let place = Place::cuda(0).map_err(|error| Error::NoDevice(error.to_string()))?;
    #[cfg(not(feature = "cuda"))]
    let place = Place::emulated(0);
    use_place(Some(place.clone()));
    let matmul_flops_per_second = ops::warm_up(&place)?;
    let Facts { name, memory_bytes, driver, multiprocessors, .. } =
        place.machine.facts().map_err(failed)?;
    Ok(DeviceReport { name, memory_bytes, driver, multiprocessors, matmul_flops_per_second })
}

/// Waits until the device has done everything.
pub(crate) fn synchronize() -> Result<()> {
    match place() {
        Ok(place) => place.machine.synchronize().map_err(failed),
        Err(_) => Ok(()),
    }
}

fn failed(error: forerunner_kernels::Error) -> Error {
    Error::program(error.to_string())
}

/// Sections whose seconds are read once the device has done them.
const MOST_SPANS: usize = 4096;

/// Batches, counted from the first, whose kernels are timed one by one: late enough that everything
/// is warm, few enough that their waiting for each other costs nothing that matters.
const PROFILED: std::ops::Range<u64> = 8..16;

/// What is measured of a device while it trains, by events in its queue.
#[derive(Default)]
pub(crate) struct Meter {
    sections: Vec<Section>,
    spans: Vec<(usize, Mark, Mark)>,
    kernels: Vec<KernelCost>,
}

/// A section that has begun: where in the queue, and what had been counted by then.
pub(crate) struct Began {
    mark: Mark,
    flops: u64,
}

impl Meter {
    /// Marks the beginning of a section; nothing where no device was chosen.
    pub(crate) fn begin(&self) -> Result<Option<Began>> {
        let Ok(place) = place() else { return Ok(None) };
        let mark = place.machine.mark().map_err(failed)?;
        Ok(Some(Began { mark, flops: place.machine.counts().flops }))
    }

    /// Charges what was queued since to the section `name`.
    pub(crate) fn end(&mut self, name: &str, began: Began) -> Result<()> {
        let machine = place()?.machine;
        let idx = self.sections.iter().position(|section| section.name == name);
        let idx = idx.unwrap_or_else(|| {
            let name = name.to_owned();
            self.sections.push(Section { name, calls: 0, cpu_seconds: 0.0, bytes: 0, flops: 0 });
            self.sections.len() - 1
        });
        self.sections[idx].calls += 1;
        self.sections[idx].flops += machine.counts().flops - began.flops;
        self.spans.push((idx, began.mark, machine.mark().map_err(failed)?));
        if self.spans.len() >= MOST_SPANS {
            self.read()?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        for (idx, from, to) in self.spans.drain(..) {
            self.sections[idx].cpu_seconds += from.seconds_to(&to).map_err(failed)?;
        }
        Ok(())
    }

    /// A batch, counted from zero, is about to be worked on.
    pub(crate) fn batch(&mut self, batch: u64) -> Result<()> {
        let Ok(place) = place() else { return Ok(()) };
        if batch == PROFILED.start {
            place.machine.profile(true);
        }
        if batch == PROFILED.end { self.read_kernels(&place) } else { Ok(()) }
    }

    /// Ends the look at single kernels; nothing where it has ended or not begun.
    fn read_kernels(&mut self, place: &Place) -> Result<()> {
        let kernels = place.machine.profiled().map_err(failed)?;
        if !kernels.is_empty() {
            self.kernels = kernels;
        }
        place.machine.profile(false);
        Ok(())
    }

    /// Sections in order of first use, and kernels, the dearest first.
    pub(crate) fn take(&mut self) -> Result<(Vec<Section>, Vec<Operation>)> {
        self.read()?;
        let operation = |cost: &KernelCost| Operation {
            name: cost.name.clone(),
            calls: cost.calls,
            seconds: cost.seconds,
            bytes: 0,
            flops: 0,
        };
        Ok((std::mem::take(&mut self.sections), self.kernels.iter().map(operation).collect()))
    }

    /// What the device was used for, and the floating-point operations counted. Training is over: one
    /// that ended before its last batch to be timed is timed as far as it came.
    pub(crate) fn usage(&mut self) -> Result<Option<(DeviceUse, u64)>> {
        let Ok(place) = place() else { return Ok(None) };
        self.read_kernels(&place)?;
        let counts = place.machine.counts();
        let usage = DeviceUse {
            peak_bytes: place.machine.peak_bytes().map_err(failed)?,
            seconds: self.kernels.iter().map(|cost| cost.seconds).sum(),
            launches: counts.launches,
            timed_by: format!("events around each kernel of batches {PROFILED:?}"),
            graphs: GRAPHS.with_borrow(Graphs::text),
        };
        Ok(Some((usage, counts.flops)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "emulator")]
    #[test]
    fn a_training_that_ends_early_has_its_kernels_too() {
        use_place(Some(Place::emulated(1)));
        let mut meter = Meter::default();
        for batch in 0..PROFILED.end - 2 {
            meter.batch(batch).unwrap();
            ops::warm_up(&place().unwrap()).unwrap();
        }
        let (usage, _) = meter.usage().unwrap().unwrap();
        let kernels = meter.take().unwrap().1;
        let products = kernels.iter().filter(|kernel| kernel.name.starts_with("gemm"));
        // Ten products in each of six batches.
        assert_eq!(products.map(|kernel| kernel.calls).sum::<u64>(), 60);
        assert!(usage.seconds > 0.0, "{usage:?}");
        use_place(None);
    }

    #[test]
    fn ids_arrive_in_order_however_many_they_are() {
        for (rows, length) in [(1, 3), (32, 512), (33, 1024)] {
            let ids: Vec<u32> = (0..(rows * length) as u32).collect();
            let there = upload(&ids, (rows, length), &Device::Cpu).unwrap();
            assert_eq!(there.dims(), [rows, length]);
            assert_eq!(there.flatten_all().unwrap().to_vec1::<u32>().unwrap(), ids);
        }
    }
}
