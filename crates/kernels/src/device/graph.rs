//! Work captured as CUDA graphs.

use std::sync::atomic::Ordering;

use cudarc::driver::CudaGraph;
use cudarc::driver::sys::{
    self, CUDA_MEMCPY3D, CUgraphInstantiate_flags, CUgraphMem_attribute, CUgraphNode,
    CUgraphNodeType, CUmemPool_attribute, CUmemorytype, CUstreamCaptureMode,
};

use super::{Device, failed};
use crate::{Error, Result};

/// An instantiated graph.
pub(crate) struct DeviceGraph(CudaGraph);

impl DeviceGraph {
    pub(crate) fn launch(&self) -> Result<()> {
        self.0.launch().map_err(failed("cuGraphLaunch"))
    }
}

impl Device {
    /// Begins to record. A graph's memory comes from a pool of its own, so what the usual one holds for
    /// later is given back first.
    pub(crate) fn begin_capture(&self) -> Result<()> {
        self.enter()?;
        self.synchronize()?;
        self.trim()?;
        // Libraries may load and allocate what they need meanwhile.
        self.stream
            .begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED)
            .map_err(failed("cuStreamBeginCapture"))
    }

    pub(crate) fn end_capture(&self) -> Result<DeviceGraph> {
        // What was freed in a recording that failed has left errors behind, with which the recording
        // would not even be ended.
        let context = self.stream.context();
        let before = context.check_err();
        let ended = self.stream.end_capture(CUgraphInstantiate_flags(0));
        let after = context.check_err();
        let graph = ended.map_err(failed("cuStreamEndCapture"))?;
        let Some(graph) = graph else {
            return Err(Error::device("capture", "nothing was recorded"));
        };
        check(&graph)?;
        before.and(after).map_err(failed("capture"))?;
        graph.upload().map_err(failed("cuGraphUpload"))?;
        Ok(DeviceGraph(graph))
    }

    /// Gives back what the usual pool and that of graphs hold for later, and lets their high-water marks
    /// begin anew. The device was waited for.
    pub(crate) fn trim(&self) -> Result<()> {
        self.enter()?;
        self.earlier_peak.fetch_max(self.peak_bytes()?, Ordering::Relaxed);
        let pool = self.pool()?;
        let mut zero = 0u64;
        let what = CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
        // SAFETY: the attribute is a 64-bit number, and may be set to zero.
        unsafe { sys::cuMemPoolSetAttribute(pool, what, (&raw mut zero).cast()) }
            .result()
            .map_err(failed("cuMemPoolSetAttribute"))?;
        // SAFETY: the pool is that of a living device.
        unsafe { sys::cuMemPoolTrimTo(pool, 0) }.result().map_err(failed("cuMemPoolTrimTo"))?;
        let device = self.stream.context().cu_device();
        let what = CUgraphMem_attribute::CU_GRAPH_MEM_ATTR_USED_MEM_HIGH;
        // SAFETY: the device is that of a living context; the attribute is a 64-bit number, and may be set
        // to zero.
        unsafe {
            // A driver that does not count cannot begin anew.
            let _ = sys::cuDeviceSetGraphMemAttribute(device, what, (&raw mut zero).cast());
            sys::cuDeviceGraphMemTrim(device).result().map_err(failed("cuDeviceGraphMemTrim"))
        }
    }

    pub(crate) fn forget_errors(&self) {
        let _ = self.stream.context().check_err();
    }

    /// Most bytes that graphs held at a time; nothing where the driver does not say.
    pub(super) fn graph_bytes(&self) -> u64 {
        let mut bytes = 0u64;
        let what = CUgraphMem_attribute::CU_GRAPH_MEM_ATTR_USED_MEM_HIGH;
        let device = self.stream.context().cu_device();
        // SAFETY: the attribute is a 64-bit number.
        match unsafe { sys::cuDeviceGetGraphMemAttribute(device, what, (&raw mut bytes).cast()) } {
            sys::CUresult::CUDA_SUCCESS => bytes,
            _ => 0,
        }
    }
}

/// An error where a graph cannot be launched again and again: it would read the host's memory, which is
/// no longer what it was, or keeps memory that it allocated.
fn check(graph: &CudaGraph) -> Result<()> {
    let (mut allocated, mut freed) = (0_usize, 0_usize);
    for node in nodes(graph)? {
        let mut kind = CUgraphNodeType::CU_GRAPH_NODE_TYPE_EMPTY;
        // SAFETY: the node is the graph's.
        unsafe { sys::cuGraphNodeGetType(node, &raw mut kind) }
            .result()
            .map_err(failed("cuGraphNodeGetType"))?;
        match kind {
            CUgraphNodeType::CU_GRAPH_NODE_TYPE_MEM_ALLOC => allocated += 1,
            CUgraphNodeType::CU_GRAPH_NODE_TYPE_MEM_FREE => freed += 1,
            CUgraphNodeType::CU_GRAPH_NODE_TYPE_MEMCPY => refuse_host(node)?,
            CUgraphNodeType::CU_GRAPH_NODE_TYPE_HOST => {
                return Err(Error::device("capture", "a function of the host was recorded"));
            }
            _ => {}
        }
    }
    match allocated.saturating_sub(freed) {
        0 => Ok(()),
        kept => Err(Error::Kept { kept, allocated }),
    }
}

fn nodes(graph: &CudaGraph) -> Result<Vec<CUgraphNode>> {
    let mut count = 0;
    // SAFETY: without room for nodes, the driver says how many there are.
    unsafe { sys::cuGraphGetNodes(graph.cu_graph(), std::ptr::null_mut(), &raw mut count) }
        .result()
        .map_err(failed("cuGraphGetNodes"))?;
    let mut nodes = vec![std::ptr::null_mut(); count];
    // SAFETY: there is room for as many nodes as is said.
    unsafe { sys::cuGraphGetNodes(graph.cu_graph(), nodes.as_mut_ptr(), &raw mut count) }
        .result()
        .map_err(failed("cuGraphGetNodes"))?;
    nodes.truncate(count);
    Ok(nodes)
}

fn refuse_host(node: CUgraphNode) -> Result<()> {
    let mut copy = std::mem::MaybeUninit::<CUDA_MEMCPY3D>::zeroed();
    // SAFETY: the node is a copy, whose description the driver writes. Until then both kinds of memory,
    // which have no value of zero, are those of a device, and zeros stand for everything else.
    let copy = unsafe {
        let to = copy.as_mut_ptr();
        (&raw mut (*to).srcMemoryType).write(CUmemorytype::CU_MEMORYTYPE_DEVICE);
        (&raw mut (*to).dstMemoryType).write(CUmemorytype::CU_MEMORYTYPE_DEVICE);
        sys::cuGraphMemcpyNodeGetParams(node, to)
            .result()
            .map_err(failed("cuGraphMemcpyNodeGetParams"))?;
        copy.assume_init()
    };
    let host = CUmemorytype::CU_MEMORYTYPE_HOST;
    if copy.srcMemoryType == host || copy.dstMemoryType == host {
        return Err(Error::device("capture", "a copy from or to the host was recorded"));
    }
    Ok(())
}
