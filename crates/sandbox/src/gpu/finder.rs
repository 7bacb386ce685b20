//! Finds the parts of a grant on this machine, and says what is missing.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access, getuid};

use super::{Gpu, loader_cache};
use crate::Error;

/// Where a machine keeps things: `/dev`, `/proc`, `/sys` and its libraries. Others in tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuPaths {
    /// Folder of the device nodes.
    pub dev: PathBuf,
    /// Where `proc` is mounted.
    pub proc: PathBuf,
    /// Where `sysfs` is mounted.
    pub sys: PathBuf,
    /// The dynamic loader's cache.
    pub loader_cache: PathBuf,
    /// Folders in which libraries are looked for that the cache does not know, first ones first.
    pub library_folders: Vec<PathBuf>,
}

impl Default for GpuPaths {
    /// This machine's. Container runtimes put the driver's libraries into folders of their own, and
    /// name them in `LD_LIBRARY_PATH` where the cache does not know them.
    fn default() -> Self {
        let named = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let named = std::env::split_paths(&named).filter(|path| path.is_absolute());
        let usual = ["/usr/local/nvidia/lib64", "/usr/lib64", "/usr/lib/x86_64-linux-gnu"];
        Self {
            dev: "/dev".into(),
            proc: "/proc".into(),
            sys: "/sys".into(),
            loader_cache: "/etc/ld.so.cache".into(),
            library_folders: named.chain(usual.map(PathBuf::from)).collect(),
        }
    }
}

/// The driver's library; the others of the driver lie beside it.
const DRIVER: &str = "libcuda.so.1";

/// What the driver loads at run time, by the beginning of the name. Not NVML, which a program has no
/// use for, and none of the libraries for graphics, video and debugging.
const DRIVER_PARTS: [&str; 5] = [
    "libcuda.so",
    "libnvidia-ptxjitcompiler.so",
    "libnvidia-nvvm",
    "libnvidia-gpucomp.so",
    "libnvidia-tileiras",
];

/// CUDA's libraries that a harness or a program's own kernels may need, by the beginning of the name.
const CUDA_PARTS: [&str; 7] = [
    "libcudart.so",
    "libcublas.so",
    "libcublasLt.so",
    "libcurand.so",
    "libnvrtc.so",
    "libnvrtc-builtins.so",
    "libnvJitLink.so",
];

/// The system's libraries that those name.
const SYSTEM: [&str; 7] = [
    "libc.so.6",
    "libm.so.6",
    "libdl.so.2",
    "librt.so.1",
    "libpthread.so.0",
    "libgcc_s.so.1",
    "libstdc++.so.6",
];

/// Files and folders of `proc` that the driver reads.
const OF_PROC: [&str; 7] = [
    "driver/nvidia",
    "driver/nvidia-uvm",
    "devices",
    "modules",
    "cpuinfo",
    "meminfo",
    "sys/vm/mmap_min_addr",
];

/// Folders of `sysfs` that it reads.
const OF_SYS: [&str; 2] = ["devices/system/cpu", "devices/system/node"];

impl Gpu {
    /// The GPU behind `/dev/nvidiaMINOR` of this machine, with CUDA's libraries from `cuda_folders`
    /// and from where the dynamic loader finds them.
    ///
    /// # Errors
    ///
    /// [`Error::Gpu`] naming what is missing: the driver's library, device nodes, or permissions.
    pub fn find(minor: u32, cuda_folders: &[PathBuf]) -> Result<Self, Error> {
        Self::find_in(&GpuPaths::default(), minor, cuda_folders)
    }

    /// The same on a machine that keeps things elsewhere.
    ///
    /// # Errors
    ///
    /// As [`Gpu::find`].
    pub fn find_in(paths: &GpuPaths, minor: u32, cuda_folders: &[PathBuf]) -> Result<Self, Error> {
        let nodes = nodes(paths, minor)?;
        let known = loader_cache::parse(&fs::read(&paths.loader_cache).unwrap_or_default());
        let in_folders = |name: &str| {
            paths.library_folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file())
        };
        let cached = |name: &str| known.get(name).filter(|path| path.is_file()).cloned();
        let driver = in_folders(DRIVER).or_else(|| cached(DRIVER)).ok_or_else(|| {
            Error::gpu(
                format!("there is a device node and no `{DRIVER}`"),
                "install the driver's library for CUDA (packages `libcuda1` or \
                 `libnvidia-compute-…`), or name its folder in LD_LIBRARY_PATH; in a container, ask \
                 its runtime for the capability `compute`",
            )
        })?;
        let mut libraries = BTreeSet::new();
        let mut folders: Vec<PathBuf> = Vec::new();
        let driver_folder = driver.parent().unwrap_or(Path::new("/"));
        add_parts(&mut libraries, driver_folder, &DRIVER_PARTS);
        if cached(DRIVER).is_none() {
            folders.push(driver_folder.to_owned());
        }
        for folder in cuda_folders.iter().chain(&paths.library_folders) {
            let found = add_parts(&mut libraries, folder, &CUDA_PARTS) > 0;
            if found && !folders.contains(folder) {
                folders.push(folder.clone());
            }
        }
        for (name, path) in &known {
            if CUDA_PARTS.iter().any(|part| name.starts_with(part)) {
                libraries.extend(path.canonicalize().ok());
            }
        }
        libraries.extend(SYSTEM.iter().filter_map(|name| cached(name)?.canonicalize().ok()));
        let device = Information::read(paths, minor);
        let proc = OF_PROC.iter().map(|name| paths.proc.join(name));
        let sys = OF_SYS.iter().map(|name| paths.sys.join(name));
        let pci = device.as_ref().and_then(|device| {
            paths.sys.join("bus/pci/devices").join(&device.bus_location).canonicalize().ok()
        });
        Ok(Self {
            minor,
            uuid: device.map(|device| device.uuid),
            nodes,
            information: proc.chain(sys).chain(pci).filter(|path| path.exists()).collect(),
            libraries: libraries.into_iter().collect(),
            library_folders: folders,
        })
    }
}

/// The device nodes, each of which whoever runs the program may open.
fn nodes(paths: &GpuPaths, minor: u32) -> Result<Vec<PathBuf>, Error> {
    let own = format!("nvidia{minor}");
    let mut nodes = Vec::new();
    for name in [own.as_str(), "nvidiactl", "nvidia-uvm"] {
        let node = paths.dev.join(name);
        let Ok(data) = fs::metadata(&node) else {
            return Err(missing(paths, &node, name == "nvidia-uvm"));
        };
        if !data.file_type().is_char_device() {
            return Err(Error::gpu(
                format!("`{}` is no device node", node.display()),
                "remove it and have the driver make it again (`nvidia-modprobe -u -c 0`)",
            ));
        }
        if !may_open(&node, data.mode()) {
            return Err(Error::gpu(
                format!(
                    "`{}` may not be opened by {} (mode {:o})",
                    node.display(),
                    if getuid().is_root() { "`nobody`, as whom root runs programs" } else { "you" },
                    data.mode() & 0o777
                ),
                "set the module parameter NVreg_DeviceFileMode=0666, or `chmod 0666` the node",
            ));
        }
        nodes.push(node);
    }
    let tools = paths.dev.join("nvidia-uvm-tools");
    if fs::metadata(&tools).is_ok_and(|data| may_open(&tools, data.mode())) {
        nodes.push(tools);
    }
    Ok(nodes)
}

fn missing(paths: &GpuPaths, node: &Path, memory_manager: bool) -> Error {
    let text = format!("`{}` does not exist", node.display());
    if memory_manager {
        return Error::gpu(text, "load the module `nvidia-uvm` (`nvidia-modprobe -u -c 0`)");
    }
    let others: Vec<String> = fs::read_dir(&paths.dev)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.strip_prefix("nvidia").is_some_and(|rest| rest.parse::<u32>().is_ok()))
        .collect();
    match others.as_slice() {
        [] => Error::gpu(
            text,
            "use a machine with an NVIDIA GPU and its driver (`nvidia-smi` must work); a container \
             needs the device handed on (`--gpus all`)",
        ),
        names => Error::gpu(text, &format!("choose one that is there: {}", names.join(", "))),
    }
}

/// Root becomes `nobody` before it opens anything; others stay who they are.
fn may_open(node: &Path, mode: u32) -> bool {
    match getuid().is_root() {
        true => mode & 0o006 == 0o006,
        false => access(node, AccessFlags::R_OK | AccessFlags::W_OK).is_ok(),
    }
}

/// Adds the real files behind all names in `folder` that begin with one of `parts`. Says how many.
fn add_parts(libraries: &mut BTreeSet<PathBuf>, folder: &Path, parts: &[&str]) -> usize {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let wanted = names.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        parts.iter().any(|part| name.starts_with(part))
    });
    let found: Vec<PathBuf> = wanted
        .filter_map(|entry| entry.path().canonicalize().ok())
        .filter(|path| path.is_file())
        .collect();
    let count = found.len();
    libraries.extend(found);
    count
}

/// What `/proc/driver/nvidia/gpus/*/information` says of one GPU. Containers often hide it.
struct Information {
    uuid: String,
    bus_location: String,
}

impl Information {
    fn read(paths: &GpuPaths, minor: u32) -> Option<Self> {
        let gpus = fs::read_dir(paths.proc.join("driver/nvidia/gpus")).ok()?.flatten();
        gpus.filter_map(|gpu| fs::read_to_string(gpu.path().join("information")).ok())
            .find_map(|text| Self::parse(&text, minor))
    }

    fn parse(text: &str, minor: u32) -> Option<Self> {
        let value = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let own = value("Device Minor")?.parse::<u32>().ok()? == minor;
        let uuid = value("GPU UUID").filter(|uuid| uuid.starts_with("GPU-"));
        own.then_some(Self { uuid: uuid?, bus_location: value("Bus Location")? })
    }
}

#[cfg(test)]
mod tests;
