//! What a hook may use up.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What one call of one hook may use up. Every call starts afresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Instructions, about one unit each. Deterministic, so meant to be met before the deadline.
    pub fuel: u64,
    /// Wall time of a call, host calls included, to about 20 ms. A single host call, which is
    /// short, is not interrupted.
    pub deadline: Duration,
    /// Linear memory of a hook, all its memories together, in bytes; at least one page of 65,536.
    pub memory_bytes: usize,
    /// Elements of all tables together.
    pub table_elements: usize,
    /// Stack of the guest in bytes. The calling thread needs 256 KiB more than this.
    pub stack_bytes: usize,
    /// Bytes that a hook may pass to the host in one host call or in its answer.
    pub hostcall_bytes: usize,
    /// Host calls in a call.
    pub host_calls: u32,
    /// Bytes of log that are kept; further lines are counted and dropped.
    pub log_bytes: usize,
    /// Size of a component in bytes. Compilation has no limit of its own: its time and memory
    /// grow with this.
    pub file_bytes: u64,
    /// Calls that run at the same time in one host; further ones wait.
    pub concurrent_calls: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Some tenths of a second.
            fuel: 500_000_000,
            deadline: Duration::from_secs(5),
            // One hook at its limit, its report, and the host together stay below 64 MiB.
            memory_bytes: 24 << 20,
            table_elements: 20_000,
            stack_bytes: 512 << 10,
            hostcall_bytes: 4 << 20,
            host_calls: 10_000,
            log_bytes: 64 << 10,
            file_bytes: 4 << 20,
            concurrent_calls: 8,
        }
    }
}

/// What one call used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Units of fuel.
    pub fuel: u64,
    /// Largest linear memory in bytes.
    pub memory_bytes: u64,
    /// Calls to the host.
    pub host_calls: u32,
    /// Wall seconds, instantiation included.
    pub seconds: f64,
    /// Lines of log that were dropped because the budget was used up.
    pub dropped_log_lines: u64,
}
