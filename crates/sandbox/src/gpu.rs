//! What a sandboxed program is given of one NVIDIA GPU, and how it is found on this machine.
//!
//! CUDA has its own driver in the program's process, which talks to the kernel's by `ioctl`. The
//! grant is what that driver insists on, and nothing else. It was put together from what is publicly
//! known of the driver (its open kernel modules, and what sandboxes and containers report that run
//! CUDA behind Landlock or seccomp); it has not been tried on a machine with a GPU yet.
//!
//! | given | why |
//! | --- | --- |
//! | `/dev/nvidiaN`, `/dev/nvidiactl`, `/dev/nvidia-uvm` (read, write, `ioctl`) | the device, its resource manager, its memory manager |
//! | `/dev/nvidia-uvm-tools`, if there | drivers from 570 on end with CUDA error 304 when it exists and cannot be opened |
//! | `/proc/driver/nvidia`, `/proc/driver/nvidia-uvm` | parameters of the kernel modules |
//! | `/proc/devices`, `/proc/modules`, `/proc/cpuinfo`, `/proc/meminfo`, `/proc/sys/vm/mmap_min_addr` | which modules there are, and how much of everything |
//! | `/sys/devices/system/{cpu,node}`, the GPU's folder below `/sys/bus/pci` | which cores and memory are near |
//! | `/proc/self/{maps,status,cmdline,comm}` | its own address space, and which program it is in |
//! | `/proc/self/task`, for writing too | drivers from 570 on name their threads there and end with error 304 otherwise |
//! | the driver's libraries, CUDA's libraries and the system's they need (read) | to be loaded |
//!
//! Of the system calls see `syscalls::GPU`; of the limits, `rlimits`.
//!
//! Not given: other GPUs, instances of a divided GPU (`/dev/nvidia-caps`), `nvidia-modeset`, NVML,
//! MPS, shared memory between processes, a cache of compiled kernels.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

mod finder;
mod loader_cache;

pub use finder::GpuPaths;

/// One GPU, to be put into [`Policy::gpu`](crate::Policy::gpu). Made by [`Gpu::find`].
///
/// ```no_run
/// use forerunner_sandbox::{Gpu, Policy, Profile};
///
/// # fn main() -> Result<(), forerunner_sandbox::Error> {
/// let mut policy = Policy::new(Profile::Program, "/var/tmp/run-1");
/// policy.give_gpu(Gpu::find(0, &["/usr/local/cuda/lib64".into()])?);
/// # Ok(())
/// # }
/// ```
///
/// # What a program can do with it
///
/// Everything that the kernel's driver lets any user do with this GPU: see `docs/sandbox.md`.
/// No limit on device memory is enforced, and none on how long the device computes after the
/// program's end (the driver ends its contexts when the process is gone).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// The number in `/dev/nvidiaN`: the driver's minor number, which need not be CUDA's ordinal.
    pub minor: u32,
    /// As in `GPU-5c1f…`, where `/proc/driver/nvidia` tells it or [`Gpu::with_uuid`] was told.
    pub uuid: Option<String>,
    /// Device nodes: opened for reading and writing, and controlled by `ioctl`.
    pub nodes: Vec<PathBuf>,
    /// Files and folders of `/proc` and `/sys` that may be read. What has gone meanwhile is left out.
    pub information: Vec<PathBuf>,
    /// Libraries, as real files. They may be read and mapped, not executed by name.
    pub libraries: Vec<PathBuf>,
    /// Where the dynamic loader must look for those of them that its cache does not know.
    pub library_folders: Vec<PathBuf>,
}

impl Gpu {
    /// Threads that the driver starts beside the program's own: some five of it, and room.
    pub(crate) const TASKS: u64 = 16;

    /// Largest file in memory: how long one of `memfd_create` may be, in bytes. Somewhat arbitrary: what
    /// the driver keeps there is not documented, and such files have holes. What they hold is counted
    /// as memory (`shared_memory`).
    pub(crate) const MEMORY_FILE_BYTES: u64 = 4 << 30;

    /// The same GPU under the name that CUDA and NVML know it by.
    #[must_use]
    pub fn with_uuid(mut self, uuid: impl Into<String>) -> Self {
        self.uuid = Some(uuid.into());
        self
    }

    /// Environment variables for the program: no cache of compiled kernels, no other GPU, and where
    /// the libraries are.
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut variables = vec![
            ("CUDA_CACHE_DISABLE".to_owned(), "1".to_owned()),
            ("CUDA_DEVICE_ORDER".to_owned(), "PCI_BUS_ID".to_owned()),
        ];
        if let Some(uuid) = &self.uuid {
            variables.push(("CUDA_VISIBLE_DEVICES".to_owned(), uuid.clone()));
        }
        if !self.library_folders.is_empty() {
            let folders: Vec<_> =
                self.library_folders.iter().map(|folder| folder.to_string_lossy()).collect();
            variables.push(("LD_LIBRARY_PATH".to_owned(), folders.join(":")));
        }
        variables
    }

    /// Every path in it.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.nodes.iter().chain(&self.information).chain(&self.libraries)
    }
}

/// What of the process itself the driver reads.
pub(crate) const OWN_FILES: [&str; 4] =
    ["/proc/self/maps", "/proc/self/status", "/proc/self/cmdline", "/proc/self/comm"];

/// Where the driver writes the names of its threads (`TID/comm`). Landlock cannot grant a file of
/// threads to come, so the folder it has to be: with it the program can read and write whatever
/// `/proc` shows of its own threads, its own memory above all, which it can do anyway.
///
/// Landlock remembers the folder as the kernel holds it in memory. The program's process is the one
/// that is confined, so the number does not change; only great need of memory in the moments before
/// the driver starts could make the kernel forget the folder, and CUDA would answer error 304.
pub(crate) const OWN_THREADS: &str = "/proc/self/task";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_one_gpu_and_no_cache() {
        let gpu = Gpu {
            minor: 1,
            uuid: None,
            nodes: Vec::new(),
            information: Vec::new(),
            libraries: Vec::new(),
            library_folders: vec!["/a".into(), "/b".into()],
        };
        let variables = gpu.with_uuid("GPU-7").environment();
        let line: Vec<_> = variables.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            line.join(" "),
            "CUDA_CACHE_DISABLE=1 CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=GPU-7 \
             LD_LIBRARY_PATH=/a:/b"
        );
    }
}
