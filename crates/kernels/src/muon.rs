//! Steps of Muon on any number of matrices at once: momentum, made orthogonal.

use crate::launch::args;
use crate::newton_schulz::{Batch, orthogonalize};
use crate::optimizer::{bits, kept_share};
use crate::step_tables::{Description, Entry, check_common};
use crate::{Buffer, Error, Machine, Result, Schedule, StepTables, Type, View, ViewMut};

const NAME: &str = "muon";

/// The settings of one Muon step (Jordan et al. 2024, <https://kellerjordan.github.io/posts/muon>).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MuonSettings<'a> {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay of the running mean of gradients, `m = μ m + (1 - μ) g`.
    pub momentum: f64,
    /// Whether the update is `μ m + (1 - μ) g`, with the new `m`, rather than `m`.
    pub nesterov: bool,
    /// Share of the parameter taken away, per unit of learning rate.
    pub weight_decay: f64,
    /// The coefficients of `s`, `s³` and `s⁵` in each Newton-Schulz iteration; five are usual.
    pub iterations: &'a [[f64; 3]],
    /// Equal blocks of rows that are made orthogonal each by itself: 3 for queries, keys and values
    /// in one matrix, otherwise 1.
    pub parts: usize,
}

/// One matrix of [`muon`], `[rows, columns]`. All parts have that many values.
#[derive(Debug)]
pub struct MuonTensor<'a> {
    /// The parameter, f32.
    pub parameter: ViewMut<'a>,
    /// Its gradient, f32 or bf16.
    pub gradient: View<'a>,
    /// Running mean of the gradient, f32; zeros before the first step.
    pub momentum: ViewMut<'a>,
    /// Where the new parameter goes, rounded to bf16.
    pub shadow: Option<ViewMut<'a>>,
    /// Outputs of the layer.
    pub rows: usize,
    /// Inputs of the layer.
    pub columns: usize,
    /// The numbers of this step.
    pub settings: MuonSettings<'a>,
}

/// One Muon step on every matrix, in place.
///
/// The update of each part is made orthogonal, as closely as the iterations bring it, in bf16, and scaled
/// by `√max(1, rows / columns)` of the part. Parts of equal shape go through the products together.
/// `scale`, `schedule` and `sums` are as for [`adamw`](crate::adamw).
///
/// # Errors
///
/// When sizes or types do not fit, rows do not split into the parts, a matrix is empty, or there are
/// no iterations.
pub fn muon(
    machine: &Machine,
    tables: &mut StepTables,
    tensors: &mut [MuonTensor<'_>],
    scale: &View<'_>,
    schedule: Option<&Schedule<'_>>,
    mut sums: Option<&mut ViewMut<'_>>,
) -> Result<()> {
    check_common(NAME, tensors.len(), scale, sums.as_deref())?;
    for (idx, group) in groups(tensors, schedule.is_some())?.iter().enumerate() {
        group.step(machine, (&mut *tables, idx), scale, schedule, sums.as_deref_mut())?;
    }
    Ok(())
}

/// Matrices of one shape that are made orthogonal together.
struct Group<'a> {
    batch: Batch,
    iterations: &'a [[f64; 3]],
    description: Description,
}

impl Group<'_> {
    fn step(
        &self,
        machine: &Machine,
        (tables, idx): (&mut StepTables, usize),
        scale: &View<'_>,
        schedule: Option<&Schedule<'_>>,
        sums: Option<&mut ViewMut<'_>>,
    ) -> Result<()> {
        let schedule = schedule.map(|one| (one, false));
        let table = tables.write(machine, idx, &self.description, schedule)?;
        let shares = table.shares(machine, sums.is_some())?;
        let shares_view = shares.as_ref().map(Buffer::view);
        let mut x = machine.scratch(Type::Bf16, self.batch.len())?;
        let mut norms = machine.scratch(Type::F32, table.n_blocks)?;
        // SAFETY: the table's addresses are those of views that were checked to be as long as it
        // says, and that the caller lends for this call; offsets into `x` are those of its matrices;
        // there is a norm and a share for each block.
        #[expect(unsafe_code, reason = "launches")]
        unsafe {
            let args = args![
                &table.entries,
                &table.first_blocks,
                table.n_entries,
                &table.settings(),
                scale,
                &x.view_mut(),
                &norms.view_mut(),
                shares_view.as_ref(),
            ];
            machine.launch(&table.launch("muon_momentum"), args)?;
            let args = args![
                &table.entries,
                &table.first_blocks,
                table.n_entries,
                &norms.view(),
                &x.view_mut(),
            ];
            machine.launch(&table.launch("muon_normalize"), args)?;
        }
        let x = orthogonalize(machine, x, self.batch, self.iterations)?;
        // SAFETY: as above.
        #[expect(unsafe_code, reason = "a launch")]
        unsafe {
            let args = args![
                &table.entries,
                &table.first_blocks,
                table.n_entries,
                &table.settings(),
                &x.view(),
                shares_view.as_ref(),
            ];
            machine.launch(&table.launch("muon_update"), args)?;
        }
        table.sum(machine, shares.as_ref(), sums)
    }
}

/// Sorts the parts of all matrices by their shape and method, in order of appearance.
fn groups<'a>(tensors: &[MuonTensor<'a>], is_scheduled: bool) -> Result<Vec<Group<'a>>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for (row, tensor) in tensors.iter().enumerate() {
        let rows = check(tensor, row)?;
        let (columns, MuonSettings { parts, iterations, .. }) = (tensor.columns, tensor.settings);
        let is_like = |group: &Group<'_>| {
            (group.batch.rows, group.batch.columns, group.iterations) == (rows, columns, iterations)
        };
        let idx = groups.iter().position(is_like).unwrap_or_else(|| {
            let batch = Batch { count: 0, rows, columns };
            groups.push(Group { batch, iterations, description: Description::default() });
            groups.len() - 1
        });
        let group = &mut groups[idx];
        let size = rows * columns;
        let settings = tensor.settings.words(rows, columns, is_scheduled);
        for part in 0..parts {
            let values = part * size..(part + 1) * size;
            let entry = Entry {
                parameter: tensor.parameter.as_view().part(values.clone()),
                gradient: tensor.gradient.part(values.clone()),
                first: tensor.momentum.as_view().part(values.clone()),
                second: None,
                shadow: tensor.shadow.as_ref().map(|shadow| shadow.as_view().part(values)),
                offset: group.batch.len(),
            };
            group.description.push(&entry, settings);
            group.batch.count += 1;
        }
        group.description.end_tensor(parts, row);
    }
    Ok(groups)
}

/// Rows of each part of a matrix.
fn check(tensor: &MuonTensor<'_>, row: usize) -> Result<usize> {
    let MuonTensor { rows, columns, settings, .. } = *tensor;
    let MuonSettings { parts, iterations, .. } = settings;
    let refused = |reason: String| Err(Error::shape(NAME, format!("tensor {row}: {reason}")));
    if parts == 0 || !rows.is_multiple_of(parts) {
        return refused(format!("{rows} rows do not split into {parts} parts"));
    }
    if rows == 0 || columns == 0 {
        return refused(format!("a matrix of {rows} x {columns} is empty"));
    }
    if iterations.is_empty() {
        return refused("nothing becomes orthogonal in 0 iterations".to_owned());
    }
    let name = format!("tensor {row}");
    tensor.parameter.expect(NAME, &format!("parameter of {name}"), Type::F32, rows * columns)?;
    let whole = Entry {
        parameter: tensor.parameter.as_view(),
        gradient: tensor.gradient,
        first: tensor.momentum.as_view(),
        second: None,
        shadow: tensor.shadow.as_ref().map(ViewMut::as_view),
        offset: 0,
    };
    whole.check(NAME, &name)?;
    Ok(rows / parts)
}

impl MuonSettings<'_> {
    /// As `muon::Muon` in `cuda/muon.cuh`, for parts of a shape.
    fn words(&self, rows: usize, columns: usize, is_scheduled: bool) -> [u32; 8] {
        let Self { learning_rate, momentum, nesterov, weight_decay, .. } = *self;
        let stretch = (rows as f64 / columns as f64).max(1.0).sqrt();
        let keep = kept_share(learning_rate * weight_decay, is_scheduled);
        let (old, new) = if nesterov { (momentum, 1.0 - momentum) } else { (1.0, 0.0) };
        [learning_rate * stretch, keep, momentum, old, new, 0.0, 0.0, 0.0].map(bits)
    }
}
