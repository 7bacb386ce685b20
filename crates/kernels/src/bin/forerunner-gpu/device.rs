//! Opening a device, and what can be wrong with it.

use std::{fmt, sync::Arc};

use cudarc::driver::{CudaContext, DriverError};

/// No driver, or no usable device (`EX_UNAVAILABLE` of sysexits.h).
const UNAVAILABLE: u8 = 69;
/// The device failed (`EX_SOFTWARE` of sysexits.h).
const FAILED: u8 = 70;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There is no driver, or no device.
    Unavailable { reason: String, hint: &'static str },
    /// The device failed.
    Failed(String),
}

impl Failure {
    /// The exit code that `--help` documents.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Unavailable { .. } => UNAVAILABLE,
            Self::Failed(_) => FAILED,
        }
    }

    /// The device failed at `what`.
    pub(crate) fn at(what: &'static str) -> impl Fn(DriverError) -> Self {
        move |error| Self::Failed(format!("{what}: the GPU's driver says: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable { reason, hint } => {
                write!(f, "no usable GPU: {reason}\nhint: {hint}")
            }
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

impl From<forerunner_kernels::Error> for Failure {
    fn from(error: forerunner_kernels::Error) -> Self {
        match error {
            forerunner_kernels::Error::NoDevice { reason, hint } => {
                Self::Unavailable { reason, hint }
            }
            other => Self::Failed(other.to_string()),
        }
    }
}

/// An error unless the driver's library is there. Asked before anything else of CUDA, which would
/// otherwise end the process in a panic.
pub(crate) fn require_driver() -> Result<(), Failure> {
    Ok(forerunner_kernels::require_driver()?)
}

/// The device with CUDA's number `ordinal`.
pub(crate) fn open(ordinal: usize) -> Result<Arc<CudaContext>, Failure> {
    CudaContext::new(ordinal).map_err(|error| Failure::Unavailable {
        reason: format!("device {ordinal} cannot be opened: {error}"),
        hint: "`nvidia-smi -L` lists the devices; CUDA_VISIBLE_DEVICES may hide them",
    })
}
