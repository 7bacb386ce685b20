//! What one call of a hook carries along: its evidence, its log, and what it has used.

use crate::{Level, Limits, LogLine, evidence::Evidence, report::MAX_MESSAGE_BYTES, text::clean};
use wasmtime::ResourceLimiter;

/// Why the host ended a call. Travels through the engine as an error and is recognised again by
/// its type.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Overrun {
    #[error("{0} bytes of memory")]
    Memory(usize),
    #[error("{0} table elements")]
    Table(usize),
    #[error("too many host calls")]
    Calls,
}

/// The data of one call.
pub(crate) struct State {
    pub(crate) evidence: Evidence,
    pub(crate) log: Vec<LogLine>,
    pub(crate) n_dropped_lines: u64,
    pub(crate) n_host_calls: u32,
    pub(crate) peak_memory: usize,
    log_bytes_left: usize,
    memory: usize,
    table_elements: usize,
    limits: Limits,
}

impl State {
    pub(crate) fn new(limits: Limits, evidence: Evidence) -> Self {
        Self {
            evidence,
            log: Vec::new(),
            n_dropped_lines: 0,
            n_host_calls: 0,
            peak_memory: 0,
            log_bytes_left: limits.log_bytes,
            memory: 0,
            table_elements: 0,
            limits,
        }
    }

    /// Counts a host call.
    pub(crate) fn begin_host_call(&mut self) -> wasmtime::Result<()> {
        if self.n_host_calls >= self.limits.host_calls {
            return Err(Overrun::Calls.into());
        }
        self.n_host_calls += 1;
        Ok(())
    }

    /// Keeps a line of log as long as there is room.
    pub(crate) fn keep_line(&mut self, level: Level, message: &str) {
        let message = clean(message, MAX_MESSAGE_BYTES);
        // An empty line takes room too.
        match self.log_bytes_left.checked_sub(message.len() + 1) {
            Some(left) => {
                self.log_bytes_left = left;
                self.log.push(LogLine { level, message });
            }
            None => {
                self.log_bytes_left = 0;
                self.n_dropped_lines += 1;
            }
        }
    }
}

impl ResourceLimiter for State {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.memory.saturating_sub(current).saturating_add(desired);
        if total > self.limits.memory_bytes {
            return Err(Overrun::Memory(total).into());
        }
        // A maximum below ours is the hook's own, and its business.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.memory = total;
        self.peak_memory = self.peak_memory.max(total);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(error)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.table_elements.saturating_sub(current).saturating_add(desired);
        if total > self.limits.table_elements {
            return Err(Overrun::Table(total).into());
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.table_elements = total;
        Ok(true)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(error)
    }
}
