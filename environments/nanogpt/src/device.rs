//! What a track on a GPU takes, and which of it is missing: the harness built for CUDA, the driver's
//! library, the device's nodes. Nothing here links CUDA or talks to a driver.

use crate::{
    Track,
    config::{CUDA_HARNESS, Config},
    process::with_sources,
};
use forerunner_core::{Error, Result};
use forerunner_nanogpt_protocol::Device;
use forerunner_sandbox::{Gpu, GpuPaths};
use std::path::{Path, PathBuf};

/// Names the folder of CUDA's libraries, for programs and for us.
const CUDA_LIBRARIES: &str = "FORERUNNER_CUDA_LIBS";

/// Numbers that a node may have.
const MINORS: std::ops::Range<u32> = 0..32;

/// The GPU of a track that is measured on one.
///
/// # Errors
/// When the installation has no harness for it, or this machine no GPU that could be used: one line
/// that names track and what is missing, and a hint.
pub(crate) fn required(track: &Track, config: &Config) -> Result<Option<Gpu>> {
    match track.device {
        Device::Cpu => Ok(None),
        Device::Cuda => {
            let has_harness = config.harness_dir(Device::Cuda).is_ok();
            find(track, has_harness, &GpuPaths::default(), &cuda_folders(config)).map(Some)
        }
    }
}

fn find(
    track: &Track,
    has_harness: bool,
    paths: &GpuPaths,
    cuda_folders: &[PathBuf],
) -> Result<Gpu> {
    let needs = format!("track `{}` needs a GPU", track.name);
    if !has_harness {
        return Err(Error::Failed(format!(
            "{needs}: this installation has no harness that was built for CUDA \
             (`{CUDA_HARNESS}`)\nhint: run `cargo xtask install --cuda --prefix DIR`"
        )));
    }
    // A GPU out of several that a machine is given keeps its number there.
    let is_there = |minor: &u32| paths.dev.join(format!("nvidia{minor}")).exists();
    let minor = MINORS.clone().find(is_there).unwrap_or(MINORS.start);
    Gpu::find_in(paths, minor, cuda_folders)
        .map_err(|error| Error::Failed(format!("{needs}: {}", with_sources(&error))))
}

/// Where CUDA's own libraries may be that programs load besides the driver's: where the user says,
/// in the installation, or in that of the toolkit.
fn cuda_folders(config: &Config) -> Vec<PathBuf> {
    let named = std::env::var_os(CUDA_LIBRARIES).map(PathBuf::from);
    let beside = config.harness_dir(Device::Cuda).ok().map(|dir| dir.join("../../cuda"));
    let toolkits = ["CUDA_HOME", "CUDA_PATH"].map(std::env::var_os).into_iter().flatten();
    let toolkits = toolkits.map(PathBuf::from).chain([PathBuf::from("/usr/local/cuda")]);
    let below = |toolkit: PathBuf| Path::join(&toolkit, "lib64");
    let folders = named.into_iter().chain(beside).chain(toolkits.map(below));
    folders.filter_map(|folder| folder.canonicalize().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine in a folder; nothing in it is a device node.
    fn machine(dir: &Path) -> GpuPaths {
        let folder = |name: &str| {
            let folder = dir.join(name);
            std::fs::create_dir_all(&folder).unwrap();
            folder
        };
        GpuPaths {
            dev: folder("dev"),
            proc: folder("proc"),
            sys: folder("sys"),
            loader_cache: dir.join("ld.so.cache"),
            library_folders: vec![folder("lib")],
        }
    }

    #[test]
    fn what_is_missing_is_named_in_one_line_with_a_hint() {
        let config = Config { track: "gpt2-124m".into(), ..Config::default() };
        let track = Track::new(&config).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let check = |has_harness, missing: &str| {
            let error = find(&track, has_harness, &machine(dir.path()), &[]).unwrap_err();
            let text = error.to_string();
            let lines: Vec<&str> = text.lines().collect();
            assert!(lines[0].starts_with("track `gpt2-124m` needs a GPU: "), "{text}");
            assert!(lines[0].contains(missing), "{text}");
            assert!(lines.len() == 2 && lines[1].starts_with("hint: "), "{text}");
        };
        check(false, "no harness that was built for CUDA (`lib/forerunner/harness/nanogpt-cuda`)");
        // The sandbox says which, its own tests try them all: no node here, then no library.
        check(true, "nvidia0` does not exist");
        std::fs::write(dir.path().join("dev/nvidia3"), "").unwrap();
        check(true, "nvidia3`");
    }

    #[test]
    fn tracks_on_the_cpu_need_none() {
        let config = Config::default();
        assert_eq!(required(&Track::new(&config).unwrap(), &config).unwrap(), None);
    }
}
