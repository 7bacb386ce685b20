//! Finding a GPU on machines made of a folder.

use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

/// A machine made of a folder: nodes are links to devices that every machine has.
struct Machine {
    folder: TempDir,
    paths: GpuPaths,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let paths = GpuPaths {
            dev: at("dev"),
            proc: at("proc"),
            sys: at("sys"),
            loader_cache: at("ld.so.cache"),
            library_folders: vec![at("lib")],
        };
        for name in ["dev", "lib", "cuda", "proc/driver/nvidia/gpus/0000:03:00.0"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        fs::create_dir_all(at("sys/devices/system/node")).unwrap();
        Self { folder, paths }
    }

    fn with_gpu() -> Self {
        let machine = Self::new();
        for name in ["nvidia0", "nvidiactl", "nvidia-uvm"] {
            machine.node(name, "/dev/full");
        }
        machine.file("lib/libcuda.so.580.1", "");
        symlink("libcuda.so.580.1", machine.at("lib/libcuda.so.1")).unwrap();
        machine
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    fn node(&self, name: &str, device: &str) {
        symlink(device, self.at("dev").join(name)).unwrap();
    }

    fn file(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
    }

    fn find(&self, minor: u32) -> Result<Gpu, Error> {
        Gpu::find_in(&self.paths, minor, &[self.at("cuda"), self.at("nowhere")])
    }

    fn error(&self, minor: u32) -> String {
        let text = self.find(minor).unwrap_err().to_string();
        text.replace(&self.folder.path().to_string_lossy().into_owned(), "")
    }

    /// Paths without the folder.
    fn short(&self, paths: &[PathBuf]) -> Vec<String> {
        let root = self.at("");
        let short = |path: &PathBuf| path.strip_prefix(&root).unwrap().display().to_string();
        paths.iter().filter(|path| path.starts_with(&root)).map(short).collect()
    }
}

#[test]
fn everything_of_one_gpu_and_nothing_of_another() {
    let machine = Machine::with_gpu();
    machine.node("nvidia1", "/dev/full");
    machine.node("nvidia-modeset", "/dev/full");
    machine.file("lib/libnvidia-ptxjitcompiler.so.580.1", "");
    machine.file("lib/libnvidia-nvvm70.so.4", "");
    machine.file("lib/libnvidia-ml.so.1", "");
    machine.file("lib/libEGL_nvidia.so.0", "");
    machine.file("cuda/libcublas.so.13", "");
    machine.file("cuda/libcufft.so.13", "");
    machine.file("lib/libcurand.so.10", "");
    machine.file("proc/devices", "");
    machine.file(
        "proc/driver/nvidia/gpus/0000:03:00.0/information",
        "Model: \t\t X\nGPU UUID: \t GPU-12\nBus Location: \t 0000:03:00.0\nDevice Minor: \t 0\n",
    );
    fs::create_dir_all(machine.at("sys/bus/pci/devices/0000:03:00.0")).unwrap();
    let gpu = machine.find(0).unwrap();
    assert_eq!(gpu.uuid.as_deref(), Some("GPU-12"));
    let nodes = ["dev/nvidia0", "dev/nvidiactl", "dev/nvidia-uvm"];
    assert_eq!(machine.short(&gpu.nodes), nodes);
    assert_eq!(
        machine.short(&gpu.information),
        [
            "proc/driver/nvidia",
            "proc/devices",
            "sys/devices/system/node",
            "sys/bus/pci/devices/0000:03:00.0"
        ]
    );
    assert_eq!(
        machine.short(&gpu.libraries),
        [
            "cuda/libcublas.so.13",
            "lib/libcuda.so.580.1",
            "lib/libcurand.so.10",
            "lib/libnvidia-nvvm70.so.4",
            "lib/libnvidia-ptxjitcompiler.so.580.1"
        ]
    );
    assert_eq!(machine.short(&gpu.library_folders), ["lib", "cuda"]);
    machine.node("nvidia-uvm-tools", "/dev/full");
    let with_tools = machine.find(1).unwrap();
    assert_eq!(
        machine.short(&with_tools.nodes),
        ["dev/nvidia1", "dev/nvidiactl", "dev/nvidia-uvm", "dev/nvidia-uvm-tools"]
    );
    assert_eq!(with_tools.uuid, None, "the information is another GPU's");
}

#[test]
fn what_is_missing_is_named() {
    let machine = Machine::new();
    let none = machine.error(0);
    assert!(none.contains("`/dev/nvidia0` does not exist\nhint: use a machine"), "{none}");
    machine.node("nvidia0", "/dev/full");
    let other = machine.error(3);
    assert!(other.contains("`/dev/nvidia3` does not exist"), "{other}");
    assert!(other.ends_with("hint: choose one that is there: nvidia0"), "{other}");
    machine.node("nvidiactl", "/dev/full");
    let uvm = machine.error(0);
    assert!(uvm.contains("`/dev/nvidia-uvm` does not exist\nhint: load the module"), "{uvm}");
    machine.file("dev/nvidia-uvm", "");
    let plain = machine.error(0);
    assert!(plain.contains("`/dev/nvidia-uvm` is no device node"), "{plain}");
    fs::remove_file(machine.at("dev/nvidia-uvm")).unwrap();
    machine.node("nvidia-uvm", "/dev/full");
    let driver = machine.error(0);
    assert!(driver.contains("there is a device node and no `libcuda.so.1`"), "{driver}");
}

#[test]
fn closed_nodes_are_noticed() {
    // The system's console belongs to root and is closed to others.
    let Ok(data) = fs::metadata("/dev/console") else { return };
    if data.mode() & 0o006 != 0 {
        return;
    }
    let machine = Machine::with_gpu();
    fs::remove_file(machine.at("dev/nvidiactl")).unwrap();
    machine.node("nvidiactl", "/dev/console");
    let closed = machine.error(0);
    assert!(closed.contains("`/dev/nvidiactl` may not be opened by"), "{closed}");
}
