//! Work that is the same in every step, captured as a graph.
//!
//! Three passes: the work is done once and watched, then recorded, then replayed as often as is
//! wanted. Memory that the work allocates is the graph's own; every tensor from outside that it reads
//! or writes is kept alive with the graph. What a graph reads of the host is gone when it is
//! replayed, so tables of addresses are kept per graph, and nothing else may be copied up.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt::Display;
use std::result::Result;

use candle_core::{Error, Shape, Tensor, bail};
use forerunner_kernels::{Graph, Queued, StepTables};

use super::memory::{dense, empty, filled, storage_address, view, view_mut, wrapped};
use super::{Place, Traced, place};

/// Work that was done once, with what it needs to be recorded.
#[derive(Debug)]
pub struct Watched {
    queued: Queued,
    touched: Vec<u64>,
    tables: Vec<StepTables>,
}

/// Recorded work.
#[derive(Debug)]
pub struct Captured {
    graph: Graph,
    place: Place,
    /// Parameters that the graph writes and that had no copy in bf16 then.
    unrounded: Vec<Traced>,
    // What the graph reads and writes.
    _tensors: Vec<Tensor>,
    _tables: Vec<StepTables>,
}

/// Why work was not recorded.
#[derive(Debug)]
pub enum NotCaptured<E> {
    /// The work failed, or did what cannot be recorded. It can be done as ever.
    Refused(E),
    /// The work is not the same as it was, or keeps memory that would have been the graph's: what it keeps
    /// is not to be trusted any more.
    Broken(String),
}

/// The pass that this thread is in.
#[derive(Default)]
struct Pass {
    is_captured: bool,
    /// Whether what is touched may be touched one time and not another.
    is_silent: bool,
    /// Tables of optimizers' and of other steps over many tensors, in order of use.
    tables: Vec<StepTables>,
    used: usize,
    /// Where memory lies that was made in this pass.
    made: HashSet<u64>,
    /// Where tensors begin that are read or written, in memory, or, where that was made in this pass, in
    /// their own; and their strides.
    touched: Vec<u64>,
    kept: Vec<Tensor>,
    unrounded: Vec<Traced>,
}

thread_local! {
    static PASS: RefCell<Option<Pass>> = const { RefCell::new(None) };
}

/// A pass that is under way; it ends with this, also when the work fails.
struct OpenPass;

impl OpenPass {
    fn begin(pass: Pass) -> candle_core::Result<Self> {
        if is_in_pass() {
            bail!("captured work inside captured work");
        }
        PASS.with_borrow_mut(|slot| *slot = Some(pass));
        Ok(Self)
    }

    fn end(self) -> Pass {
        PASS.with_borrow_mut(Option::take).unwrap_or_default()
    }
}

impl Drop for OpenPass {
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
        let open = OpenPass::begin(Pass::default())?;
        let (result, queued) = watched(&place, work)?;
        let Pass { tables, touched, .. } = open.end();
        Ok((result, Self { queued, touched, tables }))
    }

    /// Records the work, and does not do it.
    ///
    /// # Errors
    ///
    /// When the work fails, does something else than it did, with other numbers or on other memory too,
    /// keeps what it made, or does what the device cannot record.
    pub fn capture<R, E: From<Error> + Display>(
        &self,
        work: impl FnOnce() -> Result<R, E>,
    ) -> Result<(R, Captured), NotCaptured<E>> {
        let refused = |error: Error| NotCaptured::Refused(error.into());
        let place = place().map_err(refused)?;
        let _cache = candle_cache(&place).map_err(refused)?;
        let like = |tables| StepTables::like(&place.machine, tables).map_err(wrapped);
        let tables = self.tables.iter().map(like).collect::<candle_core::Result<_>>();
        let tables = tables.map_err(refused)?;
        let pass = Pass { is_captured: true, tables, ..Pass::default() };
        let open = OpenPass::begin(pass).map_err(refused)?;
        let (queued, result) = captured(&place, work);
        let (touched, result) = match result {
            Ok((result, graph)) => {
                let Pass { tables, kept, touched, unrounded, .. } = open.end();
                let (_tensors, _tables) = (kept, tables);
                let captured = Captured { graph, place, unrounded, _tensors, _tables };
                (touched, Ok((result, captured)))
            }
            Err(error) => {
                // What was kept of a graph that is none goes back to nobody.
                let touched = open.end().touched;
                place.machine.forget_errors();
                (touched, Err(error))
            }
        };
        match result {
            Err(NotCaptured::Refused(error)) if !self.begins_with(&queued, &touched) => {
                let error = error.to_string();
                let error = error.lines().next().unwrap_or_default();
                let reason = format!("it does not do the same every time, and failed: {error}");
                Err(NotCaptured::Broken(reason))
            }
            Err(error) => Err(error),
            Ok(done) => match self.difference(&queued, &touched) {
                Some(difference) => {
                    let reason = format!("it does not do the same every time: {difference}");
                    Err(NotCaptured::Broken(reason))
                }
                None => Ok(done),
            },
        }
    }

    fn begins_with(&self, queued: &Queued, touched: &[u64]) -> bool {
        queued.is_beginning_of(&self.queued) && self.touched.starts_with(touched)
    }

    fn difference(&self, queued: &Queued, touched: &[u64]) -> Option<String> {
        let other_memory =
            || (self.touched != touched).then(|| "it reads or writes other memory".to_owned());
        self.queued.difference(queued).or_else(other_memory)
    }
}

impl Captured {
    /// Does what was recorded.
    ///
    /// # Errors
    ///
    /// When the device fails.
    pub fn replay(&self) -> candle_core::Result<()> {
        self.place.machine.replay(&self.graph).map_err(wrapped)?;
        // Somebody else may have wanted a copy since.
        self.unrounded.iter().try_for_each(Traced::changed)
    }
}

/// Errors of the kernels' machine and of the work.
enum Either<E> {
    Machine(forerunner_kernels::Error),
    Work(E),
}

impl<E> From<forerunner_kernels::Error> for Either<E> {
    fn from(error: forerunner_kernels::Error) -> Self {
        Self::Machine(error)
    }
}

fn watched<R, E: From<Error>>(
    place: &Place,
    work: impl FnOnce() -> Result<R, E>,
) -> Result<(R, Queued), E> {
    place.machine.watch(|| work().map_err(Either::Work)).map_err(|error| match error {
        Either::Machine(error) => wrapped(error).into(),
        Either::Work(error) => error,
    })
}

fn captured<R, E: From<Error>>(
    place: &Place,
    work: impl FnOnce() -> Result<R, E>,
) -> (Queued, Result<(R, Graph), NotCaptured<E>>) {
    let (queued, result) = place.machine.capture(|| work().map_err(Either::Work));
    let result = result.map_err(|error| match error {
        Either::Machine(error @ forerunner_kernels::Error::Kept { .. }) => {
            NotCaptured::Broken(error.to_string())
        }
        Either::Machine(error) => NotCaptured::Refused(wrapped(error).into()),
        Either::Work(error) => NotCaptured::Refused(error),
    });
    (queued, result)
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

/// Says that work that may have a graph is about to be done without it.
///
/// # Errors
///
/// When the device fails.
pub fn about_to_run_plainly() -> candle_core::Result<()> {
    place()?.machine.about_to_run_plainly().map_err(wrapped)
}

/// Whether this thread's work is being watched or recorded.
pub fn is_in_pass() -> bool {
    PASS.with_borrow(Option::is_some)
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
        let Some(pass) = pass else { return };
        if let Ok(address) = storage_address(tensor) {
            pass.made.insert(address);
        }
        // The emulator's memory is the host's, and would be others' when the graph runs.
        if pass.is_captured && tensor.device().is_cpu() {
            pass.kept.push(tensor.clone());
        }
    });
}

/// Takes note of a tensor that is read or written: kept for the graph, unless it is the graph's own.
pub(super) fn used(tensor: &Tensor) {
    PASS.with_borrow_mut(|pass| {
        let Some(pass) = pass else { return };
        let Ok(address) = storage_address(tensor) else { return };
        let layout = tensor.layout();
        let start = (layout.start_offset() * tensor.dtype().size_in_bytes()) as u64;
        let is_made = pass.made.contains(&address);
        if !pass.is_silent {
            pass.touched.push(if is_made { start } else { address + start });
            pass.touched.extend(layout.stride().iter().map(|&stride| stride as u64));
        }
        if pass.is_captured && !is_made {
            pass.kept.push(tensor.clone());
        }
    });
}

/// Takes note of numbers that what is queued depends on and that no launch of ours shows.
pub fn note_numbers(name: &str, numbers: impl IntoIterator<Item = u64>) {
    if is_in_pass()
        && let Ok(place) = place()
    {
        place.machine.note_numbers(name, numbers);
    }
}

/// Queues something that may be there one time and not another, as far as the program is concerned.
pub(super) fn unnoted<R>(place: &Place, queue: impl FnOnce() -> R) -> R {
    let silent = |is_silent| {
        PASS.with_borrow_mut(|pass| {
            if let Some(pass) = pass {
                pass.is_silent = is_silent;
            }
        });
    };
    silent(true);
    let result = place.machine.unnoted(queue);
    silent(false);
    result
}

/// Has a parameter's copy, should it get one, brought up to date after each replay.
pub(super) fn round_later(parameter: &Traced) {
    PASS.with_borrow_mut(|pass| {
        if let Some(pass) = pass.as_mut().filter(|pass| pass.is_captured) {
            pass.unrounded.push(parameter.clone());
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
        bail!("{operation} needs the host, and cannot be captured");
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
