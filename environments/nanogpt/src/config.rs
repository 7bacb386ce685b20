//! What a run file may say about this environment, and where installed things are found.

use crate::{Alignment, Clock, DataError, Track, manifest::MANIFEST};
use forerunner_core::{Error, Result};
use forerunner_nanogpt_protocol::Device;
use serde::Deserialize;
use std::{
    env,
    path::{Path, PathBuf},
};

/// The environment's configuration. Everything has a default; what departs from it changes the
/// track's fingerprint where it changes results.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of the track.
    pub track: String,
    /// Folder of the data set, instead of the installed one.
    pub data: Option<PathBuf>,
    /// Folder of the prebuilt harness, instead of the installed one.
    pub harness: Option<PathBuf>,
    /// File to start from, instead of the built-in reference program.
    pub reference: Option<PathBuf>,
    /// Run programs without a sandbox. Every result says so.
    pub unsafe_no_sandbox: bool,
    /// How time is charged.
    pub clock: Option<Clock>,
    /// Number of evaluation windows.
    pub windows: Option<usize>,
    /// Number of evaluation windows on dev, where it is to be another.
    pub dev_windows: Option<usize>,
    /// Mean loss to reach, in nats per token.
    pub target_loss: Option<f64>,
    /// CPU seconds after which training is ended.
    pub cpu_seconds: Option<f64>,
    /// Wall seconds after which training is ended.
    pub wall_seconds: Option<f64>,
    /// Memory of the trainer and of the evaluator in MiB.
    pub memory_mib: Option<u64>,
    /// Whether programs must train on a loss that is equivalent to cross-entropy.
    pub require_equivalent_loss: bool,
    /// Where training sequences begin: `windows` or `documents`.
    pub stream: Option<Alignment>,
    /// Whether programs may bring kernels of their own, on a track that is measured on a GPU.
    pub custom_kernels: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            track: "cpu".into(),
            data: None,
            harness: None,
            reference: None,
            unsafe_no_sandbox: false,
            clock: None,
            windows: None,
            dev_windows: None,
            target_loss: None,
            cpu_seconds: None,
            wall_seconds: None,
            memory_mib: None,
            require_equivalent_loss: false,
            stream: None,
            custom_kernels: false,
        }
    }
}

impl Config {
    /// The folder of the data set for `track`.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn data_dir(&self, track: &Track) -> Result<PathBuf, DataError> {
        if let Some(dir) = &self.data {
            return Ok(dir.clone());
        }
        let below = Path::new("share/forerunner/data").join(&track.dataset);
        installed(&below.join(MANIFEST))
            .map(|path| path.with_file_name(""))
            .ok_or(DataError::Missing(below))
    }

    /// The folder of the prebuilt harness for `device`.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn harness_dir(&self, device: Device) -> Result<PathBuf> {
        let below = Path::new(match device {
            Device::Cpu => "lib/forerunner/harness/nanogpt",
            Device::Cuda => CUDA_HARNESS,
        });
        self.harness.clone().or_else(|| installed(below)).ok_or_else(|| {
            Error::Failed(format!(
                "no prebuilt harness in `{}` below the installation\nhint: run `cargo xtask \
                 install{} --prefix DIR` and use the `forerunner` in DIR/bin, or set \
                 FORERUNNER_PREFIX to DIR",
                below.display(),
                if device == Device::Cuda { " --cuda" } else { "" },
            ))
        })
    }
}

/// Where an installation keeps the harness for a GPU.
pub(crate) const CUDA_HARNESS: &str = "lib/forerunner/harness/nanogpt-cuda";

/// `below` in the installation: FORERUNNER_PREFIX, or the folder above the running program's.
pub(crate) fn installed(below: &Path) -> Option<PathBuf> {
    let named = env::var_os("FORERUNNER_PREFIX").map(PathBuf::from);
    let own = env::current_exe().ok();
    let own = own.as_deref().and_then(Path::parent).and_then(Path::parent).map(Path::to_owned);
    [named, own].into_iter().flatten().map(|prefix| prefix.join(below)).find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_named() {
        let error = serde_json::from_str::<Config>(r#"{"windos": 3}"#).unwrap_err().to_string();
        assert!(error.contains("unknown field `windos`, expected one of `track`"), "{error}");
        let config: Config = serde_json::from_str(r#"{"clock": "steps"}"#).unwrap();
        assert_eq!((config.clock, config.track.as_str()), (Some(Clock::Steps), "cpu"));
    }

    #[test]
    fn what_is_not_installed_is_missed_with_a_hint() {
        let track = Track::new(&Config::default()).unwrap();
        let track = Track { dataset: "not-installed-anywhere".into(), ..track };
        let error = Config::default().data_dir(&track).unwrap_err().to_string();
        assert_eq!(
            error,
            "no data set in `share/forerunner/data/not-installed-anywhere`\nhint: run `forerunner \
             data prepare` (for the track `gpt2-124m`: `forerunner data fetch fineweb10B`), or set \
             `data` to a folder that holds a `dataset.json`"
        );
    }
}
