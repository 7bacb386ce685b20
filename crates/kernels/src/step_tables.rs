//! What a launch over many tensors reads of them: tables on the device.

use crate::graph::digest;
use crate::launch::args;
use crate::{Buffer, Error, Launch, Machine, Result, Type, View, ViewMut};

/// Threads of a block, and values that it works on; as `cuda/step_tables.cuh` has them.
pub(crate) const THREADS: u32 = 256;
const CHUNK: usize = 4096;
/// Bits of an entry's flags.
const BF16_GRADIENT: u64 = 1;
const WIDE: u64 = 2;
/// 32-bit words of an entry, of the numbers of a step, and of a range.
const ENTRY: usize = 16;
const SETTINGS: usize = 8;
const RANGE: usize = 4;

/// Tables that an optimizer's step leaves on the device for the next one, to be kept with its state.
///
/// One holds addresses and sizes of the tensors, and is written only when one of these changed; the
/// other, 32 bytes a tensor, holds learning rates, bias corrections and the like, and is written in
/// every step that changes one. Both stay where they are while the tensors keep their number and
/// sizes.
///
/// A step that is captured wants tables of its own, [`StepTables::like`] those that it used before:
/// addresses of a graph's memory are not those of the same work outside it.
#[derive(Debug, Default)]
pub struct StepTables {
    tables: Vec<Table>,
}

#[derive(Debug, Default)]
struct Table {
    tensors: Kept,
    settings: Kept,
}

/// Words on the device, and what they are.
#[derive(Debug, Default)]
struct Kept {
    words: Vec<u32>,
    buffer: Option<Buffer>,
}

/// One tensor of a step, or one of several matrices in it. All memory that is not the gradient's is
/// written, and lent to the step by `ViewMut`s.
pub(crate) struct Entry<'a> {
    pub(crate) parameter: View<'a>,
    pub(crate) gradient: View<'a>,
    pub(crate) first: View<'a>,
    pub(crate) second: Option<View<'a>>,
    pub(crate) shadow: Option<View<'a>>,
    /// Where Muon keeps the matrix' update, in values.
    pub(crate) offset: usize,
}

/// Numbers of a step that lie on the device, so that one that was captured can change them.
#[derive(Clone, Copy, Debug)]
pub struct Schedule<'a> {
    /// Factor on every learning rate; one f32.
    pub rate: View<'a>,
    /// Number of the step, counted from 1, in the place of the settings'; one f32, a whole number.
    pub step: View<'a>,
}

/// The tables of one launch, before they are on the device.
#[derive(Debug, Default)]
pub(crate) struct Description {
    entries: Vec<u32>,
    /// The first block of each entry.
    first_blocks: Vec<u32>,
    /// Blocks, from and to before, and the row of the sums, of each tensor.
    ranges: Vec<u32>,
    settings: Vec<u32>,
    n_blocks: u32,
}

/// The tables of one launch, on the device.
pub(crate) struct Written<'a> {
    pub(crate) entries: View<'a>,
    pub(crate) first_blocks: View<'a>,
    pub(crate) n_entries: u32,
    base: View<'a>,
    /// Where the schedule has written the settings.
    scheduled: Option<Buffer>,
    pub(crate) n_blocks: usize,
    ranges: View<'a>,
}

impl Entry<'_> {
    /// An error unless everything has a value for each of the parameter's; `name` is the tensor's.
    pub(crate) fn check(&self, operation: &'static str, name: &str) -> Result<()> {
        let count = self.parameter.len();
        let has = |view: &View<'_>, what: &str, type_| {
            view.expect(operation, &format!("{what} of {name}"), type_, count)
        };
        has(&self.parameter, "parameter", Type::F32)?;
        has(
            &self.gradient,
            "gradient",
            if self.gradient.type_() == Type::Bf16 { Type::Bf16 } else { Type::F32 },
        )?;
        has(&self.first, "first moment", Type::F32)?;
        if let Some(second) = &self.second {
            has(second, "second moment", Type::F32)?;
        }
        if let Some(shadow) = &self.shadow {
            has(shadow, "shadow", Type::Bf16)?;
        }
        if u32::try_from(count).is_err() {
            let reason = format!("{name} has {count} values, more than {}", u32::MAX);
            return Err(Error::shape(operation, reason));
        }
        Ok(())
    }

    fn words(&self) -> [u64; ENTRY / 2] {
        let Self { parameter, gradient, first, second, shadow, offset } = self;
        let views =
            [Some(parameter), Some(gradient), Some(first), second.as_ref(), shadow.as_ref()];
        let mut flags = 0;
        if gradient.type_() == Type::Bf16 {
            flags |= BF16_GRADIENT;
        }
        if offset.is_multiple_of(8) && views.iter().flatten().all(|view| view.is_aligned()) {
            flags |= WIDE;
        }
        let [parameter, gradient, first, second, shadow] =
            views.map(|view| view.map_or(0, View::address));
        let count = self.parameter.len() as u64;
        [parameter, gradient, first, second, shadow, count, flags, *offset as u64]
    }
}

impl Description {
    pub(crate) fn push(&mut self, entry: &Entry<'_>, settings: [u32; SETTINGS]) {
        for word in entry.words() {
            self.entries.extend([word as u32, (word >> 32) as u32]);
        }
        self.settings.extend(settings);
        self.first_blocks.push(self.n_blocks);
        let n_blocks = entry.parameter.len().div_ceil(CHUNK) as u32;
        self.n_blocks = self.n_blocks.saturating_add(n_blocks);
    }

    /// The last `n_entries` were all of a tensor, whose sums go to a row.
    pub(crate) fn end_tensor(&mut self, n_entries: usize, row: usize) {
        let first = self.first_blocks[self.first_blocks.len() - n_entries];
        self.ranges.extend([first, self.n_blocks, row as u32, 0]);
    }
}

impl StepTables {
    /// No tables yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tables of the same sizes that nothing was written to yet.
    ///
    /// # Errors
    ///
    /// When the device has no memory left.
    pub fn like(machine: &Machine, other: &Self) -> Result<Self> {
        let kept = |kept: &Kept| {
            let buffer = machine.zeros(Type::U32, kept.words.len())?;
            Ok(Kept { words: vec![0; kept.words.len()], buffer: Some(buffer) })
        };
        let table = |table: &Table| {
            Ok(Table { tensors: kept(&table.tensors)?, settings: kept(&table.settings)? })
        };
        Ok(Self { tables: other.tables.iter().map(table).collect::<Result<_>>()? })
    }

    /// Brings words that a launch over many tensors reads up to date.
    pub(crate) fn write_words(&mut self, machine: &Machine, words: Vec<u32>) -> Result<View<'_>> {
        if self.tables.is_empty() {
            self.tables.push(Table::default());
        }
        self.tables[0].tensors.write(machine, words)
    }

    /// Brings the table of one launch up to date; `corrects` says whether settings hold corrections
    /// that depend on the step's number.
    pub(crate) fn write(
        &mut self,
        machine: &Machine,
        idx: usize,
        description: &Description,
        schedule: Option<(&Schedule<'_>, bool)>,
    ) -> Result<Written<'_>> {
        let Description { entries, first_blocks, ranges, settings, n_blocks } = description;
        let n_entries = first_blocks.len();
        let mut words = entries.clone();
        words.extend(first_blocks);
        words.push(*n_blocks);
        // Ranges are read four words at a time.
        words.resize(words.len().next_multiple_of(RANGE), 0);
        let n_words = words.len();
        words.extend(ranges);
        if self.tables.len() <= idx {
            self.tables.resize_with(idx + 1, Table::default);
        }
        // They hold no addresses: what changes here changes the step.
        machine.note(|| "settings".into(), || digest(settings.iter().map(|&word| u64::from(word))));
        let table = &mut self.tables[idx];
        let tensors = table.tensors.write(machine, words)?;
        let base = table.settings.write(machine, settings.clone())?;
        let scheduled = schedule
            .map(|(schedule, corrects)| schedule.apply(machine, &base, corrects))
            .transpose()?;
        Ok(Written {
            entries: tensors.part(0..entries.len()),
            first_blocks: tensors.part(entries.len()..entries.len() + n_entries + 1),
            n_entries: n_entries as u32,
            base,
            scheduled,
            n_blocks: *n_blocks as usize,
            ranges: tensors.part(n_words..tensors.len()),
        })
    }
}

impl Kept {
    fn write(&mut self, machine: &Machine, words: Vec<u32>) -> Result<View<'_>> {
        let same_size = self.words.len() == words.len();
        let buffer = match self.buffer.take() {
            Some(buffer) if same_size && self.words == words => buffer,
            Some(mut buffer) if same_size => {
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
                machine.write_table(&mut buffer.view_mut(), &bytes)?;
                buffer
            }
            _ => machine.upload_u32(&words)?,
        };
        self.words = words;
        Ok(self.buffer.insert(buffer).view())
    }
}

impl Schedule<'_> {
    /// Settings for this step.
    fn apply(&self, machine: &Machine, base: &View<'_>, corrects: bool) -> Result<Buffer> {
        const NAME: &str = "optimizer_schedule";
        self.rate.expect(NAME, "rate", Type::F32, 1)?;
        self.step.expect(NAME, "step", Type::F32, 1)?;
        let n_entries = base.len() / SETTINGS;
        let mut settings = machine.scratch(Type::U32, base.len())?;
        let launch = Launch::line(NAME, n_entries.div_ceil(THREADS as usize), THREADS);
        // SAFETY: both tables have so many entries; rate and step are one number each.
        #[expect(unsafe_code, reason = "a launch")]
        unsafe {
            let (n_entries, corrects) = (n_entries as u32, u32::from(corrects));
            let to = settings.view_mut();
            let args = args![base, &to, n_entries, &self.rate, &self.step, corrects];
            machine.launch(&launch, args)?;
        }
        Ok(settings)
    }
}

impl Written<'_> {
    /// The numbers of this step.
    pub(crate) fn settings(&self) -> View<'_> {
        self.scheduled.as_ref().map_or(self.base, Buffer::view)
    }

    /// Room for each block's share of the sums, where sums are wanted.
    pub(crate) fn shares(&self, machine: &Machine, wanted: bool) -> Result<Option<Buffer>> {
        wanted.then(|| machine.scratch(Type::F32, 3 * self.n_blocks)).transpose()
    }

    pub(crate) fn launch(&self, kernel: &'static str) -> Launch {
        Launch::line(kernel, self.n_blocks, THREADS)
    }

    /// Adds the blocks' shares up, where there are any.
    pub(crate) fn sum(
        &self,
        machine: &Machine,
        shares: Option<&Buffer>,
        sums: Option<&mut ViewMut<'_>>,
    ) -> Result<()> {
        let (Some(shares), Some(sums)) = (shares, sums) else { return Ok(()) };
        let launch = Launch::line("optimizer_sums", self.ranges.len() / RANGE, THREADS);
        // SAFETY: ranges lie within the blocks, for each of which there are three shares; rows were
        // counted by whoever checked the length of `sums`.
        #[expect(unsafe_code, reason = "a launch")]
        unsafe {
            machine.launch(&launch, args![&self.ranges, &shares.view(), &*sums])
        }
    }
}

/// An error unless `scale` is one number, and there is room for three sums of each tensor.
pub(crate) fn check_common(
    operation: &'static str,
    n_tensors: usize,
    scale: &View<'_>,
    sums: Option<&ViewMut<'_>>,
) -> Result<()> {
    scale.expect(operation, "scale", Type::F32, 1)?;
    sums.map_or(Ok(()), |sums| sums.expect(operation, "sums", Type::F32, 3 * n_tensors))
}
