//! What can go wrong.

/// Why an operation was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Sizes or types that do not fit each other; the caller's mistake.
    #[error("{operation}: {reason}")]
    Shape {
        /// The operation that was asked for.
        operation: &'static str,
        /// What does not fit.
        reason: String,
    },
    /// Source for a device that is not compiled, or a kernel of it that is not launched so.
    #[error("custom kernels: {reason}")]
    Custom {
        /// What is wrong with it, or the compiler's words.
        reason: String,
    },
    /// There is no driver, or no device, to run on.
    #[error("no usable GPU: {reason}\nhint: {hint}")]
    NoDevice {
        /// What is missing.
        reason: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// Work that was captured keeps memory that a graph would allocate, and whoever has it has nothing.
    #[error("captured work kept {kept} of {allocated} allocations of its own")]
    Kept {
        /// Allocations that were not given back.
        kept: usize,
        /// All of them.
        allocated: usize,
    },
    /// The device, or its emulator, failed.
    #[error("{operation}: the device says: {reason}")]
    Device {
        /// Kernel or call.
        operation: String,
        /// The device's words.
        reason: String,
    },
}

/// The result of an operation.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Sizes or types that do not fit each other.
    pub fn shape(operation: &'static str, reason: impl Into<String>) -> Self {
        Self::Shape { operation, reason: reason.into() }
    }

    pub(crate) fn device(operation: impl Into<String>, reason: impl ToString) -> Self {
        Self::Device { operation: operation.into(), reason: reason.to_string() }
    }
}
