//! The host: one engine for all hooks, and the way from a file to a hook.

use crate::{
    Hook, HookError, Limits,
    cache::{Cache, Key, hex},
    error::Label,
    evidence::Points,
    gate::Gate,
    inspect::inspect,
    manifest::MAX_NAME,
    since_v0_1_0::Adapter,
    text::clean,
};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::Read,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
    component::Component,
};

/// Modules, memories and tables of one component; tools make about three, one and two.
const MAX_CORE_INSTANCES: u32 = 16;
const MAX_MEMORIES: u32 = 2;
const MAX_TABLES: u32 = 8;

/// Most points that are kept as room: 4 MiB.
const MAX_ROOM: usize = 262_144;
/// Places of finished calls that keep what was mapped, each for the hook that was last there.
const MAX_WARM: u32 = 4;
/// Memory of a hook that stays mapped after a call and is zeroed instead; faults cost more.
const RESIDENT_BYTES: usize = 2 << 20;

/// Loads hooks. One host serves any number of hooks and threads.
///
/// Between calls it takes no time: its clock ticks only while a hook runs.
///
/// ```no_run
/// # fn main() -> Result<(), forerunner_verify::HookError> {
/// use forerunner_verify::{HookHost, Limits};
/// let host = HookHost::new(Limits::default(), None)?;
/// let hook = host.load("hooks/loss-check.wasm".as_ref())?;
/// # Ok(()) }
/// ```
///
/// A file that is no hook is refused with its name and the cause:
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use forerunner_verify::{HookHost, Limits};
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("notes.wasm");
/// std::fs::write(&path, "not a hook")?;
/// let host = HookHost::new(Limits::default(), None)?;
/// let error = host.load(&path).err().ok_or("loaded")?;
/// assert_eq!(error.cause(), "not-wasm");
/// assert!(error.to_string().contains("`notes`"));
/// # Ok(()) }
/// ```
pub struct HookHost {
    inner: Arc<Inner>,
}

/// What a host and its hooks share.
pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) limits: Limits,
    pub(crate) gate: Gate,
    cache: Option<Cache>,
    /// Room for series that no call uses now. Asking the system for it anew would cost more than
    /// the copying.
    room: Mutex<Vec<Points>>,
}

impl HookHost {
    /// A host. With `cache_dir`, compiled hooks are kept in that folder, which is created if need
    /// be; loading a hook a second time then takes a fraction of a millisecond.
    ///
    /// # Errors
    /// [`HookError::Host`] when the limits are not possible here, for example for lack of address
    /// space; [`HookError::Cache`] when the folder is not the user's alone.
    pub fn new(limits: Limits, cache_dir: Option<&Path>) -> Result<Self, HookError> {
        let failed = |reason: String| HookError::Host { reason };
        let engine = Engine::new(&config(&limits)).map_err(|error| failed(format!("{error:#}")))?;
        let cache = cache_dir.map(Cache::open).transpose()?;
        let gate = Gate::new(engine.clone(), limits.concurrent_calls)
            .map_err(|error| failed(format!("no thread for its clock: {error}")))?;
        Ok(Self { inner: Arc::new(Inner { engine, limits, gate, cache, room: Mutex::default() }) })
    }

    /// Loads a hook from a component: checks what it is and what it imports, compiles it or takes
    /// it from the cache, and calls its `describe`.
    ///
    /// # Errors
    /// Whatever is wrong with it, in this order: unreadable or too large, not WebAssembly or not a
    /// component, another version of the interface, forbidden imports, another world, too much
    /// memory, invalid, a `describe` that misbehaves or answers nonsense.
    pub fn load(&self, path: &Path) -> Result<Hook, HookError> {
        let label = Label {
            name: path
                .file_stem()
                .map(|stem| clean(&stem.to_string_lossy(), MAX_NAME))
                .unwrap_or_default(),
            version: None,
        };
        let bytes = read(&label, path, self.inner.limits.file_bytes)?;
        inspect(&label, &bytes, &self.inner.limits)?;
        let component = self.inner.component(&label, &bytes)?;
        let adapter = Adapter::link(&self.inner.engine, &component).map_err(|error| {
            let reason = clean(&format!("{error:#}"), 300);
            HookError::WrongWorld { hook: label.clone(), reason }
        })?;
        let digest = hex(&Sha256::digest(&bytes));
        Hook::describe(Arc::clone(&self.inner), adapter, digest, label)
    }

    /// What its hooks may use up.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }
}

impl Inner {
    /// Room for the series of one call.
    pub(crate) fn take_room(&self) -> Points {
        self.room.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Keeps room for later calls, unless it is much.
    pub(crate) fn give_room(&self, points: Points) {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        if points.capacity() <= MAX_ROOM && room.len() < self.limits.concurrent_calls {
            room.push(points);
        }
    }

    fn component(&self, label: &Label, bytes: &[u8]) -> Result<Component, HookError> {
        let key = Key::new(&self.engine, bytes);
        let cached = self.cache.as_ref().and_then(|cache| cache.load(&self.engine, &key));
        if let Some(component) = cached {
            return Ok(component);
        }
        let component = Component::from_binary(&self.engine, bytes).map_err(|error| {
            let reason = clean(&format!("{error:#}"), 300);
            HookError::NotCompiled { hook: label.clone(), reason }
        })?;
        if let Some(cache) = &self.cache
            && let Ok(image) = component.serialize()
        {
            // The next one compiles again, that is all.
            let _ = cache.store(&key, &image);
        }
        Ok(component)
    }
}

fn read(label: &Label, path: &Path, limit: u64) -> Result<Vec<u8>, HookError> {
    let failed =
        |source| HookError::Unreadable { hook: label.clone(), path: path.to_owned(), source };
    // Whatever else a path leads to could block for ever.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(failed(std::io::Error::other("not a regular file")));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(HookError::TooLarge { hook: label.clone(), limit });
    }
    Ok(bytes)
}

fn config(limits: &Limits) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(limits.stack_bytes)
        // The same numbers on every machine. Only the bits of a NaN may differ between kinds of
        // processors; making them equal would slow down every sum, and no report may have a NaN.
        .wasm_relaxed_simd(false)
        .wasm_backtrace_max_frames(None);
    let n_calls = u32::try_from(limits.concurrent_calls.clamp(1, 1_000)).unwrap_or(1);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(n_calls)
        .total_core_instances(n_calls * MAX_CORE_INSTANCES)
        .total_memories(n_calls * MAX_MEMORIES)
        .total_tables(n_calls * MAX_TABLES)
        .max_core_instances_per_component(MAX_CORE_INSTANCES)
        .max_memories_per_component(MAX_MEMORIES)
        .max_tables_per_component(MAX_TABLES)
        .max_memory_size(limits.memory_bytes)
        .linear_memory_keep_resident(RESIDENT_BYTES)
        .max_unused_warm_slots(MAX_WARM)
        // Zero only what was written, where the kernel can tell.
        .pagemap_scan(Enabled::Auto)
        .table_elements(limits.table_elements);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}
