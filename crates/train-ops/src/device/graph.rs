//! Work that is the same in every step, captured as a graph.
//!
//! Three passes: the work is done once and watched, then recorded, then replayed as often as is
//! wanted. Memory that the work allocates is the graph's own; every tensor from outside that it reads
//! or writes is kept alive with the graph. What a graph reads of the host is gone when it is
//! replayed, so tables of addresses are kept per graph, and nothing else may be copied up.

use std::cell::RefCell;
use std::collections::HashSet;
use std::result::Result;

use candle_core::{Error, Shape, Tensor, bail};
use forerunner_kernels::{Graph, Queued, StepTables};

use super::memory::{dense, empty, filled, storage_address, view, view_mut, wrapped};
use super::{Place, place};

/// Work that was done once, with what it needs to be recorded.
#[derive(Debug)]
pub struct Watched {
    queued: Queued,
    tables: Vec<StepTables>,
}

/// Recorded work.
#[derive(Debug)]
pub struct Captured {
    graph: Graph,
    place: Place,
    // What the graph reads and writes.
    _tensors: Vec<Tensor>,
    _tables: Vec<StepTables>,
}

/// The pass that this thread is in.
#[derive(Default)]
struct Pass {
    is_captured: bool,
    /// Tables of optimizers' and of other steps over many tensors, in order of use.
    tables: Vec<StepTables>,
    used: usize,
    /// Where memory lies that was made in this pass.
    made: HashSet<u64>,
    kept: Vec<Tensor>,
}

thread_local! {
    static PASS: RefCell<Option<Pass>> = const { RefCell::new(None) };
}

/// Ends a pass, also when it fails.
struct Under;

impl Under {
    fn begin(pass: Pass) -> Self {
        PASS.with_borrow_mut(|slot| *slot = Some(pass));
        Self
    }

    fn end(self) -> Pass {
        PASS.with_borrow_mut(Option::take).unwrap_or_default()
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        PASS.with_borrow_mut(|slot| *slot = None);
    }
}

impl Watched {
    /// Does the work as ever, and watches it.
    ///
    /// # Errors
    ///
    /// Those of the work, and one inside other work that is watched or captured.
    pub fn new<R, E: From<Error>>(work: impl FnOnce() -> Result<R, E>) -> Result<(R, Self), E> {
        let place = place()?;
        let _cache = candle_cache(&place)?;
        let under = Under::begin(Pass::default());
        let (result, queued) = watched(&place, work)?;
        Ok((result, Self { queued, tables: under.end().tables }))
    }

    /// Records the work, and does not do it: `Err` inside `Ok` says in what the work is not the same as
    /// it was.
    ///
    /// # Errors
    ///
    /// Those of the work, and when the device cannot record what it does. What the work has changed of
    /// the program's own stays changed.
    pub fn capture<R, E: From<Error>>(
        &self,
        work: impl FnOnce() -> Result<R, E>,
    ) -> Result<Result<(R, Captured), String>, E> {
        let place = place()?;
        let _cache = candle_cache(&place)?;
        let like = |tables| StepTables::like(&place.machine, tables).map_err(wrapped);
        let tables = self.tables.iter().map(like).collect::<candle_core::Result<_>>()?;
        let under = Under::begin(Pass { is_captured: true, tables, ..Pass::default() });
        let (result, queued, graph) = captured(&place, work)?;
        let Pass { tables, kept, .. } = under.end();
        if let Some(difference) = self.queued.difference(&queued) {
            return Ok(Err(difference));
        }
        Ok(Ok((result, Captured { graph, place, _tensors: kept, _tables: tables })))
    }
}

impl Captured {
    /// Does what was recorded.
    ///
    /// # Errors
    ///
    /// When the device fails.
    pub fn replay(&self) -> candle_core::Result<()> {
        self.place.machine.replay(&self.graph).map_err(wrapped)
    }
}

/// Errors of the kernels' machine and of the work, as the work's.
struct Either<E>(E);

impl<E: From<Error>> From<forerunner_kernels::Error> for Either<E> {
    fn from(error: forerunner_kernels::Error) -> Self {
        Self(wrapped(error).into())
    }
}

fn watched<R, E: From<Error>>(
    place: &Place,
    work: impl FnOnce() -> Result<R, E>,
) -> Result<(R, Queued), E> {
    place.machine.watch(|| work().map_err(Either)).map_err(|error: Either<E>| error.0)
}

fn captured<R, E: From<Error>>(
    place: &Place,
    work: impl FnOnce() -> Result<R, E>,
) -> Result<(R, Queued, Graph), E> {
    place.machine.capture(|| work().map_err(Either)).map_err(|error: Either<E>| error.0)
}

/// Candle keeps what its kernels read of the host while this lives, and refuses what it has not kept
/// where work is captured.
#[cfg(feature = "cuda")]
fn candle_cache(place: &Place) -> candle_core::Result<Option<impl Sized + use<>>> {
    if place.device.is_cpu() {
        return Ok(None);
    }
    Ok(Some(place.device.as_cuda_device()?.enable_cuda_graph_htod_cache()))
}

#[cfg(not(feature = "cuda"))]
#[expect(clippy::unnecessary_wraps, reason = "as on a device")]
fn candle_cache(_place: &Place) -> candle_core::Result<Option<()>> {
    Ok(None)
}

/// Whether this thread's work is being recorded.
pub fn is_capturing() -> bool {
    PASS.with_borrow(|pass| pass.as_ref().is_some_and(|pass| pass.is_captured))
}

/// Lends the next tables of the pass that this thread is in, if it is in one.
pub(super) fn with_tables<R>(use_them: impl FnOnce(Option<&mut StepTables>) -> R) -> R {
    // Taken out, because kernels may come back here.
    let tables = PASS.with_borrow_mut(|pass| {
        let pass = pass.as_mut()?;
        if pass.used == pass.tables.len() {
            pass.tables.push(StepTables::new());
        }
        pass.used += 1;
        Some(std::mem::take(&mut pass.tables[pass.used - 1]))
    });
    let Some(mut tables) = tables else { return use_them(None) };
    let result = use_them(Some(&mut tables));
    PASS.with_borrow_mut(|pass| {
        if let Some(pass) = pass {
            pass.tables[pass.used - 1] = tables;
        }
    });
    result
}

/// Takes note of a tensor that was made in this pass.
pub(super) fn made(tensor: &Tensor) {
    PASS.with_borrow_mut(|pass| {
        let Some(pass) = pass.as_mut().filter(|pass| pass.is_captured) else { return };
        if let Ok(address) = storage_address(tensor) {
            pass.made.insert(address);
        }
        // The emulator's memory is the host's, and would be others' when the graph runs.
        if tensor.device().is_cpu() {
            pass.kept.push(tensor.clone());
        }
    });
}

/// Takes note of a tensor that is read or written: kept for the graph, unless it is the graph's own.
pub(super) fn used(tensor: &Tensor) {
    PASS.with_borrow_mut(|pass| {
        let Some(pass) = pass.as_mut().filter(|pass| pass.is_captured) else { return };
        if storage_address(tensor).is_ok_and(|address| !pass.made.contains(&address)) {
            pass.kept.push(tensor.clone());
        }
    });
}

/// An error while work is being recorded, for what reads values on the host.
///
/// # Errors
///
/// While work is being recorded.
pub fn refuse_while_capturing(operation: &str) -> candle_core::Result<()> {
    if is_capturing() {
        bail!("{operation} reads what the device has, for which captured work does not wait");
    }
    Ok(())
}

/// A new tensor on this thread's device with the same values, row by row.
///
/// # Errors
///
/// When the device has no memory left.
pub fn copy_of(tensor: &Tensor) -> candle_core::Result<Tensor> {
    let copy = empty(&place()?, tensor.shape(), tensor.dtype())?;
    copy_to(&copy, tensor)?;
    Ok(copy)
}

/// Overwrites a tensor's values in place.
///
/// # Errors
///
/// When shapes or types differ.
pub fn copy_to(to: &Tensor, from: &Tensor) -> candle_core::Result<()> {
    if to.dims() != from.dims() {
        bail!("values of shape {:?} do not fit {:?}", from.shape(), to.shape());
    }
    let from = dense(from)?;
    place()?.machine.copy(&mut view_mut(to)?, &view(&from)?).map_err(wrapped)
}

/// A new tensor of f32 on this thread's device, with one value everywhere.
///
/// # Errors
///
/// When the device has no memory left.
pub fn full(shape: impl Into<Shape>, value: f64) -> candle_core::Result<Tensor> {
    filled(&place()?, shape, value as f32)
}
