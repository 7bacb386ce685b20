//! Table look-up whose backward pass adds gradients into the rows that were read.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use crate::profile::Profiled;
use crate::storage::{read, tensor, values, zeros};
use crate::vector::{add, vectorized};

const NAME: &str = "embedding";

/// The rows of `table` that `ids` name.
///
/// # Shapes
///
/// `table` is `[V, C]`, `ids` is `[…]` of type `u32`; the result is `[…, C]`.
///
/// # Errors
///
/// When an id is `V` or more, or a tensor has another type or is not on the CPU.
pub fn embedding(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    table.dims2()?;
    table.contiguous()?.apply_op2(&ids.contiguous()?, Profiled(Embedding))
}

struct Embedding;

impl CustomOp2 for Embedding {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        table: &CpuStorage,
        tl: &Layout,
        ids: &CpuStorage,
        il: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (table, ids) = (values::<f32>(NAME, table, tl)?, values::<u32>(NAME, ids, il)?);
        let (rows, channels) = tl.shape().dims2()?;
        let mut y = Vec::with_capacity(ids.len() * channels);
        for &id in ids {
            let start = id as usize * channels;
            let Some(row) = table.get(start..start + channels) else {
                bail!("{NAME}: id {id} is not below the number of rows {rows}");
            };
            y.extend_from_slice(row);
        }
        let mut shape = il.dims().to_vec();
        shape.push(channels);
        Ok((CpuStorage::F32(y), shape.into()))
    }

    fn bwd(
        &self,
        table: &Tensor,
        ids: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (_, channels) = table.dims2()?;
        let ids = ids.flatten_all()?.to_vec1::<u32>()?;
        let dy = dy.contiguous()?;
        let dy = read(NAME, &dy)?;
        let dy = &*dy;
        let mut dtable = zeros(table.elem_count());
        vectorized(
            #[inline(always)]
            || {
                for (&id, row) in ids.iter().zip(dy.chunks_exact(channels)) {
                    let start = id as usize * channels;
                    add(&mut dtable[start..start + channels], row);
                }
            },
        );
        Ok((Some(tensor(dtable, table.shape())?), None))
    }
}
