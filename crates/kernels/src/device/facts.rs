//! What a device says of itself.

use std::ffi::c_int;
use std::sync::atomic::Ordering;

use cudarc::driver::sys::{
    self, CUdevice_attribute, CUevent_flags, CUmemPool_attribute, CUmemoryPool,
};
use cudarc::driver::{CudaEvent, result};

use super::{Device, failed};
use crate::Result;
use crate::measure::Facts;

impl Device {
    pub(crate) fn facts(&self) -> Result<Facts> {
        let context = self.stream.context();
        let attribute = |what| {
            let value = context.attribute(what).map_err(failed("attribute"))?;
            Ok::<u32, crate::Error>(value.unsigned_abs())
        };
        let major = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let mut version: c_int = 0;
        // SAFETY: the driver writes one number.
        unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().map_err(failed("version"))?;
        Ok(Facts {
            name: self.name.clone(),
            memory_bytes: context.total_mem().map_err(failed("total_mem"))? as u64,
            driver: format!("{}.{}", version / 1000, version % 1000 / 10),
            multiprocessors: self.multiprocessors,
            capability: 10 * major + minor,
        })
    }

    pub(crate) fn event(&self) -> Result<CudaEvent> {
        let timed = Some(CUevent_flags::CU_EVENT_DEFAULT);
        self.stream.record_event(timed).map_err(failed("record_event"))
    }

    /// The pool that allocations in stream order come from.
    pub(super) fn pool(&self) -> Result<CUmemoryPool> {
        let device = self.stream.context().cu_device();
        // SAFETY: the device is that of a living context.
        unsafe { result::device::get_mem_pool(device) }.map_err(failed("get_mem_pool"))
    }

    pub(crate) fn peak_bytes(&self) -> Result<u64> {
        let mut bytes = 0u64;
        let what = CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
        let pool = self.pool()?;
        // SAFETY: the attribute is a 64-bit number.
        unsafe { sys::cuMemPoolGetAttribute(pool, what, (&raw mut bytes).cast()) }
            .result()
            .map_err(failed("cuMemPoolGetAttribute"))?;
        let earlier = self.earlier_peak.load(Ordering::Relaxed);
        // Graphs and the pool may have had theirs at different times: at most this much.
        Ok(earlier.max(bytes + self.graph_bytes()))
    }
}
