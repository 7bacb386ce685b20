//! Work that is recorded once and queued again as a whole.
//!
//! A launch costs the host microseconds; a graph of hundreds costs about as much as one. What is
//! recorded are addresses and numbers as they were: memory stays where it is, and a number that is to
//! change has to lie on the device.

use std::any::Any;
use std::fmt;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::machine::Kind;
use crate::{Argument, Counts, Error, Launch, Machine, Result, Type, ViewMut};

/// Work of one machine that was captured.
///
/// Whoever keeps it keeps alive what it reads and writes that was not made while it was captured.
pub struct Graph {
    recorded: Recorded,
    /// What one run of it counts for.
    counts: Counts,
    /// Code of kernels that came as source.
    _kept: Vec<Box<dyn Any + Send>>,
}

enum Recorded {
    #[cfg(feature = "emulator")]
    Emulated(crate::emulator::Recording),
    #[cfg(feature = "cuda")]
    Cuda(crate::device::graph::DeviceGraph),
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Graph({} launches)", self.counts.launches)
    }
}

/// What some work queued, in order: names, sizes and numbers, without addresses. Equal for work that
/// does the same on other memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queued(Vec<(String, u64)>);

impl Queued {
    /// Launches, products, overwritings of memory, and other notes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was queued.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `whole` began with this.
    pub fn is_beginning_of(&self, whole: &Self) -> bool {
        whole.0.starts_with(&self.0)
    }

    /// The first thing in which `other`, queued later, is not the same, for people.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let idx = self.0.iter().zip(&other.0).position(|(a, b)| a != b);
        let idx = idx.or_else(|| {
            let shorter = self.0.len().min(other.0.len());
            (self.0.len() != other.0.len()).then_some(shorter)
        })?;
        let name =
            |queued: &Self| queued.0.get(idx).map_or("nothing".into(), |(name, _)| name.clone());
        let (first, second) = (name(self), name(other));
        Some(if first == second {
            format!(
                "{first}, number {idx} of what is queued, has other sizes or numbers than before"
            )
        } else {
            format!("number {idx} of what is queued is {second} and was {first}")
        })
    }
}

/// Work that is being watched or captured.
#[derive(Default)]
pub(crate) struct Pass {
    is_captured: bool,
    is_silent: bool,
    queued: Queued,
    /// Tables that go to the device once nothing is captured any more: address and bytes.
    later: Vec<(u64, Vec<u8>)>,
    kept: Vec<Box<dyn Any + Send>>,
}

/// A pass that is under way; it ends with this, also when the work panics.
struct OpenPass<'a>(&'a Machine);

impl OpenPass<'_> {
    fn end(self) -> Pass {
        self.0.pass_slot(Option::take).unwrap_or_default()
    }
}

impl Drop for OpenPass<'_> {
    fn drop(&mut self) {
        if let Some(pass) = self.0.pass_slot(Option::take)
            && pass.is_captured
        {
            // Nothing was recorded, or something half.
            let _ = self.0.end_recording();
        }
    }
}

impl Machine {
    /// Does some work, and says what it queued.
    ///
    /// # Errors
    ///
    /// Those of the work, and one when other work is being watched or captured.
    pub fn watch<R, E: From<Error>>(
        &self,
        work: impl FnOnce() -> std::result::Result<R, E>,
    ) -> std::result::Result<(R, Queued), E> {
        let open = self.begin(false)?;
        let result = work();
        Ok((result?, open.end().queued))
    }

    /// Records what some work queues, and does none of it. Says what was queued, also where that failed.
    ///
    /// The work may neither copy from the host nor to it, and must give back all memory that it
    /// allocates. It was done before, so that everything that is loaded or set up once is there.
    ///
    /// # Errors
    ///
    /// Those of the work; when it did what cannot be recorded; and when other work is being watched
    /// or captured. Nothing was done then, though what the work has made stays made: after
    /// [`Error::Kept`] it is of no use to anybody.
    pub fn capture<R, E: From<Error>>(
        &self,
        work: impl FnOnce() -> std::result::Result<R, E>,
    ) -> (Queued, std::result::Result<(R, Graph), E>) {
        let before = self.counts();
        let open = match self.begin(true) {
            Ok(open) => open,
            Err(error) => return (Queued::default(), Err(error.into())),
        };
        if let Err(error) = self.begin_recording() {
            return (Queued::default(), Err(error.into()));
        }
        // Also where it fails: memory that was taken for it is given back then.
        self.1.ran_graph_last.store(true, Ordering::Relaxed);
        let result = work();
        let recorded = self.end_recording();
        let Pass { queued, later, kept, .. } = open.end();
        let counts = self.take_back(before);
        let recorded = match (recorded, result) {
            (Err(error @ Error::Kept { .. }), _) => Err(error.into()),
            // The work's own error says more than the recording's, which follows from it.
            (_, Err(error)) => Err(error),
            (Err(error), Ok(_)) => Err(error.into()),
            (Ok(recorded), Ok(result)) => Ok((recorded, result)),
        };
        let finished = recorded.and_then(|(recorded, result)| {
            self.write_tables(&later)?;
            Ok((result, Graph { recorded, counts, _kept: kept }))
        });
        (queued, finished)
    }

    fn write_tables(&self, tables: &[(u64, Vec<u8>)]) -> Result<()> {
        for (address, bytes) in tables {
            // SAFETY: the table was lent to be written, has so many bytes, and is kept by whoever
            // keeps the graph.
            #[expect(unsafe_code, reason = "a table whose turn has come")]
            let mut view = unsafe { ViewMut::foreign(*address, bytes.len() / 4, Type::U32) };
            self.write_bytes(&mut view, bytes)?;
        }
        Ok(())
    }

    /// Queues everything that was recorded.
    ///
    /// # Errors
    ///
    /// When the device fails, and while other work is being captured.
    pub fn replay(&self, graph: &Graph) -> Result<()> {
        self.refuse_while_capturing("replay")?;
        self.about_to_run(true)?;
        match (&*self.0, &graph.recorded) {
            #[cfg(feature = "emulator")]
            (Kind::Emulated(emulator), Recorded::Emulated(recording)) => {
                emulator.replay(recording)?;
            }
            #[cfg(feature = "cuda")]
            (Kind::Cuda(_), Recorded::Cuda(graph)) => graph.launch()?,
            #[cfg(all(feature = "emulator", feature = "cuda"))]
            _ => return Err(Error::shape("replay", "the graph is another machine's")),
        }
        self.count(graph.counts);
        Ok(())
    }

    /// Whether what is queued is only recorded.
    pub fn is_capturing(&self) -> bool {
        self.pass(|pass| pass.is_some_and(|pass| pass.is_captured))
    }

    /// On the emulator, whose memory is the host's, records something that the host does.
    #[cfg(feature = "emulator")]
    pub fn record_on_host(&self, work: impl Fn() -> Result<()> + Send + 'static) {
        #[cfg_attr(not(feature = "cuda"), expect(irrefutable_let_patterns, reason = "one kind"))]
        if let Kind::Emulated(emulator) = &*self.0 {
            emulator.record_on_host(Box::new(work));
        }
    }

    /// Keeps something for as long as the graph that is being captured.
    #[cfg(feature = "cuda")]
    pub(crate) fn keep_for_graph(&self, kept: impl Any + Send) {
        self.pass(|pass| {
            if let Some(pass) = pass
                && pass.is_captured
            {
                pass.kept.push(Box::new(kept));
            }
        });
    }

    /// An error where the host would have to wait or to be read from.
    pub(crate) fn refuse_while_capturing(&self, operation: &str) -> Result<()> {
        if self.is_capturing() {
            let reason = "work is being captured, which neither waits nor reads the host's memory";
            return Err(Error::device(operation, reason));
        }
        Ok(())
    }

    /// Writes a table that lies where it is for good: later, where work is being captured.
    pub(crate) fn write_table(&self, view: &mut ViewMut<'_>, bytes: &[u8]) -> Result<()> {
        let is_later = self.pass(|pass| match pass {
            Some(pass) if pass.is_captured => {
                pass.later.push((view.address(), bytes.to_vec()));
                true
            }
            _ => false,
        });
        if is_later { Ok(()) } else { self.write_bytes(view, bytes) }
    }

    /// Notes what is queued, where somebody watches.
    pub(crate) fn note(&self, name: impl FnOnce() -> String, numbers: impl FnOnce() -> u64) {
        self.pass(|pass| {
            if let Some(pass) = pass
                && !pass.is_silent
            {
                pass.queued.0.push((name(), numbers()));
            }
        });
    }

    /// Notes something that others have queued, or that what is queued depends on.
    pub fn note_numbers(&self, name: &str, numbers: impl IntoIterator<Item = u64>) {
        self.note(|| name.to_owned(), || digest(numbers));
    }

    /// Queues something that may be there one time and not another.
    pub fn unnoted<R>(&self, queue: impl FnOnce() -> R) -> R {
        let silent = |is_silent| {
            self.pass(|pass| {
                if let Some(pass) = pass {
                    pass.is_silent = is_silent;
                }
            });
        };
        silent(true);
        let result = queue();
        silent(false);
        result
    }

    /// Says that work which has graphs is about to be done without one. What a graph holds of memory for
    /// its next run cannot serve others, nor the reverse: at a change from one to the other the device
    /// is waited for and gives back what is not in use.
    ///
    /// # Errors
    ///
    /// When work queued before has failed.
    pub fn about_to_run_plainly(&self) -> Result<()> {
        self.about_to_run(false)
    }

    fn about_to_run(&self, is_graph: bool) -> Result<()> {
        if self.1.ran_graph_last.swap(is_graph, Ordering::Relaxed) == is_graph {
            return Ok(());
        }
        self.synchronize()?;
        match &*self.0 {
            #[cfg(feature = "emulator")]
            Kind::Emulated(_) => Ok(()),
            #[cfg(feature = "cuda")]
            Kind::Cuda(device) => device.trim(),
        }
    }

    /// Forgets errors that freeing memory of a capture that failed has left.
    pub fn forget_errors(&self) {
        match &*self.0 {
            #[cfg(feature = "emulator")]
            Kind::Emulated(_) => {}
            #[cfg(feature = "cuda")]
            Kind::Cuda(device) => device.forget_errors(),
        }
    }

    fn begin(&self, is_captured: bool) -> Result<OpenPass<'_>> {
        self.pass_slot(|slot| {
            if slot.is_some() {
                return Err(Error::shape("capture", "other work is being watched or captured"));
            }
            *slot = Some(Pass { is_captured, ..Pass::default() });
            Ok(OpenPass(self))
        })
    }

    fn pass<R>(&self, look: impl FnOnce(Option<&mut Pass>) -> R) -> R {
        self.pass_slot(|slot| look(slot.as_mut()))
    }

    fn pass_slot<R>(&self, look: impl FnOnce(&mut Option<Pass>) -> R) -> R {
        look(&mut self.1.pass.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begin_recording(&self) -> Result<()> {
        match &*self.0 {
            #[cfg(feature = "emulator")]
            Kind::Emulated(emulator) => {
                emulator.begin_recording();
                Ok(())
            }
            #[cfg(feature = "cuda")]
            Kind::Cuda(device) => device.begin_capture(),
        }
    }

    fn end_recording(&self) -> Result<Recorded> {
        match &*self.0 {
            #[cfg(feature = "emulator")]
            Kind::Emulated(emulator) => emulator.end_recording().map(Recorded::Emulated),
            #[cfg(feature = "cuda")]
            Kind::Cuda(device) => device.end_capture().map(Recorded::Cuda),
        }
    }
}

/// A number that stands for sizes and numbers of a launch, whatever the addresses.
pub(crate) fn numbers_of(launch: &Launch, arguments: &[Argument]) -> u64 {
    let sizes = launch.grid.iter().chain(&launch.block).chain([&launch.shared_bytes]);
    let sizes = sizes.map(|&size| u64::from(size));
    let numbers = arguments.iter().map(|argument| match argument {
        // Whether there is something, not where.
        Argument::Pointer(address) => u64::from(*address != 0),
        number => number.word(),
    });
    digest(sizes.chain(numbers))
}

/// A number that stands for several (FNV-1a, over words).
pub(crate) fn digest(words: impl IntoIterator<Item = u64>) -> u64 {
    let mix = |digest: u64, word: u64| (digest ^ word).wrapping_mul(0x0000_0100_0000_01b3);
    words.into_iter().fold(0xcbf2_9ce4_8422_2325, mix)
}
